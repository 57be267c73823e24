package linalg

import (
	"math"
	"slices"
)

// Spectral is the leading part of a spectrum.
type Spectral struct {
	S           []float64 // leading singular values, descending; each a lower bound
	Upper       []float64 // Upper[i] ≥ σᵢ(A): with S, an interval that holds it
	Energy      float64   // ‖A‖²_F
	Captured    float64   // Σ σ² of S
	Beyond      float64   // energy beyond S: at least Energy − Certificate.Bound, at most this
	Certificate Certificate
}

// Spectrum returns the leading opt.Rank singular values of a, without vectors:
// what the planning of ranks needs. Each σᵢ lies between S[i] and Upper[i] (up
// to float32's rounding, 10⁻⁶·σ₁), Upper with the certificate's probability.
func Spectrum(a Matrix, opt Options) (Spectral, error) {
	d, upper, err := truncate("Spectrum", a, opt, false)
	if err != nil {
		return Spectral{}, err
	}
	if upper == nil {
		upper = slices.Clone(d.S)
		if d.Certificate.Iterations > 0 {
			// No bound on single values is known: only that on their sum.
			for i, s := range d.S {
				upper[i] = math.Sqrt(s*s + d.Certificate.Bound - d.Captured)
			}
		}
	}
	return Spectral{
		S: d.S, Upper: upper, Energy: d.Energy, Captured: d.Captured,
		Beyond: max(0, d.Energy-d.Captured), Certificate: d.Certificate,
	}, nil
}
