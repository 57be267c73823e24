package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"smelt/internal/vfs"
	"smelt/safetensors"
	"smelt/smile"
	"smelt/taskvector"
	"smelt/tensor"
)

// EditOptions says how to change a fused model.
type EditOptions struct {
	Drop       []string // experts to leave out
	Add        []Source // experts to add; the base's weights are in the model
	ExpertRank int      // of the experts that are added; 0 means 32
	Truncate   int      // largest rank that any expert keeps; 0 keeps all

	MaxShardSize int64
}

// Edit makes a fused model out of another without decomposing again what is
// there. Dropping an expert gives the bytes that a fusion without it gives,
// where the router ranks agree.
func Edit(ctx context.Context, fsys vfs.FS, dir string, opt EditOptions, out string, workers int, progress Progress) (*Result, error) {
	f, err := OpenFused(fsys, dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	e, err := newEdit(fsys, f, opt)
	if err != nil {
		return nil, err
	}
	defer e.in.closeExperts()
	key, err := e.plan.Key()
	if err != nil {
		return nil, err
	}
	n, inner := e.plan.concurrency(workers)
	e.inner = inner
	j := job{
		fs: fsys, plan: e.plan, out: out, key: fmt.Sprintf("edit %s %+v", key, opt), hi: len(e.plan.Units), workers: n, carry: dir,
		form: fusedForm{}, reserved: e.plan.reserve(),
		produce: func(i int) ([]output, report, error) { return e.run(&e.plan.Units[i]) },
	}
	return j.run(ctx, progress)
}

func (in *Inputs) closeExperts() {
	for _, e := range in.Experts {
		e.Close()
	}
}

// edit is an edit under way.
type edit struct {
	f        *Fused
	in       *Inputs // the base inside the model, and the experts to add
	plan     *Plan
	from     []int // expert of the output to expert of the model, -1 for a new one
	added    []int // expert of the output to in.Experts, -1 for an old one
	truncate int
	inner    int
}

func newEdit(fsys vfs.FS, f *Fused, opt EditOptions) (*edit, error) {
	switch {
	case len(opt.Drop) == 0 && len(opt.Add) == 0 && opt.Truncate == 0:
		return nil, errors.New("nothing to edit: give --drop, --add or --truncate")
	case opt.Truncate < 0 || opt.ExpertRank < 0:
		return nil, fmt.Errorf("rank %d: want at least 1", min(opt.Truncate, opt.ExpertRank))
	case f.Manifest.Others.Policy == OthersAverage && (len(opt.Drop) > 0 || len(opt.Add) > 0):
		return nil, fmt.Errorf("%s: its other tensors are means over its experts (--others average), which an edit cannot take apart: fuse again", f.Dir)
	}
	if opt.ExpertRank == 0 {
		opt.ExpertRank = DefaultExpertRank
	}
	names := f.Config.ExpertNames()
	for _, name := range opt.Drop {
		if !slices.Contains(names, name) {
			return nil, fmt.Errorf("%s: has no expert %q to drop: it has %s", f.Dir, name, strings.Join(names, ", "))
		}
	}
	e := &edit{f: f, in: &Inputs{FS: fsys, Base: f.Base}, truncate: opt.Truncate}
	type member struct {
		smile.Expert
		from, added int
	}
	var members []member
	for i, x := range f.Config.Experts {
		if !slices.Contains(opt.Drop, x.Name) {
			members = append(members, member{x, i, -1})
		}
	}
	var problems []string
	for _, s := range opt.Add {
		if err := checkName(s.Name); err != nil {
			return nil, err
		}
		if slices.ContainsFunc(members, func(m member) bool { return m.Name == s.Name }) {
			return nil, fmt.Errorf("%s: has an expert %q already: name the new one apart, name=path", f.Dir, s.Name)
		}
		x, found, err := taskvector.Open(fsys, f.Base, s.Name, s.Path)
		if err != nil {
			e.in.closeExperts()
			return nil, err
		}
		problems = append(problems, found...)
		members = append(members, member{smile.Expert{Name: x.Name, Kind: x.Kind, Source: x.Source, DType: x.DType.String()}, -1, len(e.in.Experts)})
		e.in.Experts = append(e.in.Experts, x)
	}
	slices.SortFunc(members, func(a, b member) int { return strings.Compare(a.Name, b.Name) })
	if err := group(problems); err != nil {
		e.in.closeExperts()
		return nil, err
	}
	if len(members) == 0 {
		return nil, fmt.Errorf("%s: dropping %s leaves no expert: the base is what remains", f.Dir, strings.Join(opt.Drop, ", "))
	}
	for _, m := range members {
		e.from = append(e.from, m.from)
		e.added = append(e.added, m.added)
	}
	options := Options{ExpertRank: opt.ExpertRank, RouterRank: f.Config.RouterRank, TopK: 1, MaxShardSize: opt.MaxShardSize, Others: f.Manifest.Others.Policy}
	plan, err := NewPlan(e.in, options)
	if err != nil {
		e.in.closeExperts()
		return nil, err
	}
	plan.Options.TopK = min(f.Config.TopK, len(members))
	plan.Base = f.Config.Base
	plan.Edited = f.Manifest.Asked
	if opt.Truncate > 0 {
		plan.Edited += fmt.Sprintf(", cut to rank %d", opt.Truncate)
	}
	plan.Experts, plan.Sources = nil, nil
	plan.Inputs = append(plan.Inputs, fmt.Sprintf("%+v", opt))
	for _, m := range members {
		plan.Experts = append(plan.Experts, m.Expert)
		if m.added >= 0 {
			plan.Sources = append(plan.Sources, e.in.Experts[m.added].Parameters())
		} else {
			plan.Sources = append(plan.Sources, f.Manifest.Parameters.Sources[m.Name])
		}
	}
	plan.Units = slices.DeleteFunc(plan.Units, func(u Unit) bool { return u.Action == ActionOwn })
	for i := range plan.Units {
		u := &plan.Units[i]
		if m := f.Config.Module(u.Name); m != nil {
			u.Write += 8 * m.Parameters()
		}
		u.Ranks = e.bounds(u)
	}
	for i := range members {
		for _, name := range e.owned(i) {
			plan.Units = append(plan.Units, Unit{Action: ActionOwn, Name: name, Kind: "head", Expert: i})
		}
	}
	e.plan = plan
	return e, nil
}

// bounds are the ranks that the experts of the output have at most in a unit.
func (e *edit) bounds(u *Unit) []smile.Rank {
	if u.Action != ActionFuse {
		return nil
	}
	old := e.f.Config.Module(u.Name)
	ranks := make([]smile.Rank, len(e.from))
	for i := range ranks {
		switch {
		case e.added[i] >= 0:
			ranks[i] = u.Ranks[e.added[i]]
		case old == nil:
			ranks[i] = smile.Untouched
		default:
			if ranks[i] = old.Ranks[e.from[i]]; e.truncate > 0 && ranks[i] > 0 {
				ranks[i] = min(ranks[i], smile.Rank(e.truncate))
			}
		}
	}
	return ranks
}

func (e *edit) owned(i int) []string {
	if k := e.added[i]; k >= 0 {
		return e.in.Experts[k].Own()
	}
	return e.f.own(e.from[i])
}

func (e *edit) run(u *Unit) ([]output, report, error) {
	w := worker{plan: e.plan, in: e.in, workers: e.inner}
	switch u.Action {
	case ActionOwn:
		return e.own(&w, u)
	case ActionFuse:
		return e.fuse(&w, u)
	}
	outs, rep, err := w.copyTensor(u)
	e.carryChanges(u.Name, &rep)
	return outs, rep, err
}

func (e *edit) own(w *worker, u *Unit) ([]output, report, error) {
	var t tensor.Tensor
	var err error
	if k := e.added[u.Expert]; k >= 0 {
		t, _, err = e.in.Experts[k].Tensor(u.Name)
	} else {
		t, err = e.f.whole.Tensor(smile.OwnName(e.from[u.Expert], u.Name))
	}
	if err != nil {
		return nil, report{}, err
	}
	if t, err = w.store(t); err != nil {
		return nil, report{}, err
	}
	return []output{seal(streamExperts, safetensors.Named{Name: smile.OwnName(u.Expert, u.Name), Tensor: t})}, report{Parameters: int64(t.Elements())}, nil
}

// carryChanges turns the indices of what the added experts changed into those
// of the output, and takes over what the manifest says of the others.
func (e *edit) carryChanges(name string, rep *report) {
	changed := map[int]float64{}
	for i, k := range e.added {
		if v, ok := rep.Changed[k]; k >= 0 && ok {
			changed[i] = v
		}
	}
	for _, c := range e.f.Manifest.Others.Changed {
		if c.Tensor != name {
			continue
		}
		for i, x := range e.plan.Experts {
			if v, ok := c.Experts[x.Name]; ok && e.from[i] >= 0 {
				changed[i] = v
				rep.Note = c.Note
			}
		}
	}
	if rep.Changed = changed; len(changed) == 0 {
		rep.Changed = nil
	}
}

// fuse makes one module from the parts that the model holds and the deltas of
// the experts that are added.
func (e *edit) fuse(w *worker, u *Unit) ([]output, report, error) {
	rep := report{}
	weight, err := e.f.Base.Tensor(u.Tensors[0])
	if err != nil {
		return nil, rep, err
	}
	f := &fusedModule{Module: smile.Module{
		Name: u.Name, In: u.In, Out: u.Out, Transposed: u.Transposed, RouterRank: u.RouterRank, Ranks: slices.Clone(u.Ranks),
	}}
	parts := make([]smile.Part, len(u.Ranks))
	for i := range parts {
		parts[i].Rank = smile.Untouched
	}
	old := e.f.Config.Module(u.Name)
	if old != nil {
		kept, err := e.f.Parts(old)
		if err != nil {
			return nil, rep, err
		}
		for i, from := range e.from {
			if from >= 0 {
				parts[i] = kept[from]
			}
		}
		if old.RouterRank > 0 {
			f.RouterRank = old.RouterRank
		}
	}
	fresh := map[int]*decomposed{}
	for i, k := range e.added {
		if k < 0 {
			continue
		}
		d, err := e.in.Experts[k].Delta(u.Name, u.Transposed, w.workers)
		if err != nil {
			return nil, rep, err
		}
		x := &decomposed{bias: d.Bias}
		fresh[i] = x
		if !d.Touched() {
			f.Ranks[i] = smile.Untouched
			continue
		}
		if err := x.decompose(d, f.Ranks[i], u, w.workers); err != nil {
			return nil, rep, fmt.Errorf("expert %s: module %q: %w", e.plan.Experts[i].Name, u.Name, err)
		}
		f.RouterRank = min(f.RouterRank, x.numericalRank)
	}
	touched, biased := 0, 0
	for i, from := range e.from {
		if from >= 0 {
			whole := parts[i]
			parts[i] = whole.Truncate(max(f.Ranks[i], 0), f.RouterRank)
			if x, ok := e.f.fidelity(u.Name, e.plan.Experts[i].Name); ok {
				f.Fidelity = append(f.Fidelity, x.truncated(whole, parts[i]))
			}
		} else {
			x := fresh[i]
			parts[i] = x.part(&f.Module, i, w.plan.target(weight.DType))
			if f.Ranks[i] != smile.Untouched {
				f.Fidelity = append(f.Fidelity, x.fidelity(e.plan.Experts[i].Name, f.Ranks[i]))
			}
		}
		if f.Ranks[i] != smile.Untouched {
			touched++
		}
		if len(parts[i].Bias.Data) > 0 {
			biased++
		}
	}
	var outs []output
	for _, name := range u.Tensors {
		t, err := e.f.Base.Tensor(name)
		if err != nil {
			return nil, rep, err
		}
		outs = append(outs, seal(streamBase, safetensors.Named{Name: name, Tensor: t}))
		e.carryChanges(name, &rep)
	}
	if touched == 0 {
		if f.RouterRank = 0; biased == 0 || len(parts) > 1 {
			return outs, rep, nil
		}
	}
	f.Bias = biased > 0
	tensors, err := f.Join(parts)
	if err != nil {
		return nil, rep, err
	}
	for _, t := range tensors {
		outs = append(outs, seal(streamExperts, t))
		rep.Parameters += int64(t.Elements())
	}
	rep.Module = f
	return outs, rep, nil
}

// truncated is the fidelity after the rank was cut: the energy of the columns
// that went is no longer captured, and the best matrix of the lower rank loses
// at least as much.
func (x ExpertFidelity) truncated(before, after smile.Part) ExpertFidelity {
	if before.Rank == after.Rank {
		return x
	}
	lost := 0.0
	if tail := smile.Columns(before.US, int(after.Rank), int(before.Rank)); len(tail.Data) > 0 {
		v, err := tail.Float64()
		if err == nil {
			for _, s := range v {
				lost += s * s
			}
		}
	}
	x.Captured = max(0, x.Captured-lost)
	x.Bound = max(x.Captured, x.Bound-lost)
	return x
}
