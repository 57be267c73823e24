package engine

import (
	"fmt"
	"hash/fnv"
	"math"
	"sync/atomic"

	"smelt/dtype"
	"smelt/internal/kernel"
	"smelt/linalg"
	"smelt/safetensors"
	"smelt/smile"
	"smelt/taskvector"
	"smelt/tensor"
)

// report is what a unit found out, as the journal and the manifest need it.
type report struct {
	Module     *fusedModule    `json:"module,omitempty"`  // of a layer that is fused
	Changed    map[int]float64 `json:"changed,omitempty"` // expert to ‖Δ‖² of what is not fused
	Note       string          `json:"note,omitempty"`
	Parameters int64           `json:"parameters"` // beyond the base's
}

// fusedModule is what became of one linear layer.
type fusedModule struct {
	smile.Module
	Fidelity  []ExpertFidelity `json:"fidelity"`
	Uncertain []string         `json:"uncertain,omitempty"` // experts whose certificate misses its tolerance
}

// worker computes units of a plan.
type worker struct {
	plan    *Plan
	in      *Inputs
	workers int    // inside one unit
	ahead   *ahead // may be nil
	crew    *crew  // may be nil
}

// crew shares workers among the units under way: the last ones have those
// of the units that have ended.
type crew struct {
	workers int
	units   atomic.Int32
}

// inner is the number of workers of one unit at this moment.
func (w *worker) inner() int {
	if w.crew == nil {
		return w.workers
	}
	return max(w.workers, w.crew.workers/max(1, int(w.crew.units.Load())))
}

// run computes one unit: the tensors to be written, in file order, and the
// report. Inputs are let go of when they have been read.
func (w *worker) run(u *Unit) ([]output, report, error) {
	switch u.Action {
	case ActionFuse:
		return w.fuse(u)
	case ActionOwn:
		return w.own(u)
	}
	return w.copyTensor(u)
}

// own stores a tensor that the base lacks, under the expert's index.
func (w *worker) own(u *Unit) ([]output, report, error) {
	t, ok, err := w.in.Experts[u.Expert].Tensor(u.Name)
	if err != nil || !ok {
		return nil, report{}, fmt.Errorf("expert %s: tensor %q: cannot be read: %v", w.plan.Experts[u.Expert].Name, u.Name, err)
	}
	t, err = w.store(t)
	if err != nil {
		return nil, report{}, err
	}
	return []output{seal(streamExperts, safetensors.Named{Name: smile.OwnName(u.Expert, u.Name), Tensor: t})},
		report{Parameters: int64(t.Elements())}, nil
}

// copyTensor stores a tensor of the base as it is, or the mean over all
// experts, and measures what the experts changed in it.
func (w *worker) copyTensor(u *Unit) ([]output, report, error) {
	base, err := w.in.Base.Tensor(u.Name)
	if err != nil {
		return nil, report{}, err
	}
	rep := report{}
	out, err := w.others(u.Name, base, &rep)
	if err != nil {
		return nil, report{}, err
	}
	return []output{out}, rep, nil
}

// others treats a tensor of the base that is not fused as Options.Others says
// and notes in rep what the experts changed in it.
func (w *worker) others(name string, base tensor.Tensor, rep *report) (output, error) {
	average := w.plan.Options.Others == OthersAverage && base.DType.IsFloat()
	var sum []float64
	for i, e := range w.in.Experts {
		x, ok, err := e.Tensor(name)
		if err != nil {
			return output{}, err
		}
		if !ok || !base.DType.IsFloat() {
			continue
		}
		if x.Elements() != base.Elements() {
			if err := w.resized(name, i, x, base, rep); err != nil {
				return output{}, err
			}
			continue
		}
		same, err := taskvector.Same(x, base)
		if err != nil {
			return output{}, fmt.Errorf("expert %s: tensor %q: %w", e.Name, name, err)
		}
		if same {
			w.letGo(input{i, name})
			continue
		}
		stats := kernel.Diff(w.inner(), kernel.Stored{DType: x.DType, Data: x.Data}, kernel.Stored{DType: base.DType, Data: base.Data})
		if stats.NonFinite > 0 {
			return output{}, fmt.Errorf("tensor %q: %d elements of expert %s or of the base are not finite: the checkpoint is broken", name, stats.NonFinite, e.Name)
		}
		note(rep, i, stats.SumSquares)
		if average {
			v, err := x.Float64()
			if err != nil {
				return output{}, err
			}
			b, err := base.Float64()
			if err != nil {
				return output{}, err
			}
			if sum == nil {
				sum = make([]float64, len(b))
			}
			for j := range v {
				sum[j] += v[j] - b[j]
			}
		}
		w.letGo(input{i, name})
	}
	if sum != nil {
		b, err := base.Float64()
		if err != nil {
			return output{}, err
		}
		for j := range sum {
			sum[j] = b[j] + sum[j]/float64(len(w.in.Experts))
		}
		to := w.plan.target(base.DType)
		mean := tensor.Tensor{DType: to, Shape: base.Shape, Data: float64Bytes(sum, to)}
		return seal(streamBase, safetensors.Named{Name: name, Tensor: mean}), nil
	}
	t, err := w.store(base)
	if err != nil {
		return output{}, fmt.Errorf("tensor %q: %w", name, err)
	}
	return seal(streamBase, safetensors.Named{Name: name, Tensor: t}), nil
}

// resized measures the change in the rows that base and expert share.
func (w *worker) resized(name string, i int, x, base tensor.Tensor, rep *report) error {
	rows := min(x.Shape[0], base.Shape[0])
	if len(x.Shape) != 2 || len(base.Shape) != 2 || x.Shape[1] != base.Shape[1] {
		rep.Note = "of another shape in some expert: kept with the expert"
		note(rep, i, 0)
		return nil
	}
	xs, bs := smile.Rows(x, 0, rows), smile.Rows(base, 0, rows)
	stats := kernel.Diff(w.inner(), kernel.Stored{DType: x.DType, Data: xs.Data}, kernel.Stored{DType: base.DType, Data: bs.Data})
	if stats.NonFinite > 0 {
		return fmt.Errorf("tensor %q: %d elements of expert %s or of the base are not finite: the checkpoint is broken", name, stats.NonFinite, w.plan.Experts[i].Name)
	}
	rep.Note = "of another number of rows in some expert: measured on the rows that both have"
	note(rep, i, stats.SumSquares)
	return nil
}

func note(rep *report, expert int, energy float64) {
	if rep.Changed == nil {
		rep.Changed = map[int]float64{}
	}
	rep.Changed[expert] += energy
}

// store brings a tensor to the type of the output, rounding once.
func (w *worker) store(t tensor.Tensor) (tensor.Tensor, error) {
	to := w.plan.target(t.DType)
	if to == t.DType {
		return t, nil
	}
	v, err := t.Float64()
	if err != nil {
		return t, err
	}
	return tensor.Tensor{DType: to, Shape: t.Shape, Data: float64Bytes(v, to)}, nil
}

func float64Bytes(v []float64, d dtype.DType) []byte {
	data := make([]byte, len(v)*d.Size())
	dtype.FromFloat64(data, v, d)
	return data
}

// fuse makes the experts of one linear layer.
func (w *worker) fuse(u *Unit) ([]output, report, error) {
	rep := report{}
	weight, err := w.in.Base.Tensor(u.Tensors[0])
	if err != nil {
		return nil, rep, err
	}
	to := w.plan.target(weight.DType)
	f := &fusedModule{Module: smile.Module{
		Name: u.Name, In: u.In, Out: u.Out, Transposed: u.Transposed, RouterRank: u.RouterRank,
		Ranks: make([]smile.Rank, len(w.in.Experts)),
	}}
	kept := make([]decomposed, len(w.in.Experts))
	touched, biased := 0, 0
	for i, e := range w.in.Experts {
		f.Ranks[i] = smile.Untouched
		d, err := e.Delta(u.Name, u.Transposed, w.inner())
		if err != nil {
			return nil, rep, err
		}
		if d.Bias != nil {
			kept[i].bias = d.Bias
			biased++
		}
		planned := w.plan.Options.Ranks != nil
		if planned && d.Touched() != (u.Ranks[i] != smile.Untouched) {
			return nil, rep, fmt.Errorf("module %q: the rank plan was made for another expert %s: survey again", u.Name, e.Name)
		}
		if d.Touched() {
			touched++
			if f.Ranks[i] = u.Ranks[i]; f.Ranks[i] != smile.Dense {
				f.Ranks[i] = min(f.Ranks[i], smile.Rank(min(u.In, u.Out)))
			}
			if err := kept[i].decompose(d, f.Ranks[i], u, w.inner()); err != nil {
				return nil, rep, fmt.Errorf("expert %s: module %q: %w", e.Name, u.Name, err)
			}
			f.RouterRank = min(f.RouterRank, kept[i].numericalRank)
			f.Fidelity = append(f.Fidelity, kept[i].fidelity(e.Name, f.Ranks[i]))
			if !kept[i].certified && f.Ranks[i] != smile.Dense {
				f.Uncertain = append(f.Uncertain, e.Name)
			}
			if f.Ranks[i] != smile.Dense {
				d.Free()
			}
		}
		w.letGo(input{i, u.Tensors[0]})
	}
	if touched == 0 && (biased == 0 || len(kept) > 1) {
		outs, err := w.unfused(u, &rep)
		return outs, rep, err
	}
	if touched == 0 {
		f.RouterRank = 0
	}
	f.Bias = biased > 0
	parts := make([]smile.Part, len(kept))
	for i := range kept {
		parts[i] = kept[i].part(&f.Module, i, to)
	}
	tensors, err := f.Join(parts)
	if err != nil {
		return nil, rep, err
	}
	var outs []output
	for _, name := range u.Tensors {
		t, err := w.in.Base.Tensor(name)
		if err != nil {
			return nil, rep, err
		}
		if t, err = w.store(t); err != nil {
			return nil, rep, fmt.Errorf("tensor %q: %w", name, err)
		}
		outs = append(outs, seal(streamBase, safetensors.Named{Name: name, Tensor: t}))
	}
	for _, t := range tensors {
		outs = append(outs, seal(streamExperts, t))
		rep.Parameters += int64(t.Elements())
	}
	rep.Module = f
	return outs, rep, nil
}

// unfused stores a linear layer whose weight nobody touched.
func (w *worker) unfused(u *Unit, rep *report) ([]output, error) {
	var outs []output
	for _, name := range u.Tensors {
		base, err := w.in.Base.Tensor(name)
		if err != nil {
			return nil, err
		}
		o, err := w.others(name, base, rep)
		if err != nil {
			return nil, err
		}
		outs = append(outs, o)
	}
	return outs, nil
}

// decomposed is an expert's delta of one module, taken apart.
type decomposed struct {
	s             []float64
	u, vt         factor
	dense         *taskvector.Delta // for smile.Dense
	bias          []float64
	energy        float64
	bound         float64
	numericalRank int
	certified     bool
}

// factor is U or Vt, in whichever precision it was computed.
type factor struct {
	narrow linalg.Matrix
	wide   *linalg.Matrix64
}

// row copies the first elements of row i.
func (f factor) row(i int, dst []float64) {
	if f.wide != nil {
		copy(dst, f.wide.Row(i))
		return
	}
	for j, v := range f.narrow.Row(i)[:len(dst)] {
		dst[j] = float64(v)
	}
}

// seed is the random start of a module's decomposition: it depends on the
// module's name alone, so that neither order nor number of experts nor workers
// change a byte.
func seed(module string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(module))
	return h.Sum64()
}

// decompose finds the leading triplets of a delta: as many as its rank and the
// router ask for.
func (k *decomposed) decompose(d *taskvector.Delta, rank smile.Rank, u *Unit, workers int) error {
	want := max(int(rank), u.RouterRank)
	if rank == smile.Dense {
		want *= 2 // nothing but the router is kept: its last vectors converge late
	}
	want = min(want, u.In, u.Out)
	if d.Dense64 != nil {
		svd, err := linalg.Exact64(*d.Dense64, workers)
		if err != nil {
			return err
		}
		k.s, k.u, k.vt, k.energy = svd.S[:want], factor{wide: &svd.U}, factor{wide: &svd.Vt}, svd.Energy
		k.numericalRank = linalg.NumericalRank(svd.S, u.Out, u.In, linalg.EpsF64)
		k.bound, k.certified = k.captured(rank), true
	} else {
		svd, err := singular(d, want, u.RouterRank, seed(u.Name), workers)
		if err != nil {
			return err
		}
		k.s, k.u, k.vt, k.energy = svd.S[:min(want, len(svd.S))], factor{narrow: svd.U}, factor{narrow: svd.Vt}, svd.Energy
		k.numericalRank = linalg.NumericalRank(svd.S, u.Out, u.In, linalg.EpsF32)
		k.certified = svd.Certificate.Met
		// The bound is for the rank that was computed; for a lower one it
		// loses at least the values in between.
		k.bound = svd.Certificate.Bound - (svd.Captured - k.captured(rank))
	}
	if rank == smile.Dense {
		k.dense = d
	}
	if k.numericalRank == 0 {
		return fmt.Errorf("the delta has no singular value above rounding: energy %g", k.energy)
	}
	return nil
}

// singular decomposes a delta: exactly from an adapter's factors, otherwise
// truncated.
func singular(d *taskvector.Delta, rank, router int, seed uint64, workers int) (linalg.SVD, error) {
	if l := d.LowRank; l != nil {
		return linalg.LowRank(l.B, l.A, l.Scale, workers)
	}
	return linalg.Truncate(*d.Dense, linalg.Options{Rank: rank, RouterRank: router, Energy: d.Energy, Seed: seed, Workers: workers})
}

// captured is the energy of the leading triplets that rank r keeps.
func (k *decomposed) captured(r smile.Rank) float64 {
	if r == smile.Dense {
		return k.energy
	}
	return smile.Spectrum{Sigma: k.s, Energy: k.energy}.Captured(r)
}

func (k *decomposed) fidelity(name string, r smile.Rank) ExpertFidelity {
	captured := k.captured(r)
	bound := math.Max(math.Min(k.bound, k.energy), captured)
	if r == smile.Dense {
		bound = k.energy
	}
	return ExpertFidelity{Expert: name, Energy: k.energy, Captured: captured, Bound: bound}
}

// part rounds what module m keeps of expert e to type d. Rows and columns
// beyond the rank of an adapter are zeros.
func (k *decomposed) part(m *smile.Module, e int, d dtype.DType) smile.Part {
	p := smile.Part{Rank: m.Ranks[e]}
	row := make([]float64, max(m.In, int(p.Rank)))
	if rows := m.Rows(e); rows > 0 {
		p.Vt = tensor.Tensor{DType: d, Shape: []int{rows, m.In}, Data: make([]byte, rows*m.In*d.Size())}
		for i := range min(rows, len(k.s)) {
			k.vt.row(i, row[:m.In])
			dtype.FromFloat64(p.Vt.Data[i*m.In*d.Size():(i+1)*m.In*d.Size()], row[:m.In], d)
		}
	}
	if r := int(p.Rank); r > 0 {
		p.US = tensor.Tensor{DType: d, Shape: []int{m.Out, r}, Data: make([]byte, m.Out*r*d.Size())}
		n := min(r, len(k.s))
		for i := range m.Out {
			k.u.row(i, row[:n])
			for j, s := range k.s[:n] {
				row[j] *= s
			}
			dtype.FromFloat64(p.US.Data[i*r*d.Size():(i*r+n)*d.Size()], row[:n], d)
		}
	}
	if p.Rank == smile.Dense {
		data := make([]byte, m.Out*m.In*d.Size())
		switch {
		case k.dense.Dense64 != nil:
			dtype.FromFloat64(data, k.dense.Dense64.Data, d)
		case k.dense.Dense != nil:
			row := m.In * d.Size()
			for i := range m.Out {
				dtype.FromFloat32(data[i*row:(i+1)*row], k.dense.Dense.Row(i), d)
			}
		default:
			dtype.FromFloat32(data, k.dense.LowRank.Product().Data, d)
		}
		p.Dense = tensor.Tensor{DType: d, Shape: []int{m.Out, m.In}, Data: data}
	}
	if k.bias != nil {
		p.Bias = tensor.Tensor{DType: d, Shape: []int{m.Out}, Data: float64Bytes(k.bias, d)}
	}
	return p
}
