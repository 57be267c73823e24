package engine

import (
	"context"
	"slices"

	"smelt/analysis"
	"smelt/dtype"
	"smelt/internal/kernel"
	"smelt/safetensors"
	"smelt/tensor"
)

// project writes the checkpoint base + the part of expert i's change that lies
// in a zone, with all that is no weight of a linear layer taken from the expert,
// in float32.
func (t *taskAnalysis) project(ctx context.Context, i int, zone analysis.Zone, out string) error {
	in := t.alone(i)
	p, err := NewPlan(in, Options{ExpertRank: 1, RouterRank: 1, DType: "F32", MaxShardSize: 1 << 40})
	if err != nil {
		return err
	}
	own := in.Experts[0].Own()
	p.Units = slices.DeleteFunc(p.Units, func(u Unit) bool { return u.Action == ActionCopy && slices.Contains(own, u.Name) })
	a := analyzer{worker: worker{plan: p, in: in}, report: t.report}
	for k := range p.Units {
		p.Units[k].Memory = 2 * a.memory(&p.Units[k])
	}
	_, a.workers = p.concurrency(t.workers)
	j, err := newJob(in.FS, p, "zone "+string(zone), out, in.Base.Dir, plainForm{}, func(u *Unit) ([]output, report, error) {
		tensors, err := a.projected(u, zone)
		return tensors, report{}, err
	}, t.workers)
	if err != nil {
		return err
	}
	_, err = j.run(ctx, Progress{})
	return err
}

// projected is one unit of a checkpoint that project writes.
func (a *analyzer) projected(u *Unit, zone analysis.Zone) ([]output, error) {
	e := a.in.Experts[0]
	keep := func(name string, t tensor.Tensor) (output, error) {
		t, err := a.store(t)
		return seal(streamBase, safetensors.Named{Name: name, Tensor: t}), err
	}
	whole := func(name string) (output, error) {
		t, ok, err := e.Tensor(name)
		if err != nil {
			return output{}, err
		}
		if base, has := a.in.Base.Lookup(name); has && (!ok || !slices.Equal(t.Shape, base.Shape)) && u.Action != ActionOwn {
			if t, err = a.in.Base.Tensor(name); err != nil {
				return output{}, err
			}
		}
		return keep(name, t)
	}
	if u.Action != ActionFuse {
		o, err := whole(u.Name)
		return []output{o}, err
	}
	d, err := e.Delta(u.Name, u.Transposed, a.workers)
	if err != nil {
		return nil, err
	}
	w, err := a.weight(u)
	if err != nil {
		return nil, err
	}
	if d.Touched() {
		s, err := analysis.NewSubspaces(w, a.workers)
		if err != nil {
			return nil, err
		}
		kernel.Add(w.Data, w.Data, s.Project(denseDelta(d), zone, a.workers).Data)
	}
	if u.Transposed {
		back := kernel.New(u.In, u.Out)
		for i := range u.Out {
			for j := range u.In {
				back.Data[j*u.Out+i] = w.Data[i*u.In+j]
			}
		}
		w = back
	}
	t, err := tensor.FromFloat32(dtype.F32, w.Data, w.Rows, w.Cols)
	if err != nil {
		return nil, err
	}
	o, err := keep(u.Tensors[0], t)
	outs := []output{o}
	bias := u.Name + ".bias"
	if d.Bias != nil || len(u.Tensors) > 1 {
		v := make([]float64, u.Out)
		if len(u.Tensors) > 1 {
			b, err := a.in.Base.Tensor(bias)
			if err != nil {
				return nil, err
			}
			if v, err = b.Float64(); err != nil {
				return nil, err
			}
		}
		v = slices.Clone(v)
		for i, x := range d.Bias {
			v[i] += x
		}
		if o, err = keep(bias, tensor.Tensor{DType: dtype.F32, Shape: []int{u.Out}, Data: float64Bytes(v, dtype.F32)}); err != nil {
			return nil, err
		}
		outs = append(outs, o)
	}
	return outs, err
}

// plainForm is a plain checkpoint with the base's config.
type plainForm struct{}

func (plainForm) shards(counts [2]int) [2][]string { return modelShards(counts) }

func (plainForm) result(j *job, _ []record) (*Result, error) { return &Result{Out: j.out}, nil }

func (plainForm) files(j *job, _ []record, shards map[string]manifestShard, index map[string]string) ([]namedFile, error) {
	files := []namedFile{{"config.json", []byte(j.plan.BaseConfig)}}
	if len(shards) > 1 {
		files = append(files, namedFile{indexName, shardIndex(shards, index)})
	}
	return j.carried(files)
}
