package kernel

import "smelt/internal/parallel"

// symBlock is the width of the block columns of symmetric products.
const symBlock = 256

func syrk64(workers int, trans bool, alpha float64, a Matrix64, beta float64, c Matrix64) {
	lower64(workers, beta, c, func(i0, i1, j1 int) {
		var left, right Matrix64
		if trans {
			left, right = a.Slice(0, a.Rows, i0, i1), a.Slice(0, a.Rows, 0, j1)
		} else {
			left, right = a.Slice(i0, i1, 0, a.Cols), a.Slice(0, j1, 0, a.Cols)
		}
		Gemm64(workers, trans, !trans, alpha, left, right, beta, c.Slice(i0, i1, 0, j1))
	})
}

func syr2k64(workers int, alpha float64, a, b Matrix64, beta float64, c Matrix64) {
	lower64(workers, beta, c, func(i0, i1, j1 int) {
		k := a.Cols
		block := c.Slice(i0, i1, 0, j1)
		Gemm64(workers, false, true, alpha, a.Slice(i0, i1, 0, k), b.Slice(0, j1, 0, k), beta, block)
		Gemm64(workers, false, true, alpha, b.Slice(i0, i1, 0, k), a.Slice(0, j1, 0, k), 1, block)
	})
}

// lower64 has the block rows of c's lower triangle computed, each to the end of
// its block on the diagonal, and mirrors the triangle.
func lower64(workers int, beta float64, c Matrix64, rows func(i0, i1, j1 int)) {
	n := c.Rows
	for i := 0; i < n; i += symBlock {
		end := min(n, i+symBlock)
		if beta != 0 {
			mirror64(c.Slice(i, end, i, end), 0, end-i)
		}
		rows(i, end, end)
	}
	parallel.For(workers, (n+symBlock-1)/symBlock, func(b int) {
		mirror64(c, b*symBlock, min(n, (b+1)*symBlock))
	})
}

// mirror64 copies the part of c's lower triangle that lies in rows [lo, hi) to
// the upper one, in squares that stay in the caches.
func mirror64(c Matrix64, lo, hi int) {
	const side = 16
	for i0 := lo; i0 < hi; i0 += side {
		for j0 := 0; j0 <= i0; j0 += side {
			for i := i0; i < min(hi, i0+side); i++ {
				row := c.Data[i*c.Stride:]
				for j := j0; j < min(i, j0+side); j++ {
					c.Data[j*c.Stride+i] = row[j]
				}
			}
		}
	}
}
