package engine

import (
	"context"
	"fmt"

	"smelt/analysis"
	"smelt/dtype"
	"smelt/internal/kernel"
	"smelt/linalg"
	"smelt/smile"
	"smelt/taskvector"
	"smelt/tensor"
)

// AnalyzeOptions says what an analysis is to look at.
type AnalyzeOptions struct {
	Rank       int      // of experts; 0 means DefaultExpertRank
	RouterRank int      // 0 means DefaultRouterRank
	Exclude    []string // patterns of layers to leave out
}

// Analyze measures what the experts changed, from the weights alone, in one pass
// over the layers. Memory is bounded as a fusion's is: one dense delta at a time
// for each layer in work, an adapter's factors never multiplied out but for a
// few rows.
func Analyze(ctx context.Context, in *Inputs, opt AnalyzeOptions, workers int, progress Progress) (*analysis.Report, error) {
	p, err := NewPlan(in, Options{ExpertRank: opt.Rank, RouterRank: opt.RouterRank, Exclude: opt.Exclude})
	if err != nil {
		return nil, err
	}
	a := analyzer{worker: worker{plan: p, in: in}}
	a.report = &analysis.Report{
		Generator: "smelt " + Version,
		Base:      analysis.Base{Name: p.Base, ModelType: p.ModelType, Parameters: p.Parameters},
		Settings: analysis.Settings{
			Rank: p.Options.ExpertRank, RouterRank: p.Options.RouterRank, ScalingFactor: analysis.DefaultScalingFactor,
			Samples: analysis.DefaultSamples, ExactSize: analysis.DefaultExactSize, Depth: analysis.DefaultDepth,
		},
	}
	for i, e := range in.Experts {
		x := analysis.Expert{Name: e.Name, Kind: e.Kind, Parameters: p.Sources[i]}
		for _, u := range p.Units {
			x.Rank = max(x.Rank, e.AdapterRank(u.Name))
		}
		a.report.Experts = append(a.report.Experts, x)
	}
	for i := range p.Units {
		p.Units[i].Memory = a.memory(&p.Units[i])
	}
	var n int
	n, a.workers = p.concurrency(workers)
	progress.start("analyze", p.Totals().Read)
	defer progress.done()
	var layers []*analysis.Measured
	err = ordered(ctx, 0, len(p.Units), n, func(i int) (analyzed, error) {
		a.prefetch(i + n)
		return a.unit(&p.Units[i])
	}, func(i int, x analyzed) error {
		if x.layer != nil {
			layers = append(layers, x.layer)
		}
		a.report.Others = append(a.report.Others, x.others...)
		a.release(i)
		progress.add(p.Units[i].Read)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return a.report, analysis.Assemble(a.report, layers)
}

// analyzer measures the units of a plan.
type analyzer struct {
	worker
	report *analysis.Report
}

// analyzed is what one unit gave.
type analyzed struct {
	layer  *analysis.Measured // of a linear layer
	others []analysis.Other
}

// stretch is how many elements of each delta are compared at a time.
const stretch = 1 << 16

// memory bounds what measuring a unit takes beyond mapped files.
func (a *analyzer) memory(u *Unit) int64 {
	if u.Action != ActionFuse {
		return 0
	}
	keep := int64(min(max(a.plan.Options.ExpertRank, u.RouterRank), u.In, u.Out))
	triplets := int64(0)
	for _, e := range a.in.Experts {
		if _, ok := e.Covers(u.Name); ok {
			triplets += max(keep, int64(e.AdapterRank(u.Name)))
		}
	}
	dense := 4 * int64(u.In) * int64(u.Out)
	return 3*dense + analysis.Memory(u.Out, u.In, false) + triplets*(16*int64(u.In+u.Out)+16*triplets) + int64(len(a.in.Experts))*5*stretch
}

func (a *analyzer) unit(u *Unit) (x analyzed, err error) {
	switch u.Action {
	case ActionFuse:
		return a.layer(u)
	case ActionOwn:
		o := a.other(u.Name, u.Kind)
		o.Note = fmt.Sprintf("of expert %s alone: the base has none of this shape", a.in.Experts[u.Expert].Name)
		return analyzed{others: []analysis.Other{o}}, nil
	}
	o, changed, err := a.measureOther(u.Name, u.Kind)
	if err != nil || !changed {
		return x, err
	}
	return analyzed{others: []analysis.Other{o}}, nil
}

// other is an entry without figures.
func (a *analyzer) other(name, kind string) analysis.Other {
	n := len(a.in.Experts)
	o := analysis.Other{Name: name, Kind: kind, Energy: make([]float64, n), Relative: make([]analysis.Figure, n)}
	for i := range o.Relative {
		o.Relative[i] = analysis.None
	}
	return o
}

// measureOther measures what the experts changed in a tensor that is no linear
// layer.
func (a *analyzer) measureOther(name, kind string) (o analysis.Other, changed bool, err error) {
	o = a.other(name, kind)
	base, err := a.in.Base.Tensor(name)
	if err != nil || !base.DType.IsFloat() {
		return o, false, err
	}
	norm := -1.0
	for i, e := range a.in.Experts {
		x, ok, err := e.Tensor(name)
		if err != nil {
			return o, false, err
		}
		if !ok {
			continue
		}
		rep := report{}
		if x.Elements() != base.Elements() {
			if err := a.resized(name, i, x, base, &rep); err != nil {
				return o, false, err
			}
			o.Note = rep.Note
		} else {
			same, err := taskvector.Same(x, base)
			if err != nil {
				return o, false, fmt.Errorf("expert %s: tensor %q: %w", e.Name, name, err)
			}
			if same {
				e.Release(name)
				continue
			}
			stats := kernel.Diff(a.workers, kernel.Stored{DType: x.DType, Data: x.Data}, kernel.Stored{DType: base.DType, Data: base.Data})
			if stats.NonFinite > 0 {
				return o, false, fmt.Errorf("tensor %q: %d elements of expert %s or of the base are not finite: the checkpoint is broken", name, stats.NonFinite, e.Name)
			}
			note(&rep, i, stats.SumSquares)
		}
		e.Release(name)
		if norm < 0 {
			zeros := kernel.Stored{DType: base.DType, Data: make([]byte, len(base.Data))}
			norm = kernel.Diff(a.workers, kernel.Stored{DType: base.DType, Data: base.Data}, zeros).SumSquares
		}
		changed = true
		o.Energy[i] = rep.Changed[i]
		o.Relative[i] = analysis.RelativeChange(o.Energy[i], norm)
	}
	return o, changed, nil
}

// layer measures one linear layer.
func (a *analyzer) layer(u *Unit) (x analyzed, err error) {
	var b *analysis.Builder
	deltas := make([]*taskvector.LowRank, len(a.in.Experts)) // of adapters
	touched := make([]bool, len(a.in.Experts))
	biases := make([]float64, len(a.in.Experts))
	for i, e := range a.in.Experts {
		d, err := e.Delta(u.Name, u.Transposed, a.workers)
		if err != nil {
			return x, err
		}
		for _, v := range d.Bias {
			biases[i] += v * v
		}
		if !d.Touched() {
			e.Release(u.Tensors[0])
			continue
		}
		touched[i], deltas[i] = true, d.LowRank
		if b == nil {
			w, err := a.weight(u)
			if err != nil {
				return x, err
			}
			if b, err = analysis.NewBuilder(u.Name, w, len(a.in.Experts), a.report.Settings, seed(u.Name), a.workers); err != nil {
				return x, err
			}
		}
		switch {
		case d.Dense64 != nil:
			err = b.Dense64(i, *d.Dense64)
		case d.LowRank != nil:
			err = b.LowRank(i, d.LowRank.B, d.LowRank.A, d.LowRank.Scale)
		default:
			err = b.Dense(i, *d.Dense)
		}
		if err != nil {
			return x, fmt.Errorf("expert %s: module %q: %w", e.Name, u.Name, err)
		}
	}
	if b == nil {
		w, err := a.weight(u)
		if err != nil {
			return x, err
		}
		x.layer = analysis.Untouched(u.Name, u.Out, u.In, len(a.in.Experts), kernel.SumSquares(w.Data))
	} else {
		if b.Touched() > 1 {
			if err := a.compare(u, b, touched, deltas); err != nil {
				return x, err
			}
		}
		if x.layer, err = b.Finish(); err != nil {
			return x, fmt.Errorf("module %q: %w", u.Name, err)
		}
	}
	return x, a.biases(u, &x, biases, b != nil)
}

// biases enters what the experts changed in a layer's bias.
func (a *analyzer) biases(u *Unit, x *analyzed, energy []float64, touched bool) error {
	o := a.other(u.Name+".bias", "bias")
	norm := 0.0
	if len(u.Tensors) > 1 {
		t, err := a.in.Base.Tensor(u.Tensors[1])
		if err != nil {
			return err
		}
		v, err := t.Float64()
		if err != nil {
			return err
		}
		norm = kernel.Dot64(v, v)
	}
	changed := false
	for i, e := range energy {
		if e > 0 {
			changed = true
			x.layer.Bias(i, e)
			o.Fused = touched || len(a.in.Experts) == 1
			o.Energy[i], o.Relative[i] = e, analysis.RelativeChange(e, norm)
		}
	}
	if changed {
		x.others = append(x.others, o)
	}
	return nil
}

// weight is the base's weight as [out, in].
func (a *analyzer) weight(u *Unit) (linalg.Matrix, error) {
	t, err := a.in.Base.Tensor(u.Tensors[0])
	if err != nil {
		return linalg.Matrix{}, err
	}
	v, err := t.Float32()
	if err != nil {
		return linalg.Matrix{}, fmt.Errorf("base: tensor %q: %w", u.Tensors[0], err)
	}
	if !u.Transposed {
		return kernel.Of(u.Out, u.In, v), nil
	}
	m := kernel.New(u.Out, u.In)
	for j := range u.In {
		for i := range u.Out {
			m.Data[i*u.In+j] = v[j*u.Out+i]
		}
	}
	return m, nil
}

// compare goes through the elements of all deltas of a layer together, in the
// order in which the base stores them.
func (a *analyzer) compare(u *Unit, b *analysis.Builder, touched []bool, factors []*taskvector.LowRank) error {
	base, err := a.in.Base.Tensor(u.Tensors[0])
	if err != nil {
		return err
	}
	n := len(touched)
	stored := make([]tensor.Tensor, n)
	for i, e := range a.in.Experts {
		if touched[i] && factors[i] == nil {
			if stored[i], _, err = e.Tensor(u.Tensors[0]); err != nil {
				return err
			}
		}
	}
	height, width := base.Shape[0], base.Shape[1]
	step := max(1, stretch/width)
	buffers, rows := make([][]float32, n), make([][]float32, n)
	for lo := 0; lo < height; lo += step {
		hi := min(height, lo+step)
		for i := range n {
			if !touched[i] {
				continue
			}
			if buffers[i] == nil {
				buffers[i] = make([]float32, min(step, height)*width)
			}
			rows[i] = buffers[i][:(hi-lo)*width]
			if f := factors[i]; f != nil {
				product(kernel.Of(hi-lo, width, rows[i]), f, u.Transposed, lo, hi, a.workers)
				continue
			}
			difference(rows[i], smile.Rows(stored[i], lo, hi), smile.Rows(base, lo, hi), a.workers)
		}
		b.Stretch(rows)
	}
	for i, e := range a.in.Experts {
		if touched[i] {
			e.Release(u.Tensors[0])
		}
	}
	return nil
}

// product computes rows [lo,hi) of a delta of low rank as the base stores it.
func product(dst linalg.Matrix, f *taskvector.LowRank, transposed bool, lo, hi, workers int) {
	if transposed {
		kernel.Gemm(workers, true, true, float32(f.Scale), f.A.Slice(0, f.A.Rows, lo, hi), f.B, 0, dst)
		return
	}
	kernel.Gemm(workers, false, false, float32(f.Scale), f.B.Slice(lo, hi, 0, f.B.Cols), f.A, 0, dst)
}

// difference is x − b, as a taskvector.Delta has it.
func difference(dst []float32, x, b tensor.Tensor, workers int) {
	xs, bs := kernel.Stored{DType: x.DType, Data: x.Data}, kernel.Stored{DType: b.DType, Data: b.Data}
	if x.DType == dtype.F64 && b.DType == dtype.F64 {
		wide := make([]float64, len(dst))
		kernel.SubTo64(workers, wide, xs, bs)
		kernel.F64ToF32(dst, wide)
		return
	}
	kernel.SubTo(workers, dst, xs, bs)
}
