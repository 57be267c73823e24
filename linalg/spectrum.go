package linalg

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
// what the planning of ranks needs.
func Spectrum(a Matrix, opt Options) (Spectral, error) {
	d, err := Truncate(a, opt)
	if err != nil {
		return Spectral{}, err
	}
	return Spectral{
		S: d.S, Upper: append([]float64(nil), d.S...), Energy: d.Energy, Captured: d.Captured,
		Beyond: max(0, d.Energy-d.Captured), Certificate: d.Certificate,
	}, nil
}
