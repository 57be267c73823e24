package smile

import (
	"fmt"
	"math"

	"smelt/internal/kernel"
	"smelt/internal/parallel"
	"smelt/nn"
	"smelt/tensor"
)

// Linear is a fused linear layer: the base and, for every token, the experts
// that the router selects.
//
//	score[n,e] = ‖Vtₑ[:g]·xₙ‖₂, the top TopK are selected, λ = softmax over them
//	y = x·W0ᵀ + b0 + Σ λₑ·(Vtₑ[:rₑ]·x · USₑᵀ + Δbₑ)
//
// There are two ways to compute it, the same within rounding. Stacked: all
// down-projections at once, those not selected set to zero, one product with
// us. Grouped: the router rows of all experts, then the tokens sorted by expert,
// each group with its own expert. The way that multiplies less is chosen when
// the layer is made.
type Linear struct {
	module  string
	base    *nn.Dense
	topK    int
	g       int // router rank
	grouped bool
	experts []linearExpert // [E]
	vt      kernel.Weight  // stacked: [ΣR, in]
	us      kernel.Weight  // stacked: [out, Σr]
	router  kernel.Weight  // grouped: [touched·g, in], the first g rows of each block of vt
	whole   bool           // some expert is kept whole
	biased  bool           // some expert has a bias
}

// linearExpert is one expert of a Linear.
type linearExpert struct {
	touched bool
	rank    int           // r_e; 0 for an expert kept whole
	score   int           // where its g scores begin in a row of x·vtᵀ or x·routerᵀ
	column  int           // stacked: its first column of us
	rest    kernel.Weight // grouped: rows g…r_e of its vt, [r_e-g, in]
	us      kernel.Weight // grouped: [out, r_e]
	dense   kernel.Weight // [out, in] where it is kept whole
	bias    []float32     // [out], or nil
	sum     []float32     // the base's bias plus bias, or nil
}

// NewLinear returns the fused form of base, reading module m's tensors through
// get (ok is false where the file has none). Weights stay as they are stored;
// the grouped way keeps its own copies of us and of the router's rows, in the
// stored dtype, laid out for it.
func NewLinear(m *Module, topK int, base *nn.Dense, get func(name string) (t tensor.Tensor, ok bool, err error)) (*Linear, error) {
	if base.In() != m.In || base.Out() != m.Out {
		return nil, fmt.Errorf("smile: module %q: the base weight is [%d,%d], the config says [%d,%d]", m.Name, base.Out(), base.In(), m.Out, m.In)
	}
	parts, err := m.Split(get)
	if err != nil {
		return nil, err
	}
	l := &Linear{module: m.Name, base: base, topK: topK, g: m.RouterRank}
	stacked, grouped := m.work(topK)
	l.grouped = grouped < stacked
	return l, l.load(m, parts, get)
}

// work counts the multiplications per token of the two ways; an untouched
// expert costs nothing, and tokens are taken to spread evenly over the others.
func (m *Module) work(topK int) (stacked, grouped int) {
	touched, selected := 0, 0
	for e, r := range m.Ranks {
		if r == Untouched {
			continue
		}
		touched++
		stacked += m.Rows(e) * m.In
		if r > 0 {
			stacked += int(r) * m.Out
			selected += max(int(r)-m.RouterRank, 0)*m.In + int(r)*m.Out
		}
	}
	if touched > 0 {
		grouped = touched*m.RouterRank*m.In + min(topK, touched)*selected/touched
	}
	return stacked, grouped
}

// load fills in the experts in the layout of the chosen way.
func (l *Linear) load(m *Module, parts []Part, get func(string) (tensor.Tensor, bool, error)) (err error) {
	l.experts = make([]linearExpert, len(parts))
	row, col := 0, 0
	for i := range parts {
		part, e := &parts[i], &l.experts[i]
		e.touched = part.Rank != Untouched
		e.rank = max(int(part.Rank), 0)
		if e.score, e.column = row, col; l.grouped {
			e.score = l.router.Rows
		}
		row, col = row+m.Rows(i), col+e.rank
		if len(part.Bias.Data) > 0 {
			if e.bias, err = part.Bias.Float32(); err != nil {
				return fmt.Errorf("smile: %s: %w", BiasName(m.Name), err)
			}
			l.biased = true
		}
		e.sum = added(l.base.Bias, e.bias)
		if part.Rank == Dense {
			if e.dense, err = nn.Weight(part.Dense); err != nil {
				return fmt.Errorf("smile: %s: %w", DenseName(m.Name, i), err)
			}
			l.whole = true
		}
		if !l.grouped || !e.touched {
			continue
		}
		vt, err := nn.Weight(part.Vt)
		if err != nil {
			return fmt.Errorf("smile: %s: %w", VtName(m.Name), err)
		}
		l.router.Cols, l.router.DType = vt.Cols, vt.DType
		l.router.Rows += l.g
		l.router.Data = append(l.router.Data, vt.Slice(0, l.g).Data...)
		e.rest = vt.Slice(min(l.g, vt.Rows), max(e.rank, min(l.g, vt.Rows)))
		if e.rank > 0 {
			if e.us, err = nn.Weight(part.US); err != nil {
				return fmt.Errorf("smile: %s: %w", USName(m.Name), err)
			}
		}
	}
	if l.grouped {
		return nil
	}
	if l.vt, err = whole(VtName(m.Name), row, get); err != nil {
		return err
	}
	l.us, err = whole(USName(m.Name), col, get)
	return err
}

// added returns a + b; nil stands for zeros.
func added(a, b []float32) []float32 {
	if a == nil || b == nil {
		if a == nil {
			return b
		}
		return a
	}
	sum := make([]float32, len(a))
	kernel.Add(sum, a, b)
	return sum
}

// whole reads a tensor of which Split has checked the shape; size 0 says that
// there is none.
func whole(name string, size int, get func(string) (tensor.Tensor, bool, error)) (kernel.Weight, error) {
	if size == 0 {
		return kernel.Weight{}, nil
	}
	t, _, err := get(name)
	if err != nil {
		return kernel.Weight{}, err
	}
	w, err := nn.Weight(t)
	if err != nil {
		return w, fmt.Errorf("smile: %s: %w", name, err)
	}
	return w, nil
}

// In returns the size of an input row.
func (l *Linear) In() int { return l.base.In() }

// Out returns the size of an output row.
func (l *Linear) Out() int { return l.base.Out() }

// Forward writes y [N, out] for x [N, in].
func (l *Linear) Forward(p *nn.Pass, y, x kernel.Matrix) {
	if x.Rows == 0 {
		return
	}
	m := p.Mark()
	weights := l.vt
	if l.grouped {
		weights = l.router
	}
	in := l.input(p, x)
	down := p.Matrix(x.Rows, weights.Rows) // x·vtᵀ, or its routers' columns
	r := l.route(p, down, in, weights)
	switch {
	case l.grouped && l.topK == 1 && x.Rows > fewRows:
		l.forwardOne(p, y, in, down, r)
	case l.grouped && l.topK == 1:
		l.forwardFew(p, y, x, down, r)
	case l.grouped:
		l.base.Forward(p, y, x)
		l.forwardGrouped(p, y, x, down, r)
	default:
		l.base.Forward(p, y, x)
		l.forwardStacked(p, y, x, down, r)
	}
	p.Release(m)
}

// routing is what the router decided for N tokens.
type routing struct {
	selected []int32   // [N, TopK]
	weights  []float32 // [N, TopK]
}

// input is a layer's input as its products read it.
type input struct {
	x     kernel.Matrix // [N, in]
	pairs kernel.Matrix // [N, in/2], x rounded for weights in bf16, or empty
}

// fewRows is how many tokens are bound by reading the weights: rounding them
// would gain nothing, and all workers share the weights.
const fewRows = 16

// input rounds x once for all products, where the base's would.
func (l *Linear) input(p *nn.Pass, x kernel.Matrix) input {
	in := input{x: x}
	if !p.Exact && x.Rows > fewRows && kernel.Pairs(l.base.Weight) {
		in.pairs = p.Matrix(x.Rows, x.Cols/2)
		kernel.RoundPairs(p.Workers, in.pairs, x)
	}
	return in
}

// rows returns the input as products with w read it.
func (in input) rows(w kernel.Weight) kernel.Matrix {
	if in.pairs.Rows > 0 && kernel.Pairs(w) {
		return in.pairs
	}
	return in.x
}

// multiply computes c = x·wᵀ + beta·c for rows x of an input.
func multiply(workers int, c, x kernel.Matrix, w kernel.Weight, beta float32) {
	if x.Cols < w.Cols {
		kernel.GemmPairs(workers, c, x, w, beta)
		return
	}
	kernel.GemmWeight(workers, c, x, w, beta)
}

// route writes down = x·weightsᵀ, scores the experts for every row of it, in
// float32, and selects the top ones: touched experts before others, higher
// scores before lower, lower indices before higher.
func (l *Linear) route(p *nn.Pass, down kernel.Matrix, in input, weights kernel.Weight) routing {
	n, e := down.Rows, len(l.experts)
	r := routing{selected: p.Ints(n * l.topK), weights: p.Floats(n * l.topK)}
	scores := p.Floats(n * e)
	w, x := parallel.Workers(p.Workers), in.rows(weights)
	if w == 1 || n < 4*fewRows || weights.Rows == 0 {
		if weights.Rows > 0 {
			multiply(p.Workers, down, x, weights, 0)
		}
		l.routeRows(r, scores, down, 0, n)
	} else {
		parts := min(w, n/(2*fewRows))
		parallel.For(w, parts, func(i int) {
			lo, hi := n*i/parts, n*(i+1)/parts
			multiply(1, down.Slice(lo, hi, 0, down.Cols), x.Slice(lo, hi, 0, x.Cols), weights, 0)
			l.routeRows(r, scores, down, lo, hi)
		})
	}
	if p.OnRouting != nil {
		p.OnRouting(nn.Routing{
			Module: l.module, Experts: e, TopK: l.topK,
			Scores: scores, Selected: r.selected, Weights: r.weights,
		})
	}
	return r
}

func (l *Linear) routeRows(r routing, scores []float32, down kernel.Matrix, lo, hi int) {
	e, k := len(l.experts), l.topK
	for i := lo; i < hi; i++ {
		l.score(scores[i*e:(i+1)*e], down.Row(i))
		l.choose(r.selected[i*k:(i+1)*k], r.weights[i*k:(i+1)*k], scores[i*e:(i+1)*e])
	}
}

// score writes scores [E] for one row of down-projections.
func (l *Linear) score(scores, down []float32) {
	for i := range l.experts {
		e := &l.experts[i]
		scores[i] = 0
		if e.touched {
			block := down[e.score : e.score+l.g]
			scores[i] = float32(math.Sqrt(float64(kernel.Dot(block, block))))
		}
	}
}

// choose selects len(selected) experts by their scores and writes their
// weights: softmax over all, restricted to the selected and renormalised, is
// softmax over the selected.
func (l *Linear) choose(selected []int32, weights, scores []float32) {
	for k := range selected {
		best := -1
		for i := range scores {
			if !chosen(selected[:k], i) && (best < 0 || l.before(i, best, scores)) {
				best = i
			}
		}
		selected[k], weights[k] = int32(best), scores[best]
	}
	if len(weights) == 1 {
		weights[0] = 1
		return
	}
	kernel.Softmax(weights, weights)
}

// before reports whether expert i, of a higher index than j, goes first.
func (l *Linear) before(i, j int, scores []float32) bool {
	if a, b := l.experts[i].touched, l.experts[j].touched; a != b {
		return a
	}
	return scores[i] > scores[j]
}

func chosen(selected []int32, i int) bool {
	for _, s := range selected {
		if int(s) == i {
			return true
		}
	}
	return false
}

// forwardStacked adds the experts' part to y by one product with us: each
// row of down keeps, times its weight, the columns of the selected experts.
func (l *Linear) forwardStacked(p *nn.Pass, y, x, down kernel.Matrix, r routing) {
	// A block's columns move left, never right: us has r_e of vt's R_e.
	for n := range down.Rows {
		row := down.Row(n)
		for i := range l.experts {
			e := &l.experts[i]
			w := r.weight(n, i, l.topK)
			from, to := row[e.score:e.score+e.rank], row[e.column:e.column+e.rank]
			if w == 0 {
				clear(to)
				continue
			}
			copy(to, from)
			kernel.Scale(w, to)
		}
	}
	if l.us.Cols > 0 {
		kernel.GemmWeight(p.Workers, y, down.Slice(0, down.Rows, 0, l.us.Cols), l.us, 1)
	}
	if l.whole {
		l.addWhole(p, y, x, r)
	}
	l.addBias(y, r)
}

// weight returns the weight of expert e for token n, 0 where not selected.
func (r routing) weight(n, e, topK int) float32 {
	for k := n * topK; k < (n+1)*topK; k++ {
		if int(r.selected[k]) == e {
			return r.weights[k]
		}
	}
	return 0
}

// addWhole adds the experts that are kept whole, each to its own tokens.
func (l *Linear) addWhole(p *nn.Pass, y, x kernel.Matrix, r routing) {
	for i := range l.experts {
		e := &l.experts[i]
		if e.dense.Rows == 0 {
			continue
		}
		m := p.Mark()
		tokens := p.Ints(x.Rows)[:0]
		for n := range x.Rows {
			if r.weight(n, i, l.topK) != 0 {
				tokens = append(tokens, int32(n))
			}
		}
		xs, ys := p.Matrix(len(tokens), x.Cols), p.Matrix(len(tokens), y.Cols)
		for j, n := range tokens {
			copy(xs.Row(j), x.Row(int(n)))
		}
		kernel.GemmWeight(p.Workers, ys, xs, e.dense, 0)
		for j, n := range tokens {
			kernel.Axpy(r.weight(int(n), i, l.topK), ys.Row(j), y.Row(int(n)))
		}
		p.Release(m)
	}
}

// addBias adds the selected experts' biases.
func (l *Linear) addBias(y kernel.Matrix, r routing) {
	if !l.biased {
		return
	}
	for i, s := range r.selected {
		if b := l.experts[s].bias; b != nil {
			kernel.Axpy(r.weights[i], b, y.Row(i/l.topK))
		}
	}
}
