package linalg_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"smelt/internal/kernel"
	"smelt/linalg"
)

// TestTruncateStreamed holds the factors of matrices that the caches do not
// hold, rows apart too, against the matrix: what they leave is what was not
// captured.
func TestTruncateStreamed(t *testing.T) {
	for _, s := range [][3]int{{1040, 1100, 0}, {1100, 1040, 16}} {
		m, n := s[0], s[1]
		rng := rand.New(rand.NewPCG(7, 8))
		a := kernel.Matrix{Rows: m, Cols: n, Stride: n + s[2], Data: make([]float32, m*(n+s[2]))}
		l, r := kernel.New(m, 20), kernel.New(20, n)
		for i := range l.Data {
			l.Data[i] = float32(rng.NormFloat64() / float64(1+i%20))
		}
		for i := range r.Data {
			r.Data[i] = float32(rng.NormFloat64())
		}
		kernel.Gemm(1, false, false, 1, l, r, 0, a)
		d, err := linalg.Truncate(a, linalg.Options{Rank: 8, RouterRank: 4, Seed: 1, Workers: 2})
		if err != nil {
			t.Fatal(err)
		}
		us := kernel.New(m, 8)
		for i := range m {
			for j := range 8 {
				us.Set(i, j, d.U.At(i, j)*float32(d.S[j]))
			}
		}
		kernel.Gemm(1, false, false, -1, us, d.Vt, 1, a)
		var left float64
		for i := range m {
			left += kernel.SumSquares(a.Row(i))
		}
		if want := d.Energy - d.Captured; !(math.Abs(left-want) <= 1e-4*d.Energy) || !d.Certificate.Met {
			t.Errorf("%v: the factors leave %v, want %v; certificate %+v", s, left, want, d.Certificate)
		}
	}
}
