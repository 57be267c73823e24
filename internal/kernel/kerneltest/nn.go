package kerneltest

import (
	"math"
	"testing"

	"smelt/internal/kernel"
)

// activation is an elementwise function with its reference and the error that
// it may have: rel·|want| + abs·|x| + the smallest denormal.
type activation struct {
	name     string
	f        func(dst, x []float32)
	want     func(x float64) float64
	rel, abs float64
}

func sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

func geluTanh(x float64) float64 {
	return x * sigmoid(2*0.7978845608028654*(x+0.044715*x*x*x))
}

var activations = []activation{
	{"Exp", kernel.Exp, math.Exp, 4 * epsilon, 0},
	{"GELU", kernel.GELU, func(x float64) float64 {
		if math.IsInf(x, 0) {
			return x * (0.5 + 0.5*math.Erf(x))
		}
		return x * 0.5 * math.Erfc(-x*math.Sqrt2/2)
	}, 8 * epsilon, 8 * epsilon},
	{"GELUTanh", kernel.GELUTanh, geluTanh, 128 * epsilon, 16 * epsilon},
	{"QuickGELU", kernel.QuickGELU, func(x float64) float64 { return x * sigmoid(1.702*x) }, 128 * epsilon, 16 * epsilon},
	{"SiLU", kernel.SiLU, func(x float64) float64 { return x * sigmoid(x) }, 64 * epsilon, 8 * epsilon},
}

func testActivations(t *testing.T) {
	r := source(3)
	for _, a := range activations {
		same := func(x, got float32) {
			t.Helper()
			want := a.want(float64(x))
			tol := a.rel*math.Abs(want) + 0x1p-149
			switch {
			case math.IsInf(float64(x), 0): // exact, or NaN
				tol = 0
			case math.Abs(want) > math.MaxFloat32:
				want = math.Copysign(math.Inf(1), want)
			default:
				tol += a.abs * math.Abs(float64(x))
			}
			if !near(float64(got), want, tol) && !(want != want && math.IsInf(float64(x), 0)) {
				t.Fatalf("%s(%v) = %v, want %v ± %v", a.name, x, got, want, tol)
			}
		}
		lengths(func(n, offset int) {
			x := randoms(r, n, offset)
			for i := range x {
				x[i] *= 5
			}
			g := guard[float32](n, offset)
			a.f(g.x, x)
			g.check(t, a.name)
			for i := range x {
				same(x[i], g.x[i])
			}
			copy(g.x, x)
			a.f(g.x, g.x)
			for i := range x {
				same(x[i], g.x[i])
			}
		})
		got := make([]float32, len(specials))
		a.f(got, specials)
		for i, x := range specials {
			same(x, got[i])
		}
	}
	lengths(func(n, offset int) {
		gate, up := randoms(r, n, offset), randoms(r, n, 0)
		for name, f := range map[string]struct {
			f    func(dst, gate, up []float32)
			want func(float64) float64
		}{
			"SiLUMul":     {kernel.SiLUMul, func(x float64) float64 { return x * sigmoid(x) }},
			"GELUTanhMul": {kernel.GELUTanhMul, geluTanh},
		} {
			g := guard[float32](n, offset)
			copy(g.x, up)
			f.f(g.x, gate, g.x)
			g.check(t, name)
			for i, got := range g.x {
				want := f.want(float64(gate[i])) * float64(up[i])
				if !near(float64(got), want, 64*epsilon*math.Abs(want)+32*epsilon*math.Abs(float64(gate[i]*up[i]))) {
					t.Fatalf("%s of %d: element %d is %v, want %v", name, n, i, got, want)
				}
			}
		}
	})
}

func testSoftmax(t *testing.T) {
	r := source(4)
	lengths(func(n, offset int) {
		x := randoms(r, n, offset)
		for i := range x {
			x[i] *= 10
		}
		if n > 3 {
			x[2] = float32(math.Inf(-1))
		}
		top := math.Inf(-1)
		for _, v := range x {
			top = max(top, float64(v))
		}
		var sum float64
		for _, v := range x {
			sum += math.Exp(float64(v) - top)
		}
		g := guard[float32](n, offset)
		kernel.Softmax(g.x, x)
		g.check(t, "Softmax")
		for i, got := range g.x {
			want := math.Exp(float64(x[i])-top) / sum
			if !near(float64(got), want, float64(n+40)*epsilon*want+0x1p-149) {
				t.Fatalf("Softmax of %d: element %d is %v, want %v", n, i, got, want)
			}
		}
	})
	for _, bad := range [][]float32{
		{float32(math.NaN()), 1}, {1, float32(math.Inf(1))}, {float32(math.Inf(-1)), float32(math.Inf(-1))},
	} {
		x := append([]float32(nil), bad...)
		kernel.Softmax(x, x)
		seen := false
		for _, v := range x {
			seen = seen || v != v
		}
		if !seen {
			t.Errorf("Softmax(%v) = %v, want NaN in it", bad, x)
		}
	}
	m := kernel.New(3, 20)
	fill(r, m.Data)
	kernel.SoftmaxRows(m.Slice(0, 3, 0, 17))
	for i := range 3 {
		var s float64
		for _, v := range m.Row(i)[:17] {
			s += float64(v)
		}
		if !near(s, 1, 1e-6) {
			t.Errorf("SoftmaxRows: row %d sums to %v", i, s)
		}
	}
}

func testNorms(t *testing.T) {
	r := source(5)
	const eps = 1e-5
	lengths(func(n, offset int) {
		if n == 0 {
			return
		}
		x, w, b := randoms(r, n, offset), randoms(r, n, 1), randoms(r, n, 2)
		for i := range x {
			x[i] += 3
		}
		var mean, sq, ms float64
		for _, v := range x {
			mean += float64(v) / float64(n)
			ms += float64(v) * float64(v) / float64(n)
		}
		for _, v := range x {
			sq += (float64(v) - mean) * (float64(v) - mean) / float64(n)
		}
		for mode := range 4 {
			ww, bb := w, b
			if mode&1 != 0 {
				ww = nil
			}
			if mode&2 != 0 {
				bb = nil
			}
			g, h := guard[float32](n, offset), guard[float32](n, offset)
			kernel.LayerNorm(g.x, x, ww, bb, eps)
			kernel.RMSNorm(h.x, x, ww, eps)
			g.check(t, "LayerNorm")
			h.check(t, "RMSNorm")
			for i, v := range x {
				inv := 1 / math.Sqrt(sq+eps)
				want, rms := (float64(v)-mean)*inv, float64(v)/math.Sqrt(ms+eps)
				if ww != nil {
					want *= float64(w[i])
					rms *= float64(w[i])
				}
				tol := 8 * epsilon * (math.Abs(float64(v)) + math.Abs(mean)) * inv * (1 + math.Abs(float64(w[i])))
				if bb != nil {
					want += float64(b[i])
					tol += 4 * epsilon * math.Abs(float64(b[i]))
				}
				if !near(float64(g.x[i]), want, tol+1e-6) {
					t.Fatalf("LayerNorm of %d, mode %d: element %d is %v, want %v", n, mode, i, g.x[i], want)
				}
				if !near(float64(h.x[i]), rms, 8*epsilon*math.Abs(rms)) {
					t.Fatalf("RMSNorm of %d, mode %d: element %d is %v, want %v", n, mode, i, h.x[i], rms)
				}
			}
		}
	})
}

func testRoPE(t *testing.T) {
	r := source(6)
	for h := 0; h <= 70; h++ {
		x, cos, sin := randoms(r, 2*h, 0), make([]float32, h), make([]float32, h)
		for i := range cos {
			s, c := math.Sincos(r.Float64() * 7)
			cos[i], sin[i] = float32(c), float32(s)
		}
		g, k := guard[float32](2*h, h%3), guard[float32](2*h, 0)
		copy(g.x, x)
		copy(k.x, x)
		kernel.RoPE(g.x, cos, sin)
		kernel.RoPEInterleaved(k.x, cos, sin)
		g.check(t, "RoPE")
		k.check(t, "RoPEInterleaved")
		for i := range h {
			for _, c := range []struct {
				name string
				x    []float32
				a, b int
			}{{"RoPE", g.x, i, i + h}, {"RoPEInterleaved", k.x, 2 * i, 2*i + 1}} {
				p, q := float64(x[c.a]), float64(x[c.b])
				tol := 4 * epsilon * (math.Abs(p) + math.Abs(q))
				lo, hi := p*float64(cos[i])-q*float64(sin[i]), q*float64(cos[i])+p*float64(sin[i])
				if !near(float64(c.x[c.a]), lo, tol) || !near(float64(c.x[c.b]), hi, tol) {
					t.Fatalf("%s of 2·%d: pair %d is (%v, %v), want (%v, %v)", c.name, h, i, c.x[c.a], c.x[c.b], lo, hi)
				}
			}
		}
	}
}
