package kernel

import (
	"fmt"

	"smelt/dtype"
	"smelt/internal/parallel"
)

// Pairs reports whether [GemmBF16] rounds the input of products of many rows
// with w. Products that share an input can then round it once, by [RoundPairs],
// for [GemmPairs].
func Pairs(w Weight) bool {
	return active.bf16 != nil && w.DType == dtype.BF16 && w.Cols%2 == 0
}

// RoundPairs writes x [N,in] rounded to bfloat16, two to an element of dst
// [N,in/2].
func RoundPairs(workers int, dst, x Matrix) {
	dst.check("RoundPairs: dst")
	x.check("RoundPairs: x")
	if dst.Rows != x.Rows || 2*dst.Cols != x.Cols {
		panic(fmt.Sprintf("kernel: RoundPairs: dst is %d × %d, x is %d × %d, want half the columns", dst.Rows, dst.Cols, x.Rows, x.Cols))
	}
	if dst.Stride == dst.Cols && x.Stride == x.Cols {
		Narrow(workers, BytesOf(dst.Data[:dst.Rows*dst.Cols]), dtype.BF16, x.Data[:x.Rows*x.Cols])
		return
	}
	parallel.For(chunkWorkers(workers, x.Rows*x.Cols), x.Rows, func(i int) {
		narrow(BytesOf(dst.Row(i)), dtype.BF16, x.Row(i))
	})
}

// GemmPairs is [GemmBF16] for x [N,in/2] that [RoundPairs] has rounded, and for
// any number of rows; it panics where [Pairs] is false.
func GemmPairs(workers int, c, x Matrix, w Weight, beta float32) {
	c.check("GemmPairs: c")
	x.check("GemmPairs: x")
	w.check("GemmPairs")
	if !Pairs(w) || 2*x.Cols != w.Cols || c.Rows != x.Rows || c.Cols != w.Rows {
		panic(fmt.Sprintf("kernel: GemmPairs: c [%d,%d] = x [%d,2·%d] · wᵀ, w [%d,%d] of dtype %v", c.Rows, c.Cols, x.Rows, x.Cols, w.Rows, w.Cols, w.DType))
	}
	gemmPairs(workers, c, x, w, beta)
}

// gemmPairs is GemmPairs on arguments that are known to fit.
func gemmPairs(workers int, c, x Matrix, w Weight, beta float32) {
	right := w.operand()
	right.size, right.kind = 4, native
	active.bf16.multiply(workers, c.Rows, c.Cols, x.Cols, 1, x.operand(false), right, beta, c.Data, c.Stride)
}
