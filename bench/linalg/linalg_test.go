package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"smelt/internal/kernel"
	"smelt/linalg"
	"smelt/linalg/linalgtest"
)

// TestRun holds what run says of a matrix from a file against what it must be.
func TestRun(t *testing.T) {
	const m, n = 300, 200
	a := narrow(linalgtest.WithSpectrum(m, n, linalgtest.Spectra[0].Values(n), 1))
	file := filepath.Join(t.TempDir(), "a.f32")
	data, _ := binary.Append(nil, binary.LittleEndian, a.Data)
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	opt := linalg.Options{Rank: 4, RouterRank: 2, Workers: 1}
	r, err := run(m, n, file, file+".vt", 2, false, opt)
	if err != nil {
		t.Fatal(err)
	}
	if c := r.Certificate; !c.Met || len(r.Wall) != 2 || !(r.FMA > 0) || !(r.Read > 0) || r.Operations < 4*m*n*float64(c.Basis) {
		t.Errorf("%+v: want a certificate, two times, floors, and two products for each vector of the basis", r)
	}
	if vt, err := os.ReadFile(file + ".vt"); err != nil || len(vt) != 4*4*n {
		t.Errorf("%d bytes of singular vectors (%v), want %d", len(vt), err, 4*4*n)
	}
	opt.Rank = n // the deterministic path
	if r, err = run(m, n, file, "", 0, false, opt); err != nil || r.Certificate.Products != 0 || r.Operations < 2*n*n*m {
		t.Errorf("%+v, %v: want the Gram matrix's operations, and no products", r, err)
	}
	if _, err := run(m, n+1, file, "", 0, false, opt); err == nil || !strings.Contains(err.Error(), "want 241200 for 300 × 201") {
		t.Errorf("a file that is too short: %v", err)
	}
}

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
