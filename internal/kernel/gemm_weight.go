package kernel

import (
	"sort"
	"sync"
	"unsafe"

	"smelt/internal/parallel"
)

// dots is the argument of a kernel that multiplies some rows of x with groups of
// consecutive rows of a stored weight w:
//
//	for r < rows of the groups, i < rows of x { out[i,r] = Σ x[i,k]*w[r,k] }
//
// Strides are in bytes; k goes over steps whole vectors of w as stored. The sum
// runs in the lanes of one vector or four, added together at the end.
type dots struct {
	x      unsafe.Pointer
	xRow   int
	w      unsafe.Pointer
	wRow   int
	out    unsafe.Pointer
	outRow int
	steps  int
	groups int
}

// streams are a variant's kernels for few rows of x, by the kind of the weight:
// for single rows of w, and for groups of rows, each by the rows of x.
type streams struct {
	bytes  int  // of w in a step
	rows   int  // a multiple of all groups' rows of w; 0 where there are no kernels
	runs   bool // for a single row of x, a group is as many runs of rows, groups long, one after the other
	kernel [kinds + 1][2][]stream
}

// stream is a kernel for groups of as many rows of w.
type stream struct {
	rows int
	run  func(*dots)
}

// wide is the place in a table of streams of the kernels on float64.
const wide = kinds

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

// dotsArgs are arguments of streaming kernels, on the heap as all are.
var dotsArgs = sync.Pool{New: func() any { return new(dots) }}

// dots computes out = X·Wᵀ for rows [lo, hi) of W.
func (p Problem) dots(out Matrix, lo, hi int) {
	row := p.W.Cols * p.W.DType.Size()
	d := dotsArgs.Get().(*dots)
	defer func() {
		*d = dots{}
		dotsArgs.Put(d)
	}()
	*d = dots{xRow: 4 * p.X.Stride, wRow: row, outRow: 4 * out.Stride, steps: row / active.streams.bytes}
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

// run multiplies xn rows of x with wn rows of w by the kernels of kind k; size
// is that of an element of the result.
func (s *streams) run(k kind, d *dots, xn, wn int, x, w, out unsafe.Pointer, size int) {
	kernels := &s.kernel[k]
	parts, height := blocks(xn, len(kernels[1])-1, 1)
	pass := func(k stream, i, r, n int) {
		if d.groups = n / k.rows; d.groups > 0 {
			d.x = unsafe.Add(x, i*height*d.xRow)
			d.w = unsafe.Add(w, r*d.wRow)
			d.out = unsafe.Add(out, i*height*d.outRow+r*size)
			k.run(d)
		}
	}
	// A few groups of weight rows pass all rows of x while the caches hold them.
	unit := max(1, 32<<10/d.wRow/s.rows) * s.rows
	if xn == 1 && s.runs {
		unit = wn
	}
	for r := 0; r < wn; r += unit {
		n := min(unit, wn-r)
		for i := range parts {
			h := min(height, xn-i*height)
			grouped := n / kernels[1][h].rows * kernels[1][h].rows
			pass(kernels[1][h], i, r, grouped)
			pass(kernels[0][h], i, r+grouped, n-grouped)
		}
	}
}
