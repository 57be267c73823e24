package eval

import (
	"encoding/csv"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Percent reports whether a metric is a share, shown in per cent.
func Percent(metric string) bool { return !LowerIsBetter(metric) }

// Format writes a value of a metric: 97.5, or a perplexity with three digits.
func Format(v float64, metric string) string {
	if Percent(metric) {
		return strconv.FormatFloat(100*v, 'f', 1, 64)
	}
	if v < 100 {
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}

// Columns returns the tasks' indices as tables show them: those that are held
// out come last.
func (r *Results) Columns() (order []int) {
	for _, held := range []bool{false, true} {
		for i, t := range r.Tasks {
			if t.HeldOut == held {
				order = append(order, i)
			}
		}
	}
	return order
}

// Header returns the heads of a table's columns.
func (r *Results) Header() []string {
	list := []string{"model", "×"}
	held := false
	for _, i := range r.Columns() {
		t := r.Tasks[i]
		if t.HeldOut && !held {
			held = true
			list = append(list, "mean", "norm.")
		}
		if t.HeldOut {
			list = append(list, t.Name+" (held out)")
		} else {
			list = append(list, t.Name)
		}
	}
	if !held {
		list = append(list, "mean", "norm.")
	}
	return list
}

// Line returns the cells of a row as Header heads them; what is not there is
// "".
func (r *Results) Line(row *Row) []string {
	list := []string{row.Model, ""}
	if row.Relative > 0 {
		list[1] = strconv.FormatFloat(row.Relative, 'f', 2, 64)
	}
	mean := func() {
		m, n := "", ""
		if row.Mean != nil {
			m = Format(*row.Mean, r.metric())
		}
		if row.Normalised != nil {
			n = Format(*row.Normalised, Accuracy)
		}
		list = append(list, m, n)
	}
	held := false
	for _, i := range r.Columns() {
		if r.Tasks[i].HeldOut && !held {
			held = true
			mean()
		}
		text := ""
		if c := row.Cells[i]; c != nil {
			text = Format(c.Value, r.Tasks[i].Metric)
		}
		list = append(list, text)
	}
	if !held {
		mean()
	}
	return list
}

// metric is that of the tasks that make up the mean.
func (r *Results) metric() string {
	for _, t := range r.Tasks {
		if !t.HeldOut {
			return t.Metric
		}
	}
	return ""
}

// Interval returns the smallest and the largest half width of the 95 %
// confidence intervals, in per cent, of cells that are shares.
func (r *Results) Interval() (low, high float64) {
	low = math.Inf(1)
	for _, row := range r.Rows {
		for j, c := range row.Cells {
			if c != nil && Percent(r.Tasks[j].Metric) {
				half := 50 * (c.High - c.Low)
				low, high = min(low, half), max(high, half)
			}
		}
	}
	return low, high
}

// Markdown returns the table.
func (r *Results) Markdown() string {
	var b strings.Builder
	line := func(cells []string) {
		for i, c := range cells {
			cells[i] = strings.ReplaceAll(c, "|", `\|`)
		}
		b.WriteString("| " + strings.Join(cells, " | ") + " |\n")
	}
	head := r.Header()
	line(head)
	b.WriteString(strings.Repeat("|---", len(head)) + "|\n")
	for i := range r.Rows {
		line(r.Line(&r.Rows[i]))
	}
	return b.String()
}

// CSV returns one line for each model and task, the intervals included.
func (r *Results) CSV() string {
	var b strings.Builder
	w := csv.NewWriter(&b)
	number := func(v float64) string { return strconv.FormatFloat(v, 'g', 10, 64) }
	_ = w.Write([]string{
		"model", "kind", "task", "metric", "held_out", "value", "low", "high", "examples", "normalised",
		"parameters", "bytes", "relative", "expert_rank", "router_rank", "routed",
	})
	for i := range r.Rows {
		row := &r.Rows[i]
		for j, c := range row.Cells {
			if c == nil {
				continue
			}
			t := r.Tasks[j]
			optional := func(v *float64) string {
				if v == nil {
					return ""
				}
				return number(*v)
			}
			_ = w.Write([]string{
				row.Model, row.Kind, t.Name, t.Metric, fmt.Sprint(t.HeldOut), number(c.Value), number(c.Low), number(c.High),
				strconv.Itoa(c.N), optional(c.Normalised), strconv.FormatInt(row.Parameters, 10), strconv.FormatInt(row.Bytes, 10),
				number(row.Relative), strconv.Itoa(row.ExpertRank), strconv.Itoa(row.RouterRank), optional(c.Routed),
			})
		}
	}
	w.Flush()
	return b.String()
}
