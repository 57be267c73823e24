// Package vfs is the file system that the rest of smelt works through. It is
// small on purpose, so that the three implementations stay honest: OS, the
// real one; Mem, which lives in memory and can be cloned as a power cut would
// leave it; and Fault, which wraps another and fails or crashes at any chosen
// operation.
//
// Names are those of the operating system (path/filepath). Errors are those of
// package os and satisfy errors.Is with fs.ErrNotExist and its fellows.
package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
)

// FS is a file system. Its methods may be called concurrently.
type FS interface {
	// Open opens a file for reading.
	Open(name string) (File, error)
	// Create opens a file for reading and writing, empty; an existing one is
	// truncated.
	Create(name string) (File, error)
	// OpenWrite opens a file for reading and writing, created empty where it
	// does not exist and otherwise as it is. Write starts at offset 0.
	OpenWrite(name string) (File, error)
	// Mkdir makes one directory; it fails where name exists.
	Mkdir(name string) error
	// MkdirAll makes a directory and the parents that it lacks.
	MkdirAll(name string) error
	// ReadDir lists a directory, sorted by name.
	ReadDir(name string) ([]fs.DirEntry, error)
	// Stat describes what name leads to, Lstat name itself.
	Stat(name string) (fs.FileInfo, error)
	Lstat(name string) (fs.FileInfo, error)
	// EvalSymlinks returns the path of what name leads to, free of links.
	EvalSymlinks(name string) (string, error)
	// Rename moves a file or directory; a file that exists is replaced.
	Rename(from, to string) error
	// RenameNew is Rename that fails with fs.ErrExist where to exists.
	RenameNew(from, to string) error
	// Remove removes a file or an empty directory, RemoveAll everything below
	// name; a name that does not exist is no error for RemoveAll.
	Remove(name string) error
	RemoveAll(name string) error
	// SyncDir makes the entries of a directory durable.
	SyncDir(name string) error
	// Lock takes an exclusive advisory lock on the file called name, which it
	// creates, and returns ErrLocked at once where another holds it. Closing
	// releases the lock and leaves the file. The lock ends with the process.
	Lock(name string) (io.Closer, error)
}

// File is an open file. ReadAt, WriteAt and Size may be called concurrently.
type File interface {
	io.ReaderAt
	io.Writer
	io.WriterAt
	io.Closer
	Size() (int64, error)
	Truncate(size int64) error
	// Sync makes the content durable, not the directory entry: see SyncDir.
	Sync() error
	// Map returns the whole file as memory, read only. It stays valid after
	// Close of the file and ends with Close of the mapping.
	Map() (*Mapping, error)
}

// ErrLocked is returned by Lock where somebody else holds the lock.
var ErrLocked = errors.New("locked by another process")

// Mapping is the content of a file as read-only memory. Reading it where the
// file has meanwhile been truncated faults: run the reader under Guard.
type Mapping struct {
	data   []byte
	advise func(b []byte, a advice)
	cached func(b []byte) float64 // the share of it that is in memory
	unmap  func([]byte) error
}

type advice int

const (
	willNeed advice = iota
	dontNeed
	load
	drop
)

// Bytes returns the content. Writing to it is an error that may fault.
func (m *Mapping) Bytes() []byte { return m.data }

// Prefetch asks the operating system to read [off, off+n) ahead; Release lets
// go of the resident pages that lie wholly inside it, which are read again
// from the file when next touched. Both are advice: ranges outside the file
// are cut, and where the system has no such call nothing happens.
func (m *Mapping) Prefetch(off, n int64) { m.hint(off, n, willNeed) }

// Release is described with Prefetch.
func (m *Mapping) Release(off, n int64) { m.hint(off, n, dontNeed) }

// Load reads [off, off+n) and maps it where it is not in memory, so that nobody
// who touches it waits, and reports whether that was most of it. Drop undoes
// that: it lets go of the pages and of the system's copy of them, which leaves
// memory to what is read next. Both are advice.
func (m *Mapping) Load(off, n int64) (cold bool) {
	var share float64
	if m.cached != nil && off >= 0 && n > 0 && n <= int64(len(m.data))-off {
		lo := off &^ (pageSize - 1)
		if share = m.cached(m.data[lo : off+n]); share == 1 {
			return false // faults map it for less
		}
	}
	m.hint(off, n, willNeed) // all of it is asked for at once
	m.hint(off, n, load)
	return m.cached != nil && share < 0.5
}

// Drop is described with Load.
func (m *Mapping) Drop(off, n int64) { m.hint(off, n, drop) }

func (m *Mapping) hint(off, n int64, a advice) {
	size := int64(len(m.data))
	if m.advise == nil || off < 0 || n <= 0 || off >= size {
		return
	}
	end := size
	if n < size-off {
		end = off + n
	}
	if a == willNeed || a == load {
		off &^= pageSize - 1
	} else {
		off = (off + pageSize - 1) &^ (pageSize - 1)
		if end != size {
			end &^= pageSize - 1
		}
	}
	if off < end {
		m.advise(m.data[off:end], a)
	}
}

// Close ends the mapping: Bytes handed out before must not be touched again.
func (m *Mapping) Close() error {
	data, unmap := m.data, m.unmap
	m.data, m.unmap, m.advise, m.cached = nil, nil, nil, nil
	if unmap == nil {
		return nil
	}
	return unmap(data)
}

// ReadFile returns the content of a file of at most limit bytes. A larger one
// is an error, found before anything is allocated.
func ReadFile(fsys FS, name string, limit int64) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > limit {
		return nil, fmt.Errorf("%s: %d bytes, want at most %d", name, size, limit)
	}
	data := make([]byte, size)
	n, err := f.ReadAt(data, 0)
	if err != nil && !(errors.Is(err, io.EOF) && int64(n) == size) {
		return nil, &fs.PathError{Op: "read", Path: name, Err: noEOF(err)}
	}
	return data, nil
}

// WriteFile creates or replaces a file and syncs it. It is not atomic.
func WriteFile(fsys FS, name string, data []byte) (err error) {
	f, err := fsys.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Sync()
}

// Commit makes the directory tmp durable and renames it to final, which must
// not exist: after a crash at any point final is absent or whole. Both must
// lie in one file system. Files directly in tmp and in directories below it
// are synced, then the directories, then the name.
func Commit(fsys FS, tmp, final string) error {
	if err := absent(fsys, final); err != nil {
		return err
	}
	if err := syncTree(fsys, tmp); err != nil {
		return fmt.Errorf("commit %s: %w", final, err)
	}
	if err := fsys.RenameNew(tmp, final); err != nil {
		return fmt.Errorf("commit %s: %w", final, err)
	}
	if err := fsys.SyncDir(filepath.Dir(final)); err != nil {
		return fmt.Errorf("commit %s: %w", final, err)
	}
	return nil
}

// absent fails with fs.ErrExist where name exists.
func absent(fsys FS, name string) error {
	switch _, err := fsys.Lstat(name); {
	case err == nil:
		return &fs.PathError{Op: "commit", Path: name, Err: fs.ErrExist}
	case errors.Is(err, fs.ErrNotExist):
		return nil
	default:
		return err
	}
}

// syncTree syncs every file below dir, then every directory, the deepest
// first.
func syncTree(fsys FS, dir string) error {
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		switch {
		case e.IsDir():
			err = syncTree(fsys, name)
		case e.Type().IsRegular():
			err = syncFile(fsys, name)
		default:
			err = nil
		}
		if err != nil {
			return err
		}
	}
	return fsys.SyncDir(dir)
}

func syncFile(fsys FS, name string) error {
	f, err := fsys.OpenWrite(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
