package kernel

import (
	"sync"
	"unsafe"
)

// dots is the argument of a kernel that multiplies some rows of x with rows of a
// stored weight w, some of them together:
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

	// Where streams have runs:
	run, outRun int            // between the rows of a group, and what they give
	ahead       int            // from what is read to what is asked for
	sums        unsafe.Pointer // the lanes of all groups' sums
	from, to    int            // not zero where sums begin with these, and end in them
}

// streams are a variant's kernels for few rows of x, by the kind of the weight:
// for single rows of w, and for groups of rows, each by the rows of x.
type streams struct {
	bytes  int  // of w in a step
	rows   int  // a multiple of all groups' rows of w; 0 where there are no kernels
	runs   bool // a group's rows are apart, one of each run; otherwise they are neighbours
	kernel [kinds + 1][2][]stream
}

// stream is a kernel for groups of as many rows of w.
type stream struct {
	rows int
	run  func(*dots)
}

// wide is the place in a table of streams of the kernels on float64.
const wide = kinds

// dotsArgs are arguments of streaming kernels, on the heap as all are.
var dotsArgs = sync.Pool{New: func() any {
	a := new(struct {
		dots
		lanes [nearGroups * 32 * 16]float32 // of as many registers
	})
	a.sums = unsafe.Pointer(&a.lanes)
	return &a.dots
}}

// free gives d back.
func (d *dots) free() {
	d.x, d.w, d.out = nil, nil, nil
	dotsArgs.Put(d)
}

// Rows of x that the first-level cache does not hold pass the weight block by
// block, each of them some groups of the weight's rows, whose sums wait in memory.
// The sizes are those with which most of a weight passes in a second.
const (
	nearX      = 96 << 10  // bytes of x that pass as a whole, a part of them beside smaller elements
	nearSteps  = 32        // of a block
	nearGroups = 8         // that a block passes
	nearW      = 128 << 10 // bytes of a weight that more rows of x pass than one kernel takes
)

// run multiplies xn rows of x with wn rows of w by the kernels of kind k; size
// is that of an element of the result.
func (s *streams) run(k kind, d *dots, xn, wn int, x, w, out unsafe.Pointer, size int) {
	kernels := &s.kernel[k]
	parts, height := blocks(xn, len(kernels[1])-1, 1)
	unit := wn
	if parts > 1 || !s.runs {
		unit = max(1, nearW/d.wRow/s.rows) * s.rows
	}
	xStep := s.bytes // of x in a step
	if k == bf16 || k == f16 {
		xStep *= size / 2
	}
	for r := 0; r < wn; r += unit {
		n := min(unit, wn-r)
		for i := range parts {
			h := min(height, xn-i*height)
			grouped := n / kernels[1][h].rows * kernels[1][h].rows
			x, out := unsafe.Add(x, i*height*d.xRow), unsafe.Add(out, i*height*d.outRow)
			for _, p := range [2]struct {
				kernel stream
				lo, hi int
			}{{kernels[1][h], r, r + grouped}, {kernels[0][h], r + grouped, r + n}} {
				if p.lo < p.hi { // or the pointers may be beyond their objects
					s.pass(p.kernel, d, h, p.hi-p.lo, xStep, x, unsafe.Add(w, p.lo*d.wRow), unsafe.Add(out, p.lo*size), size)
				}
			}
		}
	}
}

// pass multiplies xn rows of x with wn rows of w, whole groups, by kernel k; a
// step takes xStep bytes of x.
func (s *streams) pass(k stream, d *dots, xn, wn, xStep int, x, w, out unsafe.Pointer, size int) {
	groups, steps := wn/k.rows, d.steps
	d.run, d.outRun = groups*d.wRow, groups*size
	parts, length, unit := 1, steps, groups
	if s.runs && xn > 1 && xn*steps*xStep > nearX*s.bytes/xStep {
		parts, length = blocks(steps, nearSteps, 1)
		unit = nearGroups
	}
	for g := 0; g < groups; g += unit {
		d.out = unsafe.Add(out, g*size)
		d.groups = min(unit, groups-g)
		for b := range parts {
			done := b * length
			d.x, d.w = unsafe.Add(x, done*xStep), unsafe.Add(w, g*d.wRow+done*s.bytes)
			d.steps = min(length, steps-done)
			d.from, d.to = b, parts-1-b
			switch {
			case parts == 1:
				d.ahead = 2048
			case d.to > 0: // in the next block of the same rows
				d.ahead = length * s.bytes
			default: // in the first block of the next ones
				d.ahead = unit*d.wRow - done*s.bytes
			}
			k.run(d)
		}
	}
	d.steps = steps
}
