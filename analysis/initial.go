package analysis

import (
	"fmt"
	"math/rand/v2"

	"smelt/internal/kernel"
	"smelt/linalg"
)

// Directions of a matrix in which a further fine-tune may be begun.
const (
	Principal = "principal" // the leading right singular vectors
	Minor     = "minor"     // the last ones: those of the smallest singular values above zero
	Null      = "null"      // outside of its rows: inputs that it maps to zero
)

// Directions returns r orthonormal rows [r,n] of a subspace of the inputs of w
// [m,n]. A null space with fewer than r dimensions is filled up with the last
// right singular vectors: missing says how many.
func Directions(w linalg.Matrix, subspace string, r int, seed uint64, workers int) (rows linalg.Matrix, missing int, err error) {
	n := w.Cols
	if r > n {
		return rows, 0, fmt.Errorf("%d directions of %d inputs", r, n)
	}
	if subspace == Principal {
		d, err := linalg.Truncate(w, linalg.Options{Rank: r, RouterRank: r, Seed: seed, Workers: workers})
		if err != nil {
			return rows, 0, err
		}
		return complete(d.Vt, r, rand.New(rand.NewPCG(seed, 43))), 0, nil
	}
	s, err := NewSubspaces(w, workers)
	if err != nil {
		return rows, 0, err
	}
	return s.directions(subspace, r, seed)
}

// DirectionsOfFactors is [Directions] of a matrix of low rank.
func DirectionsOfFactors(b, a linalg.Matrix, scale float64, subspace string, r int, seed uint64, workers int) (rows linalg.Matrix, missing int, err error) {
	d, err := linalg.LowRank(b, a, scale, workers)
	if err != nil {
		return rows, 0, err
	}
	s := &Subspaces{Out: b.Rows, In: a.Cols, Sigma: d.S, Rank: linalg.NumericalRank(d.S, b.Rows, a.Cols, linalg.EpsF32), vt: d.Vt}
	if r > s.In {
		return rows, 0, fmt.Errorf("%d directions of %d inputs", r, s.In)
	}
	if subspace == Principal {
		return complete(d.Vt.Slice(0, min(r, s.Rank), 0, s.In), r, rand.New(rand.NewPCG(seed, 43))), 0, nil
	}
	return s.directions(subspace, r, seed)
}

// directions of the minor or the null space.
func (s *Subspaces) directions(subspace string, r int, seed uint64) (rows linalg.Matrix, missing int, err error) {
	rng := rand.New(rand.NewPCG(seed, 43))
	switch subspace {
	case Minor:
		return complete(s.vt.Slice(max(0, s.Rank-r), s.Rank, 0, s.In), r, rng), 0, nil
	case Null:
		free := min(r, s.In-s.Rank)
		missing = r - free
		whole := complete(s.vt.Slice(0, s.Rank, 0, s.In), s.Rank+free, rng)
		return whole.Slice(s.Rank-missing, s.Rank+free, 0, s.In), missing, nil
	}
	return rows, 0, fmt.Errorf("subspace %q: want %s, %s or %s", subspace, Minor, Null, Principal)
}

// complete adds random rows, orthogonal to those of v and to one another, up to
// r.
func complete(v linalg.Matrix, r int, rng *rand.Rand) linalg.Matrix {
	if v.Rows >= r {
		return v.Slice(0, r, 0, v.Cols)
	}
	out := kernel.New(r, v.Cols)
	wide := kernel.New64(r, v.Cols)
	for i := range v.Rows {
		kernel.F32ToF64(wide.Row(i), v.Row(i))
	}
	for i := v.Rows; i < r; i++ {
		row := wide.Row(i)
		for norm := 0.0; norm < 1e-3; { // again in the rare case that nothing is left
			for j := range row {
				row[j] = rng.NormFloat64()
			}
			kernel.Scale64(1/kernel.Nrm264(row), row)
			for range 2 { // twice is enough
				for k := range i {
					kernel.Axpy64(-kernel.Dot64(wide.Row(k), row), wide.Row(k), row)
				}
			}
			norm = kernel.Nrm264(row)
		}
		kernel.Scale64(1/kernel.Nrm264(row), row)
	}
	for i := range r {
		kernel.F64ToF32(out.Row(i), wide.Row(i))
	}
	return out
}

// AnyDirections returns r random orthonormal rows [r,n].
func AnyDirections(n, r int, seed uint64) linalg.Matrix {
	return complete(kernel.New(0, n), r, rand.New(rand.NewPCG(seed, 43)))
}
