package linalg

import (
	"math"
	"slices"

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
// being the eigenvalues of G and μ ≥ ‖E‖²₂:
//
//  1. Σθᵢ + ‖E‖²_F;
//  2. Σθᵢ + r·μ (both: singular values of a sum, Ky Fan);
//  3. the r leading eigenvalues of H with μ·I in F's place, which is at least as
//     large in every direction: those of G bordered by w's Gram factor and μ·I,
//     and μ itself. R is small where the leading vectors have converged, so that
//     this bound closes quadratically even when most energy lies outside of the
//     basis.
//
// ‖E‖₂ is bounded from random vectors: see [krylov.probe].

// verdict is what a check of the basis found.
type verdict struct {
	theta  []float64 // eigenvalues of G, descending
	coords Matrix64  // [r,d] leading eigenvectors of G as rows
	rho    []float64 // squared norms of the residuals H·v − θ·v of the leading ones, some beyond r
	cert   Certificate
	upper  []float64 // squares of upper bounds on the leading singular values
}

// check judges the basis and completes the certificate where that is promising
// or the basis final.
func (k *krylov) check(final bool) verdict {
	r, workers := k.opt.Rank, k.opt.Workers
	v := verdict{cert: Certificate{
		Bound: math.Inf(1), Iterations: k.blocks, Basis: k.d, Tolerance: k.opt.Tolerance,
	}}
	k.measure()
	ws := k.op.ws
	v.coords = ws.matrix64(min(r+k.last, k.d), k.d)
	at := ws.level()
	v.theta = eigenPSD(ws, workers, ws.clone64(k.g.Slice(0, k.d, 0, k.d)), v.coords)
	ws.back(at)
	v.rho = k.residuals(v.coords)
	v.coords = v.coords.Slice(0, min(r, k.d), 0, k.d)
	captured := sum(v.theta[:min(r, k.d)])
	if k.d <= r || v.theta[r-1] <= 0 {
		return k.judge(v, captured)
	}
	enough := k.enough(v, captured)
	if !final && (enough < v.theta[r-1]/2 ||
		k.gapped(v.theta, v.theta) && k.angle(v, v.theta, enough) > 0.9*k.opt.RouterTolerance) {
		return k.judge(v, captured)
	}
	if outside := k.outside(); outside < k.mu {
		k.mu, k.failed = outside, 0
	}
	if k.mu > enough {
		k.probe(enough, final)
	}
	if k.mu <= enough || final {
		v.upper = eigenvalues(ws, workers, k.bordered())
		ws.back(at)
		for i, u := range v.upper {
			v.upper[i] = max(u, k.mu)
		}
		v.cert.Bound, v.cert.FailureProbability = sum(v.upper[:r]), k.failed
		for i := range v.upper {
			v.upper[i] += rounding * v.theta[0]
		}
	}
	return k.judge(v, captured)
}

// nearest is how near to σᵣ² a bound on ‖E‖²₂ may come, as a share of it: beyond,
// the directions that have not converged count among the leading ones.
const nearest = 0.97

// enough returns the largest bound on ‖E‖²₂ with which bound 3 is likely to meet
// the tolerance: for each Ritz value alone, it is the larger eigenvalue of
// (θ, √ρ; √ρ, μ), and half of the tolerance is left for what they do together.
func (k *krylov) enough(v verdict, captured float64) float64 {
	r := k.opt.Rank
	allowed := captured * (1 + k.opt.Tolerance/2 - 2*rounding)
	top := make([]float64, len(v.rho))
	lo, hi := 0.0, nearest*v.theta[r-1]
	for range 12 {
		mu := (lo + hi) / 2
		for i, rho := range v.rho {
			top[i] = max(mu, (v.theta[i]+mu)/2+math.Hypot((v.theta[i]-mu)/2, math.Sqrt(rho)))
		}
		slices.Sort(top)
		if sum(top[len(top)-r:]) <= allowed {
			lo = mu
		} else {
			hi = mu
		}
	}
	return lo
}

// bordered returns G bordered by a Gram factor of w and ‖E‖²₂'s bound.
func (k *krylov) bordered() Matrix64 {
	d, b := k.d, k.last
	ws := k.op.ws
	m, vt := ws.zeros64(d+b, d+b), ws.matrix64(b, b)
	for i := range d {
		copy(m.Row(i), k.g.Row(i)[:d])
	}
	lambda := eigenPSD(ws, 1, ws.clone64(k.ww), vt)
	for j := range b {
		for i := range b {
			c := math.Sqrt(lambda[j]) * vt.At(j, i)
			m.Set(d-b+i, d+j, c)
			m.Set(d+j, d-b+i, c)
		}
		m.Set(d+j, d+j, k.mu)
	}
	return m
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
	noise := float64(max(k.op.p, k.op.n)) * EpsF32
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

func sum(x []float64) float64 {
	var s float64
	for _, v := range x {
		s += v
	}
	return s
}
