package linalg

import (
	"fmt"
	"math"

	"smelt/internal/kernel"
)

// LowRank returns the exact singular value decomposition of scale·b·a, with b
// [m,r] and a [r,n] as in LoRA, from the QR decompositions of b and aᵀ and the
// singular value decomposition of the small core, in float64: the dense
// product is never formed. The result has rank min(m, n, r); factors of lower
// rank give singular values of zero with orthonormal vectors beside them.
func LowRank(b, a Matrix, scale float64, workers int) (SVD, error) {
	if b.Cols != a.Rows {
		return SVD{}, fmt.Errorf("linalg: LowRank: b is %d × %d, a is %d × %d, want as many columns of b as rows of a", b.Rows, b.Cols, a.Rows, a.Cols)
	}
	if scale-scale != 0 {
		return SVD{}, fmt.Errorf("linalg: LowRank: scale is %v, want a finite number", scale)
	}
	if _, err := checkMatrix("LowRank: b", b); err != nil {
		return SVD{}, err
	}
	if _, err := checkMatrix("LowRank: a", a); err != nil {
		return SVD{}, err
	}
	dense := kernel.New64(b.Rows, a.Cols)
	kernel.Gemm64(workers, false, false, scale, widen(b), widen(a), 0, dense)
	u, s, vt := decompose(workers, dense)
	r := min(b.Rows, a.Cols, b.Cols)
	d := finish(u.Slice(0, u.Rows, 0, r), s[:r:r], vt.Slice(0, r, 0, vt.Cols), sumSquares64(s[:r]))
	if math.IsInf(d.Energy, 0) || math.IsNaN(d.Energy) {
		return SVD{}, fmt.Errorf("linalg: LowRank: the product overflows: energy %v", d.Energy)
	}
	return d, nil
}
