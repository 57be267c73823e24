package analysis

import (
	"math"
	"testing"

	"smelt/internal/kernel"
	"smelt/linalg"
	"smelt/linalg/linalgtest"
)

// From the shorter side and the weight alone the zones are the same as from both
// sides: dense and from factors, for weights of every shape, of full and of lower
// rank, ill-conditioned, and too large or too small for products in float32.
func TestSides(t *testing.T) {
	narrow := func(a linalg.Matrix64) linalg.Matrix { return linalgtest.Round(a) }
	for _, shape := range [][2]int{{60, 60}, {90, 40}, {40, 90}} {
		m, n := shape[0], shape[1]
		p := min(m, n)
		bases := map[string]linalg.Matrix{"full": narrow(linalgtest.Gaussian(m, n, 4)), "low": kernel.New(m, n), "zero": kernel.New(m, n)}
		kernel.Gemm(1, false, false, 1, narrow(linalgtest.Gaussian(m, 9, 5)), narrow(linalgtest.Gaussian(9, n, 6)), 0, bases["low"])
		falling := make([]float64, p)
		for i := range falling {
			falling[i] = math.Pow(10, -4*float64(i)/float64(p))
		}
		bases["ill"] = narrow(linalgtest.WithSpectrum(m, n, falling, 7))
		for name, scale := range map[string]float32{"large": 1e25, "small": 1e-25} {
			w := kernel.New(m, n)
			for i := range m {
				copy(w.Row(i), bases["full"].Row(i))
			}
			kernel.Scale(scale, w.Data)
			bases[name] = w
		}
		d := narrow(linalgtest.Gaussian(m, n, 8))
		b, a := narrow(linalgtest.Gaussian(m, 5, 9)), narrow(linalgtest.Gaussian(5, n, 10))
		factors, err := linalg.LowRank(b, a, 1, 1)
		if err != nil {
			t.Fatal(err)
		}
		for name, w := range bases {
			one, err := shortSide(w, 1)
			if err != nil {
				t.Fatal(err)
			}
			two, err := NewSubspaces(w, 1)
			if err != nil {
				t.Fatal(err)
			}
			two.cut(gramNoise / float64(max(m, n))) // low: of float32 factors
			if one.Half != two.Half || one.Rank != two.Rank {
				t.Fatalf("%s %v: r_half %d, rank %d; from both sides %d, %d", name, shape, one.Half, one.Rank, two.Half, two.Rank)
			}
			x, err := one.Zones(d, 1)
			if err != nil {
				t.Fatal(err)
			}
			y, _ := two.Zones(d, 1)
			u, _ := one.ZonesOfFactors(factors, 1)
			v, _ := two.ZonesOfFactors(factors, 1)
			tolerance := 2e-6
			if name == "ill" {
				tolerance = 2e-5
			}
			for i := range 3 {
				for j := range 3 {
					if !(math.Abs(x.Blocks[i][j]-y.Blocks[i][j]) <= tolerance) {
						t.Errorf("%s %v: block %d,%d is %v, from both sides %v", name, shape, i, j, x.Blocks[i][j], y.Blocks[i][j])
					}
					if !(math.Abs(u.Blocks[i][j]-v.Blocks[i][j]) <= tolerance) {
						t.Errorf("%s %v: block %d,%d of factors is %v, from both sides %v", name, shape, i, j, u.Blocks[i][j], v.Blocks[i][j])
					}
				}
			}
		}
	}
}
