package kerneltest

import (
	"math"
	"testing"

	"smelt/internal/kernel"
)

func testReductions(t *testing.T) {
	r := source(1)
	lengths(func(n, offset int) {
		x, y := randoms(r, n, offset), randoms(r, n, 0)
		var dot, abs, squares float64
		for i := range x {
			p := float64(x[i]) * float64(y[i])
			dot, abs, squares = dot+p, abs+math.Abs(p), squares+float64(x[i])*float64(x[i])
		}
		tol := float64(n+1) * abs
		if got := kernel.Dot(x, y); !near(float64(got), dot, epsilon*tol) {
			t.Fatalf("Dot of %d: got %v, want %v", n, got, dot)
		}
		if got := kernel.DotAcc64(x, y); !near(got, dot, epsilon64*tol) {
			t.Fatalf("DotAcc64 of %d: got %v, want %v", n, got, dot)
		}
		if got := kernel.SumSquares(x); !near(got, squares, epsilon64*float64(n+1)*squares) {
			t.Fatalf("SumSquares of %d: got %v, want %v", n, got, squares)
		}
		if got, want := kernel.Nrm2(x), math.Sqrt(squares); !near(got, want, 4*epsilon64*float64(n+1)*want) {
			t.Fatalf("Nrm2 of %d: got %v, want %v", n, got, want)
		}
		x64, y64 := make([]float64, n+offset)[offset:], make([]float64, n)
		for i := range x64 {
			x64[i], y64[i] = float64(x[i]), float64(y[i])
		}
		if got := kernel.Dot64(x64, y64); !near(got, dot, epsilon64*tol) {
			t.Fatalf("Dot64 of %d: got %v, want %v", n, got, dot)
		}
		if got, want := kernel.Nrm264(x64), math.Sqrt(squares); !near(got, want, 4*epsilon64*float64(n+1)*want) {
			t.Fatalf("Nrm264 of %d: got %v, want %v", n, got, want)
		}
	})
	big := []float64{3e300, 4e300}
	if got := kernel.Nrm264(big); !near(got, 5e300, 1e286) {
		t.Errorf("Nrm264(%v) = %v, want 5e300", big, got)
	}
	small := []float64{3e-300, 4e-300}
	if got := kernel.Nrm264(small); !near(got, 5e-300, 1e-314) {
		t.Errorf("Nrm264(%v) = %v, want 5e-300", small, got)
	}
	for _, bad := range []float64{math.NaN(), math.Inf(1)} {
		if got := kernel.Nrm264([]float64{1, bad, 2}); !near(got, bad, 0) {
			t.Errorf("Nrm264 with %v = %v", bad, got)
		}
	}
}

func testUpdates(t *testing.T) {
	r := source(2)
	lengths(func(n, offset int) {
		x, y := randoms(r, n, offset), randoms(r, n, 0)
		const alpha = -1.75
		check := func(name string, run func(dst []float32), want func(i int) float64, tol float64) {
			t.Helper()
			g := guard[float32](n, offset)
			copy(g.x, y)
			run(g.x)
			g.check(t, name)
			for i, got := range g.x {
				if w := want(i); !near(float64(got), w, tol*(math.Abs(float64(x[i]))+math.Abs(float64(y[i])))) {
					t.Fatalf("%s of %d: element %d is %v, want %v", name, n, i, got, w)
				}
			}
		}
		check("Axpy", func(d []float32) { kernel.Axpy(alpha, x, d) }, func(i int) float64 { return float64(y[i]) + alpha*float64(x[i]) }, 4*epsilon)
		check("Scale", func(d []float32) { kernel.Scale(alpha, d) }, func(i int) float64 { return alpha * float64(y[i]) }, 2*epsilon)
		check("Add", func(d []float32) { kernel.Add(d, x, d) }, func(i int) float64 { return float64(x[i] + y[i]) }, 0)
		check("Mul", func(d []float32) { kernel.Mul(d, d, x) }, func(i int) float64 { return float64(x[i] * y[i]) }, 0)
		check("ReLU", func(d []float32) { kernel.ReLU(d, x) }, func(i int) float64 { return float64(max(x[i], 0)) }, 0)

		x64, g := make([]float64, n+offset)[offset:], guard[float64](n, offset)
		fill(r, x64)
		y64 := make([]float64, n)
		fill(r, y64)
		copy(g.x, y64)
		kernel.Axpy64(alpha, x64, g.x)
		kernel.Scale64(2, g.x)
		g.check(t, "Axpy64, Scale64")
		for i, got := range g.x {
			if want := 2 * (y64[i] + alpha*x64[i]); !near(got, want, 8*epsilon64*(math.Abs(x64[i])+math.Abs(y64[i]))) {
				t.Fatalf("Axpy64 and Scale64 of %d: element %d is %v, want %v", n, i, got, want)
			}
		}
	})
}
