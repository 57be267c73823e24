package analysis_test

import (
	"encoding/json"
	"math"
	"slices"
	"testing"

	"smelt/analysis"
	"smelt/internal/kernel"
	"smelt/linalg"
	"smelt/linalg/linalgtest"
)

func narrow(a linalg.Matrix64) linalg.Matrix {
	m := kernel.New(a.Rows, a.Cols)
	kernel.F64ToF32(m.Data, a.Data)
	return m
}

var settings = analysis.Settings{Rank: 8, RouterRank: 8, ScalingFactor: 0.3, Samples: 512, ExactSize: 2048, Depth: 64}

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance) {
		t.Errorf("%s is %v, want %v to %v", what, got, want, tolerance)
	}
}

// build measures one layer of two deltas.
func build(t *testing.T, w linalg.Matrix, deltas ...linalg.Matrix) *analysis.Measured {
	t.Helper()
	b, err := analysis.NewBuilder("model.layers.3.mlp.up_proj", w, len(deltas), settings, 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	var rows [][]float32
	for i, d := range deltas {
		if err := b.Dense(i, d); err != nil {
			t.Fatal(err)
		}
		rows = append(rows, d.Data)
	}
	b.Stretch(rows)
	m, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// zones are those that were found.
func zones(t *testing.T) func(analysis.Zones, error) analysis.Zones {
	return func(z analysis.Zones, err error) analysis.Zones {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return z
	}
}

// Random deltas have no direction: shares as the zones' sizes, overlaps as the
// baseline, cosine about zero.
func TestRandom(t *testing.T) {
	for _, shape := range [][2]int{{96, 96}, {320, 80}, {80, 320}, {300, 290}} {
		m, n := shape[0], shape[1]
		x := build(t, narrow(linalgtest.Gaussian(m, n, 1)), narrow(linalgtest.Gaussian(m, n, 2)), narrow(linalgtest.Gaussian(m, n, 3)))
		l := x.Layer
		if l.Kind != "up" || l.Tower != "model.layers" || l.Depth != 3 {
			t.Errorf("%q %q %d", l.Kind, l.Tower, l.Depth)
		}
		for _, d := range l.Experts {
			z := d.Zones
			for i, v := range []float64{z.I, z.II, z.III, z.IIIII, z.Cross} {
				near(t, "share", v, z.Even[i], 0.03)
			}
			near(t, "sum", z.I+z.IIIII+z.Cross, 1, 1e-12)
		}
		p, b := l.Pairs[0], l.Baseline
		near(t, "cosine", p.Cosine, 0, 5*b.Cosine)
		near(t, "sign conflict", float64(p.SignConflict), 0.5, 0.03)
		near(t, "left overlap", p.LeftOverlap, b.Left, 5*b.LeftDeviation)
		near(t, "right overlap", p.RightOverlap, b.Right, 5*b.RightDeviation)
		near(t, "loss of the average", float64(l.Losses[0].Average), 0.5, 0.05)
	}
}

// The closed form of the baseline against random subspaces.
func TestRandomOverlap(t *testing.T) {
	const n, g, tries = 24, 5, 200
	want, deviation := analysis.RandomOverlap(g, g, n)
	sum, squares := 0.0, 0.0
	for k := range tries {
		a, b := analysis.AnyDirections(n, g, uint64(2*k)), analysis.AnyDirections(n, g, uint64(2*k+1))
		c := kernel.New(g, g)
		kernel.Gemm(1, false, true, 1, a, b, 0, c)
		v := kernel.SumSquares(c.Data) / g
		sum += v
		squares += v * v
	}
	got := sum / tries
	near(t, "mean", got, want, 4*deviation/math.Sqrt(tries))
	near(t, "deviation", math.Sqrt(squares/tries-got*got), deviation, 0.25*deviation)
}

// A delta inside one zone is found there, and a projection keeps all of it; the
// projections of any delta sum up as the zones say.
func TestProjections(t *testing.T) {
	for _, shape := range [][2]int{{60, 60}, {90, 40}, {40, 90}} {
		m, n := shape[0], shape[1]
		w := narrow(linalgtest.Gaussian(m, n, 4))
		s, err := analysis.NewSubspaces(w, 0)
		if err != nil {
			t.Fatal(err)
		}
		d := narrow(linalgtest.Gaussian(m, n, 5))
		energy := kernel.SumSquares(d.Data)
		z := zones(t)(s.Zones(d, 0))
		for zone, share := range map[analysis.Zone]float64{analysis.ZoneI: z.I, analysis.ZoneII: z.II, analysis.ZoneIIIII: z.IIIII} {
			part := s.Project(d, zone, 0)
			near(t, "energy in zone "+string(zone), kernel.SumSquares(part.Data)/energy, share, 1e-6)
			again := zones(t)(s.Zones(part, 0))
			near(t, "zone "+string(zone)+" of its projection", map[analysis.Zone]float64{
				analysis.ZoneI: again.I, analysis.ZoneII: again.II, analysis.ZoneIIIII: again.IIIII,
			}[zone], 1, 1e-6)
		}
		// From factors the same as from the dense product.
		b, a := narrow(linalgtest.Gaussian(m, 5, 6)), narrow(linalgtest.Gaussian(5, n, 7))
		product := kernel.New(m, n)
		kernel.Gemm(1, false, false, 2, b, a, 0, product)
		svd, err := linalg.LowRank(b, a, 2, 0)
		if err != nil {
			t.Fatal(err)
		}
		x, y := zones(t)(s.ZonesOfFactors(svd, 0)), zones(t)(s.Zones(product, 0))
		for i := range 3 {
			for j := range 3 {
				near(t, "block from factors", x.Blocks[i][j], y.Blocks[i][j], 1e-6)
			}
		}
	}
}

// A base of lower rank has a null space on both sides, and one of zeros nothing
// else.
func TestNullSpace(t *testing.T) {
	w := kernel.New(40, 30)
	kernel.Gemm(1, false, false, 1, narrow(linalgtest.Gaussian(40, 6, 8)), narrow(linalgtest.Gaussian(6, 30, 9)), 0, w)
	zero := kernel.New(40, 30)
	d := narrow(linalgtest.Gaussian(40, 30, 10))
	for _, base := range []linalg.Matrix{w, zero} {
		s, err := analysis.NewSubspaces(base, 0)
		if err != nil {
			t.Fatal(err)
		}
		z := zones(t)(s.Zones(d, 0))
		near(t, "sum of the left zones", z.Left[0]+z.Left[1]+z.Left[2], 1, 1e-12)
		if kernel.SumSquares(base.Data) == 0 {
			near(t, "zone III of a base of zeros", z.III, 1, 1e-12)
		}
	}
	rows, missing, err := analysis.Directions(zero, analysis.Null, 4, 1, 0)
	if err != nil || missing != 0 || rows.Rows != 4 {
		t.Fatal(rows.Rows, missing, err)
	}
}

// Directions are orthonormal and where they should be.
func TestDirections(t *testing.T) {
	w := narrow(linalgtest.Gaussian(12, 40, 11))
	for _, subspace := range []string{analysis.Principal, analysis.Minor, analysis.Null} {
		rows, missing, err := analysis.Directions(w, subspace, 6, 3, 0)
		if err != nil || missing != 0 {
			t.Fatal(missing, err)
		}
		c := kernel.New(6, 6)
		kernel.Gemm(1, false, true, 1, rows, rows, 0, c)
		for i := range 6 {
			for j := range 6 {
				want := 0.0
				if i == j {
					want = 1
				}
				near(t, subspace, float64(c.At(i, j)), want, 1e-6)
			}
		}
		y := kernel.New(12, 6)
		kernel.Gemm(1, false, true, 1, w, rows, 0, y)
		if norm := kernel.SumSquares(y.Data); (norm < 1e-8) != (subspace == analysis.Null) {
			t.Errorf("%s: the weight maps its rows to %v", subspace, norm)
		}
	}
	if _, missing, _ := analysis.Directions(narrow(linalgtest.Gaussian(40, 12, 1)), analysis.Null, 3, 1, 0); missing != 3 {
		t.Errorf("a tall matrix: %d missing, want 3", missing)
	}
}

func TestGrid(t *testing.T) {
	for _, p := range []int{0, 1, 2, 7, 8, 9, 31, 768, 4096} {
		g := analysis.Grid(p)
		if !slices.IsSorted(g) || p > 0 && (g[0] != 1 || g[len(g)-1] != p) || len(slices.Compact(slices.Clone(g))) != len(g) {
			t.Errorf("%d: %v", p, g)
		}
	}
}

func TestFigureJSON(t *testing.T) {
	text, err := json.Marshal([]analysis.Figure{1.5, analysis.None})
	if err != nil || string(text) != "[1.5,null]" {
		t.Fatal(string(text), err)
	}
	var back []analysis.Figure
	if err := json.Unmarshal(text, &back); err != nil || back[0] != 1.5 || back[1].Known() {
		t.Fatal(back, err)
	}
}
