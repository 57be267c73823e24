package report

import "math"

// Axis describes one side of a chart.
type Axis struct {
	Label string // what is measured, in small letters
	Unit  Unit   // how its numbers are written
	Log   bool   // numbers of zero and less are then left out
	// Min and Max bound the axis; both zero, they come from the data.
	Min, Max float64
	// Names, where given, stand at 0, 1, 2 … in place of numbers (the names of
	// layers); as many are written as fit.
	Names []string
}

// name is the label with the unit.
func (a Axis) name() string {
	if a.Unit == Percent {
		if a.Label == "" {
			return "%"
		}
		return a.Label + ", %"
	}
	return a.Label
}

// format writes a value of the axis for people.
func (a Axis) format(v float64) string {
	if len(a.Names) > 0 && v == math.Trunc(v) && v >= 0 && v < float64(len(a.Names)) {
		return clean(a.Names[int(v)])
	}
	return a.Unit.Format(v)
}

// scale maps values to pixels.
type scale struct {
	min, max float64 // of the values
	from, to float64 // of the pixels
	log      bool
}

func (s scale) at(v float64) float64 {
	lo, hi := s.min, s.max
	if s.log {
		lo, hi, v = math.Log(lo), math.Log(hi), math.Log(v)
	}
	return s.from + (v-lo)/(hi-lo)*(s.to-s.from)
}

// shown tells whether a value has a place on the scale.
func (s scale) shown(v float64) bool {
	slack := 1e-9 * (s.max - s.min)
	return v >= s.min-slack && v <= s.max+slack && (!s.log || v > 0)
}

// drawable tells whether a value can stand on the axis at all.
func (a Axis) drawable(v float64) bool {
	const huge = 1e100
	return math.Abs(v) < huge && (!a.Log || v > 1/huge)
}

// limits are the ends of the axis for these values, with a little air; zero is
// in where zeroed asks for it (bars start there, or they lie).
func (a Axis) limits(values []float64, zeroed bool) (low, high float64) {
	if a.Min != 0 || a.Max != 0 {
		if a.Max > a.Min && (!a.Log || a.Min > 0) {
			return a.Min, a.Max
		}
	}
	low, high = math.Inf(1), math.Inf(-1)
	for _, v := range values {
		if a.drawable(v) {
			low, high = math.Min(low, v), math.Max(high, v)
		}
	}
	if len(a.Names) > 0 {
		return -0.5, float64(len(a.Names)) - 0.5
	}
	switch {
	case low > high && a.Log:
		return 1, 10
	case low > high:
		return 0, 1
	case a.Log && high <= low*(1+1e-9):
		return low / 2, high * 2
	case a.Log:
		air := math.Pow(high/low, 0.05)
		return low / air, high * air
	}
	if zeroed {
		low, high = math.Min(low, 0), math.Max(high, 0)
	}
	if size := math.Max(math.Abs(low), math.Abs(high)); high-low <= 1e-12*size || size < 1e-90 {
		d := math.Max(size/2, 1e-9)
		if size < 1e-90 {
			d = 1
		}
		low, high = low-d, high+d
	}
	step := niceStep((high - low) / 10)
	down, up := math.Floor(low/step+1e-9)*step, math.Ceil(high/step-1e-9)*step
	// A share never goes over 1 or under 0, whatever the ticks would like.
	if a.Unit == Percent {
		if low >= 0 {
			down = math.Max(down, 0)
		}
		if high <= 1 {
			up = math.Min(up, 1)
		}
	}
	return down, up
}

// niceStep is the step of 1, 2 or 5 times a power of ten next above about.
func niceStep(about float64) float64 {
	if !(about > 0) || math.IsInf(about, 0) {
		return 1
	}
	p := math.Pow(10, math.Floor(math.Log10(about)))
	for _, m := range []float64{1, 2, 5} {
		if m*p >= about*(1-1e-9) {
			return m * p
		}
	}
	return 10 * p
}

// tick is a place on an axis with its text.
type tick struct {
	value float64
	text  string
}

// ticks divides an axis into at most about n parts.
func (a Axis) ticks(low, high float64, n int) []tick {
	var out []tick
	if len(a.Names) > 0 {
		every := max(1, int(math.Ceil(float64(len(a.Names))/float64(max(n, 1)))))
		for i := 0; i < len(a.Names); i += every {
			out = append(out, tick{float64(i), clean(a.Names[i])})
		}
		return out
	}
	if a.Log {
		return a.logTicks(low, high, n)
	}
	step := niceStep((high - low) / float64(max(n, 1)))
	if (a.Unit == Count) && step < 1 {
		step = 1
	}
	for i := math.Ceil(low/step - 1e-9); i*step <= high+1e-9*step && len(out) < 100; i++ {
		v := i * step
		if i == 0 {
			v = 0
		}
		out = append(out, tick{v, a.Unit.tick(v, step)})
	}
	return out
}

// logTicks puts ticks at 1, 2 and 5 times powers of ten, at powers alone where
// those are many, or evenly where the axis spans little.
func (a Axis) logTicks(low, high float64, n int) []tick {
	decades := math.Log10(high / low)
	if decades < 0.75 {
		linear := a
		linear.Log = false
		return linear.ticks(low, high, n)
	}
	// As dense as n allows, but never so thin that nothing can be read off.
	factors := []float64{1}
	for _, finer := range [][]float64{{1, 3}, {1, 2, 5}} {
		if decades*float64(len(finer)) <= math.Max(float64(n), 4) {
			factors = finer
		}
	}
	every := max(1, int(math.Ceil(decades/float64(max(n, 1)))))
	var out []tick
	for e := int(math.Floor(math.Log10(low))); float64(e) <= math.Log10(high)+1; e++ {
		if e%every != 0 {
			continue
		}
		for _, f := range factors {
			v := f * math.Pow(10, float64(e))
			if v >= low*(1-1e-9) && v <= high*(1+1e-9) {
				out = append(out, tick{v, a.Unit.tick(v, v)})
			}
		}
	}
	return out
}
