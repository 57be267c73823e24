package engine

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"smelt/eval"
	"smelt/internal/parallel"
	"smelt/internal/vfs"
	"smelt/nn"
)

// EvalModel is a row of an evaluation: one model, or for each task its own
// expert, or an ensemble.
type EvalModel struct {
	Name string
	Path string // a checkpoint, dense or fused, or an adapter or a part of a model on the base

	Experts  []Source  // for each task the expert that it names, in place of Path
	Ensemble *Ensemble // in place of Path

	// A fused model is cut to these ranks, without being fused again; 0 leaves
	// what is stored.
	ExpertRank, RouterRank int
}

// EvalOptions says how to evaluate.
type EvalOptions struct {
	Base    string          // of adapters and parts of models; "" is the task file's
	Tasks   []string        // the tasks to run; none means all
	Limit   int             // of examples a task; 0 means all
	Corrupt eval.Corruption // of the images of all tasks
	Cache   eval.Cache
	Workers int

	// OnCell, where set, is called when a model has done a task: the results so
	// far, and which row and column are new. Rows without cells are to come.
	OnCell func(r *eval.Results, row, task int)
	OnRow  func(r *eval.Results, row int) // when a model has done all
}

// evaluation is an evaluation under way.
type evaluation struct {
	fs       vfs.FS
	file     *eval.File
	base     string
	opt      EvalOptions
	tasks    []*evalTask
	passes   []*nn.Pass
	images   pixelCache
	heads    map[string]head
	progress Progress
	baseline *subject // the base, nil without
}

// evalTask is a task with its data.
type evalTask struct {
	eval.Task
	images *eval.Images
	texts  *eval.Texts
	truths []eval.Truth
	key    string // of the data
}

// Evaluate runs models on the tasks of a file. Progress is told in examples.
func Evaluate(ctx context.Context, fsys vfs.FS, file *eval.File, models []EvalModel, opt EvalOptions, progress Progress) (*eval.Results, error) {
	e := &evaluation{fs: fsys, file: file, opt: opt, base: opt.Base, heads: map[string]head{}, progress: progress}
	if e.base == "" && file.Base != "" {
		e.base = file.Resolve(file.Base)
	}
	for range parallel.Workers(opt.Workers) {
		// Exact: the figures are the same on every CPU, within rounding.
		e.passes = append(e.passes, &nn.Pass{Workers: 1, Exact: true})
	}
	if err := e.checkModels(models); err != nil {
		return nil, err
	}
	if err := e.openTasks(); err != nil {
		return nil, err
	}
	r := &eval.Results{Version: eval.FormatVersion, Pool: file.Pool, Corrupt: opt.Corrupt.String()}
	for _, t := range e.tasks {
		r.Tasks = append(r.Tasks, eval.TaskInfo{Name: t.Name, Type: t.Type, Metric: t.Metric, Expert: t.Expert, HeldOut: t.HeldOut, Examples: len(t.truths)})
	}
	for _, m := range models {
		r.Rows = append(r.Rows, eval.Row{Model: m.Name, Path: m.Path, Cells: make([]*eval.Cell, len(e.tasks))})
	}
	if e.base != "" {
		var err error
		if e.baseline, err = e.openSubject(EvalModel{Path: e.base}); err != nil {
			return nil, fmt.Errorf("base: %w", err)
		}
		defer e.baseline.Close()
	}
	examples := 0
	for _, t := range e.tasks {
		examples += len(t.truths)
	}
	progress.start("evaluate", int64(examples*len(models)))
	defer progress.done()
	for i, m := range models {
		if err := e.row(ctx, m, r, i); err != nil {
			return r, fmt.Errorf("model %s: %w", m.Name, err)
		}
	}
	return r, nil
}

// checkModels looks at what can be told before anything is computed.
func (e *evaluation) checkModels(models []EvalModel) error {
	if len(models) == 0 {
		return errors.New("no models: name at least one checkpoint, adapter or folder of experts")
	}
	seen := map[string]bool{}
	for _, m := range models {
		if err := checkName(m.Name); err != nil {
			return fmt.Errorf("model: %w", err)
		}
		if seen[m.Name] {
			return fmt.Errorf("two models are called %q: name them apart, name=path", m.Name)
		}
		seen[m.Name] = true
	}
	return nil
}

// openTasks opens the data of all tasks, so that what is wrong with it shows
// at once.
func (e *evaluation) openTasks() error {
	for _, name := range e.opt.Tasks {
		if !slices.ContainsFunc(e.file.Tasks, func(t eval.Task) bool { return t.Name == name }) {
			var have []string
			for _, t := range e.file.Tasks {
				have = append(have, t.Name)
			}
			return fmt.Errorf("%s: has no task %q: it has %s", e.file.Path, name, strings.Join(have, ", "))
		}
	}
	for _, t := range e.file.Tasks {
		if len(e.opt.Tasks) > 0 && !slices.Contains(e.opt.Tasks, t.Name) {
			continue
		}
		if e.opt.Limit > 0 && (t.Limit == 0 || t.Limit > e.opt.Limit) {
			t.Limit = e.opt.Limit
		}
		if e.opt.Corrupt.Kind != "" && t.Type == eval.ImageClassification {
			t.Corrupt = e.opt.Corrupt
		}
		x := &evalTask{Task: t}
		var err error
		if t.Type == eval.ImageClassification {
			if x.images, err = eval.OpenImages(e.fs, e.file, &t); err == nil {
				x.truths, x.key = x.images.Truths, x.images.Key
			}
		} else {
			if x.texts, err = eval.OpenTexts(e.fs, e.file, &t); err == nil {
				x.truths, x.key = x.texts.Truths, x.texts.Key
			}
		}
		if err != nil {
			return err
		}
		e.tasks = append(e.tasks, x)
	}
	return nil
}

// row evaluates one model on all tasks.
func (e *evaluation) row(ctx context.Context, m EvalModel, r *eval.Results, i int) error {
	row := &r.Rows[i]
	runner, err := e.runner(m)
	if err != nil {
		return err
	}
	defer runner.close()
	runner.describe(row)
	for j, t := range e.tasks {
		cell, err := e.cell(ctx, runner, t)
		if err != nil {
			return t.Errorf("%w", err)
		}
		row.Cells[j] = cell
		r.Summarise()
		if cell != nil && e.opt.OnCell != nil {
			e.opt.OnCell(r, i, j)
		}
	}
	if e.opt.OnRow != nil {
		e.opt.OnRow(r, i)
	}
	return nil
}

// cell evaluates one model on one task; nil where it has no expert for it.
func (e *evaluation) cell(ctx context.Context, runner runner, t *evalTask) (*eval.Cell, error) {
	a, err := runner.on(t)
	if err != nil || a == nil {
		e.progress.add(int64(len(t.truths)))
		return nil, err
	}
	defer a.close()
	cell, p, err := e.answers(ctx, a, t)
	if err != nil {
		return nil, err
	}
	var reference []eval.Answer
	if t.Metric == eval.Agreement {
		if reference, err = e.reference(ctx, t); err != nil {
			return nil, err
		}
	}
	if cell.Score, err = t.Measure(p.Answers, t.truths, reference); err != nil {
		return nil, err
	}
	cell.Answers, cell.Truths, cell.Routing = p.Answers, t.truths, p.Routing
	if p.Routing != nil && t.Expert != "" {
		if share, known := p.Routing.Share(t.Expert); known {
			cell.Routed = &share
		}
	}
	return cell, nil
}

// answerer answers the examples of one task.
type answerer interface {
	key() string // identifies what decides its answers
	// answer answers examples [lo, hi) with a pass of its own.
	answer(p *nn.Pass, lo, hi int) ([]eval.Answer, *eval.Routing, error)
	batch() int
	close()
}

// batched is one batch of answers.
type batched struct {
	answers []eval.Answer
	routing *eval.Routing
}

// answers takes from the cache what is there, and has the rest answered, a
// batch at a time, kept as it comes.
func (e *evaluation) answers(ctx context.Context, a answerer, t *evalTask) (*eval.Cell, eval.Progress, error) {
	n, size := len(t.truths), a.batch()
	key := t.Key(a.key(), t.key)
	p := e.opt.Cache.Load(key)
	if len(p.Answers) > n || len(p.Answers) < n && len(p.Answers)%size != 0 {
		p = eval.Progress{}
	}
	cell := &eval.Cell{Cached: len(p.Answers)}
	e.progress.add(int64(len(p.Answers)))
	if len(p.Answers) == n {
		return cell, p, nil
	}
	free := make(chan *nn.Pass, len(e.passes))
	for _, pass := range e.passes {
		free <- pass
	}
	start := time.Now()
	err := ordered(ctx, len(p.Answers)/size, (n+size-1)/size, len(e.passes), func(i int) (batched, error) {
		pass := <-free
		defer func() { free <- pass }()
		answers, routing, err := a.answer(pass, i*size, min(n, (i+1)*size))
		return batched{answers, routing}, err
	}, func(_ int, b batched) error {
		p.Answers = append(p.Answers, b.answers...)
		if b.routing != nil {
			if p.Routing == nil {
				p.Routing = &eval.Routing{}
			}
			p.Routing.Add(b.routing)
		}
		e.progress.add(int64(len(b.answers)))
		return e.opt.Cache.Save(key, p)
	})
	cell.Seconds = time.Since(start).Seconds()
	return cell, p, err
}

// reference returns the answers of the model that a task is measured by.
func (e *evaluation) reference(ctx context.Context, t *evalTask) ([]eval.Answer, error) {
	path := e.file.Resolve(t.Reference)
	s, err := e.openSubject(EvalModel{Name: filepath.Base(path), Path: path})
	if err != nil {
		return nil, fmt.Errorf("reference: %w", err)
	}
	defer s.Close()
	a, err := e.answererOf(s, t)
	if err != nil {
		return nil, fmt.Errorf("reference: %w", err)
	}
	_, p, err := e.answers(ctx, a, t)
	return p.Answers, err
}

// pixelCache keeps prepared images from one model to the next.
type pixelCache struct {
	mu    sync.Mutex
	held  map[string][]float32
	bytes int
}

// maxPixels bounds the prepared images that are kept.
const maxPixels = 1 << 30

func (c *pixelCache) get(key string, make func() ([]float32, error)) ([]float32, error) {
	c.mu.Lock()
	x, ok := c.held[key]
	c.mu.Unlock()
	if ok {
		return x, nil
	}
	x, err := make()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if size := 4 * len(x); c.bytes+size <= maxPixels {
		if c.held == nil {
			c.held = map[string][]float32{}
		}
		c.held[key] = x
		c.bytes += size
	}
	return x, nil
}
