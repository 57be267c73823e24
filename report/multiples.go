package report

import (
	"fmt"
	"math"
)

// Multiples are small figures of one kind, side by side. Charts share their
// axes and one key, heat maps their colours, so that panels can be compared;
// OwnScales lets each have its own.
type Multiples struct {
	Title     string
	Panels    []Figure // each with its own title; not Multiples
	Columns   int      // at most; 0 is as many as fit
	OwnScales bool
}

func (m *Multiples) heading() string { return m.Title }

func (m *Multiples) check() error {
	for _, p := range m.Panels {
		if _, nested := p.(*Multiples); nested {
			return fmt.Errorf("report: a panel of %q is made of panels itself: give its panels instead", m.Title)
		}
		if err := p.check(); err != nil {
			return err
		}
	}
	return nil
}

// Data joins the tables of the panels, with the panel's title in front.
func (m *Multiples) Data() *Table {
	t := &Table{Title: m.Title, Columns: []Column{{Name: "panel"}}}
	for i, p := range m.Panels {
		data := p.Data()
		if i == 0 {
			t.Columns = append(t.Columns, data.Columns...)
		}
		for _, row := range data.Rows {
			t.Rows = append(t.Rows, append([]Cell{Text(p.heading())}, row...))
		}
	}
	for _, row := range t.Rows {
		for len(t.Columns) < len(row) {
			t.Columns = append(t.Columns, Column{Name: fmt.Sprintf("value %d", len(t.Columns))})
		}
	}
	for i, row := range t.Rows {
		for len(row) < len(t.Columns) {
			row = append(row, Cell{})
		}
		t.Rows[i] = row
	}
	return t
}

func (m *Multiples) draw(width float64) *scene {
	s := &scene{width: width}
	least := 220.0
	if width < 480 { // two side by side on a phone
		least = 150
	}
	columns := max(1, int((width+gap)/(least+gap)))
	if m.Columns > 0 {
		columns = min(columns, m.Columns)
	}
	columns = max(1, min(columns, len(m.Panels)))
	panels := m.shared()
	for ; ; columns-- { // fewer where a panel cannot be squeezed into its place
		panel := (width - gap*float64(columns-1)) / float64(columns)
		var drawn []*scene
		fits := true
		for _, p := range panels {
			in := m.panel(p, panel)
			drawn, fits = append(drawn, in), fits && in.width <= panel+1
		}
		if fits || columns == 1 {
			m.arrange(s, panels, drawn, panel, columns)
			break
		}
	}
	if h, ok := m.firstHeatmap(); ok && !m.OwnScales {
		low, high := m.heatLimits()
		h.bar(s, 0, low, high)
	}
	return s
}

// gap is the space between panels.
const gap = 24.0

// arrange places the drawn panels in rows, with the key above.
func (m *Multiples) arrange(s *scene, panels []Figure, drawn []*scene, panel float64, columns int) {
	y, deepest := m.key(s, s.width), 0.0
	for i, p := range panels {
		if i%columns == 0 && i > 0 {
			y, deepest = y+deepest+gap, 0
		}
		x := float64(i%columns) * (panel + gap)
		title := fit(p.heading(), 12, true, panel)
		s.text(x, y+12, title, 12, "ink", "start", true).hover = hoverCut(p.heading(), title)
		s.place(drawn[i], x, y+22)
		deepest = math.Max(deepest, drawn[i].height+22)
	}
	s.height = y + deepest
}

// panel draws one of the figures.
func (m *Multiples) panel(p Figure, width float64) *scene {
	switch p := p.(type) {
	case *Chart:
		height := p.Height
		if height == 0 {
			height = math.Min(240, math.Max(150, 0.72*width))
		}
		return p.panel(width, height, m.OwnScales)
	case *Heatmap:
		if !m.OwnScales {
			low, high := m.heatLimits()
			return p.panel(width, low, high, false)
		}
	}
	return p.draw(width)
}

// shared gives charts the same axes.
func (m *Multiples) shared() []Figure {
	if m.OwnScales {
		return m.Panels
	}
	var xs, ys []float64
	for _, p := range m.Panels {
		if c, ok := p.(*Chart); ok {
			x, y := c.extent()
			xs, ys = append(xs, x...), append(ys, y...)
		}
	}
	out := make([]Figure, len(m.Panels))
	for i, p := range m.Panels {
		out[i] = p
		if c, ok := p.(*Chart); ok {
			same := *c
			same.X.Min, same.X.Max = c.X.limits(xs, false)
			same.Y.Min, same.Y.Max = c.Y.limits(ys, false)
			out[i] = &same
		}
	}
	return out
}

// key names the series of the charts once, above all.
func (m *Multiples) key(s *scene, width float64) float64 {
	var entries []entry
	seen := map[string]bool{}
	for _, p := range m.Panels {
		if c, ok := p.(*Chart); ok && !m.OwnScales {
			for _, e := range c.keys(true) {
				if !seen[e.text] {
					seen[e.text] = true
					entries = append(entries, e)
				}
			}
		}
	}
	if len(entries) == 1 && entries[0].line {
		return 0
	}
	if len(entries) == 0 {
		return 0
	}
	return s.key(0, width, entries) + 6
}

func (m *Multiples) firstHeatmap() (*Heatmap, bool) {
	for _, p := range m.Panels {
		if h, ok := p.(*Heatmap); ok {
			return h, true
		}
	}
	return nil, false
}

// heatLimits are the ends of the colours that all heat maps share.
func (m *Multiples) heatLimits() (low, high float64) {
	low, high = math.Inf(1), math.Inf(-1)
	for _, p := range m.Panels {
		if h, ok := p.(*Heatmap); ok {
			l, u := h.limits()
			low, high = math.Min(low, l), math.Max(high, u)
		}
	}
	return low, high
}
