package page

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"smelt/analysis"
	"smelt/report"
)

// square is a matrix of pairs of experts.
func (v *view) square(title string, axis report.Axis, diverging bool, of func(analysis.Pair) analysis.Figure) *report.Heatmap {
	h := &report.Heatmap{Title: title, Rows: v.names, Columns: v.names, Value: axis, Diverging: diverging, Numbers: true}
	h.Values = empty(len(v.names), len(v.names))
	for _, p := range v.Pairs {
		h.Values[p.A][p.B] = float64(of(p))
		h.Values[p.B][p.A] = h.Values[p.A][p.B]
	}
	return h
}

// interference is the section on pairs.
func (v *view) interference() report.Section {
	s := report.Section{Title: "How experts stand in each other's way", Lead: "Pair by pair and layer by layer: do two changes pull the same way, and do they live in the same subspaces?"}
	s.Blocks = append(s.Blocks,
		report.Plot{
			Name: "cosines", Figure: v.square("Cosine of two experts' changes", report.Axis{Label: "cosine over all linear layers"}, true, func(p analysis.Pair) analysis.Figure { return p.Cosine }),
			Read: "Near 0 two changes are independent; orange ones agree, blue ones undo each other when they are added.",
		},
		report.Plot{Name: "overlaps", Figure: v.overlaps(), Read: fmt.Sprintf("Mean squared cosine of the principal angles between the first %d singular directions of two changes: right, the inputs that the routers listen to; left, the outputs. 100 %% is the same subspace.", v.routerRank())},
		report.Plot{
			Name: "signs", Figure: v.square("Sign conflict", report.Axis{Label: "share of opposite signs", Unit: report.Percent, Min: 0, Max: 1}, false, func(p analysis.Pair) analysis.Figure { return p.SignConflict }),
			Read: "Of the elements that both experts changed, the share in which they go opposite ways; 50 % is chance.",
		},
		report.Plot{Name: "overlap-by-layer", Figure: v.overlapByLayer(), Read: "Mean of the pairs, with the band from the smallest to the largest; the grey band is what two independent random subspaces overlap, ± two standard deviations."},
	)
	if f := v.overlapByWidth(); f != nil {
		s.Blocks = append(s.Blocks, report.Plot{Name: "overlap-by-width", Figure: f, Read: "A dot is the input side of all layers of a width, mean of layers and pairs, with the range from the smallest to the largest; the dashed line is the overlap of random subspaces, which falls with the width. What lies far above it is shared for a reason that width does not cure."})
	}
	s.Blocks = append(s.Blocks, report.Plot{Name: "loss-by-layer", Figure: v.lossByLayer(), Read: fmt.Sprintf("As in the overview, layer by layer, mean of the experts: where merging hurts and where rank %d does not suffice.", v.Settings.Rank)})
	if len(v.Pairs) <= 66 && len(v.layers) <= 150 {
		s.Blocks = append(s.Blocks, report.Details{Title: "Cosines, pair by pair and layer by layer", Blocks: []report.Block{
			report.Plot{Name: "cosines-by-layer", Figure: v.cosinesByLayer(), Read: "A row is a pair, a column a layer in the base's order."},
		}})
	}
	return s
}

// routerRank is the largest that a layer has.
func (v *view) routerRank() (g int) {
	for _, l := range v.layers {
		g = max(g, l.RouterRank)
	}
	return g
}

func (v *view) overlaps() *report.Multiples {
	axis := report.Axis{Label: "overlap", Unit: report.Percent, Max: 1}
	m := &report.Multiples{Title: "Overlap of the leading subspaces", Columns: 2}
	m.Panels = append(m.Panels,
		v.square("right: what the routers listen to", axis, false, func(p analysis.Pair) analysis.Figure { return p.RightOverlap }),
		v.square("left: where the changes write", axis, false, func(p analysis.Pair) analysis.Figure { return p.LeftOverlap }))
	return m
}

// layerAxis names the layers in order.
func (v *view) layerAxis() report.Axis {
	a := report.Axis{Label: "layer, in the base's order"}
	for _, l := range v.layers {
		a.Names = append(a.Names, v.short[l.Name])
	}
	return a
}

// overPairs is the mean of a figure of the pairs that both touched a layer.
func overPairs(l *analysis.Layer, of func(*analysis.LayerPair) float64) mean {
	var m mean
	for _, p := range l.Pairs {
		if p != nil {
			m.add(of(p))
		}
	}
	return m
}

func (v *view) overlapByLayer() *report.Multiples {
	m := &report.Multiples{Title: "Overlap by layer", Columns: 1}
	for _, side := range []struct {
		name string
		of   func(*analysis.LayerPair) float64
		base func(*analysis.Baseline) (float64, float64)
	}{
		{"right", func(p *analysis.LayerPair) float64 { return p.RightOverlap }, func(b *analysis.Baseline) (float64, float64) { return b.Right, b.RightDeviation }},
		{"left", func(p *analysis.LayerPair) float64 { return p.LeftOverlap }, func(b *analysis.Baseline) (float64, float64) { return b.Left, b.LeftDeviation }},
	} {
		c := &report.Chart{Title: side.name, X: v.layerAxis(), Y: report.Axis{Label: "overlap", Unit: report.Percent}, Height: 240}
		measured := report.Series{Name: "mean of the pairs", Line: true}
		spread, chance := report.Band{Name: "smallest to largest pair", Colour: report.Blue}, report.Band{Name: "random subspaces"}
		for i, l := range v.layers {
			x, o := float64(i), overPairs(l, side.of)
			measured.Points = append(measured.Points, report.Point{X: x, Y: o.value()})
			if o.n > 0 {
				spread.X, spread.Low, spread.High = append(spread.X, x), append(spread.Low, o.low), append(spread.High, o.high)
			}
			if l.Baseline != nil {
				at, dev := side.base(l.Baseline)
				chance.X, chance.Low, chance.High = append(chance.X, x), append(chance.Low, math.Max(0, at-2*dev)), append(chance.High, at+2*dev)
			}
		}
		c.Series, c.Bands = []report.Series{measured}, []report.Band{spread, chance}
		m.Panels = append(m.Panels, c)
	}
	return m
}

// overlapByWidth sets the overlap of inputs against the width of layers; nil
// where all are as wide.
func (v *view) overlapByWidth() *report.Chart {
	widths := map[int]*mean{}
	for _, l := range v.layers {
		if l.Baseline == nil || l.RouterRank != v.routerRank() {
			continue
		}
		if widths[l.In] == nil {
			widths[l.In] = &mean{}
		}
		for _, p := range l.Pairs {
			if p != nil {
				widths[l.In].add(p.RightOverlap)
			}
		}
	}
	if len(widths) < 2 {
		return nil
	}
	measured := report.Series{Name: "layers", Line: true}
	for _, w := range slices.Sorted(maps.Keys(widths)) {
		m := widths[w]
		measured.Points = append(measured.Points, report.Point{X: float64(w), Y: m.value(), Low: m.low, High: m.high, Note: fmt.Sprintf("%d pairs", m.n)})
	}
	low, high := measured.Points[0].X, measured.Points[len(measured.Points)-1].X
	random := report.Series{Name: "random subspaces", Line: true, Bare: true, Dashed: true, Colour: report.Grey}
	const points = 24
	for i := range points {
		w := low * math.Pow(high/low, float64(i)/(points-1))
		random.Points = append(random.Points, report.Point{X: w, Y: float64(v.routerRank()) / w})
	}
	return &report.Chart{
		Title: "Overlap against width", X: report.Axis{Label: "width of the layer's input", Log: true}, Y: report.Axis{Label: "overlap of the right subspaces", Unit: report.Percent},
		Series: []report.Series{measured, random}, Height: 340,
	}
}

func (v *view) lossByLayer() *report.Chart {
	c := &report.Chart{Title: "Loss by layer", X: v.layerAxis(), Y: report.Axis{Label: "share of the change that is lost", Unit: report.Percent}, Height: 320}
	for _, way := range []struct {
		name   string
		colour report.Colour
		of     func(analysis.Loss) analysis.Figure
	}{
		{"average", report.Grey, func(l analysis.Loss) analysis.Figure { return l.Average }},
		{"task arithmetic", report.Ochre, func(l analysis.Loss) analysis.Figure { return l.TaskArithmetic }},
		{"best λ", report.Sky, func(l analysis.Loss) analysis.Figure { return l.Best }},
		{fmt.Sprintf("SMILE, rank %d", v.Settings.Rank), report.Blue, func(l analysis.Loss) analysis.Figure { return l.SMILE }},
	} {
		s := report.Series{Name: way.name, Line: true, Bare: len(v.layers) > 60, Colour: way.colour}
		for i, l := range v.layers {
			var m mean
			for _, x := range l.Losses {
				m.add(float64(way.of(x)))
			}
			s.Points = append(s.Points, report.Point{X: float64(i), Y: m.value()})
		}
		c.Series = append(c.Series, s)
	}
	return c
}

func (v *view) cosinesByLayer() *report.Heatmap {
	h := &report.Heatmap{Title: "Cosine of the changes by layer", RowsName: "pair", ColumnsName: "layer", Columns: v.layerAxis().Names, Value: report.Axis{Label: "cosine"}, Diverging: true}
	for i, p := range v.PairNames {
		h.Rows = append(h.Rows, v.names[p[0]]+" · "+v.names[p[1]])
		var row []float64
		for _, l := range v.layers {
			if lp := l.Pairs[i]; lp != nil {
				row = append(row, lp.Cosine)
			} else {
				row = append(row, math.NaN())
			}
		}
		h.Values = append(h.Values, row)
	}
	return h
}

// routing is the section on what weights tell of the routers.
func (v *view) routing() report.Section {
	s := report.Section{Title: "Which experts routers take for one another", Lead: "From the routers' subspaces, without data. How many tokens go astray depends on the inputs and is not predicted here: where it was measured, 8 to 83 % went right, in pools whose best case below is above 99 %. What weights do tell is an order: which experts are taken for one another first. smelt analyze --tasks measures the rest."}
	c := v.Confusion
	h := &report.Heatmap{Title: "Where stray tokens go", RowsName: "task of", ColumnsName: "taken for", Rows: v.names, Columns: v.names, Value: report.Axis{Label: "share of the tokens that go astray, mean of the layers", Unit: report.Percent}, Numbers: true}
	t := &report.Table{Title: "What the routers need", Columns: []report.Column{
		{Name: "task of"},
		{Name: "signal for every second token", Unit: report.Percent, Note: "share of a token's energy along what its expert changed, the rest being without direction, for half of the tokens to go right; mean of the layers"},
		{Name: "right at best", Unit: report.Percent, Note: "upper bound: tokens that hold nothing else; mean of the layers"},
		{Name: "taken first for"},
	}}
	for i, row := range c.Astray {
		var values []float64
		first := -1
		for j, f := range row {
			values = append(values, float64(f))
			if f.Known() && (first < 0 || f > row[first]) {
				first = j
			}
		}
		h.Values = append(h.Values, values)
		if !c.AtBest[i].Known() {
			continue
		}
		name := ""
		if first >= 0 {
			name = v.names[first]
		}
		t.Rows = append(t.Rows, []report.Cell{report.Text(v.names[i]), num(c.Signal[i]), num(c.AtBest[i]), report.Text(name)})
	}
	if len(v.names) > 2 {
		s.Blocks = append(s.Blocks, report.Plot{Name: "confusion", Figure: h, Read: "A row is the task of one expert: of its tokens that go astray, the share that each other expert gets. An order, not a rate."})
	}
	s.Blocks = append(s.Blocks,
		report.Grid{Name: "signal", Table: t, Read: "The more signal an expert's tokens must carry, the easier they are lost; at best is an upper bound for inputs made of the task alone, not what to expect. Where it is below 100 % the subspaces themselves coincide."})
	return s
}
