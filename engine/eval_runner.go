package engine

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"smelt/checkpoint"
	"smelt/eval"
	"smelt/internal/vfs"
	"smelt/taskvector"
)

// runner is a row of an evaluation: it has an answerer for each task.
type runner interface {
	describe(row *eval.Row)
	// on returns the answerer for a task; nil where the row has none.
	on(t *evalTask) (answerer, error)
	close()
}

func (e *evaluation) runner(m EvalModel) (runner, error) {
	switch {
	case m.Ensemble != nil:
		return e.newEnsemble(m)
	case m.Experts != nil:
		return e.newIndividuals(m)
	case m.Path == "":
		return nil, errors.New("has no path")
	}
	s, err := e.openSubject(m)
	if err != nil {
		return nil, err
	}
	return &single{e, m, s}, nil
}

// ExpertFolder lists a folder of experts, one folder each, by their names.
func ExpertFolder(fsys vfs.FS, dir string) ([]Source, error) {
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var list []Source
	for _, x := range entries {
		path := filepath.Join(dir, x.Name())
		if _, err := fsys.Stat(filepath.Join(path, "config.json")); err == nil || checkpoint.IsAdapter(fsys, path) {
			list = append(list, Source{Name: x.Name(), Path: path})
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s: holds no expert: want a folder with a folder for each, checkpoints or adapters", dir)
	}
	return list, nil
}

// single is one model for all tasks.
type single struct {
	e *evaluation
	m EvalModel
	s *subject
}

func (r *single) describe(row *eval.Row) {
	row.Kind, row.Parameters, row.Bytes = r.s.kind, r.s.parameters, r.s.bytes
	row.ExpertRank, row.RouterRank = r.m.ExpertRank, r.m.RouterRank
	row.Relative = r.e.relative(r.s.parameters, r.s.tower)
}

func (r *single) on(t *evalTask) (answerer, error) { return r.e.answererOf(r.s, t) }
func (r *single) close()                           { r.s.Close() }

// relative returns a size in units of the base's: of the vision tower where
// that alone is evaluated, 0 without a base.
func (e *evaluation) relative(parameters, tower int64) float64 {
	if e.baseline == nil {
		return 0
	}
	images := !slices.ContainsFunc(e.tasks, func(t *evalTask) bool { return t.images == nil })
	if images && e.baseline.tower > 0 {
		return float64(tower) / float64(e.baseline.tower)
	}
	return float64(parameters) / float64(e.baseline.parameters)
}

// individuals is a set of experts, each for its own task.
type individuals struct {
	e       *evaluation
	experts []Source
	row     eval.Row
}

func (e *evaluation) newIndividuals(m EvalModel) (runner, error) {
	r := &individuals{e: e, experts: m.Experts, row: eval.Row{Kind: eval.KindIndividual}}
	if len(m.Experts) == 0 {
		return nil, errors.New("has no experts")
	}
	var tower, shared, sharedBytes, sharedTower int64
	for _, x := range m.Experts {
		s, err := e.openSubject(EvalModel{Name: x.Name, Path: x.Path})
		if err != nil {
			return nil, err
		}
		own, bytes, ownTower := s.parameters, s.bytes, s.tower
		if s.expert != nil { // what they have of the base they have together
			own, bytes = s.expert.Parameters(), s.expert.Parameters()*int64(s.expert.DType.Size())
			ownTower = s.tower
			if s.expert.Kind == taskvector.LoRA {
				ownTower = own
				shared, sharedBytes, sharedTower = e.baseline.parameters, e.baseline.bytes, e.baseline.tower
			} else {
				shared = s.parameters - own
				sharedBytes = s.bytes - bytes
			}
		}
		r.row.Parameters += own
		r.row.Bytes += bytes
		tower += ownTower
		s.Close()
	}
	r.row.Parameters += shared
	r.row.Bytes += sharedBytes
	r.row.Relative = e.relative(r.row.Parameters, tower+sharedTower)
	return r, nil
}

func (r *individuals) describe(row *eval.Row) {
	row.Kind, row.Parameters, row.Bytes, row.Relative = r.row.Kind, r.row.Parameters, r.row.Bytes, r.row.Relative
}

func (r *individuals) on(t *evalTask) (answerer, error) {
	i := slices.IndexFunc(r.experts, func(s Source) bool { return s.Name == t.Expert })
	if i < 0 || t.Expert == "" {
		return nil, nil
	}
	s, err := r.e.openSubject(EvalModel{Name: r.experts[i].Name, Path: r.experts[i].Path})
	if err != nil {
		return nil, err
	}
	a, err := r.e.answererOf(s, t)
	if err != nil {
		s.Close()
		return nil, err
	}
	return owning{a, s}, nil
}

func (r *individuals) close() {}

// owning closes the model of an answerer with it.
type owning struct {
	answerer
	s *subject
}

func (o owning) close() { o.s.Close() }
