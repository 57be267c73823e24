package t5

import (
	"bytes"
	"math"
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
	if err != nil || len(dirs) < 5 {
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

// collector gathers the activations of several passes by stage, in order.
type collector map[string][]kernel.Matrix

func (c collector) stage(name string, x kernel.Matrix) {
	y := kernel.New(x.Rows, x.Cols)
	for i := range x.Rows {
		copy(y.Row(i), x.Row(i))
	}
	c[name] = append(c[name], y)
}

func (c collector) check(t *testing.T, want *modeltest.Expected) {
	t.Helper()
	for name, parts := range c {
		all := kernel.Matrix{Cols: parts[0].Cols, Stride: parts[0].Cols}
		for _, x := range parts {
			all.Rows += x.Rows
			all.Data = append(all.Data, x.Data...)
		}
		want.Check(t, name, all, tolerance)
	}
	want.CheckAll(t)
}

func TestParity(t *testing.T) {
	for _, name := range fixtures(t) {
		t.Run(name, func(t *testing.T) {
			m, _ := load(t, name)
			dir := filepath.Join("testdata", name)
			c, seen := modeltest.ReadCase(t, dir), collector{}
			p := &nn.Pass{Exact: true, OnStage: seen.stage}
			if m.Decoder == nil {
				if _, err := m.Encode(p, c.IDs); err != nil {
					t.Fatal(err)
				}
			}
			for i, ids := range c.DecoderIDs {
				s, err := m.NewSession(p, c.IDs[i])
				if err != nil {
					t.Fatal(err)
				}
				logits, err := s.Logits(ids)
				if err != nil {
					t.Fatal(err)
				}
				seen.stage("logits", logits)
			}
			seen.check(t, modeltest.ReadExpected(t, dir))
		})
	}
}

func TestGreedy(t *testing.T) {
	for _, name := range fixtures(t) {
		m, _ := load(t, name)
		c := modeltest.ReadCase(t, filepath.Join("testdata", name))
		if m.Decoder == nil {
			continue
		}
		t.Run(name, func(t *testing.T) {
			for i, input := range c.IDs {
				s, err := m.NewSession(&nn.Pass{Exact: true}, input)
				if err != nil {
					t.Fatal(err)
				}
				var got []int
				next := m.Start()
				for range c.Greedy[i] {
					logits, err := s.Step([]int{next})
					if err != nil {
						t.Fatal(err)
					}
					next = slices.Index(logits, slices.Max(logits))
					got = append(got, next)
				}
				if len(got) < 64 || !slices.Equal(got, c.Greedy[i]) {
					t.Errorf("sequence %d: generated %v, want %v", i, got, c.Greedy[i])
				}
			}
		})
	}
}

// Sequences of a batch do not see one another; workers do not change a bit.
func TestEncodeBatch(t *testing.T) {
	m, _ := load(t, "flan")
	c := modeltest.ReadCase(t, filepath.Join("testdata", "flan"))
	both, err := m.Encode(&nn.Pass{Workers: 1}, c.IDs)
	if err != nil {
		t.Fatal(err)
	}
	again, _ := m.Encode(&nn.Pass{Workers: 8}, c.IDs)
	if !slices.Equal(both.Data, again.Data) {
		t.Error("8 workers change the result")
	}
	mean, err := m.Embed(&nn.Pass{}, c.IDs)
	if err != nil {
		t.Fatal(err)
	}
	at := 0
	for i, ids := range c.IDs {
		var sum float64
		for j := range ids {
			sum += float64(both.Data[at+j*both.Cols])
		}
		if got := float64(mean.At(i, 0)); math.Abs(got-sum/float64(len(ids))) > 1e-5 {
			t.Errorf("sequence %d: mean %v, want %v", i, got, sum/float64(len(ids)))
		}
		one, err := m.Encode(&nn.Pass{}, [][]int{ids})
		if err == nil {
			err = modeltest.Close(one, both.Data[at:at+one.Rows*one.Cols], tolerance)
		}
		if err != nil {
			t.Errorf("sequence %d alone: %v", i, err)
		}
		at += one.Rows * one.Cols
	}
}

// The steps of a session, however they are cut, give what one step gives.
func TestSessionSteps(t *testing.T) {
	m, _ := load(t, "t5_relu")
	c := modeltest.ReadCase(t, filepath.Join("testdata", "t5_relu"))
	session := func() *Session {
		s, err := m.NewSession(&nn.Pass{}, c.IDs[0])
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	ids := c.DecoderIDs[0]
	want, err := session().Logits(ids)
	if err != nil {
		t.Fatal(err)
	}
	s := session()
	for _, cut := range [][]int{ids[:1], ids[1:5], ids[5:6], ids[6:]} {
		got, err := s.Step(cut)
		if err == nil {
			err = modeltest.Close(kernel.Of(1, len(got), got), want.Row(s.Len()-1), tolerance)
		}
		if err != nil {
			t.Errorf("after %d tokens: %v", s.Len(), err)
		}
	}
}

func TestBuckets(t *testing.T) {
	c := &Config{RelativeAttentionNumBuckets: 32, RelativeAttentionMaxDistance: 128}
	for _, k := range []struct {
		relative      int
		bidirectional bool
		want          int
	}{
		{0, true, 0},
		{-7, true, 7},
		{7, true, 23},
		{-8, true, 8},
		{-127, true, 15},
		{-128, true, 15},
		{-9999, true, 15},
		{128, true, 31},
		{1, false, 0},
		{-15, false, 15},
		{-16, false, 16},
		{-128, false, 31},
		{-9999, false, 31},
	} {
		if got := c.bucket(k.relative, k.bidirectional); got != k.want {
			t.Errorf("bucket(%d, %v) = %d, want %d", k.relative, k.bidirectional, got, k.want)
		}
	}
}

func TestRefusals(t *testing.T) {
	m, s := load(t, "flan")
	p := &nn.Pass{}
	if _, err := m.NewSession(p, nil); err == nil || !strings.Contains(err.Error(), "no tokens") {
		t.Errorf("no input: error %v", err)
	}
	if _, err := m.NewSession(p, []int{61}); err == nil || !strings.Contains(err.Error(), "token id 61") {
		t.Errorf("beyond the vocabulary: error %v", err)
	}
	session, err := m.NewSession(p, []int{6, 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := session.Step(nil); err == nil {
		t.Error("a step without tokens was taken")
	}
	if _, err := session.Step([]int{math.MaxInt}); err == nil {
		t.Error("a token beyond the vocabulary was taken")
	}
	encoder, _ := load(t, "encoder")
	if _, err := encoder.NewSession(p, []int{6, 1}); err == nil || !strings.Contains(err.Error(), "encoder alone") {
		t.Errorf("a session of an encoder: error %v", err)
	}
	for _, c := range []struct{ old, new, want string }{
		{`"d_model": 32`, `"d_model": 40`, `"shared.weight"`},
		{`"d_ff": 44`, `"d_ff": 45`, "DenseReluDense.wi_0.weight"},
		{`"num_layers": 3`, `"num_layers": 4`, "encoder.block.3"},
		{`"num_heads": 4`, `"num_heads": 0`, "num_heads"},
		{`"relative_attention_num_buckets": 12`, `"relative_attention_num_buckets": 0`, "buckets"},
		{`"feed_forward_proj": "gated-gelu"`, `"feed_forward_proj": "gated-mish"`, "gated-mish"},
		{`"feed_forward_proj": "gated-gelu"`, `"feed_forward_proj": "relu"`, "DenseReluDense.wi.weight"},
		{`"model_type": "t5"`, `"model_type": "mt5"`, `"mt5 (T5ForConditionalGeneration)" cannot be run`},
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
