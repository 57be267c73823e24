package linalgtest

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"smelt/linalg"
)

// shapes covers square, tall and wide matrices, below and above the sizes at
// which algorithms change.
var shapes = [][2]int{
	{1, 1},
	{1, 7},
	{7, 1},
	{2, 2},
	{5, 3},
	{3, 5},
	{24, 24},
	{25, 25},
	{31, 64},
	{65, 65},
	{100, 40},
	{40, 100},
	{130, 129},
	{200, 96},
}

// tolerances of float32 results: of an orthonormal basis, and of energies.
const (
	basis32  = 2e-6
	energy32 = 1e-5
)

// RunExact64 holds an exact decomposition in float64 to backward stability.
func RunExact64(t *testing.T, f func(linalg.Matrix64, int) (linalg.SVD64, error)) {
	for _, sp := range Spectra {
		for _, sh := range shapes {
			t.Run(fmt.Sprintf("%s/%dx%d", sp.Name, sh[0], sh[1]), func(t *testing.T) {
				k := min(sh[0], sh[1])
				want := sp.Values(k)
				a := WithSpectrum(sh[0], sh[1], want, 1)
				got, err := f(a, 2)
				if err != nil {
					t.Fatal(err)
				}
				const eps = 1e-13
				d := Decomposition(got)
				CheckInvariants(t, a, d, k, eps)
				if r := math.Sqrt(Residual(a, d)); !(r <= eps*want[0]*math.Sqrt(float64(k))) {
					t.Errorf("residual %.3g of a matrix of norm %.3g", r, want[0])
				}
				for i := range want {
					if !(math.Abs(got.S[i]-want[i]) <= eps*want[0]) {
						t.Fatalf("σ[%d] is %v, want %v", i, got.S[i], want[i])
					}
				}
			})
		}
	}
}

// RunTruncate holds a truncated decomposition to its contract on matrices of
// known spectrum: its certificate must never be violated, the optimum never
// beaten, and the residual must equal the energy that was not captured.
func RunTruncate(t *testing.T, f func(linalg.Matrix, linalg.Options) (linalg.SVD, error)) {
	for _, sp := range Spectra {
		for _, sh := range shapes {
			k := min(sh[0], sh[1])
			for _, r := range slices.Compact([]int{1, max(1, k/10), max(1, k/4), max(1, k/2), k, k + 5}) {
				t.Run(fmt.Sprintf("%s/%dx%d/rank %d", sp.Name, sh[0], sh[1], r), func(t *testing.T) {
					s := sp.Values(k)
					a := Round(WithSpectrum(sh[0], sh[1], s, 2))
					before := slices.Clone(a.Data)
					opt := linalg.Options{Rank: r, RouterRank: min(r, 4), Seed: uint64(r)}
					d, err := f(a, opt)
					if err != nil {
						t.Fatal(err)
					}
					CheckTruncated(t, a, d, opt, s)
					for i, v := range a.Data {
						if math.Float32bits(v) != math.Float32bits(before[i]) {
							t.Fatal("the input was altered")
						}
					}
				})
			}
		}
	}
}

// CheckTruncated holds one truncation to its contract; s are the singular
// values of a.
func CheckTruncated(t *testing.T, a linalg.Matrix, d linalg.SVD, opt linalg.Options, s []float64) {
	t.Helper()
	r := min(opt.Rank, len(s))
	wide := Widen(a)
	CheckInvariants(t, wide, Of(d), r, basis32)
	best := SumSquares(s[:r])
	slack := energy32 * SumSquares(s)
	c := d.Certificate
	if got := SumSquares(d.S); !(math.Abs(got-d.Captured) <= 1e-12*got) {
		t.Errorf("Captured is %v, Σσ² is %v", d.Captured, got)
	}
	if !(d.Captured <= best+slack) {
		t.Errorf("captured %v, more than the best %v (Eckart–Young)", d.Captured, best)
	}
	if res := Residual(wide, Of(d)); !(math.Abs(res-(d.Energy-d.Captured)) <= slack) {
		t.Errorf("residual %v, want Energy − Captured = %v", res, d.Energy-d.Captured)
	}
	if !(c.Bound >= best*(1-energy32)) {
		t.Errorf("Bound %v is below the best energy %v: %+v", c.Bound, best, c)
	}
	tol := opt.Tolerance
	if tol == 0 {
		tol = linalg.DefaultTolerance
	}
	if c.Tolerance != tol {
		t.Errorf("Tolerance is %v, want %v", c.Tolerance, tol)
	}
	if c.Met {
		if !(1-d.Share() <= tol) {
			t.Errorf("Met, yet the share is %v", d.Share())
		}
		if !(d.Captured >= best*(1-tol)-slack) {
			t.Errorf("Met, yet captured %v of %v", d.Captured, best)
		}
	}
}

// RunSpectrum holds the leading singular values to their intervals.
func RunSpectrum(t *testing.T, f func(linalg.Matrix, linalg.Options) (linalg.Spectral, error)) {
	for _, sp := range Spectra {
		for _, sh := range [][2]int{{7, 1}, {40, 30}, {200, 96}, {130, 129}, {96, 300}} {
			t.Run(fmt.Sprintf("%s/%dx%d", sp.Name, sh[0], sh[1]), func(t *testing.T) {
				k := min(sh[0], sh[1])
				s := sp.Values(k)
				a := Round(WithSpectrum(sh[0], sh[1], s, 3))
				r := max(1, k/8)
				d, err := f(a, linalg.Options{Rank: r, RouterRank: min(r, 4)})
				if err != nil {
					t.Fatal(err)
				}
				if len(d.S) != r || len(d.Upper) < r {
					t.Fatalf("%d values and %d bounds, want %d", len(d.S), len(d.Upper), r)
				}
				for i, v := range d.S {
					slack := energy32 * s[0]
					if !(v <= s[i]+slack && s[i] <= d.Upper[i]+slack) {
						t.Errorf("σ[%d] = %v is not in [%v, %v]", i, s[i], v, d.Upper[i])
					}
				}
				beyond := SumSquares(s[r:])
				if !(d.Beyond >= beyond-energy32*d.Energy) || !(d.Energy-d.Certificate.Bound <= beyond+energy32*d.Energy) {
					t.Errorf("energy beyond is %v, want it in [%v, %v]", beyond, d.Energy-d.Certificate.Bound, d.Beyond)
				}
			})
		}
	}
}

// RunHostile holds a truncation to errors, never panics or NaN, on input that
// is malformed, and to exact answers on input that is degenerate.
func RunHostile(t *testing.T, f func(linalg.Matrix, linalg.Options) (linalg.SVD, error)) {
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		for _, sh := range [][2]int{{3, 4}, {200, 120}} {
			a := Round(Gaussian(sh[0], sh[1], 4))
			a.Set(2, 1, float32(bad))
			_, err := f(a, linalg.Options{Rank: 2})
			if err == nil || !strings.Contains(err.Error(), "[2,1]") {
				t.Errorf("%v in a %v matrix: got error %v, want one that names [2,1]", bad, sh, err)
			}
		}
	}
	for name, a := range map[string]linalg.Matrix{
		"short":         {Rows: 3, Cols: 4, Stride: 4, Data: make([]float32, 11)},
		"narrow stride": {Rows: 3, Cols: 4, Stride: 3, Data: make([]float32, 99)},
		"negative":      {Rows: -1, Cols: 4, Stride: 4},
	} {
		if _, err := f(a, linalg.Options{Rank: 2}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	ok := Round(Gaussian(6, 5, 4))
	for _, opt := range []linalg.Options{
		{Rank: -1},
		{Rank: 2, RouterRank: -1},
		{Rank: 2, Tolerance: -1},
		{Rank: 2, Tolerance: 1},
		{Rank: 2, Tolerance: math.NaN()},
		{Rank: 2, RouterTolerance: 2},
	} {
		if _, err := f(ok, opt); err == nil {
			t.Errorf("%+v: no error", opt)
		}
	}
	for _, sh := range [][2]int{{0, 0}, {0, 5}, {5, 0}} {
		d, err := f(linalg.Matrix{Rows: sh[0], Cols: sh[1], Stride: sh[1]}, linalg.Options{Rank: 3})
		if err != nil || len(d.S) != 0 || !d.Certificate.Met {
			t.Errorf("%v: %+v, %v", sh, d, err)
		}
	}
	for _, sh := range [][2]int{{1, 1}, {5, 9}, {130, 100}, {100, 300}} {
		a := Round(linalg.Matrix64{Rows: sh[0], Cols: sh[1], Stride: sh[1], Data: make([]float64, sh[0]*sh[1])})
		r := min(4, sh[0], sh[1])
		d, err := f(a, linalg.Options{Rank: r, RouterRank: r})
		if err != nil {
			t.Fatal(err)
		}
		CheckInvariants(t, Widen(a), Of(d), r, basis32)
		if d.Captured != 0 || d.Certificate.Bound != 0 || !d.Certificate.Met || d.Share() != 1 {
			t.Errorf("zero %v: %+v", sh, d.Certificate)
		}
		// A single element.
		a.Set(sh[0]-1, sh[1]-1, -3)
		d, err = f(a, linalg.Options{Rank: r, RouterRank: 1})
		if err != nil {
			t.Fatal(err)
		}
		CheckInvariants(t, Widen(a), Of(d), r, basis32)
		if !(math.Abs(d.S[0]-3) <= 1e-5) || !(SumSquares(d.S[1:]) <= 1e-8) || !d.Certificate.Met {
			t.Errorf("single element %v: S %v, %+v", sh, d.S, d.Certificate)
		}
	}
}
