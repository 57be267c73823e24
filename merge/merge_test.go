package merge

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestMagnitudes: the two passes find what sorting finds, however the values
// are cut and wherever the rank falls.
func TestMagnitudes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for name, draw := range map[string]func() float64{
		"normal": r.NormFloat64,
		"ties":   func() float64 { return float64(r.IntN(5)) / 8 },
		"sparse": func() float64 { return float64(r.IntN(20)/19) * r.NormFloat64() },
		"wide":   func() float64 { return math.Exp(40 * r.NormFloat64()) },
		"close":  func() float64 { return 1 + 1e-5*r.NormFloat64() },
	} {
		for _, n := range []int{1, 2, 7, 1000} {
			for _, zeros := range []int64{0, 3, 5000} {
				for _, density := range []float64{1e-9, 0.1, 0.2, 0.5, 0.99, 1} {
					v := make([]float64, n)
					for i := range v {
						v[i] = draw()
					}
					m := &Magnitudes{}
					for pass := range 2 {
						half := m.Again()
						m.Add(v[:n/3])
						half.Add(v[n/3:])
						half.AddZeros(zeros)
						m.Merge(half)
						if pass == 0 {
							m.Narrow(density)
						}
					}
					sorted := make([]float32, int64(n)+zeros)
					for i, x := range v {
						sorted[i] = magnitude(x)
					}
					slices.Sort(sorted)
					keep := int(density * float64(len(sorted)))
					want := sorted[max(0, len(sorted)-keep-1)]
					if got := m.Threshold(); got != want {
						t.Fatalf("%s, %d values and %d zeros, density %g: %g, want %g", name, n, zeros, density, got, want)
					}
				}
			}
		}
	}
}

// TestDrop: the share that is kept and the expectation are those asked for,
// the mask depends on seed, expert and tensor alone, and not on how a tensor is
// cut.
func TestDrop(t *testing.T) {
	const n = 1 << 20
	delta := make([]float64, n)
	r := rand.New(rand.NewPCG(3, 4))
	for i := range delta {
		delta[i] = 1 + 0.1*r.NormFloat64()
	}
	whole, pieces := make([]float64, n), make([]float64, n)
	for _, density := range []float64{0.01, 0.2, 0.5, 0.9} {
		m := newMask(1, "a", "x.weight")
		drop(whole, delta, m, 0, density)
		for lo := 0; lo < n; lo += 1000 {
			hi := min(n, lo+1000)
			drop(pieces[lo:hi], delta[lo:hi], m, lo, density)
		}
		if !slices.Equal(whole, pieces) {
			t.Fatal("the mask depends on how the tensor is cut")
		}
		kept, sum, runs := 0.0, 0.0, 0.0
		for i, v := range whole {
			if v != 0 {
				kept++
				sum += v
				if i > 0 && whole[i-1] != 0 {
					runs++
				}
			}
		}
		sigma := math.Sqrt(density * (1 - density) / n)
		if rate := kept / n; math.Abs(rate-density) > 5*sigma {
			t.Errorf("density %g: %g are kept", density, rate)
		}
		if mean := sum / n; math.Abs(mean-1) > 5*sigma/density+1e-3 {
			t.Errorf("density %g: the mean is %g, want that of the task vector", density, mean)
		}
		// Neighbours are independent.
		if pairs := runs / n; math.Abs(pairs-density*density) > 10*sigma {
			t.Errorf("density %g: %g of the pairs are kept", density, pairs)
		}
	}
	first := newMask(1, "a", "x.weight")
	for _, other := range []mask{newMask(2, "a", "x.weight"), newMask(1, "b", "x.weight"), newMask(1, "a", "y.weight"), newMask(1, "ax", ".weight")} {
		both := 0.0
		for i := range n {
			if first.keeps(i, 0.5) && other.keeps(i, 0.5) {
				both++
			}
		}
		if math.Abs(both/n-0.25) > 0.005 {
			t.Errorf("two masks keep %g of the elements both, want a quarter", both/n)
		}
	}
}

// TestCombine: the small functions on values that can be checked by hand.
func TestCombine(t *testing.T) {
	deltas := [][]float64{{1, -3, 2, 0, -1, 5}, {2, 1, -2, 0, -3, 0}, nil, {-4, 1, 0, 0, 2, -1}}
	weights := []float64{1, 1, 7, 2}
	dst := make([]float64, 6)
	weightedSum(dst, deltas, weights)
	if want := []float64{-5, 0, 0, 0, 0, 3}; !slices.Equal(dst, want) {
		t.Errorf("weightedSum %v, want %v", dst, want)
	}
	elect(dst, deltas, weights)
	if want := []float64{-1, 1, 1, 1, 1, 1}; !slices.Equal(dst, want) {
		t.Errorf("elect %v, want %v", dst, want)
	}
	disjointMean(dst, deltas, weights)
	if want := []float64{-4, 1, 2, 0, 2, 5}; !slices.Equal(dst, want) {
		t.Errorf("disjointMean %v, want %v", dst, want)
	}
	addScaled(dst, []float64{1, 1, 1, 1, 1, 1}, 0.5)
	if want := []float64{-1, 1.5, 2, 1, 2, 3.5}; !slices.Equal(dst, want) {
		t.Errorf("addScaled %v, want %v", dst, want)
	}
	got := make([]float64, 4)
	trim(got, []float64{-2, 1.5, 0.5, -1}, 1)
	if want := []float64{-2, 1.5, 0, -1}; !slices.Equal(got, want) {
		t.Errorf("trim %v, want %v", got, want)
	}
}

func TestArc(t *testing.T) {
	for _, c := range []struct{ t, cosine, from, to float64 }{
		{0.5, 0, math.Sqrt2 / 2, math.Sqrt2 / 2},
		{0, 0.3, 1, 0},
		{1, 0.3, 0, 1},
		{0.25, 1, 0.75, 0.25},
		{0.25, -1.0000001, 0.75, 0.25},
		{1. / 3, 0.5, math.Sin(2*math.Pi/9) / math.Sin(math.Pi/3), math.Sin(math.Pi/9) / math.Sin(math.Pi/3)},
	} {
		from, to := arc(c.t, c.cosine)
		if math.Abs(from-c.from) > 1e-12 || math.Abs(to-c.to) > 1e-12 {
			t.Errorf("arc(%g, %g) = %g, %g, want %g, %g", c.t, c.cosine, from, to, c.from, c.to)
		}
	}
}

// TestTable: every entry can be used as it is listed.
func TestTable(t *testing.T) {
	seen := map[string]bool{}
	for _, m := range Methods() {
		if seen[m.Name] || m.Title == "" || m.Paper == "" || m.About == "" || m.begin == nil {
			t.Errorf("%s: an entry is not whole, or twice there", m.Name)
		}
		seen[m.Name] = true
		for _, f := range m.Fields {
			if err := f.check(f.Default); err != nil || f.About == "" {
				t.Errorf("%s: the default of %s: %v", m.Name, f.Name, err)
			}
			if f.check(math.NaN()) == nil || f.check(math.Inf(1)) == nil {
				t.Errorf("%s: %s takes what is not finite", m.Name, f.Name)
			}
		}
		if found, err := Find(m.Name); err != nil || found != m {
			t.Errorf("%s is not found: %v", m.Name, err)
		}
	}
}
