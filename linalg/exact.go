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
	u, s, vt := decompose(workers, widen(a))
	return finish(u, s, vt, energy), nil
}

// Exact64 returns the full thin singular value decomposition of a [m,n] in
// float64.
func Exact64(a Matrix64, workers int) (SVD64, error) {
	energy, err := checkMatrix64("Exact64", a)
	if err != nil {
		return SVD64{}, err
	}
	u, s, vt := decompose(workers, clone64(a))
	fixSigns(u, vt)
	return SVD64{U: u, S: s, Vt: vt, Energy: energy}, nil
}

// finish fixes the signs of a decomposition from the deterministic paths and
// rounds it; its certificate is its own captured energy.
func finish(u Matrix64, s []float64, vt Matrix64, energy float64) SVD {
	fixSigns(u, vt)
	captured := sumSquares64(s)
	return SVD{
		U: narrow(u), S: s, Vt: narrow(vt), Energy: energy, Captured: captured,
		Certificate: Certificate{Bound: captured, Met: true},
	}
}

// fixSigns makes the entry of largest magnitude of each row of vt positive,
// the first of equals, and turns the column of u with it.
func fixSigns(u, vt Matrix64) {
	for i := range vt.Rows {
		row := vt.Row(i)
		top, at := 0.0, 0
		for j, v := range row {
			if math.Abs(v) > top {
				top, at = math.Abs(v), j
			}
		}
		if top == 0 || row[at] > 0 {
			continue
		}
		kernel.Scale64(-1, row)
		for k := range u.Rows {
			u.Data[k*u.Stride+i] *= -1
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
