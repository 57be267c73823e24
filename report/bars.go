package report

import (
	"fmt"
	"math"
	"strings"
)

// Bars compares values of categories: bars lie, one group a category, so that
// names can be read; Stacked puts the series of a category on one bar.
type Bars struct {
	Title      string
	Categories []string
	Value      Axis
	Series     []BarSeries
	Stacked    bool
	References []Reference // at values; Vertical is ignored
}

// BarSeries has one value for each category.
type BarSeries struct {
	Name   string
	Values []float64
	// Low and High, where given, are the ends of error bars.
	Low, High []float64
	Notes     []string // added on hover, where given
	Colour    Colour
}

func (b *Bars) heading() string { return b.Title }

func (b *Bars) check() error {
	for _, s := range b.Series {
		for _, n := range []int{len(s.Values), len(s.Low), len(s.High), len(s.Notes)} {
			if n != len(b.Categories) && (n != 0 || len(s.Values) == 0) {
				return fmt.Errorf("report: series %q of bars %q has %d values for %d categories", s.Name, b.Title, n, len(b.Categories))
			}
		}
		if (len(s.Low) == 0) != (len(s.High) == 0) {
			return fmt.Errorf("report: series %q of bars %q has one end of its error bars: want both", s.Name, b.Title)
		}
	}
	return nil
}

// Data has a row for each category.
func (b *Bars) Data() *Table {
	t := &Table{Title: b.Title, Columns: []Column{{Name: "category"}}}
	for _, s := range b.Series {
		name := s.Name
		if name == "" {
			name = b.Value.Label
		}
		t.Columns = append(t.Columns, Column{Name: name, Unit: b.Value.Unit})
	}
	for i, category := range b.Categories {
		row := []Cell{Text(category)}
		for _, s := range b.Series {
			cell := Num(s.Values[i])
			if len(s.Low) > 0 {
				cell = cell.Within(s.Low[i], s.High[i])
			}
			row = append(row, cell)
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

func (b *Bars) colour(i int) paint {
	if b.Series[i].Colour != Auto {
		return b.Series[i].Colour.paint()
	}
	return Colour(i%palette + 1).paint()
}

// limits are the ends of the value axis; zero is always in.
func (b *Bars) limits() (low, high float64) {
	var values []float64
	for i := range b.Categories {
		up, down := 0.0, 0.0
		for _, s := range b.Series {
			v := s.Values[i]
			switch {
			case !b.Value.drawable(v):
			case b.Stacked && v >= 0:
				up += v
			case b.Stacked:
				down += v
			default:
				values = append(values, v)
			}
			if len(s.Low) > 0 && !b.Stacked {
				values = append(values, s.Low[i], s.High[i])
			}
		}
		if b.Stacked {
			values = append(values, up, down)
		}
	}
	for _, r := range b.References {
		values = append(values, r.Value)
	}
	return b.Value.limits(values, true)
}

func (b *Bars) draw(width float64) *scene {
	const size, row, gap = 12.0, 15.0, 9.0
	s := &scene{width: width}
	top := 0.0
	named := len(b.Series) > 1
	if named {
		var entries []entry
		for i, series := range b.Series {
			entries = append(entries, entry{text: series.Name, fill: b.colour(i), block: true})
		}
		top = s.key(0, width, entries)
	}
	perCategory := float64(len(b.Series)) * row
	if b.Stacked || len(b.Series) <= 1 {
		perCategory = 20
	}
	left := 0.0
	for _, c := range b.Categories {
		left = math.Max(left, textWidth(fit(c, size, false, 0.36*width), size, false))
	}
	low, high := b.limits()
	valued := !b.Stacked && (len(b.Categories)*len(b.Series) <= 80)
	right := 12.0
	if valued {
		for _, series := range b.Series {
			for _, v := range series.Values {
				right = math.Max(right, textWidth(b.short(v), 11, false)+10)
			}
		}
	}
	plotLeft, plotRight := left+8, width-right
	plotTop := top + 8
	plotBottom := plotTop + float64(len(b.Categories))*(perCategory+gap)
	at := scale{low, high, plotLeft, plotRight, false}
	for _, t := range b.Value.ticks(low, high, int(math.Max(2, (plotRight-plotLeft)/80))) {
		x := at.at(t.value)
		s.line("grid", 1, [2]float64{x, plotTop}, [2]float64{x, plotBottom})
		s.text(math.Min(x, width-textWidth(t.text, size, false)/2), plotBottom+size+5, t.text, size, "muted", "middle", false)
	}
	for i, category := range b.Categories {
		y := plotTop + gap/2 + float64(i)*(perCategory+gap)
		text := fit(category, size, false, 0.36*width)
		s.text(left, y+perCategory/2+4, text, size, "ink", "end", false).hover = hoverCut(category, text)
		if b.Stacked {
			b.stack(s, at, i, y, perCategory)
		} else {
			b.group(s, at, i, y, perCategory, valued)
		}
	}
	zero := at.at(math.Max(low, math.Min(high, 0)))
	s.line("axis", 1, [2]float64{zero, plotTop}, [2]float64{zero, plotBottom})
	s.height = plotBottom + size + 8
	if b.Value.name() != "" {
		s.height += size + 6
		s.text(plotRight, s.height-4, fit(b.Value.name(), size, false, plotRight), size, "muted", "end", false)
	}
	for _, r := range b.References {
		if at.shown(r.Value) && b.Value.drawable(r.Value) {
			x := at.at(r.Value)
			m := s.line("muted", 1.25, [2]float64{x, plotTop}, [2]float64{x, plotBottom})
			m.dash, m.hover = []float64{5, 4}, clean(r.Name)+": "+b.Value.format(r.Value)
			if plotRight-plotLeft > 300 {
				s.text(x-4, plotTop-1, r.Name, 11, "muted", "end", false)
			}
		}
	}
	return s
}

func (b *Bars) group(s *scene, at scale, i int, y, height float64, valued bool) {
	each := height / float64(max(1, len(b.Series)))
	for j, series := range b.Series {
		v := series.Values[i]
		top := y + float64(j)*each
		if !b.Value.drawable(v) {
			s.text(at.at(math.Max(at.min, 0))+4, top+each/2+4, "–", 11, "muted", "start", false)
			continue
		}
		x0, x1 := at.at(0), at.at(math.Max(at.min, math.Min(at.max, v)))
		s.rect(math.Min(x0, x1), top+1, math.Abs(x1-x0), each-2, b.colour(j), b.hover(i, j))
		end := math.Max(x0, x1)
		if len(series.Low) > 0 && b.Value.drawable(series.Low[i]) && b.Value.drawable(series.High[i]) {
			low, high := at.at(series.Low[i]), at.at(series.High[i])
			s.line("ink", 1, [2]float64{low, top + each/2}, [2]float64{high, top + each/2})
			end = math.Max(end, high)
		}
		if valued {
			s.text(end+5, top+each/2+4, b.short(v), 11, "muted", "start", false)
		}
	}
}

func (b *Bars) stack(s *scene, at scale, i int, y, height float64) {
	up, down := 0.0, 0.0
	for j, series := range b.Series {
		v := series.Values[i]
		if !b.Value.drawable(v) || v == 0 {
			continue
		}
		from := &up
		if v < 0 {
			from = &down
		}
		x0, x1 := at.at(*from), at.at(*from+v)
		*from += v
		m := s.rect(math.Min(x0, x1), y, math.Abs(x1-x0), height, b.colour(j), b.hover(i, j))
		if m.width > 3 {
			m.stroke, m.stroked = "surface", 1
		}
	}
}

func (b *Bars) hover(i, j int) string {
	series := b.Series[j]
	text := b.Categories[i]
	if series.Name != "" {
		text += " · " + series.Name
	}
	text += " · " + b.Value.Unit.Format(series.Values[i])
	if len(series.Low) > 0 {
		text += " (" + b.Value.Unit.Format(series.Low[i]) + " to " + b.Value.Unit.Format(series.High[i]) + ")"
	}
	if len(series.Notes) > 0 && series.Notes[i] != "" {
		text += " · " + series.Notes[i]
	}
	return clean(text)
}

// short writes a value beside its bar; a percent sign stands at the axis.
func (b *Bars) short(v float64) string {
	return strings.TrimSuffix(b.Value.Unit.Format(v), percent)
}
