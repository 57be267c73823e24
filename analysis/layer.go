package analysis

import (
	"fmt"

	"smelt/internal/kernel"
	"smelt/linalg"
	"smelt/smile"
)

// Defaults of [Settings].
const (
	DefaultScalingFactor = 0.3 // λ of task arithmetic, as its paper chooses it for eight tasks
	DefaultSamples       = 512
	DefaultExactSize     = 2048
	DefaultDepth         = 256
)

// smallSize is the largest p up to which a delta is decomposed in float64 once,
// for spectrum and vectors alike.
const smallSize = 256

// Measured is one layer, with what sums over layers and advice need beyond it.
type Measured struct {
	Layer   Layer
	Inner   *Inner
	Spectra []smile.Spectrum // by expert; zero where untouched
	beyond  []float64        // by expert: energy that Settings.Rank leaves out
	biased  bool
}

// Builder takes one layer apart: the base's weight first, then each expert's
// delta, then all deltas together in stretches.
type Builder struct {
	set      Settings
	m        *Measured
	base     *Subspaces
	factored []Factored
	seed     uint64
	workers  int
}

// NewBuilder begins a layer of the base whose weight is w [m,n], which is only
// read and must stay as it is until Finish, for a number of experts. The random numbers of the forecast and of
// decompositions follow from seed.
func NewBuilder(module string, w linalg.Matrix, experts int, set Settings, seed uint64, workers int) (*Builder, error) {
	base, err := zonesOnly(w, workers)
	if err != nil {
		return nil, fmt.Errorf("base: tensor %q: %w", module+".weight", err)
	}
	kind, tower, depth := place(module)
	ranks := Grid(min(w.Rows, w.Cols))
	b := &Builder{set: set, base: base, seed: seed, workers: workers}
	b.m = &Measured{
		Layer: Layer{
			Name: module, Kind: kind, Tower: tower, Depth: depth, In: w.Cols, Out: w.Rows,
			Base: base.describe(ranks), Ranks: ranks, Experts: make([]*Delta, experts),
		},
		Inner: NewInner(experts), Spectra: make([]smile.Spectrum, experts), beyond: make([]float64, experts),
	}
	return b, nil
}

// keep is how many triplets of a delta are wanted: for the router, and for the
// forecast's model of the inputs.
func (b *Builder) keep() int {
	return min(max(b.set.Rank, b.set.RouterRank), b.m.Layer.In, b.m.Layer.Out)
}

// Dense takes the delta of expert e as a whole matrix.
func (b *Builder) Dense(e int, d linalg.Matrix) error {
	p := min(d.Rows, d.Cols)
	var svd linalg.SVD
	var sigma []float64
	var err error
	switch {
	case p <= smallSize:
		svd, err = linalg.Exact(d, b.workers)
		sigma = svd.S
	case p <= b.set.ExactSize:
		svd, sigma, err = linalg.Leading(d, b.keep(), b.workers)
	default:
		svd, err = linalg.Truncate(d, linalg.Options{Rank: max(b.set.Depth, b.keep()), RouterRank: b.set.RouterRank, Seed: b.seed, Workers: b.workers})
		sigma = svd.S
		svd = leading(svd, b.keep())
	}
	if err != nil {
		return err
	}
	zones, err := b.base.Zones(d, b.workers)
	if err != nil {
		return err
	}
	spectrum := SpectrumOf(sigma, svd.Energy, d.Rows, d.Cols, linalg.EpsF32, len(sigma) == p)
	return b.add(e, Factored{Expert: e, SVD: svd}, spectrum, zones)
}

// leading is a copy of the first k triplets.
func leading(d linalg.SVD, k int) linalg.SVD {
	if len(d.S) <= k {
		return d
	}
	u, vt := kernel.New(d.U.Rows, k), kernel.New(k, d.Vt.Cols)
	for i := range u.Rows {
		copy(u.Row(i), d.U.Row(i))
	}
	for i := range k {
		copy(vt.Row(i), d.Vt.Row(i))
	}
	return linalg.SVD{U: u, S: d.S[:k:k], Vt: vt, Energy: d.Energy}
}

// Dense64 takes the delta of expert e in float64.
func (b *Builder) Dense64(e int, d linalg.Matrix64) error {
	wide, err := linalg.Exact64(d, b.workers)
	if err != nil {
		return err
	}
	narrow := func(a linalg.Matrix64) linalg.Matrix {
		m := kernel.New(a.Rows, a.Cols)
		for i := range a.Rows {
			kernel.F64ToF32(m.Row(i), a.Row(i))
		}
		return m
	}
	svd := linalg.SVD{U: narrow(wide.U), S: wide.S, Vt: narrow(wide.Vt), Energy: wide.Energy}
	zones, err := b.base.Zones(narrow(d), b.workers)
	if err != nil {
		return err
	}
	spectrum := SpectrumOf(wide.S, wide.Energy, d.Rows, d.Cols, linalg.EpsF64, true)
	return b.add(e, Factored{Expert: e, SVD: svd}, spectrum, zones)
}

// LowRank takes the delta of expert e as factors, scale·B·A.
func (b *Builder) LowRank(e int, left, right linalg.Matrix, scale float64) error {
	svd, err := linalg.LowRank(left, right, scale, b.workers)
	if err != nil {
		return err
	}
	zones, err := b.base.ZonesOfFactors(svd, b.workers)
	if err != nil {
		return err
	}
	spectrum := SpectrumOf(svd.S, svd.Energy, left.Rows, right.Cols, linalg.EpsF32, true)
	return b.add(e, Factored{Expert: e, SVD: svd, Whole: true}, spectrum, zones)
}

// add stores what is known of one delta.
func (b *Builder) add(e int, f Factored, s smile.Spectrum, z Zones) error {
	if len(s.Sigma) == 0 {
		return fmt.Errorf("the delta has no singular value above rounding: energy %g", s.Energy)
	}
	k := min(len(s.Sigma), len(f.S))
	if !f.Whole {
		k = min(k, b.keep())
	}
	f.S, f.U, f.Vt = f.S[:k], f.U.Slice(0, f.U.Rows, 0, k), f.Vt.Slice(0, k, 0, f.Vt.Cols)
	l := &b.m.Layer
	d := &Delta{Zones: z}
	d.Describe(s, min(l.In, l.Out))
	d.Relative = root(ratio(d.Energy, l.Base.Energy))
	l.Experts[e] = d
	b.m.Spectra[e] = s
	b.m.beyond[e] = max(0, s.Energy-s.Captured(smile.Rank(b.set.Rank)))
	if s.Complete && len(s.Sigma) <= b.set.Rank {
		b.m.beyond[e] = 0
	}
	b.factored = append(b.factored, f)
	return nil
}

// Touched reports how many experts touched the layer so far.
func (b *Builder) Touched() int { return len(b.factored) }

// Stretch takes the same elements of every delta, nil for an expert that did not
// touch the layer: all elements, once, in any cut.
func (b *Builder) Stretch(rows [][]float32) {
	whole := make([]bool, b.m.Inner.n)
	for _, f := range b.factored {
		whole[f.Expert] = f.Whole
	}
	b.m.Inner.Add(rows, func(i, j int) bool { return !whole[i] || !whole[j] }, b.workers)
}

// Bias tells ‖Δb‖² of expert e.
func (m *Measured) Bias(e int, energy float64) {
	m.biased = true
	if d := m.Layer.Experts[e]; d != nil {
		d.Bias = energy
	}
}

// Finish compares the deltas.
func (b *Builder) Finish() (*Measured, error) {
	l, e := &b.m.Layer, b.m.Inner.n
	l.Pairs = make([]*LayerPair, Pairs(e))
	if len(b.factored) == 0 {
		return nil, fmt.Errorf("layer %s: no delta was given", l.Name)
	}
	g := b.set.RouterRank
	for _, f := range b.factored {
		g = min(g, len(f.S))
	}
	l.RouterRank = g
	frames := NewFrames(b.factored, l.Out, l.In, b.workers)
	frames.Inner(b.m.Inner)
	for _, f := range b.factored {
		if len(b.factored) == 1 { // no stretches were asked for
			b.m.Inner.Set(f.Expert, f.Expert, l.Experts[f.Expert].Energy)
		}
	}
	l.Losses = losses(b.m.Inner, b.m.beyond, b.set.ScalingFactor)
	if len(b.factored) < 2 {
		return b.m, nil
	}
	var err error
	if l.Pairs, err = frames.Pairs(b.m.Inner, e, g, b.workers); err != nil {
		return nil, err
	}
	l.Baseline = NewBaseline(l.Out, l.In, g)
	l.Confusion = frames.Forecast(e, g, b.set.Samples, b.seed, b.workers)
	return b.m, nil
}

// NewBaseline is what chance gives in a layer [m,n] for subspaces of dimension
// g and for deltas without direction.
func NewBaseline(m, n, g int) *Baseline {
	b := &Baseline{}
	b.Left, b.LeftDeviation = RandomOverlap(g, g, m)
	b.Right, b.RightDeviation = RandomOverlap(g, g, n)
	b.Cosine = cosineDeviation(m, n)
	return b
}

// Untouched is a layer [m,n] that no expert changed: of the base's weight only
// its energy is told.
func Untouched(module string, m, n, experts int, energy float64) *Measured {
	kind, tower, depth := place(module)
	x := &Measured{
		Layer: Layer{
			Name: module, Kind: kind, Tower: tower, Depth: depth, In: n, Out: m, Ranks: Grid(min(m, n)),
			Base: BaseLayer{Energy: energy, Sigma: []float64{}}, Experts: make([]*Delta, experts), Pairs: make([]*LayerPair, Pairs(experts)),
		},
		Inner: NewInner(experts), Spectra: make([]smile.Spectrum, experts), beyond: make([]float64, experts),
	}
	x.Layer.Losses = losses(x.Inner, x.beyond, 0)
	return x
}
