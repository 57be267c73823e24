package kernel

import (
	"fmt"
	"unsafe"
)

// Transpose copies aᵀ to dst, which must not overlap a.
func Transpose(dst, a Matrix) {
	dst.check("Transpose: dst")
	a.check("Transpose: a")
	if dst.Rows != a.Cols || dst.Cols != a.Rows {
		panic(fmt.Sprintf("kernel: Transpose: dst [%d,%d], a [%d,%d]", dst.Rows, dst.Cols, a.Rows, a.Cols))
	}
	e := active.f32
	whole := a.Rows / e.lanes * e.lanes
	for i := 0; i < whole && a.Cols > 0; i += e.lanes {
		call(e.transpose[native], packing{
			dst: unsafe.Pointer(&dst.Data[i]), dstStride: 4 * dst.Stride,
			src: unsafe.Pointer(&a.Data[i*a.Stride]), srcStride: 4 * a.Stride,
			rows: e.lanes, vecs: (a.Cols + e.lanes - 1) / e.lanes, mask: lastMask(a.Cols, e.lanes),
		})
	}
	for i := whole; i < a.Rows; i++ {
		for j, v := range a.Row(i) {
			dst.Data[j*dst.Stride+i] = v
		}
	}
}
