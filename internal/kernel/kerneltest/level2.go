package kerneltest

import (
	"math"
	"testing"

	"smelt/internal/kernel"
)

func testLevel2(t *testing.T) {
	r := source(20)
	for _, s := range [][2]int{{0, 3}, {3, 0}, {1, 1}, {5, 9}, {16, 16}, {33, 70}, {130, 64}, {7, 300}, {300, 7}} {
		for flags := range 4 {
			trans, beta := flags&1 != 0, float32(flags/2)*0.5
			rows, cols := s[0], s[1]
			a := kernel.New(rows, cols+1).Slice(0, rows, 0, cols)
			fill(r, a.Data)
			m, n := rows, cols
			if trans {
				m, n = n, m
			}
			x, old := randoms(r, n, 1), randoms(r, m, 0)
			g := guard[float32](m, 2)
			copy(g.x, old)
			kernel.Gemv(2, trans, 1.5, a, x, beta, g.x)
			g.check(t, "Gemv")

			a64 := kernel.New64(rows, cols+1).Slice(0, rows, 0, cols)
			for i := range rows {
				for j := range cols {
					a64.Set(i, j, float64(a.At(i, j)))
				}
			}
			x64, g64 := make([]float64, n), guard[float64](m, 1)
			kernel.F32ToF64(x64, x)
			kernel.F32ToF64(g64.x, old)
			kernel.Gemv64(2, trans, 1.5, a64, x64, float64(beta), g64.x)
			g64.check(t, "Gemv64")
			for i := range m {
				var sum, abs float64
				for j := range n {
					p := element32(a, trans, i, j) * x64[j]
					sum, abs = sum+p, abs+math.Abs(p)
				}
				want := 1.5*sum + float64(beta)*float64(old[i])
				abs = float64(n+4) * (2*abs + math.Abs(float64(old[i])))
				if !near(float64(g.x[i]), want, epsilon*abs) || !near(g64.x[i], want, epsilon64*abs) {
					t.Fatalf("Gemv %v, trans %v: y[%d] = %v and %v, want %v", s, trans, i, g.x[i], g64.x[i], want)
				}
			}
		}
		rows, cols := s[0], s[1]
		x, y := randoms(r, rows, 0), randoms(r, cols, 1)
		g, h := guard[float32](rows*(cols+1), 1), guard[float64](rows*(cols+1), 1)
		a := kernel.Matrix{Rows: rows, Cols: cols, Stride: cols + 1, Data: g.x}
		a64 := kernel.Matrix64{Rows: rows, Cols: cols, Stride: cols + 1, Data: h.x}
		for i := range rows {
			clear(a.Row(i))
			clear(a64.Row(i))
		}
		x64, y64 := make([]float64, rows), make([]float64, cols)
		kernel.F32ToF64(x64, x)
		kernel.F32ToF64(y64, y)
		kernel.Ger(2, -2, x, y, a)
		kernel.Ger64(2, -2, x64, y64, a64)
		g.check(t, "Ger")
		h.check(t, "Ger64")
		for i := range rows {
			for j := range cols {
				want := -2 * x64[i] * y64[j]
				if !near(float64(a.At(i, j)), want, 2*epsilon*math.Abs(want)) || !near(a64.At(i, j), want, 2*epsilon64*math.Abs(want)) {
					t.Fatalf("Ger %v: a[%d,%d] = %v and %v, want %v", s, i, j, a.At(i, j), a64.At(i, j), want)
				}
			}
		}
	}
}

func testSymmetric(t *testing.T) {
	r := source(21)
	for _, s := range [][2]int{{0, 2}, {1, 1}, {5, 3}, {40, 70}, {130, 20}, {300, 33}} {
		n, k := s[0], s[1]
		for _, trans := range []bool{false, true} {
			a := kernel.New64(n, k)
			if trans {
				a = kernel.New64(k, n)
			}
			fill(r, a.Data)
			checkSymmetric(t, n, func(c kernel.Matrix64) { kernel.Syrk64(2, trans, -1, a, 0.5, c) },
				func(c kernel.Matrix64) { kernel.Gemm64(1, trans, !trans, -1, a, a, 0.5, c) })
		}
		a, b := kernel.New64(n, k), kernel.New64(n, k)
		fill(r, a.Data)
		fill(r, b.Data)
		checkSymmetric(t, n, func(c kernel.Matrix64) { kernel.Syr2k64(2, -1, a, b, 0.5, c) },
			func(c kernel.Matrix64) {
				kernel.Gemm64(1, false, true, -1, a, b, 0.5, c)
				kernel.Gemm64(1, false, true, -1, b, a, 1, c)
			})
	}
}

// checkSymmetric holds a routine on symmetric matrices, which reads the lower
// triangle alone, against one that reads all.
func checkSymmetric(t *testing.T, n int, run, reference func(kernel.Matrix64)) {
	t.Helper()
	r := source(22)
	g := guard[float64](n*(n+1), 1)
	c, want := kernel.Matrix64{Rows: n, Cols: n, Stride: n + 1, Data: g.x}, kernel.New64(n, n)
	for i := range n {
		for j := range i + 1 {
			v := r.NormFloat64()
			want.Set(i, j, v)
			want.Set(j, i, v)
			c.Set(j, i, math.NaN())
			c.Set(i, j, v)
		}
	}
	run(c)
	reference(want)
	g.check(t, "symmetric")
	for i := range n {
		for j := range n {
			if !near(c.At(i, j), want.At(i, j), 1e-12*float64(n+10)) || c.At(i, j) != c.At(j, i) {
				t.Fatalf("symmetric %d: c[%d,%d] = %v, want %v", n, i, j, c.At(i, j), want.At(i, j))
			}
		}
	}
}
