package demo

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"smelt/engine"
	"smelt/eval"
	"smelt/internal/vfs"
	"smelt/report"
)

// write writes the page and results.json.
func (d *demo) write() error {
	d.res.Seconds = time.Since(d.start).Seconds()
	d.res.Page = filepath.Join(d.Out, pageName)
	page, err := d.page()
	if err != nil {
		return err
	}
	files, err := page.Files()
	if err != nil {
		return err
	}
	for _, f := range files {
		path := filepath.Join(d.Out, filepath.FromSlash(f.Path))
		if err := d.fs.MkdirAll(filepath.Dir(path)); err != nil {
			return err
		}
		if err := vfs.WriteFile(d.fs, path, f.Data); err != nil {
			return err
		}
	}
	d.res.Finished = true
	return d.save()
}

// page tells what came out.
func (d *demo) page() (*report.Page, error) {
	r := d.res.Results
	smile, individual, average := row(r, shown().String()), row(r, rowIndividual), row(r, rowAverage)
	samples, err := d.samples()
	if err != nil {
		return nil, err
	}
	n := len(d.full)
	p := &report.Page{
		Title: fmt.Sprintf("%d fine-tunes in one model", n),
		Lead: fmt.Sprintf("A small CLIP and %d fine-tunes of it, each good at one task, were fused into one checkpoint without training, merged in other ways, "+
			"and evaluated. Everything on this page was computed by one run of smelt demo, in %.0f seconds.", n, d.res.Seconds),
		Facts: []report.Fact{
			{Value: percent(mean(smile)), Name: "the fused model", Note: fmt.Sprintf("%s, %.2f × the vision tower", smile.Model, smile.Relative)},
			{Value: percent(mean(individual)), Name: "the fine-tunes, each on its own task", Note: fmt.Sprintf("%.2f × the vision tower together", individual.Relative)},
			{Value: percent(mean(average)), Name: "their average", Note: "1 ×"},
			{Value: percent(mean(row(r, rowBase))), Name: "the base", Note: "1 ×"},
		},
		Sections: []report.Section{
			{
				Title: "How good is each?",
				Blocks: []report.Block{
					report.Grid{
						Name: "accuracy", Table: accuracyTable(r),
						Read: fmt.Sprintf("Accuracy on %d test pictures a task, with 95 %% intervals. Each task is known to the model only by its list of class names. "+
							"SMILE (g,k) routes with rank g and keeps experts of rank k; the rows of a kind are one fused model, cut. × counts the parameters of the vision tower relative to the base's.",
							r.Tasks[0].Examples),
					},
				},
			},
			{
				Title: "What does each size buy?",
				Blocks: []report.Block{report.Plot{
					Name: "tradeoff", Figure: tradeoff(r),
					Read: "Mean accuracy against size. The further up and to the left, the better; the line is what the fine-tunes reach, each on its own task.",
				}},
			},
			{
				Title:  "What does it see?",
				Blocks: samples,
			},
			{
				Title:  "Who answers?",
				Blocks: d.routing(smile),
			},
			{
				Title: "And beyond the fused tasks?",
				Lead:  "The same models on disturbed pictures, and on a task that no fine-tune was trained for.",
				Blocks: []report.Block{
					report.Grid{
						Name: "beyond", Table: d.beyondTable(),
						Read: "Mean accuracy on the fused tasks, on clean pictures and under common corruptions (severity 3 of 5), and accuracy on the held-out task. " +
							"Routing to fine-tunes has a price where none of them is at home: there the base, which nobody changed, can be better.",
					},
				},
			},
			{
				Title: "How was it made?",
				Blocks: []report.Block{
					report.Prose("Each model can be made again with these commands; smelt eval gives the table."),
					report.Code(d.commands()),
					report.Prose("The pool is small on purpose, and its pictures are drawn by a program: it shows how the methods behave, and is no benchmark. " +
						"Task arithmetic's scaling factor was picked on these very tasks, which flatters it; all other settings are defaults."),
				},
			},
			{
				Title:  "What next?",
				Blocks: []report.Block{report.Prose("Look into the fused model, run it, cut it, and then fuse your own:"), report.Code(strings.Join(Next(d.Pool, d.Out), "\n"))},
			},
		},
		Foot: fmt.Sprintf("Made by %s from %s. results.json has all numbers.", d.res.Generator, filepath.ToSlash(d.Pool)),
	}
	return p, nil
}

func (d *demo) commands() string {
	var lines []string
	for _, m := range d.res.Made {
		lines = append(lines, m.Command)
	}
	return strings.Join(append(lines, fmt.Sprintf("smelt eval %s %s --experts %s --ensemble mean --tasks %s",
		d.base, d.model("average"), filepath.Join(d.Pool, "experts"), filepath.Join(d.Pool, "tasks.yaml"))), "\n")
}

// Next are commands to go on with after a demo.
func Next(pool, out string) []string {
	model := filepath.Join(out, "models", "smile")
	return []string{
		"smelt inspect " + model,
		"smelt edit " + model + " --truncate 8 -o " + filepath.Join(out, "models", "smile-8"),
		"smelt eval " + model + " --tasks " + filepath.Join(pool, "tasks.yaml") + " --sweep expert-rank=4,8,16,32",
		"smelt fuse BASE EXPERT... -o OUT --dry-run",
	}
}

func percent(v float64) string { return fmt.Sprintf("%.1f %%", 100*v) }

// accuracyTable is the first table of the page.
func accuracyTable(r *eval.Results) *report.Table {
	t := &report.Table{
		Title: "Accuracy",
		Columns: []report.Column{
			{Name: "model"},
			{Name: "×", Note: "parameters of the vision tower relative to the base's"},
			{Name: "mean", Unit: report.Percent, Note: "over the fused tasks"},
			{Name: "kept", Unit: report.Percent, Note: "of the individual fine-tunes' accuracy, mean over the tasks"},
		},
	}
	order := r.Columns()
	for _, j := range order {
		name := r.Tasks[j].Name
		if r.Tasks[j].HeldOut {
			name += " (held out)"
		}
		t.Columns = append(t.Columns, report.Column{Name: name, Unit: report.Percent})
	}
	best := make([]float64, len(r.Tasks)) // of one model for all tasks
	top := 0.0
	one := func(row *eval.Row) bool { return row.Kind != eval.KindIndividual && row.Kind != eval.KindEnsemble }
	for i := range r.Rows {
		if row := &r.Rows[i]; one(row) {
			top = max(top, mean(row))
			for j, c := range row.Cells {
				best[j] = max(best[j], c.Value)
			}
		}
	}
	lora := false
	for i := range r.Rows {
		row := &r.Rows[i]
		if i == 0 {
			t.Groups = append(t.Groups, report.Group{At: 0, Name: "Full fine-tunes"})
		}
		if strings.HasSuffix(row.Model, suffixLoRA) && !lora {
			lora = true
			t.Groups = append(t.Groups, report.Group{At: i, Name: "LoRA adapters for the same tasks"})
		}
		cells := []report.Cell{report.Text(row.Model), report.Text(fmt.Sprintf("%.2f", row.Relative)), report.Num(mean(row)), {}}
		if one(row) && mean(row) == top {
			cells[2] = cells[2].Strong()
		}
		if row.Normalised != nil {
			cells[3] = report.Num(*row.Normalised)
		}
		for _, j := range order {
			c := row.Cells[j]
			if c == nil {
				cells = append(cells, report.Cell{})
				continue
			}
			x := report.Num(c.Value).Within(c.Low, c.High)
			if one(row) && c.Value == best[j] {
				x = x.Strong()
			}
			cells = append(cells, x)
		}
		t.Rows = append(t.Rows, cells)
	}
	return t
}

// tradeoff is accuracy against size.
func tradeoff(r *eval.Results) *report.Chart {
	c := &report.Chart{
		X: report.Axis{Label: "parameters, relative to the base", Unit: report.Times, Log: true},
		Y: report.Axis{Label: "mean accuracy", Unit: report.Percent},
	}
	line := map[bool]*report.Series{
		false: {Name: "SMILE, full fine-tunes", Line: true},
		true:  {Name: "SMILE, LoRA adapters", Line: true},
	}
	for i := range r.Rows {
		row := &r.Rows[i]
		p := report.Point{X: row.Relative, Y: mean(row), Label: row.Model}
		lora := strings.HasSuffix(row.Model, suffixLoRA)
		switch {
		case row.ExpertRank > 0:
			p.Label = fmt.Sprintf("(%d,%d)", row.RouterRank, row.ExpertRank)
			p.Note = "router rank and expert rank"
			line[lora].Points = append(line[lora].Points, p)
		case lora: // the plain merges of adapters lie beside those of full fine-tunes
		case row.Kind == eval.KindIndividual:
			c.References = append(c.References, report.Reference{Name: "individual fine-tunes, " + fmt.Sprintf("%.0f ×", row.Relative), Value: mean(row)})
		default:
			c.Series = append(c.Series, report.Series{Name: row.Model, Points: []report.Point{p}})
		}
	}
	c.Series = append([]report.Series{*line[false], *line[true]}, c.Series...)
	return c
}

// beyondTable compares clean with disturbed pictures, and with the task that
// nobody was trained for.
func (d *demo) beyondTable() *report.Table {
	t := &report.Table{Title: "Corruptions and a held-out task", Columns: []report.Column{{Name: "model"}, {Name: "clean", Unit: report.Percent}}}
	for _, r := range d.res.Corrupted {
		t.Columns = append(t.Columns, report.Column{Name: strings.TrimSuffix(r.Corrupt, ":3"), Unit: report.Percent})
	}
	held := -1
	for j, task := range d.res.Results.Tasks {
		if task.HeldOut {
			held = j
			t.Columns = append(t.Columns, report.Column{Name: task.Name + ", held out", Unit: report.Percent})
			break
		}
	}
	if len(d.res.Corrupted) == 0 {
		return t
	}
	for _, x := range d.res.Corrupted[0].Rows {
		clean := row(d.res.Results, x.Model)
		cells := []report.Cell{report.Text(x.Model), report.Num(mean(clean))}
		for _, r := range d.res.Corrupted {
			cells = append(cells, report.Num(mean(row(r, x.Model))))
		}
		if held >= 0 && clean.Cells[held] != nil {
			c := clean.Cells[held]
			cells = append(cells, report.Num(c.Value).Within(c.Low, c.High))
		}
		t.Rows = append(t.Rows, cells)
	}
	return t
}

// routing shows which experts the tokens of each task took.
func (d *demo) routing(smile *eval.Row) []report.Block {
	one := *d.res.Results
	one.Rows = []eval.Row{*smile}
	var blocks []report.Block
	if h := engine.RoutingByTask(&one); h != nil {
		h.Title = ""
		blocks = append(blocks, report.Plot{
			Name: "routing", Figure: h,
			Read: fmt.Sprintf("%s: the share of each task's tokens that took each expert, over all layers. A diagonal means that tokens find the fine-tune of their task; no label tells them.", smile.Model),
		})
	}
	if h := engine.RoutingByLayer(&one); h != nil {
		h.Title = ""
		blocks = append(blocks, report.Details{Title: "Layer by layer", Blocks: []report.Block{report.Plot{
			Name: "routing-layers", Figure: h,
			Read: "The share of tokens that took their own task's expert, layer by layer.",
		}}})
	}
	return blocks
}

// Verdict says in a sentence what came out.
func Verdict(res *Result) string {
	r := res.Results
	smile, individual := row(r, shown().String()), row(r, rowIndividual)
	return fmt.Sprintf("One fused model of %.2f × the size reaches %s on average, where the fine-tunes reach %s with %.0f × and their average %s.",
		smile.Relative, percent(mean(smile)), percent(mean(individual)), individual.Relative, percent(mean(row(r, rowAverage))))
}
