package merge

import "smelt/internal/kernel"

// weightedSum sets dst to Σ wₑ·Δₑ, in the order of the experts.
func weightedSum(dst []float64, deltas [][]float64, weights []float64) {
	clear(dst)
	for e, delta := range deltas {
		w := weights[e]
		if w == 1 && delta != nil {
			kernel.Axpy64(1, delta, dst)
			continue
		}
		for i, v := range delta {
			dst[i] += w * v
		}
	}
}

// elect sets dst to the sign, 1 or −1, that has the greater total of wₑ·Δₑ;
// 1 where the totals are equal (TIES, arXiv:2306.01708).
func elect(dst []float64, deltas [][]float64, weights []float64) {
	weightedSum(dst, deltas, weights)
	for i, v := range dst {
		if v >= 0 {
			dst[i] = 1
		} else {
			dst[i] = -1
		}
	}
}

// disjointMean replaces the elected signs in dst by the weighted mean of the
// values that have them; zeros have no sign and do not count.
func disjointMean(dst []float64, deltas [][]float64, weights []float64) {
	for i, sign := range dst {
		sum, total := 0.0, 0.0
		for e, delta := range deltas {
			if delta != nil && delta[i]*sign > 0 {
				sum += weights[e] * delta[i]
				total += weights[e]
			}
		}
		if total == 0 {
			total = 1
		}
		dst[i] = sum / total
	}
}

// addScaled sets dst to base + λ·dst.
func addScaled(dst, base []float64, lambda float64) {
	for i, v := range base {
		dst[i] = v + lambda*dst[i]
	}
}
