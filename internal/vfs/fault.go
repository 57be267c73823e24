package vfs

import (
	"errors"
	"io"
	"io/fs"
	"sync"
)

// ErrCrash is returned by a hook: it stops a Fault file system at that operation
// and for good: every later one fails with it, as for a process that was
// killed.
var ErrCrash = errors.New("crashed")

// Op names an operation of FS or File.
type Op string

// The operations that a hook is asked about.
const (
	OpOpen         Op = "open"
	OpCreate       Op = "create"
	OpOpenWrite    Op = "openwrite"
	OpMkdir        Op = "mkdir"
	OpReadDir      Op = "readdir"
	OpStat         Op = "stat"
	OpEvalSymlinks Op = "evalsymlinks"
	OpRename       Op = "rename"
	OpRemove       Op = "remove"
	OpSyncDir      Op = "syncdir"
	OpLock         Op = "lock"
	OpRead         Op = "read"
	OpMap          Op = "map"
	OpWrite        Op = "write"
	OpTruncate     Op = "truncate"
	OpSync         Op = "sync"
)

// Changes reports whether the operation changes the file system or makes a
// change durable.
func (o Op) Changes() bool {
	switch o {
	case OpOpen, OpReadDir, OpStat, OpEvalSymlinks, OpRead, OpMap:
		return false
	}
	return true
}

// Event is one operation that is about to happen.
type Event struct {
	Seq  int // from 0, in the order in which operations are begun
	Op   Op
	Path string
	To   string // of a rename
}

// Hook is asked before each operation and returns nil to let it happen, an
// error to make it fail, or ErrCrash. Calls do not overlap. A write that is
// made to fail has written half of its bytes.
type Hook func(Event) error

// Fault returns a file system that does what inner does, except where hook
// says otherwise. Closing a file or a lock is never asked about and always
// happens. Reading mapped memory is no operation.
func Fault(inner FS, hook Hook) FS { return &fault{inner: inner, hook: hook} }

type fault struct {
	inner FS
	hook  Hook

	mu      sync.Mutex
	seq     int
	crashed bool
}

func (f *fault) ask(op Op, path, to string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.crashed {
		return &fs.PathError{Op: string(op), Path: path, Err: ErrCrash}
	}
	err := f.hook(Event{f.seq, op, path, to})
	f.seq++
	if err == nil {
		return nil
	}
	f.crashed = errors.Is(err, ErrCrash)
	return &fs.PathError{Op: string(op), Path: path, Err: err}
}

// did asks and then acts.
func did[T any](f *fault, op Op, path string, act func(string) (T, error)) (T, error) {
	if err := f.ask(op, path, ""); err != nil {
		var zero T
		return zero, err
	}
	return act(path)
}

func (f *fault) do(op Op, path string, act func(string) error) error {
	if err := f.ask(op, path, ""); err != nil {
		return err
	}
	return act(path)
}

func (f *fault) file(op Op, name string, open func(string) (File, error)) (File, error) {
	inner, err := did(f, op, name, open)
	if err != nil {
		return nil, err
	}
	return &faultFile{inner, f, name}, nil
}

func (f *fault) Open(name string) (File, error)   { return f.file(OpOpen, name, f.inner.Open) }
func (f *fault) Create(name string) (File, error) { return f.file(OpCreate, name, f.inner.Create) }
func (f *fault) OpenWrite(name string) (File, error) {
	return f.file(OpOpenWrite, name, f.inner.OpenWrite)
}

func (f *fault) Mkdir(name string) error     { return f.do(OpMkdir, name, f.inner.Mkdir) }
func (f *fault) MkdirAll(name string) error  { return f.do(OpMkdir, name, f.inner.MkdirAll) }
func (f *fault) Remove(name string) error    { return f.do(OpRemove, name, f.inner.Remove) }
func (f *fault) RemoveAll(name string) error { return f.do(OpRemove, name, f.inner.RemoveAll) }
func (f *fault) SyncDir(name string) error   { return f.do(OpSyncDir, name, f.inner.SyncDir) }

func (f *fault) ReadDir(name string) ([]fs.DirEntry, error) {
	return did(f, OpReadDir, name, f.inner.ReadDir)
}

func (f *fault) Stat(name string) (fs.FileInfo, error) { return did(f, OpStat, name, f.inner.Stat) }

func (f *fault) Lstat(name string) (fs.FileInfo, error) { return did(f, OpStat, name, f.inner.Lstat) }

func (f *fault) EvalSymlinks(name string) (string, error) {
	return did(f, OpEvalSymlinks, name, f.inner.EvalSymlinks)
}

func (f *fault) Lock(name string) (io.Closer, error) { return did(f, OpLock, name, f.inner.Lock) }

func (f *fault) Rename(from, to string) error {
	if err := f.ask(OpRename, from, to); err != nil {
		return err
	}
	return f.inner.Rename(from, to)
}

func (f *fault) RenameNew(from, to string) error {
	if err := f.ask(OpRename, from, to); err != nil {
		return err
	}
	return f.inner.RenameNew(from, to)
}

type faultFile struct {
	File
	f    *fault
	name string
}

func (f *faultFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.f.ask(OpRead, f.name, ""); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

func (f *faultFile) Map() (*Mapping, error) {
	if err := f.f.ask(OpMap, f.name, ""); err != nil {
		return nil, err
	}
	return f.File.Map()
}

func (f *faultFile) Write(p []byte) (int, error) {
	dead := f.f.dead()
	if err := f.f.ask(OpWrite, f.name, ""); err != nil {
		if dead {
			return 0, err
		}
		n, werr := f.File.Write(p[:len(p)/2])
		return n, errors.Join(err, werr)
	}
	return f.File.Write(p)
}

func (f *faultFile) WriteAt(p []byte, off int64) (int, error) {
	dead := f.f.dead()
	if err := f.f.ask(OpWrite, f.name, ""); err != nil {
		if dead {
			return 0, err
		}
		n, werr := f.File.WriteAt(p[:len(p)/2], off)
		return n, errors.Join(err, werr)
	}
	return f.File.WriteAt(p, off)
}

func (f *faultFile) Truncate(size int64) error {
	if err := f.f.ask(OpTruncate, f.name, ""); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

func (f *faultFile) Sync() error {
	if err := f.f.ask(OpSync, f.name, ""); err != nil {
		return err
	}
	return f.File.Sync()
}

// dead reports whether a crash has happened already.
func (f *fault) dead() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.crashed
}
