package linalg_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"smelt/internal/kernel"
	"smelt/internal/parallel"
	"smelt/linalg"
)

// decaying returns an m × n matrix whose spectrum falls like i^-1/2: a
// sum of outer products and 5 % of noise, as of a full fine-tune.
func decaying(m, n int) linalg.Matrix {
	rng := rand.New(rand.NewPCG(uint64(m), uint64(n)))
	const rank = 256
	u, v := kernel.New(rank, m), kernel.New(rank, n)
	for i := range rank {
		c := float32(math.Pow(float64(i+1), -0.5))
		for j := range m {
			u.Row(i)[j] = c * float32(rng.NormFloat64())
		}
		for j := range n {
			v.Row(i)[j] = float32(rng.NormFloat64())
		}
	}
	a := kernel.New(m, n)
	for i := range a.Data {
		a.Data[i] = float32(rng.NormFloat64())
	}
	kernel.Gemm(0, true, false, 1, u, v, 1.76, a)
	return a
}

// BenchmarkTruncate decomposes as fusing does: a matrix for each worker.
func BenchmarkTruncate(b *testing.B) {
	for _, s := range [][3]int{{768, 768, 32}, {3072, 768, 32}, {2048, 2048, 32}, {4096, 4096, 32}, {4096, 4096, 128}} {
		for _, each := range []int{1, 2} {
			b.Run(fmt.Sprintf("%dx%d/%d/%d", s[0], s[1], s[2], each), func(b *testing.B) {
				a := decaying(s[0], s[1])
				opt := linalg.Options{Rank: s[2], RouterRank: 16, Workers: 1}
				d, err := linalg.Truncate(a, opt)
				if err != nil || !d.Certificate.Met {
					b.Fatal(err, d.Certificate)
				}
				for b.Loop() {
					parallel.For(each, each, func(int) { _, _ = linalg.Truncate(a, opt) })
				}
				b.ReportMetric(float64(d.Certificate.Basis), "basis")
			})
		}
	}
}
