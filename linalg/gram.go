package linalg

import (
	"math"

	"smelt/internal/kernel"
)

// Leading returns the r leading triplets of a, r ≤ min(m, n), and all of its
// singular values, from the Gram matrix of its shorter side in float64: exact to
// 10⁻⁶·σ₁, at little more than the cost of the singular values.
func Leading(a Matrix, r, workers int) (d SVD, s []float64, err error) {
	opt, err := Options{Rank: r, Workers: workers}.normalise("Leading", a.Rows, a.Cols)
	if err != nil {
		return SVD{}, nil, err
	}
	energy, err := checkMatrix("Leading", a)
	if err != nil {
		return SVD{}, nil, err
	}
	if energy == 0 {
		d, err = Truncate(a, opt)
		return d, make([]float64, min(a.Rows, a.Cols)), err
	}
	a, exp := inRange(a, energy)
	ws := workspaces.Get().(*workspace)
	defer workspaces.Put(ws)
	defer ws.back(ws.level())
	op := newOperator(ws, a, workers)
	f, lambda := solveGram(op, opt.Rank, true)
	s = timesPower(roots(lambda, op.p), exp)
	f.s = s[:opt.Rank:opt.Rank]
	d = f.finish(op.flip, energy)
	d.Certificate = Certificate{Bound: d.Captured, Tolerance: opt.Tolerance, Met: true}
	return d, s, nil
}

// ShortSide returns all singular values of a [m,n] and the singular vectors of
// its shorter side alone, as the rows of vectors [p,p]: the left ones where
// m ≤ n, otherwise the right ones. They are the eigenvectors of the Gram matrix of that
// side, in float64: the values are exact to 10⁻⁶·σ₁.
func ShortSide(a Matrix, workers int) (vectors Matrix, s []float64, energy float64, err error) {
	if energy, err = checkMatrix("ShortSide", a); err != nil {
		return Matrix{}, nil, 0, err
	}
	p := min(a.Rows, a.Cols)
	if energy == 0 {
		return narrow(identity(p, p)), make([]float64, p), 0, nil
	}
	a, exp := inRange(a, energy)
	ws := workspaces.Get().(*workspace)
	defer workspaces.Put(ws)
	defer ws.back(ws.level())
	vt := kernel.New64(p, p)
	lambda := eigenPSD(nil, workers, newOperator(ws, a, workers).gram(), vt)
	return narrow(vt), timesPower(roots(lambda, p), exp), energy, nil
}

// timesPower multiplies by 2^exp.
func timesPower(s []float64, exp int) []float64 {
	for i := range s {
		s[i] = math.Ldexp(s[i], exp)
	}
	return s
}
