package kernel

import "fmt"

// Gemv computes y = alpha·op(a)·x + beta·y. With beta 0, y is not read.
func Gemv(workers int, trans bool, alpha float32, a Matrix, x []float32, beta float32, y []float32) {
	a.check("Gemv")
	checkGemv("Gemv", trans, a.Rows, a.Cols, len(x), len(y))
	gemv(workers, trans, alpha, a, x, beta, y)
}

// Gemv64 is [Gemv] in float64.
func Gemv64(workers int, trans bool, alpha float64, a Matrix64, x []float64, beta float64, y []float64) {
	a.check("Gemv64")
	checkGemv("Gemv64", trans, a.Rows, a.Cols, len(x), len(y))
	gemv64(workers, trans, alpha, a, x, beta, y)
}

// Ger adds the rank-one product: a += alpha·x·yᵀ, x [Rows], y [Cols].
func Ger(workers int, alpha float32, x, y []float32, a Matrix) {
	a.check("Ger")
	checkGemv("Ger", true, a.Rows, a.Cols, len(x), len(y))
	ger(workers, alpha, x, y, a)
}

// Ger64 is [Ger] in float64.
func Ger64(workers int, alpha float64, x, y []float64, a Matrix64) {
	a.check("Ger64")
	checkGemv("Ger64", true, a.Rows, a.Cols, len(x), len(y))
	ger64(workers, alpha, x, y, a)
}

func checkGemv(op string, trans bool, rows, cols, nx, ny int) {
	m, n := rows, cols
	if trans {
		m, n = n, m
	}
	if nx != n || ny != m {
		panic(fmt.Sprintf("kernel: %s: op(a) is %d × %d, x has %d elements, y has %d", op, m, n, nx, ny))
	}
}
