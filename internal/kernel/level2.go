package kernel

import (
	"fmt"
	"sync"
	"unsafe"

	"smelt/internal/parallel"
)

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

const (
	level2Rows = 64   // of one task of a rank-one product
	level2Cols = 1024 // of one task of a product with a transpose
)

// level2Workers returns 1 where n elements are too few to share.
func level2Workers(workers, n int) int {
	if n < 1<<16 {
		return 1
	}
	return workers
}

func gemv(workers int, trans bool, alpha float32, a Matrix, x []float32, beta float32, y []float32) {
	scaleRows(y, len(y), 1, len(y), beta)
	if alpha == 0 || len(x) == 0 || len(y) == 0 {
		return
	}
	sums := &active.f32.sums
	workers = level2Workers(workers, len(x)*len(y))
	switch {
	case workers == 1 && trans: // without a closure's memory
		combine(sums, active.axpy4F32, active.axpyF32, lane16, alpha, x, a.Data, a.Stride, y)
	case workers == 1:
		rowDots(sums, native, active.dotF32, lane16, alpha, a.Data, a.Stride, x, y)
	case trans:
		parallel.For(workers, (a.Cols+level2Cols-1)/level2Cols, func(t int) {
			lo, hi := t*level2Cols, min(a.Cols, (t+1)*level2Cols)
			combine(sums, active.axpy4F32, active.axpyF32, lane16, alpha, x, a.Data[lo:], a.Stride, y[lo:hi])
		})
	default:
		newShares(workers, a.Rows, a.Cols*elemSize[float32]()).each(func(lo, hi int) {
			rowDots(sums, native, active.dotF32, lane16, alpha, a.Data[lo*a.Stride:], a.Stride, x, y[lo:hi])
		})
	}
}

func gemv64(workers int, trans bool, alpha float64, a Matrix64, x []float64, beta float64, y []float64) {
	scaleRows(y, len(y), 1, len(y), beta)
	if alpha == 0 || len(x) == 0 || len(y) == 0 {
		return
	}
	sums := &active.f64.sums
	workers = level2Workers(workers, len(x)*len(y))
	switch {
	case workers == 1 && trans: // without a closure's memory
		combine(sums, active.axpy4F64, active.axpyF64, lane16/2, alpha, x, a.Data, a.Stride, y)
	case workers == 1:
		rowDots(sums, wide, active.dotF64, lane16/2, alpha, a.Data, a.Stride, x, y)
	case trans:
		parallel.For(workers, (a.Cols+level2Cols-1)/level2Cols, func(t int) {
			lo, hi := t*level2Cols, min(a.Cols, (t+1)*level2Cols)
			combine(sums, active.axpy4F64, active.axpyF64, lane16/2, alpha, x, a.Data[lo:], a.Stride, y[lo:hi])
		})
	default:
		newShares(workers, a.Rows, a.Cols*elemSize[float64]()).each(func(lo, hi int) {
			rowDots(sums, wide, active.dotF64, lane16/2, alpha, a.Data[lo*a.Stride:], a.Stride, x, y[lo:hi])
		})
	}
}

func ger(workers int, alpha float32, x, y []float32, a Matrix) {
	if len(y) == 0 {
		return
	}
	parallel.For(level2Workers(workers, len(x)*len(y)), (len(x)+level2Rows-1)/level2Rows, func(t int) {
		for i := t * level2Rows; i < min(len(x), (t+1)*level2Rows); i++ {
			Axpy(alpha*x[i], y, a.Row(i))
		}
	})
}

func ger64(workers int, alpha float64, x, y []float64, a Matrix64) {
	if len(y) == 0 {
		return
	}
	parallel.For(level2Workers(workers, len(x)*len(y)), (len(x)+level2Rows-1)/level2Rows, func(t int) {
		for i := t * level2Rows; i < min(len(x), (t+1)*level2Rows); i++ {
			Axpy64(alpha*x[i], y, a.Row(i))
		}
	})
}

// combine adds alpha·Σ x[r]·(row r of a) to y, four rows at a time.
func combine[T float](pool *sync.Pool, axpy4 func(alpha, x *T, stride int, y *T, n int), axpy func(alpha T, x, y *T, n int), unit int, alpha T, x, a []T, stride int, y []T) {
	n := len(y) / unit * unit
	size := elemSize[T]()
	buf := buffer[T](pool, len(x))
	defer pool.Put(buf)
	scaled := *buf
	for i, v := range x {
		scaled[i] = alpha * v
	}
	r := 0
	for ; n > 0 && r+4 <= len(x); r += 4 {
		axpy4(&scaled[r], &a[r*stride], stride*size, &y[0], n)
	}
	for ; n > 0 && r < len(x); r++ {
		axpy(scaled[r], &a[r*stride], &y[0], n)
	}
	for r, v := range scaled {
		for j := n; j < len(y); j++ {
			y[j] += v * a[r*stride+j]
		}
	}
}

// rowDots adds alpha·(row i of a)·x to y[i].
func rowDots[T float](pool *sync.Pool, k kind, dot func(x, y *T, n int) T, unit int, alpha T, a []T, stride int, x, y []T) {
	s := &active.streams
	size := elemSize[T]()
	if s.rows == 0 || len(x)*size < 2*s.bytes {
		n := len(x) / unit * unit
		for i := range y {
			row := a[i*stride:][:len(x)]
			var sum T
			if n > 0 {
				sum = dot(&row[0], &x[0], n)
			}
			for j := n; j < len(x); j++ {
				sum += row[j] * x[j]
			}
			y[i] += alpha * sum
		}
		return
	}
	buf := buffer[T](pool, len(y))
	defer pool.Put(buf)
	sums := *buf
	d := dotsArgs.Get().(*dots)
	defer d.free()
	d.wRow, d.steps = stride*size, len(x)*size/s.bytes
	s.run(k, d, 1, len(y), unsafe.Pointer(&x[0]), unsafe.Pointer(&a[0]), unsafe.Pointer(&sums[0]), size)
	for i, sum := range sums {
		for j := d.steps * s.bytes / size; j < len(x); j++ {
			sum += a[i*stride+j] * x[j]
		}
		y[i] += alpha * sum
	}
}
