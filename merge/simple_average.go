package merge

import "math"

// simpleAverage is the mean of the experts' weights. An expert that lacks a
// tensor counts as the base there.
var simpleAverage = Method{
	Name: "simple_average", Title: "Simple average", Paper: "arXiv:2203.05482 (model soups)",
	About: "the mean of the experts' weights",
	begin: average,
}

// average is base + Σ wₑ·Δₑ / Σ wₑ.
func average(c *Config, _ *Tensor) (Rule, error) {
	total := 0.0
	for _, w := range c.Weights {
		total += w
	}
	return func(dst []float64, b *Block) {
		weightedSum(dst, b.Deltas, c.Weights)
		if f, _ := math.Frexp(total); f == 0.5 { // a power of two: as exact as dividing
			for i, v := range b.Base {
				dst[i] = v + dst[i]*(1/total)
			}
			return
		}
		for i, v := range b.Base {
			dst[i] = v + dst[i]/total
		}
	}, nil
}
