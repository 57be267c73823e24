package page

import (
	"fmt"
	"math"

	"smelt/analysis"
	"smelt/report"
)

// overview is the section that answers most questions.
func (v *view) overview() report.Section {
	s := report.Section{Title: "Overview"}
	if len(v.Advice.Say) > 0 {
		s.Blocks = append(s.Blocks, report.List(v.Advice.Say))
	}
	if len(v.Notes) > 0 {
		s.Blocks = append(s.Blocks, report.List(v.Notes))
	}
	s.Blocks = append(s.Blocks, report.Grid{Name: "experts", Table: v.expertTable(), Read: "Size is ‖ΔW‖/‖W0‖ over linear layers; a zone is a share of ‖ΔW‖² by the base's singular subspaces (I: the principal ones); a rank is the mean over the touched layers of what keeps that share of the change; elsewhere is what lies in norms, biases, embeddings and heads."})
	if len(v.layers) == 0 {
		return s
	}
	s.Blocks = append(s.Blocks,
		report.Plot{Name: "zones", Figure: v.zoneBars(), Read: "Each bar is one expert's whole change; the last one is what a change without direction would give. More zone I than by chance means that the base's strongest directions were reused; cross is in zone I on one side of the weight only."},
		report.Plot{Name: "losses", Figure: v.lossBars(), Read: fmt.Sprintf("The share of an expert's change that a fusion loses in its linear layers, smaller is better: an average, task arithmetic with λ = %g and with the best λ, and SMILE at rank %d when its router decides right. Above 100 %% the merged weights are further from the expert than the base is.", v.Settings.ScalingFactor, v.Settings.Rank)})
	if f := v.budgetChart(); f != nil {
		s.Blocks = append(s.Blocks, report.Plot{Name: "budgets", Figure: f, Read: "What share of the experts' changes a fused model of each size keeps, with ranks chosen by smelt fuse --budget and with one rank for all; the label is that rank."})
	}
	return s
}

func (v *view) expertTable() *report.Table {
	t := &report.Table{Title: "The experts", Columns: []report.Column{
		{Name: "expert"},
		{Name: "kind"},
		{Name: "layers", Unit: report.Count},
		{Name: "size", Unit: report.Percent, Note: "‖ΔW‖/‖W0‖ over linear layers"},
		{Name: "zone I", Unit: report.Percent},
		{Name: "zones II+III", Unit: report.Percent},
		{Name: "cross", Unit: report.Percent},
		{Name: "effective rank", Note: "exp of the entropy of the normalised singular values"},
		{Name: "stable rank", Note: "‖ΔW‖²/σ₁²"},
		{Name: "rank 90 %"},
		{Name: "95 %"},
		{Name: "99 %"},
		{Name: "elsewhere", Unit: report.Percent, Note: "share of all that the expert changed outside linear layers"},
	}}
	for _, x := range v.Experts {
		kind := x.Kind
		if x.Rank > 0 {
			kind += fmt.Sprintf(",\u00a0rank\u00a0%d", x.Rank) // on one line
		}
		if x.Equal {
			kind += ", equal to the base"
		}
		i, ii, cross := math.NaN(), math.NaN(), math.NaN()
		if x.Zones != nil {
			i, ii, cross = x.Zones.I, x.Zones.IIIII, x.Zones.Cross
		}
		elsewhere := math.NaN()
		if all := x.Energy + x.Others; all > 0 {
			elsewhere = x.Others / all
		}
		t.Rows = append(t.Rows, []report.Cell{
			report.Text(x.Name), report.Text(kind), report.Num(float64(x.Touched)), num(x.Relative), report.Num(i), report.Num(ii), report.Num(cross),
			num(x.EffectiveRank), num(x.StableRank), num(x.Rank90), num(x.Rank95), num(x.Rank99), report.Num(elsewhere),
		})
	}
	return t
}

func num(f analysis.Figure) report.Cell { return report.Num(float64(f)) }

// zoneBars splits every expert's change by zones, and one without direction.
func (v *view) zoneBars() *report.Bars {
	b := &report.Bars{Title: "Where the changes live in the base's singular subspaces", Value: report.Axis{Label: "share of ‖ΔW‖²", Unit: report.Percent, Max: 1}, Stacked: true}
	one, rest, cross := report.BarSeries{Name: "zone I"}, report.BarSeries{Name: "zones II+III"}, report.BarSeries{Name: "cross", Colour: report.Grey}
	add := func(name string, i, ii, c float64) {
		b.Categories = append(b.Categories, name)
		one.Values, rest.Values, cross.Values = append(one.Values, i), append(rest.Values, ii), append(cross.Values, c)
	}
	var even [5]mean
	for _, x := range v.Experts {
		if x.Zones == nil {
			add(x.Name, math.NaN(), math.NaN(), math.NaN())
			continue
		}
		add(x.Name, x.Zones.I, x.Zones.IIIII, x.Zones.Cross)
		for k := range even {
			even[k].add(x.Zones.Even[k])
		}
	}
	add("by chance", even[0].value(), even[3].value(), even[4].value())
	b.Series = []report.BarSeries{one, rest, cross}
	return b
}

func (v *view) lossBars() *report.Bars {
	b := &report.Bars{Title: "What a fusion would lose of each expert", Value: report.Axis{Label: "‖ΔW merged − ΔW‖² / ‖ΔW‖²", Unit: report.Percent}}
	average, task, best := report.BarSeries{Name: "average", Colour: report.Grey}, report.BarSeries{Name: "task arithmetic", Colour: report.Ochre}, report.BarSeries{Name: "task arithmetic, best λ", Colour: report.Sky}
	smile := report.BarSeries{Name: fmt.Sprintf("SMILE, rank %d", v.Settings.Rank), Colour: report.Blue}
	for i, l := range v.Losses {
		b.Categories = append(b.Categories, v.names[i])
		average.Values, task.Values = append(average.Values, float64(l.Average)), append(task.Values, float64(l.TaskArithmetic))
		best.Values, smile.Values = append(best.Values, float64(l.Best)), append(smile.Values, float64(l.SMILE))
		best.Notes = append(best.Notes, "λ = "+report.Number.Format(float64(l.BestScaling)))
	}
	b.Series = []report.BarSeries{average, task, best, smile}
	return b
}

func (v *view) budgetChart() *report.Chart {
	filled, uniform := report.Series{Name: "chosen ranks", Line: true, Colour: report.Blue}, report.Series{Name: "one rank", Line: true, Colour: report.Grey}
	for _, b := range v.Advice.Budgets {
		if !b.Feasible {
			continue
		}
		note := ""
		if b.Bound {
			note = "at least: deeper spectra were not taken"
		}
		filled.Points = append(filled.Points, report.Point{X: b.Ratio, Y: b.Mean, Note: note})
		if b.Uniform > 0 {
			uniform.Points = append(uniform.Points, report.Point{X: b.Budget, Y: b.UniformMean, Label: fmt.Sprint("rank ", b.Uniform)})
		}
	}
	if len(filled.Points) < 3 {
		return nil
	}
	return &report.Chart{
		Title:  "What each size keeps",
		X:      report.Axis{Label: "parameters, relative to the base", Unit: report.Times},
		Y:      report.Axis{Label: "share of the changes kept, mean of the experts", Unit: report.Percent, Max: 1},
		Series: []report.Series{filled, uniform}, Height: 340,
	}
}
