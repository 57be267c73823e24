// Package linalgtest holds what every implementation of a singular value
// decomposition must satisfy: invariants, laws and hostile inputs, never the
// entries of U and V, which are not unique.
package linalgtest

import (
	"math"
	"math/rand/v2"

	"smelt/internal/kernel"
	"smelt/linalg"
)

// Spectrum names a family of singular values.
type Spectrum struct {
	Name string
	S    func(i, k int) float64 // σᵢ of k, i from 0, descending
}

// Spectra are the families that the suites run on.
var Spectra = []Spectrum{
	{"i^-1/2", func(i, _ int) float64 { return 1 / math.Sqrt(float64(i+1)) }},
	{"1/i", func(i, _ int) float64 { return 1 / float64(i+1) }},
	{"exponential", func(i, _ int) float64 { return math.Exp(-float64(i) / 3) }},
	{"flat", func(int, int) float64 { return 1 }},
	{"almost flat", func(i, k int) float64 { return 1 - 0.1*float64(i)/float64(k) }},
	{"clusters", func(i, _ int) float64 { return math.Ldexp(1, -(i / 5)) }},
	{"step", func(i, _ int) float64 {
		if i < 10 {
			return 1
		}
		return 0.01
	}},
	{"low rank", func(i, _ int) float64 {
		if i < 7 {
			return 3 - 0.2*float64(i)
		}
		return 0
	}},
	{"ill-conditioned", func(i, k int) float64 { return math.Pow(10, -12*float64(i)/float64(k)) }},
	{"large", func(i, _ int) float64 { return 1e30 / float64(i+1) }},
	{"small", func(i, _ int) float64 { return 1e-30 / float64(i+1) }},
}

// Values returns the k singular values of the family.
func (s Spectrum) Values(k int) []float64 {
	v := make([]float64, k)
	for i := range v {
		v[i] = s.S(i, k)
	}
	return v
}

// WithSpectrum returns an m × n matrix with the given min(m,n) singular values:
// a diagonal matrix between random reflections, so that the values are those
// of the construction, not of another decomposition.
func WithSpectrum(m, n int, s []float64, seed uint64) linalg.Matrix64 {
	rng := rand.New(rand.NewPCG(seed, 17))
	a := kernel.New64(m, n)
	for i, v := range s {
		a.Set(i, i, v)
	}
	for range 8 {
		v, w := direction(rng, m), direction(rng, n)
		// a ← (I − 2vvᵀ)·a·(I − 2wwᵀ)
		row := make([]float64, n)
		kernel.Gemv64(1, true, 1, a, v, 0, row)
		kernel.Ger64(1, -2, v, row, a)
		col := make([]float64, m)
		kernel.Gemv64(1, false, 1, a, w, 0, col)
		kernel.Ger64(1, -2, col, w, a)
	}
	return a
}

func direction(rng *rand.Rand, n int) []float64 {
	v := make([]float64, n)
	for i := range v {
		v[i] = rng.NormFloat64()
	}
	kernel.Scale64(1/kernel.Nrm264(v), v)
	return v
}

// Gaussian returns an m × n matrix of independent normal numbers.
func Gaussian(m, n int, seed uint64) linalg.Matrix64 {
	rng := rand.New(rand.NewPCG(seed, 23))
	a := kernel.New64(m, n)
	for i := range a.Data {
		a.Data[i] = rng.NormFloat64()
	}
	return a
}

// Round returns a in float32, in a matrix whose rows are followed by NaN that
// nothing may read.
func Round(a linalg.Matrix64) linalg.Matrix {
	b := linalg.Matrix{Rows: a.Rows, Cols: a.Cols, Stride: a.Cols + 3, Data: make([]float32, a.Rows*(a.Cols+3))}
	for i := range b.Data {
		b.Data[i] = float32(math.NaN())
	}
	for i := range a.Rows {
		for j, v := range a.Row(i) {
			b.Set(i, j, float32(v))
		}
	}
	return b
}

// Widen returns a in float64, without gaps.
func Widen(a linalg.Matrix) linalg.Matrix64 {
	b := kernel.New64(a.Rows, a.Cols)
	for i := range a.Rows {
		for j, v := range a.Row(i) {
			b.Set(i, j, float64(v))
		}
	}
	return b
}
