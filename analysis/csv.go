package analysis

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"strconv"
)

// File is a file of a report's folder.
type File struct {
	Name string
	Data []byte
}

// Files are analysis.json and the tables as CSV. Shares and figures are written
// in full; a figure that does not exist is empty.
func (r *Report) Files() ([]File, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	files := []File{{"analysis.json", append(text, '\n')}}
	for _, t := range []struct {
		name string
		head []string
		rows func(w *table)
	}{
		{"layers.csv", []string{
			"layer", "kind", "tower", "depth", "out", "in", "expert", "energy", "relative", "share", "bias",
			"zone_I", "zone_II", "zone_III", "zone_II_III", "cross", "left_I", "left_II", "left_III", "right_I", "right_II", "right_III",
			"effective_rank", "stable_rank", "numerical_rank", "rank_90", "rank_95", "rank_99", "complete",
		}, r.layerRows},
		{"spectra.csv", []string{"layer", "expert", "rank", "sigma", "cumulative"}, r.spectrumRows},
		{"pairs.csv", []string{
			"layer", "a", "b", "cosine", "sign_conflict", "left_overlap", "right_overlap", "left_baseline", "right_baseline",
		}, r.pairRows},
		{"losses.csv", []string{"layer", "expert", "average", "task_arithmetic", "best_scaling", "best", "smile"}, r.lossRows},
		{"confusion.csv", []string{"layer", "expert", "at_best", "signal", "taken_for", "share_of_astray"}, r.confusionRows},
		{"others.csv", []string{"tensor", "kind", "expert", "energy", "share", "relative"}, r.otherRows},
		{"ranks.csv", []string{"budget", "layer", "expert", "rank"}, r.rankRows},
	} {
		var b bytes.Buffer
		w := &table{w: csv.NewWriter(&b)}
		w.write(t.head)
		t.rows(w)
		w.w.Flush()
		if err := w.w.Error(); err != nil {
			return nil, err
		}
		files = append(files, File{t.name, b.Bytes()})
	}
	return files, nil
}

// table writes CSV; an error stays with the writer.
type table struct{ w *csv.Writer }

func (t *table) write(cells []string) { _ = t.w.Write(cells) }

func (t *table) row(cells ...any) {
	out := make([]string, len(cells))
	for i, c := range cells {
		switch v := c.(type) {
		case string:
			out[i] = v
		case int:
			out[i] = strconv.Itoa(v)
		case bool:
			out[i] = strconv.FormatBool(v)
		case float64:
			out[i] = strconv.FormatFloat(v, 'g', -1, 64)
		case Figure:
			if v.Known() {
				out[i] = strconv.FormatFloat(float64(v), 'g', -1, 64)
			}
		}
	}
	t.write(out)
}

func (r *Report) layerRows(t *table) {
	for _, l := range r.Layers {
		for i, d := range l.Experts {
			if d == nil {
				continue
			}
			z := d.Zones
			t.row(l.Name, l.Kind, l.Tower, l.Depth, l.Out, l.In, r.Experts[i].Name, d.Energy, d.Relative, d.Share, d.Bias,
				z.I, z.II, z.III, z.IIIII, z.Cross, z.Left[0], z.Left[1], z.Left[2], z.Right[0], z.Right[1], z.Right[2],
				d.EffectiveRank, d.StableRank, d.NumericalRank, d.Rank90, d.Rank95, d.Rank99, d.Complete)
		}
	}
}

func (r *Report) spectrumRows(t *table) {
	for _, l := range r.Layers {
		for i, d := range l.Experts {
			if d == nil {
				continue
			}
			for k := range d.Sigma {
				t.row(l.Name, r.Experts[i].Name, l.Ranks[k], d.Sigma[k], d.Cumulative[k])
			}
		}
	}
}

func (r *Report) pairRows(t *table) {
	for _, p := range r.Pairs {
		t.row("", r.Experts[p.A].Name, r.Experts[p.B].Name, p.Cosine, p.SignConflict, p.LeftOverlap, p.RightOverlap, p.LeftBaseline, p.RightBaseline)
	}
	for _, l := range r.Layers {
		for k, p := range l.Pairs {
			if p != nil {
				a, b := r.PairNames[k][0], r.PairNames[k][1]
				t.row(l.Name, r.Experts[a].Name, r.Experts[b].Name, p.Cosine, p.SignConflict, p.LeftOverlap, p.RightOverlap, l.Baseline.Left, l.Baseline.Right)
			}
		}
	}
}

func (r *Report) lossRows(t *table) {
	rows := func(name string, losses []Loss) {
		for i, x := range losses {
			t.row(name, r.Experts[i].Name, x.Average, x.TaskArithmetic, x.BestScaling, x.Best, x.SMILE)
		}
	}
	rows("", r.Losses)
	for _, l := range r.Layers {
		rows(l.Name, l.Losses)
	}
}

func (r *Report) confusionRows(t *table) {
	rows := func(name string, f *RouterForecast) {
		if f == nil {
			return
		}
		for i, row := range f.Astray {
			for j, v := range row {
				if v.Known() {
					t.row(name, r.Experts[i].Name, f.AtBest[i], f.Signal[i], r.Experts[j].Name, v)
				}
			}
		}
	}
	rows("", r.Confusion)
	for _, l := range r.Layers {
		rows(l.Name, l.Confusion)
	}
}

func (r *Report) otherRows(t *table) {
	for _, o := range r.Others {
		for i, e := range o.Energy {
			t.row(o.Name, o.Kind, r.Experts[i].Name, e, o.Share[i], o.Relative[i])
		}
	}
}

func (r *Report) rankRows(t *table) {
	for _, b := range r.Advice.Budgets {
		for k, ranks := range b.Ranks {
			for i, rank := range ranks {
				if rank != -1 {
					t.row(b.Budget, r.Layers[k].Name, r.Experts[i].Name, rank)
				}
			}
		}
	}
}
