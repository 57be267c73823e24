package linalg_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"smelt/internal/kernel"
	"smelt/linalg"
	"smelt/linalg/linalgtest"
)

func TestExact64(t *testing.T)  { linalgtest.RunExact64(t, linalg.Exact64) }
func TestTruncate(t *testing.T) { linalgtest.RunTruncate(t, linalg.Truncate) }
func TestSpectrum(t *testing.T) { linalgtest.RunSpectrum(t, linalg.Spectrum) }
func TestHostile(t *testing.T)  { linalgtest.RunHostile(t, linalg.Truncate) }

func exactRank(a linalg.Matrix, opt linalg.Options) (linalg.SVD, error) {
	d, err := linalg.Exact(a, opt.Workers)
	if err != nil {
		return d, err
	}
	r := min(opt.Rank, len(d.S))
	d.U, d.S, d.Vt = d.U.Slice(0, d.U.Rows, 0, r), d.S[:r], d.Vt.Slice(0, r, 0, d.Vt.Cols)
	d.Captured = linalgtest.SumSquares(d.S)
	d.Certificate = linalg.Certificate{Bound: d.Captured, Tolerance: opt.Tolerance, Met: true}
	if opt.Tolerance == 0 {
		d.Certificate.Tolerance = linalg.DefaultTolerance
	}
	return d, nil
}

// The suite of the truncation also holds the exact path, cut to the rank.
func TestExact(t *testing.T) { linalgtest.RunTruncate(t, exactRank) }

func TestExact64Extremes(t *testing.T) {
	for _, scale := range []float64{0x1p1000, 0x1p-1000, 0x1p-1060} {
		want := []float64{3 * scale, 2 * scale, scale}
		a := kernel.New64(3, 4)
		a.Set(2, 0, want[0])
		a.Set(0, 3, -want[1])
		a.Set(1, 1, want[2])
		d, err := linalg.Exact64(a, 1)
		if err != nil {
			t.Fatal(err)
		}
		for i, w := range want {
			if !(math.Abs(d.S[i]-w) <= 1e-14*want[0]) {
				t.Errorf("scale %g: σ[%d] = %g, want %g", scale, i, d.S[i], w)
			}
		}
	}
	bad := kernel.New64(3, 4)
	bad.Set(1, 2, math.NaN())
	if _, err := linalg.Exact64(bad, 1); err == nil || err.Error() != "linalg: Exact64: element [1,2] is NaN, want a finite number" {
		t.Error(err)
	}
}

// A matrix of zeros has singular values of exactly 0 and orthonormal vectors, at
// any size; so have the zeros of a matrix with one block that is not.
func TestExactZeros(t *testing.T) {
	for _, sh := range [][2]int{{1, 1}, {5, 5}, {24, 24}, {25, 25}, {60, 40}, {40, 60}, {200, 130}} {
		k := min(sh[0], sh[1])
		for _, block := range []int{0, 1, k / 2} {
			a := kernel.New64(sh[0], sh[1])
			for i := range block {
				for j := range block {
					a.Set(i, j, linalgtest.Gaussian(block, block, 9).At(i, j))
				}
			}
			d, err := linalg.Exact64(a, 1)
			if err != nil {
				t.Fatal(err)
			}
			linalgtest.CheckInvariants(t, a, linalgtest.Decomposition(d), k, 1e-13)
			for i, s := range d.S[block:] {
				if !(s <= 1e-13*d.S[0]) || math.Signbit(s) {
					t.Errorf("%v with a block of %d: σ[%d] = %g, want 0", sh, block, block+i, s)
				}
			}
		}
	}
}

func leading(a linalg.Matrix, opt linalg.Options) (linalg.SVD, error) {
	d, s, err := linalg.Leading(a, opt.Rank, opt.Workers)
	if err == nil && (len(s) != min(a.Rows, a.Cols) || !slices.Equal(s[:len(d.S)], d.S)) {
		err = fmt.Errorf("singular values %v and %v", s, d.S)
	}
	return d, err
}

func TestLeading(t *testing.T) { linalgtest.RunTruncate(t, leading) }

// The vectors of the shorter side carry as much energy as their singular values
// say, whatever the shape.
func TestShortSide(t *testing.T) {
	for _, sh := range [][2]int{{1, 1}, {70, 70}, {90, 40}, {40, 90}} {
		for _, sp := range linalgtest.Spectra {
			p := min(sh[0], sh[1])
			want := sp.Values(p)
			a := linalgtest.Round(linalgtest.WithSpectrum(sh[0], sh[1], want, 3))
			q, s, energy, err := linalg.ShortSide(a, 2)
			if err != nil {
				t.Fatal(err)
			}
			if q.Rows != p || q.Cols != p || !(math.Abs(energy-linalgtest.SumSquares(s)) <= 1e-5*energy) {
				t.Fatalf("%s %v: %d × %d vectors, energy %v of %v", sp.Name, sh, q.Rows, q.Cols, linalgtest.SumSquares(s), energy)
			}
			for i := range p {
				if !(math.Abs(s[i]-want[i]) <= 2e-6*want[0]) {
					t.Errorf("%s %v: σ[%d] is %v, want %v", sp.Name, sh, i, s[i], want[i])
				}
				for j := range i + 1 {
					dot := kernel.DotAcc64(q.Row(i), q.Row(j))
					if i == j {
						dot--
					}
					if !(math.Abs(dot) <= 1e-6) {
						t.Errorf("%s %v: vectors %d and %d: %v", sp.Name, sh, i, j, dot)
					}
				}
				y := make([]float32, max(sh[0], sh[1]))
				kernel.Gemv(1, sh[0] <= sh[1], float32(1/want[0]), a, q.Row(i), 0, y)
				if norm := kernel.Nrm2(y); !(math.Abs(norm-want[i]/want[0]) <= 2e-6) {
					t.Errorf("%s %v: vector %d is carried to %v, want %v", sp.Name, sh, i, norm, want[i]/want[0])
				}
			}
		}
	}
	if _, s, energy, err := linalg.ShortSide(kernel.New(3, 5), 1); err != nil || energy != 0 || s[0] != 0 {
		t.Error(s, energy, err)
	}
}

// Above the leaf size and the size at which work is shared out.
func TestExact64Large(t *testing.T) {
	for _, sh := range [][2]int{{300, 300}, {520, 310}, {600, 560}} {
		a := linalgtest.Gaussian(sh[0], sh[1], 5)
		k := min(sh[0], sh[1])
		d, err := linalg.Exact64(a, 2)
		if err != nil {
			t.Fatal(err)
		}
		linalgtest.CheckInvariants(t, a, linalgtest.Decomposition(d), k, 1e-13)
		if r := linalgtest.Residual(a, linalgtest.Decomposition(d)); !(r <= 1e-26*d.Energy) {
			t.Errorf("%v: residual %v of %v", sh, r, d.Energy)
		}
	}
}

func TestWorkersGiveTheSameBits(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(8))
	i12 := linalgtest.Spectra[0]
	for _, sh := range [][2]int{{260, 260}, {400, 150}, {150, 400}, {580, 570}} {
		k := min(sh[0], sh[1])
		a := linalgtest.Round(linalgtest.WithSpectrum(sh[0], sh[1], i12.Values(k), 6))
		for _, r := range []int{4, 160} { // Krylov and Gram paths
			var first linalg.SVD
			for n, workers := range []int{1, 2, 8} {
				d, err := linalg.Truncate(a, linalg.Options{Rank: r, RouterRank: 4, Seed: 7, Workers: workers})
				if err != nil {
					t.Fatal(err)
				}
				if n == 0 {
					first = d
				} else if !linalgtest.SameBits(first, d) {
					t.Errorf("%v rank %d: %d workers give other bits", sh, r, workers)
				}
			}
			if c := first.Certificate; c.Products < 2*c.Basis {
				t.Errorf("%v rank %d: %d products for a basis of %d, want two for each of its vectors", sh, r, c.Products, c.Basis)
			}
			if krylov := first.Certificate.Iterations > 0; krylov != (4*r <= k) {
				t.Errorf("%v rank %d: Krylov %v", sh, r, krylov)
			}
		}
		first, err := linalg.Exact(a, 1)
		if err != nil {
			t.Fatal(err)
		}
		if d, _ := linalg.Exact(a, 8); !linalgtest.SameBits(first, d) {
			t.Errorf("%v: Exact gives other bits at 8 workers", sh)
		}
	}
}

func TestSeeds(t *testing.T) {
	s := linalgtest.Spectra[0].Values(200)
	a := linalgtest.Round(linalgtest.WithSpectrum(200, 200, s, 6))
	opt := linalg.Options{Rank: 10, RouterRank: 4}
	one, _ := linalg.Truncate(a, opt)
	opt.Seed = 1
	two, _ := linalg.Truncate(a, opt)
	if linalgtest.SameBits(one, two) {
		t.Error("another seed gives the same bits")
	}
	if !(math.Abs(one.Captured-two.Captured) <= 1e-3*one.Captured) {
		t.Errorf("captured %v and %v", one.Captured, two.Captured)
	}
}

// TestCertificateHolds draws random spectra and sizes: the bound must hold in
// every case, and so must the router's angle.
func TestCertificateHolds(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 8))
	met := 0
	const cases = 120
	for c := range cases {
		m, n := 66+rng.IntN(150), 66+rng.IntN(150)
		k := min(m, n)
		s := make([]float64, k)
		power, floor := 2*rng.Float64(), rng.Float64()*rng.Float64()
		for i := range s {
			s[i] = math.Pow(float64(1+i/(1+c%4)), -power) + 0.1*floor
		}
		a := linalgtest.Round(linalgtest.WithSpectrum(m, n, s, uint64(c)))
		r := 1 + rng.IntN(k/4)
		opt := linalg.Options{Rank: r, RouterRank: 1 + rng.IntN(r), Seed: uint64(c), Tolerance: math.Pow(10, -1-3*rng.Float64())}
		d, err := linalg.Truncate(a, opt)
		if err != nil {
			t.Fatal(err)
		}
		linalgtest.CheckTruncated(t, a, d, opt, s)
		exact, err := linalg.Exact(a, 0)
		if err != nil {
			t.Fatal(err)
		}
		g := opt.RouterRank
		angle, err := linalg.SubspaceAngle(d.Vt.Slice(0, g, 0, n), exact.Vt.Slice(0, g, 0, n))
		if err != nil {
			t.Fatal(err)
		}
		if !(angle <= d.Certificate.RouterAngle+1e-5) && d.Certificate.Iterations > 0 {
			t.Errorf("case %d: the router's subspace is off by %v, certified %v", c, angle, d.Certificate.RouterAngle)
		}
		if g < k && s[g-1] > linalg.RouterGap*s[g]*1.0001 && d.Certificate.Met && !(angle <= linalg.DefaultRouterTolerance) {
			t.Errorf("case %d: angle %v across a gap of %v", c, angle, s[g-1]/s[g])
		}
		if d.Certificate.Met {
			met++
		}
	}
	if met < cases*9/10 {
		t.Errorf("met in %d of %d cases", met, cases)
	}
}

func TestNumericalRank(t *testing.T) {
	for _, c := range []struct {
		s    []float64
		m, n int
		eps  float64
		want int
	}{
		{nil, 3, 3, linalg.EpsF32, 0},
		{[]float64{0, 0}, 3, 3, linalg.EpsF32, 0},
		{[]float64{1, 1e-3, 1e-6, 0}, 4, 10, linalg.EpsF32, 2},
		{[]float64{1, 1e-3, 1e-6, 0}, 4, 10, linalg.EpsF64, 3},
		{[]float64{1, 0.5, 0.01}, 4, 10, linalg.EpsBF16, 2},
		{[]float64{math.NaN()}, 1, 1, linalg.EpsF32, 0},
	} {
		if got := linalg.NumericalRank(c.s, c.m, c.n, c.eps); got != c.want {
			t.Errorf("NumericalRank(%v, %d, %d, %g) = %d, want %d", c.s, c.m, c.n, c.eps, got, c.want)
		}
	}
}

func TestSubspaceAngle(t *testing.T) {
	for _, want := range []float64{0, 1e-6, 1e-3, 0.5, math.Pi / 2} {
		c, s := float32(math.Cos(want)), float32(math.Sin(want))
		a := kernel.Of(2, 3, []float32{1, 0, 0, 0, 1, 0})
		b := kernel.Of(2, 3, []float32{0, c, s, -1, 0, 0})
		got, err := linalg.SubspaceAngle(a, b)
		if err != nil || !(math.Abs(got-want) <= 1e-7+2e-7*want) && !(want > 1.5 && got > 1.5) {
			t.Errorf("angle %v, want %v (%v)", got, want, err)
		}
	}
	if _, err := linalg.SubspaceAngle(kernel.New(1, 2), kernel.New(2, 2)); err == nil {
		t.Error("no error for unequal shapes")
	}
}

func TestWorkingBytesGrows(t *testing.T) {
	for _, sh := range [][2]int{{1, 1}, {768, 768}, {4096, 14336}, {16384, 16384}} {
		var last int64
		for _, r := range []int{0, 1, 16, 128, 1024} {
			got := linalg.WorkingBytes(sh[0], sh[1], linalg.Options{Rank: r})
			if got < last || got <= 0 {
				t.Errorf("%v rank %d: %d bytes after %d", sh, r, got, last)
			}
			last = got
		}
	}
}
