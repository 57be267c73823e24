package checkpoint_test

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"smelt/checkpoint"
	"smelt/internal/vfs"
	"smelt/safetensors"
)

const adapters = "testdata/adapters"

// adapterBases returns, for each adapter that PEFT made, the base it is for.
func adapterBases(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(adapters, "index.json"))
	if err != nil {
		t.Fatalf("%v: run tools/golden/checkpoint/adapters.py", err)
	}
	var x struct{ Base map[string]string }
	if err := json.Unmarshal(text, &x); err != nil {
		t.Fatal(err)
	}
	if len(x.Base) < 25 {
		t.Fatalf("only %d adapters", len(x.Base))
	}
	return x.Base
}

func openBase(t *testing.T, name string) *checkpoint.Checkpoint {
	t.Helper()
	c, err := checkpoint.Open(vfs.OS, filepath.Join(adapters, "base-"+name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// apply returns every tensor of the base that the adapter changes, changed.
func apply(t *testing.T, a *checkpoint.Adapter, base *checkpoint.Checkpoint) map[string][]float64 {
	t.Helper()
	fromAdapter := func(name string) []float64 {
		x, err := a.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		v, err := x.Float64()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	out := map[string][]float64{}
	current := func(name string) []float64 {
		if out[name] == nil {
			x, err := base.Tensor(name)
			if err != nil {
				t.Fatal(err)
			}
			if out[name], err = x.Float64(); err != nil {
				t.Fatal(err)
			}
		}
		return out[name]
	}
	for name, stored := range a.Saved() {
		out[name] = fromAdapter(stored)
	}
	for _, m := range a.Modules() {
		w := current(m.Name + ".weight")
		A, B := fromAdapter(m.A), fromAdapter(m.B)
		in, outs := len(A)/m.Rank, len(B)/m.Rank
		for o := range outs {
			for i := range in {
				sum := 0.0
				for r := range m.Rank {
					sum += B[o*m.Rank+r] * A[r*in+i]
				}
				at := o*in + i
				if base.Transposed(m.Name + ".weight") {
					at = i*outs + o
				}
				w[at] += m.Scale * sum
			}
		}
		if m.BiasB != "" {
			b := current(m.Name + ".bias")
			for i, v := range fromAdapter(m.BiasB) {
				b[i] += m.Scale * v
			}
		}
	}
	return out
}

// TestAdaptersMergeAsPEFTs forms base + scale·B·A for every adapter that PEFT
// made and compares it with what PEFT's merge_and_unload gave.
func TestAdaptersMergeAsPEFTs(t *testing.T) {
	for name, baseName := range adapterBases(t) {
		if strings.HasPrefix(name, "no-") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			base := openBase(t, baseName)
			dir := filepath.Join(adapters, name)
			if !checkpoint.IsAdapter(vfs.OS, dir) {
				t.Fatal("is not taken for an adapter")
			}
			a, err := checkpoint.OpenAdapter(vfs.OS, dir)
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			if p := a.CheckAgainst(base); len(p) > 0 {
				t.Fatalf("does not fit its base: %q", p)
			}
			got := apply(t, a, base)
			merged, err := safetensors.Open(vfs.OS, filepath.Join(dir, "merged.safetensors"))
			if err != nil {
				t.Fatal(err)
			}
			defer merged.Close()
			const tol = 1e-6
			for _, info := range merged.Tensors() {
				x, err := merged.Tensor(info.Name)
				if err != nil {
					t.Fatal(err)
				}
				want, err := x.Float64()
				if err != nil {
					t.Fatal(err)
				}
				have := got[info.Name]
				if have == nil {
					t.Errorf("%s: PEFT changed it, we did not", info.Name)
					continue
				}
				for i := range want {
					if !(math.Abs(have[i]-want[i]) <= tol*(1+math.Abs(want[i]))) {
						t.Errorf("%s[%d] is %v, PEFT has %v", info.Name, i, have[i], want[i])
						break
					}
				}
				delete(got, info.Name)
			}
			for n, v := range got { // what PEFT left as it was must be so here
				x, err := base.Tensor(n)
				if err != nil {
					t.Fatal(err)
				}
				if b, _ := x.Float64(); !slices.Equal(b, v) {
					t.Errorf("%s: we changed it, PEFT did not", n)
				}
			}
		})
	}
}

func TestAdapterRefusals(t *testing.T) {
	for name, want := range map[string]string{
		"no-dora":        "use_dora is set",
		"no-pissa":       `init_lora_weights is "pissa_niter_2"`,
		"no-olora":       `init_lora_weights is "olora"`,
		"no-embedding":   "lora_embedding_A",
		"no-tokens":      "trainable_token_indices is set",
		"no-replication": "layer_replication is set",
		"no-parameters":  "target_parameters is set",
		"no-kasa":        "kasa_config is set",
	} {
		_, err := checkpoint.OpenAdapter(vfs.OS, filepath.Join(adapters, name))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "merge") {
			t.Errorf("%s: error %v, want one with %q and what to do", name, err, want)
		}
	}
}

func TestAdapterConfigs(t *testing.T) {
	for change, want := range map[string]string{
		`"peft_type":"IA3"`:                                      `peft_type is "IA3"`,
		`"peft_type":null`:                                       `peft_type is ""`,
		`"r":0`:                                                  "r is missing",
		`"r":2.5`:                                                "r is missing",
		`"r":null`:                                               "r is missing",
		`"r":3`:                                                  "of rank 2, but the config says 3",
		`"lora_alpha":"x"`:                                       "lora_alpha is missing",
		`"lora_alpha":NaN`:                                       "lora_alpha is missing",
		`"loftq_config":{"loftq_bits":4}`:                        "loftq_config is set",
		`"init_lora_weights":"loftq"`:                            "alters the base",
		`"init_lora_weights":"corda"`:                            "alters the base",
		`"init_lora_weights":"lora_ga"`:                          "alters the base",
		`"init_lora_weights":"invented"`:                         "alters the base",
		`"use_qalora":true`:                                      "use_qalora is set",
		`"use_bdlora":{"nblocks":2}`:                             "use_bdlora is set",
		`"alora_invocation_tokens":[1]`:                          "alora_invocation_tokens is set",
		`"arrow_config":{"top_k":1}`:                             "arrow_config is set",
		`"velora_config":{"a":1}`:                                "velora_config is set",
		`"monteclora_config":{"a":1}`:                            "monteclora_config is set",
		`"megatron_config":{"a":1}`:                              "megatron_config is set",
		`"something_new":{"a":1}`:                                `something_new is set to {"a":1}, which smelt does not know`,
		`"something_new":null`:                                   "",
		`"something_new":false`:                                  "",
		`"qalora_group_size":32`:                                 "",
		`"init_lora_weights":"eva"`:                              "",
		`"init_lora_weights":false`:                              "",
		`"eva_config":{"rho":2}`:                                 "",
		`"target_modules":["q_proj"]`:                            "not among target_modules",
		`"target_modules":".*q_proj"`:                            "not among target_modules",
		`"target_modules":"all-linear"`:                          "",
		`"target_modules":null`:                                  "",
		`"target_modules":7`:                                     "target_modules is neither",
		`"target_modules":"("`:                                   "regular expression",
		`"exclude_modules":["v_proj"]`:                           "not among target_modules",
		`"layers_to_transform":0`:                                "not among target_modules",
		`"layers_to_transform":[0,1]`:                            "",
		`"layers_to_transform":["a"]`:                            "layers_to_transform",
		`"rank_pattern":{"q_proj":4}`:                            "of rank 2, but the config says 4",
		`"rank_pattern":{"nothing":4}`:                           "",
		`"rank_pattern":{"proj":4}`:                              "",
		`"rank_pattern":{"(":4}`:                                 "regular expression",
		`"rank_pattern":{"q_proj":"4"}`:                          "no finite number",
		`"rank_pattern":[]`:                                      "not an object",
		`"alpha_pattern":{"(?=q)(((a+)+)+)+_proj":1}`:            "",
		`"use_rslora":"yes"`:                                     "use_rslora is a string",
		`"bias":"some"`:                                          `bias is "some"`,
		`"modules_to_save":[1]`:                                  "modules_to_save is not a list",
		`"rank_pattern":{"` + strings.Repeat("a", 5000) + `":1}`: "more than 4096",
	} {
		fsys := copyAdapter(t, "plain")
		setKey(t, fsys, change)
		a, err := checkpoint.OpenAdapter(fsys, "/a")
		if err == nil {
			_ = a.Close()
		}
		switch {
		case want == "" && err != nil:
			t.Errorf("%.80s: %v", change, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%.80s: error %v, want one with %q", change, err, want)
		case err != nil && strings.Count(err.Error(), "\n") > 5:
			t.Errorf("%.80s: %d lines of error", change, 1+strings.Count(err.Error(), "\n"))
		}
	}
}

// copyAdapter copies an adapter into memory, as /a.
func copyAdapter(t *testing.T, name string) vfs.FS {
	t.Helper()
	m := vfs.NewMem()
	if err := m.MkdirAll("/a"); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"adapter_config.json", "adapter_model.safetensors"} {
		b, err := os.ReadFile(filepath.Join(adapters, name, f))
		if err != nil {
			t.Fatal(err)
		}
		if err := vfs.WriteFile(m, "/a/"+f, b); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// setKey replaces one key of an adapter's config: `"key":value`.
func setKey(t *testing.T, fsys vfs.FS, member string) {
	t.Helper()
	text, err := vfs.ReadFile(fsys, "/a/adapter_config.json", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	key, value, _ := strings.Cut(member, ":")
	cfg, err := checkpoint.ParseConfig(text)
	if err != nil {
		t.Fatal(err)
	}
	v, err := checkpoint.ParseConfig([]byte("{" + key + ":" + value + "}"))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Raw.Set(v.Raw.Members[0].Name, v.Raw.Members[0].Value)
	if err := vfs.WriteFile(fsys, "/a/adapter_config.json", cfg.JSON()); err != nil {
		t.Fatal(err)
	}
}

// rewrite changes the tensors of the adapter in /a.
func rewrite(t *testing.T, fsys vfs.FS, change func([]safetensors.Named) []safetensors.Named) {
	t.Helper()
	f, err := safetensors.Open(fsys, "/a/adapter_model.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	var ts []safetensors.Named
	for _, info := range f.Tensors() {
		x, err := f.Tensor(info.Name)
		if err != nil {
			t.Fatal(err)
		}
		ts = append(ts, safetensors.Named{Name: info.Name, Tensor: x})
	}
	if err := safetensors.Write(fsys, "/a/adapter_model.safetensors", change(ts), nil); err != nil {
		t.Fatal(err)
	}
}

func TestAdapterTensors(t *testing.T) {
	const q = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
	rename := func(from, to string) func([]safetensors.Named) []safetensors.Named {
		return func(ts []safetensors.Named) []safetensors.Named {
			for i := range ts {
				ts[i].Name = strings.ReplaceAll(ts[i].Name, from, to)
			}
			return ts
		}
	}
	for what, c := range map[string]struct {
		change func([]safetensors.Named) []safetensors.Named
		want   string
	}{
		"no prefix":          {rename("base_model.model.", ""), ""},
		"adapter's name":     {rename(".weight", ".default.weight"), ""},
		"other name":         {rename(".weight", ".mine.weight"), ""},
		"half":               {func(ts []safetensors.Named) []safetensors.Named { return ts[1:] }, "only one of lora_A and lora_B"},
		"none":               {func([]safetensors.Named) []safetensors.Named { return nil }, "holds no tensors"},
		"magnitude":          {rename(q, strings.Replace(q, "lora_A.weight", "lora_magnitude_vector", 1)), "DoRA"},
		"stranger":           {rename(q, "base_model.model.x.weight"), "neither part of an update"},
		"bias without leave": {rename(q, "base_model.model.x.bias"), "neither part of an update"},
		"unknown part":       {rename("lora_A.weight", "lora_E.weight"), "no part of a plain LoRA update"},
		"flat": {func(ts []safetensors.Named) []safetensors.Named {
			ts[0].Shape = []int{len(ts[0].Data) / 4}
			return ts
		}, "want [r,in] and [out,r]"},
		"convolution": {func(ts []safetensors.Named) []safetensors.Named {
			ts[0].Shape = append(ts[0].Shape, 1, 1)
			return ts
		}, "convolutions"},
		"ranks differ": {func(ts []safetensors.Named) []safetensors.Named {
			for i := range ts {
				if ts[i].Name == q {
					ts[i].Shape = []int{ts[i].Shape[1], ts[i].Shape[0]}
				}
			}
			return ts
		}, "the ranks differ"},
		"twice": {func(ts []safetensors.Named) []safetensors.Named {
			x := ts[0]
			x.Name = strings.TrimPrefix(x.Name, "base_model.model.")
			return append(ts, x)
		}, "same part of one module"},
	} {
		fsys := copyAdapter(t, "plain")
		rewrite(t, fsys, c.change)
		a, err := checkpoint.OpenAdapter(fsys, "/a")
		if err == nil {
			if n := len(a.Modules()); n != 4 {
				t.Errorf("%s: %d modules", what, n)
			}
			_ = a.Close()
		}
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: error %v, want one with %q", what, err, c.want)
		}
	}
}

func TestAdapterFiles(t *testing.T) {
	fsys := copyAdapter(t, "plain")
	if err := fsys.Rename("/a/adapter_model.safetensors", "/a/adapter_model.bin"); err != nil {
		t.Fatal(err)
	}
	if _, err := checkpoint.OpenAdapter(fsys, "/a"); err == nil || !strings.Contains(err.Error(), "safe_serialization=True") {
		t.Errorf("pickle: %v", err)
	}
	if err := fsys.Remove("/a/adapter_model.bin"); err != nil {
		t.Fatal(err)
	}
	if _, err := checkpoint.OpenAdapter(fsys, "/a"); err == nil || !strings.Contains(err.Error(), "is missing") {
		t.Errorf("nothing: %v", err)
	}
	if _, err := checkpoint.Open(fsys, "/a"); err == nil || !strings.Contains(err.Error(), "PEFT adapter, want a whole model") {
		t.Errorf("an adapter as a base: %v", err)
	}
}

func TestAdapterAgainstAnotherBase(t *testing.T) {
	a, err := checkpoint.OpenAdapter(vfs.OS, filepath.Join(adapters, "plain"))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	p := a.CheckAgainst(openBase(t, "gpt2"))
	if len(p) != 1 || !strings.Contains(p[0], "4 of 4 modules are not in the base") {
		t.Errorf("another model: %q", p)
	}
	wide := openMem(t, `{"model_type":"llama"}`, zeros(t,
		"model.layers.0.self_attn.q_proj.weight", 16, 8, "model.layers.0.self_attn.v_proj.weight", 4, 8,
		"model.layers.1.self_attn.q_proj.weight", 8, 8, "model.layers.1.self_attn.v_proj.weight", 4, 8))
	p = a.CheckAgainst(wide)
	if len(p) != 1 || !strings.Contains(p[0], "is for a weight [8 8], the base's is [16 8]") {
		t.Errorf("another width: %q", p)
	}
}

// TestAdapterRebase takes an adapter of a headed model to the bare one.
func TestAdapterRebase(t *testing.T) {
	a, err := checkpoint.OpenAdapter(vfs.OS, filepath.Join(adapters, "plain"))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	bare := openMem(t, `{"model_type":"llama"}`, zeros(t,
		"layers.0.self_attn.q_proj.weight", 8, 8, "layers.0.self_attn.v_proj.weight", 4, 8,
		"layers.1.self_attn.q_proj.weight", 8, 8, "layers.1.self_attn.v_proj.weight", 4, 8))
	notes := a.Rebase(bare)
	if len(notes) != 2 || !strings.Contains(notes[0], `4 of 4 modules were matched across the prefix "model.", which only the names of the expert have`) ||
		!strings.Contains(notes[1], `was trained on "plain"`) {
		t.Errorf("notes %q", notes)
	}
	if p := a.CheckAgainst(bare); len(p) > 0 {
		t.Errorf("after Rebase: %q", p)
	}
	if got := a.Modules()[0].Name; got != "layers.0.self_attn.q_proj" {
		t.Errorf("first module %q", got)
	}
}

func TestAdapterFingerprint(t *testing.T) {
	fsys := copyAdapter(t, "plain")
	print := func() string {
		a, err := checkpoint.OpenAdapter(fsys, "/a")
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		s, err := a.Fingerprint()
		if err != nil || s == "" {
			t.Fatal(s, err)
		}
		return s
	}
	one := print()
	if two := print(); one != two {
		t.Error("two fingerprints of one adapter")
	}
	setKey(t, fsys, `"lora_alpha":6`)
	if two := print(); one == two {
		t.Error("the fingerprint misses lora_alpha")
	}
}

// FuzzAdapterConfig feeds an adapter's config: it must give an error or an
// adapter whose scales are finite.
func FuzzAdapterConfig(f *testing.F) {
	for _, name := range []string{"plain", "patterns", "layers", "no-dora", "bias-all"} {
		text, err := os.ReadFile(filepath.Join(adapters, name, "adapter_config.json"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	weights, err := os.ReadFile(filepath.Join(adapters, "plain", "adapter_model.safetensors"))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m := vfs.NewMem()
		if err := m.MkdirAll("/a"); err != nil {
			t.Fatal(err)
		}
		for name, data := range map[string][]byte{"/a/adapter_config.json": text, "/a/adapter_model.safetensors": weights} {
			if err := vfs.WriteFile(m, name, data); err != nil {
				t.Fatal(err)
			}
		}
		a, err := checkpoint.OpenAdapter(m, "/a")
		if err != nil {
			return
		}
		defer a.Close()
		for _, mod := range a.Modules() {
			if mod.Scale-mod.Scale != 0 {
				t.Fatalf("scale %v", mod.Scale)
			}
		}
	})
}
