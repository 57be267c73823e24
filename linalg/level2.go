package linalg

import (
	"smelt/internal/kernel"
	"smelt/internal/parallel"
)

// sharedSize is the order from which products of a matrix and a vector are
// bound by memory and shared out.
const sharedSize = 512

// gemv computes y = a·x, large ones with their rows shared out.
func gemv(workers int, a Matrix64, x, y []float64) {
	const chunk = 128
	if a.Rows < sharedSize {
		kernel.Gemv64(1, false, 1, a, x, 0, y)
		return
	}
	parallel.For(workers, (a.Rows+chunk-1)/chunk, func(c int) {
		for i := c * chunk; i < min((c+1)*chunk, a.Rows); i++ {
			at := i * a.Stride
			y[i] = kernel.Dot64(a.Data[at:at+a.Cols], x)
		}
	})
}

// gemvTrans computes y = aᵀ·x, a row after the other, so that a is read as it
// lies. Large ones have their columns shared out, in chunks by size alone.
func gemvTrans(workers int, a Matrix64, x, y []float64) {
	width := 256
	if a.Cols < sharedSize {
		width = max(a.Cols, 1)
	}
	parallel.For(workers, (a.Cols+width-1)/width, func(c int) {
		c0, c1 := c*width, min((c+1)*width, a.Cols)
		part := y[c0:c1]
		clear(part)
		for i, v := range x {
			at := i * a.Stride
			kernel.Axpy64(v, a.Data[at+c0:at+c1], part)
		}
	})
}

// subtractRows computes y −= aᵀ·x for an a of few rows.
func subtractRows(a Matrix64, x, y []float64) {
	kernel.Gemv64(1, true, -1, a, x, 1, y)
}

// symv computes y = g·x for the symmetric g whose upper triangle is given, read
// once for both of its halves. Large ones are cut into bands of rows, by size
// alone, whose results are added in order.
func symv(workers int, g Matrix64, x, y []float64) {
	n := g.Rows
	if n < sharedSize {
		clear(y)
		symvBand(g, x, y, 0, n)
		return
	}
	const bands = 8
	part := kernel.New64(bands, n)
	parallel.For(workers, bands, func(b int) {
		// Rows are handed out in pairs from both ends: all bands read alike.
		half := (n + 2*bands - 1) / (2 * bands)
		row := part.Row(b)
		symvBand(g, x, row, min(b*half, n), min((b+1)*half, n))
		b = 2*bands - 1 - b
		symvBand(g, x, row, min(b*half, n), min((b+1)*half, n))
	})
	copy(y, part.Row(0))
	for b := 1; b < bands; b++ {
		kernel.Axpy64(1, part.Row(b), y)
	}
}

// symvBand adds to y what rows r0 to r1 of the upper triangle contribute.
func symvBand(g Matrix64, x, y []float64, r0, r1 int) {
	for i := r0; i < r1; i++ {
		row := g.Row(i)[i:]
		y[i] += kernel.Dot64(row, x[i:])
		kernel.Axpy64(x[i], row[1:], y[i+1:])
	}
}

// updateBand is how many rows updateUpper takes at once.
const updateBand = 256

// updateUpper computes g −= aᵀ·b on the upper triangle of the square g (and on
// elements below it: on all of them up to the order updateBand).
func updateUpper(workers int, a, b, g Matrix64) {
	for i := 0; i < g.Rows; i += updateBand {
		end := min(i+updateBand, g.Rows)
		kernel.Gemm64(workers, true, false, -1, a.Slice(0, a.Rows, i, end), b.Slice(0, b.Rows, i, b.Cols), 1, g.Slice(i, end, i, g.Cols))
	}
}
