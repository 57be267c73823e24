package kernel

import (
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
// runs in the lanes of one vector, added together at the end.
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
	bytes  int // of w in a step
	group  int // rows of w in a group
	kernel [kinds][2][]func(*dots)
}

// fewRows is the most rows of x for which the weight is streamed past them
// instead of being multiplied by blocks.
const fewRows = 16

// gemmWeight is GemmWeight on arguments that are known to fit.
func gemmWeight(workers int, c, x Matrix, w Weight, beta float32) {
	if active.streams.group > 0 && x.Rows <= fewRows && x.Rows > 0 && w.Rows > 0 && w.Cols >= 64 {
		p := Problem{C: c, X: x, W: w, Beta: beta}
		parallel.For(p.taskWorkers(workers), p.tasks(), p.stream)
		return
	}
	active.f32.multiply(workers, c.Rows, c.Cols, x.Cols, 1, x.operand(false), w.operand(), beta, c.Data, c.Stride)
}

// taskBytes is about how much of a weight one task of a stream reads.
const taskBytes = 128 << 10

func (p Problem) taskRows() int {
	g := active.streams.group
	return max(1, taskBytes/(p.W.Cols*p.W.DType.Size())/g) * g
}

func (p Problem) tasks() int { return (p.W.Rows + p.taskRows() - 1) / p.taskRows() }

// taskWorkers returns 1 where handing out work would cost more than it saves.
func (p Problem) taskWorkers(workers int) int {
	if p.X.Rows*p.W.Rows*p.W.Cols < 1<<16 {
		return 1
	}
	return workers
}

// stream computes the columns of C that belong to task t.
func (p Problem) stream(t int) {
	n := p.taskRows()
	lo := t * n
	hi := min(lo+n, p.W.Rows)
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
	s := &active.streams
	kernels := &s.kernel[p.W.operand().kind]
	row := p.W.Cols * p.W.DType.Size()
	steps := row / s.bytes
	whole := (hi - lo) / s.group * s.group
	most := len(kernels[1]) - 1
	parts, height := blocks(p.X.Rows, most, 1)
	d := dotsArgs.Get().(*dots)
	defer func() {
		*d = dots{}
		dotsArgs.Put(d)
	}()
	*d = dots{xRow: 4 * p.X.Stride, wRow: row, outRow: 4 * out.Stride, steps: steps}
	// A group of weight rows passes all rows of x while the caches hold it.
	unit := max(s.group, 32<<10/row/s.group*s.group)
	for r := 0; r < hi-lo; {
		n, single := min(unit, whole-r), 1
		if n <= 0 {
			n, single = hi-lo-r, 0
		}
		for i := range parts {
			x := i * height
			h := min(height, p.X.Rows-x)
			d.x = unsafe.Pointer(&p.X.Data[x*p.X.Stride])
			d.w = unsafe.Pointer(&p.W.Data[(lo+r)*row])
			d.out = unsafe.Pointer(&out.Data[x*out.Stride+r])
			d.groups = n
			if single == 1 {
				d.groups = n / s.group
			}
			kernels[single][h](d)
		}
		r += n
	}
	// What is left of a row beyond whole steps is added one by one.
	for k := steps * s.bytes / p.W.DType.Size(); k < p.W.Cols; k++ {
		for r := range hi - lo {
			v := p.W.at(lo+r, k)
			for i := range p.X.Rows {
				out.Data[i*out.Stride+r] += p.X.Data[i*p.X.Stride+k] * v
			}
		}
	}
}
