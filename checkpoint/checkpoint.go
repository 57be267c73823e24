// Package checkpoint reads models as Hugging Face stores them: a directory
// with config.json and safetensors shards, or a PEFT adapter. It finds the
// tensors, reads them lazily from mapped files, knows which names stand for
// the same weights, and tells linear weights from the rest by name and shape.
//
// What is read and what is refused is written down in docs/format/checkpoint.md.
package checkpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"smelt/internal/vfs"
	"smelt/safetensors"
	"smelt/tensor"
)

// Limits on files that are read whole.
const (
	maxConfig = 16 << 20 // bytes
	maxIndex  = 256 << 20
	maxShards = 4096
)

// Info describes one tensor of a checkpoint.
type Info struct {
	safetensors.Info
	File int // index into Files
}

// Checkpoint is an open model directory. Its methods may be called
// concurrently, but for Close.
type Checkpoint struct {
	Dir    string
	Config Config

	fs      vfs.FS
	names   []string // of the shards, relative to Dir
	files   []*safetensors.File
	tensors []Info
	byName  map[string]int
	tied    [][]string
}

// Open opens a model directory and checks it as a whole: the config, the
// index, the header of every shard, and that the index and the shards say the
// same. One error of at most six lines tells all that is wrong.
func Open(fsys vfs.FS, dir string) (*Checkpoint, error) {
	c := &Checkpoint{Dir: dir, fs: fsys}
	if err := c.open(); err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("checkpoint %s: %w", dir, err)
	}
	return c, nil
}

func (c *Checkpoint) open() error {
	info, err := c.fs.Stat(c.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: name the folder that holds config.json, or adapter_config.json", err)
	}
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return errors.New("not a directory: name the folder that holds config.json")
	}
	if IsAdapter(c.fs, c.Dir) {
		if _, err := c.fs.Stat(filepath.Join(c.Dir, "config.json")); err != nil {
			return errors.New("holds a PEFT adapter, want a whole model")
		}
	}
	if err := contained(c.fs, c.Dir, "config.json"); err != nil {
		return err
	}
	if c.Config, err = readConfig(c.fs, c.Dir, "config.json"); err != nil {
		return err
	}
	if err := refuseQuantised(c.Config); err != nil {
		return err
	}
	w, err := findWeights(c.fs, c.Dir)
	if err != nil {
		return err
	}
	c.names = w.files
	if err := c.openFiles(w); err != nil {
		return err
	}
	c.tied = tiedGroups(c)
	return nil
}

// openFiles opens all shards and checks them against the index.
func (c *Checkpoint) openFiles(w weights) error {
	var probs problems
	c.byName = make(map[string]int)
	for i, name := range c.names {
		f, err := safetensors.Open(c.fs, filepath.Join(c.Dir, name))
		if err != nil {
			probs.add("%v", err)
			c.files = append(c.files, nil)
			continue
		}
		c.files = append(c.files, f)
		for _, t := range f.Tensors() {
			if at, dup := c.byName[t.Name]; dup {
				probs.add("tensor %q is in %s and in %s", t.Name, c.names[c.tensors[at].File], name)
				continue
			}
			c.byName[t.Name] = len(c.tensors)
			c.tensors = append(c.tensors, Info{t, i})
			if shard, ok := w.index[t.Name]; w.index != nil && (!ok || shard != name) {
				if ok {
					probs.add("tensor %q is in %s, but the index says %s", t.Name, name, shard)
				} else {
					probs.add("tensor %q of %s is not in the index", t.Name, name)
				}
			}
		}
	}
	if !slices.Contains(c.files, nil) { // a shard that did not open explains what is missing
		for _, name := range w.order {
			if _, ok := c.byName[name]; !ok {
				probs.add("tensor %q is not in %s, where the index says it is", name, w.index[name])
			}
		}
	}
	for _, t := range c.tensors {
		if why := quantisedTensor(t.Info); why != "" {
			probs.add("%s", why)
		}
	}
	return probs.err()
}

// Close unmaps the shards. Tensors handed out before must not be read again.
func (c *Checkpoint) Close() error {
	var errs []error
	for _, f := range c.files {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	c.files = nil
	return errors.Join(errs...)
}

// Files returns the names of the shards, relative to Dir, in name order.
func (c *Checkpoint) Files() []string { return c.names }

// Tensors returns all tensors: shards in name order, within a shard in the
// order of the data. The caller must not change it.
func (c *Checkpoint) Tensors() []Info { return c.tensors }

// Lookup returns the entry of a tensor that is stored under this very name;
// see Resolve for tied ones.
func (c *Checkpoint) Lookup(name string) (Info, bool) {
	i, ok := c.byName[name]
	if !ok {
		return Info{}, false
	}
	return c.tensors[i], true
}

// Tensor returns one tensor. Its data is the mapped shard: read only and valid
// until Close. Read it under vfs.Guard.
func (c *Checkpoint) Tensor(name string) (tensor.Tensor, error) {
	t, ok := c.Lookup(name)
	if !ok {
		return tensor.Tensor{}, fmt.Errorf("checkpoint %s: no tensor %q", c.Dir, name)
	}
	return c.files[t.File].Tensor(name)
}

// Prefetch asks the system to read a tensor ahead; Release lets its pages go,
// so that memory stays low while a model streams by.
func (c *Checkpoint) Prefetch(name string) {
	if t, ok := c.Lookup(name); ok {
		c.files[t.File].Prefetch(name)
	}
}

// Release is described with Prefetch.
func (c *Checkpoint) Release(name string) {
	if t, ok := c.Lookup(name); ok {
		c.files[t.File].Release(name)
	}
}

// Load reads a tensor into memory, all of it, and reports whether most of it
// was not there before; Drop lets its pages go and the system's copy of them.
func (c *Checkpoint) Load(name string) (cold bool) {
	t, ok := c.Lookup(name)
	return ok && c.files[t.File].Load(name)
}

// Drop is described with Load.
func (c *Checkpoint) Drop(name string) {
	if t, ok := c.Lookup(name); ok {
		c.files[t.File].Drop(name)
	}
}

// Bytes returns the size of all tensors.
func (c *Checkpoint) Bytes() int64 {
	var n int64
	for _, t := range c.tensors {
		n += t.Bytes()
	}
	return n
}

// Parameters returns the number of elements of all tensors.
func (c *Checkpoint) Parameters() int64 {
	var n int64
	for _, t := range c.tensors {
		n += t.Elements()
	}
	return n
}

func readConfig(fsys vfs.FS, dir, name string) (Config, error) {
	text, err := vfs.ReadFile(fsys, filepath.Join(dir, name), maxConfig)
	if err != nil {
		return Config{}, err
	}
	cfg, err := ParseConfig(text)
	if err != nil {
		return Config{}, fmt.Errorf("%s: %w", name, err)
	}
	return cfg, nil
}
