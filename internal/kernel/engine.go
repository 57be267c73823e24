package kernel

import (
	"sync"
	"unsafe"

	"smelt/internal/parallel"
)

type float interface{ float32 | float64 }

// engine multiplies matrices of one element type with the register tiles of one
// variant, in the manner of GotoBLAS: op(b) is packed into panels of nr columns
// that lie as the tiles read them; a block of op(a) is packed into panels of mr
// rows; tiles then run over both from the caches.
//
// The k dimension is cut into blocks that depend on k alone, and every element
// of c receives them in order. So neither the workers nor the packing nor a
// tile's place changes a bit of the result.
type engine[T float] struct {
	lanes int // of a vector
	mr    int // rows of the largest tile
	nr    int // columns of the widest tile, 2*lanes
	tiles [3][]func(*tile)
	wide  sync.Pool // *[]T, for panels of b
	high  sync.Pool // *[]T, for panels of a
}

const (
	blockK   = 384      // most k of a block: a panel of b then takes the first-level cache
	blockM   = 14 * 16  // most rows of a packed block of a, which stays in the second-level cache
	packB    = 12 << 20 // bytes of op(b) packed at once, which stay in the third-level cache
	padPanel = 16       // elements between the rows of a packed panel of a, against cache-set conflicts
)

// view is a matrix of the engine's element type.
type view[T float] struct {
	rows, cols, stride int
	data               []T
}

func buffer[T float](pool *sync.Pool, n int) *[]T {
	p, _ := pool.Get().(*[]T)
	if p == nil {
		p = new([]T)
	}
	if cap(*p) < n {
		*p = alignedSlice[T](n)
	}
	*p = (*p)[:n]
	return p
}

// alignedSlice returns n zeros at an address that 64 divides.
func alignedSlice[T float](n int) []T {
	var z T
	size := int(unsafe.Sizeof(z))
	s := make([]T, n+64/size)
	off := int(-uintptr(unsafe.Pointer(unsafe.SliceData(s)))&63) / size
	return s[off : off+n]
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

// product is one run of the engine: c = alpha·op(a)·op(b) + beta·c.
type product[T float] struct {
	*engine[T]
	transA, transB bool
	alpha, beta    T
	a, b, c        view[T]
	m, n, k        int
	kParts, kLen   int
}

func (e *engine[T]) multiply(workers int, p product[T]) {
	p.engine = e
	if p.m == 0 || p.n == 0 {
		return
	}
	if p.k == 0 || p.alpha == 0 {
		scaleView(p.c, p.beta)
		return
	}
	p.kParts, p.kLen = blocks(p.k, blockK, 4)
	size := int(unsafe.Sizeof(p.alpha))
	_, nLen := blocks(p.n, max(e.nr, packB/(p.k*size)/e.nr*e.nr), e.nr)
	for j := 0; j < p.n; j += nLen {
		p.columns(workers, j, min(nLen, p.n-j))
	}
}

// columns computes columns [j0, j0+n) of c.
func (p *product[T]) columns(workers, j0, n int) {
	panels := (n + p.nr - 1) / p.nr
	buf := buffer[T](&p.wide, panels*p.nr*p.k)
	defer p.wide.Put(buf)
	packed := *buf
	parallel.For(workers, panels, func(j int) {
		col := j * p.nr
		p.packPanelB(packed, panels, j, j0+col, min(p.nr, n-col))
	})

	// A few tasks for each worker even out their speeds; each packs its own a.
	w := parallel.Workers(workers)
	rowParts, rowLen := blocks(p.m, min(blockM, max(p.mr, (p.m+3*w-1)/(3*w))), 1)
	if w == 1 {
		rowParts, rowLen = blocks(p.m, blockM, 1)
	}
	colParts, colLen := 1, panels
	if w > 1 && rowParts < 2*w {
		colParts, colLen = blocks(panels, max(1, panels*rowParts/(3*w)), 1)
	}
	parallel.For(workers, rowParts*colParts, func(t int) {
		i, j := t/colParts*rowLen, t%colParts*colLen
		p.block(packed, panels, i, min(rowLen, p.m-i), j0, j, min(colLen, panels-j), n)
	})
}

// packPanelB packs columns [col, col+n) of op(b), one panel, all of k, into
// dst: block after block of k, in each block panel after panel, in each panel
// k rows of nr elements; missing columns become zero.
func (p *product[T]) packPanelB(dst []T, panels, panel, col, n int) {
	for k := 0; k < p.k; k += p.kLen {
		kn := min(p.kLen, p.k-k)
		d := dst[(k*panels+panel*kn)*p.nr:][:kn*p.nr]
		if p.transB {
			packTrans(d, p.nr, p.b.data[col*p.b.stride+k:], p.b.stride, n, kn)
		} else {
			packRows(d, p.nr, p.b.data[k*p.b.stride+col:], p.b.stride, kn, n)
		}
	}
}

// packRows copies rows × cols elements to rows of width stride, filled up with
// zeros.
func packRows[T float](dst []T, width int, src []T, stride, rows, cols int) {
	for i := range rows {
		d := dst[i*width : (i+1)*width]
		copy(d, src[i*stride:][:cols])
		clear(d[cols:])
	}
}

// packTrans copies the transpose of rows × cols elements to rows of width
// stride, filled up with zeros.
func packTrans[T float](dst []T, width int, src []T, stride, rows, cols int) {
	if rows < width {
		clear(dst[:cols*width])
	}
	for i := range rows {
		s := src[i*stride:][:cols]
		for j, v := range s {
			dst[j*width+i] = v
		}
	}
}

// block computes rows [i0, i0+m) of c, and of the packed columns (n of them,
// which start at column j0 of c) the panels [first, first+count).
func (p *product[T]) block(packed []T, panels, i0, m, j0, first, count, n int) {
	size := int(unsafe.Sizeof(p.alpha))
	parts, height := blocks(m, p.mr, 1)
	var t tile
	t.alpha = bits(p.alpha)
	var buf *[]T
	pack := count > 1 || p.transA
	if pack {
		buf = buffer[T](&p.high, m*(p.kLen+padPanel)+64)
		defer p.high.Put(buf)
	}
	t.bStep = p.nr * size
	t.cRow = p.c.stride * size
	for k := 0; k < p.k; k += p.kLen {
		kn := min(p.kLen, p.k-k)
		t.k = kn
		t.beta = bits(T(1))
		if k == 0 {
			t.beta = bits(p.beta)
		}
		var a []T
		switch {
		case p.transA:
			a = *buf
			for i := range parts {
				h := min(height, m-i*height)
				packRows(a[i*height*kn:], h, p.a.data[k*p.a.stride+i0+i*height:], p.a.stride, kn, h)
			}
		case pack:
			a = *buf
			packRows(a, kn+padPanel, p.a.data[i0*p.a.stride+k:], p.a.stride, m, kn)
			t.aRow, t.aStep = (kn+padPanel)*size, size
		default:
			a = p.a.data[i0*p.a.stride+k:]
			t.aRow, t.aStep = p.a.stride*size, size
		}
		for j := first; j < first+count; j++ {
			t.b = unsafe.Pointer(&packed[(k*panels+j*kn)*p.nr])
			cols := min(p.nr, n-j*p.nr)
			nv := (cols + p.lanes - 1) / p.lanes
			t.lanes = cols - (nv-1)*p.lanes
			t.mask = 1<<t.lanes - 1
			for i := range parts {
				r := i * height
				h := min(height, m-r)
				next := r + height
				if next >= m {
					next = 0
				}
				if p.transA {
					t.a = unsafe.Pointer(&a[r*kn])
					t.next = unsafe.Pointer(&a[next*kn])
					t.aRow, t.aStep = size, h*size
				} else {
					t.a = unsafe.Pointer(&a[r*t.aRow/size])
					t.next = unsafe.Pointer(&a[next*t.aRow/size])
				}
				t.c = unsafe.Pointer(&p.c.data[(i0+r)*p.c.stride+j0+j*p.nr])
				p.tiles[nv][h](&t)
			}
		}
	}
}

func scaleView[T float](c view[T], beta T) {
	for i := range c.rows {
		row := c.data[i*c.stride:][:c.cols]
		if beta == 0 {
			clear(row)
			continue
		}
		for j := range row {
			row[j] *= beta
		}
	}
}

func bits[T float](v T) uint64 {
	switch v := any(v).(type) {
	case float32:
		return uint64(*(*uint32)(unsafe.Pointer(&v)))
	case float64:
		return *(*uint64)(unsafe.Pointer(&v))
	}
	return 0
}

func view32(m Matrix) view[float32] { return view[float32]{m.Rows, m.Cols, m.Stride, m.Data} }

func view64(m Matrix64) view[float64] { return view[float64]{m.Rows, m.Cols, m.Stride, m.Data} }
