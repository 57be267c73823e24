package analysis

// losses of n experts, from their inner products and what is left out of each
// by its own truncation.
func losses(c *Inner, beyond []float64, scaling float64) []Loss {
	n := c.n
	sum := 0.0                   // ‖ΣΔ‖²
	toward := make([]float64, n) // ⟨ΣΔ,Δᵢ⟩
	for i := range n {
		for j := range n {
			toward[i] += c.At(i, j)
		}
		sum += toward[i]
	}
	// The λ with the least Σᵢ ‖λΣΔ − Δᵢ‖²/‖Δᵢ‖² solves a linear equation.
	above, below := 0.0, 0.0
	for i := range n {
		if e := c.At(i, i); e > 0 {
			above += toward[i] / e
			below += sum / e
		}
	}
	best := ratio(above, below)
	out := make([]Loss, n)
	for i := range n {
		e := c.At(i, i)
		lost := func(scale Figure) Figure {
			s := float64(scale)
			return max(0, ratio(s*s*sum-2*s*toward[i]+e, e))
		}
		out[i] = Loss{
			Average: lost(1 / Figure(n)), TaskArithmetic: lost(Figure(scaling)), SMILE: ratio(beyond[i], e),
			BestScaling: best, Best: lost(best),
		}
	}
	return out
}
