package linalg

import (
	"math"

	"smelt/internal/kernel"
)

// panelWidth is the number of reflectors that are gathered before they are
// applied to the rest of a matrix in one product.
const panelWidth = 32

// reflectors is a sequence of Householder reflectors H₀, H₁, … with Hᵢ =
// I − τᵢ·vᵢ·vᵢᵀ; row i of vt holds vᵢ, zero before column i+shift and one there.
type reflectors struct {
	vt    Matrix64
	tau   []float64
	shift int
}

// reflect turns x into v of the reflector that maps x to beta·e₁, and returns
// beta and tau: v[0] = 1, and tau is 0 where x is a multiple of e₁ already.
func reflect(x []float64) (beta, tau float64) {
	alpha := x[0]
	rest := kernel.Nrm264(x[1:])
	if rest == 0 {
		x[0] = 1
		return alpha, 0
	}
	beta = -math.Copysign(math.Hypot(alpha, rest), alpha)
	tau = (beta - alpha) / beta
	kernel.Scale64(1/(alpha-beta), x[1:])
	x[0] = 1
	return beta, tau
}

// blockFactor returns the upper triangular T of the compact WY form
// H₀·H₁·…·H_{k−1} = I − V·T·Vᵀ (Schreiber and Van Loan 1989), the rows of vt
// being the columns of V.
func blockFactor(ws *workspace, workers int, vt Matrix64, tau []float64) Matrix64 {
	k := vt.Rows
	gram := ws.zeros64(k, k)
	kernel.Gemm64(workers, false, true, 1, vt, vt, 0, gram)
	t := ws.zeros64(k, k)
	for j := range k {
		t.Set(j, j, tau[j])
		for i := range j {
			var s float64
			for l := i; l < j; l++ {
				s += t.At(i, l) * gram.At(l, j)
			}
			t.Set(i, j, -tau[j]*s)
		}
	}
	return t
}

// applyBlock computes y = y·(I − V·op(T)·Vᵀ), rows of vt being columns of V.
func applyBlock(ws *workspace, workers int, y, vt, t Matrix64, transT bool) {
	if y.Rows == 0 || vt.Rows == 0 {
		return
	}
	p, q := ws.zeros64(y.Rows, vt.Rows), ws.zeros64(y.Rows, vt.Rows)
	kernel.Gemm64(workers, false, true, 1, y, vt, 0, p)
	kernel.Gemm64(workers, false, transT, 1, p, t, 0, q)
	kernel.Gemm64(workers, false, false, -1, q, vt, 1, y)
}

// applyRows replaces every row yᵀ of y by (H₀·H₁·…·y)ᵀ: it carries vectors of
// a reduced matrix back to the original one.
func (h reflectors) applyRows(ws *workspace, workers int, y Matrix64) {
	k := h.vt.Rows
	for end := k; end > 0; {
		start := (end - 1) / panelWidth * panelWidth
		lo := start + h.shift
		vt := h.vt.Slice(start, end, lo, h.vt.Cols)
		t := blockFactor(ws, workers, vt, h.tau[start:end])
		applyBlock(ws, workers, y.Slice(0, y.Rows, lo, y.Cols), vt, t, true)
		end = start
	}
}

// factorLQ computes a = L·Q for a [k,n], k ≤ n: on return the lower triangle of
// a's leading k × k part holds L, and Q is the leading k rows of (H₀·H₁·…)ᵀ.
func factorLQ(workers int, a Matrix64) reflectors {
	k := a.Rows
	h := reflectors{vt: kernel.New64(k, a.Cols), tau: make([]float64, k)}
	for start := 0; start < k; start += panelWidth {
		end := min(start+panelWidth, k)
		for i := start; i < end; i++ {
			v := h.vt.Row(i)[i:]
			copy(v, a.Row(i)[i:])
			var beta float64
			beta, h.tau[i] = reflect(v)
			a.Set(i, i, beta)
			clear(a.Row(i)[i+1:])
			for j := i + 1; j < end; j++ {
				row := a.Row(j)[i:]
				kernel.Axpy64(-h.tau[i]*kernel.Dot64(row, v), v, row)
			}
		}
		if end < k {
			vt := h.vt.Slice(start, end, start, a.Cols)
			t := blockFactor(nil, workers, vt, h.tau[start:end])
			applyBlock(nil, workers, a.Slice(end, k, start, a.Cols), vt, t, false)
		}
	}
	return h
}

// rowSpace is an orthonormal basis Q [k,n] of a matrix's rows, as reflectors
// or, with as many rows as columns, as the identity.
type rowSpace struct {
	lq reflectors
	n  int
}

// newRowSpace factors a [r,n] = core·Q, overwriting a; core is [r,min(r,n)].
func newRowSpace(workers int, a Matrix64) (q rowSpace, core Matrix64) {
	q = rowSpace{n: a.Cols}
	if a.Rows >= a.Cols {
		return q, a
	}
	q.lq = factorLQ(workers, a)
	return q, a.Slice(0, a.Rows, 0, a.Rows)
}

// expand returns y·Q.
func (q rowSpace) expand(workers int, y Matrix64) Matrix64 {
	if y.Cols == q.n {
		return y
	}
	wide := kernel.New64(y.Rows, q.n)
	for i := range y.Rows {
		copy(wide.Row(i), y.Row(i))
	}
	q.lq.applyRows(nil, workers, wide)
	return wide
}
