package kernel

import (
	"math/bits"
	"sync"
	"unsafe"

	"smelt/internal/parallel"
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
	across int // rows of the left operand in a packed panel where it is stored transposed
	tiles  [3][]func(*tile)
	packers

	right, left, sums sync.Pool // *[]T
}

const (
	blockK   = 4 << 10  // most bytes of a row of a block: the longer, the less often the result is read and written
	blockM   = 8 * 14   // most rows of a packed block of the left operand, which stays in the second-level cache
	blockMT  = 512      // the same of one stored transposed: the longer, the better its rows stream
	packR    = 12 << 20 // bytes of the right operand packed at once, which stay in the third-level cache
	fewCols  = 8        // up to this many panels, the left operand is not worth packing
	padPanel = 16       // elements between packed rows, against cache-set conflicts
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
	if m*n*k < 1<<15 {
		workers = 1
	}
	p := product[T]{engine: e, left: a, right: b, alpha: alpha, beta: beta, c: c, cStride: cStride, m: m, n: n, k: k}
	// Swapped roles leave the transpose, element by element: of weight where k
	// is small.
	back := 3 * e.lanes * m * n / (2 * k)
	if e.cost(b.transposed(), a.transposed(), n, m)+back < e.cost(a, b, m, n) {
		p.left, p.right, p.m, p.n, p.flip = b.transposed(), a.transposed(), n, m, true
	}
	size := elemSize[T]()
	_, p.kLen = blocks(k, blockK/size, 4)
	_, nLen := blocks(p.n, max(e.nr, packR/(k*size)/e.nr*e.nr), e.nr)
	for j := 0; j < p.n; j += nLen {
		p.columns(workers, j, min(nLen, p.n-j))
	}
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
		sum += 5 * m
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

// columns computes columns [j0, j0+n) of the product.
func (p *product[T]) columns(workers, j0, n int) {
	panels := (n + p.nr - 1) / p.nr
	buf := buffer[T](&p.engine.right, panels*p.nr*p.k)
	defer p.engine.right.Put(buf)
	packed := *buf
	parallel.For(workers, panels, func(j int) {
		col := j * p.nr
		p.packRight(packed, panels, j, j0+col, min(p.nr, n-col))
	})

	p.pack = p.left.trans || p.left.kind != native || panels > fewCols
	p.sub = blockM
	switch {
	case p.left.trans:
		p.sub = blockMT
	case !p.pack && panels > 1:
		p.sub = p.conflictFree()
	}
	// A few tasks for each worker even out their speeds. Each packs its own
	// blocks of the left operand.
	w := parallel.Workers(workers)
	most := p.m
	if w > 1 {
		most = max(p.mr, (p.m+3*w-1)/(3*w))
	}
	if p.flip {
		most = min(most, blockMT)
	}
	rowParts, rowLen := blocks(p.m, most, p.lanes)
	colParts, colLen := 1, panels
	if w > 1 && rowParts*colParts < 2*w {
		colParts, colLen = blocks(panels, max(1, panels*rowParts/(3*w)), 1)
	}
	parallel.For(workers, rowParts*colParts, func(t int) {
		i, j := t/colParts*rowLen, t%colParts*colLen
		p.block(packed, panels, i, min(rowLen, p.m-i), j0, j, min(colLen, panels-j), n)
	})
}

// conflictFree returns how many rows of the left operand, read where they lie,
// stay together in a second-level cache of 16 ways of 64 KiB.
func (p *product[T]) conflictFree() int {
	const way = 1 << 16
	groups := way / max(1<<bits.TrailingZeros(uint(p.left.stride|way)), p.kLen*p.left.size)
	return min(blockM, max(p.direct, 12*max(1, groups)/p.direct*p.direct))
}

// packRight packs columns [col, col+n) of the right operand, one panel, all of
// k: block after block of k, in each block panel after panel, in each panel k
// rows of nr elements. Where a panel has fewer columns, the last vector that has
// some is filled up with zeros, and what lies beyond is left as it is.
func (p *product[T]) packRight(dst []T, panels, panel, col, n int) {
	size := elemSize[T]()
	for k := 0; k < p.k; k += p.kLen {
		kn := min(p.kLen, p.k-k)
		d := dst[(k*panels+panel*kn)*p.nr:][:kn*p.nr]
		if !p.right.trans {
			call(p.copyRows[p.right.kind], packing{
				dst: unsafe.Pointer(&d[0]), dstStride: p.nr * size,
				src: p.right.at(k, col), srcStride: p.right.stride,
				rows: kn, vecs: (n + p.lanes - 1) / p.lanes, mask: lastMask(n, p.lanes), ahead: 4 * p.right.stride,
			})
			continue
		}
		for half := 0; half < n; half += p.lanes {
			call(p.transpose[p.right.kind], packing{
				dst: unsafe.Pointer(&d[half]), dstStride: p.nr * size,
				src: p.right.at(k, col+half), srcStride: p.right.stride,
				rows: min(p.lanes, n-half), vecs: (kn + p.lanes - 1) / p.lanes, mask: lastMask(kn, p.lanes),
			})
		}
	}
}

// lastMask returns the bits of the last of the vectors that hold n elements.
func lastMask(n, lanes int) uint64 { return 1<<((n-1)%lanes+1) - 1 }

// Arguments of kernels live on the heap and are used again: a kernel is called
// through a table, where the compiler cannot see that it keeps no pointer, and
// the stack is no place for what it cannot see to be in use.
var (
	tileArgs    = sync.Pool{New: func() any { return new(tile) }}
	packingArgs = sync.Pool{New: func() any { return new(packing) }}
)

// call runs a packing kernel.
func call(kernel func(*packing), p packing) {
	arg := packingArgs.Get().(*packing)
	*arg = p
	kernel(arg)
	*arg = packing{}
	packingArgs.Put(arg)
}

// block computes rows [i0, i0+m) of the product, and of the packed columns (n
// of them, which start at column j0) the panels [first, first+count).
func (p *product[T]) block(packed []T, panels, i0, m, j0, first, count, n int) {
	size := elemSize[T]()
	var left []T
	if p.pack {
		buf := buffer[T](&p.engine.left, (min(m, p.sub)+p.across)*(p.kLen+padPanel))
		defer p.engine.left.Put(buf)
		left = *buf
	}
	c, cStride, beta := p.c, p.cStride, p.beta
	if p.flip {
		buf := buffer[T](&p.sums, m*count*p.nr)
		defer p.sums.Put(buf)
		c, cStride, beta = *buf, count*p.nr, 0
	} else {
		c = c[i0*cStride+j0+first*p.nr:]
	}
	t := tileArgs.Get().(*tile)
	defer func() {
		*t = tile{}
		tileArgs.Put(t)
	}()
	*t = tile{alpha: toBits(p.alpha), bStep: p.nr * size, cRow: cStride * size}
	for k := 0; k < p.k; k += p.kLen {
		kn := min(p.kLen, p.k-k)
		t.k = kn
		t.beta = toBits(T(1))
		if k == 0 {
			t.beta = toBits(beta)
		}
		for s := 0; s < m; s += p.sub {
			p.rows(t, left, packed[k*panels*p.nr:], c[s*cStride:], cStride, i0+s, min(p.sub, m-s), k, first, count, n)
		}
	}
	if p.flip {
		p.unflip(c, cStride, i0, m, j0+first*p.nr, min(count*p.nr, n-first*p.nr))
	}
}

// rows adds the products of one block of k to rows [i0, i0+m), which c starts
// with, and the panels [first, first+count).
func (p *product[T]) rows(t *tile, left, packed, c []T, cStride, i0, m, k, first, count, n int) {
	size := elemSize[T]()
	kn := t.k
	var parts, height int
	switch {
	case !p.pack:
		parts, height = blocks(m, p.direct, 1)
	case p.left.trans:
		height = min(p.across, p.direct)
		parts = (m + height - 1) / height
	default:
		parts, height = blocks(m, p.mr, 1)
	}
	if p.pack {
		p.packLeft(left, i0, m, k, kn)
	}
	for j := first; j < first+count; j++ {
		t.b = unsafe.Pointer(&packed[j*kn*p.nr])
		cols := min(p.nr, n-j*p.nr)
		t.lanes, t.mask = (cols-1)%p.lanes+1, lastMask(cols, p.lanes)
		tiles := p.tiles[(cols+p.lanes-1)/p.lanes]
		for i := range parts {
			r := i * height
			h := min(height, m-r)
			next := r + height
			if next >= m {
				next = 0
			}
			switch {
			case !p.pack:
				t.aRow, t.aStep = p.left.stride, size
				t.a, t.next = p.left.at(i0+r, k), p.left.at(i0+next, k)
				if next == 0 && j == first+count-1 && i0+m < p.m {
					t.next = p.left.at(i0+m, k)
				}
			case p.left.trans:
				t.aRow, t.aStep = size, p.across*size
				t.a = unsafe.Pointer(&left[r/p.across*p.across*kn+r%p.across])
				t.next = unsafe.Pointer(&left[next/p.across*p.across*kn+next%p.across])
			default:
				t.aRow, t.aStep = (kn+padPanel)*size, size
				t.a, t.next = unsafe.Pointer(&left[r*(kn+padPanel)]), unsafe.Pointer(&left[next*(kn+padPanel)])
			}
			t.c = unsafe.Pointer(&c[r*cStride+(j-first)*p.nr])
			tiles[h](t)
		}
	}
}

// packLeft packs rows [i0, i0+m) of the left operand and kn of its columns:
// row by row, or, where it is stored transposed, in panels of `across` rows,
// in each panel column by column.
func (p *product[T]) packLeft(dst []T, i0, m, k, kn int) {
	size := elemSize[T]()
	if !p.left.trans {
		call(p.copyRows[p.left.kind], packing{
			dst: unsafe.Pointer(&dst[0]), dstStride: (kn + padPanel) * size,
			src: p.left.at(i0, k), srcStride: p.left.stride,
			rows: m, vecs: (kn + p.lanes - 1) / p.lanes, mask: lastMask(kn, p.lanes), ahead: 4 * p.left.stride,
		})
		return
	}
	w := p.across
	full := m / w
	for _, s := range [2]struct{ row, height, panels int }{{0, w, full}, {full * w, m - full*w, 1}} {
		if s.height*s.panels == 0 {
			continue
		}
		call(p.spread, packing{
			dst: unsafe.Pointer(&dst[s.row*kn]), dstStride: w * size,
			src: p.left.at(i0+s.row, k), srcStride: p.left.stride,
			rows: kn, vecs: s.panels, mask: 1<<s.height - 1, ahead: 2 * p.left.stride,
			srcStep: w * size, dstStep: w * kn * size,
		})
	}
}

// unflip adds the sums [m,n] to rows [j0, j0+n) and columns [i0, i0+m) of c.
func (p *product[T]) unflip(sums []T, stride, i0, m, j0, n int) {
	for j := range n {
		row := p.c[(j0+j)*p.cStride+i0:][:m]
		if p.beta == 0 {
			for i := range row {
				row[i] = sums[i*stride+j]
			}
			continue
		}
		for i := range row {
			row[i] = sums[i*stride+j] + p.beta*row[i]
		}
	}
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
