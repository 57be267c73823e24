// Package kerneltest is the suite that every variant of package kernel runs,
// generic Go among them: every length and offset, canaries around outputs, NaN,
// infinities and denormals, against float64.
package kerneltest

import (
	"math"
	"math/rand/v2"
	"testing"
)

// Run runs the whole suite on the kernels in use.
func Run(t *testing.T) {
	for _, c := range []struct {
		name string
		test func(*testing.T)
	}{
		{"Reductions", testReductions},
		{"Updates", testUpdates},
		{"Activations", testActivations},
		{"Softmax", testSoftmax},
		{"Norms", testNorms},
		{"RoPE", testRoPE},
		{"Widen", testWiden},
		{"Narrow", testNarrow},
		{"Float64", testFloat64},
		{"Sub", testSub},
		{"SubSpecial", testSubSpecial},
		{"Gemm", testGemm},
		{"Gemm64", testGemm64},
		{"GemmShapes", testGemmShapes},
		{"GemmSpecial", testGemmSpecial},
		{"GemmWorkers", testGemmWorkers},
		{"GemmWeight", testGemmWeight},
		{"GemmWeightLong", testGemmWeightLong},
		{"GemmWeightWorkers", testGemmWeightWorkers},
		{"GemmGroup", testGemmGroup},
		{"GemmBF16", testGemmBF16},
		{"Transpose", testTranspose},
		{"GemmGram", testGemmGram},
		{"Level2", testLevel2},
		{"Symmetric", testSymmetric},
	} {
		t.Run(c.name, c.test)
	}
}

// epsilon is float32's rounding unit, epsilon64 float64's.
const (
	epsilon   = 0x1p-24
	epsilon64 = 0x1p-53
)

// canary is what lies around every guarded slice.
const canary = -12345.5

// element is what guarded slices hold.
type element interface{ float32 | float64 }

// guarded is a slice with canaries on both sides.
type guarded[T element] struct {
	all []T
	x   []T
}

// guard returns n elements that start `offset` elements into an allocation.
func guard[T element](n, offset int) guarded[T] {
	const margin = 40
	all := make([]T, n+offset+2*margin)
	for i := range all {
		all[i] = canary
	}
	lo := margin + offset
	return guarded[T]{all, all[lo : lo+n : lo+n]}
}

// check fails t if a canary has been overwritten.
func (g guarded[T]) check(t *testing.T, what string) {
	t.Helper()
	for i, v := range g.all {
		if inside := i >= len(g.all)-40-len(g.x) && i < len(g.all)-40; !inside && v != canary {
			t.Fatalf("%s: wrote outside its output, at %d of [0,%d)", what, i-(len(g.all)-40-len(g.x)), len(g.x))
		}
	}
}

func source(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

// fill puts normal deviates into x.
func fill[T element](r *rand.Rand, x []T) {
	for i := range x {
		x[i] = T(r.NormFloat64())
	}
}

// randoms returns n normal deviates that start `offset` elements into an
// allocation.
func randoms(r *rand.Rand, n, offset int) []float32 {
	x := make([]float32, n+offset)[offset:]
	fill(r, x)
	return x
}

// near reports whether got is within tol of want; NaN equals NaN and an
// infinity itself.
func near(got, want, tol float64) bool {
	if want != want {
		return got != got
	}
	if math.IsInf(want, 0) {
		return got == want
	}
	return math.Abs(got-want) <= tol
}

// lengths calls f for every length up to 130 and some offset of its slices.
func lengths(f func(n, offset int)) {
	for n := 0; n <= 130; n++ {
		for _, o := range []int{0, 1 + n%7} {
			f(n, o)
		}
	}
	f(1000, 3)
	f(4096, 0)
}

// specials are the values that arithmetic trips over.
var specials = []float32{
	0, float32(math.Copysign(0, -1)), 1, -1, float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)),
	math.MaxFloat32, -math.MaxFloat32, math.SmallestNonzeroFloat32, -math.SmallestNonzeroFloat32, 1e-39, -1e-39,
	88.7, 88.8, 89, 100, -87.3, -87.4, -88, -100, -103.9, -104, -110, 1e10, -1e10, 1e-10, -1e-10, 0.5, -0.5,
	4, -4, 5.65, -5.65, 10, -10, 20, -20, 3, -3,
}
