package report

import (
	"math"
	"strconv"
	"strings"
)

// Unit says how the numbers of an axis or a column are written.
type Unit int

// The units. All numbers are given plain: a share of 0.934, a size in bytes.
const (
	Number  Unit = iota // 0.0123, 12.3, 1,234
	Percent             // a share: 0.934 is 93.4 %
	Count               // whole things: 87,456,000 is 87.5 M where room is short
	Bytes               // 1.25 GB, powers of 1000
	Times               // a ratio: 1.25 is ×1.25
	Seconds             // 12 ms, 3.4 s, 2 min 5 s
)

// percent is the sign behind a number, which stays on its line.
const percent = "\u00a0%"

// Format writes a number in its unit for people; NaN is a dash.
func (u Unit) Format(v float64) string {
	if math.IsNaN(v) {
		return "–"
	}
	if math.IsInf(v, 0) {
		return strings.Replace(strings.Replace(strconv.FormatFloat(v, 'g', -1, 64), "Inf", "∞", 1), "+", "", 1)
	}
	switch u {
	case Percent:
		d := 1
		if a := math.Abs(100 * v); a > 0 && a < 0.1 {
			d = 2
		}
		return number(100*v, d) + percent
	case Count:
		return metric(v, "")
	case Bytes:
		return metric(v, "B")
	case Times:
		return "×" + number(v, 2)
	case Seconds:
		switch a := math.Abs(v); {
		case a == 0:
			return "0 s"
		case a < 1e-3:
			return significant(v*1e6) + " µs"
		case a < 1:
			return significant(v*1e3) + " ms"
		case a < 120:
			return significant(v) + " s"
		}
		return number(math.Floor(v/60), 0) + " min " + number(math.Mod(v, 60), 0) + " s"
	}
	return significant(v)
}

// number writes v with a fixed number of decimals, thousands apart and the
// sign as a minus.
func number(v float64, decimals int) string {
	s := strconv.FormatFloat(math.Abs(v), 'f', decimals, 64)
	whole, frac, _ := strings.Cut(s, ".")
	if len(whole) > 15 {
		return strconv.FormatFloat(v, 'g', 4, 64)
	}
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if frac != "" {
		whole += "." + frac
	}
	if v < 0 && strings.ContainsAny(s, "123456789") {
		return "−" + whole
	}
	return whole
}

// significant writes three significant digits.
func significant(v float64) string {
	a := math.Abs(v)
	switch {
	case v == 0:
		return "0"
	case a < 1e-3 || a >= 1e6:
		s := strconv.FormatFloat(v, 'e', 2, 64)
		mantissa, exponent, _ := strings.Cut(s, "e")
		n, _ := strconv.Atoi(exponent)
		return strings.Replace(mantissa, "-", "−", 1) + "·10" + superscript(n)
	case v == math.Trunc(v):
		return number(v, 0)
	case a >= 100:
		return number(v, 0)
	}
	_, exponent, _ := strings.Cut(strconv.FormatFloat(v, 'e', 2, 64), "e") // of the rounded number
	n, _ := strconv.Atoi(exponent)
	return number(v, 2-n)
}

func superscript(n int) string {
	return strings.NewReplacer("-", "⁻", "0", "⁰", "1", "¹", "2", "²", "3", "³", "4", "⁴",
		"5", "⁵", "6", "⁶", "7", "⁷", "8", "⁸", "9", "⁹").Replace(strconv.Itoa(n))
}

// metric writes v with a prefix for its power of 1000.
func metric(v float64, unit string) string {
	prefixes := []string{"", "k", "M", "G", "T", "P", "E"}
	if unit == "" {
		prefixes = []string{"", " k", " M", " bn", " tn"}
	}
	i := 0
	for math.Abs(v) >= 999.5 && i < len(prefixes)-1 {
		v /= 1000
		i++
	}
	s := significant(v)
	if i == 0 && v == math.Trunc(v) {
		s = number(v, 0)
	}
	if unit == "" {
		return s + prefixes[i]
	}
	return s + " " + prefixes[i] + unit
}

// tick writes an axis number: as short as the step between ticks allows. The
// unit stands at the axis's name, except where it is part of the number.
func (u Unit) tick(v, step float64) string {
	switch u {
	case Percent:
		return number(100*v, decimals(100*step))
	case Times:
		return "×" + number(v, decimals(step))
	case Count, Bytes:
		return u.Format(v)
	case Seconds:
		return u.Format(v)
	}
	if a := math.Abs(v); a >= 1e5 || a > 0 && a < 1e-3 {
		if m := math.Round(v / math.Pow(10, math.Floor(math.Log10(a)))); m == 1 {
			return "10" + superscript(int(math.Floor(math.Log10(a))))
		}
		return significant(v)
	}
	return number(v, decimals(step))
}

// decimals are the digits behind the point that tell multiples of step apart.
func decimals(step float64) int {
	if !(step > 0) || math.IsInf(step, 0) {
		return 0
	}
	for d := range 6 {
		p := math.Pow(10, float64(d))
		if math.Abs(step*p-math.Round(step*p)) < 1e-6*step*p {
			return d
		}
	}
	return 6
}
