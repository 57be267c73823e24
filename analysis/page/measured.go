package page

import (
	"fmt"
	"slices"

	"smelt/report"
)

// measured is the section of what was measured with data.
func (v *view) measured() report.Section {
	s := report.Section{Title: "Measured with data", Lead: "The fused model, the base and the individual models on the same inputs."}
	if len(v.Tasks.Zones) > 0 {
		s.Blocks = append(s.Blocks, report.Plot{Name: "zone-accuracy", Figure: v.zoneAccuracy(), Read: "The base plus each expert's change projected on one zone: the zone that restores the expert's accuracy is where the task is. " + v.examples()})
	}
	if len(v.Tasks.Routing) > 0 {
		if h := v.confused(); h != nil {
			s.Blocks = append(s.Blocks, report.Plot{Name: "measured-confusion", Figure: h, Read: "A row is the task of one expert: the diagonal went to its own expert, the rest astray." + v.agreed()})
		}
		s.Blocks = append(s.Blocks,
			report.Plot{Name: "routing", Figure: v.routed(), Read: "The share of each task's tokens that went to its own expert, module by module."},
			report.Plot{Name: "adaptation", Figure: v.adaptation(), Read: "How large the expert's contribution ‖E(x)‖ is beside that of the base ‖W0x‖: small values are mostly pre-trained knowledge."})
	}
	if len(v.Tasks.Errors) > 0 {
		s.Blocks = append(s.Blocks, report.Plot{Name: "errors", Figure: v.errors(), Read: "How far the hidden states are from the individual model's. From rank to oracle is what is not fused, from oracle to fused is routing; the base shows what there was to lose."})
	}
	return s
}

func (v *view) zoneAccuracy() *report.Bars {
	b := &report.Bars{Title: "Accuracy by zone", Value: report.Axis{Label: v.Tasks.Zones[0].Metric, Unit: report.Percent}}
	series := []report.BarSeries{{Name: "base", Colour: report.Grey}, {Name: "zone I", Colour: report.Blue}, {Name: "zone II", Colour: report.Vermilion}, {Name: "zones II+III", Colour: report.Green}, {Name: "expert", Colour: report.Indigo}}
	for _, z := range v.Tasks.Zones {
		b.Categories = append(b.Categories, z.Task)
		for i, f := range []float64{float64(z.Base), float64(z.I), float64(z.II), float64(z.IIIII), float64(z.Full)} {
			series[i].Values = append(series[i].Values, f)
		}
	}
	b.Series = series
	return b
}

// modules are the fused modules of the routing report in order.
func (v *view) modules() []string {
	var out []string
	for _, m := range v.Tasks.Routing {
		if !slices.Contains(out, m.Module) {
			out = append(out, m.Module)
		}
	}
	return out
}

// shortOf is the short name of a module.
func (v *view) shortOf(module string) string {
	if s, ok := v.short[module]; ok {
		return s
	}
	return module
}

func (v *view) routed() *report.Heatmap {
	modules := v.modules()
	h := &report.Heatmap{Title: "Tokens routed to their own expert", RowsName: "task of", ColumnsName: "module", Rows: v.names, Value: report.Axis{Label: "share of the tokens", Unit: report.Percent, Max: 1}}
	for _, m := range modules {
		h.Columns = append(h.Columns, v.shortOf(m))
	}
	h.Values = empty(len(h.Rows), len(h.Columns))
	for _, m := range v.Tasks.Routing {
		h.Values[m.Expert][slices.Index(modules, m.Module)] = m.Right
	}
	return h
}

// examples says how many there are of a task.
func (v *view) examples() string {
	low, high := v.Tasks.Zones[0].Samples, 0
	for _, z := range v.Tasks.Zones {
		low, high = min(low, z.Samples), max(high, z.Samples)
	}
	if low == high {
		return fmt.Sprintf("Of %d examples a task.", low)
	}
	return fmt.Sprintf("Of %d to %d examples a task.", low, high)
}

// confused is where the tokens of each task went, mean of the modules; nil for
// one expert.
func (v *view) confused() *report.Heatmap {
	e := len(v.names)
	if e < 2 {
		return nil
	}
	h := &report.Heatmap{Title: "Measured routing", RowsName: "task of", ColumnsName: "goes to", Rows: v.names, Columns: v.names, Value: report.Axis{Label: "share of the tokens, mean of the modules", Unit: report.Percent, Max: 1}, Numbers: true}
	sums := make([][]mean, e)
	for i := range sums {
		sums[i] = make([]mean, e)
	}
	for _, m := range v.Tasks.Routing {
		for k, share := range m.Taken {
			sums[m.Expert][k].add(share)
		}
	}
	for i := range sums {
		var values []float64
		for k := range sums[i] {
			values = append(values, sums[i][k].value())
		}
		h.Values = append(h.Values, values)
	}
	return h
}

// agreed says how well weights told the order of the mistakes.
func (v *view) agreed() string {
	a := v.Tasks.Agreement
	if a == nil || !a.Astray.Known() {
		return ""
	}
	return fmt.Sprintf(" %s went right; the order of who is taken for whom agrees with the one from the weights by a rank correlation of %.2f (1 the same, 0 none).", report.Percent.Format(float64(a.Right)), float64(a.Astray))
}

func (v *view) adaptation() *report.Chart {
	modules := v.modules()
	values := empty(len(modules), len(v.names))
	for _, m := range v.Tasks.Routing {
		if m.Base > 0 {
			values[slices.Index(modules, m.Module)][m.Expert] = float64(m.Adaptation / m.Base)
		}
	}
	c := &report.Chart{Title: "Task-specific adaptation beside pre-trained knowledge", X: report.Axis{Label: "module"}, Y: report.Axis{Label: "‖E(x)‖/‖W0x‖", Unit: report.Percent}, Height: 320}
	for _, m := range modules {
		c.X.Names = append(c.X.Names, v.shortOf(m))
	}
	c.Series, c.Bands = v.lines(len(modules), func(at, e int) float64 { return values[at][e] })
	return c
}

func (v *view) errors() *report.Multiples {
	m := &report.Multiples{Title: "Error of the hidden states, stage by stage"}
	for e, name := range v.names {
		c := &report.Chart{Title: name, X: report.Axis{Label: "stage"}, Y: report.Axis{Label: "‖h − h*‖/‖h*‖", Unit: report.Percent}}
		series := []report.Series{{Name: "base", Line: true, Colour: report.Grey}, {Name: "fused", Line: true, Colour: report.Vermilion}, {Name: "oracle router", Line: true, Colour: report.Blue}, {Name: "rank alone", Line: true, Dashed: true, Colour: report.Green}}
		for _, x := range v.Tasks.Errors {
			if x.Expert != e {
				continue
			}
			for i, y := range []float64{x.Base, x.Total, x.Oracle, x.Rank} {
				series[i].Points = append(series[i].Points, report.Point{X: float64(len(c.X.Names)), Y: y})
			}
			c.X.Names = append(c.X.Names, x.Stage)
		}
		if len(c.X.Names) > 0 {
			c.Series = series
			m.Panels = append(m.Panels, c)
		}
	}
	return m
}
