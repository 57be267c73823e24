package linalg

import "math"

const roundoff = 0x1p-53 // half the distance from 1 to the next float64

// secularRoot solves f(ω) = 1 + Σⱼ zⱼ²/(dⱼ²−ω²) = 0 for the root between d[i]
// and d[i+1] (beyond d[i] for the last), d ascending and distinct, z without
// zeros. It fills diff[j] = dⱼ² − ω², each to high relative accuracy, and
// returns ω.
//
// The unknown is μ = ω² − d_k², d_k being the nearer pole, so that no
// difference suffers from cancellation; each step fits one pole to either side
// of f (Bunch, Nielsen and Sorensen 1978), kept inside a bracket by bisection.
func secularRoot(d, z []float64, i int, diff []float64) float64 {
	k := len(d)
	last := i == k-1
	origin := i
	shift := func(at int) {
		origin = at
		for j, v := range d {
			diff[j] = (v - d[at]) * (v + d[at])
		}
	}
	shift(i)
	var gap float64 // distance from pole i to the right end of the bracket
	if last {
		for _, v := range z {
			gap += v * v
		}
	} else {
		gap = diff[i+1]
	}
	mu := gap / 2
	lo, hi := 0.0, gap
	if f, _, _, _, _ := secularEval(diff, z, i, mu); f < 0 {
		lo = mu
		if !last {
			shift(i + 1)
			mu = -(gap - mu)
			lo, hi = mu, 0
		}
	} else {
		hi = mu
	}
	for range 100 {
		f, psi, phi, dpsi, dphi := secularEval(diff, z, i, mu)
		bound := 8*(math.Abs(psi)+math.Abs(phi)) + 1 + math.Abs(f) + math.Abs(mu)*(dpsi+dphi)
		if math.Abs(f) <= roundoff*bound {
			break
		}
		if f < 0 {
			lo = mu
		} else {
			hi = mu
		}
		a1, a2 := i, i+1
		p1, p2 := dpsi, dphi
		if last {
			// The two poles nearest the root are both on its left.
			a1, a2 = i-1, i
			t := z[i] / (diff[i] - mu)
			p1, p2 = dpsi-t*t, t*t
		}
		d1, d2 := diff[a1]-mu, diff[a2]-mu
		c := f - d1*p1 - d2*p2
		a := (d1+d2)*f - d1*d2*(p1+p2)
		b := d1 * d2 * f
		root := math.Sqrt(math.Abs(a*a - 4*b*c))
		var eta float64
		switch {
		case last && a >= 0:
			eta = (a + root) / (2 * math.Abs(c))
		case last:
			eta = 2 * b / (a - root)
		case a <= 0:
			eta = (a - root) / (2 * c)
		default:
			eta = 2 * b / (a + root)
		}
		if !(f*eta < 0) {
			eta = -f / (dpsi + dphi)
		}
		next := mu + eta
		if !(next > lo && next < hi) {
			next = lo + (hi-lo)/2
		}
		if next == mu || next <= lo || next >= hi {
			break
		}
		mu = next
	}
	for j := range diff {
		diff[j] -= mu
	}
	p := d[origin]
	return p + mu/(p+math.Sqrt(p*p+mu))
}

// secularEval returns f at μ, its parts from the poles up to i and beyond, and
// their derivatives.
func secularEval(diff, z []float64, i int, mu float64) (f, psi, phi, dpsi, dphi float64) {
	for j, v := range diff[:i+1] {
		t := z[j] / (v - mu)
		psi += z[j] * t
		dpsi += t * t
	}
	z = z[i+1:]
	for j, v := range diff[i+1:] {
		t := z[j] / (v - mu)
		phi += z[j] * t
		dphi += t * t
	}
	return 1 + psi + phi, psi, phi, dpsi, dphi
}
