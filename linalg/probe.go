package linalg

import (
	"math"
	"math/rand/v2"

	"smelt/internal/kernel"
)

// probeSteps bounds the products with E and Eᵀ of one probing, each.
const probeSteps = 7

// probes are Gaussian vectors that ‖E‖₂ is probed with: their parts g along one
// fixed unit vector have ‖g‖² < delta2 only with probability failure.
type probes struct {
	count           int
	delta2, failure float64
}

// Fewer vectors need more products, but fewer columns of them; a product of 16
// columns takes as long as one of 8 where memory bounds it.
var (
	eightProbes   = probes{8, 0.028, chiSquared(8, 0.028)}
	sixteenProbes = probes{16, 0.62, chiSquared(16, 0.62)}
)

// chiSquared returns the probability that a χ² distribution of n degrees of
// freedom, n even, gives less than y: e^−x·Σ_{i ≥ n/2} xⁱ/i! with x = y/2.
func chiSquared(n int, y float64) (p float64) {
	term := math.Exp(-y / 2)
	for i := 1; i < n/2+30; i++ {
		term *= y / 2 / float64(i)
		if i >= n/2 {
			p += term
		}
	}
	return p
}

// probe bounds ‖E‖²₂ from vectors that are independent of the basis, until the
// bound is at most enough, or the steps are spent or, unless all of them are
// asked for, it is plain that none will be; it stores the bound with its
// probability of failure.
//
// The Gaussian X [c,p], less its part in the basis, starts a bidiagonalisation
// with scalars for coefficients, which one column's would be (Golub and Kahan):
// with F = E·Eᵀ, α·v = Eᵀu − β·v′ and β·u = E·v′ − α′·u′ make u = a(F)·X and v =
// Eᵀ·b(F)·X for polynomials a and b of the recurrences
//
//	b = (√λ·a − β·b′)/α,  a = (√λ·b′ − α′·a′)/β   (b scaled by √λ)
//
// and the norms of u and v one. A left singular vector of E with singular value
// √λ = ‖E‖₂ finds a(λ)·g in u, g being its part in X, so that a(λ)·‖g‖ ≤ ‖u‖₂,
// and b likewise: since both grow beyond their largest root, this bounds λ
// unless ‖g‖ is improbably small (for one vector, van Dorsselaer, Hochstenbach
// and van der Vorst 2000).
func (k *krylov) probe(enough float64, all bool) {
	ws := k.op.ws
	at := ws.level()
	defer ws.back(at)
	random := eightProbes
	if k.op.p > cachedSide {
		random = sixteenProbes
	}
	u, v, next := ws.matrix(random.count, k.op.p), ws.matrix(random.count, k.op.n), ws.matrix(random.count, k.op.p)
	rng := rand.New(rand.NewPCG(k.opt.Seed, 0x70726f6265))
	for i := range u.Data {
		u.Data[i] = float32(rng.NormFloat64())
	}
	k.op.project(u, k.basis())
	run := lanczos{norms: []float64{unit(u)}}
	ceiling := k.outside()
	failed := k.failed + random.failure
	// stop takes the bound from the latest vectors, and says whether to go on.
	stop := func(x Matrix) bool {
		top := run.bound(math.Sqrt(random.delta2), spectralNorm(ws, x), ceiling)
		if top = top*(1+1e-3) + EpsF32*k.energy; top < k.mu {
			k.mu, k.failed = top, failed
		}
		return k.mu <= enough || run.exhausted()
	}
	for step := range probeSteps {
		// β·v′ is subtracted on the way, and v scaled when Eᵀ's turn is over.
		beta := run.norms[2*step]
		if step == 0 {
			beta = 0
		}
		k.op.both(v, next, u, float32(-beta))
		if step == 0 && !all && largestGrowth(v, u) > enough {
			return
		}
		alpha := unit(v)
		run.norms = append(run.norms, alpha)
		if step > 0 && stop(v) {
			return
		}
		if alpha > 0 {
			scale(1/alpha, next)
		}
		k.op.project(next, k.basis())
		if !all && largestGrowth(next, v) > enough {
			return
		}
		axpy(-alpha, u, next)
		run.norms = append(run.norms, unit(next))
		u, next = next, u
		if step > 0 && stop(u) {
			return
		}
	}
}

// lanczos holds the norms β₁, α₁, β₂, α₂ … of a bidiagonalisation, the first
// being ‖X‖.
type lanczos struct{ norms []float64 }

// noise is the size of rounding in a vector of the bidiagonalisation before it
// was scaled to norm one.
func (l lanczos) noise() float64 {
	var top float64
	for _, n := range l.norms[1:] {
		top = max(top, n)
	}
	return 8 * EpsF32 * top
}

// exhausted says that the latest vectors are rounding: the space is invariant.
func (l lanczos) exhausted() bool { return l.norms[len(l.norms)-1] <= 10*l.noise() }

// bound returns the λ, at most ceiling, at which the latest polynomial is
// norm/delta.
func (l lanczos) bound(delta, norm, ceiling float64) float64 {
	if l.norms[0] == 0 || l.norms[1] == 0 {
		return 0
	}
	noise := l.noise()
	norm += noise / max(l.norms[len(l.norms)-1], noise)
	want := math.Log(norm / delta)
	reaches := func(root float64) bool {
		// Both polynomials are positive exactly beyond the largest root of the
		// latter. The ratio of successive ones neither over- nor underflows.
		grown, ratio := -math.Log(l.norms[0]), 0.0
		for i, n := range l.norms[1:] {
			next := root
			if i > 0 {
				next -= l.norms[i] / ratio
			}
			if ratio = next / max(n, noise); !(ratio > 0) {
				return false
			}
			grown += math.Log(ratio)
		}
		return grown >= want
	}
	lo, hi := 0.0, math.Sqrt(ceiling)
	for range 40 {
		mid := (lo + hi) / 2
		if reaches(mid) {
			hi = mid
		} else {
			lo = mid
		}
	}
	return hi * hi
}

// unit scales x to a Frobenius norm of one, zero to zero, and returns it.
func unit(x Matrix) float64 {
	var sum float64
	for i := range x.Rows {
		sum += kernel.SumSquares(x.Row(i))
	}
	norm := math.Sqrt(sum)
	if norm > 0 {
		scale(1/norm, x)
	}
	return norm
}

func scale(alpha float64, x Matrix) {
	for i := range x.Rows {
		kernel.Scale(float32(alpha), x.Row(i))
	}
}

// axpy adds alpha·x to y.
func axpy(alpha float64, x, y Matrix) {
	for i := range x.Rows {
		kernel.Axpy(float32(alpha), x.Row(i), y.Row(i))
	}
}

// largestGrowth returns the largest of ‖v‖²/‖u‖² over the rows: a lower bound on
// ‖E‖²₂, if v = u·E.
func largestGrowth(v, u Matrix) float64 {
	var top float64
	for i := range u.Rows {
		if before := kernel.SumSquares(u.Row(i)); before > 0 {
			top = max(top, kernel.SumSquares(v.Row(i))/before)
		}
	}
	return top
}

// spectralNorm returns ‖x‖₂ of an x [c,n] of few rows.
func spectralNorm(ws *workspace, x Matrix) float64 {
	at := ws.level()
	defer ws.back(at)
	gram := ws.matrix64(x.Rows, x.Rows)
	beta := 0.0
	ws.widenColumns(x, func(_, _ int, w Matrix64) {
		kernel.Syrk64(1, false, 1, w, beta, gram)
		beta = 1
	})
	return math.Sqrt(eigenvalues(ws, 1, gram)[0])
}
