package eval

import "math"

// Wilson returns the 95 % confidence interval of a share of n trials
// (E. B. Wilson, 1927), which holds near 0 and 1 and for small n too.
func Wilson(share float64, n int) (low, high float64) {
	if n == 0 {
		return 0, 1
	}
	const z = 1.959963984540054
	m := float64(n)
	center := share + z*z/(2*m)
	half := z * math.Sqrt(share*(1-share)/m+z*z/(4*m*m))
	scale := 1 + z*z/m
	return max(0, (center-half)/scale), min(1, (center+half)/scale)
}

// normal returns the 95 % confidence interval of a mean.
func normal(values []float64) (mean, low, high float64) {
	n := float64(len(values))
	for _, v := range values {
		mean += v
	}
	mean /= n
	squares := 0.0
	for _, v := range values {
		squares += (v - mean) * (v - mean)
	}
	half := 0.0
	if len(values) > 1 {
		half = 1.959963984540054 * math.Sqrt(squares/(n-1)/n)
	}
	return mean, mean - half, mean + half
}
