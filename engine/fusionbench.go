package engine

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"smelt/internal/ojson"
	"smelt/internal/vfs"
	"smelt/safetensors"
	"smelt/smile"
	"smelt/tensor"
)

// fusionBenchTypes are the architectures that FusionBench has SMILE classes
// for.
var fusionBenchTypes = []string{"llama", "mistral", "qwen2"}

// ToFusionBench writes what FusionBench's SmileLlama, SmileMistral and
// SmileQwen2 classes load. They have one rank for all: lower ranks are padded
// with zeros, and modules or experts without a change are zeros, whose score
// is 0.
func ToFusionBench(ctx context.Context, fsys vfs.FS, dir, out string, maxShardSize int64, workers int, progress Progress) (*Result, error) {
	f, err := OpenFused(fsys, dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if !slices.Contains(fusionBenchTypes, f.Config.BaseModelType) {
		return nil, fmt.Errorf("%s: FusionBench has no SMILE class for %s: it has them for %s", dir, f.Config.BaseModelType, strings.Join(fusionBenchTypes, ", "))
	}
	p, err := f.plan(maxShardSize)
	if err != nil {
		return nil, err
	}
	b := &fusionBenchForm{f: f}
	for _, m := range f.Config.Modules {
		b.router = max(b.router, m.RouterRank)
		for e, r := range m.Ranks {
			if r == smile.Dense {
				return nil, fmt.Errorf("%s: module %q keeps expert %s whole, FusionBench has one rank for all: truncate first", dir, m.Name, f.Config.Experts[e].Name)
			}
			b.rank = max(b.rank, int(r))
		}
	}
	for _, u := range p.Units {
		if least := min(u.In, u.Out); u.Action == ActionFuse && max(b.rank, b.router) > least {
			return nil, fmt.Errorf("%s: rank %d does not fit module %q [%d,%d], FusionBench has one rank for all: smelt edit --truncate %d", dir, b.rank, u.Name, u.Out, u.In, least)
		}
	}
	j, err := newJob(fsys, p, "fusionbench", out, dir, b, b.produce, workers)
	if err != nil {
		return nil, err
	}
	j.reserved = b.reserve(p)
	return j.run(ctx, progress)
}

// fusionBenchForm is a checkpoint of FusionBench's SMILE classes.
type fusionBenchForm struct {
	f            *Fused
	rank, router int
}

func (b *fusionBenchForm) shards(counts [2]int) [2][]string { return modelShards(counts) }

func (b *fusionBenchForm) result(j *job, records []record) (*Result, error) {
	return denseForm{f: b.f}.result(j, records)
}

func (b *fusionBenchForm) files(j *job, _ []record, shards map[string]manifestShard, index map[string]string) ([]namedFile, error) {
	raw := b.f.Base.Config.Raw
	raw.Members = slices.Clone(raw.Members)
	raw.Set("model_type", ojson.NewString("smile_"+b.f.Config.BaseModelType))
	if names := b.f.Base.Config.Architectures(); len(names) > 0 {
		for i := range names {
			names[i] = "Smile" + names[i]
		}
		raw.Set("architectures", ojson.NewStrings(names...))
	}
	raw.Set("num_experts_per_tok", ojson.NewInt(b.f.Config.TopK))
	raw.Set("rank_of_router", ojson.NewInt(b.router))
	raw.Set("rank_of_expert", ojson.NewInt(b.rank))
	raw.Set("num_local_experts", ojson.NewInt(len(b.f.Config.Experts)))
	files := []namedFile{{"config.json", ojson.Indent(raw)}}
	if len(shards) > 1 {
		files = append(files, namedFile{indexName, shardIndex(shards, index)})
	}
	return j.carried(files)
}

// reserve bounds the headers.
func (b *fusionBenchForm) reserve(p *Plan) (n [2]int) {
	n = p.reserve()
	var infos []safetensors.Info
	for i := range p.Units {
		u := &p.Units[i]
		if u.Action != ActionFuse {
			continue
		}
		names := []string{u.Name + ".gate.weight", u.Name + ".shared_linear.weight", u.Name + ".shared_linear.bias"}
		for e := range b.f.Config.Experts {
			for _, leaf := range []string{"u", "svh", "bias"} {
				names = append(names, u.Name+".experts."+strconv.Itoa(e)+"."+leaf)
			}
		}
		for _, name := range names {
			infos = append(infos, safetensors.Info{Name: name, Shape: []int{u.In * 1000, u.Out * 1000}})
		}
	}
	n[streamBase] += safetensors.HeaderBound(infos, nil)
	return n
}

func (b *fusionBenchForm) produce(u *Unit) ([]output, report, error) {
	var outs []output
	rep := report{}
	add := func(name string, t tensor.Tensor) {
		outs = append(outs, seal(streamBase, safetensors.Named{Name: name, Tensor: t}))
		rep.Parameters += int64(t.Elements())
	}
	biased := false
	for _, name := range u.Tensors {
		t, err := b.f.Base.Tensor(name)
		if err != nil {
			return nil, rep, err
		}
		if u.Action == ActionFuse {
			leaf := strings.TrimPrefix(name, u.Name+".")
			biased = biased || leaf == "bias"
			name = u.Name + ".shared_linear." + leaf
		}
		add(name, t)
	}
	if u.Action != ActionFuse {
		return outs, rep, nil
	}
	experts := len(b.f.Config.Experts)
	parts := make([]smile.Part, experts)
	g := 0
	if m := b.f.Config.Module(u.Name); m != nil {
		var err error
		if parts, err = b.f.Parts(m); err != nil {
			return nil, rep, err
		}
		g = m.RouterRank
	} else {
		for i := range parts {
			parts[i].Rank = smile.Untouched
		}
	}
	w, _ := b.f.Base.Lookup(u.Tensors[0])
	size := w.DType.Size()
	zeros := func(shape ...int) tensor.Tensor {
		return tensor.Tensor{DType: w.DType, Shape: shape, Data: make([]byte, shape[0]*max(1, shape[len(shape)-1])*size)}
	}
	gate := zeros(experts*b.router, u.In)
	for e, p := range parts {
		us, svh := zeros(u.Out, b.rank), zeros(b.rank, u.In)
		bias := tensor.Tensor{DType: w.DType, Shape: []int{u.Out}, Data: make([]byte, u.Out*size)}
		if p.Rank != smile.Untouched {
			copy(gate.Data[e*b.router*u.In*size:], p.Vt.Data[:g*u.In*size])
			copy(svh.Data, p.Vt.Data[:int(p.Rank)*u.In*size])
			for i := range u.Out {
				row := int(p.Rank) * size
				copy(us.Data[i*b.rank*size:], p.US.Data[i*row:(i+1)*row])
			}
		}
		copy(bias.Data, p.Bias.Data)
		prefix := u.Name + ".experts." + strconv.Itoa(e) + "."
		add(prefix+"u", us)
		add(prefix+"svh", svh)
		if biased {
			add(prefix+"bias", bias)
		}
	}
	add(u.Name+".gate.weight", gate)
	return outs, rep, nil
}
