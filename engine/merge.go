package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"smelt/merge"
	"smelt/safetensors"
	"smelt/taskvector"
)

// ActionMerge is what a unit of a merge does: one tensor of all experts
// becomes one.
const ActionMerge Action = "merge"

// MergeOptions says how to merge.
type MergeOptions struct {
	Method string `json:"method"`
	merge.Settings
	DType        string `json:"dtype,omitempty"` // of the output's floating-point tensors; "" keeps the base's
	MaxShardSize int64  `json:"max_shard_size,omitempty"`
}

// MergePlan is everything that is known of a merge from headers and configs
// alone.
type MergePlan struct {
	*Plan
	Config *merge.Config `json:"-"`
	Merge  MergeOptions  `json:"merge"`
}

// NewMergePlan plans a merge: one unit a tensor of the base. What differs in
// shape is reported together.
func NewMergePlan(in *Inputs, opt MergeOptions) (*MergePlan, error) {
	var names []string
	for _, e := range in.Experts {
		names = append(names, e.Name)
	}
	c, err := merge.NewConfig(opt.Method, names, opt.Settings)
	if err != nil {
		return nil, err
	}
	// The base's own plan, with the experts' inputs: nothing is fused.
	p, err := NewPlan(&Inputs{FS: in.FS, Base: in.Base}, Options{DType: opt.DType, MaxShardSize: opt.MaxShardSize})
	if err != nil {
		return nil, err
	}
	if err := p.addInputs(in); err != nil {
		return nil, err
	}
	m := &MergePlan{Plan: p, Config: c, Merge: opt}
	if err := m.checkShapes(in); err != nil {
		return nil, err
	}
	m.Units = m.Units[:0]
	stretch := mergeBlock
	for _, e := range in.Experts {
		if e.Kind == taskvector.LoRA {
			stretch = mergeBlockWide
		}
	}
	for _, t := range in.Base.Tensors() {
		u := Unit{
			Action: ActionMerge, Name: t.Name, Kind: in.Base.Kind(t.Name).String(), Tensors: []string{t.Name},
			Read: t.Bytes(), Write: p.size(t.DType, t.Elements()),
		}
		for _, e := range in.Experts {
			if info, ok := e.Lookup(t.Name); ok {
				u.Read += info.Bytes()
			} else if module, ok := strings.CutSuffix(t.Name, ".weight"); ok {
				n, _ := e.Covers(module)
				u.Read += n
			}
		}
		u.Memory = u.Write + int64(len(in.Experts)+2)*8*int64(stretch)
		p.Units = append(p.Units, u)
	}
	return m, nil
}

// checkShapes refuses what a plain checkpoint of the base's architecture
// cannot hold, and warns of what it leaves out.
func (p *MergePlan) checkShapes(in *Inputs) error {
	var problems []string
	for _, e := range in.Experts {
		var lacking []string
		for _, name := range append(e.Own(), e.Resized()...) {
			x, _ := e.Lookup(name)
			if b, ok := in.Base.Lookup(name); ok {
				problems = append(problems, fmt.Sprintf("expert %s: tensor %q has shape %v, the base's has %v: only equal shapes can be merged", e.Name, name, x.Shape, b.Shape))
			} else {
				lacking = append(lacking, name)
			}
		}
		for _, t := range in.Base.Tensors() {
			module, ok := strings.CutSuffix(t.Name, ".weight")
			if !ok {
				continue
			}
			bias := module + ".bias"
			if _, has := in.Base.Lookup(bias); has {
				continue
			}
			if _, ok := e.Lookup(bias); ok {
				problems = append(problems, fmt.Sprintf("expert %s: tensor %q has no place in the base, whose layer has no bias: smelt fuse keeps it", e.Name, bias))
			}
		}
		if len(lacking) > 0 {
			p.Warnings = append(p.Warnings, fmt.Sprintf("expert %s: the base has no %s: left out", e.Name, strings.Join(lacking, ", ")))
		}
	}
	return group(problems)
}

// Merge carries a plan out into the directory out, as Fuse does: the output
// appears whole or not at all, and a killed run is gone on with.
func Merge(ctx context.Context, in *Inputs, p *MergePlan, out string, workers int, progress Progress) (*Result, error) {
	n, _ := p.concurrency(workers)
	m := merger{in: in, plan: p, workers: workers}
	what, err := json.Marshal(p.Merge)
	if err != nil {
		return nil, err
	}
	j, err := newJob(in.FS, p.Plan, "merge "+string(what), out, in.Base.Dir, mergedForm{p}, m.run, workers)
	if err != nil {
		return nil, err
	}
	j.what = "merge"
	produce := j.produce
	j.produce = func(i int) ([]output, report, error) {
		w := worker{plan: p.Plan, in: in}
		w.prefetch(i + n)
		return produce(i)
	}
	j.release = func(i int) { (&worker{plan: p.Plan, in: in}).release(i) }
	if p.Config.Method.Trims {
		j.begin = func(ctx context.Context) (err error) {
			p.Config.Thresholds, err = m.thresholds(ctx, n, progress)
			return err
		}
	}
	return j.run(ctx, progress)
}

// mergedForm is a plain checkpoint made by a merge.
type mergedForm struct{ plan *MergePlan }

func (mergedForm) shards(counts [2]int) [2][]string { return modelShards(counts) }

func (f mergedForm) result(j *job, records []record) (*Result, error) {
	res := &Result{Out: j.out, Captured: map[string]float64{}, Warnings: append([]string(nil), j.plan.Warnings...)}
	res.Parameters.Base = j.plan.Parameters
	changed := map[int]bool{}
	for _, r := range records {
		res.Parameters.Output += r.Report.Parameters
		for e := range r.Report.Changed {
			changed[e] = true
		}
	}
	var equal []string
	for i, e := range j.plan.Experts {
		if !changed[i] {
			equal = append(equal, e.Name)
		}
	}
	if len(equal) > 0 {
		res.Warnings = append(res.Warnings, fmt.Sprintf("equal to the base: %s", strings.Join(equal, ", ")))
	}
	return res, nil
}

func (f mergedForm) files(j *job, _ []record, shards map[string]manifestShard, index map[string]string) ([]namedFile, error) {
	config, err := plainConfig(j.plan)
	if err != nil {
		return nil, err
	}
	files := []namedFile{{"config.json", config}, {"README.md", mergeCard(f.plan)}}
	if len(shards) > 1 {
		files = append(files, namedFile{indexName, shardIndex(shards, index)})
	}
	return j.carried(files)
}

// merger computes units of a merge.
type merger struct {
	in      *Inputs
	plan    *MergePlan
	workers int // also inside one unit: an embedding can be a third of a model
}

// run merges one tensor.
func (m *merger) run(u *Unit) ([]output, report, error) {
	rep := report{}
	src, err := m.open(u.Name)
	if err != nil {
		return nil, rep, err
	}
	t := src.base
	to := m.plan.target(t.DType)
	if src.touched() {
		if t, err = src.merge(m.plan.Config, to, m.workers); err != nil {
			return nil, rep, err
		}
		rep.Changed = map[int]float64{}
		for e, x := range src.changes {
			if x.touched() {
				rep.Changed[e] = 1
			}
		}
	} else if t, err = (&worker{plan: m.plan.Plan}).store(t); err != nil {
		return nil, rep, fmt.Errorf("tensor %q: %w", u.Name, err)
	}
	rep.Parameters = int64(t.Elements())
	src.release()
	return []output{seal(streamBase, safetensors.Named{Name: u.Name, Tensor: t})}, rep, nil
}

// open opens a tensor of the base and what each expert changed in it.
func (m *merger) open(name string) (*mergeSource, error) {
	base, err := m.in.Base.Tensor(name)
	if err != nil {
		return nil, err
	}
	s := &mergeSource{name: name, base: base, experts: m.in.Experts, changes: make([]change, len(m.in.Experts))}
	for i, e := range m.in.Experts {
		if s.changes[i], err = m.change(e, name, s); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// change finds what an expert changed in a tensor: nothing, a whole tensor, or
// the factors or the bias of an adapter.
func (m *merger) change(e *taskvector.Expert, name string, s *mergeSource) (c change, err error) {
	if !s.base.DType.IsFloat() {
		return c, nil // a buffer
	}
	module, weight := strings.CutSuffix(name, ".weight")
	if !weight {
		module, _ = strings.CutSuffix(name, ".bias")
	}
	if module != name && e.AdapterRank(module) > 0 {
		c.transposed = m.in.Base.Transposed(module + ".weight")
		d, err := e.Delta(module, c.transposed, 1)
		if err != nil {
			return c, err
		}
		if !weight {
			c.bias = d.Bias
			return c, nil
		}
		if _, has := m.in.Base.Lookup(module + ".bias"); d.Bias != nil && !has {
			return c, fmt.Errorf("expert %s: the adapter of %q has a bias, the base's layer has none: smelt fuse keeps it", e.Name, module)
		}
		c.factors = d.LowRank
		return c, nil
	}
	x, ok, err := e.Tensor(name)
	if err != nil || !ok {
		return c, err
	}
	same, err := taskvector.Same(x, s.base)
	if err != nil {
		return c, fmt.Errorf("expert %s: tensor %q: %w", e.Name, name, err)
	}
	if same {
		e.Release(name)
		return c, nil
	}
	c.whole = &x
	return c, nil
}

// thresholds finds the least magnitude that each task vector keeps, in two
// passes over all of them.
func (m *merger) thresholds(ctx context.Context, workers int, progress Progress) ([]float32, error) {
	total := make([]*merge.Magnitudes, len(m.in.Experts))
	for e := range total {
		total[e] = &merge.Magnitudes{}
	}
	read := int64(0)
	for i := range m.plan.Units {
		read += 2 * m.plan.Units[i].Read
	}
	progress.start("trim", read)
	for pass := range 2 {
		idle := make(chan []*merge.Magnitudes, workers)
		for range workers {
			set := make([]*merge.Magnitudes, len(total))
			for e := range set {
				set[e] = total[e].Again()
			}
			idle <- set
		}
		err := ordered(ctx, 0, len(m.plan.Units), workers, func(i int) (struct{}, error) {
			set := <-idle
			defer func() { idle <- set }()
			return struct{}{}, m.measure(m.plan.Units[i].Name, set)
		}, func(i int, _ struct{}) error {
			progress.add(m.plan.Units[i].Read)
			return nil
		})
		if err != nil {
			return nil, err
		}
		for range workers {
			for e, x := range <-idle {
				total[e].Merge(x)
			}
		}
		if pass == 0 {
			for _, x := range total {
				x.Narrow(m.plan.Config.Value(merge.Density))
			}
		}
	}
	progress.done()
	list := make([]float32, len(total))
	for e, x := range total {
		list[e] = x.Threshold()
	}
	return list, nil
}

// measure counts the magnitudes of what the experts changed in one tensor. A
// tensor that an expert does not have is no part of its task vector.
func (m *merger) measure(name string, set []*merge.Magnitudes) error {
	s, err := m.open(name)
	if err != nil || !s.base.DType.IsFloat() {
		return err
	}
	for e, c := range s.changes {
		_, has := m.in.Experts[e].Lookup(name)
		_, covers := m.in.Experts[e].Covers(strings.TrimSuffix(name, ".weight"))
		if !c.touched() && (has || covers) {
			set[e].AddZeros(int64(s.base.Elements()))
		}
	}
	if !s.touched() {
		return nil
	}
	t := s.tensor()
	var b *merge.Block
	for i := range t.Blocks {
		if b, err = t.Read(b, i); err != nil {
			return err
		}
		for e, delta := range b.Deltas {
			set[e].Add(delta)
		}
	}
	s.release()
	return nil
}
