package safetensors

import (
	"fmt"

	"smelt/internal/vfs"
	"smelt/tensor"
)

// File is an open file. Its methods may be called concurrently, but for Close.
type File struct {
	path   string
	m      *vfs.Mapping
	start  int64 // of the data
	head   *header
	byName map[string]int
}

// Open maps a file and checks all of its header. The error names the file, the
// tensor and what is wrong with it.
func Open(fsys vfs.FS, path string) (*File, error) {
	f, err := open(fsys, path)
	if err != nil {
		return nil, fmt.Errorf("safetensors: %s: %w", path, err)
	}
	return f, nil
}

func open(fsys vfs.FS, path string) (_ *File, err error) {
	file, err := fsys.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close() // the mapping outlives it
	m, err := file.Map()
	if err != nil {
		return nil, err
	}
	f := &File{path: path, m: m}
	// A fault here means that the file shrank since it was mapped.
	if err := vfs.Guard(f.parse); err != nil {
		_ = m.Close()
		return nil, err
	}
	return f, nil
}

func (f *File) parse() error {
	data := f.m.Bytes()
	size := int64(len(data))
	if size < 8 {
		return fmt.Errorf("%d bytes are too few for a safetensors file", size)
	}
	n, err := headerLength(data, size)
	if err != nil {
		return err
	}
	f.start = 8 + n
	if f.head, err = parseHeader(data[8:f.start], size-f.start); err != nil {
		return err
	}
	f.byName = make(map[string]int, len(f.head.infos))
	for i := range f.head.infos {
		f.byName[f.head.infos[i].Name] = i
	}
	return nil
}

// Path returns the path that the file was opened by.
func (f *File) Path() string { return f.path }

// Tensors returns what the file holds, in the order of the data. The caller
// must not change it.
func (f *File) Tensors() []Info { return f.head.infos }

// Lookup returns the entry of one tensor.
func (f *File) Lookup(name string) (Info, bool) {
	i, ok := f.byName[name]
	if !ok {
		return Info{}, false
	}
	return f.head.infos[i], true
}

// Tensor returns one tensor. Its data is the mapped file itself: read only, and
// valid until Close. See vfs.Guard for files that shrink while they are read.
func (f *File) Tensor(name string) (tensor.Tensor, error) {
	t, ok := f.Lookup(name)
	if !ok {
		return tensor.Tensor{}, fmt.Errorf("safetensors: %s: no tensor %q", f.path, name)
	}
	data := f.m.Bytes()[f.start+t.Begin : f.start+t.End : f.start+t.End]
	return tensor.Tensor{DType: t.DType, Shape: t.Shape, Data: data}, nil
}

// Metadata returns the strings that the header carries beside the tensors, nil
// where there are none. The caller must not change it.
func (f *File) Metadata() map[string]string { return f.head.metadata }

// Header returns the bytes of the header, the eight of its length included:
// they name all tensors, types, shapes and offsets. They are valid until Close.
func (f *File) Header() []byte { return f.m.Bytes()[:f.start:f.start] }

// Size returns the size of the file in bytes.
func (f *File) Size() int64 { return int64(len(f.m.Bytes())) }

// Prefetch asks the system to read a tensor ahead; Release lets its pages go.
// Unknown names are ignored.
func (f *File) Prefetch(name string) {
	if t, ok := f.Lookup(name); ok {
		f.m.Prefetch(f.start+t.Begin, t.Bytes())
	}
}

// Release is described with Prefetch.
func (f *File) Release(name string) {
	if t, ok := f.Lookup(name); ok {
		f.m.Release(f.start+t.Begin, t.Bytes())
	}
}

// Load reads a tensor into memory, all of it, and reports whether most of it
// was not there before; Drop lets its pages go and the system's copy of them.
// Both are advice, and unknown names are ignored.
func (f *File) Load(name string) (cold bool) {
	t, ok := f.Lookup(name)
	return ok && f.m.Load(f.start+t.Begin, t.Bytes())
}

// Drop is described with Load.
func (f *File) Drop(name string) {
	if t, ok := f.Lookup(name); ok {
		f.m.Drop(f.start+t.Begin, t.Bytes())
	}
}

// Close unmaps the file. Tensors handed out before must not be read again.
func (f *File) Close() error { return f.m.Close() }
