package engine

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"smelt/checkpoint"
	"smelt/internal/ojson"
	"smelt/internal/vfs"
	"smelt/safetensors"
	"smelt/smile"
	"smelt/tensor"
)

// FromFusionBench writes a checkpoint of FusionBench's SMILE classes in the
// native form. FusionBench stores S·Vᵀ and U, we store Vᵀ and U·S: the norms of
// the rows move. It keeps no names, so experts are called expert-0, expert-1, …;
// nothing is known of what the deltas were, so the manifest has no energies.
func FromFusionBench(ctx context.Context, fsys vfs.FS, dir, out string, maxShardSize int64, workers int, progress Progress) (*Result, error) {
	c, err := checkpoint.Open(fsys, dir)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	b, err := newBenchReader(c, maxShardSize)
	if err != nil {
		return nil, fmt.Errorf("checkpoint %s: %w", dir, err)
	}
	j, err := newJob(fsys, b.plan, "native", out, dir, fusedForm{}, b.produce, workers)
	if err != nil {
		return nil, err
	}
	return j.run(ctx, progress)
}

// benchReader reads FusionBench's layout.
type benchReader struct {
	c               *checkpoint.Checkpoint
	plan            *Plan
	experts, router int
	rank            int
}

func newBenchReader(c *checkpoint.Checkpoint, maxShardSize int64) (*benchReader, error) {
	base, ok := strings.CutPrefix(c.Config.ModelType(), "smile_")
	if !ok || !slices.Contains(fusionBenchTypes, base) {
		return nil, fmt.Errorf("model_type is %q, want one of FusionBench's smile_%s", c.Config.ModelType(), strings.Join(fusionBenchTypes, ", smile_"))
	}
	b := &benchReader{c: c}
	raw := c.Config.Raw
	raw.Members = slices.Clone(raw.Members)
	topK := 0
	for key, to := range map[string]*int{"num_local_experts": &b.experts, "rank_of_router": &b.router, "rank_of_expert": &b.rank, "num_experts_per_tok": &topK} {
		n, ok := c.Config.Int(key)
		if !ok || n > 1<<16 || n < 1 && key != "rank_of_expert" {
			return nil, fmt.Errorf("config.json: %s is missing or no number that fits", key)
		}
		*to = n
		raw.Delete(key)
	}
	raw.Set("model_type", ojson.NewString(base))
	if names := c.Config.Architectures(); len(names) > 0 {
		for i := range names {
			names[i] = strings.TrimPrefix(names[i], "Smile")
		}
		raw.Set("architectures", ojson.NewStrings(names...))
	}
	extras, err := c.Extras()
	if err != nil {
		return nil, err
	}
	opt, err := Options{RouterRank: b.router, TopK: topK, MaxShardSize: maxShardSize}.normalise()
	if err != nil {
		return nil, err
	}
	b.plan = &Plan{
		Options: opt, Base: filepath.Base(filepath.Clean(c.Dir)), BaseConfig: string(ojson.Indent(raw)), ModelType: base,
		Carry: extras.Files, Edited: "FusionBench",
	}
	width := len(strconv.Itoa(b.experts - 1))
	for e := range b.experts {
		b.plan.Experts = append(b.plan.Experts, smile.Expert{Name: fmt.Sprintf("expert-%0*d", width, e), Kind: smile.KindFull, Source: b.plan.Base, DType: "F32"})
		b.plan.Sources = append(b.plan.Sources, 0)
	}
	print, err := c.Fingerprint()
	if err != nil {
		return nil, err
	}
	b.plan.Inputs = []string{print}
	return b, b.units()
}

const shared = ".shared_linear."

// units lists the base's tensors in file order; those of the experts belong to
// their layers.
func (b *benchReader) units() error {
	var problems []string
	for _, t := range b.c.Tensors() {
		module, leaf, fused := strings.Cut(t.Name, shared)
		switch {
		case !fused && (strings.Contains(t.Name, ".experts.") || strings.HasSuffix(t.Name, ".gate.weight")):
			continue
		case !fused:
			b.plan.Units = append(b.plan.Units, Unit{Action: ActionCopy, Name: t.Name, Kind: b.c.Kind(t.Name).String(), Tensors: []string{t.Name}, Read: t.Bytes(), Write: t.Bytes()})
			b.plan.Parameters += t.Elements()
		case leaf == "weight":
			u := Unit{Action: ActionFuse, Name: module, Kind: "linear", Tensors: []string{module + ".weight"}, Read: t.Bytes(), Write: t.Bytes()}
			if len(t.Shape) != 2 {
				problems = append(problems, fmt.Sprintf("tensor %q has shape %v, want two dimensions", t.Name, t.Shape))
				continue
			}
			u.Out, u.In = t.Shape[0], t.Shape[1]
			u.RouterRank = min(b.router, u.In, u.Out)
			b.plan.Parameters += t.Elements()
			if bias, ok := b.c.Lookup(module + shared + "bias"); ok {
				u.Tensors = append(u.Tensors, module+".bias")
				b.plan.Parameters += bias.Elements()
			}
			problems = append(problems, b.check(&u)...)
			b.plan.Units = append(b.plan.Units, u)
		}
	}
	return group(problems)
}

// check holds the shapes of a layer's tensors against the config.
func (b *benchReader) check(u *Unit) (problems []string) {
	want := map[string][]int{u.Name + ".gate.weight": {b.experts * b.router, u.In}}
	for e := range b.experts {
		prefix := fmt.Sprintf("%s.experts.%d.", u.Name, e)
		if b.rank > 0 {
			want[prefix+"u"], want[prefix+"svh"] = []int{u.Out, b.rank}, []int{b.rank, u.In}
			u.Ranks = append(u.Ranks, smile.Rank(min(b.rank, u.In, u.Out)))
		} else {
			want[prefix+"weight"] = []int{u.Out, u.In}
			u.Ranks = append(u.Ranks, smile.Dense)
		}
		if len(u.Tensors) == 2 {
			want[prefix+"bias"] = []int{u.Out}
		}
	}
	for name, shape := range want {
		t, ok := b.c.Lookup(name)
		if !ok {
			problems = append(problems, fmt.Sprintf("tensor %q is missing", name))
		} else if !slices.Equal(t.Shape, shape) {
			problems = append(problems, fmt.Sprintf("tensor %q has shape %v, the config says %v", name, t.Shape, shape))
		}
		u.Read += t.Bytes()
		u.Write += t.Bytes()
	}
	slices.Sort(problems)
	return problems
}

func (b *benchReader) produce(u *Unit) ([]output, report, error) {
	var outs []output
	rep := report{}
	for _, name := range u.Tensors {
		from := name
		if u.Action == ActionFuse {
			from = u.Name + shared + strings.TrimPrefix(name, u.Name+".")
		}
		t, err := b.c.Tensor(from)
		if err != nil {
			return nil, rep, err
		}
		outs = append(outs, seal(streamBase, safetensors.Named{Name: name, Tensor: t}))
	}
	if u.Action != ActionFuse {
		return outs, rep, nil
	}
	f := &fusedModule{Module: smile.Module{Name: u.Name, In: u.In, Out: u.Out, RouterRank: u.RouterRank, Ranks: make([]smile.Rank, b.experts)}}
	kept := make([]benchPart, b.experts)
	touched := false
	for e := range kept {
		var err error
		if kept[e], err = b.part(u, e); err != nil {
			return nil, rep, err
		}
		f.Ranks[e] = kept[e].rank
		if kept[e].rank != smile.Untouched {
			touched = true
			f.RouterRank = min(f.RouterRank, kept[e].directions)
		}
	}
	if !touched {
		return outs, rep, nil
	}
	w, _ := b.c.Lookup(u.Name + shared + "weight")
	parts := make([]smile.Part, b.experts)
	for e, k := range kept {
		p := smile.Part{Rank: k.rank}
		if rows := f.Rows(e); rows > 0 {
			p.Vt = tensor.Tensor{DType: w.DType, Shape: []int{rows, u.In}, Data: float64Bytes(k.vt[:rows*u.In], w.DType)}
		}
		if k.rank > 0 {
			p.US = tensor.Tensor{DType: w.DType, Shape: []int{u.Out, int(k.rank)}, Data: float64Bytes(k.us, w.DType)}
		}
		p.Dense, p.Bias = k.dense, k.bias
		f.Bias = f.Bias || len(p.Bias.Data) > 0
		parts[e] = p
	}
	tensors, err := f.Join(parts)
	if err != nil {
		return nil, rep, err
	}
	for _, t := range tensors {
		outs = append(outs, seal(streamExperts, t))
		rep.Parameters += int64(t.Elements())
	}
	rep.Module = f
	return outs, rep, nil
}

// benchPart is one expert of one layer in our terms.
type benchPart struct {
	rank       smile.Rank
	directions int       // rows of the router that are not zero
	vt, us     []float64 // [max(rank, directions), in], [out, rank]
	dense      tensor.Tensor
	bias       tensor.Tensor
}

// part reads expert e. The rows of the router are right singular vectors; the
// rows of svh beyond them are brought to norm 1. Rows of zeros at the end are
// padding.
func (b *benchReader) part(u *Unit, e int) (p benchPart, err error) {
	get := func(name string) (v []float64, t tensor.Tensor, err error) {
		if t, err = b.c.Tensor(name); err != nil {
			return nil, t, err
		}
		v, err = t.Float64()
		for i, x := range v {
			if x-x != 0 {
				return nil, t, fmt.Errorf("tensor %q: element %d is %v, want a finite number", name, i, x)
			}
		}
		return v, t, err
	}
	prefix := fmt.Sprintf("%s.experts.%d.", u.Name, e)
	gate, _, err := get(u.Name + ".gate.weight")
	if err != nil {
		return p, err
	}
	gate = gate[e*b.router*u.In : (e+1)*b.router*u.In]
	p.directions = nonZeroRows(gate, u.In)
	p.vt = slices.Clone(gate[:p.directions*u.In])
	if b.rank <= 0 {
		p.rank = smile.Dense
		var v []float64
		if v, p.dense, err = get(prefix + "weight"); err != nil {
			return p, err
		}
		if nonZeroRows(v, u.In) == 0 {
			p.rank, p.dense = smile.Untouched, tensor.Tensor{}
		}
	} else {
		svh, _, err := get(prefix + "svh")
		if err != nil {
			return p, err
		}
		us, _, err := get(prefix + "u")
		if err != nil {
			return p, err
		}
		r := min(nonZeroRows(svh, u.In), u.In, u.Out)
		if p.rank = smile.Rank(r); r == 0 && p.directions == 0 {
			p.rank = smile.Untouched
		}
		p.us = make([]float64, u.Out*r)
		for k := range r {
			row := svh[k*u.In : (k+1)*u.In]
			norm := 0.0
			for _, x := range row {
				norm += x * x
			}
			norm = math.Sqrt(norm)
			if k < p.directions && slices.Equal(row, p.vt[k*u.In:(k+1)*u.In]) {
				norm = 1 // written by us: σ is in u already
			}
			if k >= p.directions {
				for _, x := range row {
					p.vt = append(p.vt, x/max(norm, math.SmallestNonzeroFloat64))
				}
			}
			for i := range u.Out {
				p.us[i*r+k] = us[i*b.rank+k] * norm
			}
		}
	}
	if len(u.Tensors) == 2 {
		v, t, err := get(prefix + "bias")
		if err != nil {
			return p, err
		}
		if nonZeroRows(v, u.Out) > 0 {
			p.bias = t
		}
	}
	return p, nil
}

// nonZeroRows counts rows up to the last that is not all zeros.
func nonZeroRows(v []float64, width int) int {
	for n := len(v) / width; n > 0; n-- {
		for _, x := range v[(n-1)*width : n*width] {
			if x != 0 {
				return n
			}
		}
	}
	return 0
}
