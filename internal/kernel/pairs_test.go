package kernel_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"smelt/dtype"
	"smelt/internal/kernel"
)

// Rounding an input once for several products must not change a bit.
func TestPairs(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 1))
	w := kernel.Weight{Rows: 75, Cols: 262, DType: dtype.BF16, Data: make([]byte, 75*262*2)}
	values := make([]float32, w.Rows*w.Cols)
	for i := range values {
		values[i] = float32(r.NormFloat64())
	}
	dtype.FromFloat32(w.Data, values, w.DType)
	if !kernel.Pairs(w) {
		return // nothing is rounded on this CPU
	}
	wide := kernel.New(130, w.Cols+5)
	for i := range wide.Data {
		wide.Data[i] = float32(r.NormFloat64())
	}
	for _, x := range []kernel.Matrix{
		wide.Slice(0, wide.Rows, 0, w.Cols), // rows apart
		kernel.Of(40, w.Cols, wide.Data[:40*w.Cols]),
	} {
		for _, beta := range []float32{0, 1, -0.5} {
			want, got := kernel.New(x.Rows, w.Rows), kernel.New(x.Rows, w.Rows)
			for i := range want.Data {
				want.Data[i] = float32(i % 13)
			}
			copy(got.Data, want.Data)
			kernel.GemmBF16(2, want, x, w, beta)
			pairs := kernel.New(x.Rows, w.Cols/2)
			kernel.RoundPairs(2, pairs, x)
			for i := range x.Rows { // row by row, too
				kernel.GemmPairs(1, got.Slice(i, i+1, 0, got.Cols), pairs.Slice(i, i+1, 0, pairs.Cols), w, beta)
			}
			if !slices.Equal(want.Data, got.Data) {
				t.Errorf("%d rows %d apart, beta %v: GemmPairs differs from GemmBF16", x.Rows, x.Stride, beta)
			}
		}
	}
}
