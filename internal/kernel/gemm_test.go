package kernel

import (
	"math"
	"math/rand/v2"
	"testing"

	"smelt/dtype"
)

func random(r *rand.Rand, rows, cols, stride int) Matrix {
	m := Matrix{Rows: rows, Cols: cols, Stride: stride, Data: make([]float32, rows*stride)}
	for i := range m.Data {
		m.Data[i] = float32(r.NormFloat64())
	}
	return m
}

func op(trans bool, m Matrix, i, j int) float64 {
	if trans {
		i, j = j, i
	}
	return float64(m.At(i, j))
}

func TestGemm(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, s := range [][3]int{{0, 3, 2}, {3, 0, 2}, {2, 3, 0}, {1, 1, 1}, {7, 5, 9}, {33, 17, 65}} {
		for flags := range 16 {
			transA, transB := flags&1 != 0, flags&2 != 0
			alpha, beta := float32(1+flags&4), float32(flags&8)/16
			m, n, k := s[0], s[1], s[2]
			ar, ac, br, bc := m, k, k, n
			if transA {
				ar, ac = ac, ar
			}
			if transB {
				br, bc = bc, br
			}
			a, b, c := random(r, ar, ac, ac+3), random(r, br, bc, bc+1), random(r, m, n, n+2)
			want := New64(m, n)
			tol := New64(m, n)
			for i := range m {
				for j := range n {
					var sum, abs float64
					for p := range k {
						v := op(transA, a, i, p) * op(transB, b, p, j)
						sum, abs = sum+v, abs+math.Abs(v)
					}
					want.Set(i, j, float64(alpha)*sum+float64(beta)*float64(c.At(i, j)))
					tol.Set(i, j, 0x1p-23*float64(k+2)*(float64(alpha)*abs+math.Abs(float64(beta)*float64(c.At(i, j)))))
				}
			}
			Gemm(0, transA, transB, alpha, a, b, beta, c)
			for i := range m {
				for j := range n {
					if d := math.Abs(float64(c.At(i, j)) - want.At(i, j)); !(d <= tol.At(i, j)) {
						t.Fatalf("%v flags %d: c[%d,%d] = %v, want %v ± %v", s, flags, i, j, c.At(i, j), want.At(i, j), tol.At(i, j))
					}
				}
			}
		}
	}
}

func TestGemmWeight(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, d := range []dtype.DType{dtype.F32, dtype.BF16, dtype.F16} {
		for _, s := range [][3]int{{1, 5, 7}, {3, 40, 33}, {0, 4, 4}, {4, 0, 4}} {
			x, m := random(r, s[0], s[2], s[2]+1), random(r, s[1], s[2], s[2])
			w := Weight{Rows: s[1], Cols: s[2], DType: d, Data: make([]byte, s[1]*s[2]*d.Size())}
			dtype.FromFloat32(w.Data, m.Data, d)
			dtype.ToFloat32(m.Data, w.Data, d)
			got, want := New(s[0], s[1]), New(s[0], s[1])
			GemmWeight(0, got, x, w, 0)
			Gemm(0, false, true, 1, x, m, 0, want)
			for i := range want.Data {
				if g, w := got.Data[i], want.Data[i]; !(math.Abs(float64(g-w)) <= 1e-5) {
					t.Fatalf("%v %v: element %d is %v, want %v", d, s, i, g, w)
				}
			}
		}
	}
}
