package report

import (
	"fmt"
	"image"
	"math"
)

// hostile is a model name that tries everything.
const hostile = "<script>alert('x')</script>\"&|`*\x1b[31m\u202eevil\x00\xff"

func tradeoff() *Chart {
	smile := Series{Name: "SMILE, full", Line: true, Colour: Blue}
	lora := Series{Name: "SMILE, LoRA", Line: true, Colour: Green}
	for i, r := range []int{4, 8, 16, 32, 64, 128} {
		x := 1 + 0.012*float64(r)
		y := 0.95 - 0.2*math.Exp(-0.7*float64(i))
		smile.Points = append(smile.Points, Point{X: x, Y: y, Low: y - 0.012, High: y + 0.011, Label: fmt.Sprint("rank ", r)})
		lora.Points = append(lora.Points, Point{X: 1 + 0.006*float64(r), Y: y - 0.03 + 0.004*float64(i)})
	}
	return &Chart{
		Title: "What each size buys: mean accuracy of the fused model against its parameters",
		X:     Axis{Label: "parameters, relative to the base", Unit: Times, Log: true},
		Y:     Axis{Label: "mean accuracy", Unit: Percent},
		Series: []Series{
			smile, lora,
			{Name: "simple average", Colour: Grey, Points: []Point{{X: 1, Y: 0.61, Label: "simple average"}}},
			{Name: "task arithmetic", Colour: Ochre, Points: []Point{{X: 1, Y: 0.66, Label: "task arithmetic"}}},
			{Name: "TIES", Colour: Vermilion, Points: []Point{{X: 1, Y: 0.68, Label: "TIES"}}},
			{Name: "ensemble", Colour: Purple, Points: []Point{{X: 8, Y: 0.72, Label: "ensemble"}}},
		},
		References: []Reference{{Name: "individual experts", Value: 0.951}, {Name: "base", Value: 0.48}},
	}
}

func spectrum() *Chart {
	c := &Chart{Title: "Singular values", X: Axis{Label: "index of the singular value"}, Y: Axis{Label: "σ / σ₁", Log: true}}
	for k, name := range []string{"digits", "letters", "shapes", "textures", "signs", "clutter", "terrain", "clocks", hostile} {
		s := Series{Name: name, Line: true, Bare: true}
		for i := range 64 {
			s.Points = append(s.Points, Point{X: float64(i + 1), Y: math.Exp(-float64(i) / (8 + 3*float64(k)))})
		}
		c.Series = append(c.Series, s)
	}
	c.Series[2].Points[30].Y = math.NaN()
	c.Bands = []Band{{Name: "random matrix", X: []float64{1, 64}, Low: []float64{0.6, 0.3}, High: []float64{0.8, 0.5}}}
	return c
}

func grouped() *Bars {
	return &Bars{
		Title:      "Accuracy by task",
		Categories: []string{"digits", "letters", "shapes", hostile},
		Value:      Axis{Label: "accuracy", Unit: Percent},
		Series: []BarSeries{
			{Name: "expert", Values: []float64{0.99, 0.93, 0.97, 0.91}, Low: []float64{.98, .91, .96, .9}, High: []float64{.995, .94, .98, .92}},
			{Name: "SMILE", Values: []float64{0.98, 0.92, math.NaN(), 0.9}},
			{Name: "average", Values: []float64{0.62, 0.48, 0.7, 0.55}, Colour: Grey},
		},
	}
}

func stacked() *Bars {
	return &Bars{
		Title:      "Where the change lies",
		Categories: []string{"q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"},
		Value:      Axis{Label: "share of the energy", Unit: Percent},
		Stacked:    true,
		Series: []BarSeries{
			{Name: "zone I", Values: []float64{.3, .32, .2, .15, .4, .1}},
			{Name: "zone II", Values: []float64{.4, .38, .3, .35, .3, .4}},
			{Name: "zone III", Values: []float64{.2, .2, .3, .3, .2, .4}},
			{Name: "none of them", Values: []float64{.1, .1, .2, .2, .1, .1}, Colour: Grey},
		},
		References: []Reference{{Name: "chance", Value: 0.5}},
	}
}

func routing() *Heatmap {
	h := &Heatmap{Title: "Which expert each task's tokens took", RowsName: "task", ColumnsName: "expert", Value: Axis{Label: "share of the tokens", Unit: Percent}, Numbers: true}
	names := []string{"digits", "letters", "shapes", "textures", "signs", "clutter", "terrain", "clocks"}
	h.Rows, h.Columns = names, names
	for i := range names {
		row := make([]float64, len(names))
		for j := range names {
			row[j] = 0.04
			if i == j {
				row[j] = 0.72
			}
		}
		h.Values = append(h.Values, row)
	}
	h.Values[2][3] = math.NaN()
	return h
}

func cosines() *Heatmap {
	h := &Heatmap{Title: "Cosine of the deltas by layer", RowsName: "pair", ColumnsName: "layer", Value: Axis{Label: "cosine"}, Diverging: true}
	for j := range 48 {
		h.Columns = append(h.Columns, fmt.Sprintf("vision_model.encoder.layers.%d.self_attn.q_proj", j))
	}
	for i := range 10 {
		h.Rows = append(h.Rows, fmt.Sprintf("expert-%d and expert-%d", i, i+1))
		row := make([]float64, 48)
		for j := range row {
			row[j] = 0.3 * math.Sin(float64(i*j)/20)
		}
		h.Values = append(h.Values, row)
	}
	return h
}

func panels() *Multiples {
	m := &Multiples{Title: "Cumulative energy by kind of layer"}
	for k, kind := range []string{"q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"} {
		c := &Chart{Title: kind, X: Axis{Label: "rank", Log: true}, Y: Axis{Label: "energy", Unit: Percent}}
		for e := range 4 {
			s := Series{Name: fmt.Sprint("expert ", e), Line: true, Bare: true}
			for r := 1; r <= 128; r *= 2 {
				s.Points = append(s.Points, Point{X: float64(r), Y: 1 - math.Exp(-float64(r)/float64(4*(k+1)+8*e))})
			}
			c.Series = append(c.Series, s)
		}
		m.Panels = append(m.Panels, c)
	}
	return m
}

func heatPanels() *Multiples {
	m := &Multiples{Title: "Routing by layer"}
	for i := range 3 {
		h := routing()
		h.Title, h.Numbers = fmt.Sprint("layer ", i), false
		m.Panels = append(m.Panels, h)
	}
	return m
}

func figures() map[string]Figure {
	return map[string]Figure{
		"tradeoff": tradeoff(), "spectrum": spectrum(), "grouped": grouped(), "stacked": stacked(),
		"routing": routing(), "cosines": cosines(), "panels": panels(), "heatpanels": heatPanels(),
	}
}

func accuracies() *Table {
	t := &Table{Title: "Accuracy", Columns: []Column{{Name: "model"}, {Name: "digits", Unit: Percent}, {Name: "letters", Unit: Percent}, {Name: "mean", Unit: Percent}, {Name: "parameters", Unit: Count}, {Name: "bytes", Unit: Bytes}}}
	t.Groups = []Group{{At: 0, Name: "bounds"}, {At: 2, Name: "fused"}}
	t.Rows = [][]Cell{
		{Text("base"), Num(0.48), Num(0.39), Num(0.435), Num(12.3e6), Num(24.6e6)},
		{Text(hostile), Num(0.991).Within(0.98, 0.995), Num(0.934).Within(0.92, 0.945), Num(0.9625), Num(8 * 12.3e6), Num(8 * 24.6e6)},
		{Text("SMILE rank 32"), Num(0.985).Strong(), Num(0.92), Num(0.9525).Noted("mean of two"), Num(17e6), Num(34e6)},
		{Text("failed"), Num(math.NaN())},
	}
	return t
}

func page() *Page {
	img := image.NewRGBA(image.Rect(0, 0, 28, 28))
	for i := range img.Pix {
		img.Pix[i] = uint8(i * 7)
	}
	var samples []Sample
	for i := range 5 {
		samples = append(samples, Sample{Image: img, Title: fmt.Sprint("digits: a seven ", i), Lines: []Line{
			{Name: "base", Text: "one", Right: Mistaken}, {Name: "SMILE", Text: "seven", Right: Correct, Note: "98 %"}, {Name: "routed to", Text: "digits"},
		}})
	}
	return &Page{
		Title: "Eight experts in one model " + hostile,
		Lead:  "What the fused model keeps of each expert, what it costs, and which expert it asked.",
		Facts: []Fact{{"93.4 %", "mean accuracy of the fused model", "rank 32"}, {"×1.38", "parameters, relative to the base", ""}, {"4.1 s", "to fuse", ""}},
		Sections: []Section{
			{Title: "Overview", Lead: "The table first, then the curve.", Blocks: []Block{
				Grid{"accuracies", accuracies(), "Each number is the share of test images that are classified rightly; ± is the 95 % interval."},
				Plot{"tradeoff", tradeoff(), "Up and to the left is better: more accuracy for fewer parameters."},
			}},
			{Title: "Samples", Blocks: []Block{Gallery{"Samples", "The first images of each test set.", samples}, Prose("To go on: " + hostile), Code("smelt fuse base digits letters -o fused --expert-rank 32")}},
			{Title: "Layers", Blocks: []Block{Plot{"panels", panels(), "Curves that rise early need little rank."}, Plot{"stacked", stacked(), "Each bar is a layer."}, Plot{"spectrum", spectrum(), "Steep lines are compressible."}}},
			{Title: "Pairs", Blocks: []Block{
				Plot{"routing", routing(), "A row is a task; the diagonal is its own expert."},
				Plot{"cosines", cosines(), "Red pairs pull together, blue ones apart."},
				Plot{"heatpanels", heatPanels(), "One panel a layer."},
				Details{"Accuracy by task", []Block{Plot{"grouped", grouped(), "Longer is better."}}},
			}},
		},
		Foot: "smelt, made of fixtures.",
	}
}
