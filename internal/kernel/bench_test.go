package kernel_test

import (
	"fmt"
	"testing"

	"smelt/dtype"
	"smelt/internal/kernel"
)

// gflops reports the rate of b's iterations, each of which takes flop.
func gflops(b *testing.B, flop float64) {
	b.ReportMetric(flop*float64(b.N)/float64(b.Elapsed().Nanoseconds()), "GFLOP/s")
}

func filled(rows, cols int) kernel.Matrix {
	m := kernel.New(rows, cols)
	for i := range m.Data {
		m.Data[i] = float32(i%17) - 8.3
	}
	return m
}

func BenchmarkGemm(b *testing.B) {
	for _, s := range [][3]int{{50, 50, 64}, {64, 3072, 768}, {1024, 1024, 1024}, {4096, 32, 4096}, {4096, 144, 14336}, {3200, 768, 3072}} {
		for _, trans := range []string{"NN", "TN", "NT"} {
			for _, workers := range []int{1, 2} {
				b.Run(fmt.Sprintf("%dx%dx%d/%s/%d", s[0], s[1], s[2], trans, workers), func(b *testing.B) {
					x, y, c := filled(s[0], s[2]), filled(s[2], s[1]), kernel.New(s[0], s[1])
					transA, transB := trans == "TN", trans == "NT"
					if transA {
						x = filled(s[2], s[0])
					}
					if transB {
						y = filled(s[1], s[2])
					}
					for b.Loop() {
						kernel.Gemm(workers, transA, transB, 1, x, y, 0, c)
					}
					gflops(b, 2*float64(s[0])*float64(s[1])*float64(s[2]))
				})
			}
		}
	}
}

func BenchmarkGemm64(b *testing.B) {
	for _, n := range []int{128, 512, 1024} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			x, c := kernel.New64(n, n), kernel.New64(n, n)
			for b.Loop() {
				kernel.Gemm64(1, false, false, 1, x, x, 0, c)
			}
			gflops(b, 2*float64(n)*float64(n)*float64(n))
		})
	}
}

func BenchmarkGemmWeight(b *testing.B) {
	for _, d := range []dtype.DType{dtype.F32, dtype.BF16, dtype.F16} {
		w := kernel.Weight{Rows: 4096, Cols: 4096, DType: d, Data: make([]byte, 4096*4096*d.Size())}
		for _, n := range []int{1, 4, 16, 64, 512} {
			b.Run(fmt.Sprintf("%v/%d", d, n), func(b *testing.B) {
				x, c := filled(n, w.Cols), kernel.New(n, w.Rows)
				b.SetBytes(int64(len(w.Data)))
				for b.Loop() {
					kernel.GemmWeight(0, c, x, w, 0)
				}
				gflops(b, 2*float64(n)*float64(w.Rows)*float64(w.Cols))
			})
		}
	}
}

func BenchmarkSubTo(b *testing.B) {
	for _, d := range []dtype.DType{dtype.F32, dtype.BF16} {
		b.Run(d.String(), func(b *testing.B) {
			dst := make([]float32, 1<<22)
			x := kernel.Stored{DType: d, Data: make([]byte, len(dst)*d.Size())}
			b.SetBytes(int64(2*len(x.Data) + 4*len(dst)))
			for b.Loop() {
				kernel.SubTo(0, dst, x, x)
			}
		})
	}
}

func BenchmarkVectors(b *testing.B) {
	x, y, w := filled(1, 4096).Data, filled(1, 4096).Data, filled(1, 4096).Data
	for name, f := range map[string]func(){
		"Dot":       func() { kernel.Dot(x, y) },
		"Axpy":      func() { kernel.Axpy(1e-9, x, y) },
		"Softmax":   func() { kernel.Softmax(y, x) },
		"GELU":      func() { kernel.GELU(y, x) },
		"SiLUMul":   func() { kernel.SiLUMul(y, x, w) },
		"LayerNorm": func() { kernel.LayerNorm(y, x, w, w, 1e-5) },
		"RMSNorm":   func() { kernel.RMSNorm(y, x, w, 1e-5) },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(4 * len(x)))
			for b.Loop() {
				f()
			}
		})
	}
}
