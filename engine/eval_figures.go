package engine

import (
	"fmt"
	"math"
	"strings"

	"smelt/eval"
	charts "smelt/report"
)

// EvalFigures draws what a run gives figures for: accuracy against size where
// several models have a size and a mean, and the routing of fused models.
func EvalFigures(r *eval.Results) (files []charts.File, err error) {
	add := func(name string, f charts.Figure) {
		if err != nil {
			return
		}
		var made []charts.File
		made, err = charts.Files(name, f)
		files = append(files, made...)
	}
	if c := Tradeoff(r); c != nil {
		add("tradeoff", c)
	}
	if h := RoutingByTask(r); h != nil {
		add("routing", h)
	}
	if h := RoutingByLayer(r); h != nil {
		add("routing-layers", h)
	}
	return files, err
}

// Tradeoff is the mean accuracy against the size, one series a router rank of
// a sweep; nil with fewer than two sizes.
func Tradeoff(r *eval.Results) *charts.Chart {
	c := &charts.Chart{
		Title: "What each size buys",
		X:     charts.Axis{Label: "parameters, relative to the base", Unit: charts.Times, Log: true},
		Y:     charts.Axis{Label: "mean", Unit: charts.Percent},
	}
	sweep := map[int]int{} // router rank to series
	sizes := map[float64]bool{}
	for i := range r.Rows {
		row := &r.Rows[i]
		if row.Mean == nil || row.Relative == 0 || eval.LowerIsBetter(r.Tasks[0].Metric) {
			continue
		}
		sizes[row.Relative] = true
		low, high := meanInterval(r, row)
		p := charts.Point{X: row.Relative, Y: *row.Mean, Low: low, High: high, Label: row.Model}
		if row.ExpertRank == 0 {
			c.Series = append(c.Series, charts.Series{Name: row.Model, Points: []charts.Point{p}})
			if row.Kind == eval.KindIndividual {
				c.References = append(c.References, charts.Reference{Name: row.Model, Value: *row.Mean})
			}
			continue
		}
		p.Label = fmt.Sprintf("rank %d", row.ExpertRank)
		at, ok := sweep[row.RouterRank]
		if !ok {
			at = len(c.Series)
			sweep[row.RouterRank] = at
			c.Series = append(c.Series, charts.Series{Name: fmt.Sprintf("SMILE, router rank %d", row.RouterRank), Line: true})
		}
		c.Series[at].Points = append(c.Series[at].Points, p)
	}
	if len(sizes) < 2 {
		return nil
	}
	return c
}

// meanInterval is the 95 % interval of a mean over tasks, their errors taken
// as independent.
func meanInterval(r *eval.Results, row *eval.Row) (low, high float64) {
	down, up, n := 0.0, 0.0, 0
	for j, t := range r.Tasks {
		if c := row.Cells[j]; c != nil && !t.HeldOut {
			down += (c.Value - c.Low) * (c.Value - c.Low)
			up += (c.High - c.Value) * (c.High - c.Value)
			n++
		}
	}
	return *row.Mean - math.Sqrt(down)/float64(n), *row.Mean + math.Sqrt(up)/float64(n)
}

// routed returns the last fused row with routing: of a sweep, the largest.
func routed(r *eval.Results) *eval.Row {
	for i := len(r.Rows) - 1; i >= 0; i-- {
		for _, c := range r.Rows[i].Cells {
			if c != nil && c.Routing != nil {
				return &r.Rows[i]
			}
		}
	}
	return nil
}

// RoutingByTask is the share of each task's tokens that took each expert, over
// all layers; nil where no model routes.
func RoutingByTask(r *eval.Results) *charts.Heatmap {
	row := routed(r)
	if row == nil {
		return nil
	}
	h := &charts.Heatmap{
		Title: "Experts that the tokens of each task took, " + row.Model, RowsName: "task", ColumnsName: "expert",
		Value: charts.Axis{Label: "share of tokens", Unit: charts.Percent, Min: 0, Max: 1}, Numbers: true,
	}
	for _, j := range r.Columns() {
		c := row.Cells[j]
		if c == nil || c.Routing == nil {
			continue
		}
		h.Columns = c.Routing.Experts
		h.Rows = append(h.Rows, r.Tasks[j].Name)
		shares := make([]float64, len(h.Columns))
		for e, name := range h.Columns {
			shares[e], _ = c.Routing.Share(name)
		}
		h.Values = append(h.Values, shares)
	}
	return h
}

// RoutingByLayer is, for each module and task with an expert of its own, the
// share of tokens that took that expert; nil where no model routes.
func RoutingByLayer(r *eval.Results) *charts.Heatmap {
	row := routed(r)
	if row == nil {
		return nil
	}
	h := &charts.Heatmap{
		Title: "Tokens that took their task's own expert, " + row.Model, RowsName: "layer", ColumnsName: "task",
		Value: charts.Axis{Label: "share of tokens", Unit: charts.Percent, Min: 0, Max: 1},
	}
	at := map[string]int{}
	for j, t := range r.Tasks {
		c := row.Cells[j]
		if c == nil || c.Routed == nil {
			continue
		}
		h.Columns = append(h.Columns, t.Name)
		for i, module := range c.Routing.Modules {
			k, ok := at[module]
			if !ok {
				k = len(h.Rows)
				at[module] = k
				h.Rows = append(h.Rows, shorter(module))
				h.Values = append(h.Values, nil)
			}
			for len(h.Values[k]) < len(h.Columns)-1 {
				h.Values[k] = append(h.Values[k], math.NaN())
			}
			h.Values[k] = append(h.Values[k], c.Routing.ModuleShare(i, t.Expert))
		}
	}
	for k := range h.Values {
		for len(h.Values[k]) < len(h.Columns) {
			h.Values[k] = append(h.Values[k], math.NaN())
		}
	}
	if len(h.Columns) == 0 {
		return nil
	}
	return h
}

// shorter leaves out of a module's name what all have.
func shorter(module string) string {
	return strings.NewReplacer("vision_model.", "", "encoder.layers.", "", "model.layers.", "", "self_attn.", "", "mlp.", "").Replace(module)
}
