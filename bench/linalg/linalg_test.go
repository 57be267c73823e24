package main

import (
	"fmt"
	"testing"

	"smelt/internal/kernel"
	"smelt/linalg"
	"smelt/linalg/linalgtest"
)

// BenchmarkTruncate times the truncated decomposition of decaying and of
// almost flat spectra, with what it certifies as metrics.
func BenchmarkTruncate(b *testing.B) {
	for _, sh := range [][2]int{{768, 768}, {3072, 768}, {2048, 2048}} {
		for _, sp := range []int{0, 4} {
			a := narrow(linalgtest.WithSpectrum(sh[0], sh[1], linalgtest.Spectra[sp].Values(min(sh[0], sh[1])), 1))
			for _, r := range []int{32, 128} {
				b.Run(fmt.Sprintf("%dx%d/%s/rank%d", sh[0], sh[1], linalgtest.Spectra[sp].Name, r), func(b *testing.B) {
					var d linalg.SVD
					for b.Loop() {
						var err error
						if d, err = linalg.Truncate(a, linalg.Options{Rank: r, RouterRank: 16}); err != nil {
							b.Fatal(err)
						}
					}
					b.ReportMetric(d.Share(), "certified-share")
					b.ReportMetric(float64(d.Certificate.Basis), "basis")
				})
			}
		}
	}
}

// BenchmarkExact64 times the full decomposition in float64.
func BenchmarkExact64(b *testing.B) {
	for _, n := range []int{64, 256, 768} {
		a := linalgtest.Gaussian(n, n, 1)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				if _, err := linalg.Exact64(a, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkLowRank times a LoRA product from its factors.
func BenchmarkLowRank(b *testing.B) {
	for _, r := range []int{8, 64} {
		up, down := narrow(linalgtest.Gaussian(4096, r, 1)), narrow(linalgtest.Gaussian(r, 4096, 2))
		b.Run(fmt.Sprintf("4096x4096/rank%d", r), func(b *testing.B) {
			for b.Loop() {
				if _, err := linalg.LowRank(up, down, 2, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func narrow(a linalg.Matrix64) linalg.Matrix {
	b := kernel.New(a.Rows, a.Cols)
	kernel.F64ToF32(b.Data, a.Data)
	return b
}
