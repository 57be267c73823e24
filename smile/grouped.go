package smile

import (
	"smelt/internal/kernel"
	"smelt/nn"
)

// groups holds the pairs (token, choice) sorted by expert, in token order
// within one.
type groups struct {
	start []int32 // [E+1]: the pairs of expert e are start[e]…start[e+1]
	at    []int32 // [N, TopK]: where a choice of a token stands among the pairs
	order []int32 // [N·TopK]: the pairs' choices, at backwards
}

// group sorts the selected pairs by expert.
func (l *Linear) group(p *nn.Pass, r routing) groups {
	e := len(l.experts)
	g := groups{start: p.Ints(e + 1), at: p.Ints(len(r.selected)), order: p.Ints(len(r.selected))}
	clear(g.start)
	for _, s := range r.selected {
		g.start[s+1]++
	}
	for i := range e {
		g.start[i+1] += g.start[i]
	}
	next := p.Ints(e)
	copy(next, g.start)
	for i, s := range r.selected {
		g.at[i], g.order[next[s]] = next[s], int32(i)
		next[s]++
	}
	return g
}

// forwardFew writes y for few tokens, each with one expert, whose weight then
// is 1: with the tokens sorted by expert, base and experts add up in place, and
// the way back adds the biases. scores [N, touched·g] are the routers'
// down-projections.
func (l *Linear) forwardFew(p *nn.Pass, y, x, scores kernel.Matrix, r routing) {
	g := l.group(p, r)
	rank := 0
	for i := range l.experts {
		rank = max(rank, l.experts[i].rank)
	}
	xs, ys, down := x, y, p.Matrix(x.Rows, rank)
	if x.Rows > 1 {
		xs, ys = p.Matrix(x.Rows, x.Cols), p.Matrix(x.Rows, y.Cols)
	}
	l.gather(xs, down, x, scores, g, r, 0, x.Rows)
	bare := nn.Dense{Weight: l.base.Weight}
	bare.Forward(p, ys, xs)
	l.restDown(p, xs, down, g)
	problems := p.Problems(len(l.experts))[:0]
	for i := range l.experts {
		e, lo, hi := &l.experts[i], int(g.start[i]), int(g.start[i+1])
		c := ys.Slice(lo, hi, 0, ys.Cols)
		switch {
		case lo == hi:
		case e.dense.Rows > 0:
			problems = append(problems, kernel.Problem{C: c, X: xs.Slice(lo, hi, 0, xs.Cols), W: e.dense, Beta: 1})
		case e.rank > 0:
			problems = append(problems, kernel.Problem{C: c, X: down.Slice(lo, hi, 0, e.rank), W: e.us, Beta: 1})
		}
	}
	kernel.GemmGroup(p.Workers, problems)
	l.back(y, ys, g, r)
}

// back writes the rows of y: their sorted rows plus the biases.
func (l *Linear) back(y, ys kernel.Matrix, g groups, r routing) {
	for i := range y.Rows {
		from, to := ys.Row(int(g.at[i])), y.Row(i)
		if b := l.experts[r.selected[i]].sum; b != nil {
			kernel.Add(to, from, b)
		} else {
			copy(to, from)
		}
	}
}

// restDown writes the down-projections beyond the router's rows.
func (l *Linear) restDown(p *nn.Pass, xs, down kernel.Matrix, g groups) {
	problems := p.Problems(len(l.experts))[:0]
	for i := range l.experts {
		e, lo, hi := &l.experts[i], int(g.start[i]), int(g.start[i+1])
		if lo < hi && e.rest.Rows > 0 {
			problems = append(problems, kernel.Problem{
				C: down.Slice(lo, hi, l.g, e.rank), X: xs.Slice(lo, hi, 0, xs.Cols), W: e.rest,
			})
		}
	}
	kernel.GemmGroup(p.Workers, problems)
}

// forwardGrouped adds the experts' part to y, the tokens sorted by expert;
// scores [N, touched·g] are the routers' down-projections.
func (l *Linear) forwardGrouped(p *nn.Pass, y, x, scores kernel.Matrix, r routing) {
	g := l.group(p, r)
	pairs := len(g.at)
	rank, gather := 0, l.whole
	for i := range l.experts {
		rank = max(rank, l.experts[i].rank)
		gather = gather || l.experts[i].rest.Rows > 0
	}
	var xs kernel.Matrix // the tokens' rows by expert
	if gather {
		xs = p.Matrix(pairs, x.Cols)
	}
	down := p.Matrix(pairs, rank)
	if p.Serial(x.Rows, x.Cols) {
		l.gather(xs, down, x, scores, g, r, 0, x.Rows)
	} else {
		p.ForRows(x.Rows, x.Cols, func(lo, hi int) { l.gather(xs, down, x, scores, g, r, lo, hi) })
	}
	l.restDown(p, xs, down, g)
	l.up(p, y, xs, down, g, r)
	l.addBias(y, r)
}

// gather copies, for tokens [lo,hi), the rows of x (where xs has rows) and the
// down-projections that the router has made already to where the pairs stand.
func (l *Linear) gather(xs, down, x, scores kernel.Matrix, g groups, r routing, lo, hi int) {
	for i := lo * l.topK; i < hi*l.topK; i++ {
		n, j := i/l.topK, int(g.at[i])
		if xs.Rows > 0 {
			copy(xs.Row(j), x.Row(n))
		}
		if e := &l.experts[r.selected[i]]; e.rank > 0 {
			known := min(l.g, e.rank)
			copy(down.Row(j)[:known], scores.Row(n)[e.score:])
		}
	}
}

// up multiplies the down-projections with each expert's us, and the inputs
// with the experts kept whole, and adds the results to y, a band of columns at
// a time so that what is between stays in cache.
func (l *Linear) up(p *nn.Pass, y, xs, down kernel.Matrix, g groups, r routing) {
	pairs := down.Rows
	if pairs == 0 {
		return
	}
	const band = 1 << 18 // elements
	width := min(y.Cols, max(64, band/pairs&^63))
	ups := p.Matrix(pairs, width)
	all := p.Problems(len(l.experts))
	for c := 0; c < y.Cols; c += width {
		w := min(width, y.Cols-c)
		problems := all[:0]
		for i := range l.experts {
			e, lo, hi := &l.experts[i], int(g.start[i]), int(g.start[i+1])
			pr := kernel.Problem{C: ups.Slice(lo, hi, 0, w)}
			switch {
			case lo == hi:
				continue
			case e.dense.Rows > 0:
				pr.X, pr.W = xs.Slice(lo, hi, 0, xs.Cols), e.dense.Slice(c, c+w)
			case e.rank > 0:
				pr.X, pr.W = down.Slice(lo, hi, 0, e.rank), e.us.Slice(c, c+w)
			default:
				continue
			}
			problems = append(problems, pr)
		}
		kernel.GemmGroup(p.Workers, problems)
		l.scatter(p, y.Slice(0, y.Rows, c, c+w), ups.Slice(0, pairs, 0, w), g, r)
	}
}

// scatter adds the pairs' rows, times their weights, to the rows of their
// tokens, in the order of the choices.
func (l *Linear) scatter(p *nn.Pass, y, ups kernel.Matrix, g groups, r routing) {
	if p.Serial(y.Rows, y.Cols) {
		l.scatterRows(y, ups, g, r, 0, y.Rows)
		return
	}
	p.ForRows(y.Rows, y.Cols, func(lo, hi int) { l.scatterRows(y, ups, g, r, lo, hi) })
}

func (l *Linear) scatterRows(y, ups kernel.Matrix, g groups, r routing, lo, hi int) {
	for i := lo * l.topK; i < hi*l.topK; i++ {
		if e := &l.experts[r.selected[i]]; e.rank > 0 || e.dense.Rows > 0 {
			kernel.Axpy(r.weights[i], ups.Row(int(g.at[i])), y.Row(i/l.topK))
		}
	}
}
