package linalg

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/lapack/gonum"

	"smelt/internal/kernel"
)

// decompose returns the thin singular value decomposition of a, which it
// overwrites, with the vectors of both sides as rows: LQ where a is not
// square, bidiagonal reduction, divide and conquer, and the way back by blocked
// reflectors. Backward stable: the error is a small multiple of the roundoff
// times ‖a‖.
func decompose(workers int, a Matrix64) (ut Matrix64, s []float64, vt Matrix64) {
	if a.Rows > a.Cols {
		vt, s, ut = decomposeWide(workers, transpose(a))
		return ut, s, vt
	}
	return decomposeWide(workers, a)
}

// decomposeWide is decompose for a [k,n], k ≤ n.
func decomposeWide(workers int, a Matrix64) (ut Matrix64, s []float64, vt Matrix64) {
	k, n := a.Rows, a.Cols // k ≤ n
	exp := normaliseExponent(a)
	space := rowSpace{n: n}
	if k < n {
		space, a = newRowSpace(workers, a)
		a = clone64(a)
	}
	d, e, left, right := bidiagonalise(workers, a)
	s, ut, vt = bidiagonalSVD(nil, workers, d, e, true, k)
	left.applyRows(nil, workers, ut)
	right.applyRows(nil, workers, vt)
	vt = space.expand(workers, vt)
	for i := range s {
		s[i] = math.Ldexp(s[i], exp)
	}
	return ut, s, vt
}

// normaliseExponent scales a by the power of two that brings its largest
// magnitude to [½, 1), so that no square overflows, and returns its exponent.
func normaliseExponent(a Matrix64) int {
	var top float64
	for i := range a.Rows {
		for _, v := range a.Row(i) {
			top = max(top, math.Abs(v))
		}
	}
	if top == 0 {
		return 0
	}
	_, exp := math.Frexp(top)
	for i := range a.Rows {
		row := a.Row(i)
		if exp < -1000 { // 2^−exp is not a float64
			kernel.Scale64(0x1p1000, row)
			kernel.Scale64(math.Ldexp(1, -exp-1000), row)
			continue
		}
		kernel.Scale64(math.Ldexp(1, -exp), row)
	}
	return exp
}

// eigenPSD decomposes the symmetric positive semidefinite g [n,n], which it
// overwrites: it returns all eigenvalues, descending, and fills vt [keep,n] with
// the leading eigenvectors as rows. The error of the eigenvalues is a small
// multiple of the roundoff times the largest; what should be zero may come out
// as any number of that size.
func eigenPSD(ws *workspace, workers int, g, vt Matrix64) (lambda []float64) {
	at := ws.level()
	defer ws.back(at)
	d, e, h := tridiagonalise(ws, workers, g)
	if vt.Rows == 0 {
		if !(gonum.Implementation{}).Dsterf(len(d), d, e) {
			panic("linalg: QL on a finite tridiagonal matrix did not converge")
		}
		slices.Reverse(d)
		for i, v := range d {
			d[i] = max(0, v)
		}
		return d
	}
	shift := factorTridiagonal(d, e)
	lambda, _, leading := bidiagonalSVD(ws, workers, d, e, false, vt.Rows)
	h.applyRows(ws, workers, leading)
	for i := range vt.Rows {
		copy(vt.Row(i), leading.Row(i))
	}
	for i, v := range lambda {
		lambda[i] = max(0, v*v-shift)
	}
	return lambda
}

// eigenvalues returns all eigenvalues of the symmetric positive semidefinite g,
// which it overwrites, descending.
func eigenvalues(ws *workspace, workers int, g Matrix64) []float64 {
	return eigenPSD(ws, workers, g, Matrix64{})
}

// factorTridiagonal replaces the tridiagonal T (diagonal d, off-diagonal e) by
// the upper bidiagonal B with BᵀB = T + shift·I, whose right singular vectors
// are T's eigenvectors. The shift is a few roundoffs of ‖T‖, what T lacks to be
// positive definite after rounding.
func factorTridiagonal(d, e []float64) (shift float64) {
	var top float64
	for i := range d {
		row := math.Abs(d[i])
		if i > 0 {
			row += math.Abs(e[i-1])
		}
		if i < len(e) {
			row += math.Abs(e[i])
		}
		top = max(top, row)
	}
	if top == 0 {
		return 0
	}
	bd, be := make([]float64, len(d)), make([]float64, len(e))
	for shift = 8 * roundoff * top; ; shift *= 8 {
		ok := true
		carry := 0.0
		for i := range d {
			v := d[i] + shift - carry
			if !(v > 0) {
				ok = false
				break
			}
			bd[i] = math.Sqrt(v)
			if i < len(e) {
				be[i] = e[i] / bd[i]
				carry = be[i] * be[i]
			}
		}
		if ok {
			copy(d, bd)
			copy(e, be)
			return shift
		}
	}
}

// transpose returns aᵀ, copied in tiles that stay in the nearest cache.
func transpose(a Matrix64) Matrix64 {
	const tile = 16
	t := kernel.New64(a.Cols, a.Rows)
	for i0 := 0; i0 < a.Rows; i0 += tile {
		i1 := min(i0+tile, a.Rows)
		for j0 := 0; j0 < a.Cols; j0 += tile {
			for j := j0; j < min(j0+tile, a.Cols); j++ {
				out := t.Row(j)[i0:i1]
				for i := range out {
					out[i] = a.At(i0+i, j)
				}
			}
		}
	}
	return t
}
