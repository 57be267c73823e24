package analysis_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"smelt/analysis"
	"smelt/internal/kernel"
	"smelt/linalg"
)

// BenchmarkLayer measures what smelt analyze does with one layer, by part: the
// base's weight, and each delta of a full fine-tune.
func BenchmarkLayer(b *testing.B) {
	for _, shape := range [][2]int{{768, 768}, {3072, 768}, {1536, 1536}, {8960, 1536}, {1536, 8960}, {2048, 2048}, {4096, 4096}, {14336, 4096}} {
		m, n := shape[0], shape[1]
		w, delta := decaying(m, n, 1), decaying(m, n, 2)
		set := settings
		set.Rank, set.RouterRank, set.Depth = 32, 16, analysis.DefaultDepth
		begin := func(b *testing.B) *analysis.Builder {
			l, err := analysis.NewBuilder("x", w, 1, set, 1, 0)
			if err != nil {
				b.Fatal(err)
			}
			return l
		}
		name := fmt.Sprintf("%dx%d", m, n)
		b.Run(name+"/base", func(b *testing.B) {
			for b.Loop() {
				begin(b)
			}
		})
		b.Run(name+"/delta", func(b *testing.B) {
			l := begin(b)
			for b.Loop() {
				if err := l.Dense(0, delta); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// decaying is a matrix as tools/synth makes deltas: σᵢ ∝ i^-1/2 over its first
// directions, and noise.
func decaying(m, n int, seed uint64) linalg.Matrix {
	rng := rand.New(rand.NewPCG(seed, 1))
	const directions = 256
	u, v, a := kernel.New(m, directions), kernel.New(directions, n), kernel.New(m, n)
	fill := func(x linalg.Matrix, scale float64) {
		for i := range x.Data {
			x.Data[i] = float32(scale * rng.NormFloat64())
		}
	}
	fill(u, 1/math.Sqrt(float64(m)))
	fill(v, 1/math.Sqrt(float64(n)))
	fill(a, 0.2/math.Sqrt(float64(max(m, n))))
	for i := range directions {
		kernel.Scale(float32(1/math.Sqrt(float64(i+1))), v.Row(i))
	}
	kernel.Gemm(0, false, false, 1, u, v, 1, a)
	return a
}
