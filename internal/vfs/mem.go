package vfs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Mem is a file system in memory that knows what a power cut would leave of
// it: of a file what was last synced, and of a directory the entries that were
// there when it was last synced. It has no symbolic links. Relative names
// start at the root.
type Mem struct {
	mu    sync.Mutex
	root  *node
	locks map[string]bool
	clock int64 // of modification times: one tick for each change
}

type node struct {
	dir  bool
	time int64

	data, durable  []byte           // of a file
	kids, lastKids map[string]*node // of a directory: now, and when it was last synced
}

// NewMem returns an empty file system. Its root is durable.
func NewMem() *Mem {
	return &Mem{root: newDir(), locks: make(map[string]bool)}
}

func newDir() *node {
	return &node{dir: true, kids: make(map[string]*node), lastKids: make(map[string]*node)}
}

// CrashClone returns what a power cut now would leave where the system had
// written nothing to disk but what it was told to. The original stays as it
// is; no lock is held in the clone.
func (m *Mem) CrashClone() *Mem { return m.clone(func() bool { return false }) }

// CrashCloneRandom is CrashClone where the system had, by chance, already
// written some of what it was not told to: each file and each directory is as
// it was last synced or as it is now.
func (m *Mem) CrashCloneRandom(seed uint64) *Mem {
	rng := rand.New(rand.NewPCG(seed, 0))
	return m.clone(func() bool { return rng.IntN(2) == 1 })
}

func (m *Mem) clone(survives func() bool) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := NewMem()
	c.clock = m.clock
	done := make(map[*node]*node)
	c.root = m.root.clone(survives, done)
	return c
}

func (n *node) clone(survives func() bool, done map[*node]*node) *node {
	if c, ok := done[n]; ok {
		return c
	}
	c := &node{dir: n.dir, time: n.time}
	done[n] = c
	if !n.dir {
		c.durable = n.durable
		if survives() {
			c.durable = bytes.Clone(n.data)
		}
		c.data = bytes.Clone(c.durable)
		return c
	}
	kids := n.lastKids
	if survives() {
		kids = n.kids
	}
	c.kids, c.lastKids = make(map[string]*node), make(map[string]*node)
	names := make([]string, 0, len(kids))
	for name := range kids {
		names = append(names, name)
	}
	slices.Sort(names) // so that a seed gives one result
	for _, name := range names {
		k := kids[name].clone(survives, done)
		c.kids[name], c.lastKids[name] = k, k
	}
	return c
}

func parts(name string) []string {
	name = filepath.ToSlash(filepath.Clean(name))
	name = strings.Trim(strings.TrimPrefix(name, filepath.ToSlash(filepath.VolumeName(name))), "/")
	if name == "" || name == "." {
		return nil
	}
	return strings.Split(name, "/")
}

// find returns the node called name.
func (m *Mem) find(op, name string) (*node, error) {
	n := m.root
	for _, p := range parts(name) {
		if !n.dir {
			return nil, &fs.PathError{Op: op, Path: name, Err: errNotDir}
		}
		k, ok := n.kids[p]
		if !ok {
			return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
		}
		n = k
	}
	return n, nil
}

// parent returns the directory that holds name and name's last part.
func (m *Mem) parent(op, name string) (*node, string, error) {
	ps := parts(name)
	if len(ps) == 0 {
		return nil, "", &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	dir, err := m.find(op, strings.Join(ps[:len(ps)-1], "/"))
	if err == nil && !dir.dir {
		err = errNotDir
	}
	if err != nil {
		return nil, "", &fs.PathError{Op: op, Path: name, Err: cause(err)}
	}
	return dir, ps[len(ps)-1], nil
}

// cause unwraps a path error, to be wrapped anew with another path.
func cause(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

var (
	errNotDir   = errors.New("not a directory")
	errIsDir    = errors.New("is a directory")
	errNotEmpty = errors.New("directory not empty")
)

func (m *Mem) tick() int64 {
	m.clock++
	return m.clock
}

// Open implements FS.
func (m *Mem) Open(name string) (File, error) { return m.open("open", name, false, false) }

// Create implements FS.
func (m *Mem) Create(name string) (File, error) { return m.open("create", name, true, true) }

// OpenWrite implements FS.
func (m *Mem) OpenWrite(name string) (File, error) { return m.open("open", name, true, false) }

func (m *Mem) open(op, name string, write, truncate bool) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, base, err := m.parent(op, name)
	if err != nil {
		return nil, err
	}
	n, ok := dir.kids[base]
	switch {
	case !ok && !write:
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	case !ok:
		n = &node{time: m.tick()}
		dir.kids[base] = n
	case n.dir:
		return nil, &fs.PathError{Op: op, Path: name, Err: errIsDir}
	case truncate:
		n.data, n.time = nil, m.tick()
	}
	return &memFile{m: m, n: n, name: name, write: write}, nil
}

// Mkdir implements FS.
func (m *Mem) Mkdir(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mkdir(name)
}

func (m *Mem) mkdir(name string) error {
	dir, base, err := m.parent("mkdir", name)
	if err != nil {
		return err
	}
	if _, ok := dir.kids[base]; ok {
		return &fs.PathError{Op: "mkdir", Path: name, Err: fs.ErrExist}
	}
	n := newDir()
	n.time = m.tick()
	dir.kids[base] = n
	return nil
}

// MkdirAll implements FS.
func (m *Mem) MkdirAll(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	ps := parts(name)
	for i := range ps {
		p := strings.Join(ps[:i+1], "/")
		n, err := m.find("mkdir", p)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			err = m.mkdir(p)
		case err == nil && !n.dir:
			err = &fs.PathError{Op: "mkdir", Path: name, Err: errNotDir}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// ReadDir implements FS.
func (m *Mem) ReadDir(name string) ([]fs.DirEntry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find("open", name)
	if err != nil {
		return nil, err
	}
	if !n.dir {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: errNotDir}
	}
	entries := make([]fs.DirEntry, 0, len(n.kids))
	for k, v := range n.kids {
		entries = append(entries, fs.FileInfoToDirEntry(v.info(k)))
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

// Stat implements FS.
func (m *Mem) Stat(name string) (fs.FileInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find("stat", name)
	if err != nil {
		return nil, err
	}
	return n.info(filepath.Base(filepath.Clean(name))), nil
}

// Lstat implements FS.
func (m *Mem) Lstat(name string) (fs.FileInfo, error) { return m.Stat(name) }

// EvalSymlinks implements FS.
func (m *Mem) EvalSymlinks(name string) (string, error) {
	_, err := m.Stat(name)
	return filepath.Clean(name), err
}

// Rename implements FS.
func (m *Mem) Rename(from, to string) error { return m.rename(from, to, true) }

// RenameNew implements FS.
func (m *Mem) RenameNew(from, to string) error { return m.rename(from, to, false) }

func (m *Mem) rename(from, to string, replace bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	fromDir, fromBase, err := m.parent("rename", from)
	if err != nil {
		return err
	}
	toDir, toBase, err := m.parent("rename", to)
	if err != nil {
		return err
	}
	n, ok := fromDir.kids[fromBase]
	if !ok {
		return &fs.PathError{Op: "rename", Path: from, Err: fs.ErrNotExist}
	}
	if old, ok := toDir.kids[toBase]; ok && old != n {
		switch {
		case !replace:
			err = fs.ErrExist
		case old.dir && !n.dir:
			err = errIsDir
		case !old.dir && n.dir:
			err = errNotDir
		case len(old.kids) > 0:
			err = errNotEmpty
		}
	} else if ok && !replace {
		err = fs.ErrExist
	}
	if fp, tp := parts(from), parts(to); len(tp) > len(fp) && slices.Equal(fp, tp[:len(fp)]) {
		err = fs.ErrInvalid // into itself
	}
	if err != nil {
		return &fs.PathError{Op: "rename", Path: to, Err: err}
	}
	delete(fromDir.kids, fromBase)
	toDir.kids[toBase] = n
	return nil
}

// Remove implements FS.
func (m *Mem) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, base, err := m.parent("remove", name)
	if err != nil {
		return err
	}
	n, ok := dir.kids[base]
	switch {
	case !ok:
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	case len(n.kids) > 0:
		return &fs.PathError{Op: "remove", Path: name, Err: errNotEmpty}
	}
	delete(dir.kids, base)
	return nil
}

// RemoveAll implements FS.
func (m *Mem) RemoveAll(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, base, err := m.parent("remove", name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	delete(dir.kids, base)
	return nil
}

// SyncDir implements FS.
func (m *Mem) SyncDir(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find("sync", name)
	if err != nil {
		return err
	}
	if !n.dir {
		return &fs.PathError{Op: "sync", Path: name, Err: errNotDir}
	}
	clear(n.lastKids)
	for k, v := range n.kids {
		n.lastKids[k] = v
	}
	return nil
}

// Lock implements FS.
func (m *Mem) Lock(name string) (io.Closer, error) {
	f, err := m.OpenWrite(name)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	key := strings.Join(parts(name), "/")
	if m.locks[key] {
		return nil, &fs.PathError{Op: "lock", Path: name, Err: ErrLocked}
	}
	m.locks[key] = true
	return &memLock{m: m, key: key}, nil
}

type memLock struct {
	m   *Mem
	key string
}

func (l *memLock) Close() error {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	if l.key != "" {
		delete(l.m.locks, l.key)
		l.key = ""
	}
	return nil
}

func (n *node) info(name string) fs.FileInfo {
	return memInfo{name, int64(len(n.data)), n.dir, time.Unix(0, n.time)}
}

type memInfo struct {
	name string
	size int64
	dir  bool
	time time.Time
}

func (i memInfo) Name() string       { return i.name }
func (i memInfo) Size() int64        { return i.size }
func (i memInfo) ModTime() time.Time { return i.time }
func (i memInfo) IsDir() bool        { return i.dir }
func (i memInfo) Sys() any           { return nil }

func (i memInfo) Mode() fs.FileMode {
	if i.dir {
		return fs.ModeDir | 0o777
	}
	return 0o666
}
