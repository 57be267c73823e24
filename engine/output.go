package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"smelt/checkpoint"
	"smelt/dtype"
	"smelt/internal/ojson"
	"smelt/internal/vfs"
	"smelt/interop"
	"smelt/smile"
)

const (
	maxCarry  = 1 << 30 // bytes of one file that is taken over
	indexName = "model.safetensors.index.json"
)

// fusedForm is a fused model in the native format.
type fusedForm struct{}

func (fusedForm) shards(counts [2]int) [2][]string { return modelShards(counts) }

func (fusedForm) result(j *job, records []record) (*Result, error) {
	_, cfg, res := j.describe(records)
	return res, cfg.Validate()
}

// files makes config, card, code and manifest, the manifest last.
func (fusedForm) files(j *job, records []record, shards map[string]manifestShard, index map[string]string) ([]namedFile, error) {
	m, cfg, _ := j.describe(records)
	m.Shards = shards
	config, err := fusedConfig(j.plan, cfg)
	if err != nil {
		return nil, err
	}
	files := []namedFile{{"config.json", config}, {"README.md", modelCard(j.plan, m, cfg)}}
	for _, f := range interop.TransformersCode() {
		files = append(files, namedFile{f.Name, f.Data})
	}
	if len(shards) > 1 {
		files = append(files, namedFile{indexName, shardIndex(shards, index)})
	}
	if files, err = j.carried(files); err != nil {
		return nil, err
	}
	for _, f := range files {
		sum := sha256.Sum256(f.data)
		m.Files[f.name] = manifestFile{int64(len(f.data)), hex.EncodeToString(sum[:])}
	}
	text, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return nil, err
	}
	return append(files, namedFile{manifestName, append(text, '\n')}), nil
}

// describe puts together what the units found out: the manifest without its
// shards, the block of the config, and the result.
func (j *job) describe(records []record) (*Manifest, *smile.Config, *Result) {
	p := j.plan
	cfg := &smile.Config{Base: p.Base, BaseModelType: p.ModelType, Experts: p.Experts, TopK: p.Options.TopK, RouterRank: p.Options.RouterRank}
	m := &Manifest{
		Format: formatVersion, Generator: "smelt " + Version, Asked: p.asked(), Files: map[string]manifestFile{},
		Parameters: Parameters{Base: p.Parameters, Output: p.Parameters, Sources: map[string]int64{}}, Modules: map[string][]ExpertFidelity{},
		Others: Others{Policy: p.Options.Others},
	}
	res := &Result{Out: j.out, Captured: map[string]float64{}, Warnings: slices.Clone(p.Warnings)}
	energy, captured := make([]float64, len(p.Experts)), make([]float64, len(p.Experts))
	change := make([]float64, len(p.Experts)) // fused or not
	index := map[string]int{}
	for i, e := range p.Experts {
		index[e.Name] = i
		m.Parameters.Sources[e.Name] = p.Sources[i]
	}
	uncertain := 0
	for _, r := range records {
		m.Parameters.Output += r.Report.Parameters
		for i, v := range r.Report.Changed {
			change[i] += v
		}
		f := r.Report.Module
		if f == nil {
			continue
		}
		f.Name = p.Units[r.Unit].Name
		cfg.Modules = append(cfg.Modules, f.Module)
		m.Modules[f.Name] = f.Fidelity
		uncertain += len(f.Uncertain)
		for _, x := range f.Fidelity {
			i := index[x.Expert]
			energy[i] += x.Energy
			captured[i] += x.Captured
			change[i] += x.Energy
		}
	}
	for _, r := range records {
		if len(r.Report.Changed) == 0 {
			continue
		}
		c := ChangedTensor{Tensor: p.Units[r.Unit].Name, Note: r.Report.Note, Experts: map[string]float64{}}
		for i, v := range r.Report.Changed {
			c.Experts[p.Experts[i].Name] = v
		}
		m.Others.Changed = append(m.Others.Changed, c)
	}
	var equal []string
	unfused, worst := 0.0, ""
	for i, e := range p.Experts {
		res.Captured[e.Name] = ratio(captured[i], energy[i])
		if change[i] == 0 {
			equal = append(equal, e.Name)
		}
		if share := ratio(change[i]-energy[i], change[i]); share > unfused {
			unfused, worst = share, e.Name
		}
	}
	if len(equal) > 0 {
		res.Warnings = append(res.Warnings, fmt.Sprintf("equal to the base: %s", strings.Join(equal, ", ")))
	}
	if unfused > 0.01 {
		res.Warnings = append(res.Warnings, fmt.Sprintf("up to %.1f %% of an expert's change (%s) lies in tensors that are not fused (norms, embeddings, …): smelt.json lists them", 100*unfused, worst))
	}
	if uncertain > 0 {
		res.Warnings = append(res.Warnings, fmt.Sprintf("%d deltas have spectra so flat that the truncation is not certified to 0.1 %%: see captured and bound in smelt.json", uncertain))
	}
	res.Parameters, res.Modules = m.Parameters, len(cfg.Modules)
	return m, cfg, res
}

func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// carried appends the files that the output takes over from the base.
func (j *job) carried(files []namedFile) ([]namedFile, error) {
	for _, name := range j.plan.Carry {
		if slices.ContainsFunc(files, func(f namedFile) bool { return f.name == name }) {
			continue
		}
		data, err := vfs.ReadFile(j.fs, filepath.Join(j.carry, filepath.FromSlash(name)), maxCarry)
		if err != nil {
			return nil, err
		}
		files = append(files, namedFile{name, data})
	}
	return files, nil
}

// fusedConfig is the base's config.json with another model_type, the smile
// block, and what makes transformers run the code beside it.
func fusedConfig(p *Plan, cfg *smile.Config) ([]byte, error) {
	c, err := checkpoint.ParseConfig([]byte(p.BaseConfig))
	if err != nil {
		return nil, fmt.Errorf("config.json of the base: %w", err)
	}
	text, err := json.Marshal(cfg)
	if err != nil {
		return nil, err
	}
	block, err := ojson.Parse(text)
	if err != nil {
		return nil, err
	}
	raw := c.Raw
	raw.Members = slices.Clone(raw.Members)
	raw.Set("model_type", ojson.NewString(modelType))
	if names := c.Architectures(); len(names) > 0 {
		for i := range names {
			names[i] = interop.Architecture(names[i])
		}
		raw.Set("architectures", ojson.NewStrings(names...))
	}
	auto, err := ojson.Parse(interop.AutoMap())
	if err != nil {
		return nil, err
	}
	raw.Set("auto_map", auto)
	if d := p.Options.DType; d != "" {
		for _, key := range []string{"dtype", "torch_dtype"} {
			if _, ok := raw.Get(key); ok {
				raw.Set(key, ojson.NewString(p.target(dtype.F32).Torch()))
			}
		}
	}
	raw.Set("smile", block)
	return ojson.Indent(raw), nil
}

// shardIndex is model.safetensors.index.json.
func shardIndex(shards map[string]manifestShard, index map[string]string) []byte {
	var total int64
	for _, s := range shards {
		total += s.Bytes
	}
	names := make([]string, 0, len(index))
	for name := range index {
		names = append(names, name)
	}
	sort.Strings(names)
	weights := make([]ojson.Member, len(names))
	for i, name := range names {
		weights[i] = ojson.Member{Name: name, Value: ojson.NewString(index[name])}
	}
	return ojson.Indent(ojson.NewObject(
		ojson.Member{Name: "metadata", Value: ojson.NewObject(ojson.Member{Name: "total_size", Value: ojson.NewInt(int(total))})},
		ojson.Member{Name: "weight_map", Value: ojson.NewObject(weights...)},
	))
}
