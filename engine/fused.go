package engine

import (
	"fmt"
	"path/filepath"
	"slices"

	"smelt/checkpoint"
	"smelt/internal/ojson"
	"smelt/internal/vfs"
	"smelt/interop"
	"smelt/smile"
	"smelt/tensor"
)

// Fused is an open fused model.
type Fused struct {
	Dir      string
	Config   *smile.Config
	Manifest *Manifest
	// Base is the base inside it: its tensors, under its own config.
	Base *checkpoint.Checkpoint

	whole *checkpoint.Checkpoint
}

// OpenFused opens a fused model and checks that the experts' tensors are those
// that its config announces.
func OpenFused(fsys vfs.FS, dir string) (_ *Fused, err error) {
	f := &Fused{Dir: dir}
	if _, statErr := fsys.Stat(filepath.Join(dir, partName)); statErr == nil {
		return nil, fmt.Errorf("%s: is part of a fusion: put the parts together with smelt join first", dir)
	}
	if f.whole, err = checkpoint.Open(fsys, dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	if f.Config, err = readBlock(f.whole); err != nil {
		return nil, err
	}
	if f.Manifest, err = readManifest(fsys, dir); err != nil {
		return nil, err
	}
	cfg, err := baseConfig(f.whole.Config, f.Config)
	if err != nil {
		return nil, err
	}
	f.Base = f.whole.View(cfg, func(name string) bool { return !smile.IsExpertTensor(name) })
	return f, f.check()
}

// IsFused reports whether a directory holds a fused model, by its config.
func IsFused(fsys vfs.FS, dir string) bool {
	c, err := checkpoint.Open(fsys, dir)
	if err != nil {
		return false
	}
	defer c.Close()
	return c.Config.ModelType() == modelType
}

// readBlock parses the smile block of a checkpoint's config.
func readBlock(c *checkpoint.Checkpoint) (*smile.Config, error) {
	block, ok := c.Config.Raw.Get("smile")
	if c.Config.ModelType() != modelType || !ok {
		return nil, fmt.Errorf("checkpoint %s: is not a fused model (model_type %q): smelt fuse makes one", c.Dir, c.Config.ModelType())
	}
	cfg, err := smile.ParseConfig(ojson.Append(nil, block))
	if err != nil {
		return nil, fmt.Errorf("checkpoint %s: %w", c.Dir, err)
	}
	return cfg, nil
}

// baseConfig restores the config of the base from that of a fused model.
func baseConfig(c checkpoint.Config, cfg *smile.Config) (checkpoint.Config, error) {
	raw := c.Raw
	raw.Members = slices.Clone(raw.Members)
	raw.Delete("smile")
	raw.Delete("auto_map")
	raw.Set("model_type", ojson.NewString(cfg.BaseModelType))
	if names := c.Architectures(); len(names) > 0 {
		for i := range names {
			names[i] = interop.BaseArchitecture(names[i])
		}
		raw.Set("architectures", ojson.NewStrings(names...))
	}
	return checkpoint.ParseConfig(ojson.Indent(raw))
}

// Close unmaps the files.
func (f *Fused) Close() error { return f.whole.Close() }

// check holds the experts' tensors against the config, by their headers.
func (f *Fused) check() error {
	var problems []string
	want := map[string][]int{}
	add := func(name string, shape ...int) { want[name] = shape }
	for i := range f.Config.Modules {
		m := &f.Config.Modules[i]
		w, ok := f.Base.Lookup(m.Name + ".weight")
		shape := []int{m.Out, m.In}
		if m.Transposed {
			shape = []int{m.In, m.Out}
		}
		if !ok || !slices.Equal(w.Shape, shape) {
			problems = append(problems, fmt.Sprintf("tensor %q has shape %v, the config says %v", m.Name+".weight", w.Shape, shape))
		}
		if n := m.TotalRows(); n > 0 {
			add(smile.VtName(m.Name), n, m.In)
		}
		if n := m.TotalRank(); n > 0 {
			add(smile.USName(m.Name), m.Out, n)
		}
		for e, r := range m.Ranks {
			if r == smile.Dense {
				add(smile.DenseName(m.Name, e), m.Out, m.In)
			}
		}
		if m.Bias {
			add(smile.BiasName(m.Name), len(m.Ranks), m.Out)
		}
	}
	for _, t := range f.whole.Tensors() {
		if !smile.IsExpertTensor(t.Name) {
			continue
		}
		if e, _, ok := smile.ParseOwn(t.Name); ok && e < len(f.Config.Experts) {
			continue
		}
		shape, ok := want[t.Name]
		switch delete(want, t.Name); {
		case !ok:
			problems = append(problems, fmt.Sprintf("tensor %q is not announced by the config", t.Name))
		case !slices.Equal(shape, t.Shape):
			problems = append(problems, fmt.Sprintf("tensor %q has shape %v, the config says %v", t.Name, t.Shape, shape))
		}
	}
	for name := range want {
		problems = append(problems, fmt.Sprintf("tensor %q is missing", name))
	}
	slices.Sort(problems)
	if err := group(problems); err != nil {
		return fmt.Errorf("fused model %s: %w", f.Dir, err)
	}
	return nil
}

// Parts cuts the experts' tensors of a fused module into the experts' parts.
func (f *Fused) Parts(m *smile.Module) ([]smile.Part, error) {
	return m.Split(func(name string) (t tensor.Tensor, ok bool, err error) {
		if _, ok := f.whole.Lookup(name); !ok {
			return t, false, nil
		}
		t, err = f.whole.Tensor(name)
		return t, true, err
	})
}

// Lookup describes a tensor, the base's or an expert's.
func (f *Fused) Lookup(name string) (checkpoint.Info, bool) { return f.whole.Lookup(name) }

// Tensor returns a tensor, the base's or an expert's, valid until Close.
func (f *Fused) Tensor(name string) (tensor.Tensor, error) { return f.whole.Tensor(name) }

// own lists the tensors that only one expert has.
func (f *Fused) own(expert int) (names []string) {
	for _, t := range f.whole.Tensors() {
		if e, name, ok := smile.ParseOwn(t.Name); ok && e == expert {
			names = append(names, name)
		}
	}
	return names
}

// fidelity finds what the manifest says of an expert in a module.
func (f *Fused) fidelity(module, expert string) (ExpertFidelity, bool) {
	for _, x := range f.Manifest.Modules[module] {
		if x.Expert == expert {
			return x, true
		}
	}
	return ExpertFidelity{}, false
}
