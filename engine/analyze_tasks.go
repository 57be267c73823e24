package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"smelt/analysis"
	"smelt/eval"
	"smelt/internal/kernel"
	"smelt/internal/vfs"
	"smelt/model"
	"smelt/nn"
	"smelt/processor"
	"smelt/taskvector"
	"smelt/tokenizer"
)

// TaskOptions says how an analysis uses data.
type TaskOptions struct {
	File    *eval.File
	Base    string   // the folder of the base
	Experts []Source // as the inputs were opened
	Limit   int      // examples a task; 0 means all
	Scratch string   // a folder for models on the way, removed at the end
}

// routedExamples is how many examples of a task are followed layer by layer.
const routedExamples = 32

// AnalyzeTasks adds to a report what takes data: the accuracy of base +
// projection of an expert's change on each zone, and, layer by layer, what the
// routers of a fusion do and how far it is from each expert. Tasks belong to
// the expert that they name; others are left out. Models on the way are written
// to the scratch folder and removed again.
func AnalyzeTasks(ctx context.Context, in *Inputs, r *analysis.Report, opt TaskOptions, workers int, progress Progress) (err error) {
	// What a killed run left is of no use.
	if err := errors.Join(in.FS.RemoveAll(opt.Scratch), in.FS.Mkdir(opt.Scratch)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.FS.RemoveAll(opt.Scratch)) }()
	t := &taskAnalysis{in: in, report: r, opt: opt, workers: workers, found: &analysis.Tasks{
		Zones: []analysis.ZoneAccuracy{}, Routing: []analysis.ModuleRouting{}, Errors: []analysis.StageError{},
	}}
	var used []int
	for i, x := range r.Experts {
		if t.tasks(x.Name) != nil && x.Touched > 0 {
			used = append(used, i)
		}
	}
	if len(used) == 0 {
		return fmt.Errorf("%s: no task names one of the experts that changed something: add expert: NAME to its task", opt.File.Path)
	}
	progress.start("tasks", int64(2*len(used)))
	defer progress.done()
	for _, i := range used {
		if err := t.zones(ctx, i); err != nil {
			return err
		}
		progress.add(1)
	}
	fused := filepath.Join(opt.Scratch, "fused")
	if err := t.fuse(ctx, in.Experts, OthersBase, fused); err != nil {
		return err
	}
	for _, i := range used {
		if err := t.follow(ctx, i, fused); err != nil {
			return err
		}
		progress.add(1)
	}
	r.Tasks = t.found
	r.Agree()
	return nil
}

type taskAnalysis struct {
	in      *Inputs
	report  *analysis.Report
	opt     TaskOptions
	workers int
	found   *analysis.Tasks
}

// tasks lists the tasks of an expert.
func (t *taskAnalysis) tasks(expert string) (names []string) {
	for _, x := range t.opt.File.Tasks {
		if x.Expert == expert {
			names = append(names, x.Name)
		}
	}
	return names
}

func (t *taskAnalysis) path(expert string) string {
	i := slices.IndexFunc(t.opt.Experts, func(s Source) bool { return s.Name == expert })
	return t.opt.Experts[i].Path
}

// zones evaluates base, expert and the three projections on the expert's tasks.
func (t *taskAnalysis) zones(ctx context.Context, i int) error {
	name := t.report.Experts[i].Name
	models := []EvalModel{{Name: "base", Path: t.opt.Base}, {Name: "expert", Path: t.path(name)}}
	for _, zone := range []analysis.Zone{analysis.ZoneI, analysis.ZoneII, analysis.ZoneIIIII} {
		dir := filepath.Join(t.opt.Scratch, string(zone))
		if err := t.project(ctx, i, zone, dir); err != nil {
			return fmt.Errorf("expert %s, zone %s: %w", name, zone, err)
		}
		models = append(models, EvalModel{Name: string(zone), Path: dir})
	}
	res, err := Evaluate(ctx, t.in.FS, t.opt.File, models, EvalOptions{Base: t.opt.Base, Tasks: t.tasks(name), Limit: t.opt.Limit, Workers: t.workers}, Progress{})
	if err != nil {
		return err
	}
	for k, task := range res.Tasks {
		value := func(row int) analysis.Figure {
			if c := res.Rows[row].Cells[k]; c != nil {
				return analysis.Figure(c.Value)
			}
			return analysis.None
		}
		t.found.Zones = append(t.found.Zones, analysis.ZoneAccuracy{
			Expert: i, Task: task.Name, Samples: task.Examples, Metric: task.Metric,
			Base: value(0), Full: value(1), I: value(2), II: value(3), IIIII: value(4),
		})
	}
	for _, m := range models[2:] {
		if err := t.in.FS.RemoveAll(m.Path); err != nil {
			return err
		}
	}
	return nil
}

// alone is the inputs with one expert.
func (t *taskAnalysis) alone(i int) *Inputs {
	return &Inputs{FS: t.in.FS, Base: t.in.Base, Experts: []*taskvector.Expert{t.in.Experts[i]}}
}

// fuse makes a fused model of some experts at the report's ranks.
func (t *taskAnalysis) fuse(ctx context.Context, experts []*taskvector.Expert, others, out string) error {
	in := &Inputs{FS: t.in.FS, Base: t.in.Base, Experts: experts}
	p, err := NewPlan(in, Options{ExpertRank: t.report.Settings.Rank, RouterRank: t.report.Settings.RouterRank, Others: others})
	if err != nil {
		return err
	}
	_, err = Fuse(ctx, in, p, Part{}, out, t.workers, Progress{})
	return err
}

// follow runs the examples of an expert's tasks through the fused model, through
// fusions of that expert alone (routed right, with the base's and with its own
// norms and embeddings), through the expert and through the base, and compares
// their states.
func (t *taskAnalysis) follow(ctx context.Context, i int, fused string) error {
	name := t.report.Experts[i].Name
	oracle, rank := filepath.Join(t.opt.Scratch, "oracle"), filepath.Join(t.opt.Scratch, "rank")
	for dir, others := range map[string]string{oracle: OthersBase, rank: OthersAverage} {
		if err := t.fuse(ctx, t.alone(i).Experts, others, dir); err != nil {
			return err
		}
		defer t.in.FS.RemoveAll(dir)
	}
	limit := routedExamples
	if t.opt.Limit > 0 {
		limit = min(limit, t.opt.Limit)
	}
	e := &evaluation{fs: t.in.FS, file: t.opt.File, base: t.opt.Base, opt: EvalOptions{Tasks: t.tasks(name), Limit: limit}, heads: map[string]head{}}
	if err := e.openTasks(); err != nil {
		return err
	}
	probed := &probes{sums: map[string]*probe{}}
	var subjects []*subject
	defer func() {
		for _, s := range subjects {
			s.Close()
		}
	}()
	for k, path := range []string{t.path(name), fused, oracle, rank, t.opt.Base} {
		s, err := e.openSubject(EvalModel{Path: path})
		if err != nil {
			return err
		}
		subjects = append(subjects, s)
		if k == 1 {
			if err := vfs.Guard(func() error { return s.build(probeSource{s.Weights, probed}) }); err != nil {
				return err
			}
		}
	}
	f := follower{subjects: subjects, routes: &routeSums{expert: i, at: map[string]int{}}, expert: i}
	for _, x := range e.tasks {
		if err := f.task(ctx, x, t.workers); err != nil {
			return fmt.Errorf("expert %s, task %s: %w", name, x.Name, err)
		}
	}
	t.found.Routing = append(t.found.Routing, f.routes.result(probed)...)
	t.found.Errors = append(t.found.Errors, f.errors()...)
	return nil
}

// follower compares the states of the individual model (subject 0) with those
// of others.
type follower struct {
	subjects []*subject
	routes   *routeSums
	expert   int
	stages   []stageSums
}

// stageSums are squares of one stage: of the individual model's states, and of
// the others' differences to them.
type stageSums struct {
	name  string
	norm  float64
	error [5]float64
}

// task runs the examples of one task.
func (f *follower) task(ctx context.Context, t *evalTask, workers int) error {
	feed, err := newFeed(f.subjects[0], t)
	if err != nil {
		return err
	}
	for i := range t.truths {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		var want [][]float32
		for k, s := range f.subjects {
			var states [][]float32
			p := &nn.Pass{Workers: workers, Exact: true}
			p.OnStage = func(name string, x kernel.Matrix) {
				if inner(name) {
					return
				}
				flat := make([]float32, 0, x.Rows*x.Cols)
				for r := range x.Rows {
					flat = append(flat, x.Row(r)...)
				}
				states = append(states, flat)
				if k == 0 && len(states) > len(f.stages) {
					f.stages = append(f.stages, stageSums{name: name})
				}
			}
			if k == 1 {
				p.OnRouting = f.routes.see
			}
			if err := vfs.Guard(func() error { return feed.run(s, p, i) }); err != nil {
				return fmt.Errorf("example %d: %w", i, err)
			}
			if k == 0 {
				want = states
				for n, x := range want {
					f.stages[n].norm += kernel.SumSquares(x)
				}
				continue
			}
			if len(states) != len(want) {
				return fmt.Errorf("%d stages, the individual model has %d", len(states), len(want))
			}
			for n, x := range states {
				kernel.Axpy(-1, want[n], x)
				f.stages[n].error[k] += kernel.SumSquares(x)
			}
		}
	}
	return nil
}

// inner says whether a stage lies inside a block.
func inner(name string) bool {
	for _, s := range []string{".self_attn", ".mlp", ".SelfAttention", ".EncDecAttention", ".DenseReluDense"} {
		if strings.HasSuffix(name, s) {
			return true
		}
	}
	return false
}

func (f *follower) errors() (list []analysis.StageError) {
	for _, s := range f.stages {
		of := func(k int) float64 { return math.Sqrt(ratio(s.error[k], s.norm)) }
		list = append(list, analysis.StageError{Stage: s.name, Expert: f.expert, Total: of(1), Oracle: of(2), Rank: of(3), Base: of(4)})
	}
	return list
}

// feed gives examples to models.
type feed struct {
	t     *evalTask
	proc  *processor.Image
	width int
	tok   *tokenizer.Tokenizer
}

func newFeed(s *subject, t *evalTask) (f *feed, err error) {
	f = &feed{t: t}
	if t.images == nil {
		f.tok, err = tokenizer.Open(s.Dir())
		return f, err
	}
	if s.CLIP == nil || s.CLIP.Vision == nil {
		return nil, fmt.Errorf("a %s model sees no images", s.Type)
	}
	size := s.CLIP.Vision.Config
	f.width = size.NumChannels * int(size.ImageSize) * int(size.ImageSize)
	f.proc, err = processor.Load(s.Dir())
	return f, err
}

// run passes example i through a model: an image, or the tokens of a prompt.
func (f *feed) run(s *subject, p *nn.Pass, i int) error {
	if f.tok != nil {
		ids, err := f.tok.Encode(f.t.texts.Prompts[i], true)
		if err == nil && len(ids) > 0 {
			_, err = s.EmbedTexts(p, [][]int{ids})
		}
		return err
	}
	x := make([]float32, f.width)
	if err := f.t.images.Prepare(f.proc, i, x); err != nil {
		return err
	}
	_, err := s.EmbedImages(p, kernel.Of(1, f.width, x))
	return err
}

// routeSums counts what routers decide for the tokens of one expert's tasks.
type routeSums struct {
	expert  int
	at      map[string]int
	modules []analysis.ModuleRouting
}

func (r *routeSums) see(x nn.Routing) {
	i, ok := r.at[x.Module]
	if !ok {
		i = len(r.modules)
		r.at[x.Module] = i
		r.modules = append(r.modules, analysis.ModuleRouting{Module: x.Module, Expert: r.expert, Taken: make([]float64, x.Experts)})
	}
	m := &r.modules[i]
	for n := 0; n*x.TopK < len(x.Selected); n++ {
		m.Tokens++
		m.Taken[x.Selected[n*x.TopK]]++
		best, second := 0.0, 0.0
		for _, s := range x.Scores[n*x.Experts : (n+1)*x.Experts] {
			if v := float64(s); v > best {
				best, second = v, best
			} else if v > second {
				second = v
			}
		}
		if best > 0 {
			m.Margin += 1 - second/best
		}
	}
}

func (r *routeSums) result(p *probes) []analysis.ModuleRouting {
	for i := range r.modules {
		m := &r.modules[i]
		n := float64(max(m.Tokens, 1))
		for k := range m.Taken {
			m.Taken[k] /= n
		}
		m.Margin /= n
		m.Right = m.Taken[r.expert]
		m.Base, m.Adaptation = analysis.None, analysis.None
		if s := p.sums[m.Module]; s != nil && s.tokens > 0 {
			m.Base = analysis.Figure(math.Sqrt(s.base / float64(s.tokens)))
			m.Adaptation = analysis.Figure(math.Sqrt(s.change / float64(s.tokens)))
		}
	}
	return r.modules
}

// probes measure how the output of fused layers splits into the base's part and
// the experts'.
type probes struct{ sums map[string]*probe }

// probe is a fused layer with the base's layer beside it.
type probe struct {
	nn.Linear
	dense        *nn.Dense
	tokens       int
	base, change float64 // Σ‖W0·x‖², Σ‖E(x)‖²
}

// Forward is the fused layer's.
func (b *probe) Forward(p *nn.Pass, y, x kernel.Matrix) {
	b.Linear.Forward(p, y, x)
	m := p.Mark()
	plain := p.Matrix(y.Rows, y.Cols)
	b.dense.Forward(p, plain, x)
	row := p.Floats(y.Cols)
	for i := range y.Rows {
		copy(row, y.Row(i))
		kernel.Axpy(-1, plain.Row(i), row)
		b.change += kernel.SumSquares(row)
		copy(row, plain.Row(i))
		if b.dense.Bias != nil {
			kernel.Axpy(-1, b.dense.Bias, row)
		}
		b.base += kernel.SumSquares(row)
	}
	b.tokens += y.Rows
	p.Release(m)
}

// probeSource answers with probes for fused layers.
type probeSource struct {
	*Weights
	probes *probes
}

// Linear returns the layer of a module, with a probe where it is fused.
func (s probeSource) Linear(module string, out, in int, bias bool) (nn.Linear, error) {
	layer, err := s.Weights.Linear(module, out, in, bias)
	m := s.modules[module]
	if err != nil || m == nil {
		return layer, err
	}
	b := &probe{Linear: layer}
	if m.Transposed {
		b.dense, err = s.transposed(module, out, in)
	} else {
		b.dense, err = model.Dense(s.Weights, module, out, in, bias)
	}
	s.probes.sums[module] = b
	return b, err
}
