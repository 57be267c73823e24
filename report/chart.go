package report

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Chart is lines, points, or both, over two axes.
type Chart struct {
	Title      string
	X, Y       Axis
	Series     []Series
	References []Reference
	Bands      []Band
	// Height is that of the drawing in CSS pixels; 0 takes one that suits the
	// width.
	Height float64
}

// Series is what one colour and one name stand for.
type Series struct {
	Name   string
	Points []Point
	Line   bool // joins the points in their order; NaN leaves a gap
	Bare   bool // a line without dots at its points
	Dashed bool
	Colour Colour
}

// Point is a measured value. Low and High, where they differ, are the ends of
// its error bar along y.
type Point struct {
	X, Y      float64
	Low, High float64
	Label     string // stands beside the point where there is room
	Note      string // is added to what is shown on hover
}

// Reference is a line across the chart at a value of y, or of x.
type Reference struct {
	Name     string
	Value    float64
	Vertical bool
	Colour   Colour // Auto is grey
}

// Band is a region between two curves over the same x, drawn behind the
// series: an interval, or what chance would give.
type Band struct {
	Name         string
	X, Low, High []float64
	Colour       Colour // Auto is grey
}

func (c *Chart) heading() string { return c.Title }

func (c *Chart) check() error {
	for _, b := range c.Bands {
		if len(b.X) != len(b.Low) || len(b.X) != len(b.High) {
			return fmt.Errorf("report: band %q of chart %q has %d values of x, %d low and %d high ones: they must be as many", b.Name, c.Title, len(b.X), len(b.Low), len(b.High))
		}
	}
	return nil
}

// Data lists every point.
func (c *Chart) Data() *Table {
	x, y := c.X.Label, c.Y.Label
	if x == "" {
		x = "x"
	}
	if y == "" {
		y = "y"
	}
	t := &Table{Title: c.Title, Columns: []Column{{Name: "series"}, {Name: x, Unit: c.X.Unit}, {Name: y, Unit: c.Y.Unit}, {Name: "label"}}}
	for _, s := range c.Series {
		for _, p := range s.Points {
			at, value := Num(p.X), Num(p.Y)
			if len(c.X.Names) > 0 {
				at = Text(c.X.format(p.X))
			}
			if p.Low != p.High {
				value = value.Within(p.Low, p.High)
			}
			t.Rows = append(t.Rows, []Cell{Text(s.Name), at, value, Text(p.Label)})
		}
	}
	for _, b := range c.Bands {
		for i := range b.X {
			t.Rows = append(t.Rows, []Cell{Text(b.Name), Num(b.X[i]), Num(math.NaN()).Within(b.Low[i], b.High[i]), {}})
		}
	}
	for _, r := range c.References {
		at, value := Num(math.NaN()), Num(r.Value)
		if r.Vertical {
			at, value = value, at
		}
		t.Rows = append(t.Rows, []Cell{Text(r.Name), at, value, {}})
	}
	return t
}

// colour is that of series i.
func (c *Chart) colour(i int) paint {
	if c.Series[i].Colour != Auto {
		return c.Series[i].Colour.paint()
	}
	return Colour(i%palette + 1).paint()
}

// extent are the values that the axes must hold.
func (c *Chart) extent() (xs, ys []float64) {
	for _, s := range c.Series {
		for _, p := range s.Points {
			if !c.X.drawable(p.X) || !c.Y.drawable(p.Y) {
				continue
			}
			xs, ys = append(xs, p.X), append(ys, p.Y)
			if p.Low != p.High {
				ys = append(ys, p.Low, p.High)
			}
		}
	}
	for _, b := range c.Bands {
		xs, ys = append(append(xs, b.X...), b.Low...), append(append(ys, b.Low...), b.High...)
		xs = xs[:len(xs)-len(b.Low)]
	}
	for _, r := range c.References {
		if r.Vertical {
			xs = append(xs, r.Value)
		} else {
			ys = append(ys, r.Value)
		}
	}
	return xs, ys
}

func (c *Chart) draw(width float64) *scene {
	return c.panel(width, c.Height, true)
}

// panel draws the chart; keyed, it names its series, beside their ends where
// there is room and otherwise in a key above.
func (c *Chart) panel(width, height float64, keyed bool) *scene {
	if height == 0 {
		height = math.Min(420, math.Max(240, 0.52*width))
	}
	var s *scene
	fits := false
	if keyed {
		if s, fits = c.attempt(width, height, c.ends(), nil); !fits {
			s, fits = c.attempt(width, height, nil, c.keys(false))
		}
	}
	if !fits && keyed {
		s, _ = c.attempt(width, height, nil, c.keys(true))
	} else if !fits {
		s, _ = c.attempt(width, height, nil, nil)
	}
	return s
}

// attempt draws the chart with names at the ends of its lines or a key above;
// it fails where names do not fit.
func (c *Chart) attempt(width, height float64, ends []end, key []entry) (*scene, bool) {
	s := &scene{width: width}
	xs, ys := c.extent()
	f := frame{x: c.X, y: c.Y, width: width, size: 12}
	if width < 300 {
		f.size = 11
	}
	f.xlow, f.xhigh = c.X.limits(xs, false)
	f.ylow, f.yhigh = c.Y.limits(ys, false)
	if len(ends) > 0 {
		f.right = c.margin(ends, f.xlow, f.xhigh, width)
		if width < 480 || f.right > 0.28*width || len(ends) > 10 {
			return nil, false
		}
	}
	f.top = s.key(0, width, key)
	f.height = f.top + height
	f.draw(s)
	for _, b := range c.Bands {
		c.band(s, &f, b)
	}
	for i := range c.Series {
		c.series(s, &f, i)
	}
	if len(ends) > 0 && !c.direct(s, &f, ends) {
		return nil, false
	}
	for _, r := range c.References {
		c.reference(s, &f, r)
	}
	named := c.labels(s, &f)
	s.height = f.height
	return s, named
}

func (c *Chart) band(s *scene, f *frame, b Band) {
	var upper, lower [][2]float64
	for i := range b.X {
		if c.X.drawable(b.X[i]) && c.Y.drawable(b.Low[i]) && c.Y.drawable(b.High[i]) {
			x := f.px.at(b.X[i])
			upper = append(upper, [2]float64{x, f.clampY(b.High[i])})
			lower = append([][2]float64{{x, f.clampY(b.Low[i])}}, lower...)
		}
	}
	fill := Grey.paint()
	if b.Colour != Auto {
		fill = b.Colour.paint()
	}
	if len(upper) > 1 {
		s.area(fill, 0.18, append(upper, lower...)...).hover = clean(b.Name)
	}
}

func (c *Chart) reference(s *scene, f *frame, r Reference) {
	stroke, ink := paint("axis"), paint("muted")
	if r.Colour != Auto {
		stroke, ink = r.Colour.paint(), r.Colour.paint()
	}
	if r.Vertical {
		if !f.px.shown(r.Value) || !c.X.drawable(r.Value) {
			return
		}
		x := f.px.at(r.Value)
		m := s.line(stroke, 1.25, [2]float64{x, f.plotTop}, [2]float64{x, f.plotBottom})
		m.dash, m.hover = []float64{5, 4}, clean(r.Name)+": "+c.X.format(r.Value)
		anchor, dx := "start", 5.0
		if x > f.plotLeft+0.7*(f.plotRight-f.plotLeft) {
			anchor, dx = "end", -5
		}
		s.text(x+dx, f.plotTop+11, fit(r.Name, 11, false, 0.5*f.width), 11, ink, anchor, false)
		return
	}
	if !f.py.shown(r.Value) || !c.Y.drawable(r.Value) {
		return
	}
	y := f.py.at(r.Value)
	m := s.line(stroke, 1.25, [2]float64{f.plotLeft, y}, [2]float64{f.plotRight, y})
	m.dash, m.hover = []float64{5, 4}, clean(r.Name)+": "+c.Y.format(r.Value)
	text := fit(r.Name, 11, false, 0.6*f.width)
	w := textWidth(text, 11, false)
	taken := c.taken(f)
	for _, at := range [][2]float64{{f.plotLeft + 6, y - 5}, {f.plotRight - w - 6, y - 5}, {f.plotLeft + 6, y + 13}, {f.plotRight - w - 6, y + 13}} {
		b := box{at[0], at[1] - 10, at[0] + w, at[1] + 2}
		if b.y0 > f.top && b.y1 < f.plotBottom && !slices.ContainsFunc(taken, b.overlaps) {
			s.rect(b.x0-2, b.y0, w+4, 12, "surface", "").opacity = 0.75
			s.text(at[0], at[1], text, 11, ink, "start", false)
			break
		}
	}
}

func (c *Chart) series(s *scene, f *frame, i int) {
	series, fill := c.Series[i], c.colour(i)
	if series.Line {
		var run [][2]float64
		flush := func() {
			if len(run) > 1 {
				m := s.line(fill, 2, run...)
				if series.Dashed || i >= palette && i/palette%2 == 1 {
					m.dash = []float64{6, 4}
				}
				m.hover = clean(series.Name)
			}
			run = nil
		}
		for _, p := range series.Points {
			if !c.X.drawable(p.X) || !c.Y.drawable(p.Y) || !f.px.shown(p.X) || !f.py.shown(p.Y) {
				flush()
				continue
			}
			run = append(run, [2]float64{f.px.at(p.X), f.py.at(p.Y)})
		}
		flush()
	}
	radius := 4.0
	if f.width < 480 || series.Line {
		radius = 3.25
	}
	for _, p := range series.Points {
		if !c.X.drawable(p.X) || !c.Y.drawable(p.Y) || !f.px.shown(p.X) || !f.py.shown(p.Y) {
			continue
		}
		x, y := f.px.at(p.X), f.py.at(p.Y)
		if p.Low != p.High && c.Y.drawable(p.Low) && c.Y.drawable(p.High) {
			low, high := f.clampY(p.Low), f.clampY(p.High)
			s.line(fill, 1.25, [2]float64{x, low}, [2]float64{x, high})
			s.line(fill, 1.25, [2]float64{x - 3, low}, [2]float64{x + 3, low})
			s.line(fill, 1.25, [2]float64{x - 3, high}, [2]float64{x + 3, high})
		}
		if series.Bare {
			s.dot(x, y, 7, 0, "surface", c.hover(series, p)).opacity = 0.001
			continue
		}
		m := s.dot(x, y, radius, i/palette, fill, c.hover(series, p))
		m.wideHit = len(series.Points) <= 40
		m.stroke, m.stroked = "surface", 1
	}
}

// hover is what a point says.
func (c *Chart) hover(series Series, p Point) string {
	parts := []string{series.Name}
	if p.Label != "" && p.Label != series.Name {
		parts = append(parts, p.Label)
	}
	head := strings.TrimPrefix(strings.Join(parts, ", "), ", ")
	y := c.Y.Label + " " + c.Y.format(p.Y)
	if p.Low != p.High {
		y += " (" + c.Y.format(p.Low) + " to " + c.Y.format(p.High) + ")"
	}
	lines := []string{head, strings.TrimSpace(c.X.Label + " " + c.X.format(p.X)), strings.TrimSpace(y), p.Note}
	out := ""
	for _, l := range lines {
		if l = clean(l); l != "" {
			out += " · " + l
		}
	}
	return strings.TrimPrefix(out, " · ")
}
