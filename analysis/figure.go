package analysis

import (
	"encoding/json"
	"math"
)

// Figure is a number that may not exist: NaN, which is null in JSON.
type Figure float64

// None is the figure that does not exist.
var None = Figure(math.NaN())

// Known reports whether the figure exists.
func (f Figure) Known() bool { return !math.IsNaN(float64(f)) && !math.IsInf(float64(f), 0) }

// MarshalJSON writes null for a figure that does not exist.
func (f Figure) MarshalJSON() ([]byte, error) {
	if !f.Known() {
		return []byte("null"), nil
	}
	return json.Marshal(float64(f))
}

// UnmarshalJSON reads what MarshalJSON writes.
func (f *Figure) UnmarshalJSON(text []byte) error {
	if string(text) == "null" {
		*f = None
		return nil
	}
	return json.Unmarshal(text, (*float64)(f))
}

// ratio returns a/b as a figure, None where b is 0.
func ratio(a, b float64) Figure {
	if b == 0 {
		return None
	}
	return Figure(a / b)
}

// RelativeChange is √(change/base), both sums of squares: None where the base is
// zero.
func RelativeChange(change, base float64) Figure { return root(ratio(change, base)) }

// root is the square root of a figure.
func root(f Figure) Figure { return Figure(math.Sqrt(float64(f))) }

// cosineDeviation is the standard deviation of the cosine of two independent
// vectors of m·n elements without direction.
func cosineDeviation(m, n int) float64 { return 1 / math.Sqrt(float64(m)*float64(n)) }

// mean collects a mean of figures that exist.
type mean struct {
	sum float64
	n   int
}

func (m *mean) add(f Figure) {
	if f.Known() {
		m.sum += float64(f)
		m.n++
	}
}

func (m *mean) figure() Figure { return ratio(m.sum, float64(m.n)) }
