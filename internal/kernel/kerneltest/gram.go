package kerneltest

import (
	"fmt"
	"math"
	"testing"

	"smelt/internal/kernel"
)

// testGemmGram holds both products against float64, and wants the same bits
// from any number of workers.
func testGemmGram(t *testing.T) {
	seed := uint64(3000)
	for _, s := range [][3]int{ // rows of x, rows and columns of a
		{0, 3, 4},
		{3, 0, 4},
		{3, 4, 0},
		{1, 1, 1},
		{1, 5, 3},
		{3, 17, 16},
		{16, 40, 64},
		{17, 33, 35},
		{33, 65, 31},
		{5, 130, 100},
		{16, 70, 1100},
		{32, 9, 2050},
		{70, 20, 40},
		{4, 4200, 10},
		{16, 2100, 33},
		{8, 50, 65},
		{8, 700, 768},
		{7, 5000, 66},
		{13, 500, 1000},
	} {
		b, m, n := s[0], s[1], s[2]
		for pad := range 2 {
			for _, beta := range []float32{0, -0.5} {
				seed++
				var first [2][]float32
				for _, workers := range []int{1, 2, 8} {
					r := source(seed)
					matrix := func(rows, cols int) kernel.Matrix {
						return kernel.Matrix{Rows: rows, Cols: cols, Stride: cols + pad, Data: randoms(r, rows*(cols+pad), pad)}
					}
					x, a := matrix(b, n), matrix(m, n)
					gt, gw := guard[float32](b*(m+2), pad), guard[float32](b*(n+2), pad)
					ct := kernel.Matrix{Rows: b, Cols: m, Stride: m + 2, Data: gt.x}
					cw := kernel.Matrix{Rows: b, Cols: n, Stride: n + 2, Data: gw.x}
					old := kernel.New(b, m)
					fill(r, old.Data)
					for i := range b {
						copy(ct.Row(i), old.Row(i))
						if beta == 0 {
							for j := range m {
								ct.Set(i, j, float32(math.NaN()))
							}
						}
					}
					kernel.GemmGram(workers, x, a, beta, ct, cw)
					what := fmt.Sprintf("GemmGram %v, padded %d, beta %v, %d workers", s, pad, beta, workers)
					gt.check(t, what)
					gw.check(t, what)
					for i := range b {
						for _, v := range append(ct.Data[i*ct.Stride+m:(i+1)*ct.Stride:(i+1)*ct.Stride], cw.Data[i*cw.Stride+n:(i+1)*cw.Stride]...) {
							if v != canary {
								t.Fatalf("%s: wrote beyond row %d", what, i)
							}
						}
					}
					if first[0] != nil {
						for k, got := range [][]float32{ct.Data, cw.Data} {
							for i, v := range got {
								if math.Float32bits(v) != math.Float32bits(first[k][i]) {
									t.Fatalf("%s: element %d of product %d is %v, by one worker %v", what, i, k, v, first[k][i])
								}
							}
						}
						continue
					}
					first = [2][]float32{ct.Data, cw.Data}
					checkGram(t, what, x, a, beta, old, ct, cw)
				}
			}
		}
	}
}

func checkGram(t *testing.T, what string, x, a kernel.Matrix, beta float32, old, ct, cw kernel.Matrix) {
	t.Helper()
	for i := range x.Rows {
		w, size := make([]float64, a.Cols), make([]float64, a.Cols)
		for r := range a.Rows {
			var sum, abs float64
			for k := range a.Cols {
				p := float64(x.At(i, k)) * float64(a.At(r, k))
				sum, abs = sum+p, abs+math.Abs(p)
			}
			if beta != 0 {
				p := float64(beta) * float64(old.At(i, r))
				sum, abs = sum+p, abs+math.Abs(p)
			}
			got := float64(ct.At(i, r))
			if tol := float64(a.Cols+4) * epsilon * abs; !near(got, sum, tol) {
				t.Fatalf("%s: t[%d,%d] = %v, want %v ± %v", what, i, r, got, sum, tol)
			}
			for k := range a.Cols {
				p := got * float64(a.At(r, k))
				w[k], size[k] = w[k]+p, size[k]+math.Abs(p)
			}
		}
		for k := range a.Cols {
			if got, tol := float64(cw.At(i, k)), float64(a.Rows+4)*epsilon*size[k]; !near(got, w[k], tol) {
				t.Fatalf("%s: w[%d,%d] = %v, want %v ± %v", what, i, k, got, w[k], tol)
			}
		}
	}
}
