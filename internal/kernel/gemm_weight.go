package kernel

import (
	"sort"
	"unsafe"

	"smelt/internal/parallel"
)

// fewRows is the most rows of x for which the weight is streamed past them
// instead of being multiplied by blocks.
const fewRows = 16

// gemmWeight is GemmWeight on arguments that are known to fit.
func gemmWeight(workers int, c, x Matrix, w Weight, beta float32) {
	if p := (Problem{C: c, X: x, W: w, Beta: beta}); p.streams() {
		p.shares(workers).each(p.columns)
		return
	}
	active.f32.multiply(workers, c.Rows, c.Cols, x.Cols, 1, x.operand(false), w.operand(), beta, c.Data, c.Stride)
}

// gemmBF16 is GemmBF16 on arguments that are known to fit.
func gemmBF16(workers int, c, x Matrix, w Weight, beta float32) {
	if !Pairs(w) || x.Rows <= fewRows {
		gemmWeight(workers, c, x, w, beta)
		return
	}
	// Rounded, two elements of x are one of the engine's.
	pool, pairs := &active.bf16.sums, x.Cols/2
	buf := buffer[float32](pool, max(1, x.Rows*pairs))
	defer pool.Put(buf)
	rounded := Of(x.Rows, pairs, (*buf)[:x.Rows*pairs])
	RoundPairs(workers, rounded, x)
	gemmPairs(workers, c, rounded, w, beta)
}

// gemmGroup is GemmGroup on arguments that are known to fit.
func gemmGroup(workers int, problems []Problem) {
	// The tasks of all streamed products are shared out together.
	type run struct {
		Problem
		shares
		end int // of its tasks
	}
	runs, tasks := make([]run, 0, len(problems)), 0
	for _, p := range problems {
		if !p.streams() {
			gemmWeight(workers, p.C, p.X, p.W, p.Beta)
			continue
		}
		s := p.shares(workers)
		tasks += s.tasks()
		runs = append(runs, run{p, s, tasks})
	}
	parallel.For(workers, tasks, func(t int) {
		r := runs[sort.Search(len(runs), func(i int) bool { return t < runs[i].end })]
		r.task(t-r.end+r.tasks(), r.columns)
	})
}

// streams reports whether the product is computed by streaming the weight.
func (p Problem) streams() bool {
	return active.streams.rows > 0 && p.X.Rows <= fewRows && p.X.Rows > 0 && p.W.Rows > 0 && p.W.Cols >= 64
}

// shares returns the tasks of the product: one where handing out work would cost
// more than it saves.
func (p Problem) shares(workers int) shares {
	if p.X.Rows*p.W.Rows*p.W.Cols < 1<<16 {
		workers = 1
	}
	return newShares(workers, p.W.Rows, p.W.Cols*p.W.DType.Size())
}

// columns computes columns [lo,hi) of C.
func (p Problem) columns(lo, hi int) {
	if p.Beta == 0 {
		p.dots(p.C.Slice(0, p.C.Rows, lo, hi), lo, hi)
		return
	}
	buf := buffer[float32](&active.f32.sums, p.X.Rows*(hi-lo))
	defer active.f32.sums.Put(buf)
	sums := Of(p.X.Rows, hi-lo, *buf)
	p.dots(sums, lo, hi)
	for i := range sums.Rows {
		row := p.C.Row(i)[lo:hi]
		for j, s := range sums.Row(i) {
			row[j] = s + p.Beta*row[j]
		}
	}
}

// dots computes out = X·Wᵀ for rows [lo, hi) of W.
func (p Problem) dots(out Matrix, lo, hi int) {
	row := p.W.Cols * p.W.DType.Size()
	d := dotsArgs.Get().(*dots)
	defer d.free()
	d.xRow, d.wRow, d.outRow, d.steps = 4*p.X.Stride, row, 4*out.Stride, row/active.streams.bytes
	active.streams.run(p.W.operand().kind, d, p.X.Rows, hi-lo,
		unsafe.Pointer(&p.X.Data[0]), unsafe.Pointer(&p.W.Data[lo*row]), unsafe.Pointer(&out.Data[0]), 4)
	// What is left of a row beyond whole steps is added one by one.
	for k := d.steps * active.streams.bytes / p.W.DType.Size(); k < p.W.Cols; k++ {
		for r := range hi - lo {
			v := p.W.at(lo+r, k)
			for i := range p.X.Rows {
				out.Data[i*out.Stride+r] += p.X.Data[i*p.X.Stride+k] * v
			}
		}
	}
}
