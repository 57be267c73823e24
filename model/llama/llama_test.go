package llama

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"smelt/internal/kernel"
	"smelt/model/modeltest"
	"smelt/nn"
)

// tolerance of every stage, relative to its largest element: a few roundings
// of float32. Weights of 16 bits are exact in both, and change nothing.
const tolerance = 5e-6

func fixtures(t testing.TB) []string {
	t.Helper()
	dirs, err := os.ReadDir("testdata")
	if err != nil || len(dirs) < 14 {
		t.Fatalf("%d fixtures (%v)", len(dirs), err)
	}
	var names []string
	for _, d := range dirs {
		names = append(names, d.Name())
	}
	return names
}

func load(t testing.TB, name string) (*Model, *modeltest.Source) {
	t.Helper()
	s := modeltest.Open(t, filepath.Join("testdata", name))
	m, err := Load(s)
	if err != nil {
		t.Fatal(err)
	}
	return m, s
}

func TestParity(t *testing.T) {
	for _, name := range fixtures(t) {
		t.Run(name, func(t *testing.T) {
			m, _ := load(t, name)
			dir := filepath.Join("testdata", name)
			c, want := modeltest.ReadCase(t, dir), modeltest.ReadExpected(t, dir)
			p := &nn.Pass{Exact: true, OnStage: func(name string, x kernel.Matrix) { want.Check(t, name, x, tolerance) }}
			var in []Input
			for _, ids := range c.IDs {
				in = append(in, Input{m.NewCache(), ids})
			}
			h, err := m.Forward(p, in)
			if err != nil {
				t.Fatal(err)
			}
			logits := kernel.New(h.Rows, m.VocabSize())
			if err := m.Logits(p, logits, h); err != nil {
				t.Fatal(err)
			}
			want.Check(t, "logits", logits, tolerance)
			want.CheckAll(t)
		})
	}
}

// greedy returns the continuation of ids by steps tokens.
func greedy(t testing.TB, m *Model, workers int, ids []int, steps int) []int {
	t.Helper()
	s := m.NewSession(&nn.Pass{Workers: workers})
	var out []int
	for len(out) < steps {
		logits, err := s.Step(ids)
		if err != nil {
			t.Fatal(err)
		}
		best := 0
		for i, v := range logits {
			if v > logits[best] {
				best = i
			}
		}
		out, ids = append(out, best), []int{best}
	}
	return out
}

func TestGreedy(t *testing.T) {
	for _, name := range fixtures(t) {
		t.Run(name, func(t *testing.T) {
			m, _ := load(t, name)
			c := modeltest.ReadCase(t, filepath.Join("testdata", name))
			for i, ids := range c.IDs {
				if got := greedy(t, m, 0, ids, len(c.Greedy[i])); len(got) < 64 || !slices.Equal(got, c.Greedy[i]) {
					t.Errorf("sequence %d: generated %v, want %v", i, got, c.Greedy[i])
				}
			}
		})
	}
}

// The cache, however a sequence is cut into passes and batched with others,
// gives what one pass gives; workers do not change a bit.
func TestCache(t *testing.T) {
	for _, name := range []string{"llama3_tied", "mistral_window", "qwen2_window", "qwen3"} {
		t.Run(name, func(t *testing.T) {
			m, _ := load(t, name)
			c := modeltest.ReadCase(t, filepath.Join("testdata", name))
			whole := func(workers int) []float32 {
				h, err := m.Forward(&nn.Pass{Workers: workers}, []Input{{m.NewCache(), c.IDs[0]}, {m.NewCache(), c.IDs[1]}})
				if err != nil {
					t.Fatal(err)
				}
				return slices.Clone(h.Data)
			}
			want := whole(1)
			if !slices.Equal(want, whole(8)) {
				t.Error("8 workers change the result")
			}
			p := &nn.Pass{}
			a, b := m.NewCache(), m.NewCache()
			var got []float32
			run := func(in ...Input) {
				h, err := m.Forward(p, in)
				if err != nil {
					t.Fatal(err)
				}
				if rows := len(in[0].IDs); in[0].Cache == a {
					got = append(got, h.Data[:rows*h.Cols]...)
				}
			}
			x, y := c.IDs[0], c.IDs[1]
			run(Input{a, x[:3]}, Input{b, y[:1]})
			run(Input{a, x[3:4]}, Input{b, y[1:4]})
			run(Input{a, x[4:9]})
			run(Input{a, x[9:]})
			d := m.Config.HiddenSize
			if err := modeltest.Close(kernel.Of(len(x), d, got), want[:len(x)*d], tolerance); err != nil {
				t.Error(err)
			}
		})
	}
}

// A prompt of several passes gives what one pass gives, also where rotary
// frequencies depend on its whole length.
func TestLongPrompt(t *testing.T) {
	for _, name := range []string{"dynamic", "mistral_window"} {
		_, s := load(t, name)
		long := *s
		long.Text = bytes.Replace(s.Text, []byte(`"max_position_embeddings": 128`), []byte(`"max_position_embeddings": 1400`), 1)
		long.Text = bytes.Replace(long.Text, []byte(`"factor": 4.0`), []byte(`"factor": 40.0`), 1)
		m, err := Load(&long)
		if err != nil {
			t.Fatal(err)
		}
		ids := make([]int, 2*promptChunk+100)
		for i := range ids {
			ids[i] = i * 7 % 67
		}
		h, err := m.Forward(&nn.Pass{}, []Input{{m.NewCache(), ids}})
		if err != nil {
			t.Fatal(err)
		}
		want := kernel.New(1, m.VocabSize())
		if err := m.Logits(&nn.Pass{}, want, h.Slice(h.Rows-1, h.Rows, 0, h.Cols)); err != nil {
			t.Fatal(err)
		}
		session := m.NewSession(&nn.Pass{})
		got, err := session.Step(ids)
		if err == nil {
			err = modeltest.Close(kernel.Of(1, len(got), got), want.Data, 1e-4)
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := session.Step([]int{3, 99}); err == nil || session.Len() != len(ids) {
			t.Errorf("%s: after an error (%v) the session holds %d tokens, want %d", name, err, session.Len(), len(ids))
		}
	}
}

// Rounded activations stay near float32's, and embeddings are last rows.
func TestRounded(t *testing.T) {
	m, _ := load(t, "qwen2_tied_bf16")
	c := modeltest.ReadCase(t, filepath.Join("testdata", "qwen2_tied_bf16"))
	ids := slices.Concat(c.IDs[0], c.IDs[1], c.IDs[0])
	embed := func(p *nn.Pass) kernel.Matrix {
		y, err := m.Embed(p, [][]int{ids, c.IDs[1]})
		if err != nil {
			t.Fatal(err)
		}
		return y
	}
	want := embed(&nn.Pass{Exact: true})
	got := embed(&nn.Pass{})
	if err := modeltest.Close(got, want.Data, 0.03); err != nil {
		t.Error(err)
	}
	p := &nn.Pass{}
	h, err := m.Forward(p, []Input{{m.NewCache(), c.IDs[1]}})
	if err == nil {
		err = modeltest.Close(want.Slice(1, 2, 0, want.Cols), h.Row(h.Rows-1), tolerance)
	}
	if err != nil {
		t.Error(err)
	}
}

func TestRefusals(t *testing.T) {
	m, s := load(t, "qwen2_tied_bf16")
	p := &nn.Pass{}
	for _, c := range []struct {
		name string
		ids  []int
		want string
	}{
		{"empty", nil, "no tokens"},
		{"too long", make([]int, 129), "129 tokens exceeds the model's context of 128"},
		{"beyond the vocabulary", []int{1, 67}, "token id 67"},
	} {
		cache := m.NewCache()
		if _, err := m.Forward(p, []Input{{cache, c.ids}}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one that says %q", c.name, err, c.want)
		}
		if cache.Len() != 0 {
			t.Errorf("%s: the cache holds %d tokens", c.name, cache.Len())
		}
	}
	for _, c := range []struct{ old, new, want string }{
		{`"hidden_size": 32`, `"hidden_size": 40`, "model.embed_tokens.weight"},
		{`"intermediate_size": 44`, `"intermediate_size": 45`, "mlp.gate_proj.weight"},
		{`"num_attention_heads": 4`, `"num_attention_heads": 3`, "multiple"},
		{`"num_key_value_heads": 2`, `"num_key_value_heads": -2`, "num_key_value_heads"},
		{`"num_hidden_layers": 2`, `"num_hidden_layers": 3`, "layers.2"},
		{`"model_type": "qwen2"`, `"model_type": "gpt2"`, `"gpt2 (Qwen2ForCausalLM)" cannot be run, want one of clip`},
		{`"model_type": "qwen2"`, `"model_type": "t5"`, `"t5"`},
		{`"rope_type": "default"`, `"rope_type": "longrope", "factor": 2`, `"longrope"`},
		{`"rope_type": "default"`, `"rope_type": "yarn"`, "factor"},
		{`"rope_type": "default"`, `"rope_type": "llama3", "factor": 2`, "low_freq_factor"},
		{`"rope_type": "default"`, `"partial_rotary_factor": 0.5`, "partial_rotary_factor"},
	} {
		bad := *s
		bad.Text = bytes.Replace(s.Text, []byte(c.old), []byte(c.new), 1)
		if bytes.Equal(bad.Text, s.Text) {
			t.Fatalf("%s is not in the fixture", c.old)
		}
		if _, err := Load(&bad); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one that says %q", c.new, err, c.want)
		}
	}
}
