package linalg

import (
	"math"

	"smelt/internal/kernel"
)

// Exact returns the full thin singular value decomposition of a [m,n], r =
// min(m,n), computed in float64 and rounded once. Workers bounds the
// goroutines, 0 means GOMAXPROCS.
func Exact(a Matrix, workers int) (SVD, error) {
	energy, err := checkMatrix("Exact", a)
	if err != nil {
		return SVD{}, err
	}
	ut, s, vt := decompose(workers, widen(a))
	d := factors{ut, s, vt}.finish(false, energy)
	d.Certificate = Certificate{Bound: d.Captured, Met: true}
	return d, nil
}

// Exact64 returns the full thin singular value decomposition of a [m,n] in
// float64.
func Exact64(a Matrix64, workers int) (SVD64, error) {
	energy, err := checkMatrix64("Exact64", a)
	if err != nil {
		return SVD64{}, err
	}
	ut, s, vt := decompose(workers, clone64(a))
	fixSigns(ut, vt)
	return SVD64{U: transpose(ut), S: s, Vt: vt, Energy: energy}, nil
}

// fixSigns makes the entry of largest magnitude of each row of vt positive,
// the first of equals, and turns the row of ut with it.
func fixSigns(ut, vt Matrix64) {
	for i := range vt.Rows {
		row := vt.Row(i)
		top, at := 0.0, 0
		for j, v := range row {
			if math.Abs(v) > top {
				top, at = math.Abs(v), j
			}
		}
		if top > 0 && row[at] < 0 {
			kernel.Scale64(-1, row)
			kernel.Scale64(-1, ut.Row(i))
		}
	}
}

func widen(a Matrix) Matrix64 {
	w := kernel.New64(a.Rows, a.Cols)
	for i := range a.Rows {
		kernel.F32ToF64(w.Row(i), a.Row(i))
	}
	return w
}

func narrow(a Matrix64) Matrix {
	w := kernel.New(a.Rows, a.Cols)
	for i := range a.Rows {
		kernel.F64ToF32(w.Row(i), a.Row(i))
	}
	return w
}

func clone64(a Matrix64) Matrix64 {
	w := kernel.New64(a.Rows, a.Cols)
	for i := range a.Rows {
		copy(w.Row(i), a.Row(i))
	}
	return w
}
