package engine_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	"smelt/dtype"
	"smelt/engine"
	"smelt/internal/vfs"
	"smelt/safetensors"
	"smelt/tensor"
)

// pool makes small checkpoints: a two-layer llama of width 24 with biases, and
// fine-tunes of it.
type pool struct {
	t  testing.TB
	fs vfs.FS
}

const llamaConfig = `{
  "architectures": ["LlamaForCausalLM"],
  "model_type": "llama",
  "hidden_size": 24,
  "tie_word_embeddings": true,
  "torch_dtype": "float32"
}
`

// weights are the tensors of a checkpoint in file order.
type weights []safetensors.Named

func (w weights) get(name string) *safetensors.Named {
	for i := range w {
		if w[i].Name == name {
			return &w[i]
		}
	}
	return nil
}

func (w weights) clone() weights {
	c := slices.Clone(w)
	for i := range c {
		c[i].Data = bytes.Clone(c[i].Data)
	}
	return c
}

// float32s returns the elements of a tensor.
func (w weights) float32s(t testing.TB, name string) []float32 {
	v, err := w.get(name).Float32()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (w weights) set(name string, v []float32) {
	x := w.get(name)
	dtype.FromFloat32(x.Data, v, x.DType)
}

func f32(t testing.TB, name string, v []float32, shape ...int) safetensors.Named {
	x, err := tensor.FromFloat32(dtype.F32, v, shape...)
	if err != nil {
		t.Fatal(err)
	}
	return safetensors.Named{Name: name, Tensor: x}
}

func normal(r *rand.Rand, n int, scale float64) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(r.NormFloat64() * scale)
	}
	return v
}

// layers lists the linear layers of the base and their shapes.
var layers = []struct {
	name    string
	out, in int
	bias    bool
}{
	{"self_attn.q_proj", 24, 24, true},
	{"self_attn.k_proj", 8, 24, true},
	{"self_attn.o_proj", 24, 24, false},
	{"mlp.up_proj", 40, 24, false},
	{"mlp.down_proj", 24, 40, true},
}

func (p pool) base(r *rand.Rand) weights {
	w := weights{f32(p.t, "model.embed_tokens.weight", normal(r, 50*24, 1), 50, 24)}
	for l := range 2 {
		prefix := fmt.Sprintf("model.layers.%d.", l)
		w = append(w, f32(p.t, prefix+"input_layernorm.weight", normal(r, 24, 1), 24))
		for _, x := range layers {
			if x.bias {
				w = append(w, f32(p.t, prefix+x.name+".bias", normal(r, x.out, 1), x.out))
			}
			w = append(w, f32(p.t, prefix+x.name+".weight", normal(r, x.out*x.in, 1), x.out, x.in))
		}
	}
	return append(w, f32(p.t, "model.norm.weight", normal(r, 24, 1), 24))
}

// expert perturbs the tensors of base whose names change accepts.
func (p pool) expert(r *rand.Rand, base weights, change func(name string) bool) weights {
	w := base.clone()
	for _, x := range w {
		if !change(x.Name) {
			continue
		}
		v := w.float32s(p.t, x.Name)
		for i, d := range normal(r, len(v), 0.05) {
			v[i] += d
		}
		w.set(x.Name, v)
	}
	return w
}

// write stores a checkpoint in shards of the given number.
func (p pool) write(dir, config string, w weights, shards int) {
	p.must(p.fs.MkdirAll(dir))
	p.must(vfs.WriteFile(p.fs, path.Join(dir, "config.json"), []byte(config)))
	p.must(vfs.WriteFile(p.fs, path.Join(dir, "generation_config.json"), []byte("{\"eos_token_id\": 2}\n")))
	p.must(vfs.WriteFile(p.fs, path.Join(dir, "tokenizer_config.json"), []byte("{\"model_max_length\": 64}\n")))
	if shards == 1 {
		p.must(safetensors.Write(p.fs, path.Join(dir, "model.safetensors"), w, nil))
		return
	}
	var index strings.Builder
	for s := range shards {
		name := fmt.Sprintf("model-%05d-of-%05d.safetensors", s+1, shards)
		part := w[len(w)*s/shards : len(w)*(s+1)/shards]
		p.must(safetensors.Write(p.fs, path.Join(dir, name), part, nil))
		for _, x := range part {
			if index.Len() > 0 {
				index.WriteString(",")
			}
			fmt.Fprintf(&index, "%q: %q", x.Name, name)
		}
	}
	p.must(vfs.WriteFile(p.fs, path.Join(dir, "model.safetensors.index.json"),
		[]byte(`{"metadata": {}, "weight_map": {`+index.String()+`}}`)))
}

// adapter stores a LoRA adapter of the given rank on the modules.
func (p pool) adapter(r *rand.Rand, dir string, rank int, base weights, modules ...string) {
	p.must(p.fs.MkdirAll(dir))
	var w weights
	var targets []string
	for _, m := range modules {
		shape := base.get(m + ".weight").Shape
		name := "base_model.model." + m
		w = append(w,
			f32(p.t, name+".lora_A.weight", normal(r, rank*shape[1], 0.1), rank, shape[1]),
			f32(p.t, name+".lora_B.weight", normal(r, shape[0]*rank, 0.1), shape[0], rank))
		targets = append(targets, fmt.Sprintf("%q", m))
	}
	p.must(safetensors.Write(p.fs, path.Join(dir, "adapter_model.safetensors"), w, nil))
	p.must(vfs.WriteFile(p.fs, path.Join(dir, "adapter_config.json"), []byte(fmt.Sprintf(
		`{"peft_type": "LORA", "r": %d, "lora_alpha": %d, "target_modules": [%s], "base_model_name_or_path": "base"}`,
		rank, 2*rank, strings.Join(targets, ", ")))))
}

func (p pool) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// standard writes /base, three full experts a, b and c, and an adapter d:
// c leaves layer 0 alone, nobody touches layer 1's down_proj.
func (p pool) standard() []engine.Source {
	r := rand.New(rand.NewPCG(7, 11))
	base := p.base(r)
	p.write("/base", llamaConfig, base, 2)
	spare := func(name string) bool { return strings.HasPrefix(name, "model.layers.1.mlp.down_proj") }
	p.write("/a", llamaConfig, p.expert(r, base, func(n string) bool { return !spare(n) }), 1)
	p.write("/b", llamaConfig, p.expert(r, base, func(n string) bool { return !spare(n) && strings.HasPrefix(n, "model.layers") }), 3)
	p.write("/c", llamaConfig, p.expert(r, base, func(n string) bool { return !spare(n) && strings.HasPrefix(n, "model.layers.1") }), 1)
	p.adapter(r, "/d", 3, base, "model.layers.0.self_attn.q_proj", "model.layers.0.mlp.up_proj", "model.layers.1.self_attn.q_proj")
	return named("a", "b", "c", "d")
}

func named(names ...string) (s []engine.Source) {
	for _, n := range names {
		s = append(s, engine.Source{Name: n, Path: "/" + n})
	}
	return s
}

// fuse fuses /base with the experts into out.
func fuse(fsys vfs.FS, experts []engine.Source, opt engine.Options, part engine.Part, out string, workers int) (*engine.Result, error) {
	in, err := engine.OpenInputs(fsys, "/base", experts)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	plan, err := engine.NewPlan(in, opt)
	if err != nil {
		return nil, err
	}
	return engine.Run(context.Background(), in, plan, part, out, workers, engine.Progress{})
}

func mustFuse(t testing.TB, fsys vfs.FS, experts []engine.Source, opt engine.Options, out string, workers int) *engine.Result {
	t.Helper()
	res, err := fuse(fsys, experts, opt, engine.Part{}, out, workers)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// tree is every file below dir with its content.
func tree(t testing.TB, fsys vfs.FS, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	var walk func(name string)
	walk = func(name string) {
		entries, err := fsys.ReadDir(path.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			p := path.Join(name, e.Name())
			if e.IsDir() {
				walk(p)
				continue
			}
			data, err := vfs.ReadFile(fsys, path.Join(dir, p), 1<<30)
			if err != nil {
				t.Fatal(err)
			}
			files[p] = string(data)
		}
	}
	walk("")
	return files
}

// sameTree fails where two directories differ.
func sameTree(t testing.TB, what string, got, want map[string]string) {
	t.Helper()
	for name, data := range want {
		switch other, ok := got[name]; {
		case !ok:
			t.Errorf("%s: file %s is missing", what, name)
		case other != data:
			t.Errorf("%s: file %s differs: %d and %d bytes", what, name, len(other), len(data))
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s: file %s is new", what, name)
		}
	}
}

func missing(fsys vfs.FS, name string) bool {
	_, err := fsys.Lstat(name)
	return err != nil && strings.Contains(err.Error(), fs.ErrNotExist.Error())
}

// halve rounds all tensors to bf16.
func halve(t testing.TB, w weights) weights {
	var h weights
	for _, x := range w {
		y, err := tensor.FromFloat32(dtype.BF16, w.float32s(t, x.Name), x.Shape...)
		if err != nil {
			t.Fatal(err)
		}
		h = append(h, safetensors.Named{Name: x.Name, Tensor: y})
	}
	return h
}
