package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
)

// OS is the file system of the operating system.
var OS FS = osFS{}

var pageSize = int64(os.Getpagesize())

type osFS struct{}

func (osFS) Open(name string) (File, error) { return newOSFile(os.Open(name)) }

func (osFS) Create(name string) (File, error) { return newOSFile(os.Create(name)) }

func (osFS) OpenWrite(name string) (File, error) {
	return newOSFile(os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o666))
}

func (osFS) Mkdir(name string) error                    { return os.Mkdir(name, 0o777) }
func (osFS) MkdirAll(name string) error                 { return os.MkdirAll(name, 0o777) }
func (osFS) ReadDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(name) }
func (osFS) Stat(name string) (fs.FileInfo, error)      { return os.Stat(name) }
func (osFS) Lstat(name string) (fs.FileInfo, error)     { return os.Lstat(name) }
func (osFS) EvalSymlinks(name string) (string, error)   { return filepath.EvalSymlinks(name) }
func (osFS) Rename(from, to string) error               { return os.Rename(from, to) }
func (osFS) RenameNew(from, to string) error            { return renameNew(from, to) }
func (osFS) Remove(name string) error                   { return os.Remove(name) }
func (osFS) RemoveAll(name string) error                { return os.RemoveAll(name) }
func (osFS) SyncDir(name string) error                  { return syncDir(name) }

func (osFS) Lock(name string) (io.Closer, error) {
	l := flock.New(name)
	ok, err := l.TryLock()
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, &fs.PathError{Op: "lock", Path: name, Err: ErrLocked}
	}
	return l, nil
}

type osFile struct{ *os.File }

func newOSFile(f *os.File, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() {
		return 0, &fs.PathError{Op: "open", Path: f.Name(), Err: errors.New("not a regular file")}
	}
	return info.Size(), nil
}

// longWrite is from how many bytes the disk is kept busy while more is computed.
const longWrite = 1 << 20

// WriteAt writes p; what is long begins its way to the disk at once, so that
// Sync finds little left.
func (f osFile) WriteAt(p []byte, off int64) (n int, err error) {
	n, err = f.File.WriteAt(p, off)
	if n >= longWrite {
		writeBehind(f.File, off, n)
	}
	return n, err
}

func (f osFile) Map() (*Mapping, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if int64(int(size)) != size {
		return nil, &fs.PathError{Op: "map", Path: f.Name(), Err: fmt.Errorf("%d bytes exceed the address space", size)}
	}
	if size == 0 {
		return &Mapping{}, nil
	}
	m, err := mapFile(f.File, int(size))
	if err != nil {
		return nil, &fs.PathError{Op: "map", Path: f.Name(), Err: err}
	}
	return m, nil
}

// renameIfAbsent is RenameNew where the system has no such call: another
// process may create the target between the two steps.
func renameIfAbsent(from, to string) error {
	if _, err := os.Lstat(to); err == nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: fs.ErrExist}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Rename(from, to)
}
