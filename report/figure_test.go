package report

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"image/png"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"
)

// element is a shape of a parsed drawing.
type element struct {
	name  string
	attr  map[string]string
	text  string
	title string
}

func (e element) num(t *testing.T, name string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(e.attr[name], 64)
	if err != nil {
		t.Fatalf("attribute %s of %v: %v", name, e, err)
	}
	return v
}

// parse reads a drawing strictly; it fails where that is not well-formed XML.
func parse(t *testing.T, f Figure) []element {
	t.Helper()
	var b bytes.Buffer
	if err := SVG(&b, f); err != nil {
		t.Fatal(err)
	}
	var out []element
	d := xml.NewDecoder(&b)
	depth, title := 0, false
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("not well-formed: %v", err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			depth++
			if title = token.Name.Local == "title"; !title {
				e := element{name: token.Name.Local, attr: map[string]string{}}
				for _, a := range token.Attr {
					e.attr[a.Name.Local] = a.Value
				}
				out = append(out, e)
			}
		case xml.EndElement:
			depth--
			title = false
		case xml.CharData:
			if e := &out[max(len(out)-1, 0)]; len(out) > 0 && title {
				e.title += string(token)
			} else if len(out) > 0 {
				e.text += strings.TrimSpace(string(token))
			}
		}
	}
	if depth != 0 || len(out) == 0 || out[0].name != "svg" {
		t.Fatalf("no drawing: %d elements", len(out))
	}
	return out
}

func texts(elements []element) string {
	var b strings.Builder
	for _, e := range elements {
		b.WriteString(e.text + "\n")
	}
	return b.String()
}

func TestDrawings(t *testing.T) {
	want := map[string][]string{
		"tradeoff":   {"What each size buys", "mean accuracy, %", "parameters, relative to the base", "individual experts", "rank 32", "TIES", "×2"},
		"spectrum":   {"Singular values", "clocks", "random matrix", "0.01", "<script>"},
		"grouped":    {"expert", "SMILE", "average", "digits", "99.0", "accuracy, %", "–"},
		"stacked":    {"zone I", "none of them", "out_proj", "chance"},
		"routing":    {"task", "expert", "72", "–", "share of the tokens, %"},
		"cosines":    {"pair", "cosine", "expert−0 and expert−1"},
		"panels":     {"q_proj", "fc2", "expert 3", "energy, %", "rank"},
		"heatpanels": {"layer 0", "layer 2", "share of the tokens, %"},
	}
	for name, f := range figures() {
		t.Run(name, func(t *testing.T) {
			elements := parse(t, f)
			all := strings.ReplaceAll(texts(elements), "-", "−")
			for _, w := range want[name] {
				if !strings.Contains(all, strings.ReplaceAll(w, "-", "−")) {
					t.Errorf("no text %q in:\n%s", w, all)
				}
			}
			width, height := elements[0].num(t, "width"), elements[0].num(t, "height")
			hovers := 0
			for _, e := range elements {
				if e.title != "" {
					hovers++
				}
				if strings.ContainsAny(e.text+e.title, "\x1b\x00\u202e") {
					t.Errorf("control characters in %q", e.text+e.title)
				}
				for _, side := range []struct {
					name string
					most float64
				}{{"x", width}, {"y", height}, {"cx", width}, {"cy", height}} {
					if e.attr[side.name] == "" {
						continue
					}
					if v := e.num(t, side.name); !(v >= -1 && v <= side.most+1) {
						t.Errorf("%s %s=%g of %q lies outside of %g", e.name, side.name, v, e.text, side.most)
					}
				}
				for key, value := range e.attr {
					if strings.HasPrefix(key, "on") || strings.Contains(value, "javascript:") || key == "href" {
						t.Errorf("attribute %s=%q", key, value)
					}
				}
			}
			if hovers == 0 {
				t.Error("no mark says its value on hover")
			}
		})
	}
}

func TestImages(t *testing.T) {
	for name, f := range figures() {
		t.Run(name, func(t *testing.T) {
			svg := parse(t, f)[0]
			var b bytes.Buffer
			if err := PNG(&b, f, 1.5); err != nil {
				t.Fatal(err)
			}
			img, err := png.Decode(&b)
			if err != nil {
				t.Fatal(err)
			}
			w, h := int(math.Ceil(svg.num(t, "width")*1.5)), int(math.Ceil(svg.num(t, "height")*1.5))
			if img.Bounds().Dx() != w || img.Bounds().Dy() != h {
				t.Fatalf("size %v, want %d × %d", img.Bounds(), w, h)
			}
			inked := 0
			for y := range h {
				for x := range w {
					if r, g, b, _ := img.At(x, y).RGBA(); r != 0xffff || g != 0xffff || b != 0xffff {
						inked++
					}
				}
			}
			if share := float64(inked) / float64(w*h); share < 0.01 || share > 0.9 {
				t.Errorf("%.1f %% of the image are inked", 100*share)
			}
		})
	}
	for _, scale := range []float64{0, -1, 9, math.NaN()} {
		if err := PNG(io.Discard, tradeoff(), scale); err == nil {
			t.Errorf("scale %g is taken", scale)
		}
	}
}

// TestPositions: what is more lies further up and to the right, and equal
// ratios are equal lengths on an axis of logarithms.
func TestPositions(t *testing.T) {
	c := &Chart{X: Axis{Log: true}, Series: []Series{{Name: "s"}}}
	for i := range 7 {
		c.Series[0].Points = append(c.Series[0].Points, Point{X: math.Pow(2, float64(i)), Y: float64(i * i)})
	}
	var xs, ys []float64
	for _, e := range parse(t, c) {
		if e.name == "circle" && e.attr["r"] != "11" && e.title != "" {
			xs, ys = append(xs, e.num(t, "cx")), append(ys, e.num(t, "cy"))
		}
	}
	if len(xs) != 7 {
		t.Fatalf("%d points, want 7", len(xs))
	}
	for i := 1; i < 7; i++ {
		if !(ys[i] < ys[i-1]) {
			t.Errorf("point %d is not above the one before: %v", i, ys)
		}
		if i > 1 && math.Abs((xs[i]-xs[i-1])-(xs[1]-xs[0])) > 0.03 {
			t.Errorf("doubling is not one length: %v", xs)
		}
		if d := (ys[0] - ys[i]) / (ys[0] - ys[1]); math.Abs(d-float64(i*i)) > 0.05*float64(i*i) {
			t.Errorf("height %d is %g, want %d", i, d, i*i)
		}
	}
}

// TestBarsFromZero: the length of a bar is its value, whatever the others are.
func TestBarsFromZero(t *testing.T) {
	b := &Bars{Categories: []string{"a", "b", "c"}, Series: []BarSeries{{Name: "s", Values: []float64{90, 92, -46}}}}
	var widths, starts []float64
	for _, e := range parse(t, b) {
		if e.name == "rect" && e.title != "" {
			widths, starts = append(widths, e.num(t, "width")), append(starts, e.num(t, "x"))
		}
	}
	if len(widths) != 3 || math.Abs(widths[0]/widths[1]-90./92) > 1e-3 || math.Abs(widths[2]/widths[1]-0.5) > 1e-3 {
		t.Fatalf("lengths %v", widths)
	}
	if starts[0] != starts[1] || math.Abs(starts[2]+widths[2]-starts[0]) > 0.02 {
		t.Errorf("bars do not start at zero: %v, %v", starts, widths)
	}
}

func TestColours(t *testing.T) {
	for _, ramp := range []string{"q", "d"} {
		seen := map[string]bool{}
		for i := range steps {
			c := theme[paint(fmt.Sprint(ramp, i))]
			seen[code(c.light)+code(c.dark)] = true
			for _, on := range []struct{ fill, ink string }{{code(c.light), code(theme[paint(fmt.Sprintf("%si%d", ramp, i))].light)}, {code(c.dark), code(theme[paint(fmt.Sprintf("%si%d", ramp, i))].dark)}} {
				a, b := luminance(on.fill), luminance(on.ink)
				if contrast := (math.Max(a, b) + 0.05) / (math.Min(a, b) + 0.05); contrast < 4 { // the middle of a ramp cannot have more with white and black ink
					t.Errorf("%s%d: ink %s on %s has a contrast of %.1f", ramp, i, on.ink, on.fill, contrast)
				}
			}
		}
		if len(seen) != steps {
			t.Errorf("ramp %s has %d colours, want %d", ramp, len(seen), steps)
		}
	}
	for _, role := range []paint{"ink", "muted", "s1", "s2", "s3", "s4", "s7"} {
		for _, pair := range [][2]string{{code(theme[role].light), code(theme["surface"].light)}, {code(theme[role].dark), code(theme["surface"].dark)}} {
			a, b := luminance(pair[0]), luminance(pair[1])
			if contrast := (math.Max(a, b) + 0.05) / (math.Min(a, b) + 0.05); contrast < 4.4 {
				t.Errorf("%s: %s on %s has a contrast of %.1f", role, pair[0], pair[1], contrast)
			}
		}
	}
}

// luminance is WCAG's.
func luminance(s string) float64 {
	c := hex(s)
	lin := func(x uint8) float64 {
		v := float64(x) / 255
		if v <= 0.03928 {
			return v / 12.92
		}
		return math.Pow((v+0.055)/1.055, 2.4)
	}
	return 0.2126*lin(c.R) + 0.7152*lin(c.G) + 0.0722*lin(c.B)
}

// TestOddInputs: figures of nothing, of one value, and of values that no axis
// holds are drawn all the same.
func TestOddInputs(t *testing.T) {
	odd := []float64{0, math.NaN(), math.Inf(1), math.Inf(-1), 1e308, -1e308, 5e-324, 1, -1}
	figures := []Figure{&Chart{}, &Bars{}, &Heatmap{}, &Multiples{}, &Multiples{Panels: []Figure{&Chart{}, &Heatmap{}, &Bars{}}}}
	for _, a := range odd {
		for _, b := range odd {
			for _, log := range []bool{false, true} {
				axis := Axis{Log: log}
				c := &Chart{
					X: axis, Y: axis, Series: []Series{{Name: "s", Line: true, Points: []Point{{X: a, Y: b, Low: b, High: a, Label: "l"}, {X: b, Y: a}}}},
					References: []Reference{{Value: a}, {Value: b, Vertical: true}}, Bands: []Band{{X: []float64{a, b}, Low: []float64{a, a}, High: []float64{b, b}}},
				}
				figures = append(figures, c)
			}
			figures = append(figures, &Bars{Categories: []string{"c", ""}, Series: []BarSeries{{Values: []float64{a, b}, Low: []float64{b, b}, High: []float64{a, a}}}},
				&Bars{Stacked: true, Categories: []string{"c"}, Series: []BarSeries{{Values: []float64{a}}, {Values: []float64{b}}}},
				&Heatmap{Rows: []string{hostile}, Columns: []string{"a", "b"}, Values: [][]float64{{a, b}}, Diverging: math.IsNaN(a), Numbers: true})
		}
	}
	for i, f := range figures {
		for _, e := range parse(t, f) {
			for name, value := range e.attr {
				if strings.Contains(value, "NaN") || strings.Contains(value, "Inf") {
					t.Fatalf("figure %d: %s %s=%q", i, e.name, name, value)
				}
			}
		}
		if i%7 == 0 {
			if err := PNG(io.Discard, f, 0.5); err != nil {
				t.Errorf("figure %d: %v", i, err)
			}
		}
		f.draw(narrow)
		if err := f.Data().CSV(io.Discard); err != nil {
			t.Errorf("figure %d: %v", i, err)
		}
	}
}

func TestLengthsThatDoNotFit(t *testing.T) {
	for _, f := range []Figure{
		&Bars{Categories: []string{"a"}, Series: []BarSeries{{Name: "s"}}},
		&Bars{Categories: []string{"a"}, Series: []BarSeries{{Name: "s", Values: []float64{1}, Low: []float64{1}}}},
		&Bars{Categories: []string{"a"}, Series: []BarSeries{{Name: "s", Values: []float64{1}, Notes: []string{"", ""}}}},
		&Heatmap{Rows: []string{"a"}},
		&Heatmap{Rows: []string{"a"}, Columns: []string{"b"}, Values: [][]float64{{}}},
		&Heatmap{Rows: []string{"a"}, Columns: []string{"b"}, Values: [][]float64{{1}}, Notes: [][]string{{}}},
		&Chart{Bands: []Band{{X: []float64{1}}}},
		&Multiples{Panels: []Figure{&Multiples{}}},
		&Multiples{Panels: []Figure{&Heatmap{Rows: []string{"a"}}}},
	} {
		if err := SVG(io.Discard, f); err == nil || !strings.HasPrefix(err.Error(), "report: ") {
			t.Errorf("%+v: error %v", f, err)
		}
	}
}

func TestUnits(t *testing.T) {
	for _, c := range []struct {
		unit Unit
		v    float64
		want string
	}{
		{Number, 0, "0"},
		{Number, 0.01234, "0.0123"},
		{Number, 12.345, "12.3"},
		{Number, 1234, "1,234"},
		{Number, -3, "−3"},
		{Number, 1.5e-7, "1.50·10⁻⁷"},
		{Number, math.NaN(), "–"},
		{Number, math.Inf(-1), "-∞"},
		{Percent, 0.934, "93.4\u00a0%"},
		{Percent, -0.0001, "−0.01\u00a0%"},
		{Percent, 1, "100.0\u00a0%"},
		{Count, 87456000, "87.5 M"},
		{Count, 512, "512"},
		{Count, 1e9, "1 bn"},
		{Bytes, 24600000, "24.6 MB"},
		{Bytes, 999999, "1.00 MB"},
		{Bytes, 12, "12 B"},
		{Times, 1.25, "×1.25"},
		{Seconds, 0.0123, "12.3 ms"},
		{Seconds, 125, "2 min 5 s"},
		{Seconds, 3.4, "3.40 s"},
	} {
		if got := c.unit.Format(c.v); got != c.want {
			t.Errorf("unit %d of %g: %q, want %q", c.unit, c.v, got, c.want)
		}
	}
}
