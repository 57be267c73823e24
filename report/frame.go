package report

import "math"

// frame is the space around a plot: axes with their ticks, grid and names.
type frame struct {
	x, y          Axis
	width, height float64 // of all
	top, right    float64 // taken by a key above, by labels at the right
	size          float64 // of the text at ticks
	xlow, xhigh   float64
	ylow, yhigh   float64

	px, py                                   scale // set by draw
	plotLeft, plotRight, plotTop, plotBottom float64
}

// draw lays the axes out and paints them.
func (f *frame) draw(s *scene) {
	const gap = 8
	yTicks := f.y.ticks(f.ylow, f.yhigh, int(math.Max(4, (f.height-f.top)/55)))
	left := 0.0
	for _, t := range yTicks {
		left = math.Max(left, textWidth(fit(t.text, f.size, false, 0.3*f.width), f.size, false))
	}
	f.plotLeft, f.plotRight = left+gap, f.width-math.Max(f.right, 10)
	f.plotTop, f.plotBottom = f.top+10, f.height-f.size-gap
	if f.y.name() != "" {
		f.plotTop += f.size + 8
		s.text(0, f.top+f.size, fit(f.y.name(), f.size, false, f.width), f.size, "muted", "start", false)
	}
	if f.x.name() != "" {
		f.plotBottom -= f.size + 7
		s.text(f.plotRight, f.height-3, fit(f.x.name(), f.size, false, f.plotRight), f.size, "muted", "end", false)
	}
	f.px = scale{f.xlow, f.xhigh, f.plotLeft, f.plotRight, f.x.Log}
	f.py = scale{f.ylow, f.yhigh, f.plotBottom, f.plotTop, f.y.Log}
	for _, t := range yTicks {
		y := f.py.at(t.value)
		if t.value != f.ylow {
			s.line("grid", 1, [2]float64{f.plotLeft, y}, [2]float64{f.plotRight, y})
		}
		s.text(f.plotLeft-gap, y+0.35*f.size, fit(t.text, f.size, false, 0.3*f.width), f.size, "muted", "end", false)
	}
	f.xTicks(s)
	s.line("axis", 1, [2]float64{f.plotLeft, f.plotBottom}, [2]float64{f.plotRight, f.plotBottom})
}

// xTicks writes as many ticks as stand apart.
func (f *frame) xTicks(s *scene) {
	for n := int(math.Max(2, (f.plotRight-f.plotLeft)/60)); n >= 1; n-- {
		ticks := f.x.ticks(f.xlow, f.xhigh, n)
		end, apart := math.Inf(-1), true
		for _, t := range ticks {
			w := textWidth(fit(t.text, f.size, false, 0.4*f.width), f.size, false)
			x := f.edge(f.px.at(t.value), w)
			apart = apart && x-w/2 > end
			end = x + w/2 + 8
		}
		if !apart && n > 1 {
			continue
		}
		for _, t := range ticks {
			x := f.px.at(t.value)
			text := fit(t.text, f.size, false, 0.4*f.width)
			s.line("axis", 1, [2]float64{x, f.plotBottom}, [2]float64{x, f.plotBottom + 4})
			s.text(f.edge(x, textWidth(text, f.size, false)), f.plotBottom+f.size+6, text, f.size, "muted", "middle", false)
		}
		return
	}
}

// edge keeps a text of width w around x inside the drawing.
func (f *frame) edge(x, w float64) float64 {
	return math.Max(w/2, math.Min(x, f.width-w/2))
}

// clampY is the pixel of a value of y, held inside the plot.
func (f *frame) clampY(v float64) float64 {
	return math.Max(f.plotTop, math.Min(f.plotBottom, f.py.at(v)))
}

// entry is one line of a key.
type entry struct {
	text   string
	fill   paint
	symbol int
	line   bool
	dashed bool
	block  bool
}

// key writes entries in rows from the given height and returns the height
// below them.
func (s *scene) key(top, width float64, entries []entry) float64 {
	const size, row = 12, 19
	x, y := 0.0, top+row-5
	for _, e := range entries {
		text := fit(e.text, size, false, width-24)
		w := 22 + textWidth(text, size, false)
		if x > 0 && x+w > width {
			x, y = 0, y+row
		}
		switch {
		case e.block:
			s.rect(x, y-9, 14, 10, e.fill, "").radius = 2
		case e.line:
			m := s.line(e.fill, 2.5, [2]float64{x, y - 4}, [2]float64{x + 16, y - 4})
			if e.dashed {
				m.dash = []float64{5, 3}
			}
		default:
			s.dot(x+8, y-4, 4, e.symbol, e.fill, "")
		}
		s.text(x+22, y, text, size, "ink", "start", false).hover = hoverCut(e.text, text)
		x += w + 16
	}
	if len(entries) == 0 {
		return top
	}
	return y + 10
}

// hoverCut is the whole of a text that was cut.
func hoverCut(whole, shown string) string {
	if whole = clean(whole); whole != shown {
		return whole
	}
	return ""
}
