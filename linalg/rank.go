package linalg

import (
	"fmt"
	"math"

	"smelt/internal/kernel"
)

// Machine epsilons (the distance from 1 to the next number) for
// [NumericalRank].
const (
	EpsF64  = 0x1p-52
	EpsF32  = 0x1p-23
	EpsF16  = 0x1p-10
	EpsBF16 = 0x1p-7
)

// NumericalRank returns how many of the singular values s (descending) of an
// m × n matrix stand above the rounding of its elements: σ > max(m,n)·eps·σ₁,
// eps being the machine epsilon of the precision that the matrix was known in.
func NumericalRank(s []float64, m, n int, eps float64) int {
	if len(s) == 0 || !(s[0] > 0) {
		return 0
	}
	floor := float64(max(m, n)) * eps * s[0]
	for i, v := range s {
		if !(v > floor) {
			return i
		}
	}
	return len(s)
}

// SubspaceAngle returns the largest principal angle in radians, in [0, π/2],
// between the row spaces of va and vb, both [g,n] with orthonormal rows: the
// sine is the norm of what va leaves outside vb, which is accurate for small
// angles, where a cosine is not.
func SubspaceAngle(va, vb Matrix) (float64, error) {
	if va.Rows != vb.Rows || va.Cols != vb.Cols {
		return 0, fmt.Errorf("linalg: SubspaceAngle: %d × %d and %d × %d, want equal shapes", va.Rows, va.Cols, vb.Rows, vb.Cols)
	}
	if _, err := checkMatrix("SubspaceAngle", va); err != nil {
		return 0, err
	}
	if _, err := checkMatrix("SubspaceAngle", vb); err != nil {
		return 0, err
	}
	g := va.Rows
	if g == 0 || va.Cols == 0 {
		return 0, nil
	}
	a, b := widen(va), widen(vb)
	c := kernel.New64(g, g)
	kernel.Gemm64(1, false, true, 1, a, b, 0, c)
	kernel.Gemm64(1, false, false, -1, c, b, 1, a)
	_, s, _ := decompose(1, a)
	return math.Asin(min(1, s[0])), nil
}
