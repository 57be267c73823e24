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
	probeSteps = 4
)

// probeFailure is the probability that the bound from the probes is too small.
var probeFailure = math.Pow(probeDelta*math.Sqrt(2/math.Pi), probeCount)

// verdict is what a check of the basis found.
type verdict struct {
	theta  []float64 // eigenvalues of G, descending
	coords Matrix64  // [r,d] leading eigenvectors of G as rows
	cert   Certificate
	upper  []float64 // squares of upper bounds on the leading singular values
}

// check judges the basis and, where that is promising or the basis final,
// completes the certificate.
func (k *krylov) check(vectors, final bool) verdict {
	r, g := k.opt.Rank, k.opt.RouterRank
	var v verdict
	keep := 0
	if vectors || g > 0 {
		keep = min(r, k.d)
	}
	v.theta, v.coords = eigenPSD(k.opt.Workers, k.gram(0), keep)
	captured := sum(v.theta[:min(r, k.d)])
	outside := k.outside()
	v.cert = Certificate{
		Bound: math.Inf(1), Iterations: k.blocks, Basis: k.d, Tolerance: k.opt.Tolerance,
	}
	// κ at an eigenvalue beyond the rank, and beyond the router's gap, costs
	// nothing in bound 3.
	at := max(r-1, g)
	if at < k.d && v.theta[at] > 0 {
		kappa := v.theta[at]
		probed := eigenvalues(k.opt.Workers, k.gram(2/kappa))
		excess := max(0, sum(probed[:r])-captured)
		if outside <= kappa/2 {
			k.mu, k.failed = min(k.mu, outside), 0
		} else if k.mu > kappa/2 && (final || k.missing(captured+excess/2, captured) <= k.opt.Tolerance) {
			k.probe()
		}
		if k.mu < kappa {
			v.upper = probed
			share := kappa / 2 / (kappa - k.mu)
			if share > 1 {
				v.upper = eigenvalues(k.opt.Workers, k.gram(1/(kappa-k.mu)))
				excess, share = max(0, sum(v.upper[:r])-captured), 1
			}
			for i, u := range v.upper {
				v.upper[i] = max(u, kappa) + rounding*v.theta[0]
			}
			v.cert.Bound, v.cert.FailureProbability = captured+share*excess, k.failed
		} else if !math.IsInf(k.mu, 1) {
			// Flat: κ has to lie above μ, and counts wherever it exceeds θ.
			gap := k.opt.Tolerance / 2 * k.mu
			kappa = k.mu + gap
			v.upper = eigenvalues(k.opt.Workers, k.gram(1/gap))
			for i, u := range v.upper {
				v.upper[i] = max(u, kappa) + rounding*v.theta[0]
			}
			v.cert.Bound, v.cert.FailureProbability = sum(v.upper[:r]), k.failed
		}
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
	if rest := min(outside, k.mu); v.upper == nil && !math.IsInf(rest, 1) {
		// λᵢ(WᵀW) = λᵢ(tᵀt + EᵀE) ≤ λᵢ(tᵀt) + ‖E‖²₂ (Weyl).
		v.upper = make([]float64, max(r, g+1))
		copy(v.upper, v.theta)
		for i := range v.upper {
			v.upper[i] += rest + rounding*v.theta[0]
		}
	}
	v.cert.Met = k.missing(v.cert.Bound, captured) <= k.opt.Tolerance
	if g > 0 {
		v.cert.RouterAngle = k.routerAngle(v)
		if gapped(v.theta, g) && v.cert.RouterAngle > k.opt.RouterTolerance {
			v.cert.Met = false
		}
	}
	return v
}

// gapped says whether the leading g directions are told apart from the others.
func gapped(theta []float64, g int) bool {
	return g >= len(theta) || theta[g-1] > RouterGap*RouterGap*theta[g]
}

func (k *krylov) missing(bound, captured float64) float64 {
	if bound <= 0 {
		return 0
	}
	return 1 - captured/bound
}

// routerAngle bounds the angle of the leading g right (and left) singular
// vectors by Wedin's theorem: the residuals ‖W·vᵢ − σᵢuᵢ‖ of one side (the
// other's vanish), over the distance from σ_g to the true σ_{g+1}.
func (k *krylov) routerAngle(v verdict) float64 {
	g := k.opt.RouterRank
	if g >= len(v.upper) || g > v.coords.Rows {
		return math.Pi / 2
	}
	var residual float64
	for i := range g {
		row := v.coords.Row(i)[k.d-k.last:]
		tmp := make([]float64, k.last)
		kernel.Gemv64(1, false, 1, k.ww, row, 0, tmp)
		residual += max(0, kernel.Dot64(row, tmp)) / v.theta[i]
	}
	gap := math.Sqrt(v.theta[g-1]) - math.Sqrt(v.upper[g])
	residual = math.Sqrt(residual) + EpsF32*math.Sqrt(v.theta[0])
	if !(residual < gap) {
		return math.Pi / 2
	}
	return math.Asin(residual / gap)
}

// probe bounds ‖E‖²₂ and stores it with its probability of failure.
func (k *krylov) probe() {
	rng := rand.New(rand.NewPCG(k.opt.Seed, 0x70726f6265))
	x := kernel.New(probeCount, k.op.p)
	for i := range x.Data {
		x.Data[i] = float32(rng.NormFloat64())
	}
	z := kernel.New(probeCount, k.op.n)
	prev := kernel.New(probeCount, k.op.p)
	next := kernel.New(probeCount, k.op.p)
	project(k.opt.Workers, x, k.basis())
	project(k.opt.Workers, x, k.basis())
	var a, b [probeCount][]float64 // Lanczos coefficients; b[j][0] is ‖x‖
	for j := range b {
		b[j] = append(b[j], normalise(x.Row(j)))
	}
	for range probeSteps {
		k.op.forward(z, x)
		k.op.backward(next, z)
		project(k.opt.Workers, next, k.basis())
		project(k.opt.Workers, next, k.basis())
		for j := range probeCount {
			row := next.Row(j)
			alpha := kernel.SumSquares(z.Row(j))
			a[j] = append(a[j], alpha)
			kernel.Axpy(-float32(alpha), x.Row(j), row)
			if s := len(b[j]); s > 1 {
				kernel.Axpy(-float32(b[j][s-1]), prev.Row(j), row)
			}
			b[j] = append(b[j], normalise(row))
		}
		prev, x, next = x, next, prev
	}
	var top float64
	outside := k.outside()
	for j := range probeCount {
		top = max(top, lanczosBound(a[j], b[j], outside))
	}
	if top = top*(1+1e-3) + rounding*k.energy/float64(k.d); top < k.mu {
		k.mu, k.failed = top, probeFailure
	}
}

// normalise scales x to norm one and returns its norm; zero stays zero.
func normalise(x []float32) float64 {
	norm := kernel.Nrm2(x)
	if norm > 0 {
		kernel.Scale(float32(1/norm), x)
	}
	return norm
}

// lanczosBound returns the λ at which the monic Lanczos polynomial with
// coefficients a, b reaches Πb/δ, at most ceiling.
func lanczosBound(a, b []float64, ceiling float64) float64 {
	if b[0] == 0 || a[0] == 0 {
		return 0
	}
	// Where the polynomial all but vanishes on x, the space is invariant and
	// further steps would be built on rounding.
	noise := EpsF32 * 8 * a[0]
	// Ratios pₖ/pₖ₋₁ are positive exactly beyond the largest root.
	reaches := func(lambda float64) bool {
		logRatio := -math.Log(b[0] / probeDelta)
		ratio := lambda - a[0]
		for i := 1; ; i++ {
			if !(ratio > 0) {
				return false
			}
			logRatio += math.Log(ratio / max(b[i], noise))
			if i == len(a) || b[i] <= 10*noise {
				return logRatio >= 0
			}
			ratio = lambda - a[i] - b[i]*b[i]/ratio
		}
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
