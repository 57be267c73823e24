package eval

import (
	"math"
)

// Results is a table: models by tasks.
type Results struct {
	Version int        `json:"version"`
	Pool    string     `json:"pool,omitempty"`
	Corrupt string     `json:"corruption,omitempty"` // of the whole run
	Tasks   []TaskInfo `json:"tasks"`
	Rows    []Row      `json:"rows"`
}

// TaskInfo describes a column.
type TaskInfo struct {
	Name     string `json:"name"`
	Type     string `json:"type"`
	Metric   string `json:"metric"`
	Expert   string `json:"expert,omitempty"`
	HeldOut  bool   `json:"held_out,omitempty"`
	Examples int    `json:"examples"`
}

// Kinds of rows.
const (
	KindDense      = "dense"
	KindFused      = "fused"
	KindExpert     = "expert"     // an adapter or a part of a model, on the base
	KindIndividual = "individual" // each task by its own expert
	KindEnsemble   = "ensemble"
)

// Row is a model.
type Row struct {
	Model      string   `json:"model"`
	Kind       string   `json:"kind"`
	Path       string   `json:"path,omitempty"`
	Parameters int64    `json:"parameters"`         // of the whole model; of all members of a set
	Bytes      int64    `json:"bytes"`              // as stored
	Relative   float64  `json:"relative,omitempty"` // parameters of the part that the tasks run, relative to the base's
	ExpertRank int      `json:"expert_rank,omitempty"`
	RouterRank int      `json:"router_rank,omitempty"`
	Cells      []*Cell  `json:"cells"`                // one a task; nil where the model has no expert for it
	Mean       *float64 `json:"mean,omitempty"`       // over the tasks that are not held out, where all are measured alike
	Normalised *float64 `json:"normalised,omitempty"` // mean of the cells' normalised values
}

// Cell is a model on a task.
type Cell struct {
	Score
	Normalised *float64 `json:"normalised,omitempty"` // relative to the individual expert
	Seconds    float64  `json:"seconds"`              // of computing, 0 where all was cached
	Cached     int      `json:"cached"`               // examples that were answered before
	Routing    *Routing `json:"routing,omitempty"`
	Routed     *float64 `json:"routed,omitempty"` // share of tokens that took the task's own expert

	Answers []Answer `json:"-"`
	Truths  []Truth  `json:"-"`
}

// Summarise fills in what follows from the cells: normalised values, relative
// to the first row of individual experts, and means. A model's mean is
// over the tasks that are not held out and that it has a cell for, if all have
// one and one metric.
func (r *Results) Summarise() {
	var individual *Row
	for i := range r.Rows {
		if r.Rows[i].Kind == KindIndividual {
			individual = &r.Rows[i]
			break
		}
	}
	metric, alike := "", true
	for _, t := range r.Tasks {
		if t.HeldOut {
			continue
		}
		alike = alike && (metric == "" || metric == t.Metric)
		metric = t.Metric
	}
	for i := range r.Rows {
		row := &r.Rows[i]
		if individual != nil {
			for j, c := range row.Cells {
				if own := individual.Cells[j]; c != nil && own != nil {
					c.Normalised = normalised(c.Value, own.Value, r.Tasks[j].Metric)
				}
			}
		}
		if alike {
			row.Mean = r.mean(row, func(c *Cell) *float64 { return &c.Value })
		}
		row.Normalised = r.mean(row, func(c *Cell) *float64 { return c.Normalised })
	}
}

// normalised is value/own, or own/value where less is better; nil where that
// is no number.
func normalised(value, own float64, metric string) *float64 {
	if LowerIsBetter(metric) {
		value, own = own, value
	}
	v := value / own
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}

// mean is over the tasks that are not held out; nil unless all have a value.
func (r *Results) mean(row *Row, of func(*Cell) *float64) *float64 {
	sum, n := 0.0, 0
	for j, t := range r.Tasks {
		if t.HeldOut {
			continue
		}
		if j >= len(row.Cells) || row.Cells[j] == nil {
			return nil
		}
		v := of(row.Cells[j])
		if v == nil {
			return nil
		}
		sum += *v
		n++
	}
	if n == 0 {
		return nil
	}
	sum /= float64(n)
	return &sum
}
