package linalgtest

import (
	"math"
	"slices"
	"testing"

	"smelt/internal/kernel"
	"smelt/linalg"
)

// Decomposition is a decomposition of either precision, in float64.
type Decomposition struct {
	U      linalg.Matrix64
	S      []float64
	Vt     linalg.Matrix64
	Energy float64
}

// Of returns d in float64.
func Of(d linalg.SVD) Decomposition { return Decomposition{Widen(d.U), d.S, Widen(d.Vt), d.Energy} }

// CheckInvariants holds d [rank r] against a: shapes, order and sign of S,
// orthonormal U and V (each element of UᵀU − I within eps·r), the sign
// convention, and the energy of a.
func CheckInvariants(t *testing.T, a linalg.Matrix64, d Decomposition, r int, eps float64) {
	t.Helper()
	if d.U.Rows != a.Rows || d.U.Cols != r || len(d.S) != r || d.Vt.Rows != r || d.Vt.Cols != a.Cols {
		t.Fatalf("U is %d × %d, S has %d, Vt is %d × %d; want rank %d of a %d × %d matrix",
			d.U.Rows, d.U.Cols, len(d.S), d.Vt.Rows, d.Vt.Cols, r, a.Rows, a.Cols)
	}
	for i, s := range d.S {
		if !(s >= 0) || math.IsInf(s, 1) {
			t.Errorf("S[%d] is %v, want a finite number, not negative", i, s)
		}
		if i > 0 && s > d.S[i-1] {
			t.Errorf("S[%d] = %v > S[%d] = %v, want descending", i, s, i-1, d.S[i-1])
		}
	}
	tol := eps * math.Sqrt(float64(r)+8)
	if e := departure(d.U, true); !(e <= tol) {
		t.Errorf("UᵀU departs from I by %.2g, want ≤ %.2g", e, tol)
	}
	if e := departure(d.Vt, false); !(e <= tol) {
		t.Errorf("VᵀV departs from I by %.2g, want ≤ %.2g", e, tol)
	}
	for i := range r {
		row := d.Vt.Row(i)
		top := slices.MaxFunc(row, func(x, y float64) int {
			switch ax, ay := math.Abs(x), math.Abs(y); {
			case ax < ay:
				return -1
			case ax > ay:
				return 1
			}
			return 0
		})
		// Rounding may make equals of two entries of opposite sign.
		if top < 0 && slices.Max(row) < -top*(1-1e-6) {
			t.Errorf("right singular vector %d has %v as its largest entry, want it positive", i, top)
		}
	}
	if want := Energy(a); !(math.Abs(d.Energy-want) <= 1e-12*want) {
		t.Errorf("Energy is %v, want %v", d.Energy, want)
	}
}

// departure returns the largest element of |QᵀQ − I| (or QQᵀ − I).
func departure(q linalg.Matrix64, columns bool) float64 {
	k := q.Rows
	if columns {
		k = q.Cols
	}
	g := kernel.New64(k, k)
	kernel.Gemm64(1, columns, !columns, 1, q, q, 0, g)
	var worst float64
	for i := range k {
		g.Data[i*k+i]--
	}
	for _, v := range g.Data {
		if v != v {
			return v
		}
		worst = max(worst, math.Abs(v))
	}
	return worst
}

// Residual returns ‖a − U·diag(S)·Vt‖²_F.
func Residual(a linalg.Matrix64, d Decomposition) float64 {
	us := kernel.New64(d.U.Rows, d.U.Cols)
	for i := range us.Rows {
		for j, v := range d.U.Row(i) {
			us.Set(i, j, v*d.S[j])
		}
	}
	e := kernel.New64(a.Rows, a.Cols)
	for i := range a.Rows {
		copy(e.Row(i), a.Row(i))
	}
	kernel.Gemm64(1, false, false, -1, us, d.Vt, 1, e)
	return Energy(e)
}

// Energy returns ‖a‖²_F.
func Energy(a linalg.Matrix64) float64 {
	var s float64
	for i := range a.Rows {
		for _, v := range a.Row(i) {
			s += v * v
		}
	}
	return s
}

// SumSquares returns Σ s².
func SumSquares(s []float64) float64 {
	var e float64
	for _, v := range s {
		e += v * v
	}
	return e
}

// SameBits reports whether two decompositions are equal bit by bit.
func SameBits(a, b linalg.SVD) bool {
	return slices.Equal(a.U.Data, b.U.Data) && slices.Equal(a.S, b.S) && slices.Equal(a.Vt.Data, b.Vt.Data) &&
		a.Energy == b.Energy && a.Captured == b.Captured && a.Certificate == b.Certificate
}
