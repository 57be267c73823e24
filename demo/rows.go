package demo

import (
	"fmt"
	"slices"

	"smelt/engine"
	"smelt/eval"
	"smelt/merge"
)

// Names of rows that the page speaks of.
const (
	rowBase       = "base"
	rowIndividual = "individual"
	rowAverage    = "simple average"
	rowArithmetic = "task arithmetic"
	rowTIES       = "TIES"
	rowEnsemble   = "ensemble"
	suffixLoRA    = ", LoRA"
)

// merges are the plain merges of the demo.
var merges = []merging{
	{name: "average", title: rowAverage, opt: engine.MergeOptions{Method: "simple_average"}},
	{
		name: "task-arithmetic", title: rowArithmetic, flags: "--scaling-factor 0.2",
		opt: engine.MergeOptions{Method: "task_arithmetic", Settings: merge.Settings{Values: map[string]float64{merge.ScalingFactor: 0.2}}},
	},
	{name: "ties", title: rowTIES, opt: engine.MergeOptions{Method: "ties"}},
	{name: "average-lora", title: rowAverage + suffixLoRA, lora: true, opt: engine.MergeOptions{Method: "simple_average"}},
}

// models are the rows of the first table.
func (d *demo) models() []engine.EvalModel {
	list := []engine.EvalModel{
		{Name: rowBase, Path: d.base},
		{Name: rowIndividual, Experts: d.full},
	}
	add := func(lora bool) {
		for _, m := range merges {
			if m.lora == lora {
				list = append(list, engine.EvalModel{Name: m.title, Path: d.model(m.name)})
			}
		}
	}
	add(false)
	list = append(list, engine.EvalModel{Name: rowEnsemble, Ensemble: &engine.Ensemble{Method: "mean", Members: d.full}})
	list = append(list, d.cuts("smile", fullRanks, "")...)
	list = append(list, engine.EvalModel{Name: rowIndividual + suffixLoRA, Experts: d.lora})
	add(true)
	return append(list, d.cuts("smile-lora", loraRanks, suffixLoRA)...)
}

// cuts are the rows of one fused model at several ranks.
func (d *demo) cuts(name string, ranks []rank, suffix string) (list []engine.EvalModel) {
	for _, r := range ranks {
		list = append(list, engine.EvalModel{Name: r.String() + suffix, Path: d.model(name), ExpertRank: r.expert, RouterRank: r.router})
	}
	return list
}

// shown is the fused model that the page shows in detail.
func shown() rank { return fullRanks[2] }

// corruptions that the second table shows.
var corruptions = []eval.Corruption{{Kind: "noise", Severity: 3}, {Kind: "blur", Severity: 3}, {Kind: "contrast", Severity: 3}}

// evaluate fills the tables.
func (d *demo) evaluate() error {
	opt := engine.EvalOptions{Base: d.base, Limit: d.Limit, Workers: d.Workers, OnCell: d.watch.Cell, OnRow: d.watch.Row}
	models := d.models()
	d.say("")
	d.say("accuracy in %%, size (×) as parameters of the vision tower relative to the base's:")
	var err error
	if d.res.Results, err = engine.Evaluate(d.ctx, d.fs, d.file, models, opt, d.watch.Measured); err != nil {
		return err
	}
	d.say("")
	robust := slices.DeleteFunc(models, func(m engine.EvalModel) bool {
		return !slices.Contains([]string{rowBase, rowIndividual, rowAverage, rowArithmetic, rowTIES, shown().String()}, m.Name)
	})
	opt.OnCell, opt.OnRow = nil, nil
	for _, c := range corruptions {
		opt.Corrupt = c
		r, err := engine.Evaluate(d.ctx, d.fs, d.file, robust, opt, d.watch.Measured)
		if err != nil {
			return err
		}
		d.res.Corrupted = append(d.res.Corrupted, r)
		s := ""
		for _, row := range r.Rows {
			s += fmt.Sprintf("%s %.1f  ", row.Model, 100*mean(&row))
		}
		d.say("with %s: %s", c.Kind, s)
	}
	return nil
}

// mean is a row's mean over the tasks that are not held out.
func mean(row *eval.Row) float64 {
	if row == nil || row.Mean == nil {
		return 0
	}
	return *row.Mean
}

// row finds a row by name; nil where there is none.
func row(r *eval.Results, name string) *eval.Row {
	for i := range r.Rows {
		if r.Rows[i].Model == name {
			return &r.Rows[i]
		}
	}
	return nil
}
