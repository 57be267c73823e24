package page

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"smelt/analysis"
	"smelt/report"
)

// many is how many experts get a line each; more are shown by their mean and
// range.
const many = 10

// grid is a heat map of kinds of layers by depth; value returns NaN where a
// layer has none.
func (v *view) grid(title string, axis report.Axis, value func(*analysis.Layer) float64) *report.Heatmap {
	h := &report.Heatmap{Title: title, RowsName: "layer", ColumnsName: "depth", Value: axis, Numbers: true}
	rows, deepest := map[string]int{}, 0
	for _, l := range v.layers {
		name := v.row(l)
		if _, ok := rows[name]; !ok {
			rows[name] = len(h.Rows)
			h.Rows = append(h.Rows, name)
		}
		deepest = max(deepest, l.Depth)
	}
	for d := range deepest + 1 {
		h.Columns = append(h.Columns, fmt.Sprint(d))
	}
	sums := make([][]mean, len(h.Rows))
	for i := range sums {
		sums[i] = make([]mean, len(h.Columns))
	}
	for _, l := range v.layers {
		sums[rows[v.row(l)]][max(l.Depth, 0)].add(value(l))
	}
	for _, row := range sums {
		var values []float64
		for i := range row {
			values = append(values, row[i].value())
		}
		h.Values = append(h.Values, values)
	}
	return h
}

// row is the name of a layer without its depth.
func (v *view) row(l *analysis.Layer) string {
	if l.Depth < 0 {
		return v.short[l.Name]
	}
	if t := v.towers[l.Tower]; t != "" {
		return t + " " + l.Kind
	}
	return l.Kind
}

// overExperts is the mean of a figure of the experts that touched a layer.
func overExperts(l *analysis.Layer, figure func(*analysis.Delta) float64) float64 {
	var m mean
	for _, d := range l.Experts {
		if d != nil {
			m.add(figure(d))
		}
	}
	return m.value()
}

// where is the section on layers and zones.
func (v *view) where() report.Section {
	s := report.Section{Title: "Where the change is", Lead: "By layer: how much changed, and in which singular subspaces of the base."}
	s.Blocks = append(s.Blocks,
		report.Plot{Name: "change", Figure: v.grid("Size of the change by layer", report.Axis{Label: "‖ΔW‖/‖W0‖, mean of the experts", Unit: report.Percent},
			func(l *analysis.Layer) float64 {
				return overExperts(l, func(d *analysis.Delta) float64 { return float64(d.Relative) })
			}), Read: "Rows are kinds of layers, columns their depth; the stronger the colour, the more the experts changed them, relative to the base's weight."})
	if len(v.names) > 1 {
		s.Blocks = append(s.Blocks, report.Details{Title: "The same, expert by expert", Blocks: []report.Block{report.Plot{Name: "change-by-expert", Figure: v.changeByExpert(), Read: "The colours mean the same in every panel."}}})
	}
	s.Blocks = append(s.Blocks,
		report.Plot{Name: "zones-by-depth", Figure: v.zonesByDepth(), Read: "Each line is an expert; the dashed line is what a change without direction would give at that depth."},
		report.Plot{Name: "zone-one", Figure: v.grid("Share of the change in zone I", report.Axis{Label: "share of ‖ΔW‖² in zone I, mean of the experts", Unit: report.Percent},
			func(l *analysis.Layer) float64 {
				return overExperts(l, func(d *analysis.Delta) float64 { return d.Zones.I })
			}), Read: "The stronger the colour, the more a layer's change reuses the base's principal directions on both sides."},
		report.Grid{Name: "kinds", Table: v.kindTable(), Read: "Left and right are the shares of ‖ΔW‖² in zone I of the output side and of the input side alone; all are means of the experts."})
	return s
}

func (v *view) changeByExpert() *report.Multiples {
	m := &report.Multiples{Title: "Size of the change by layer and expert"}
	for i, name := range v.names {
		h := v.grid(name, report.Axis{Label: "‖ΔW‖/‖W0‖", Unit: report.Percent}, func(l *analysis.Layer) float64 {
			if d := l.Experts[i]; d != nil {
				return float64(d.Relative)
			}
			return math.NaN()
		})
		h.Numbers, h.RowsName, h.ColumnsName = false, "", ""
		m.Panels = append(m.Panels, h)
	}
	return m
}

// depths are the groups of layers of one depth that somebody touched, with
// their names.
func (v *view) depths() (groups []*analysis.Group, names []string) {
	for i := range v.Groups {
		g := &v.Groups[i]
		if g.By != "depth" || !slices.ContainsFunc(g.Experts, func(d *analysis.GroupDelta) bool { return d != nil }) {
			continue
		}
		groups = append(groups, g)
		names = append(names, strings.TrimSpace(fmt.Sprint(v.towers[g.Tower], " ", g.Depth)))
	}
	return groups, names
}

// zonesByDepth draws each zone's share over depth.
func (v *view) zonesByDepth() *report.Multiples {
	groups, names := v.depths()
	m := &report.Multiples{Title: "Zones by depth"}
	for _, zone := range []struct {
		name string
		of   func(analysis.Zones) float64
		even int
	}{
		{"zone I", func(z analysis.Zones) float64 { return z.I }, 0},
		{"zones II+III", func(z analysis.Zones) float64 { return z.IIIII }, 3},
		{"cross", func(z analysis.Zones) float64 { return z.Cross }, 4},
	} {
		c := &report.Chart{Title: zone.name, X: report.Axis{Label: "depth", Names: names}, Y: report.Axis{Label: "share of ‖ΔW‖²", Unit: report.Percent}}
		c.Series, c.Bands = v.lines(len(groups), func(g, e int) float64 {
			if d := groups[g].Experts[e]; d != nil {
				return zone.of(d.Zones)
			}
			return math.NaN()
		})
		chance := report.Series{Name: "by chance", Line: true, Bare: true, Dashed: true, Colour: report.Grey}
		for i, g := range groups {
			var even mean
			for _, d := range g.Experts {
				if d != nil {
					even.add(d.Zones.Even[zone.even])
				}
			}
			chance.Points = append(chance.Points, report.Point{X: float64(i), Y: even.value()})
		}
		c.Series = append(c.Series, chance)
		m.Panels = append(m.Panels, c)
	}
	return m
}

// lines are a line for each expert over n places, or mean and range of many.
func (v *view) lines(n int, value func(at, expert int) float64) ([]report.Series, []report.Band) {
	if len(v.names) <= many {
		var out []report.Series
		for e, name := range v.names {
			s := report.Series{Name: name, Line: true}
			for i := range n {
				s.Points = append(s.Points, report.Point{X: float64(i), Y: value(i, e)})
			}
			out = append(out, s)
		}
		return out, nil
	}
	s, b := report.Series{Name: "mean of the experts", Line: true}, report.Band{Name: "smallest to largest"}
	for i := range n {
		var m mean
		for e := range v.names {
			m.add(value(i, e))
		}
		s.Points = append(s.Points, report.Point{X: float64(i), Y: m.value()})
		if m.n > 0 {
			b.X, b.Low, b.High = append(b.X, float64(i)), append(b.Low, m.low), append(b.High, m.high)
		}
	}
	return []report.Series{s}, []report.Band{b}
}

func (v *view) kindTable() *report.Table {
	t := &report.Table{Title: "Kinds of layers", Columns: []report.Column{
		{Name: "kind"},
		{Name: "layers", Unit: report.Count},
		{Name: "share of the change", Unit: report.Percent},
		{Name: "size", Unit: report.Percent},
		{Name: "zone I", Unit: report.Percent},
		{Name: "zones II+III", Unit: report.Percent},
		{Name: "left in I", Unit: report.Percent},
		{Name: "right in I", Unit: report.Percent},
		{Name: "effective rank"},
		{Name: "rank 95 %"},
	}}
	for _, g := range v.Groups {
		if g.By == "depth" {
			continue
		}
		var m [8]mean
		for _, d := range g.Experts {
			if d == nil {
				continue
			}
			for i, x := range []float64{d.Share, float64(d.Relative), d.Zones.I, d.Zones.IIIII, d.Zones.Left[0], d.Zones.Right[0], d.EffectiveRank, d.Rank95} {
				m[i].add(x)
			}
		}
		if m[0].n == 0 {
			continue
		}
		name := g.Name
		if g.By == "all" {
			name = "all"
		}
		row := []report.Cell{report.Text(name), report.Num(float64(g.Layers))}
		for i := range m {
			row = append(row, report.Num(m[i].value()))
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// spectra is the section on ranks.
func (v *view) spectra() report.Section {
	s := report.Section{Title: "How compressible the changes are", Lead: "The singular values of the changes: what rank keeps how much."}
	if f := v.energyByKind(); len(f.Panels) > 0 {
		s.Blocks = append(s.Blocks, report.Plot{Name: "energy", Figure: f, Read: "How much of a change the best approximation of each rank keeps, mean of the layers of a kind; lines that rise early need little rank. A LoRA expert reaches 100 % at its rank."})
	}
	s.Blocks = append(s.Blocks,
		report.Plot{Name: "rank", Figure: v.grid("Rank that keeps 95 % of a change", report.Axis{Label: "rank, mean of the experts"}, func(l *analysis.Layer) float64 {
			return overExperts(l, func(d *analysis.Delta) float64 { return float64(d.Rank95) })
		}), Read: "The stronger the colour, the more rank a layer needs: where a budget's parameters go."},
		report.Plot{Name: "ranks-by-depth", Figure: v.rankByDepth(), Read: "The effective rank counts how evenly a spectrum is spread; the stable rank how far the largest singular value stands out. Means of the layers of a depth."})
	return s
}

func (v *view) energyByKind() *report.Multiples {
	m := &report.Multiples{Title: "Share of the change that a rank keeps"}
	var kinds []string
	byKind := map[string][]*analysis.Layer{}
	for _, l := range v.layers {
		kind := v.row(l)
		if byKind[kind] == nil {
			kinds = append(kinds, kind)
		}
		byKind[kind] = append(byKind[kind], l)
	}
	for _, kind := range kinds {
		layers := byKind[kind]
		ranks := layers[0].Ranks
		c := &report.Chart{Title: kind, X: report.Axis{Label: "rank", Log: true}, Y: report.Axis{Label: "share kept", Unit: report.Percent, Max: 1}}
		c.Series, c.Bands = v.lines(len(ranks), func(at, e int) float64 {
			var m mean
			for _, l := range layers {
				if d := l.Experts[e]; d != nil && len(l.Ranks) == len(ranks) && at < len(d.Cumulative) {
					m.add(d.Cumulative[at])
				}
			}
			return m.value()
		})
		for i := range c.Series {
			c.Series[i].Bare = true
			for j := range c.Series[i].Points {
				c.Series[i].Points[j].X = float64(ranks[j])
			}
		}
		for i := range c.Bands {
			for j := range c.Bands[i].X {
				c.Bands[i].X[j] = float64(ranks[int(c.Bands[i].X[j])])
			}
		}
		m.Panels = append(m.Panels, c)
	}
	return m
}

func (v *view) rankByDepth() *report.Multiples {
	m := &report.Multiples{Title: "Effective and stable rank by depth"}
	groups, names := v.depths()
	for _, kind := range []struct {
		name string
		of   func(*analysis.GroupDelta) float64
	}{
		{"effective rank", func(d *analysis.GroupDelta) float64 { return d.EffectiveRank }},
		{"rank that keeps 95 %", func(d *analysis.GroupDelta) float64 { return d.Rank95 }},
		{"stable rank", func(d *analysis.GroupDelta) float64 { return d.StableRank }},
	} {
		c := &report.Chart{Title: kind.name, X: report.Axis{Label: "depth", Names: names}, Y: report.Axis{Label: "rank", Log: true}}
		c.Series, c.Bands = v.lines(len(groups), func(g, e int) float64 {
			if d := groups[g].Experts[e]; d != nil {
				return kind.of(d)
			}
			return math.NaN()
		})
		m.Panels = append(m.Panels, c)
	}
	return m
}
