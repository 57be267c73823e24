package engine

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"

	"smelt/dtype"
)

// TestRoundBF16 holds roundBF16 against dtype.FromFloat64, most of all where
// rounding twice would tell: at and beside the middle between two values.
func TestRoundBF16(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var v []float64
	for range 20000 {
		x := math.Ldexp(1+float64(rng.IntN(1<<9))/(1<<8), rng.IntN(250)-125)
		if rng.IntN(2) == 0 {
			x = -x
		}
		bits := math.Float64bits(x)
		v = append(v, x, math.Float64frombits(bits+1), math.Float64frombits(bits-1), math.Float64frombits(bits+uint64(rng.IntN(1<<46))), x*(1+0x1p-25))
	}
	v = append(v, 0, math.Copysign(0, -1), 0x1p-126, 0x1.fep127)
	got, want := make([]byte, 2*len(v)), make([]byte, 2*len(v))
	if !roundBF16(got, v) {
		t.Fatal("roundBF16 refused normal numbers")
	}
	dtype.FromFloat64(want, v, dtype.BF16)
	if !bytes.Equal(got, want) {
		for i, x := range v {
			if !bytes.Equal(got[2*i:2*i+2], want[2*i:2*i+2]) {
				t.Fatalf("%x is % x, want % x", x, got[2*i:2*i+2], want[2*i:2*i+2])
			}
		}
	}
	for _, x := range []float64{0x1p-127, -0x1p-1074, 0x1.ffp127, math.Inf(-1), math.NaN()} {
		if roundBF16(make([]byte, 4), []float64{1, x}) {
			t.Errorf("roundBF16 took %x", x)
		}
	}
}
