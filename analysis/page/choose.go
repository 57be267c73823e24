package page

import (
	"fmt"
	"math"

	"smelt/report"
)

// shown is how many rows a table without end has.
const shown = 25

// choose is the section of advice with its figures.
func (v *view) choose() report.Section {
	s := report.Section{Title: "What to choose", Lead: "Energy is not accuracy: it says what is kept of the weights. Measure on the tasks with smelt eval before deciding."}
	if len(v.Advice.Budgets) > 0 {
		s.Blocks = append(s.Blocks, report.Grid{Name: "budget-table", Table: v.budgetTable(), Read: "For each size: the share of every expert's change that ranks chosen by smelt fuse --budget keep, beside the largest single rank that fits."})
	}
	if len(v.Advice.Copies) > 0 {
		t := &report.Table{Title: "Near copies", Columns: []report.Column{{Name: "expert"}, {Name: "and"}, {Name: "cosine"}, {Name: "distance", Unit: report.Percent}, {Name: ""}}}
		read := "Experts that are nearly one: a router cannot tell them apart, and need not. Distance is relative to the larger change."
		copies := v.Advice.Copies
		if n := len(copies); n > shown {
			copies = copies[:shown]
			read += fmt.Sprintf(" The first %d of %d; analysis.json has all.", shown, n)
		}
		for _, c := range copies {
			same := ""
			if c.Equal {
				same = "equal"
			}
			t.Rows = append(t.Rows, []report.Cell{report.Text(v.names[c.A]), report.Text(v.names[c.B]), report.Num(c.Cosine), report.Num(c.Distance), report.Text(same)})
		}
		s.Blocks = append(s.Blocks, report.Grid{Name: "copies", Table: t, Read: read})
	}
	if len(v.Advice.LeaveOut) > 0 {
		t := &report.Table{Title: "Layers that could stay the base's", Columns: []report.Column{{Name: "layer"}, {Name: "largest share", Unit: report.Percent}, {Name: "together", Unit: report.Percent}, {Name: "parameters saved", Unit: report.Count}}}
		for _, l := range v.Advice.LeaveOut {
			t.Rows = append(t.Rows, []report.Cell{report.Text(l.Layer), report.Num(l.Share), report.Num(l.Together), report.Num(float64(l.Parameters))})
		}
		s.Blocks = append(s.Blocks, report.Grid{Name: "leave-out", Table: t, Read: fmt.Sprintf("With smelt fuse --exclude: no expert has more than %s of its change in all of these together.", report.Percent.Format(v.Advice.LeaveOutShare))})
	}
	s.Blocks = append(s.Blocks, v.others()...)
	if a := v.Advice.Subspace; a != nil {
		s.Blocks = append(s.Blocks, report.Prose("A further fine-tune: "+a.Why))
		if a.Choice != "" {
			s.Blocks = append(s.Blocks, report.Code("smelt adapter-init BASE -o ADAPTER --subspace "+a.Choice))
		}
	}
	return s
}

func (v *view) budgetTable() *report.Table {
	t := &report.Table{Title: "Budgets", Columns: []report.Column{{Name: "budget"}, {Name: "reached", Unit: report.Times}, {Name: "kept, mean", Unit: report.Percent}, {Name: "one rank"}, {Name: "keeps", Unit: report.Percent}}}
	each := len(v.names) <= many
	if each {
		for _, name := range v.names {
			t.Columns = append(t.Columns, report.Column{Name: name, Unit: report.Percent})
		}
	}
	for _, b := range v.Advice.Budgets {
		if !b.Feasible {
			t.Rows = append(t.Rows, []report.Cell{report.Text(report.Times.Format(b.Budget)), report.Num(math.NaN()).Noted("the routers alone take more")})
			continue
		}
		rank := report.Num(math.NaN())
		if b.Uniform > 0 {
			rank = report.Num(float64(b.Uniform))
		}
		row := []report.Cell{report.Text(report.Times.Format(b.Budget)), report.Num(b.Ratio), report.Num(b.Mean).Strong(), rank, report.Num(b.UniformMean)}
		for i := range v.names {
			if each && i < len(b.Energy) {
				row = append(row, num(b.Energy[i]))
			}
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// others are the changes that a fusion keeps for no expert.
func (v *view) others() []report.Block {
	if len(v.Others) == 0 {
		return nil
	}
	t := &report.Table{Title: "Changes that no fusion keeps", Columns: []report.Column{{Name: "tensor"}, {Name: "kind"}, {Name: "largest share", Unit: report.Percent, Note: "of all that an expert changed"}, {Name: "size", Unit: report.Percent, Note: "largest ‖Δ‖ relative to the base's tensor"}, {Name: "note"}}}
	for _, o := range v.Others {
		if o.Fused {
			continue
		}
		var share, size mean
		for i := range o.Share {
			share.add(o.Share[i])
			size.add(float64(o.Relative[i]))
		}
		largest := math.NaN()
		if size.n > 0 {
			largest = size.high
		}
		t.Rows = append(t.Rows, []report.Cell{report.Text(o.Name), report.Text(o.Kind), report.Num(share.high), report.Num(largest), report.Text(o.Note)})
	}
	if len(t.Rows) == 0 {
		return []report.Block{report.Prose("All that changed outside the weights of linear layers are their biases, which a fusion keeps by expert.")}
	}
	read := "Tensors that are no linear layer, largest share first: they stay the base's, or are averaged with --others average."
	if n := len(t.Rows); n > shown {
		t.Rows = t.Rows[:shown]
		read += fmt.Sprintf(" The first %d of %d; others.csv has all.", shown, n)
	}
	return []report.Block{report.Grid{Name: "others-table", Table: t, Read: read}}
}
