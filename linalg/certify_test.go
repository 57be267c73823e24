package linalg

import (
	"math"
	"math/rand/v2"
	"testing"

	"smelt/internal/kernel"
)

// TestProbe holds the random bound on ‖E‖²₂ to the norm that an exact
// decomposition of E finds, for decaying, flat and noisy spectra.
func TestProbe(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for c := range 40 {
		p, n := 100+rng.IntN(40), 150
		a := kernel.New(p, n)
		for i := range p {
			scale := math.Pow(float64(i+1), -float64(c%4)/2)
			if c%5 == 0 {
				a.Set(i, i, 1)
				continue
			}
			for j := range n {
				a.Set(i, j, float32(scale*rng.NormFloat64()))
			}
		}
		energy, err := checkMatrix("TestProbe", a)
		if err != nil {
			t.Fatal(err)
		}
		k := newKrylov(newOperator(new(workspace), a, 1), Options{Rank: 8, Seed: uint64(c), Tolerance: 1e-3}, energy, 16, p/2)
		k.start()
		for range 2 {
			if !k.extend() {
				k.restart(16)
				k.extend()
			}
		}
		if !(math.Abs(k.outside()-outsideOf(k, a)) <= 2*rounding*energy) {
			t.Errorf("case %d: ‖E‖² = %v, want %v", c, k.outside(), outsideOf(k, a))
		}
		k.probe(0, true)
		_, s, _ := decompose(1, residualOf(k, a))
		want := s[0] * s[0]
		if !(k.mu >= want*(1-1e-5)) {
			t.Errorf("case %d: ‖E‖²₂ = %v, above its bound %v", c, want, k.mu)
		}
		if !(k.mu <= 2*want+1e-4) {
			t.Errorf("case %d: ‖E‖²₂ = %v, bound %v is loose", c, want, k.mu)
		}
		if c%5 == 0 && !(k.mu <= 1.01) {
			t.Errorf("case %d: identity: bound %v, want 1", c, k.mu)
		}
	}
}

func residualOf(k *krylov, a Matrix) Matrix64 {
	e, q := widen(a), widen(k.basis())
	c := kernel.New64(q.Rows, a.Cols)
	kernel.Gemm64(1, false, false, 1, q, e, 0, c)
	kernel.Gemm64(1, true, false, -1, q, c, 1, e)
	return e
}

func outsideOf(k *krylov, a Matrix) float64 { return sumSquares64(residualOf(k, a).Data) }

// TestBasis holds a Krylov basis of a matrix whose rank it exhausts, and of one
// whose directions fade by many orders of magnitude, to orthonormal rows.
func TestBasis(t *testing.T) {
	for name, decay := range map[string]float64{"fading": 0.5, "rank 20": 0} {
		a := kernel.New(120, 150)
		rng := rand.New(rand.NewPCG(5, 6))
		for i := range 120 {
			scale := math.Pow(decay, float64(i))
			if decay == 0 && i < 20 {
				scale = 1
			}
			for j := range 150 {
				a.Set(i, j, float32(scale*rng.NormFloat64()))
			}
		}
		energy, err := checkMatrix("TestBasis", a)
		if err != nil {
			t.Fatal(err)
		}
		k := newKrylov(newOperator(new(workspace), a, 1), Options{Rank: 8, Tolerance: 1e-3}, energy, 16, 60)
		k.start()
		for k.d+k.w.Rows <= 60 && k.extend() {
		}
		if decay == 0 && k.d != 20 {
			t.Errorf("%s: a basis of %d vectors", name, k.d)
		}
		q := widen(k.basis())
		g := kernel.New64(k.d, k.d)
		kernel.Gemm64(1, false, true, 1, q, q, 0, g)
		for i := range k.d {
			g.Data[i*k.d+i]--
		}
		for _, v := range g.Data {
			if !(math.Abs(v) <= 1e-6) {
				t.Fatalf("%s: the basis departs from orthonormality by %v", name, v)
			}
		}
	}
}
