package kernel

import (
	"sync"
	"unsafe"
)

// packRight packs one panel, rows [k, k+kn) and columns [col, col+n) of the
// right operand, as kn rows of nr elements. Where there are fewer columns, the
// last vector that has some is filled up with zeros, and what lies beyond is
// left as it is.
func (p *product[T]) packRight(dst []T, k, kn, col, n int) {
	size := elemSize[T]()
	if !p.right.trans {
		call(p.copyRows[p.right.kind], packing{
			dst: unsafe.Pointer(&dst[0]), dstStride: p.nr * size,
			src: p.right.at(k, col), srcStride: p.right.stride,
			rows: kn, vecs: (n + p.lanes - 1) / p.lanes, mask: lastMask(n, p.lanes), ahead: 16 * p.right.stride,
		})
		return
	}
	for half := 0; half < n; half += p.lanes {
		call(p.transpose[p.right.kind], packing{
			dst: unsafe.Pointer(&dst[half]), dstStride: p.nr * size,
			src: p.right.at(k, col+half), srcStride: p.right.stride,
			rows: min(p.lanes, n-half), vecs: (kn + p.lanes - 1) / p.lanes, mask: lastMask(kn, p.lanes),
		})
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

// packLeft packs rows [i0, i0+m) of the left operand and kn of its columns:
// row by row, or, where it is stored transposed, in panels of w rows, in each
// panel column by column.
func (p *product[T]) packLeft(dst []T, w, i0, m, k, kn int) {
	size := elemSize[T]()
	if !p.left.trans {
		call(p.copyRows[p.left.kind], packing{
			dst: unsafe.Pointer(&dst[0]), dstStride: (kn + padPanel) * size,
			src: p.left.at(i0, k), srcStride: p.left.stride,
			rows: m, vecs: (kn + p.lanes - 1) / p.lanes, mask: lastMask(kn, p.lanes), ahead: 4 * p.left.stride,
		})
		return
	}
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
