package kernel

import (
	"fmt"
	"math"
	"slices"
)

// Dot returns Σ x[i]*y[i].
func Dot(x, y []float32) float32 {
	checkLen("Dot", len(x), len(y))
	var s float32
	n := len(x) &^ (lane16 - 1)
	if n > 0 {
		s = active.dotF32(ptr(x), ptr(y), n)
	}
	if n < len(x) {
		t := newTails()
		s += active.dotF32(pad(&t.a, x[n:], 0), pad(&t.b, y[n:], 0), lane16)
		t.free()
	}
	return s
}

// DotAcc64 returns Σ x[i]*y[i], every product exact and summed in float64.
func DotAcc64(x, y []float32) float64 {
	checkLen("DotAcc64", len(x), len(y))
	var s float64
	n := len(x) &^ (lane16 - 1)
	if n > 0 {
		s = active.dotAcc(ptr(x), ptr(y), n)
	}
	if n < len(x) {
		t := newTails()
		s += active.dotAcc(pad(&t.a, x[n:], 0), pad(&t.b, y[n:], 0), lane16)
		t.free()
	}
	return s
}

// Dot64 returns Σ x[i]*y[i].
func Dot64(x, y []float64) float64 {
	checkLen("Dot64", len(x), len(y))
	var s float64
	n := len(x) &^ 7
	if n > 0 {
		s = active.dotF64(ptr(x), ptr(y), n)
	}
	for i := n; i < len(x); i++ {
		s += x[i] * y[i]
	}
	return s
}

// Axpy adds alpha·x to y.
func Axpy(alpha float32, x, y []float32) {
	checkLen("Axpy", len(x), len(y))
	n := len(x) &^ (lane16 - 1)
	if n > 0 {
		active.axpyF32(alpha, ptr(x), ptr(y), n)
	}
	for i := n; i < len(x); i++ {
		y[i] += alpha * x[i]
	}
}

// Axpy64 is [Axpy] in float64.
func Axpy64(alpha float64, x, y []float64) {
	checkLen("Axpy64", len(x), len(y))
	n := len(x) &^ 7
	if n > 0 {
		active.axpyF64(alpha, ptr(x), ptr(y), n)
	}
	for i := n; i < len(x); i++ {
		y[i] += alpha * x[i]
	}
}

// Scale multiplies x by alpha.
func Scale(alpha float32, x []float32) {
	n := len(x) &^ (lane16 - 1)
	if n > 0 {
		active.scaleF32(alpha, ptr(x), n)
	}
	for i := n; i < len(x); i++ {
		x[i] *= alpha
	}
}

// Scale64 is [Scale] in float64.
func Scale64(alpha float64, x []float64) {
	n := len(x) &^ 7
	if n > 0 {
		active.scaleF64(alpha, ptr(x), n)
	}
	for i := n; i < len(x); i++ {
		x[i] *= alpha
	}
}

// SumSquares returns Σ x[i]², summed in float64.
func SumSquares(x []float32) float64 { return DotAcc64(x, x) }

// Nrm2 returns the Euclidean norm of x, accumulated in float64: no scaling is
// needed, since no float32's square overflows or underflows there.
func Nrm2(x []float32) float64 { return math.Sqrt(SumSquares(x)) }

// Nrm264 returns the Euclidean norm of x, scaled where the plain sum of squares
// would overflow or underflow.
func Nrm264(x []float64) float64 {
	s := Dot64(x, x)
	if s >= 0x1p-900 && s <= 0x1p1000 {
		return math.Sqrt(s)
	}
	var top float64
	for _, v := range x {
		if v != v {
			return v
		}
		top = max(top, math.Abs(v))
	}
	if top == 0 || math.IsInf(top, 0) {
		return top
	}
	s = 0
	for _, v := range x {
		v /= top
		s += v * v
	}
	return top * math.Sqrt(s)
}

// Add computes dst = x + y; dst may be x or y.
func Add(dst, x, y []float32) {
	checkLen("Add", len(dst), len(x), len(y))
	mapTo2(active.add, dst, x, y)
}

// Mul computes dst = x * y, element by element; dst may be x or y.
func Mul(dst, x, y []float32) {
	checkLen("Mul", len(dst), len(x), len(y))
	mapTo2(active.mul, dst, x, y)
}

// checkLen panics unless all lengths are n. What it prints is a copy, so that
// its arguments stay on the stack.
func checkLen(op string, n int, more ...int) {
	for _, m := range more {
		if m != n {
			panic(fmt.Sprintf("kernel: %s: lengths %d and %v, want equal ones", op, n, slices.Clone(more)))
		}
	}
}
