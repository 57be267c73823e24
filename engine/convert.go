package engine

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"smelt/dtype"
	"smelt/internal/vfs"
	"smelt/linalg"
	"smelt/safetensors"
	"smelt/smile"
	"smelt/tensor"
)

// ToDense writes the plain checkpoint base + one expert of the fused model in
// dir.
func ToDense(ctx context.Context, fsys vfs.FS, dir, expert, out string, maxShardSize int64, workers int, progress Progress) (*Result, error) {
	f, err := OpenFused(fsys, dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	e := slices.Index(f.Config.ExpertNames(), expert)
	if e < 0 {
		return nil, fmt.Errorf("%s: has no expert %q: it has %s; --expert chooses one", dir, expert, strings.Join(f.Config.ExpertNames(), ", "))
	}
	p, err := f.plan(maxShardSize)
	if err != nil {
		return nil, err
	}
	own := f.own(e)
	p.Units = slices.DeleteFunc(p.Units, func(u Unit) bool { return slices.Contains(own, u.Name) })
	for _, name := range own {
		p.Units = append(p.Units, Unit{Action: ActionOwn, Name: name, Expert: e, Tensors: []string{name}})
	}
	d := denseForm{f: f, expert: e}
	j, err := newJob(fsys, p, "dense "+expert, out, dir, d, d.produce, workers)
	if err != nil {
		return nil, err
	}
	return j.run(ctx, progress)
}

// plan lists the units of the base inside a fused model.
func (f *Fused) plan(maxShardSize int64) (*Plan, error) {
	p, err := NewPlan(&Inputs{Base: f.Base}, Options{MaxShardSize: maxShardSize})
	if err != nil {
		return nil, err
	}
	p.Base = f.Config.Base
	return p, nil
}

// newJob makes a job over all units of a plan.
func newJob(fsys vfs.FS, p *Plan, what, out, carry string, form form, produce func(u *Unit) ([]output, report, error), workers int) (*job, error) {
	key, err := p.Key()
	if err != nil {
		return nil, err
	}
	n, _ := p.concurrency(workers)
	return &job{
		fs: fsys, plan: p, out: out, key: what + " " + key, hi: len(p.Units), workers: n, carry: carry, form: form, reserved: p.reserve(),
		produce: func(i int) ([]output, report, error) { return produce(&p.Units[i]) },
	}, nil
}

// denseForm is a plain checkpoint.
type denseForm struct {
	f      *Fused
	expert int
}

func (d denseForm) shards(counts [2]int) [2][]string { return modelShards(counts) }

func (d denseForm) result(j *job, records []record) (*Result, error) {
	res := &Result{Out: j.out, Modules: len(d.f.Config.Modules), Captured: map[string]float64{}}
	res.Parameters.Base = j.plan.Parameters
	for _, r := range records {
		res.Parameters.Output += r.Report.Parameters
	}
	return res, nil
}

func (d denseForm) files(j *job, _ []record, shards map[string]manifestShard, index map[string]string) ([]namedFile, error) {
	files := []namedFile{{"config.json", d.f.Base.Config.Text}}
	if len(shards) > 1 {
		files = append(files, namedFile{indexName, shardIndex(shards, index)})
	}
	return j.carried(files)
}

func (d denseForm) produce(u *Unit) ([]output, report, error) {
	var outs []output
	rep := report{}
	if u.Action == ActionOwn {
		t, err := d.f.Tensor(smile.OwnName(d.expert, u.Name))
		if err != nil {
			return nil, rep, err
		}
		return []output{seal(streamBase, safetensors.Named{Name: u.Name, Tensor: t})}, report{Parameters: int64(t.Elements())}, nil
	}
	part := smile.Part{Rank: smile.Untouched}
	m := d.f.Config.Module(u.Name)
	if m != nil {
		parts, err := d.f.Parts(m)
		if err != nil {
			return nil, rep, err
		}
		part = parts[d.expert]
	}
	for _, name := range u.Tensors {
		t, err := d.f.Base.Tensor(name)
		if err != nil {
			return nil, rep, err
		}
		switch {
		case m == nil:
		case strings.HasSuffix(name, ".weight"):
			t, err = addDelta(t, part, m)
		case len(part.Bias.Data) > 0:
			t, err = addTo(t, part.Bias)
		}
		if err != nil {
			return nil, rep, fmt.Errorf("tensor %q: %w", name, err)
		}
		outs = append(outs, seal(streamBase, safetensors.Named{Name: name, Tensor: t}))
		rep.Parameters += int64(t.Elements())
	}
	if m != nil && len(u.Tensors) == 1 && len(part.Bias.Data) > 0 { // the base has no bias
		outs = append(outs, seal(streamBase, safetensors.Named{Name: m.Name + ".bias", Tensor: part.Bias}))
		rep.Parameters += int64(part.Bias.Elements())
	}
	return outs, rep, nil
}

// addDelta is W + US·Vt (or W + ΔW), rounded once to W's type.
func addDelta(w tensor.Tensor, p smile.Part, m *smile.Module) (tensor.Tensor, error) {
	if p.Rank == smile.Untouched || p.Rank == 0 {
		return w, nil
	}
	delta, _, _, err := reconstruct(p, m)
	if err != nil {
		return w, err
	}
	v, err := w.Float64()
	if err != nil {
		return w, err
	}
	for i, x := range delta.Data {
		if m.Transposed {
			i = i%m.In*m.Out + i/m.In
		}
		v[i] += float64(x)
	}
	return tensor.Tensor{DType: w.DType, Shape: w.Shape, Data: float64Bytes(v, w.DType)}, nil
}

// addTo is t + x, rounded once to t's type.
func addTo(t, x tensor.Tensor) (tensor.Tensor, error) {
	v, err := t.Float64()
	if err != nil {
		return t, err
	}
	d, err := x.Float64()
	if err != nil {
		return t, err
	}
	for i := range v {
		v[i] += d[i]
	}
	return tensor.Tensor{DType: t.DType, Shape: t.Shape, Data: float64Bytes(v, t.DType)}, nil
}

// ToLoRA writes one PEFT adapter for each expert of the fused model in dir, as
// out/<expert>. What is no linear layer (norms, heads of single experts) has no
// place in an adapter: the result's warnings say so.
func ToLoRA(ctx context.Context, fsys vfs.FS, dir, out string, workers int, progress Progress) ([]*Result, error) {
	f, err := OpenFused(fsys, dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	j := job{fs: fsys, out: out}
	work := workFolder(out)
	if err := j.prepare(work); err != nil {
		return nil, err
	}
	results, err := f.adapters(ctx, fsys, dir, filepath.Join(work, "adapters"), workers, progress)
	if err != nil {
		return nil, errors.Join(err, fsys.RemoveAll(work))
	}
	if err := vfs.Commit(fsys, filepath.Join(work, "adapters"), out); err != nil {
		return nil, errors.Join(err, fsys.RemoveAll(work))
	}
	for i, name := range f.Config.ExpertNames() {
		results[i].Out = filepath.Join(out, name)
	}
	return results, fsys.RemoveAll(work)
}

func (f *Fused) adapters(ctx context.Context, fsys vfs.FS, dir, to string, workers int, progress Progress) ([]*Result, error) {
	if err := fsys.RemoveAll(to); err != nil {
		return nil, err
	}
	if err := fsys.Mkdir(to); err != nil {
		return nil, err
	}
	var results []*Result
	for e, x := range f.Config.Experts {
		p, err := f.plan(1 << 62)
		if err != nil {
			return nil, err
		}
		p.Units = slices.DeleteFunc(p.Units, func(u Unit) bool {
			m := f.Config.Module(u.Name)
			return m == nil || m.Ranks[e] == smile.Untouched && !m.Bias
		})
		form := newAdapterForm(p, f.Config.Base, f.Base)
		form.biased = slices.ContainsFunc(p.Units, func(u Unit) bool { return f.Config.Module(u.Name).Bias })
		j, err := newJob(fsys, p, "lora "+x.Name, filepath.Join(to, x.Name), dir, form, func(u *Unit) ([]output, report, error) {
			m := f.Config.Module(u.Name)
			parts, err := f.Parts(m)
			if err != nil {
				return nil, report{}, err
			}
			return form.fromPart(m, parts[e])
		}, workers)
		if err != nil {
			return nil, err
		}
		j.plan.Carry, j.reserved = nil, form.reserve(p)
		res, err := j.run(ctx, progress)
		if err != nil {
			return nil, err
		}
		if own := f.own(e); len(own) > 0 {
			res.Warnings = append(res.Warnings, fmt.Sprintf("expert %s: %s has no place in an adapter", x.Name, strings.Join(own, ", ")))
		}
		results = append(results, res)
	}
	return results, nil
}

// ExtractLoRA writes the delta of one expert as a PEFT adapter, without a
// fusion. The plan must be for that one expert, with ranks by ExpertRank or
// Energy.
func ExtractLoRA(ctx context.Context, in *Inputs, opt Options, out string, workers int, progress Progress) (*Result, error) {
	if len(in.Experts) != 1 {
		return nil, fmt.Errorf("an adapter is extracted from one expert, not %d", len(in.Experts))
	}
	opt.RouterRank, opt.MaxShardSize = 1, 1<<62
	p, err := NewPlan(in, opt)
	if err != nil {
		return nil, err
	}
	if opt.Energy > 0 {
		r, err := Survey(ctx, in, p, workers, progress)
		if err != nil {
			return nil, err
		}
		opt.Energy, opt.Ranks = 0, r
		if p, err = NewPlan(in, opt); err != nil {
			return nil, err
		}
	}
	p.Carry = nil
	p.Units = slices.DeleteFunc(p.Units, func(u Unit) bool { return u.Action != ActionFuse })
	form := newAdapterForm(p, p.Base, in.Base)
	for _, u := range p.Units {
		x, ok := in.Experts[0].Lookup(u.Name + ".bias")
		b, has := in.Base.Lookup(u.Name + ".bias")
		form.biased = form.biased || ok && (!has || x.Shape[0] == b.Shape[0])
	}
	_, inner := p.concurrency(workers)
	w := worker{plan: p, in: in, workers: inner}
	j, err := newJob(in.FS, p, "extract", out, in.Base.Dir, form, func(u *Unit) ([]output, report, error) {
		d, err := in.Experts[0].Delta(u.Name, u.Transposed, w.workers)
		if err != nil {
			return nil, report{}, err
		}
		k := decomposed{bias: d.Bias}
		m := &smile.Module{Name: u.Name, In: u.In, Out: u.Out, Transposed: u.Transposed, RouterRank: 1, Ranks: []smile.Rank{smile.Untouched}}
		to := p.target(in.Experts[0].DType)
		if d.Touched() {
			m.Ranks[0] = u.Ranks[0]
			if m.Ranks[0] == smile.Dense {
				m.Ranks[0] = smile.Rank(min(u.In, u.Out))
			}
			if err := k.decompose(d, m.Ranks[0], u, w.workers); err != nil {
				return nil, report{}, fmt.Errorf("module %q: %w", u.Name, err)
			}
			m.Ranks[0] = min(m.Ranks[0], smile.Rank(k.numericalRank))
		}
		part := k.part(m, 0, dtype.F64) // rounded once, below
		outs, rep, err := form.fromPartAs(m, part, to)
		if d.Touched() {
			rep.Module = &fusedModule{Module: *m, Fidelity: []ExpertFidelity{k.fidelity(p.Experts[0].Name, m.Ranks[0])}}
		}
		return outs, rep, err
	}, workers)
	if err != nil {
		return nil, err
	}
	j.reserved = form.reserve(p)
	return j.run(ctx, progress)
}

// wholePart decomposes a delta that was kept whole, to its numerical rank.
func wholePart(delta linalg.Matrix, m *smile.Module) (smile.Part, error) {
	svd, err := linalg.Exact(delta, 1)
	if err != nil {
		return smile.Part{}, err
	}
	k := decomposed{s: svd.S, u: factor{narrow: svd.U}, vt: factor{narrow: svd.Vt}}
	r := smile.Rank(linalg.NumericalRank(svd.S, m.Out, m.In, linalg.EpsF32))
	return k.part(&smile.Module{In: m.In, Out: m.Out, RouterRank: 1, Ranks: []smile.Rank{r}}, 0, dtype.F64), nil
}
