package nn

import (
	"slices"
	"sync/atomic"

	"smelt/internal/kernel"
	"smelt/internal/parallel"
)

// Pass carries what a forward pass needs besides weights. It is used by one
// goroutine at a time, and again and again: scratch memory is kept, so that a
// pass of a shape that was seen before allocates nothing of its own. The zero
// value is ready, with one worker a core.
type Pass struct {
	// Workers bounds the goroutines; 0 means one a core. Results do not depend
	// on it.
	Workers int

	// Exact keeps the inputs of all products in float32. Without it, products of
	// many rows with BF16 weights round their inputs to bfloat16 where the CPU
	// multiplies pairs of it: about twice as fast, with errors of at most 2⁻⁸ of
	// what is summed. torch rounds there as well, and the sums and all that is
	// between products too, which stay float32 here, a router's scores among them.
	Exact bool

	// OnRouting, where set, sees every routing decision of a fused model.
	OnRouting func(Routing)

	// OnStage, where set, sees the activations after every stage. The matrix
	// is scratch memory: it is valid during the call only.
	OnStage func(name string, x kernel.Matrix)

	floats   arena[float32]
	ints     arena[int32]
	problems arena[kernel.Problem]
}

// Routing is what one fused module decided for the N tokens of a pass. Its
// slices are valid during the call only.
type Routing struct {
	Module   string
	Experts  int       // E
	TopK     int       // experts selected for each token
	Scores   []float32 // [N, E]
	Selected []int32   // [N, TopK]
	Weights  []float32 // [N, TopK], of Selected
}

// Mark is a place in a pass's scratch memory.
type Mark struct{ floats, ints, problems place }

// Mark returns the present place; Release gives back what was taken since.
func (p *Pass) Mark() Mark { return Mark{p.floats.at, p.ints.at, p.problems.at} }

// Release gives back all scratch memory taken since m.
func (p *Pass) Release(m Mark) {
	p.floats.release(m.floats)
	p.ints.release(m.ints)
	p.problems.release(m.problems)
}

// Matrix returns a rows × cols scratch matrix of unspecified contents, valid
// until the mark before it is released.
func (p *Pass) Matrix(rows, cols int) kernel.Matrix {
	return kernel.Matrix{Rows: rows, Cols: cols, Stride: cols, Data: p.floats.take(rows * cols)}
}

// Floats returns n scratch values of unspecified contents.
func (p *Pass) Floats(n int) []float32 { return p.floats.take(n) }

// Ints returns n scratch integers of unspecified contents.
func (p *Pass) Ints(n int) []int32 { return p.ints.take(n) }

// Problems returns scratch room for n products of a [kernel.GemmGroup].
func (p *Pass) Problems(n int) []kernel.Problem { return p.problems.take(n) }

// Stage reports the activations x under the name prefix + name to OnStage.
func (p *Pass) Stage(prefix, name string, x kernel.Matrix) {
	if p.OnStage != nil {
		p.OnStage(prefix+name, x)
	}
}

// workers returns how many goroutines n pieces of work of the given cost (in
// elements touched) are worth: 1 where starting them would cost more.
func (p *Pass) workers(n, cost int) int {
	const worthwhile = 1 << 15
	if cost < worthwhile {
		return 1
	}
	return min(parallel.Workers(p.Workers), n)
}

// Serial reports whether ForRows would do rows of the given width in one call
// of f: a caller that asks first need not allocate a closure.
func (p *Pass) Serial(rows, width int) bool { return p.workers(rows, rows*width) == 1 }

// ForRows splits rows of the given width into ranges and calls f for each,
// on several workers where the matrix is large.
func (p *Pass) ForRows(rows, width int, f func(lo, hi int)) {
	w := p.workers(rows, rows*width)
	if w == 1 {
		f(0, rows)
		return
	}
	step := max(1, min((rows+w-1)/w, (1<<14+width-1)/width))
	parallel.For(w, (rows+step-1)/step, func(i int) { f(i*step, min(rows, (i+1)*step)) })
}

// Each calls f(worker, i) for all i in [0,n); calls with the same worker, a
// number below workers, do not overlap.
func Each(workers, n int, f func(worker, i int)) {
	if workers <= 1 {
		for i := range n {
			f(0, i)
		}
		return
	}
	var next atomic.Int64
	parallel.For(workers, workers, func(w int) {
		for {
			i := int(next.Add(1) - 1)
			if i >= n {
				return
			}
			f(w, i)
		}
	})
}

// arena is a stack of scratch memory in chunks. A chunk once handed out never
// moves; when everything is given back, several chunks become one.
type arena[T any] struct {
	chunks [][]T
	at     place
}

type place struct{ chunk, used int }

func (a *arena[T]) take(n int) []T {
	for a.at.chunk < len(a.chunks) {
		c := a.chunks[a.at.chunk]
		if a.at.used+n <= len(c) {
			s := c[a.at.used : a.at.used+n : a.at.used+n]
			a.at.used += (n + 15) &^ 15 // keep rows on cache lines
			return s
		}
		a.at = place{a.at.chunk + 1, 0}
	}
	size := max(n, 1<<10)
	if k := len(a.chunks); k > 0 {
		size = max(size, 2*len(a.chunks[k-1]))
	}
	a.chunks = append(a.chunks, make([]T, size))
	a.at = place{len(a.chunks) - 1, (n + 15) &^ 15}
	return a.chunks[len(a.chunks)-1][:n:n]
}

func (a *arena[T]) release(to place) {
	a.at = to
	if to == (place{}) && len(a.chunks) > 1 {
		size := 0
		for _, c := range a.chunks {
			size += len(c)
		}
		a.chunks = slices.Grow(a.chunks[:0], 1)
		a.chunks = append(a.chunks, make([]T, size))
	}
}
