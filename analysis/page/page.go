// Package page shows an [analysis.Report] as one page that reads like the
// figures of a paper: the overview first, then layers, then pairs of experts,
// then what was measured with data. Package report draws it.
package page

import (
	"fmt"
	"math"
	"strings"

	"smelt/analysis"
	"smelt/report"
)

// Of lays the page of a report out.
func Of(r *analysis.Report) *report.Page {
	v := newView(r)
	p := &report.Page{
		Title: "What fine-tuning changed in " + r.Base.Name,
		Lead: fmt.Sprintf("%s of one base (%s, %s parameters), compared by their weights: where each change lives, how compressible it is, how the changes stand in each other's way, and what to choose for a fusion.",
			experts(len(r.Experts)), r.Base.ModelType, report.Count.Format(float64(r.Base.Parameters))),
		Facts: v.facts(),
		Foot: fmt.Sprintf("%s. Singular subspaces from float64 decompositions; losses and overlaps at expert rank %d and router rank %d. Figures: analysis.json and the CSV files beside this page.",
			r.Generator, r.Settings.Rank, r.Settings.RouterRank),
	}
	p.Sections = append(p.Sections, v.overview())
	if len(v.layers) > 0 {
		p.Sections = append(p.Sections, v.where(), v.spectra())
	}
	if len(r.Pairs) > 0 && len(v.layers) > 0 {
		p.Sections = append(p.Sections, v.interference())
	}
	if r.Confusion != nil {
		p.Sections = append(p.Sections, v.routing())
	}
	if r.Tasks != nil {
		p.Sections = append(p.Sections, v.measured())
	}
	p.Sections = append(p.Sections, v.choose())
	return p
}

func experts(n int) string {
	if n == 1 {
		return "One fine-tune"
	}
	return fmt.Sprintf("%d fine-tunes", n)
}

// view is a report with what the figures share: names and the layers that
// somebody touched.
type view struct {
	*analysis.Report
	names  []string          // of experts
	layers []*analysis.Layer // touched by somebody
	short  map[string]string // names of layers
	towers map[string]string // names of towers
}

func newView(r *analysis.Report) *view {
	v := &view{Report: r, short: map[string]string{}, towers: map[string]string{}}
	for _, x := range r.Experts {
		v.names = append(v.names, x.Name)
	}
	var towers []string
	for i := range r.Layers {
		l := &r.Layers[i]
		for _, d := range l.Experts {
			if d != nil {
				v.layers = append(v.layers, l)
				if _, ok := v.towers[l.Tower]; !ok && l.Depth >= 0 {
					v.towers[l.Tower] = ""
					towers = append(towers, l.Tower)
				}
				break
			}
		}
	}
	v.nameTowers(towers)
	for _, l := range v.layers {
		parts := strings.Split(l.Name, ".")
		name := parts[len(parts)-1]
		if l.Depth >= 0 {
			name = strings.TrimSpace(fmt.Sprintf("%s %d %s", v.towers[l.Tower], l.Depth, l.Kind))
		}
		v.short[l.Name] = name
	}
	return v
}

// nameTowers tells towers apart by the parts of their names that differ.
func (v *view) nameTowers(towers []string) {
	if len(towers) < 2 {
		return
	}
	count := map[string]int{}
	for _, t := range towers {
		for _, part := range strings.Split(t, ".") {
			count[part]++
		}
	}
	for _, t := range towers {
		var own []string
		for _, part := range strings.Split(t, ".") {
			if count[part] < len(towers) {
				own = append(own, strings.TrimSuffix(part, "_model"))
			}
		}
		if len(own) == 0 {
			own = []string{t}
		}
		v.towers[t] = strings.Join(own, ".")
	}
}

func (v *view) facts() []report.Fact {
	out := []report.Fact{{Value: fmt.Sprint(len(v.layers)), Name: fmt.Sprintf("of %d linear layers changed", len(v.Layers))}}
	var zone, rank, change mean
	for _, x := range v.Experts {
		if x.Zones != nil {
			zone.add(x.Zones.I)
		}
		rank.add(float64(x.Rank95))
		change.add(float64(x.Relative))
	}
	out = append(out,
		report.Fact{Value: report.Percent.Format(change.value()), Name: "mean size of a change", Note: "‖ΔW‖/‖W0‖ over all linear layers"},
		report.Fact{Value: report.Percent.Format(zone.value()), Name: "of the change in the base's principal subspace", Note: "zone I: the first singular directions, up to half of the sum of the singular values"},
		report.Fact{Value: report.Number.Format(math.Round(rank.value())), Name: "mean rank that keeps 95 % of a change"},
	)
	overlap, name := math.NaN(), ""
	for _, p := range v.Pairs {
		if o := float64(p.RightOverlap); o > overlap || math.IsNaN(overlap) && !math.IsNaN(o) {
			overlap, name = o, v.names[p.A]+" and "+v.names[p.B]
		}
	}
	if name != "" {
		out = append(out, report.Fact{Value: report.Percent.Format(overlap), Name: "largest overlap of two routers' subspaces", Note: name})
	}
	return out
}

// mean is the mean of the numbers that exist.
type mean struct {
	sum       float64
	n         int
	low, high float64
}

func (m *mean) add(v float64) {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return
	}
	if m.n == 0 || v < m.low {
		m.low = v
	}
	if m.n == 0 || v > m.high {
		m.high = v
	}
	m.sum += v
	m.n++
}

func (m *mean) value() float64 {
	if m.n == 0 {
		return math.NaN()
	}
	return m.sum / float64(m.n)
}

// empty is a matrix of numbers that do not exist.
func empty(rows, columns int) [][]float64 {
	out := make([][]float64, rows)
	for i := range out {
		out[i] = make([]float64, columns)
		for j := range out[i] {
			out[i][j] = math.NaN()
		}
	}
	return out
}
