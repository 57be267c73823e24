package engine_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"smelt/dtype"
	"smelt/engine"
	"smelt/internal/vfs"
	"smelt/safetensors"
	"smelt/smile"
	"smelt/tensor"
)

// verified verifies an output with its sources.
func verified(t *testing.T, fsys vfs.FS, out string, experts []engine.Source) *engine.Verification {
	t.Helper()
	in, err := engine.OpenInputs(fsys, "/base", experts)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	v, err := engine.Verify(context.Background(), fsys, out, in, 2, engine.Progress{})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// retype stores all tensors in another type.
func retype(t testing.TB, w weights, types ...dtype.DType) weights {
	var out weights
	for i, x := range w {
		d := types[i%len(types)]
		v, err := x.Float64()
		if err != nil {
			t.Fatal(err)
		}
		data := make([]byte, len(v)*d.Size())
		dtype.FromFloat64(data, v, d)
		out = append(out, safetensors.Named{Name: x.Name, Tensor: tensor.Tensor{DType: d, Shape: x.Shape, Data: data}})
	}
	return out
}

// TestTypes fuses base and experts of all types, mixed within files too, and
// stores the result in all types.
func TestTypes(t *testing.T) {
	all := []dtype.DType{dtype.F32, dtype.F16, dtype.BF16, dtype.F64}
	r := rand.New(rand.NewPCG(5, 6))
	plain := pool{t, vfs.NewMem()}.base(r)
	changed := pool{t, vfs.NewMem()}.expert(r, plain, func(string) bool { return true })
	for _, base := range append(all, dtype.Invalid) {
		for _, expert := range append(all, dtype.Invalid) {
			fsys := vfs.NewMem()
			p := pool{t, fsys}
			types := func(d dtype.DType) []dtype.DType {
				if d == dtype.Invalid {
					return all // mixed
				}
				return []dtype.DType{d}
			}
			p.write("/base", llamaConfig, retype(t, plain, types(base)...), 1)
			e := retype(t, changed, types(expert)...)
			slices.Reverse(e) // another order
			p.write("/a", llamaConfig, e, 2)
			p.write("/copy", llamaConfig, retype(t, retype(t, plain, types(base)...), types(expert)...), 1)
			for _, out := range []string{"", "F16", "F64"} {
				dir := "/out" + out
				experts := append(named("a"), engine.Source{Name: "copy", Path: "/copy"})
				mustFuse(t, fsys, experts, engine.Options{ExpertRank: 24, RouterRank: 2, DType: out}, dir, 2)
				verified(t, fsys, dir, experts)
				f, err := engine.OpenFused(fsys, dir)
				if err != nil {
					t.Fatal(err)
				}
				for _, m := range f.Config.Modules {
					if m.Ranks[1] != smile.Untouched {
						t.Errorf("base %v, copy in %v: %s has rank %d for the copy, want untouched", base, expert, m.Name, m.Ranks[1])
					}
				}
				if out != "" {
					x, err := engine.Inspect(fsys, dir)
					if err != nil || len(x.DTypes) != 1 || x.DTypes[out] == 0 {
						t.Errorf("--dtype %s: types %v, %v", out, x.DTypes, err)
					}
				}
				f.Close()
			}
		}
	}
}

// TestTied: an expert may store the tied head that the base omits, and the
// other way round.
func TestTied(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 9))
	for _, stored := range []string{"base", "expert"} {
		fsys := vfs.NewMem()
		p := pool{t, fsys}
		base := p.base(r)
		a := p.expert(r, base, func(n string) bool { return strings.Contains(n, "mlp") })
		head := *base.get("model.embed_tokens.weight")
		head.Name = "lm_head.weight"
		if stored == "base" {
			base = append(base, head)
		} else {
			a = append(a, head)
		}
		p.write("/base", llamaConfig, base, 1)
		p.write("/a", llamaConfig, a, 1)
		mustFuse(t, fsys, named("a"), engine.Options{ExpertRank: 4, RouterRank: 2}, "/out", 1)
		verified(t, fsys, "/out", named("a"))
		f, err := engine.OpenFused(fsys, "/out")
		if err != nil {
			t.Fatal(err)
		}
		if n := len(f.Manifest.Others.Changed); n > 0 {
			t.Errorf("stored in the %s: %v count as changed", stored, f.Manifest.Others.Changed)
		}
		f.Close()
	}
}

// TestConv1D: GPT-2 stores [in, out]; the factors are those of y = x·Wᵀ.
func TestConv1D(t *testing.T) {
	const config = `{"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_embd": 8}`
	r := rand.New(rand.NewPCG(3, 4))
	fsys := vfs.NewMem()
	p := pool{t, fsys}
	base := weights{
		f32(t, "transformer.wte.weight", normal(r, 20*8, 1), 20, 8),
		f32(t, "transformer.h.0.attn.c_attn.weight", normal(r, 8*24, 1), 8, 24),
		f32(t, "transformer.h.0.attn.c_attn.bias", normal(r, 24, 1), 24),
		f32(t, "transformer.h.0.attn.c_proj.weight", normal(r, 8*8, 1), 8, 8),
		f32(t, "transformer.h.0.attn.c_proj.bias", normal(r, 8, 1), 8),
	}
	a := p.expert(r, base, func(n string) bool { return strings.Contains(n, "attn") })
	p.write("/base", config, base, 1)
	p.write("/a", config, a, 1)
	mustFuse(t, fsys, named("a"), engine.Options{ExpertRank: 8, RouterRank: 2}, "/out", 1)
	verified(t, fsys, "/out", named("a"))
	f, err := engine.OpenFused(fsys, "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, name := range []string{"transformer.h.0.attn.c_attn", "transformer.h.0.attn.c_proj"} {
		m := f.Config.Module(name)
		if m == nil || !m.Transposed || m.In != 8 {
			t.Fatalf("%s: %+v, want a transposed module of 8 inputs", name, m)
		}
		parts, err := f.Parts(m)
		if err != nil {
			t.Fatal(err)
		}
		got := product(t, parts[0], m)
		w, v := base.float32s(t, name+".weight"), a.float32s(t, name+".weight")
		want := make([]float32, m.Out*m.In)
		for i := range m.Out {
			for j := range m.In {
				want[i*m.In+j] = v[j*m.Out+i] - w[j*m.Out+i]
			}
		}
		near(t, name, got.Data, want, 1e-5)
	}
	if _, err := engine.ToDense(context.Background(), fsys, "/out", "a", "/dense", engine.DefaultMaxShardSize, 1, engine.Progress{}); err != nil {
		t.Fatal(err)
	}
	mustFuse(t, fsys, []engine.Source{{Name: "a", Path: "/a"}, {Name: "dense", Path: "/dense"}}, engine.Options{ExpertRank: 8, RouterRank: 2}, "/both", 1)
}

// TestManyAdapters fuses 64 LoRA adapters.
func TestManyAdapters(t *testing.T) {
	fsys := vfs.NewMem()
	p := pool{t, fsys}
	r := rand.New(rand.NewPCG(1, 64))
	base := p.base(r)
	p.write("/base", llamaConfig, base, 1)
	var experts []engine.Source
	for i := range 64 {
		name := fmt.Sprintf("e%02d", i)
		p.adapter(r, "/"+name, 1+i%4, base, "model.layers.0.self_attn.q_proj", "model.layers.1.mlp.up_proj")
		experts = append(experts, engine.Source{Name: name, Path: "/" + name})
	}
	res := mustFuse(t, fsys, experts, engine.Options{Energy: 1, RouterRank: 1, TopK: 2}, "/out", 2)
	for name, kept := range res.Captured {
		if kept < 1-1e-9 {
			t.Errorf("%s keeps %v of its energy", name, kept)
		}
	}
	v := verified(t, fsys, "/out", experts)
	if len(v.Fidelity) != 128 {
		t.Errorf("%d deltas verified, want 128", len(v.Fidelity))
	}
}

// TestOthersAverage: what is not fused becomes the mean over all experts.
func TestOthersAverage(t *testing.T) {
	fsys := vfs.NewMem()
	p := pool{t, fsys}
	r := rand.New(rand.NewPCG(2, 2))
	base := p.base(r)
	a := p.expert(r, base, func(string) bool { return true })
	b := p.expert(r, base, func(n string) bool { return strings.Contains(n, "norm") })
	p.write("/base", llamaConfig, base, 1)
	p.write("/a", llamaConfig, a, 1)
	p.write("/b", llamaConfig, b, 1)
	mustFuse(t, fsys, named("a", "b"), engine.Options{ExpertRank: 2, RouterRank: 1, Others: engine.OthersAverage, Exclude: []string{"*.0.mlp.*"}}, "/out", 1)
	f, err := engine.OpenFused(fsys, "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, name := range []string{"model.norm.weight", "model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.down_proj.bias"} {
		x, err := f.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := x.Float32()
		u, v := a.float32s(t, name), b.float32s(t, name)
		want := make([]float64, len(got))
		for i := range want {
			want[i] = (float64(u[i]) + float64(v[i])) / 2
		}
		near(t, name, got, want, 1e-6)
	}
	if f.Config.Module("model.layers.0.mlp.up_proj") != nil || f.Config.Module("model.layers.1.mlp.up_proj") == nil {
		t.Error("--exclude '*.0.mlp.*' was not heeded")
	}
	if _, err := engine.Edit(context.Background(), fsys, "/out", engine.EditOptions{Drop: []string{"a"}}, "/x", 1, engine.Progress{}); err == nil || !strings.Contains(err.Error(), "means over its experts") {
		t.Errorf("dropping from a mean: %v", err)
	}
}

// TestInclude: a pattern makes a head fused; an embedding it cannot.
func TestInclude(t *testing.T) {
	fsys := vfs.NewMem()
	p := pool{t, fsys}
	r := rand.New(rand.NewPCG(2, 3))
	base := append(p.base(r), f32(t, "lm_head.weight", normal(r, 50*24, 1), 50, 24))
	config := strings.Replace(llamaConfig, "true", "false", 1)
	p.write("/base", config, base, 1)
	p.write("/a", config, p.expert(r, base, func(string) bool { return true }), 1)
	for _, c := range []struct {
		include []string
		fused   bool
	}{{nil, false}, {[]string{"lm_head"}, true}} {
		out := fmt.Sprintf("/out%v", c.fused)
		mustFuse(t, fsys, named("a"), engine.Options{ExpertRank: 2, RouterRank: 1, Include: c.include}, out, 1)
		f, err := engine.OpenFused(fsys, out)
		if err != nil {
			t.Fatal(err)
		}
		if (f.Config.Module("lm_head") != nil) != c.fused {
			t.Errorf("--include %q: the head is fused: %v", c.include, !c.fused)
		}
		f.Close()
	}
	_, err := fuse(fsys, named("a"), engine.Options{Include: []string{"model.embed*"}}, engine.Part{}, "/x", 1)
	if err == nil || !strings.Contains(err.Error(), "no linear layer") {
		t.Errorf("including an embedding: %v", err)
	}
}

// TestHeads: a head that the base lacks stays the expert's own.
func TestHeads(t *testing.T) {
	fsys := vfs.NewMem()
	p := pool{t, fsys}
	r := rand.New(rand.NewPCG(4, 3))
	base := p.base(r)
	head := f32(t, "score.weight", normal(r, 3*24, 1), 3, 24)
	p.write("/base", llamaConfig, base, 1)
	p.write("/a", llamaConfig, append(p.expert(r, base, func(n string) bool { return strings.Contains(n, "mlp") }), head), 1)
	p.write("/b", llamaConfig, p.expert(r, base, func(n string) bool { return strings.Contains(n, "mlp") }), 1)
	mustFuse(t, fsys, named("a", "b"), engine.Options{ExpertRank: 2, RouterRank: 1}, "/out", 1)
	verified(t, fsys, "/out", named("a", "b"))
	f, err := engine.OpenFused(fsys, "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	x, err := f.Tensor(smile.OwnName(0, "score.weight"))
	if err != nil {
		t.Fatal(err)
	}
	if string(x.Data) != string(head.Data) {
		t.Error("the expert's own head changed")
	}
}

// TestShards: small shards hold the same tensors and verify.
func TestShards(t *testing.T) {
	fsys := vfs.NewMem()
	p := pool{t, fsys}
	r := rand.New(rand.NewPCG(4, 5))
	base := weights{f32(t, "model.embed_tokens.weight", normal(r, 400_000, 1), 4000, 100)}
	for l := range 4 {
		base = append(base, f32(t, fmt.Sprintf("model.layers.%d.mlp.up_proj.weight", l), normal(r, 90_000, 1), 900, 100))
	}
	p.write("/base", llamaConfig, base, 1)
	p.write("/a", llamaConfig, p.expert(r, base, func(n string) bool { return strings.Contains(n, "mlp") }), 1)
	mustFuse(t, fsys, named("a"), engine.Options{ExpertRank: 60, RouterRank: 2, MaxShardSize: 1 << 20}, "/out", 2)
	verified(t, fsys, "/out", named("a"))
	files := tree(t, fsys, "/out")
	shards := 0
	for name, data := range files {
		if strings.HasSuffix(name, ".safetensors") {
			if shards++; len(data) > 1<<20+4096 && !strings.Contains(data[:4096], "embed_tokens") {
				t.Errorf("shard %s has %d bytes, over the limit", name, len(data))
			}
		}
	}
	if shards < 4 || files["model.safetensors.index.json"] == "" {
		t.Errorf("%d shards", shards)
	}
}

// TestVerify: damage is found and located, and sources that are not the ones
// are told from a bad fusion by the figures.
func TestVerify(t *testing.T) {
	fsys := vfs.NewMem()
	pool{t, fsys}.standard()
	mustFuse(t, fsys, named("a", "b"), engine.Options{ExpertRank: 4, RouterRank: 2}, "/out", 1)
	v := verified(t, fsys, "/out", named("a", "b"))
	for _, x := range v.Fidelity {
		if !(x.Error >= x.Optimum-1e-3) || math.IsNaN(x.Error) {
			t.Errorf("%s %s: error %g is below the optimum %g", x.Module, x.Expert, x.Error, x.Optimum)
		}
	}
	verify := func(what, want string, experts []engine.Source) {
		t.Helper()
		var in *engine.Inputs
		if experts != nil {
			var err error
			if in, err = engine.OpenInputs(fsys, "/base", experts); err != nil {
				t.Fatal(err)
			}
			defer in.Close()
		}
		if _, err := engine.Verify(context.Background(), fsys, "/out", in, 1, engine.Progress{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error with %q", what, err, want)
		} else if n := strings.Count(err.Error(), "\n"); n > 6 {
			t.Errorf("%s: an error of %d lines", what, n)
		}
	}
	verify("experts swapped", "worse than certified", []engine.Source{{Name: "a", Path: "/b"}, {Name: "b", Path: "/a"}})
	verify("another expert", "holds the experts a, b, the sources are a, c", named("a", "c"))

	damage := func(file string, edit func(data []byte) []byte) (restore func()) {
		old, err := vfs.ReadFile(fsys, file, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		if err := vfs.WriteFile(fsys, file, edit(slices.Clone(old))); err != nil {
			t.Fatal(err)
		}
		return func() {
			if err := vfs.WriteFile(fsys, file, old); err != nil {
				t.Fatal(err)
			}
		}
	}
	flip := func(data []byte) []byte { data[len(data)-5] ^= 1; return data }
	restore := damage("/out/model-00002-of-00002.safetensors", flip)
	verify("a flipped bit", `up_proj.smile.us" has another checksum`, nil)
	restore()
	restore = damage("/out/tokenizer_config.json", flip)
	verify("a changed file", `file "tokenizer_config.json"`, nil)
	restore()
	if err := vfs.WriteFile(fsys, "/out/extra.bin", []byte("x")); err != nil {
		t.Fatal(err)
	}
	verify("an added file", `file "extra.bin" is not in smelt.json`, nil)
	if err := fsys.Remove("/out/extra.bin"); err != nil {
		t.Fatal(err)
	}
	restore = damage("/out/config.json", func(d []byte) []byte {
		return []byte(strings.Replace(string(d), `"in": 24`, `"in": 25`, 1))
	})
	verify("a config that does not fit", "the config says", nil)
	restore()
	verified(t, fsys, "/out", named("a", "b"))
}
