package report

import (
	"fmt"
	"image/color"
	"math"
	"strings"
)

// Colour picks a colour of the palette, which the colour-blind can tell apart
// (after Okabe and Ito, darkened where white is behind).
type Colour int

// The palette. Auto gives each series the next colour.
const (
	Auto Colour = iota
	Blue
	Vermilion
	Green
	Purple
	Ochre
	Sky
	Indigo
	Grey
)

// palette is the number of colours that Auto goes through: all but Grey.
const palette = 7

// paint is a role in the theme: "ink", "s1" (a palette colour), "q12" (a step
// of the sequential ramp), "d12" (of the diverging one), "qi12" and "di12" (the
// ink on them); "" paints nothing.
type paint string

func (c Colour) paint() paint { return paint(fmt.Sprintf("s%d", int(c))) }

// steps of a ramp. An odd number, so that the diverging ramp has a middle.
const steps = 33

// both are the colours of a role in light and in dark.
type both struct{ light, dark color.RGBA }

// theme maps roles to colours.
var theme = newTheme()

func newTheme() map[paint]both {
	t := map[paint]both{
		"surface": {hex("#ffffff"), hex("#14171c")},
		"ink":     {hex("#1b1f24"), hex("#e8eaed")},
		"muted":   {hex("#5b636e"), hex("#a2aab5")},
		"axis":    {hex("#9aa2ad"), hex("#626b77")},
		"grid":    {hex("#e6e9ed"), hex("#2a2f37")},
		"empty":   {hex("#f3f4f6"), hex("#20242b")},
		"s1":      {hex("#0068ad"), hex("#57b4f5")},
		"s2":      {hex("#cc4c00"), hex("#ff8d4f")},
		"s3":      {hex("#00845e"), hex("#35cfa0")},
		"s4":      {hex("#a83f88"), hex("#ea93cf")},
		"s5":      {hex("#b07a00"), hex("#f0b93a")},
		"s6":      {hex("#3f9fd8"), hex("#a5dcff")},
		"s7":      {hex("#4b3fa8"), hex("#a79dff")},
		"s8":      {hex("#858d98"), hex("#7d8692")},
	}
	type ramp struct {
		name        string
		light, dark []string
	}
	for _, r := range []ramp{
		{"q", []string{"#f4f7fb", "#cfe1f0", "#93c3e0", "#4a97c9", "#1c69a8", "#08386f"}, []string{"#1c222b", "#1d3c5c", "#1f5f91", "#3a8bc2", "#7cbce6", "#d8eeff"}},
		{"d", []string{"#0b4f8a", "#4f9acb", "#b5d5e8", "#f5f5f3", "#f6c5a6", "#dd7440", "#9c3306"}, []string{"#8fd0ff", "#3f93d1", "#1f4d75", "#22262c", "#6b3517", "#cf6a33", "#ffb78a"}},
	} {
		for i := range steps {
			at := float64(i) / (steps - 1)
			c := both{between(r.light, at), between(r.dark, at)}
			t[paint(fmt.Sprintf("%s%d", r.name, i))] = c
			t[paint(fmt.Sprintf("%si%d", r.name, i))] = both{inkOn(c.light), inkOn(c.dark)}
		}
	}
	return t
}

func hex(s string) color.RGBA {
	var c color.RGBA
	fmt.Sscanf(s, "#%02x%02x%02x", &c.R, &c.G, &c.B)
	c.A = 255
	return c
}

// between walks along evenly spaced colours; at is 0 … 1.
func between(stops []string, at float64) color.RGBA {
	at *= float64(len(stops) - 1)
	i := min(int(at), len(stops)-2)
	at -= float64(i)
	a, b := hex(stops[i]), hex(stops[i+1])
	mix := func(x, y uint8) uint8 {
		// In linear light, so that the middle is not muddy.
		lx, ly := math.Pow(float64(x)/255, 2.2), math.Pow(float64(y)/255, 2.2)
		return uint8(math.Round(255 * math.Pow(lx+(ly-lx)*at, 1/2.2)))
	}
	return color.RGBA{mix(a.R, b.R), mix(a.G, b.G), mix(a.B, b.B), 255}
}

// inkOn is the text colour that reads best on c.
func inkOn(c color.RGBA) color.RGBA {
	lin := func(x uint8) float64 { return math.Pow(float64(x)/255, 2.2) }
	if 0.2126*lin(c.R)+0.7152*lin(c.G)+0.0722*lin(c.B) > 0.19 {
		return hex("#14171c")
	}
	return hex("#ffffff")
}

func code(c color.RGBA) string { return fmt.Sprintf("#%02x%02x%02x", c.R, c.G, c.B) }

// variables writes the CSS custom properties of the roles.
func variables(roles []paint, dark bool) string {
	var b strings.Builder
	for _, p := range roles {
		c := theme[p].light
		if dark {
			c = theme[p].dark
		}
		fmt.Fprintf(&b, "--%s:%s;", p, code(c))
	}
	return b.String()
}
