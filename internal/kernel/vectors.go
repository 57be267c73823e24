package kernel

import (
	"sync"
	"unsafe"
)

// lane16 is the number of float32 that kernels of vectors take at a time;
// those of float64 take 8. Whoever calls them pads what is left over.
const lane16 = 16

// vectors are a variant's loops over slices. n counts elements and is a
// positive multiple of 16 for float32 and mixed types, of 8 for float64.
type vectors struct {
	dotF32       func(x, y *float32, n int) float32
	dotF64       func(x, y *float64, n int) float64
	dotAcc       func(x, y *float32, n int) float64
	sum          func(x *float32, n int) float64
	largest      func(x *float32, n int) float32 // NaN left out
	squaresAbout func(x *float32, mean float32, n int) float64

	axpyF32  func(alpha float32, x, y *float32, n int)
	axpyF64  func(alpha float64, x, y *float64, n int)
	axpy4F32 func(alpha, x *float32, stride int, y *float32, n int) // four rows of x, stride in bytes
	axpy4F64 func(alpha, x *float64, stride int, y *float64, n int)
	scaleF32 func(alpha float32, x *float32, n int)
	scaleF64 func(alpha float64, x *float64, n int)
	add, mul func(dst, x, y *float32, n int)
	rope     func(lo, hi, cos, sin *float32, n int)

	layerNorm func(dst, x, weight, bias *float32, mean, inv float32, n int)
	rmsNorm   func(dst, x, weight *float32, inv float32, n int)

	exp, silu, quickGELU, geluTanh, gelu func(dst, x *float32, n int)
	siluMul, geluTanhMul                 func(dst, gate, up *float32, n int)
	expSum                               func(dst, x *float32, shift float32, n int) float32

	widenBF16, widenF16   func(dst *float32, src unsafe.Pointer, n int)
	narrowBF16, narrowF16 func(dst unsafe.Pointer, src *float32, n int)
	f32ToF64              func(dst *float64, src *float32, n int)
	f64ToF32              func(dst *float32, src *float64, n int)
	sub                   [kinds][kinds]func(dst *float32, a, b unsafe.Pointer, n int, s *chunkStats)
}

// ptr returns the address of x's first element.
func ptr[T any](x []T) *T { return unsafe.SliceData(x) }

// tails are padded copies of what is left of slices beyond whole blocks. They
// live on the heap, as all arguments of kernels do.
type tails struct {
	a, b, c, d [lane16]float32
	x, y       [4 * lane16]byte
	stats      chunkStats
}

var tailPool = sync.Pool{New: func() any { return new(tails) }}

func newTails() *tails { return tailPool.Get().(*tails) }

func (t *tails) free() { tailPool.Put(t) }

// pad copies x to dst, fills up with v and returns dst's address.
func pad(dst *[lane16]float32, x []float32, v float32) *float32 {
	n := copy(dst[:], x)
	for i := n; i < lane16; i++ {
		dst[i] = v
	}
	return &dst[0]
}

// mapTo runs a kernel dst = f(x) over slices of any length.
func mapTo(f func(dst, x *float32, n int), dst, x []float32) {
	n := len(x) &^ (lane16 - 1)
	if n > 0 {
		f(ptr(dst), ptr(x), n)
	}
	if n < len(x) {
		t := newTails()
		f(&t.d[0], pad(&t.a, x[n:], 0), lane16)
		copy(dst[n:], t.d[:])
		t.free()
	}
}

// mapTo2 runs a kernel dst = f(x, y) over slices of any length.
func mapTo2(f func(dst, x, y *float32, n int), dst, x, y []float32) {
	n := len(x) &^ (lane16 - 1)
	if n > 0 {
		f(ptr(dst), ptr(x), ptr(y), n)
	}
	if n < len(x) {
		t := newTails()
		f(&t.d[0], pad(&t.a, x[n:], 0), pad(&t.b, y[n:], 0), lane16)
		copy(dst[n:], t.d[:])
		t.free()
	}
}
