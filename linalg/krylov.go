package linalg

import (
	"math"
	"math/rand/v2"

	"smelt/internal/kernel"
)

// largestBasis bounds a Krylov basis, in multiples of half the rank: a spectrum
// that is not resolved by then is flat.
const largestBasis = 16

// rounding is the share of energy that float32 products and bases that are
// orthonormal to float32's accuracy may gain or lose.
const rounding = 2e-6

// cachedSide is the longest shorter side of matrices that the caches hold, more
// or less.
const cachedSide = 1024

// blockSize returns the number of vectors of a block for rank r of a matrix
// whose shorter side is p, and half the rank, rounded: the narrower the blocks,
// the fewer vectors are needed in all, but the more passes over the matrix, which
// are cheap only where the caches hold it.
func blockSize(p, r int) (block, half int) {
	half = min(max((r/2+15)/16*16, 16), 256)
	if p <= cachedSide {
		return half / 2, half
	}
	return half, half
}

// krylov is the block Krylov space of H = W·Wᵀ with everything that is known
// about H on it.
//
//	q  [d,p]  orthonormal basis, all blocks kept
//	t  [d,n]  q·W
//	g  [d,d]  t·tᵀ in float64, as far as it has been asked for
//	w  [b,p]  H·(last block) less its part along q: what H maps out of the basis
//	ww [b,b]  w·wᵀ in float64
type krylov struct {
	op     operator
	opt    Options
	energy float64 // ‖W‖²_F

	q, t   Matrix
	g      Matrix64
	known  int // rows of g that are computed
	d      int // vectors in the basis
	last   int // vectors in its last block
	blocks int
	w      Matrix
	wide   Matrix64 // w in float64
	ww     Matrix64
	noise  float64 // norm below which a row of w is rounding

	trace  float64 // Σ of g's diagonal: the energy inside
	mu     float64 // bound on ‖E‖²₂, +Inf before it is known
	failed float64 // probability that mu is too small
}

// newKrylov returns an empty space of at most limit vectors, in blocks of b.
func newKrylov(op operator, opt Options, energy float64, b, limit int) *krylov {
	ws := op.ws
	return &krylov{
		op: op, opt: opt, energy: energy, mu: math.Inf(1),
		q: ws.matrix(limit, op.p), t: ws.matrix(limit, op.n), g: ws.matrix64(limit, limit),
		w: ws.matrix(b, op.p), wide: ws.matrix64(b, op.p), ww: ws.matrix64(b, b),
	}
}

// start makes the first block from W times uniform random vectors.
func (k *krylov) start() {
	at := k.op.ws.level()
	omega := k.op.ws.matrix(k.w.Rows, k.op.n)
	uniform(omega.Data, rand.NewPCG(k.opt.Seed, 0x736d656c74))
	k.op.backward(k.w, omega)
	k.op.ws.back(at)
	k.settle()
}

// uniform fills x with numbers in [−1, 1).
func uniform(x []float32, rng *rand.PCG) {
	for i := 0; i < len(x); i += 2 {
		bits := rng.Uint64()
		x[i] = float32(int32(bits)) * 0x1p-31
		if i+1 < len(x) {
			x[i+1] = float32(int32(bits>>32)) * 0x1p-31
		}
	}
}

// settle takes what w has in the basis out of it and measures the rest.
func (k *krylov) settle() {
	k.noise = 16 * EpsF32 * largestRow(k.w)
	k.op.project(k.w, k.basis())
	b := k.w.Rows
	k.wide, k.ww = k.wide.Slice(0, b, 0, k.op.p), k.ww.Slice(0, b, 0, b)
	for i := range b {
		kernel.F32ToF64(k.wide.Row(i), k.w.Row(i))
	}
	kernel.Syrk64(k.opt.Workers, false, 1, k.wide, 0, k.ww)
}

// extend turns w into the next block of the basis and reports whether there
// was anything left in it.
func (k *krylov) extend() bool {
	dst := k.q.Slice(k.d, min(k.d+k.w.Rows, k.q.Rows), 0, k.op.p)
	b := 0
	if dst.Rows == k.w.Rows {
		b = k.op.orthonormalise(dst, k.wide, k.ww, k.basis(), k.noise)
	}
	if b == 0 {
		return false
	}
	d := k.d + b
	t := k.t.Slice(k.d, d, 0, k.op.n)
	k.w = k.w.Slice(0, b, 0, k.op.p)
	k.op.both(t, k.w, k.q.Slice(k.d, d, 0, k.op.p), 0)
	for i := range b {
		k.trace += kernel.SumSquares(t.Row(i))
	}
	k.d, k.last = d, b
	k.blocks++
	k.settle()
	return true
}

func (k *krylov) basis() Matrix { return k.q.Slice(0, k.d, 0, k.op.p) }

// measure completes g.
func (k *krylov) measure() {
	if k.known == k.d {
		return
	}
	rows := k.g.Slice(k.known, k.d, 0, k.d)
	beta := 0.0
	k.op.ws.widenColumns(k.t.Slice(0, k.d, 0, k.op.n), func(_, _ int, w Matrix64) {
		if k.known == 0 {
			kernel.Syrk64(k.opt.Workers, false, 1, w, beta, rows)
		} else {
			kernel.Gemm64(k.opt.Workers, false, true, 1, w.Slice(k.known, k.d, 0, w.Cols), w, beta, rows)
		}
		beta = 1
	})
	for i := k.known; i < k.d; i++ {
		for j := range k.known {
			k.g.Set(j, i, k.g.At(i, j))
		}
	}
	k.known = k.d
}

// outside bounds ‖E‖²_F = ‖W‖²_F − ‖t‖²_F: the difference of two sums, hence
// with the rounding of both.
func (k *krylov) outside() float64 {
	return max(0, k.energy-k.trace) + rounding*k.energy
}

func largestRow(a Matrix) float64 {
	var top float64
	for i := range a.Rows {
		top = max(top, kernel.SumSquares(a.Row(i)))
	}
	return math.Sqrt(top)
}

// restart replaces w by b random directions, for a basis that H does not
// widen.
func (k *krylov) restart(b int) {
	k.w, k.wide, k.ww = k.op.ws.matrix(b, k.op.p), k.op.ws.matrix64(b, k.op.p), k.op.ws.matrix64(b, b)
	uniform(k.w.Data, rand.NewPCG(k.opt.Seed, uint64(k.d)))
	k.settle()
}
