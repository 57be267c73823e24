package kernel

import (
	"sync"
	"unsafe"
)

type float interface{ float32 | float64 }

// engine multiplies matrices of one element type with the register tiles of one
// variant, in the manner of GotoBLAS: the right operand is packed into panels
// of nr columns that lie as the tiles read them; the left operand is read where
// it lies or packed, block by block, into panels of mr rows; tiles then run over
// both from the caches.
//
// The k dimension is cut into blocks that depend on k alone, and every element
// of the result is one chain of multiply-adds per block, in order. So neither
// the workers, nor the packing, nor a tile's place change a bit of it.
type engine[T float] struct {
	lanes  int // of a vector
	mr     int // rows of the largest tile
	direct int // rows of the tile that reads the left operand where it lies
	nr     int // columns of the widest tile, 2*lanes
	across int // most rows of a packed panel of a left operand that is stored transposed
	tiles  [3][]func(*tile)
	packers

	right, left, panels, sums sync.Pool // *[]T
}

const (
	blockK   = 4 << 10  // most bytes of a row of a block: the longer, the less often the result is read and written
	blockM   = 8 * 14   // most rows of a packed block of the left operand, which stays in the second-level cache
	flipRows = 512      // most rows of a block whose sums are turned back
	flipSums = 1 << 18  // most sums of such a block
	packR    = 12 << 20 // bytes of the right operand packed at once, which stay in the third-level cache
	fewCols  = 8        // up to this many panels, the left operand is not worth packing
	padPanel = 16       // elements between packed rows, against cache-set conflicts
	nearRows = 4 << 10  // most bytes between rows of a right operand that is worth reading where it lies
)

// operand is op(x) of a stored matrix x: element (i,j) lies at row i and column
// j of x, or at row j and column i if trans.
type operand struct {
	data   unsafe.Pointer
	stride int // bytes between rows of x
	size   int // bytes of an element
	kind   kind
	trans  bool
}

func (o operand) at(i, j int) unsafe.Pointer {
	if o.trans {
		i, j = j, i
	}
	return unsafe.Add(o.data, i*o.stride+j*o.size)
}

func (o operand) transposed() operand {
	o.trans = !o.trans
	return o
}

// product is one run of an engine: c = alpha·left·right + beta·c, with left
// [m,k] and right [k,n]. Where flip is set, c holds the transpose [n,m].
type product[T float] struct {
	*engine[T]
	left, right operand
	alpha, beta T
	c           []T
	cStride     int // elements
	flip        bool
	once        bool // each panel of the right operand is used once, and packed just before
	lies        bool // or it is read where it lies
	m, n, k     int
	kLen        int // k of all blocks but the last
	pack        bool
	sub         int // rows of the left operand that are packed together
}

func elemSize[T float]() int {
	var z T
	return int(unsafe.Sizeof(z))
}

// multiply computes c = alpha·a·b + beta·c, with a [m,k], b [k,n], c [m,n].
func (e *engine[T]) multiply(workers, m, n, k int, alpha T, a, b operand, beta T, c []T, cStride int) {
	if m == 0 || n == 0 {
		return
	}
	if k == 0 || alpha == 0 {
		scaleRows(c, cStride, m, n, beta)
		return
	}
	if m*n*k < 1<<18 {
		workers = 1
	}
	p := product[T]{engine: e, left: a, right: b, alpha: alpha, beta: beta, c: c, cStride: cStride, m: m, n: n, k: k}
	// Swapped roles leave the transpose, element by element: of weight where k
	// is small.
	back := e.lanes * m * n / (2 * k)
	if e.cost(b.transposed(), a.transposed(), n, m)+back < e.cost(a, b, m, n) {
		p.left, p.right, p.m, p.n, p.flip = b.transposed(), a.transposed(), n, m, true
	}
	size := elemSize[T]()
	_, p.kLen = blocks(k, blockK/size, 4)
	p.once = p.m <= blockM
	p.lies = p.m <= 2*e.direct && !p.right.trans && p.right.kind == native && p.right.stride <= nearRows
	p.run(workers)
}

// cost estimates the time of a product per unit of k, in instructions on whole
// vectors: packing both sides, and multiplying, edges rounded up.
func (e *engine[T]) cost(left, right operand, m, n int) int {
	lanes := e.lanes
	vecs := (n + lanes - 1) / lanes
	sum := m * vecs * lanes // in 1/lanes of a multiply-add
	if right.trans {
		sum += 14 * n
	} else {
		sum += 8 * n
	}
	switch {
	case left.trans:
		sum += 12 * m
	case left.kind != native:
		sum += 4 * m
	case vecs > 2*fewCols:
		sum += 3 * m
	}
	return sum
}

// blocks cuts n into the fewest parts of at most size, as equal as multiples of
// unit allow, and returns the number of parts and the length of all but the
// last.
func blocks(n, size, unit int) (count, length int) {
	count = max(1, (n+size-1)/size)
	length = (n + count - 1) / count
	length = (length + unit - 1) / unit * unit
	return (n + length - 1) / length, length
}

func scaleRows[T float](c []T, stride, rows, cols int, beta T) {
	for i := range rows {
		row := c[i*stride:][:cols]
		if beta == 0 {
			clear(row)
			continue
		}
		for j := range row {
			row[j] *= beta
		}
	}
}

// toBits returns v's bits, in the low half for float32.
func toBits[T float](v T) uint64 {
	if unsafe.Sizeof(v) == 4 {
		return uint64(*(*uint32)(unsafe.Pointer(&v)))
	}
	return *(*uint64)(unsafe.Pointer(&v))
}

func fromBits[T float](v uint64) T {
	var z T
	if unsafe.Sizeof(z) == 4 {
		w := uint32(v)
		return *(*T)(unsafe.Pointer(&w))
	}
	return *(*T)(unsafe.Pointer(&v))
}

// buffer returns n elements from the pool, of any content, at an address that
// 64 divides.
func buffer[T float](pool *sync.Pool, n int) *[]T {
	p, _ := pool.Get().(*[]T)
	if p == nil {
		p = new([]T)
	}
	if cap(*p) < n {
		*p = aligned[T](n)
	}
	*p = (*p)[:n]
	return p
}

// aligned returns n zeros at an address that 64 divides.
func aligned[T float](n int) []T {
	size := elemSize[T]()
	s := make([]T, n+64/size)
	off := int(-uintptr(unsafe.Pointer(unsafe.SliceData(s)))&63) / size
	return s[off : off+n]
}
