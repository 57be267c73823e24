package checkpoint

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"smelt/safetensors"
)

// Rebase gives modules and saved tensors the names that base has for them,
// where they differ by a prefix (see MapNames) or are those that transformers
// has in memory (see Config.InMemory), and returns in sentences what was
// renamed and whether the adapter names another base.
func (a *Adapter) Rebase(base *Checkpoint) (notes []string) {
	a.rename(func(name string) string {
		at := max(strings.LastIndexByte(name, '.'), 0)
		return base.Config.inFile(name[:at]) + name[at:]
	})
	// Both are looked up as weights, whose shapes must agree.
	weights := make([]Info, len(a.modules))
	for i, m := range a.modules {
		weights[i].Name = m.Name + ".weight"
		weights[i].Shape = a.shape(m)
	}
	r := findRename(base, weights, a.part(), func(b, w Info) bool {
		return slices.Equal(b.Shape, w.Shape) || slices.Equal(b.Shape, []int{w.Shape[1], w.Shape[0]})
	})
	if len(r.moved) > 0 {
		a.rename(func(name string) string {
			rest, ok := strings.CutPrefix(name, r.strip)
			if _, there := base.Resolve(name); there || !ok {
				return name
			}
			if _, ok = base.Resolve(r.add + rest); !ok {
				return name
			}
			return r.add + rest
		})
		notes = r.notes("modules")
	}
	if named := filepath.Base(filepath.ToSlash(a.BaseModel)); a.BaseModel != "" && named != filepath.Base(filepath.Clean(base.Dir)) &&
		named != filepath.Base(base.Config.Raw.Str("_name_or_path")) {
		notes = append(notes, fmt.Sprintf("was trained on %.200q; names and shapes of the base given here fit", a.BaseModel))
	}
	return notes
}

// rename gives tensors of the base that the adapter is for other names.
func (a *Adapter) rename(to func(tensor string) string) {
	for i, m := range a.modules {
		a.modules[i].Name = strings.TrimSuffix(to(m.Name+".weight"), ".weight")
	}
	saved := make(map[string]string, len(a.saved))
	for name, stored := range a.saved {
		saved[to(name)] = stored
	}
	a.saved = saved
}

// part guesses from the class that the adapter was trained on which part of a
// composite model it is for.
func (a *Adapter) part() string {
	m, _ := a.Config.Raw.Get("auto_mapping")
	class := strings.ToLower(m.Str("base_model_class"))
	for _, part := range []string{"vision", "text", "audio", "encoder", "decoder"} {
		if strings.Contains(class, part) {
			return part
		}
	}
	return ""
}

// shape returns [out, in] of a module's update.
func (a *Adapter) shape(m AdapterModule) []int {
	x, _ := a.file.Lookup(m.A)
	y, _ := a.file.Lookup(m.B)
	return []int{y.Shape[0], x.Shape[1]}
}

// CheckAgainst returns what keeps the adapter from being applied to base, in
// sentences; none where it fits. A head that the base lacks, or has in another
// shape, keeps nothing: it stays the adapter's own.
func (a *Adapter) CheckAgainst(base *Checkpoint) []string {
	var out, missing []string
	for _, m := range a.modules {
		w, ok := base.Resolve(m.Name + ".weight")
		if !ok {
			missing = append(missing, m.Name)
			continue
		}
		want := a.shape(m)
		if base.Transposed(w.Name) {
			want = []int{want[1], want[0]}
		}
		switch kind := base.Kind(w.Name); {
		case !slices.Equal(w.Shape, want):
			out = append(out, fmt.Sprintf("module %q: the update is for a weight %v, the base's is %v", m.Name, want, w.Shape))
		case kind == Embedding || kind == Norm || kind == Conv:
			out = append(out, fmt.Sprintf("module %q is no linear layer in the base (%v)", m.Name, kind))
		}
	}
	for _, name := range sortedKeys(a.saved) {
		t, _ := a.file.Lookup(a.saved[name])
		if why := savedFits(base, name, t); why != "" {
			out = append(out, why)
		}
	}
	switch n := len(missing); {
	case n > 3:
		out = append(out, fmt.Sprintf("%d of %d modules are not in the base (%q, …): the adapter is for another model", n, len(a.modules), missing[0]))
	default:
		for _, name := range missing {
			out = append(out, fmt.Sprintf("module %q is not in the base", name))
		}
	}
	return out
}

func savedFits(base *Checkpoint, name string, t safetensors.Info) string {
	kind := Classify(base.Config, name, t.Shape)
	b, ok := base.Resolve(name)
	switch {
	case kind == Head:
		return ""
	case !ok && kind == Bias && base.has(strings.TrimSuffix(name, ".bias")+".weight"):
		return "" // a bias for a layer that has none
	case !ok:
		return fmt.Sprintf("tensor %q is not in the base", name)
	case kind == Embedding && len(t.Shape) == 2 && len(b.Shape) == 2 && t.Shape[1] == b.Shape[1]:
		return "" // a resized vocabulary
	case !slices.Equal(t.Shape, b.Shape):
		return fmt.Sprintf("tensor %q has shape %v, the base's has %v", name, t.Shape, b.Shape)
	}
	return ""
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
