package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"smelt/analysis"
	"smelt/dtype"
	"smelt/internal/ojson"
	"smelt/linalg"
	"smelt/safetensors"
	"smelt/taskvector"
	"smelt/tensor"
)

// DefaultInitRank is the rank of an adapter that InitAdapter makes.
const DefaultInitRank = 8

// InitOptions says where a fine-tune is to begin.
type InitOptions struct {
	Subspace string   // analysis.Minor, Null or Principal
	Rank     int      // of every module; 0 means DefaultInitRank
	Targets  []string // modules, or the ends of their names; none means every linear layer
	Exclude  []string // patterns of layers to leave out
}

// InitAdapter writes a PEFT LoRA adapter from which a fine-tune of the base can
// be begun in a chosen subspace: the rows of A are orthonormal directions of the
// inputs, of the base's weight, or with one expert of what that changed. B is
// zero, so that the adapter changes nothing until it is trained: an adapter
// cannot take from the base what it adds, as PiSSA and MiLoRA do.
func InitAdapter(ctx context.Context, in *Inputs, opt InitOptions, out string, workers int, progress Progress) (*Result, error) {
	switch {
	case !slices.Contains([]string{analysis.Minor, analysis.Null, analysis.Principal}, opt.Subspace):
		return nil, fmt.Errorf("--subspace is %q, want minor, null or principal", opt.Subspace)
	case len(in.Experts) > 1:
		return nil, fmt.Errorf("an adapter is begun from a base and at most one expert, not %d", len(in.Experts))
	case opt.Rank < 0:
		return nil, fmt.Errorf("--rank is %d, want at least 1", opt.Rank)
	case opt.Rank == 0:
		opt.Rank = DefaultInitRank
	}
	p, err := NewPlan(in, Options{ExpertRank: opt.Rank, RouterRank: 1, Exclude: opt.Exclude, MaxShardSize: 1 << 62})
	if err != nil {
		return nil, err
	}
	p.Carry, p.Warnings = nil, nil
	if err := p.choose(opt); err != nil {
		return nil, err
	}
	for i := range p.Units {
		u := &p.Units[i]
		u.Memory = 3*4*int64(u.In)*int64(u.Out) + analysis.Memory(u.Out, u.In, true)
	}
	form := initForm{newAdapterForm(p, p.Base, in.Base)}
	_, inner := p.concurrency(workers)
	a := analyzer{worker: worker{plan: p, in: in, workers: inner}}
	j, err := newJob(in.FS, p, fmt.Sprintf("init %v", opt), out, in.Base.Dir, form, func(u *Unit) ([]output, report, error) {
		return a.begin(u, form, opt)
	}, workers)
	if err != nil {
		return nil, err
	}
	j.reserved = form.reserve(p)
	return j.run(ctx, progress)
}

// choose keeps the units of the modules that are asked for.
func (p *Plan) choose(opt InitOptions) error {
	found := map[string]bool{}
	p.Units = slices.DeleteFunc(p.Units, func(u Unit) bool {
		if u.Action != ActionFuse {
			return true
		}
		keep := len(opt.Targets) == 0
		for _, t := range opt.Targets {
			if u.Name == t || strings.HasSuffix(u.Name, "."+t) {
				keep, found[t] = true, true
			}
		}
		return !keep
	})
	for _, t := range opt.Targets {
		if !found[t] {
			return fmt.Errorf("--target-modules: no linear layer of the base is called %q, or ends in it", t)
		}
	}
	if len(p.Units) == 0 {
		return fmt.Errorf("base %s: has no linear layer to begin in", p.Base)
	}
	for _, u := range p.Units {
		if u.In < opt.Rank {
			return fmt.Errorf("--rank is %d, but module %q has %d inputs", opt.Rank, u.Name, u.In)
		}
	}
	return nil
}

// begin makes A and B of one module.
func (a *analyzer) begin(u *Unit, form initForm, opt InitOptions) ([]output, report, error) {
	var rows linalg.Matrix
	missing := 0
	if len(a.in.Experts) == 0 {
		w, err := a.weight(u)
		if err != nil {
			return nil, report{}, err
		}
		if rows, missing, err = analysis.Directions(w, opt.Subspace, opt.Rank, seed(u.Name), a.workers); err != nil {
			return nil, report{}, fmt.Errorf("base: module %q: %w", u.Name, err)
		}
	} else {
		e := a.in.Experts[0]
		d, err := e.Delta(u.Name, u.Transposed, a.workers)
		if err != nil {
			return nil, report{}, err
		}
		if rows, missing, err = a.directions(u, d, opt); err != nil {
			return nil, report{}, fmt.Errorf("expert %s: module %q: %w", e.Name, u.Name, err)
		}
		e.Release(u.Tensors[0])
	}
	a.in.Base.Release(u.Tensors[0])
	if rows.Rows == 0 {
		return nil, report{}, nil // the expert did not change it, and has no directions there
	}
	rep := report{Parameters: int64(opt.Rank) * int64(u.In+u.Out)}
	if missing > 0 {
		rep.Note = fmt.Sprint(missing)
	}
	v := make([]float64, 0, opt.Rank*u.In)
	for i := range rows.Rows {
		for _, x := range rows.Row(i) {
			v = append(v, float64(x))
		}
	}
	store := func(what string, v []float64, shape ...int) output {
		t := tensor.Tensor{DType: dtype.F32, Shape: shape, Data: float64Bytes(v, dtype.F32)}
		return seal(streamExperts, safetensors.Named{Name: form.name(u.Name, what), Tensor: t})
	}
	return []output{
		store("lora_A.weight", v, opt.Rank, u.In),
		store("lora_B.weight", make([]float64, u.Out*opt.Rank), u.Out, opt.Rank),
	}, rep, nil
}

// directions of an expert's delta; of a layer that it left alone only the null
// space has any, which is all of it.
func (a *analyzer) directions(u *Unit, d *taskvector.Delta, opt InitOptions) (linalg.Matrix, int, error) {
	switch {
	case !d.Touched() && opt.Subspace != analysis.Null:
		return linalg.Matrix{}, 0, nil
	case d.LowRank != nil:
		return analysis.DirectionsOfFactors(d.LowRank.B, d.LowRank.A, d.LowRank.Scale, opt.Subspace, opt.Rank, seed(u.Name), a.workers)
	case !d.Touched():
		return analysis.AnyDirections(u.In, opt.Rank, seed(u.Name)), 0, nil
	}
	return analysis.Directions(denseDelta(d), opt.Subspace, opt.Rank, seed(u.Name), a.workers)
}

// initForm is an adapter that is to be trained.
type initForm struct{ *adapterForm }

func (f initForm) result(j *job, records []record) (*Result, error) {
	res, err := f.adapterForm.result(j, records)
	if err != nil {
		return nil, err
	}
	filled := 0
	for _, r := range records {
		if r.Report.Note != "" {
			filled++
		}
	}
	if filled > 0 {
		res.Warnings = append(res.Warnings, fmt.Sprintf("%d of %d modules have a null space of fewer dimensions than the rank: the directions of the smallest singular values stand in", filled, res.Modules))
	}
	if res.Modules == 0 {
		return nil, errors.New("the expert changed none of the modules: it has no subspace of its own to begin in")
	}
	return res, nil
}

func (f initForm) files(j *job, records []record, shards map[string]manifestShard, index map[string]string) ([]namedFile, error) {
	files, err := f.adapterForm.files(j, records, shards, index)
	if err != nil {
		return nil, err
	}
	config, err := ojson.Parse(files[0].data)
	if err != nil {
		return nil, err
	}
	config.Set("inference_mode", ojson.NewBool(false))
	files[0].data = ojson.Indent(config)
	return files, nil
}
