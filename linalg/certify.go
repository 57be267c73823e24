package linalg

import (
	"math"
	"math/rand/v2"

	"smelt/internal/kernel"
)

// The certificate.
//
// Let W be the matrix, q the basis, E = W − qᵀq·W and H = W·Wᵀ. In the basis q
// completed to an orthonormal one,
//
//	H = | G  Rᵀ |     G = t·tᵀ, R = E·tᵀ, F = E·Eᵀ.
//	    | R  F  |
//
// In a Krylov space R vanishes but for the last block, where it is w. Three
// bounds on the energy Σ_{i≤r} λᵢ(H) of the best approximation of rank r, θ
// being the eigenvalues of G:
//
//  1. Σθᵢ + ‖E‖²_F;
//  2. Σθᵢ + r·‖E‖²₂ (both: singular values of a sum, Ky Fan);
//  3. for κ > μ ≥ ‖E‖²₂, the r leading ones of eig(G + RᵀR/(κ−μ)) and of copies
//     of κ: H ≼ diag(G + RᵀR/(κ−μ), κ·I), since the difference is positive
//     semidefinite by its Schur complement. R is small where the leading
//     vectors have converged, so that this bound closes quadratically even when
//     most energy lies outside of the basis.
//
// The excess of bound 3 over Σθᵢ is convex in 1/(κ−μ) and vanishes at 0, so that
// one evaluation bounds it, by proportion, for every larger κ−μ.
//
// ‖E‖₂ is bounded from probes that are independent of the basis: Lanczos on F
// from a Gaussian vector x gives ‖pₖ(F)·x‖ for the Lanczos polynomial pₖ, and
// |v₁ᵀx|·pₖ(λ₁) ≤ ‖pₖ(F)·x‖ then bounds λ₁ = ‖E‖²₂ unless |v₁ᵀx| < δ, which
// has probability below δ·√(2/π) (van Dorsselaer, Hochstenbach and van der Vorst
// 2000). The largest bound of several probes fails only if all of them do.
const (
	probeCount = 8
	probeDelta = 0.1
	probeSteps = 5
)

// probeFailure is the probability that the bound from the probes is too small.
var probeFailure = math.Pow(probeDelta*math.Sqrt(2/math.Pi), probeCount)

// verdict is what a check of the basis found.
type verdict struct {
	theta  []float64 // eigenvalues of G, descending
	coords Matrix64  // [r,d] leading eigenvectors of G as rows
	rho    []float64 // [r] squared norms of the residuals H·v − θ·v
	cert   Certificate
	upper  []float64 // squares of upper bounds on the leading singular values
}

// check judges the basis and completes the certificate where that is promising
// or the basis final.
func (k *krylov) check(final bool) verdict {
	r, g, workers := k.opt.Rank, k.opt.RouterRank, k.opt.Workers
	v := verdict{cert: Certificate{
		Bound: math.Inf(1), Iterations: k.blocks, Basis: k.d, Tolerance: k.opt.Tolerance,
	}}
	v.theta, v.coords = eigenPSD(workers, k.gram(0), r)
	v.rho = k.residuals(v.coords)
	captured := sum(v.theta[:min(r, k.d)])
	// κ at an eigenvalue beyond the rank, and beyond the router's gap, costs
	// nothing in bound 3.
	at := max(r-1, g)
	if at >= k.d || v.theta[at] <= 0 {
		return k.judge(v, captured)
	}
	kappa := v.theta[at]
	// By Ky Fan the excess is at least what it is to first order.
	if !final && (k.missing(captured+sum(v.rho)/kappa, captured) > k.opt.Tolerance ||
		k.gapped(v.theta, v.theta) && k.angle(v, v.theta, 0.75*kappa) > 0.7*k.opt.RouterTolerance) {
		return k.judge(v, captured)
	}
	probed := eigenvalues(workers, k.gram(4/kappa))
	excess := max(0, sum(probed[:r])-captured)
	// μ suffices up to where bound 3 meets the tolerance.
	allowed := captured*(1/(1-k.opt.Tolerance)-1-rounding) - rounding*captured
	enough := min(0.75*kappa, kappa*(1-excess/(4*allowed)))
	if outside := k.outside(); outside < k.mu {
		k.mu, k.failed = outside, 0
	}
	if k.mu > enough && (final || enough > 0) {
		k.probe(enough)
	}
	switch {
	case k.mu <= 0.75*kappa:
		v.upper = probed
		v.cert.Bound = captured + kappa/4/(kappa-k.mu)*excess
	case k.mu < 0.99*kappa:
		v.upper = eigenvalues(workers, k.gram(1/(kappa-k.mu)))
		v.cert.Bound = sum(v.upper[:r])
	case final:
		// Flat: κ has to lie above μ, and counts wherever it exceeds θ.
		gap := k.opt.Tolerance / 2 * k.mu
		kappa = k.mu + gap
		v.upper = eigenvalues(workers, k.gram(1/gap))
		for i, u := range v.upper {
			v.upper[i] = max(u, kappa)
		}
		v.cert.Bound = sum(v.upper[:r])
	}
	v.cert.FailureProbability = k.failed
	for i, u := range v.upper {
		v.upper[i] = max(u, kappa) + rounding*v.theta[0]
	}
	return k.judge(v, captured)
}

// judge completes the certificate of v with the bounds that need no gap.
func (k *krylov) judge(v verdict, captured float64) verdict {
	r, g := k.opt.Rank, k.opt.RouterRank
	outside := k.outside()
	if b := captured + outside; b < v.cert.Bound {
		v.cert.Bound, v.cert.FailureProbability = b, 0
	}
	if b := captured + float64(r)*k.mu; b < v.cert.Bound {
		v.cert.Bound, v.cert.FailureProbability = b, k.failed
	}
	v.cert.Bound = min(v.cert.Bound+rounding*captured, k.energy*(1+rounding))
	if rest := min(outside, k.mu); v.upper == nil {
		// λᵢ(WᵀW) = λᵢ(tᵀt + EᵀE) ≤ λᵢ(tᵀt) + ‖E‖²₂ (Weyl).
		v.upper = make([]float64, max(r, g+1))
		copy(v.upper, v.theta)
		for i := range v.upper {
			v.upper[i] += rest + rounding*v.theta[0]
		}
	}
	v.cert.Met = k.missing(v.cert.Bound, captured) <= k.opt.Tolerance
	if g > 0 {
		v.cert.RouterAngle = k.angle(v, v.upper, min(outside, k.mu))
		if k.gapped(v.upper, v.theta) && v.cert.RouterAngle > k.opt.RouterTolerance {
			v.cert.Met = false
		}
	}
	return v
}

// residuals returns ‖H·vᵢ − θᵢ·vᵢ‖² of the Ritz vectors with the given
// coordinates: what H maps out of the basis.
func (k *krylov) residuals(coords Matrix64) []float64 {
	last := coords.Slice(0, coords.Rows, k.d-k.last, k.d)
	p := kernel.New64(last.Rows, k.last)
	kernel.Gemm64(k.opt.Workers, false, false, 1, last, k.ww, 0, p)
	rho := make([]float64, last.Rows)
	for i := range rho {
		rho[i] = max(0, kernel.Dot64(p.Row(i), last.Row(i)))
	}
	return rho
}

// gapped says whether the leading RouterRank directions may stand above
// float32's noise and be told apart from the others: σ_g is at most the root of
// upper's, σ_{g+1} at least that of lower's.
func (k *krylov) gapped(upper, lower []float64) bool {
	g := k.opt.RouterRank
	if g == 0 || g > len(upper) {
		return false
	}
	noise := float64(k.op.n) * EpsF32
	return upper[g-1] > noise*noise*upper[0] && (g >= len(lower) || upper[g-1] > RouterGap*RouterGap*lower[g])
}

func (k *krylov) missing(bound, captured float64) float64 {
	if bound <= 0 {
		return 0
	}
	return 1 - captured/bound
}

// angle bounds the angle of the leading RouterRank right singular vectors, from
// the residuals ‖E·vᵢ‖ = ‖W·vᵢ − σᵢuᵢ‖ (those of the other side vanish), the
// square of σ_{g+1} being at most upper[g] and that of ‖E‖₂ at most mu. Wedin's
// theorem divides them by σ_g − σ_{g+1}, for both sides. For the vectors of t's
// side, WᵀW = tᵀt + EᵀE: they are exact for the first term, and Davis and Kahan
// divide ‖EᵀE·vᵢ‖ by σ_g² − σ_{g+1}².
func (k *krylov) angle(v verdict, upper []float64, mu float64) float64 {
	g := k.opt.RouterRank
	if g >= len(upper) || g > len(v.rho) {
		return math.Pi / 2
	}
	var residual float64
	for i, rho := range v.rho[:g] {
		residual += rho / v.theta[i]
	}
	gap := v.theta[g-1] - upper[g]
	if !(gap > 0) {
		return math.Pi / 2
	}
	// gap/(a+b) is √a − √b without cancellation.
	factor := math.Sqrt(v.theta[g-1]) + math.Sqrt(upper[g])
	if !k.op.flip {
		factor = min(factor, math.Sqrt(mu))
	}
	sine := math.Sqrt(residual)*factor/gap + EpsF32*v.theta[0]/gap
	if !(sine < 1) {
		return math.Pi / 2
	}
	return math.Asin(sine)
}

// probe bounds ‖E‖²₂ by Lanczos from random vectors, until the bound is at most
// enough or the steps are spent, and stores it with its probability of failure.
func (k *krylov) probe(enough float64) {
	workers := k.opt.Workers
	rng := rand.New(rand.NewPCG(k.opt.Seed, 0x70726f6265))
	x := kernel.New(probeCount, k.op.p)
	for i := range x.Data {
		x.Data[i] = float32(rng.NormFloat64())
	}
	z := kernel.New(probeCount, k.op.n)
	prev := kernel.New(probeCount, k.op.p)
	next := kernel.New(probeCount, k.op.p)
	project(workers, x, k.basis())
	project(workers, x, k.basis())
	var runs [probeCount]lanczos
	for j := range runs {
		runs[j].b = append(runs[j].b, normalise(x.Row(j)))
	}
	ceiling := k.outside()
	failed := k.failed + probeFailure
	bound := func() {
		var top float64
		for j := range runs {
			top = max(top, runs[j].bound(ceiling))
		}
		if top = top*(1+1e-3) + EpsF32*k.energy; top < k.mu {
			k.mu, k.failed = top, failed
		}
	}
	for step := range probeSteps {
		k.op.forward(z, x)
		for j := range runs {
			runs[j].a = append(runs[j].a, kernel.SumSquares(z.Row(j)))
		}
		if step > 0 {
			if bound(); k.mu <= enough {
				return
			}
		}
		k.op.backward(next, z)
		project(workers, next, k.basis())
		project(workers, next, k.basis())
		for j := range runs {
			run, row := &runs[j], next.Row(j)
			kernel.Axpy(-float32(run.a[step]), x.Row(j), row)
			if step > 0 {
				kernel.Axpy(-float32(run.b[step]), prev.Row(j), row)
			}
			run.b = append(run.b, normalise(row))
		}
		if step > 0 {
			if bound(); k.mu <= enough {
				return
			}
		}
		prev, x, next = x, next, prev
	}
}

// lanczos holds the coefficients of a Lanczos run on F = E·Eᵀ from a vector x:
// b[0] = ‖x‖; then aᵢ = ‖Eᵀ·uᵢ‖² and bᵢ for the orthonormal uᵢ.
type lanczos struct{ a, b []float64 }

// bound returns the λ, at most ceiling, at which what the run grew to from
// a unit of x along an eigenvector of λ would be all of what was measured, over
// δ: pₖ(λ) = Πb/δ, or √λ·pₖ(λ) = Πb·‖Eᵀ·uₖ₊₁‖/δ in the middle of a step, for the
// monic Lanczos polynomial pₖ.
func (l lanczos) bound(ceiling float64) float64 {
	if l.b[0] == 0 || l.a[0] == 0 {
		return 0
	}
	steps := len(l.b) - 1
	// Where the polynomial all but vanishes on x, the space is invariant and
	// further steps would be built on rounding.
	noise := 8 * EpsF32 * l.a[0]
	reaches := func(lambda float64) bool {
		grown := -math.Log(l.b[0] / probeDelta)
		ratio := math.Inf(1)
		for i := range steps {
			// pᵢ₊₁/pᵢ: all of them are positive exactly beyond the largest root.
			prior := ratio
			ratio = lambda - l.a[i]
			if i > 0 {
				ratio -= l.b[i] * l.b[i] / prior
			}
			if !(ratio > 0) {
				return false
			}
			grown += math.Log(ratio / max(l.b[i+1], noise))
			if l.b[i+1] <= 10*noise {
				return grown >= 0
			}
		}
		if len(l.a) > steps {
			grown += math.Log(lambda/l.a[steps]) / 2
		}
		return grown >= 0
	}
	lo, hi := 0.0, ceiling
	for range 60 {
		mid := (lo + hi) / 2
		if reaches(mid) {
			hi = mid
		} else {
			lo = mid
		}
	}
	return hi
}

// normalise scales x to norm one and returns its norm; zero stays zero.
func normalise(x []float32) float64 {
	norm := kernel.Nrm2(x)
	if norm > 0 {
		kernel.Scale(float32(1/norm), x)
	}
	return norm
}

func eigenvalues(workers int, g Matrix64) []float64 {
	lambda, _ := eigenPSD(workers, g, 0)
	return lambda
}

func sum(x []float64) float64 {
	var s float64
	for _, v := range x {
		s += v
	}
	return s
}
