package linalg

import (
	"fmt"
	"math"

	"smelt/internal/kernel"
)

// Matrix is a row-major float32 matrix.
type Matrix = kernel.Matrix

// Matrix64 is a row-major float64 matrix.
type Matrix64 = kernel.Matrix64

// SVD is a singular value decomposition, whole or truncated: A ≈ U·diag(S)·Vt.
//
//	U   [m, r]   orthonormal columns
//	S   [r]      σ₁ ≥ … ≥ σᵣ ≥ 0
//	Vt  [r, n]   orthonormal rows
type SVD struct {
	U           Matrix
	S           []float64
	Vt          Matrix
	Energy      float64 // ‖A‖²_F
	Captured    float64 // Σ σ² of S
	Certificate Certificate
}

// SVD64 is [SVD] in float64, of full thin size.
type SVD64 struct {
	U      Matrix64
	S      []float64
	Vt     Matrix64
	Energy float64
}

// Certificate says how near a truncation is to the best of its rank.
type Certificate struct {
	// Bound is at least the energy Σ_{i≤r} σᵢ(A)² of the best approximation of
	// rank r, so that Captured/Bound is a lower bound on the share reached.
	Bound float64
	// FailureProbability bounds the probability, over the seed, that Bound is
	// too small; 0 where Bound rests on no random estimate.
	FailureProbability float64
	// RouterAngle bounds, in radians, the largest angle between the leading
	// RouterRank right singular vectors' span and the true one; π/2 where
	// nothing is known, because σ_g and σ_{g+1} (almost) coincide.
	RouterAngle float64
	// Iterations is the number of blocks of the Krylov basis and Basis the
	// number of its vectors; both are 0 on the deterministic paths.
	Iterations, Basis int
	// Products is the number of vectors that the matrix or its transpose was
	// multiplied by in float32, for the basis and for its certificate: what the
	// decomposition cost, in units of 2·m·n operations.
	Products int
	// Tolerance is the one asked for: 1 − Captured/Bound ≤ Tolerance.
	Tolerance float64
	// Met says that Tolerance was met, and RouterTolerance wherever
	// σ_g/σ_{g+1} > RouterGap.
	Met bool
}

// Share returns the proven lower bound on captured ÷ optimal energy, 1 for a
// matrix of zeros.
func (d SVD) Share() float64 {
	if d.Certificate.Bound <= 0 {
		return 1
	}
	return d.Captured / d.Certificate.Bound
}

// Options says what [Truncate] and [Spectrum] are to reach.
type Options struct {
	// Rank is the number of triplets wanted, capped at min(m, n).
	Rank int
	// RouterRank is the number of leading right singular vectors whose span
	// must itself be accurate, to RouterTolerance.
	RouterRank int
	// RouterTolerance is the largest angle allowed there, in radians;
	// 0 means DefaultRouterTolerance.
	RouterTolerance float64
	// Tolerance is the share of the best energy that may be missed;
	// 0 means DefaultTolerance.
	Tolerance float64
	// Energy is ‖A‖²_F of a matrix that is known to be finite, where its maker has
	// summed it up; 0 has every element looked at.
	Energy float64
	// Seed chooses the random start; the same seed gives the same bits.
	Seed uint64
	// Workers bounds the goroutines; 0 means GOMAXPROCS.
	Workers int
}

const (
	// DefaultTolerance is the share of the best energy that may be missed.
	DefaultTolerance = 1e-3
	// DefaultRouterTolerance is the angle in radians that the router's
	// subspace may be off: 1 − cos² of it is 0.09 %.
	DefaultRouterTolerance = 0.03
	// RouterGap is the ratio σ_g/σ_{g+1} above which the router's subspace is
	// well defined and its angle is guaranteed.
	RouterGap = 1.01
)

// normalise checks the options against an m × n matrix and fills the defaults.
func (o Options) normalise(op string, m, n int) (Options, error) {
	switch {
	case o.Rank < 0:
		return o, fmt.Errorf("linalg: %s: rank %d, want 0 or more", op, o.Rank)
	case o.RouterRank < 0:
		return o, fmt.Errorf("linalg: %s: router rank %d, want 0 or more", op, o.RouterRank)
	case !(o.Energy >= 0) || math.IsInf(o.Energy, 0):
		return o, fmt.Errorf("linalg: %s: energy %v, want it finite, 0 or more", op, o.Energy)
	case !(o.Tolerance >= 0 && o.Tolerance < 1):
		return o, fmt.Errorf("linalg: %s: tolerance %v, want it in [0, 1)", op, o.Tolerance)
	case !(o.RouterTolerance >= 0 && o.RouterTolerance <= math.Pi/2):
		return o, fmt.Errorf("linalg: %s: router tolerance %v, want it in [0, π/2]", op, o.RouterTolerance)
	}
	if o.Tolerance == 0 {
		o.Tolerance = DefaultTolerance
	}
	if o.RouterTolerance == 0 {
		o.RouterTolerance = DefaultRouterTolerance
	}
	o.Rank = min(o.Rank, m, n)
	o.RouterRank = min(o.RouterRank, o.Rank)
	return o, nil
}

// checkMatrix returns ‖a‖²_F, or an error when a is malformed or holds
// something that is not finite.
func checkMatrix(op string, a Matrix) (energy float64, err error) {
	if err := checkShape(op, a.Rows, a.Cols, a.Stride, len(a.Data)); err != nil {
		return 0, err
	}
	for i := range a.Rows {
		row := a.Row(i)
		s := kernel.SumSquares(row)
		if s-s != 0 { // NaN or Inf: no sum of finite float32 squares overflows
			for j, v := range row {
				if v-v != 0 {
					return 0, fmt.Errorf("linalg: %s: element [%d,%d] is %v, want a finite number", op, i, j, v)
				}
			}
		}
		energy += s
	}
	return energy, nil
}

// checkMatrix64 is checkMatrix for float64; the energy may overflow to +Inf.
func checkMatrix64(op string, a Matrix64) (energy float64, err error) {
	if err := checkShape(op, a.Rows, a.Cols, a.Stride, len(a.Data)); err != nil {
		return 0, err
	}
	for i := range a.Rows {
		row := a.Row(i)
		s := kernel.Dot64(row, row)
		if s-s != 0 {
			for j, v := range row {
				if v-v != 0 {
					return 0, fmt.Errorf("linalg: %s: element [%d,%d] is %v, want a finite number", op, i, j, v)
				}
			}
		}
		energy += s
	}
	return energy, nil
}

func checkShape(op string, rows, cols, stride, size int) error {
	if rows < 0 || cols < 0 || stride < cols || (rows > 0 && cols > 0 && (rows-1)*stride+cols > size) {
		return fmt.Errorf("linalg: %s: a %d × %d matrix of stride %d does not fit %d elements", op, rows, cols, stride, size)
	}
	return nil
}

func sumSquares64(s []float64) float64 {
	var e float64
	for _, v := range s {
		e += v * v
	}
	return e
}
