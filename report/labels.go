package report

import (
	"cmp"
	"math"
	"slices"
)

// keys are the entries of a chart's key, without those that all leaves out:
// single points that bear a label.
func (c *Chart) keys(all bool) []entry {
	var out []entry
	for i, series := range c.Series {
		if series.Name != "" && (all || !series.labelled()) {
			out = append(out, entry{text: series.Name, fill: c.colour(i), symbol: i / palette, line: series.Line, dashed: series.Dashed || i/palette%2 == 1})
		}
	}
	for _, b := range c.Bands {
		if b.Name != "" {
			fill := Grey.paint()
			if b.Colour != Auto {
				fill = b.Colour.paint()
			}
			out = append(out, entry{text: b.Name, fill: fill, block: true})
		}
	}
	return out
}

// labelled tells that the series is one point with a label of its own.
func (s Series) labelled() bool { return len(s.Points) == 1 && s.Points[0].Label != "" }

// end is a name at the right end of what it names.
type end struct {
	text string
	x, y float64 // of the value, then of the pixel
	fill paint
}

// ends are the names of the series at their last points, and of the bands; a
// series of one labelled point is named by its label.
func (c *Chart) ends() []end {
	var out []end
	for i, series := range c.Series {
		if series.Name == "" || series.labelled() {
			continue
		}
		last, found := Point{}, false
		for _, p := range series.Points {
			if c.X.drawable(p.X) && c.Y.drawable(p.Y) {
				last, found = p, true
			}
		}
		if found {
			out = append(out, end{series.Name, last.X, last.Y, c.colour(i)})
		}
	}
	for _, b := range c.Bands {
		if n := len(b.X); n > 0 && b.Name != "" {
			out = append(out, end{b.Name, b.X[n-1], (b.Low[n-1] + b.High[n-1]) / 2, "muted"})
		}
	}
	return out
}

// margin is the room that names at the ends need at the right of the plot.
func (c *Chart) margin(ends []end, low, high, width float64) float64 {
	room := 0.0
	at := scale{low, high, 0, width, c.X.Log}
	for range 3 { // room makes the plot smaller, which moves the ends
		at.to = width - room
		for _, e := range ends {
			room = math.Max(room, at.at(e.x)+10+textWidth(clean(e.text), 12, true)-width+room)
		}
	}
	return room
}

// direct writes the names at the ends, pushed apart, or tells that they would
// hide something.
func (c *Chart) direct(s *scene, f *frame, ends []end) bool {
	const height = 15
	for i := range ends {
		ends[i].x, ends[i].y = f.px.at(ends[i].x), f.clampY(ends[i].y)
	}
	slices.SortStableFunc(ends, func(a, b end) int { return cmp.Compare(a.y, b.y) })
	at := spread(ends, height, f.plotTop, f.plotBottom)
	taken := c.taken(f)
	for i, e := range ends {
		b := box{e.x + 9, at[i] - 6, e.x + 10 + textWidth(clean(e.text), 12, true), at[i] + 6}
		if math.Abs(at[i]-e.y) > 45 || b.x1 > f.width || slices.ContainsFunc(taken, b.overlaps) {
			return false
		}
	}
	for i, e := range ends {
		s.text(e.x+10, at[i]+4, e.text, 12, e.fill, "start", true)
	}
	return true
}

// spread moves labels apart by as little as it takes: groups that touch are
// centred on the mean of where they want to be.
func spread(ends []end, height, top, bottom float64) []float64 {
	type group struct {
		want float64 // sum
		n    int
	}
	var groups []group
	centre := func(g group) float64 {
		half := float64(g.n) * height / 2
		return math.Max(top+half-height/2, math.Min(bottom-half+height/2, g.want/float64(g.n)))
	}
	for _, e := range ends {
		groups = append(groups, group{e.y, 1})
		for len(groups) > 1 {
			a, b := groups[len(groups)-2], groups[len(groups)-1]
			if centre(b)-centre(a) >= float64(a.n+b.n)*height/2 {
				break
			}
			groups = append(groups[:len(groups)-2], group{a.want + b.want, a.n + b.n})
		}
	}
	var out []float64
	for _, g := range groups {
		first := centre(g) - float64(g.n-1)*height/2
		for i := range g.n {
			out = append(out, first+float64(i)*height)
		}
	}
	return out
}

// box is a rectangle that a label takes.
type box struct{ x0, y0, x1, y1 float64 }

func (b box) overlaps(o box) bool { return b.x0 < o.x1 && o.x0 < b.x1 && b.y0 < o.y1 && o.y0 < b.y1 }

// taken are the places of dots, lines and error bars.
func (c *Chart) taken(f *frame) []box {
	var taken []box
	for _, series := range c.Series {
		var previous [2]float64
		joined := false
		for _, p := range series.Points {
			if !c.X.drawable(p.X) || !c.Y.drawable(p.Y) {
				joined = false
				continue
			}
			x, y := f.px.at(p.X), f.py.at(p.Y)
			taken = append(taken, box{x - 4, y - 4, x + 4, y + 4})
			if p.Low != p.High {
				taken = append(taken, box{x - 3, f.clampY(p.High), x + 3, f.clampY(p.Low)})
			}
			if series.Line && joined {
				pieces := max(1, int(math.Hypot(x-previous[0], y-previous[1])/6))
				for i := range pieces {
					t := (float64(i) + 0.5) / float64(pieces)
					lx, ly := previous[0]+t*(x-previous[0]), previous[1]+t*(y-previous[1])
					taken = append(taken, box{lx - 2, ly - 2, lx + 2, ly + 2})
				}
			}
			previous, joined = [2]float64{x, y}, true
		}
	}
	return taken
}

// labels writes the labels of points where they hide nothing: right, left,
// above, below and at the corners of the point, or not at all (hover has it). It
// tells whether every series that is one labelled point got its label.
func (c *Chart) labels(s *scene, f *frame) bool {
	named := true
	const size = 11
	taken := c.taken(f)
	for _, m := range s.marks {
		if m.kind == textMark && m.y < f.plotBottom {
			w := textWidth(m.text, m.size, m.bold)
			x := m.x - map[string]float64{"end": w, "middle": w / 2}[m.anchor]
			taken = append(taken, box{x - 2, m.y - m.size, x + w + 2, m.y + 4})
		}
	}
	for _, r := range c.References {
		if !r.Vertical && c.Y.drawable(r.Value) {
			y := f.py.at(r.Value)
			taken = append(taken, box{f.plotLeft, y - 1, f.plotRight, y + 1})
		}
	}
	for i, series := range c.Series {
		for _, p := range series.Points {
			if p.Label == "" || !c.X.drawable(p.X) || !c.Y.drawable(p.Y) || !f.px.shown(p.X) || !f.py.shown(p.Y) {
				continue
			}
			text := fit(p.Label, size, false, 0.4*f.width)
			w := textWidth(text, size, false)
			x, y := f.px.at(p.X), f.py.at(p.Y)
			found := false
			for _, at := range [][2]float64{{8, 4}, {-8 - w, 4}, {-w / 2, -9}, {-w / 2, 18}, {6, -7}, {-6 - w, -7}, {6, 15}, {-6 - w, 15}} {
				b := box{x + at[0] - 1, y + at[1] - size + 1, x + at[0] + w + 1, y + at[1] + 3}
				if b.x0 < f.plotLeft-20 && at[0] < 0 || b.x0 < 0 || b.x1 > f.width || b.y0 < f.top || b.y1 > f.plotBottom || slices.ContainsFunc(taken, b.overlaps) {
					continue
				}
				s.text(x+at[0], y+at[1], text, size, c.colour(i), "start", false)
				taken = append(taken, b)
				found = true
				break
			}
			named = named && (found || !series.labelled())
		}
	}
	return named
}
