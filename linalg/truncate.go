package linalg

// Truncate returns an approximation of a [m,n] of rank r = min(opt.Rank, m, n)
// that is the best one in the Frobenius norm (Eckart–Young) up to
// opt.Tolerance, with a certificate.
//
//	a   [m, n]   read only
//	U   [m, r]   orthonormal columns
//	S   [r]      σ₁ ≥ … ≥ σᵣ ≥ 0
//	Vt  [r, n]   orthonormal rows
func Truncate(a Matrix, opt Options) (SVD, error) {
	opt, err := opt.normalise("Truncate", a.Rows, a.Cols)
	if err != nil {
		return SVD{}, err
	}
	energy, err := checkMatrix("Truncate", a)
	if err != nil {
		return SVD{}, err
	}
	u, s, vt := decompose(opt.Workers, widen(a))
	r := opt.Rank
	d := finish(u.Slice(0, u.Rows, 0, r), s[:r:r], vt.Slice(0, r, 0, vt.Cols), energy)
	d.Certificate.Tolerance = opt.Tolerance
	return d, nil
}

// WorkingBytes returns an upper bound on the memory that [Truncate] and
// [Spectrum] hold at once for an m × n matrix beyond the matrix itself, their
// result included.
func WorkingBytes(m, n int, opt Options) int64 {
	k := int64(min(m, n))
	return 8 * (3*int64(m)*int64(n) + 4*k*k + 8*(int64(m)+int64(n)))
}
