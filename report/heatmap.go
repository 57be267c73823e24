package report

import (
	"fmt"
	"math"
)

// Heatmap shows a matrix, one coloured cell a value.
type Heatmap struct {
	Title         string
	Rows, Columns []string
	RowsName      string // what the rows are: "task"
	ColumnsName   string // what the columns are: "expert"
	Values        [][]float64
	Value         Axis // its Min and Max are the ends of the colours
	// Diverging gives values below and above zero two colours, which reach as
	// far on either side.
	Diverging bool
	// Numbers are written into the cells where they fit.
	Numbers bool
	// Notes, where given, are added on hover, one for each value.
	Notes [][]string
}

func (h *Heatmap) heading() string { return h.Title }

func (h *Heatmap) check() error {
	if len(h.Values) != len(h.Rows) {
		return fmt.Errorf("report: heat map %q has %d rows of values for %d names", h.Title, len(h.Values), len(h.Rows))
	}
	for i, row := range h.Values {
		if len(row) != len(h.Columns) {
			return fmt.Errorf("report: heat map %q: row %q has %d values for %d columns", h.Title, h.Rows[i], len(row), len(h.Columns))
		}
	}
	if h.Notes != nil {
		if len(h.Notes) != len(h.Rows) {
			return fmt.Errorf("report: heat map %q has %d rows of notes for %d names", h.Title, len(h.Notes), len(h.Rows))
		}
		for i, row := range h.Notes {
			if len(row) != len(h.Columns) {
				return fmt.Errorf("report: heat map %q: row %q has %d notes for %d columns", h.Title, h.Rows[i], len(row), len(h.Columns))
			}
		}
	}
	return nil
}

// Data is the matrix, a row of it in each row.
func (h *Heatmap) Data() *Table {
	corner := h.RowsName
	if corner == "" {
		corner = "row"
	}
	t := &Table{Title: h.Title, Columns: []Column{{Name: corner}}}
	for _, c := range h.Columns {
		t.Columns = append(t.Columns, Column{Name: c, Unit: h.Value.Unit})
	}
	for i, r := range h.Rows {
		row := []Cell{Text(r)}
		for j := range h.Columns {
			row = append(row, Num(h.Values[i][j]))
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// limits are the values at the ends of the colours.
func (h *Heatmap) limits() (low, high float64) {
	var values []float64
	for _, row := range h.Values {
		values = append(values, row...)
	}
	low, high = h.Value.limits(values, !h.Diverging)
	if h.Diverging && h.Value.Min == 0 && h.Value.Max == 0 {
		most := 0.0
		for _, v := range values {
			if h.Value.drawable(v) {
				most = math.Max(most, math.Abs(v))
			}
		}
		if most == 0 {
			most = 1
		}
		low, high = -most, most
	}
	return low, high
}

// step is the place of a value on the ramp.
func step(v, low, high float64) int {
	return int(math.Round(math.Max(0, math.Min(1, (v-low)/(high-low))) * (steps - 1)))
}

func (h *Heatmap) ramp() string {
	if h.Diverging {
		return "d"
	}
	return "q"
}

func (h *Heatmap) draw(width float64) *scene {
	low, high := h.limits()
	return h.panel(width, low, high, true)
}

// panel draws the matrix with colours between low and high; barred, with the
// bar of colours below.
func (h *Heatmap) panel(width, low, high float64, barred bool) *scene {
	const size = 12.0
	s := &scene{}
	left := 0.0
	for _, r := range h.Rows {
		left = math.Max(left, textWidth(fit(r, size, false, 0.3*width), size, false)+8)
	}
	if h.RowsName != "" {
		left = math.Max(left, textWidth(fit(h.RowsName, size, false, 0.3*width), size, false)+8)
	}
	columns := float64(max(1, len(h.Columns)))
	cell := (width - left) / columns
	cell = math.Max(5, math.Min(cell, 84))
	height := math.Max(16, math.Min(cell, 32))
	if len(h.Rows) > 40 {
		height = math.Max(5, math.Min(cell, 16))
	}
	s.width = math.Max(left+cell*columns, math.Min(width, 280))

	top := 0.0
	if h.RowsName != "" || h.ColumnsName != "" {
		top = 18
		s.text(left, 11, fit(h.ColumnsName, size, false, s.width-left), size, "muted", "start", false)
		s.text(left-8, 11, fit(h.RowsName, size, false, 0.3*width), size, "muted", "end", false)
	}
	top = h.columnNames(s, left, top, cell)
	h.rowNames(s, left, top, width, height)
	h.cells(s, left, top, cell, height, low, high)
	s.height = top + float64(len(h.Rows))*height
	if barred {
		h.bar(s, left, low, high)
	}
	return s
}

// columnNames writes the names above: flat where they fit, upwards otherwise,
// and only some of them where columns are thin.
func (h *Heatmap) columnNames(s *scene, left, top, cell float64) float64 {
	const size = 12.0
	widest := 0.0
	for _, c := range h.Columns {
		widest = math.Max(widest, textWidth(clean(c), size, false))
	}
	if widest <= cell-6 {
		for j, c := range h.Columns {
			s.text(left+(float64(j)+.5)*cell, top+size, c, size, "ink", "middle", false)
		}
		return top + size + 7
	}
	const longest = 110
	every := int(math.Ceil(15 / cell))
	deep := math.Min(widest, longest)
	for j := 0; j < len(h.Columns); j += every {
		text := fit(h.Columns[j], size, false, longest)
		m := s.text(left+(float64(j)+.5)*cell+0.35*size, top+deep+2, text, size, "ink", "start", false)
		m.turned, m.hover = true, hoverCut(h.Columns[j], text)
	}
	return top + deep + 8
}

func (h *Heatmap) rowNames(s *scene, left, top, width, height float64) {
	const size = 12.0
	every := int(math.Ceil(15 / height))
	for i := 0; i < len(h.Rows); i += every {
		text := fit(h.Rows[i], size, false, 0.3*width)
		s.text(left-8, top+(float64(i)+.5)*height+4, text, size, "ink", "end", false).hover = hoverCut(h.Rows[i], text)
	}
}

func (h *Heatmap) cells(s *scene, left, top, cell, height, low, high float64) {
	const size = 11.0
	gap := 1.0
	if cell < 10 || height < 10 {
		gap = 0
	}
	numbers := h.Numbers && height >= 15
	for i := range h.Rows {
		for j := range h.Columns {
			if v := h.Values[i][j]; numbers && h.Value.drawable(v) && textWidth(h.short(v, high-low), size, false) > cell-4 {
				numbers = false
			}
		}
	}
	for i := range h.Rows {
		for j := range h.Columns {
			v := h.Values[i][j]
			x, y := left+float64(j)*cell, top+float64(i)*height
			fill, ink := paint("empty"), paint("muted")
			if !math.IsNaN(v) {
				at := step(v, low, high)
				fill, ink = paint(fmt.Sprintf("%s%d", h.ramp(), at)), paint(fmt.Sprintf("%si%d", h.ramp(), at))
			}
			hover := h.Rows[i] + " · " + h.Columns[j] + " · " + h.Value.Unit.Format(v)
			if math.IsNaN(v) {
				hover = h.Rows[i] + " · " + h.Columns[j] + " · no value"
			}
			if h.Notes != nil && h.Notes[i][j] != "" {
				hover += " · " + h.Notes[i][j]
			}
			s.rect(x, y, cell-gap, height-gap, fill, clean(hover))
			if math.IsNaN(v) && !numbers {
				s.line("axis", 1, [2]float64{x + 2, y + height - gap - 2}, [2]float64{x + cell - gap - 2, y + 2})
			}
			if numbers {
				s.text(x+(cell-gap)/2, y+height/2+3.5, h.short(v, high-low), size, ink, "middle", false)
			}
		}
	}
}

// short writes a value for a cell, as finely as the span of all values asks
// for; the unit stands at the bar.
func (h *Heatmap) short(v, span float64) string {
	if h.Value.Unit == Percent && !math.IsNaN(v) {
		return number(100*v, 0)
	}
	if h.Value.Unit == Number && math.Abs(v) < 10 && span >= 0.1 {
		return number(v, 2)
	}
	return h.Value.Unit.Format(v)
}

// bar explains the colours, below what has been drawn.
func (h *Heatmap) bar(s *scene, left, low, high float64) {
	const size, thick = 11.0, 9.0
	width := math.Min(220, s.width-20)
	x0 := math.Min(left, s.width-width-10)
	y := s.height + 16
	for i := range steps {
		w := width / steps
		s.rect(x0+float64(i)*w, y, w+0.5, thick, paint(fmt.Sprintf("%s%d", h.ramp(), i)), "")
	}
	at := scale{low, high, x0, x0 + width, false}
	for _, t := range h.Value.ticks(low, high, 4) {
		s.line("axis", 1, [2]float64{at.at(t.value), y + thick}, [2]float64{at.at(t.value), y + thick + 3})
		s.text(at.at(t.value), y+thick+size+4, t.text, size, "muted", "middle", false)
	}
	s.height = y + thick + size + 8
	if name := h.Value.name(); name != "" {
		if room := s.width - x0 - width - 14; textWidth(clean(name), size, false) <= room {
			s.text(x0+width+12, y+thick-1, name, size, "muted", "start", false)
			return
		}
		for _, line := range wrap(name, size, false, s.width-x0) {
			s.height += size + 4
			s.text(x0, s.height-4, line, size, "muted", "start", false)
		}
	}
}
