package engine

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"smelt/checkpoint"
	"smelt/internal/vfs"
	"smelt/smile"
)

// Inspection says what is in a checkpoint, an adapter or a fused model.
type Inspection struct {
	Kind          string           `json:"kind"` // checkpoint, adapter or fused
	Path          string           `json:"path"`
	ModelType     string           `json:"model_type,omitempty"`
	Architectures []string         `json:"architectures,omitempty"`
	BaseModel     string           `json:"base_model,omitempty"` // of an adapter
	Tensors       int              `json:"tensors"`
	Parameters    int64            `json:"parameters"`
	Bytes         int64            `json:"bytes"`
	Shards        []string         `json:"shards,omitempty"`
	DTypes        map[string]int64 `json:"dtypes"` // parameters by type
	Kinds         []KindSummary    `json:"kinds,omitempty"`
	Tied          [][]string       `json:"tied,omitempty"`
	Adapter       *AdapterSummary  `json:"adapter,omitempty"`
	Fused         *FusedSummary    `json:"fused,omitempty"`
}

// KindSummary sums up the tensors of one kind: linear, embedding, …
type KindSummary struct {
	Kind       string `json:"kind"`
	Tensors    int    `json:"tensors"`
	Parameters int64  `json:"parameters"`
}

// AdapterSummary is what a LoRA adapter changes.
type AdapterSummary struct {
	Modules int            `json:"modules"`
	Ranks   map[int]int    `json:"ranks"`   // rank to number of modules
	Targets map[string]int `json:"targets"` // last part of the module's name to number of modules
	Saved   []string       `json:"saved,omitempty"`
}

// FusedSummary is what a fused model holds beside its base.
type FusedSummary struct {
	Base          string          `json:"base"`
	BaseModelType string          `json:"base_model_type"`
	RouterRank    int             `json:"rank_of_router"`
	TopK          int             `json:"num_experts_per_tok"`
	Asked         string          `json:"asked"`
	Modules       int             `json:"modules"`
	Parameters    Parameters      `json:"parameters"`
	KeepingAll    int64           `json:"keeping_all"` // parameters of base and experts as they were
	Experts       []ExpertSummary `json:"experts"`
	Layers        []LayerSummary  `json:"layers"` // by kind of layer
	Others        Others          `json:"others"`
}

// ExpertSummary is one expert of a fused model.
type ExpertSummary struct {
	smile.Expert
	Modules  int     `json:"modules"`
	Ranks    string  `json:"ranks"`
	Captured float64 `json:"captured"` // share of ‖ΔW‖² kept
}

// LayerSummary is one kind of layer (q_proj, fc1, …) over all depths.
type LayerSummary struct {
	Layer    string     `json:"layer"`
	Modules  int        `json:"modules"`
	Ranks    string     `json:"ranks"`
	Captured []*float64 `json:"captured"` // per expert; nil where it changed none of them
}

// Inspect reads headers and configs only.
func Inspect(fsys vfs.FS, dir string) (*Inspection, error) {
	if checkpoint.IsAdapter(fsys, dir) {
		return inspectAdapter(fsys, dir)
	}
	c, err := checkpoint.Open(fsys, dir)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	x := &Inspection{
		Kind: "checkpoint", Path: dir, ModelType: c.Config.ModelType(), Architectures: c.Config.Architectures(),
		Tensors: len(c.Tensors()), Parameters: c.Parameters(), Bytes: c.Bytes(), Shards: c.Files(), DTypes: map[string]int64{},
	}
	for _, group := range c.Tied() {
		if len(group) > 1 {
			x.Tied = append(x.Tied, group)
		}
	}
	kinds := map[string]*KindSummary{}
	for _, t := range c.Tensors() {
		x.DTypes[t.DType.String()] += t.Elements()
		kind := c.Kind(t.Name).String()
		if smile.IsExpertTensor(t.Name) {
			kind = "experts"
		}
		k := kinds[kind]
		if k == nil {
			k = &KindSummary{Kind: kind}
			kinds[kind] = k
		}
		k.Tensors++
		k.Parameters += t.Elements()
	}
	for _, k := range kinds {
		x.Kinds = append(x.Kinds, *k)
	}
	slices.SortFunc(x.Kinds, func(a, b KindSummary) int {
		return cmp.Or(-cmp.Compare(a.Parameters, b.Parameters), strings.Compare(a.Kind, b.Kind))
	})
	if x.ModelType != modelType {
		return x, nil
	}
	f, err := OpenFused(fsys, dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	x.Kind, x.Fused = "fused", f.summary()
	return x, nil
}

func inspectAdapter(fsys vfs.FS, dir string) (*Inspection, error) {
	a, err := checkpoint.OpenAdapter(fsys, dir)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	x := &Inspection{Kind: "adapter", Path: dir, BaseModel: a.BaseModel, DTypes: map[string]int64{}}
	s := &AdapterSummary{Ranks: map[int]int{}, Targets: map[string]int{}}
	count := func(name string) {
		if t, ok := a.Lookup(name); ok {
			x.Tensors++
			x.Parameters += t.Elements()
			x.Bytes += t.Bytes()
			x.DTypes[t.DType.String()] += t.Elements()
		}
	}
	for _, m := range a.Modules() {
		s.Modules++
		s.Ranks[m.Rank]++
		s.Targets[layerKind(m.Name)]++
		for _, name := range []string{m.A, m.B, m.BiasB} {
			count(name)
		}
	}
	for name, stored := range a.Saved() {
		s.Saved = append(s.Saved, name)
		count(stored)
	}
	slices.Sort(s.Saved)
	x.Adapter = s
	return x, nil
}

// layerKind is the last part of a module's name: q_proj, fc1, …
func layerKind(module string) string { return module[strings.LastIndexByte(module, '.')+1:] }

// summary gathers what the config and the manifest say.
func (f *Fused) summary() *FusedSummary {
	cfg := f.Config
	s := &FusedSummary{
		Base: cfg.Base, BaseModelType: cfg.BaseModelType, RouterRank: cfg.RouterRank, TopK: cfg.TopK, Asked: f.Manifest.Asked,
		Modules: len(cfg.Modules), Parameters: f.Manifest.Parameters, Others: f.Manifest.Others,
		KeepingAll: f.Manifest.Parameters.KeepingAll(),
	}
	type sum struct{ energy, captured []float64 }
	newSum := func() *sum { return &sum{make([]float64, len(cfg.Experts)), make([]float64, len(cfg.Experts))} }
	total, layers, order := newSum(), map[string]*sum{}, []string{}
	byLayer := map[string]*smile.Config{}
	for _, m := range cfg.Modules {
		kind := layerKind(m.Name)
		if layers[kind] == nil {
			layers[kind], byLayer[kind] = newSum(), &smile.Config{Experts: cfg.Experts}
			order = append(order, kind)
		}
		byLayer[kind].Modules = append(byLayer[kind].Modules, m)
		for e, x := range cfg.Experts {
			if y, ok := f.fidelity(m.Name, x.Name); ok {
				for _, to := range []*sum{total, layers[kind]} {
					to.energy[e] += y.Energy
					to.captured[e] += y.Captured
				}
			}
		}
	}
	for e, x := range cfg.Experts {
		n := 0
		for _, m := range cfg.Modules {
			if m.Ranks[e] != smile.Untouched {
				n++
			}
		}
		s.Experts = append(s.Experts, ExpertSummary{x, n, rankRange(cfg, e), ratio(total.captured[e], total.energy[e])})
	}
	for _, kind := range order {
		l := LayerSummary{Layer: kind, Modules: len(byLayer[kind].Modules), Ranks: layerRanks(byLayer[kind])}
		for e := range cfg.Experts {
			var share *float64
			if energy := layers[kind].energy[e]; energy > 0 {
				x := layers[kind].captured[e] / energy
				share = &x
			}
			l.Captured = append(l.Captured, share)
		}
		s.Layers = append(s.Layers, l)
	}
	return s
}

// layerRanks is the range of ranks over modules and experts.
func layerRanks(cfg *smile.Config) string {
	lo, hi, whole := smile.Rank(-1), smile.Rank(-1), 0
	for _, m := range cfg.Modules {
		for _, r := range m.Ranks {
			switch {
			case r == smile.Dense:
				whole++
			case r >= 0:
				if lo < 0 || r < lo {
					lo = r
				}
				hi = max(hi, r)
			}
		}
	}
	switch {
	case hi < 0 && whole > 0:
		return "dense"
	case hi < 0:
		return "–"
	case lo == hi && whole == 0:
		return fmt.Sprint(lo)
	case whole == 0:
		return fmt.Sprintf("%d–%d", lo, hi)
	}
	return fmt.Sprintf("%d–%d, %d dense", lo, hi, whole)
}
