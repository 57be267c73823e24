package demo

import (
	"fmt"

	"smelt/eval"
	"smelt/report"
)

// samples are two test pictures of each task, with what the models say: the
// first is one that the base gets wrong and the fused model right, the second
// one that the fused model gets wrong, where there are such.
func (d *demo) samples() ([]report.Block, error) {
	r := d.res.Results
	names := []string{rowBase, rowAverage, rowArithmetic, rowTIES, rowEnsemble, rowIndividual, shown().String()}
	known := report.Gallery{Title: "The fused tasks"}
	held := report.Gallery{Title: "A task that no fine-tune was trained for"}
	var experts []string
	for _, e := range d.full {
		experts = append(experts, e.Name)
	}
	tasks := map[string]eval.Task{}
	for _, t := range d.file.Tasks {
		tasks[t.Name] = t
	}
	base, smile := row(r, rowBase), row(r, shown().String())
	for j, info := range r.Tasks {
		task := tasks[info.Name]
		images, err := eval.OpenImages(d.fs, d.file, &task)
		if err != nil {
			return nil, err
		}
		for _, i := range choose(base.Cells[j], smile.Cells[j]) {
			picture, err := images.Picture(i)
			if err != nil {
				return nil, err
			}
			truth := smile.Cells[j].Truths[i].Class
			s := report.Sample{Image: picture, Title: fmt.Sprintf("%s: %s", info.Name, images.Classes[truth])}
			for _, name := range names {
				x := row(r, name)
				if x == nil || x.Cells[j] == nil {
					continue
				}
				answer := x.Cells[j].Answers[i]
				line := report.Line{Name: name, Text: images.Classes[answer.Class], Right: report.Mistaken}
				if answer.Class == truth {
					line.Right = report.Correct
				}
				s.Lines = append(s.Lines, line)
				if answer.Expert > 0 && answer.Expert <= len(experts) {
					s.Lines = append(s.Lines, report.Line{Name: "routed to", Text: experts[answer.Expert-1], Note: "the expert that most of the picture's tokens took, over all layers"})
				}
			}
			if info.HeldOut {
				held.Items = append(held.Items, s)
			} else {
				known.Items = append(known.Items, s)
			}
		}
	}
	known.Read = "Two pictures of each task: one that the base gets wrong and the fused model right, and one that the fused model gets wrong."
	blocks := []report.Block{known}
	if len(held.Items) > 0 {
		blocks = append(blocks, held)
	}
	return blocks, nil
}

// choose picks two examples of a task.
func choose(base, smile *eval.Cell) (list []int) {
	right := func(c *eval.Cell, i int) bool { return c.Answers[i].Class == c.Truths[i].Class }
	for _, wanted := range []func(i int) bool{
		func(i int) bool { return !right(base, i) && right(smile, i) },
		func(i int) bool { return !right(smile, i) },
	} {
		for i := range smile.Answers {
			if wanted(i) {
				list = append(list, i)
				break
			}
		}
	}
	return list
}
