package linalg

import (
	"math"
	"math/rand/v2"

	"smelt/internal/kernel"
)

// maxBlocks bounds the number of blocks of a Krylov basis: a spectrum that is
// not resolved by then is flat.
const maxBlocks = 16

// rounding is the share of energy that float32 products and bases that are
// orthonormal to float32's accuracy may gain or lose.
const rounding = 2e-6

// blockSize returns the number of vectors of a block for rank r of a matrix
// whose shorter side is p: several blocks below the rank need fewer vectors
// than one of its size. Where passes over a large matrix are what costs, wider
// blocks make fewer of them.
func blockSize(p, r int) int {
	b := r / 2
	if p > 1024 {
		b = r * 3 / 4
	}
	return min(max((b+15)/16*16, 16), 256)
}

// krylov is the block Krylov space of H = W·Wᵀ with everything that is known
// about H on it.
//
//	q [d,p]  orthonormal basis, all blocks kept
//	t [d,n]  q·W
//	g [d,d]  t·tᵀ in float64
//	w [b,p]  H·(last block) less its part along q: what H maps out of the basis
type krylov struct {
	op     operator
	opt    Options
	energy float64 // ‖W‖²_F

	q, t   Matrix
	g      Matrix64
	d      int // vectors in the basis
	last   int // vectors in its last block
	blocks int
	w      Matrix
	ww     Matrix64 // w·wᵀ
	noise  float64  // norm below which a row of w is rounding

	trace  float64 // Σ of g's diagonal: the energy inside
	mu     float64 // bound on ‖E‖²₂, +Inf before it is known
	failed float64 // probability that mu is too small
}

func newKrylov(op operator, opt Options, energy float64, limit int) *krylov {
	return &krylov{
		op: op, opt: opt, energy: energy, mu: math.Inf(1),
		q: kernel.New(limit, op.p), t: kernel.New(limit, op.n), g: kernel.New64(limit, limit),
	}
}

// start makes the first block from W times uniform random vectors.
func (k *krylov) start(b int) {
	rng := rand.New(rand.NewPCG(k.opt.Seed, 0x736d656c74))
	omega := kernel.New(b, k.op.n)
	for i := range omega.Data {
		omega.Data[i] = float32(int32(rng.Uint32())) * 0x1p-31
	}
	k.w = kernel.New(b, k.op.p)
	k.op.backward(k.w, omega)
	k.noise = 16 * EpsF32 * largestRow(k.w)
}

// extend turns w into the next block of the basis and reports whether there
// was anything left in it.
func (k *krylov) extend() bool {
	dst := k.q.Slice(k.d, min(k.d+k.w.Rows, k.q.Rows), 0, k.op.p)
	b := 0
	if dst.Rows == k.w.Rows {
		b = orthonormalise(k.opt.Workers, dst, k.w, k.basis(), k.noise)
	}
	if b == 0 {
		return false
	}
	d := k.d + b
	tNew := k.t.Slice(k.d, d, 0, k.op.n)
	k.op.forward(tNew, k.q.Slice(k.d, d, 0, k.op.p))
	rows := k.g.Slice(k.d, d, 0, d)
	widenColumns(k.t.Slice(0, d, 0, k.op.n), func(c0, _ int, w Matrix64) {
		beta := 1.0
		if c0 == 0 {
			beta = 0
		}
		kernel.Gemm64(k.opt.Workers, false, true, 1, w.Slice(k.d, d, 0, w.Cols), w, beta, rows)
	})
	for i := range b {
		for j := range k.d {
			k.g.Set(j, k.d+i, rows.At(i, j))
		}
		k.trace += rows.At(i, k.d+i)
	}
	k.d, k.last = d, b
	k.blocks++

	k.w = k.w.Slice(0, b, 0, k.op.p)
	k.op.backward(k.w, tNew)
	k.noise = 16 * EpsF32 * largestRow(k.w)
	project(k.opt.Workers, k.w, k.basis())
	project(k.opt.Workers, k.w, k.basis())
	w := widen(k.w)
	k.ww = kernel.New64(b, b)
	kernel.Syrk64(k.opt.Workers, false, 1, w, 0, k.ww)
	return true
}

func (k *krylov) basis() Matrix { return k.q.Slice(0, k.d, 0, k.op.p) }

// gram returns a copy of g with c·w·wᵀ added to the block of the last vectors.
func (k *krylov) gram(c float64) Matrix64 {
	g := clone64(k.g.Slice(0, k.d, 0, k.d))
	if c > 0 {
		at := k.d - k.last
		for i := range k.last {
			kernel.Axpy64(c, k.ww.Row(i), g.Row(at + i)[at:])
		}
	}
	return g
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

// restart replaces w by random directions, for a basis that H does not widen.
func (k *krylov) restart(b int) {
	rng := rand.New(rand.NewPCG(k.opt.Seed, uint64(k.d)))
	k.w = kernel.New(b, k.op.p)
	for i := range k.w.Data {
		k.w.Data[i] = float32(int32(rng.Uint32())) * 0x1p-31
	}
	k.noise = 16 * EpsF32 * largestRow(k.w)
	project(k.opt.Workers, k.w, k.basis())
	project(k.opt.Workers, k.w, k.basis())
}
