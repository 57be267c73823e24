package linalg

import (
	"math"

	"smelt/internal/kernel"
)

// Truncate returns an approximation of a [m,n] of rank r = min(opt.Rank, m, n)
// that is the best one in the Frobenius norm (Eckart–Young) up to
// opt.Tolerance, with a certificate.
//
//	a   [m, n]   read only
//	U   [m, r]   orthonormal columns
//	S   [r]      σ₁ ≥ … ≥ σᵣ ≥ 0
//	Vt  [r, n]   orthonormal rows
//
// Small ranks take a randomized block Krylov basis (Musco and Musco 2015),
// widened until its certificate meets the tolerances. Ranks above a quarter of
// min(m, n), and spectra so flat that the basis would grow to a large part of
// it, take the eigenvectors of the smaller Gram matrix in float64: exact up to
// 10⁻⁶·σ₁, below which nothing is known of a float32 matrix. A matrix with a
// flat spectrum and both sides beyond 2048 may come back with Certificate.Met
// false and the figures reached.
func Truncate(a Matrix, opt Options) (SVD, error) {
	d, _, err := truncate("Truncate", a, opt, true)
	return d, err
}

// truncate is Truncate, or without vectors Spectrum; upper holds bounds on the
// leading singular values, nil where S itself is exact.
func truncate(name string, a Matrix, opt Options, vectors bool) (d SVD, upper []float64, err error) {
	opt, err = opt.normalise(name, a.Rows, a.Cols)
	if err != nil {
		return SVD{}, nil, err
	}
	energy := opt.Energy
	if energy == 0 {
		if energy, err = checkMatrix(name, a); err != nil {
			return SVD{}, nil, err
		}
	} else if err := checkShape(name, a.Rows, a.Cols, a.Stride, len(a.Data)); err != nil {
		return SVD{}, nil, err
	}
	r := opt.Rank
	if r == 0 || energy == 0 {
		d = SVD{
			U: kernel.New(a.Rows, r), S: make([]float64, r), Vt: kernel.New(r, a.Cols), Energy: energy,
			Certificate: Certificate{Tolerance: opt.Tolerance, Met: true},
		}
		for i := range r {
			d.U.Set(i, i, 1)
			d.Vt.Set(i, i, 1)
		}
		return d, nil, nil
	}
	a, exp := inRange(a, energy)
	ws := workspaces.Get().(*workspace)
	defer workspaces.Put(ws)
	defer ws.back(ws.level())
	op := newOperator(ws, a, opt.Workers)
	scaled := math.Ldexp(energy, -2*exp)
	var f factors
	cert := Certificate{Tolerance: opt.Tolerance, Met: true}
	if k, v, ok := solveKrylov(op.streamed(), opt, scaled); ok {
		f.s, cert, upper = roots(v.theta, r), v.cert, roots(v.upper, r)
		if vectors {
			f = k.assemble(v, f.s)
		}
		op = k.op
	} else {
		if op.side() > cachedSide {
			*ws = workspace{} // what the basis took is too much beside the Gram matrix
		}
		var lambda []float64
		f, lambda = solveGram(op, r, vectors)
		cert.Bound = sumSquares64(f.s)
		cert.RouterAngle = gramAngle(lambda, opt.RouterRank)
	}
	f.s, upper = timesPower(f.s, exp), timesPower(upper, exp)
	cert.Bound = math.Ldexp(cert.Bound, 2*exp)
	cert.Products = *op.columns
	d = f.finish(op.flip, energy)
	d.Certificate = cert
	return d, upper, nil
}

// inRange returns a times 2^−exp, such that products of it with itself and
// its transpose stay within float32: a itself where they do already.
func inRange(a Matrix, energy float64) (scaled Matrix, exp int) {
	_, exp = math.Frexp(math.Sqrt(energy))
	if exp > -40 && exp < 40 {
		return a, 0
	}
	scaled = kernel.New(a.Rows, a.Cols)
	for i := range a.Rows {
		dst := scaled.Row(i)
		for j, v := range a.Row(i) {
			dst[j] = float32(math.Ldexp(float64(v), -exp))
		}
	}
	return scaled, exp
}

// wholeSide is up to which shorter side the deterministic path is taken rather
// than a result whose certificate is not met: it costs half a second there.
const wholeSide = 2048

// basisLimit returns the block size and the largest basis for rank r of a
// matrix whose shorter side is p; a limit of 0 says to take the deterministic
// path, and whole says that a basis that reaches its limit should fall back on
// that path.
func basisLimit(p, r int) (block, limit int, whole bool) {
	if 4*r > p || p <= 64 {
		return 0, 0, true
	}
	block, half := blockSize(p, r)
	limit = largestBasis * half
	if p <= wholeSide {
		if limit = min(limit, p/2); 2*limit < 5*r {
			limit = 0
		}
		return block, limit, true
	}
	return block, min(limit, 3*p/4), limit >= 3*p/4
}

// solveKrylov grows a Krylov basis until its certificate is met or its limit
// is reached; ok is false where the deterministic path should be taken.
func solveKrylov(op operator, opt Options, energy float64) (k *krylov, v verdict, ok bool) {
	block, limit, whole := basisLimit(op.side(), opt.Rank)
	if limit == 0 {
		return nil, v, false
	}
	k = newKrylov(op, opt, energy, block, limit)
	k.start()
	// A smaller basis hardly ever suffices, and a check costs as much as a block.
	first := 3 * opt.Rank
	if op.side() > cachedSide {
		first += opt.Rank / 2
	}
	first = min((first+block-1)/block*block, limit/block*block)
	for {
		full := k.d+k.w.Rows > limit
		if !full && !k.extend() {
			// Nothing is left of H times the basis: all of the energy is inside,
			// or the start missed a part, which a new one will not.
			if k.outside() <= 2*rounding*energy {
				return k, k.check(true), true
			}
			k.restart(block)
			continue
		}
		if full && whole {
			return nil, v, false
		}
		if full || k.d >= first {
			if v = k.check(full); v.cert.Met || full {
				return k, v, true
			}
			// What remains is as energetic, on average, as a good part of the
			// last direction kept: a flat spectrum, which no basis resolves soon.
			if whole && k.outside() > float64(op.side()-k.d)*v.theta[min(opt.Rank, k.d)-1]/4 {
				return nil, v, false
			}
		}
	}
}

// factors are singular vectors as rows, from the operator's sides.
type factors struct {
	left  Matrix64 // [r,p]
	s     []float64
	right Matrix64 // [r,n]
}

// assemble carries the Ritz vectors back to the matrix.
func (k *krylov) assemble(v verdict, s []float64) factors {
	left := k.op.widened(v.coords, k.basis())
	right := k.op.widened(v.coords, k.t.Slice(0, k.d, 0, k.op.n))
	return factors{left, s, right}.complete()
}

// solveGram takes the leading eigenvectors of W·Wᵀ, formed in float64: the
// squares of singular values are then exact to float64's roundoff times σ₁²,
// which keeps every σ above float32's noise.
func solveGram(op operator, r int, vectors bool) (f factors, lambda []float64) {
	var left Matrix64
	if vectors {
		left = kernel.New64(r, op.p)
	}
	ws := op.ws
	if op.p > cachedSide {
		ws = nil // too much to keep
	}
	lambda = eigenPSD(ws, op.workers, op.gram(), left)
	if !vectors {
		return factors{s: roots(lambda, r)}, lambda
	}
	f = factors{left: left, s: roots(lambda, r), right: op.product64(left)}
	orthonormalRows(f.right, f.s) // left is orthonormal to float64's roundoff
	return f, lambda
}

// gramAngle bounds the angle of the leading g eigenvectors of a Gram matrix
// (Davis and Kahan): its rounding over the gap, and that of the result.
func gramAngle(lambda []float64, g int) float64 {
	if g == 0 || lambda[0] == 0 {
		return 0
	}
	gap := lambda[g-1]
	if g < len(lambda) {
		gap -= lambda[g]
	}
	sine := float64(len(lambda)) * roundoff * lambda[0] / gap
	if !(sine < 1) {
		return math.Pi / 2
	}
	return math.Asin(sine) + 4*EpsF32
}

// roots returns the square roots of the leading values, r of them, zeros
// beyond their number.
func roots(lambda []float64, r int) []float64 {
	if lambda == nil {
		return nil
	}
	s := make([]float64, r)
	for i := range min(r, len(lambda)) {
		s[i] = math.Sqrt(max(0, lambda[i]))
	}
	return s
}

// complete divides the right vectors by their singular values and makes both
// sides orthonormal, with as many rows as there are singular values.
func (f factors) complete() factors {
	r := len(f.s)
	f.left, f.right = grow(f.left, r), grow(f.right, r)
	orthonormalRows(f.left, nil)
	orthonormalRows(f.right, f.s)
	return f
}

// grow returns a with rows of zeros added up to the given number.
func grow(a Matrix64, rows int) Matrix64 {
	if a.Rows >= rows {
		return a
	}
	g := kernel.New64(rows, a.Cols)
	for i := range a.Rows {
		copy(g.Row(i), a.Row(i))
	}
	return g
}

// finish orients, signs and rounds the factors.
func (f factors) finish(flip bool, energy float64) SVD {
	d := SVD{S: f.s, Energy: energy, Captured: sumSquares64(f.s)}
	if f.left.Rows == 0 {
		return d
	}
	ut, vt := f.left, f.right
	if flip {
		ut, vt = vt, ut
	}
	fixSigns(ut, vt)
	d.Vt = narrow(vt)
	d.U = kernel.New(ut.Cols, ut.Rows)
	kernel.Transpose(d.U, narrow(ut))
	return d
}

// GramBytes returns an upper bound on the memory that [ShortSide], and [Leading]
// beyond its triplets, hold at once for an m × n matrix.
func GramBytes(m, n int) int64 {
	p := int64(min(m, n))
	return 8*(7*p*p+p*columnChunk) + 1<<20
}

// WorkingBytes returns an upper bound on the memory that [Truncate] and
// [Spectrum] hold at once for an m × n matrix beyond the matrix itself, their
// result included.
func WorkingBytes(m, n int, opt Options) int64 {
	p, q := int64(min(m, n)), int64(max(m, n))
	r := min(int64(opt.Rank), p)
	block, limit, whole := basisLimit(int(p), int(r))
	d, b := int64(limit), int64(block)
	result := 12 * r * (p + q) // factors in float64 and float32
	turn := int64(0)
	if turned(m, n) {
		turn = 4 * p * q
	}
	krylov := 4*d*(p+q) + 8*6*d*d + 8*d*columnChunk + 24*max(b, 32)*(p+q)
	if limit == 0 {
		krylov = 0
	}
	gram := int64(0)
	if whole {
		gram = GramBytes(m, n)
	}
	return max(krylov, gram) + turn + result + 1<<20
}
