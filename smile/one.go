package smile

import (
	"smelt/internal/kernel"
	"smelt/internal/parallel"
	"smelt/nn"
)

// piece is some tokens of one expert: [lo,hi) of those sorted by expert.
type piece struct{ expert, lo, hi int }

// A piece's tokens are so few that their inputs, and a band of their outputs,
// stay in the second-level cache.
const (
	mostPiece   = 8 * fewRows
	leastPiece  = 3 * fewRows
	pieceInputs = 1 << 17 // elements
	bandOutputs = 1 << 17
)

// forwardOne writes y for many tokens, each with one expert, whose weight then
// is 1. First come the experts' parts and the biases, piece by piece, to where
// the tokens are in y; then the base's product adds itself. scores [N,
// touched·g] are the routers' down-projections.
//
// The pieces are the same for any number of workers, so that the result is the
// same bits.
func (l *Linear) forwardOne(p *nn.Pass, y kernel.Matrix, in input, scores kernel.Matrix, r routing) {
	multiply(p.Workers, y, in.rows(l.base.Weight), l.base.Weight, 0)
	g := l.group(p, r)
	most := min(mostPiece, max(leastPiece, pieceInputs/in.x.Cols))
	var pieces []piece
	for e := range l.experts {
		lo, rows := int(g.start[e]), int(g.start[e+1]-g.start[e])
		n := (rows + most - 1) / most
		for i := range n {
			pieces = append(pieces, piece{e, lo + rows*i/n, lo + rows*(i+1)/n})
		}
	}
	rank := 0
	for i := range l.experts {
		rank = max(rank, l.experts[i].rank)
	}
	w := parallel.Workers(p.Workers)
	width := min(y.Cols, bandOutputs/most&^63)
	rooms := make([]room, w)
	for i := range rooms {
		rooms[i] = room{xs: p.Floats(most * in.x.Cols), down: p.Floats(most * rank), pairs: p.Floats(most * rank / 2), ups: p.Floats(most * width), width: width}
	}
	nn.Each(w, len(pieces), func(worker, i int) {
		t := &task{Linear: l, room: rooms[worker], rounded: in.pairs.Rows > 0, tokens: g.order[pieces[i].lo:pieces[i].hi]}
		t.expert = &l.experts[pieces[i].expert]
		t.forward(y, in, scores)
	})
}

// room is one worker's scratch memory.
type room struct {
	xs    []float32 // [most, in]
	down  []float32 // [most, rank]
	pairs []float32 // [most, rank/2]
	ups   []float32 // [most, width]
	width int
}

// task is an expert's work for some of its tokens.
type task struct {
	*Linear
	room
	expert  *linearExpert
	tokens  []int32
	rounded bool
}

// forward writes the tokens' rows of y: the expert's part and the biases.
func (t *task) forward(y kernel.Matrix, in input, scores kernel.Matrix) {
	e, left := t.expert, kernel.Matrix{}
	var right kernel.Weight
	switch {
	case e.dense.Rows > 0:
		left, right = t.gather(in.rows(e.dense)), e.dense
	case e.rank > 0:
		left, right = t.project(in, scores), e.us
	default:
		t.write(y, kernel.Matrix{}, 0, y.Cols)
		return
	}
	for c := 0; c < y.Cols; c += t.width {
		w := min(t.width, y.Cols-c)
		ups := kernel.Of(left.Rows, w, t.ups[:left.Rows*w])
		multiply(1, ups, left, right.Slice(c, c+w), 0)
		t.write(y, ups, c, c+w)
	}
}

// gather returns the tokens' rows of x.
func (t *task) gather(x kernel.Matrix) kernel.Matrix {
	xs := kernel.Of(len(t.tokens), x.Cols, t.xs[:len(t.tokens)*x.Cols])
	for i, n := range t.tokens {
		copy(xs.Row(i), x.Row(int(n)))
	}
	return xs
}

// project returns the tokens' down-projections, of which the routers have made
// the first.
func (t *task) project(in input, scores kernel.Matrix) kernel.Matrix {
	e, rows := t.expert, len(t.tokens)
	down := kernel.Of(rows, e.rank, t.down[:rows*e.rank])
	known := min(t.g, e.rank)
	for i, n := range t.tokens {
		copy(down.Row(i)[:known], scores.Row(int(n))[e.score:])
	}
	if e.rest.Rows > 0 {
		multiply(1, down.Slice(0, rows, t.g, e.rank), t.gather(in.rows(e.rest)), e.rest, 0)
	}
	if !t.rounded || !kernel.Pairs(e.us) {
		return down
	}
	pairs := kernel.Of(rows, e.rank/2, t.pairs[:rows*(e.rank/2)])
	kernel.RoundPairs(1, pairs, down)
	return pairs
}

// write writes columns [lo,hi) of the tokens' rows of y: those of ups, where it
// has any, plus the biases.
func (t *task) write(y, ups kernel.Matrix, lo, hi int) {
	for i, n := range t.tokens {
		to, bias := y.Row(int(n))[lo:hi], t.expert.sum
		if ups.Rows > 0 {
			kernel.Add(to, to, ups.Row(i))
		}
		if bias != nil {
			kernel.Add(to, to, bias[lo:hi])
		}
	}
}
