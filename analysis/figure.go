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
