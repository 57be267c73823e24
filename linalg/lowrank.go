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
	// bᵀ = Cᵦ·Qᵦ and a = Cₐ·Qₐ, so that b·a = Qᵦᵀ·(Cᵦᵀ·Cₐ)·Qₐ.
	qb, cb := newRowSpace(workers, transpose(widen(b)))
	qa, ca := newRowSpace(workers, widen(a))
	core := kernel.New64(cb.Cols, ca.Cols)
	kernel.Gemm64(workers, true, false, scale, cb, ca, 0, core)
	ut, s, vt := decompose(workers, core)
	d := factors{qb.expand(workers, ut), s, qa.expand(workers, vt)}.finish(false, sumSquares64(s))
	d.Certificate = Certificate{Bound: d.Captured, Met: true}
	if math.IsInf(d.Energy, 0) || math.IsNaN(d.Energy) {
		return SVD{}, fmt.Errorf("linalg: LowRank: the product overflows: energy %v", d.Energy)
	}
	return d, nil
}
