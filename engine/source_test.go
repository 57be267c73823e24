package engine

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"smelt/dtype"
	"smelt/generate"
	"smelt/internal/kernel"
	"smelt/internal/vfs"
	"smelt/model/llama"
	"smelt/model/modeltest"
	"smelt/nn"
)

// collector gathers the activations of several passes by stage, in order.
type collector map[string]*kernel.Matrix

func (c collector) stage(name string, x kernel.Matrix) {
	all := c[name]
	if all == nil {
		all = &kernel.Matrix{Cols: x.Cols, Stride: x.Cols}
		c[name] = all
	}
	all.Rows += x.Rows
	for i := range x.Rows {
		all.Data = append(all.Data, x.Row(i)...)
	}
}

func (c collector) routing(r nn.Routing) {
	c.stage("scores."+r.Module, kernel.Of(len(r.Scores)/r.Experts, r.Experts, r.Scores))
}

// Fused models compute what FusionBench's modules compute inside transformers:
// every block's activations and every router's scores.
func TestFusedParity(t *testing.T) {
	const tolerance = 1e-5
	for _, name := range []string{"clip", "t5", "llama", "mistral", "qwen2"} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join("testdata", "models", name)
			m, err := OpenModel(vfs.OS, dir)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			if m.Type != name || m.Fused == nil || len(m.Fused.Experts) != 3 {
				t.Fatalf("opened a %q with %v", m.Type, m.Fused)
			}
			c, want, got := modeltest.ReadCase(t, dir), modeltest.ReadExpected(t, dir), collector{}
			p := &nn.Pass{Exact: true, OnStage: got.stage, OnRouting: got.routing}
			if err := runModel(m, p, c, want, got); err != nil {
				t.Fatal(err)
			}
			for _, info := range want.File.Tensors() {
				if x := got[info.Name]; x != nil {
					want.Check(t, info.Name, *x, tolerance)
				}
			}
			want.CheckAll(t)
			if m.Llama != nil {
				checkGreedy(t, m.Llama, c)
			}
		})
	}
}

// runModel runs a fixture's inputs.
func runModel(m *Model, p *nn.Pass, c modeltest.Case, want *modeltest.Expected, got collector) error {
	switch {
	case m.CLIP != nil:
		pixels, err := want.File.Tensor("pixels")
		if err != nil {
			return err
		}
		v, err := pixels.Float32()
		if err != nil {
			return err
		}
		want.Seen["pixels"] = true
		if _, err = m.CLIP.Vision.Forward(p, kernel.Of(pixels.Shape[0], pixels.Shape[1], v)); err != nil {
			return err
		}
		_, err = m.CLIP.Text.Forward(p, c.IDs)
		return err
	case m.T5 != nil:
		for i, ids := range c.IDs {
			s, err := m.T5.NewSession(p, ids)
			if err != nil {
				return err
			}
			logits, err := s.Logits(c.DecoderIDs[i])
			if err != nil {
				return err
			}
			got.stage("logits", logits)
		}
		return nil
	}
	var in []llama.Input
	for _, ids := range c.IDs {
		in = append(in, llama.Input{Cache: m.Llama.NewCache(), IDs: ids})
	}
	h, err := m.Llama.Forward(p, in)
	if err != nil {
		return err
	}
	logits := kernel.New(h.Rows, m.Llama.VocabSize())
	defer got.stage("logits", logits)
	return m.Llama.Logits(p, logits, h)
}

func checkGreedy(t *testing.T, m *llama.Model, c modeltest.Case) {
	t.Helper()
	for i, ids := range c.IDs {
		s := m.NewSession(&nn.Pass{})
		var out []int
		for len(out) < 64 {
			logits, err := s.Step(ids)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, slices.Index(logits, slices.Max(logits)))
			ids = out[len(out)-1:]
		}
		if !slices.Equal(out, c.Greedy[i]) {
			t.Errorf("sequence %d: generated %v, want %v", i, out, c.Greedy[i])
		}
	}
}

// Weights stay mapped in their stored dtype.
func TestSourceWeights(t *testing.T) {
	m, err := OpenModel(vfs.OS, filepath.Join("testdata", "models", "qwen2"))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if d := m.DType(); d != dtype.BF16 {
		t.Errorf("dtype %v, want BF16", d)
	}
	head := m.Llama.LMHead.(*nn.Dense).Weight.Data
	if &head[0] != &m.Llama.EmbedTokens.Weight.Data[0] {
		t.Error("the tied head is a copy")
	}
	if x, err := m.Tensor("model.embed_tokens.weight", 67, 32); err != nil || &x.Data[0] != &head[0] {
		t.Errorf("the embedding is not the mapped file (%v)", err)
	}
}

func TestSourceRefusals(t *testing.T) {
	from := filepath.Join("testdata", "models", "llama")
	text, err := os.ReadFile(filepath.Join(from, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	weights, err := os.ReadFile(filepath.Join(from, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	q := "model.layers.0.self_attn.q_proj"
	for _, c := range []struct {
		name string
		edit func(cfg, smile map[string]any)
		want string
	}{
		{"format", func(_, s map[string]any) { s["format"] = 2 }, "format 2"},
		{"unknown key", func(_, s map[string]any) { s["rank"] = 2 }, `"rank"`},
		{"base", func(_, s map[string]any) { s["base_model_type"] = "gpt2" }, `"gpt2`},
		{"no block", func(c, _ map[string]any) { delete(c, "smile") }, "not a fused model"},
		{"rank", func(_, s map[string]any) {
			s["modules"].(map[string]any)[q].(map[string]any)["rank_of_expert"] = []any{6, 6, 5}
		}, q + ".smile.vt"},
		{"router", func(_, s map[string]any) {
			s["modules"].(map[string]any)[q].(map[string]any)["rank_of_router"] = 99
		}, "rank_of_router"},
		{"shape", func(_, s map[string]any) {
			s["modules"].(map[string]any)[q].(map[string]any)["out"] = 16
		}, q},
		{"layers", func(c, _ map[string]any) { c["num_hidden_layers"] = 3 }, "layers.2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var cfg map[string]any
			if err := json.Unmarshal(text, &cfg); err != nil {
				t.Fatal(err)
			}
			c.edit(cfg, cfg["smile"].(map[string]any))
			edited, err := json.Marshal(cfg)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			for name, data := range map[string][]byte{"config.json": edited, "model.safetensors": weights} {
				if err := os.WriteFile(filepath.Join(dir, name), data, 0o666); err != nil {
					t.Fatal(err)
				}
			}
			m, err := OpenModel(vfs.OS, dir)
			if err == nil {
				m.Close()
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one that says %q", err, c.want)
			}
		})
	}
}

// What the commands use: sessions, options and embeddings of any model.
func TestModelUse(t *testing.T) {
	open := func(name string) *Model {
		m, err := OpenModel(vfs.OS, filepath.Join("testdata", "models", name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { m.Close() })
		return m
	}
	p := &nn.Pass{}
	for name, generates := range map[string]bool{"clip": false, "t5": true, "qwen2": true} {
		m := open(name)
		s, prompt, err := m.NewSession(p, []int{5, 6, 7})
		if generates != (err == nil) {
			t.Errorf("%s: session %v, %v", name, s, err)
		}
		if generates {
			r, err := generate.Run(context.Background(), s, prompt, generate.Options{MaxNewTokens: 3}, nil, nil)
			if err != nil || len(r.IDs) != 3 {
				t.Errorf("%s: generated %v, %v", name, r.IDs, err)
			}
		}
		if y, err := m.EmbedTexts(p, [][]int{{5, 6, 7}, {1}}); err != nil || y.Rows != 2 {
			t.Errorf("%s: embeddings %d × %d, %v", name, y.Rows, y.Cols, err)
		}
		if _, err := m.EmbedImages(p, kernel.New(1, 3*21*21)); (name == "clip") != (err == nil) {
			t.Errorf("%s: images: %v", name, err)
		}
	}
}

// Likelihoods of continuations in one batch are those of the tokens one by one.
func TestLogLikelihoods(t *testing.T) {
	prompt, tails := []int{5, 60, 3, 44, 21}, [][]int{{7, 30, 1}, {18}, {52, 2}}
	for _, name := range []string{"qwen2", "t5", "clip"} {
		m, err := OpenModel(vfs.OS, filepath.Join("testdata", "models", name))
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		p := &nn.Pass{}
		got, err := m.LogLikelihoods(p, prompt, tails)
		if name == "clip" {
			if err == nil || !strings.Contains(err.Error(), "does not generate") {
				t.Errorf("clip: %v", err)
			}
			continue
		}
		if err != nil || len(got) != len(tails) {
			t.Fatalf("%s: %v, %v", name, got, err)
		}
		for i, tail := range tails {
			s, ids, err := m.NewSession(p, prompt)
			if err != nil {
				t.Fatal(err)
			}
			want := 0.0
			for _, id := range tail {
				logits, err := s.Step(ids)
				if err != nil {
					t.Fatal(err)
				}
				want += generate.LogProb(logits, id)
				ids = []int{id}
			}
			if d := got[i] - want; !(d < 1e-4 && d > -1e-4) {
				t.Errorf("%s: continuation %d: %v, want %v", name, i, got[i], want)
			}
		}
		for _, bad := range [][][]int{{{}}, {{1 << 20}}, {{1, 1 << 20}}, {{-1}}} {
			if _, err := m.LogLikelihoods(p, prompt, bad); err == nil {
				t.Errorf("%s: continuations %v are taken", name, bad)
			}
		}
	}
}

// A model keeps its weights where they are mapped: what it adds is small, for
// bf16 far below what a float32 copy would take.
func TestModelMemory(t *testing.T) {
	heap := func() int64 {
		var s runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&s)
		return int64(s.HeapAlloc)
	}
	for _, name := range []string{"causal", "vision"} {
		before := heap()
		m, err := OpenModel(vfs.OS, filepath.Join("..", "examples", "pools", name, "base"))
		if err != nil {
			t.Fatal(err)
		}
		if added := heap() - before; added > m.Bytes()/2 {
			t.Errorf("%s: opening a model of %d bytes took %d of memory", name, m.Bytes(), added)
		}
		m.Close()
	}
}

func TestGenerationOptions(t *testing.T) {
	from := filepath.Join("testdata", "models", "qwen2")
	dir := t.TempDir()
	for _, name := range []string{"config.json", "model.safetensors"} {
		data, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		if name == "config.json" {
			data = []byte(strings.Replace(string(data), `"eos_token_id": null`, `"eos_token_id": 9`, 1))
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	m, err := OpenModel(vfs.OS, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if o, err := m.GenerationOptions(); err != nil || !slices.Equal(o.EOS, []int{9}) || o.Sample {
		t.Errorf("without a file: %+v, %v", o, err)
	}
	file := filepath.Join(dir, "generation_config.json")
	if err := os.WriteFile(file, []byte(`{"eos_token_id": [3, 4], "do_sample": true, "top_p": 0.8}`), 0o666); err != nil {
		t.Fatal(err)
	}
	if o, err := m.GenerationOptions(); err != nil || !slices.Equal(o.EOS, []int{3, 4}) || !o.Sample || o.TopP != 0.8 || o.TopK != 50 {
		t.Errorf("with a file: %+v, %v", o, err)
	}
	if err := os.WriteFile(file, []byte(`{"num_beams": 4}`), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := m.GenerationOptions(); err == nil || !strings.Contains(err.Error(), "num_beams") {
		t.Errorf("beams: %v", err)
	}
}
