// Package taskvector gives what fine-tuning changed: for each tensor of a base
// checkpoint the difference of an expert, Δ = expert − base, computed when it
// is asked for, one tensor at a time. An expert is a full checkpoint or a LoRA
// adapter; an adapter's deltas stay factors.
package taskvector

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"smelt/checkpoint"
	"smelt/dtype"
	"smelt/internal/vfs"
	"smelt/safetensors"
	"smelt/tensor"
)

// Kinds of experts.
const (
	Full = "full" // a whole checkpoint, or a part of one
	LoRA = "lora" // a PEFT LoRA adapter
)

// Expert is an open fine-tune of a base. Its methods may be called
// concurrently, but for Close.
type Expert struct {
	Name   string
	Kind   string
	Source string      // the folder's name
	DType  dtype.DType // of most of its bytes
	Notes  []string    // how its names were matched, in sentences

	base    *checkpoint.Checkpoint
	full    *checkpoint.Checkpoint
	names   checkpoint.NameMap
	adapter *checkpoint.Adapter
	modules map[string]checkpoint.AdapterModule
	own     []string
	resized []string
}

// Open opens the expert at path. What keeps it from being an expert of base
// comes back as problems, all of them; err is for what cannot be read at all.
func Open(fsys vfs.FS, base *checkpoint.Checkpoint, name, path string) (e *Expert, problems []string, err error) {
	e = &Expert{Name: name, Source: filepath.Base(filepath.Clean(path)), base: base}
	if checkpoint.IsAdapter(fsys, path) {
		e.Kind = LoRA
		if e.adapter, err = checkpoint.OpenAdapter(fsys, path); err != nil {
			return nil, nil, err
		}
		problems = e.openAdapter()
	} else {
		e.Kind = Full
		if e.full, err = checkpoint.Open(fsys, path); err != nil {
			return nil, nil, err
		}
		problems = e.openFull()
	}
	for i, p := range problems {
		problems[i] = fmt.Sprintf("expert %s: %s", name, p)
	}
	return e, problems, nil
}

func (e *Expert) openAdapter() (problems []string) {
	e.Notes = e.adapter.Rebase(e.base)
	problems = e.adapter.CheckAgainst(e.base)
	e.modules = map[string]checkpoint.AdapterModule{}
	bytes := map[dtype.DType]int64{}
	for _, m := range e.adapter.Modules() {
		if w, ok := e.base.Resolve(m.Name + ".weight"); ok {
			e.modules[strings.TrimSuffix(w.Name, ".weight")] = m
		}
		for _, t := range []string{m.A, m.B} {
			if info, ok := e.adapter.Lookup(t); ok {
				bytes[info.DType] += info.Bytes()
			}
		}
	}
	e.DType = most(bytes)
	for name, stored := range e.adapter.Saved() {
		b, ok := e.base.Resolve(name)
		x, _ := e.adapter.Lookup(stored)
		switch kind := e.base.Kind(b.Name); {
		case !ok:
			e.own = append(e.own, name)
		case slices.Equal(x.Shape, b.Shape):
		case kind == checkpoint.Embedding:
			e.resized = append(e.resized, name)
		default: // CheckAgainst lets only heads pass
			e.own = append(e.own, name)
		}
	}
	slices.Sort(e.resized)
	slices.Sort(e.own)
	return problems
}

func (e *Expert) openFull() (problems []string) {
	if err := checkpoint.Compatible(e.base.Config, e.full.Config); err != nil {
		return []string{err.Error()}
	}
	e.names = checkpoint.MapNames(e.base, e.full)
	e.Notes = e.names.Notes
	partial := e.base.Config.ModelType() != e.full.Config.ModelType()
	if partial {
		e.Notes = append(e.Notes, fmt.Sprintf("is a %s: it covers %d of the %d tensors of the %s base, matched by name",
			e.full.Config.ModelType(), len(e.names.ToExpert), len(e.base.Tensors()), e.base.Config.ModelType()))
	}
	bytes := map[dtype.DType]int64{}
	for _, t := range e.full.Tensors() {
		bytes[t.DType] += t.Bytes()
	}
	e.DType = most(bytes)
	for _, name := range e.names.Missing {
		if kind := e.base.Kind(name); !partial && needed(kind, name) {
			problems = append(problems, fmt.Sprintf("tensor %q (%s) of the base is missing", name, kind))
		}
	}
	for _, name := range e.names.Extra {
		switch kind := e.full.Kind(name); {
		case kind == checkpoint.Head || pooler(name):
			e.own = append(e.own, name)
		case kind == checkpoint.Bias && e.biasOf(name):
			// A bias on a layer that has none in the base: all of it is Δb.
		case needed(kind, name):
			problems = append(problems, fmt.Sprintf("tensor %q (%s) is not in the base", name, kind))
		}
	}
	for _, t := range e.base.Tensors() {
		x, ok := e.lookup(t.Name)
		if !ok || slices.Equal(x.Shape, t.Shape) {
			continue
		}
		switch kind := e.base.Kind(t.Name); {
		case kind == checkpoint.Head:
			e.own = append(e.own, t.Name)
		case kind == checkpoint.Embedding && len(x.Shape) == 2 && len(t.Shape) == 2 && x.Shape[1] == t.Shape[1]:
			e.resized = append(e.resized, t.Name)
		default:
			problems = append(problems, fmt.Sprintf("tensor %q has shape %v, the base's has %v", x.Name, x.Shape, t.Shape))
		}
	}
	slices.Sort(e.own)
	return problems
}

// needed says whether a model cannot do without a tensor: buffers, heads and
// poolers come and go with the class that saved it.
func needed(kind checkpoint.Kind, name string) bool {
	return kind != checkpoint.Other && kind != checkpoint.Head && !pooler(name)
}

func pooler(name string) bool { return strings.Contains(name, "pooler.") }

func (e *Expert) biasOf(name string) bool {
	w, ok := e.base.Resolve(strings.TrimSuffix(name, ".bias") + ".weight")
	return ok && e.base.Kind(w.Name) == checkpoint.Linear
}

// Own lists the tensors that stay the expert's: heads that the base lacks or
// has in another shape, by the base's name for them.
func (e *Expert) Own() []string { return e.own }

// Resized lists embeddings of the base that have another number of rows in
// the expert.
func (e *Expert) Resized() []string { return e.resized }

// lookup finds what the expert has in place of a tensor of the base.
func (e *Expert) lookup(name string) (safetensors.Info, bool) {
	if e.full != nil {
		stored, ok := e.names.ToExpert[name]
		if !ok {
			stored = name // a bias that the base lacks, or an own tensor
		}
		info, ok := e.full.Lookup(stored)
		return info.Info, ok
	}
	stored, ok := e.adapter.Saved()[name]
	if !ok {
		return safetensors.Info{}, false
	}
	return e.adapter.Lookup(stored)
}

// Lookup describes what the expert has, whole, in place of a tensor of the
// base; ok is false where it has nothing of its own.
func (e *Expert) Lookup(name string) (info safetensors.Info, ok bool) { return e.lookup(name) }

// Tensor returns what the expert has, whole, in place of a tensor of the base.
// ok is false where it has nothing of its own: an adapter that does not save
// it, a part of a model. The data is a mapped file: read it under vfs.Guard.
func (e *Expert) Tensor(name string) (t tensor.Tensor, ok bool, err error) {
	info, ok := e.lookup(name)
	if !ok {
		return t, false, nil
	}
	if e.full != nil {
		t, err = e.full.Tensor(info.Name)
	} else {
		t, err = e.adapter.Tensor(info.Name)
	}
	return t, true, err
}

// Covers reports whether the expert has anything in place of a module's
// weight, and bytes how much must be read for it.
func (e *Expert) Covers(module string) (bytes int64, ok bool) {
	if m, found := e.modules[module]; found {
		a, _ := e.adapter.Lookup(m.A)
		b, _ := e.adapter.Lookup(m.B)
		return a.Bytes() + b.Bytes(), true
	}
	info, ok := e.lookup(module + ".weight")
	return info.Bytes(), ok
}

// AdapterRank is the rank of an adapter's update of a module, 0 where it is
// not one.
func (e *Expert) AdapterRank(module string) int { return e.modules[module].Rank }

// Parameters counts the elements of all tensors of the expert as it is given.
func (e *Expert) Parameters() (n int64) {
	if e.full != nil {
		return e.full.Parameters()
	}
	count := func(name string) {
		if info, ok := e.adapter.Lookup(name); ok {
			n += info.Elements()
		}
	}
	for _, m := range e.adapter.Modules() {
		for _, name := range []string{m.A, m.B, m.BiasB} {
			count(name)
		}
	}
	for _, name := range e.adapter.Saved() {
		count(name)
	}
	return n
}

// Prefetch asks the system to read what the expert has in place of a tensor;
// Release lets its pages go.
func (e *Expert) Prefetch(name string) {
	if e.full != nil {
		if info, ok := e.lookup(name); ok {
			e.full.Prefetch(info.Name)
		}
	}
}

// Release is described with Prefetch.
func (e *Expert) Release(name string) {
	if e.full != nil {
		if info, ok := e.lookup(name); ok {
			e.full.Release(info.Name)
		}
	}
}

// Load reads what the expert has in place of a tensor into memory, and reports
// whether most of it was not there before; Drop lets its pages go and the
// system's copy of them. An adapter is small: nothing happens.
func (e *Expert) Load(name string) (cold bool) {
	if e.full == nil {
		return false
	}
	info, ok := e.lookup(name)
	return ok && e.full.Load(info.Name)
}

// Drop is described with Load.
func (e *Expert) Drop(name string) {
	if e.full != nil {
		if info, ok := e.lookup(name); ok {
			e.full.Drop(info.Name)
		}
	}
}

// Fingerprint identifies the expert's content as far as names, sizes, times
// and headers tell.
func (e *Expert) Fingerprint() (string, error) {
	if e.full != nil {
		return e.full.Fingerprint()
	}
	return e.adapter.Fingerprint()
}

// Close unmaps the expert's files.
func (e *Expert) Close() error {
	spare.Lock()
	spare.pieces = nil
	spare.Unlock()
	if e.full != nil {
		return e.full.Close()
	}
	return e.adapter.Close()
}

func most(bytes map[dtype.DType]int64) dtype.DType {
	var best dtype.DType
	for d, n := range bytes {
		if m := bytes[best]; n > m || n == m && d < best {
			best = d
		}
	}
	return best
}
