package generate

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"smelt/model/llama"
	"smelt/model/modeltest"
	"smelt/model/t5"
	"smelt/nn"
)

// The filters leave what transformers' leave, with the same probabilities.
func TestFilters(t *testing.T) {
	text, err := os.ReadFile("testdata/warpers.json")
	if err != nil {
		t.Fatal(err)
	}
	var golden struct {
		Cases []struct {
			Options       json.RawMessage
			Logits        []float32
			Seen          []int
			Probabilities map[string]float64
		}
	}
	if err := json.Unmarshal(text, &golden); err != nil || len(golden.Cases) < 20 {
		t.Fatalf("%d cases: %v", len(golden.Cases), err)
	}
	for i, c := range golden.Cases {
		o, err := Options{}.ReadConfig(c.Options)
		if err != nil {
			t.Fatal(err)
		}
		o.Sample = true
		s, err := NewSampler(o)
		if err != nil {
			t.Fatal(err)
		}
		before := slices.Clone(c.Logits)
		s.filter(s.penalise(c.Logits, c.Seen))
		if !slices.Equal(before, c.Logits) {
			t.Fatal("the logits were changed")
		}
		sum := 0.0
		for _, k := range s.choices {
			sum += k.p
		}
		if len(s.choices) != len(c.Probabilities) {
			t.Errorf("case %d %s: %d tokens are left, want %d", i, c.Options, len(s.choices), len(c.Probabilities))
		}
		for _, k := range s.choices {
			if want := c.Probabilities[strconv.Itoa(k.id)]; !(math.Abs(k.p/sum-want) <= 1e-5*want) {
				t.Errorf("case %d %s: token %d has probability %v, want %v", i, c.Options, k.id, k.p/sum, want)
			}
		}
	}
}

func TestDraw(t *testing.T) {
	logits := []float32{0, float32(math.Log(2)), float32(math.Log(5)), float32(math.Inf(-1))}
	count := make([]int, 4)
	s, err := NewSampler(Options{Sample: true, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	const n = 80000
	for range n {
		count[s.Next(logits, nil)]++
	}
	for i, want := range []float64{1. / 8, 2. / 8, 5. / 8, 0} {
		if got := float64(count[i]) / n; math.Abs(got-want) > 0.01 {
			t.Errorf("token %d was drawn with frequency %.3f, want %.3f", i, got, want)
		}
	}
	a, _ := NewSampler(Options{Sample: true, Seed: 7})
	b, _ := NewSampler(Options{Sample: true, Seed: 7})
	for range 100 {
		if a.Next(logits, nil) != b.Next(logits, nil) {
			t.Fatal("the same seed draws other tokens")
		}
	}
}

func TestOddLogits(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, o := range []Options{
		{},
		{Sample: true, TopK: 2, TopP: 0.9, MinP: 0.1, RepetitionPenalty: 1.1},
		{Sample: true, TopP: 0.5},
	} {
		s, err := NewSampler(o)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			logits []float32
			want   []int
		}{
			{[]float32{nan, 1, nan, -2}, []int{1, 3}},
			{[]float32{1, inf, 2}, []int{1}},
			{[]float32{-inf, 3, -inf}, []int{1}},
			{[]float32{nan, nan}, []int{0}},
			{[]float32{-inf, -inf}, []int{0}},
		} {
			if got := s.Next(c.logits, []int{0, 99, -1}); !slices.Contains(c.want, got) {
				t.Errorf("%+v: of %v token %d was chosen, want one of %v", o, c.logits, got, c.want)
			}
		}
	}
}

func TestOptions(t *testing.T) {
	o, err := Options{MaxNewTokens: 7, TopP: 0.5}.ReadConfig([]byte(`{"do_sample": true, "eos_token_id": [3, 4],
		"temperature": 0.6, "top_p": null, "max_length": 4096, "transformers_version": "4.40.0"}`))
	if err != nil || !o.Sample || o.TopK != 50 || o.Temperature != 0.6 || o.TopP != 0.5 || o.MaxNewTokens != 7 || !slices.Equal(o.EOS, []int{3, 4}) {
		t.Errorf("read %+v, %v", o, err)
	}
	if got := EOSFromConfig([]byte(`{"eos_token_id": 2}`)); !slices.Equal(got, []int{2}) {
		t.Errorf("eos %v, want [2]", got)
	}
	for _, bad := range []string{
		`{"temperature": -1}`, `{"top_k": -2}`, `{"top_p": 1.5}`, `{"min_p": 2}`, `{"repetition_penalty": -1}`, `{"num_beams": 4}`,
		`{"no_repeat_ngram_size": 3}`, `{"max_new_tokens": -5}`, `{"bad_words_ids": [[1]]}`, `{"typical_p": 0.5}`, `{`, `{"stop_strings": ""}`,
	} {
		if _, err := (Options{}).ReadConfig([]byte(bad)); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}

// script is a session that says what it is told, token by token.
type script struct {
	ids     []int
	context int
	len     int
	said    int
}

func (s *script) Step(ids []int) ([]float32, error) {
	s.len += len(ids)
	logits := make([]float32, 128)
	logits[s.ids[s.said%len(s.ids)]] = 1
	s.said++
	return logits, nil
}

func (s *script) Len() int          { return s.len }
func (s *script) Context() int      { return s.context }
func (s *script) Reserve(int) error { return nil }

// ascii is a Text whose tokens are characters; it holds one back, as decoders
// of split characters do.
type ascii struct{ held string }

func (a *ascii) Push(id int) string {
	out := a.held
	a.held = string(rune(id))
	return out
}

func (a *ascii) Flush() string { return a.held }

func TestRunEnds(t *testing.T) {
	letters := func(s string) (ids []int) {
		for _, c := range s {
			ids = append(ids, int(c))
		}
		return ids
	}
	for _, c := range []struct {
		name    string
		says    string
		o       Options
		context int
		text    string
		reason  Reason
	}{
		{"length", "hello world", Options{MaxNewTokens: 5}, 0, "hello", EndLength},
		{"end token", "hello$", Options{MaxNewTokens: 50, EOS: []int{'$', '#'}}, 0, "hello", EndToken},
		{"end token at once", "$", Options{MaxNewTokens: 50, EOS: []int{'$'}}, 0, "", EndToken},
		{"stop text", "abc def ghi", Options{MaxNewTokens: 50, Stop: []string{"def"}}, 0, "abc ", EndStop},
		{"the earlier stop text", "abc def ghi", Options{MaxNewTokens: 50, Stop: []string{"def", "c d"}}, 0, "ab", EndStop},
		{"stop text in the last token", "abcd", Options{MaxNewTokens: 4, Stop: []string{"cd"}}, 0, "ab", EndStop},
		{"half a stop text", "abcd", Options{MaxNewTokens: 4, Stop: []string{"cdef"}}, 0, "abcd", EndLength},
		{"a stop text that begins twice", "aab$", Options{MaxNewTokens: 9, EOS: []int{'$'}, Stop: []string{"aaab"}}, 0, "aab", EndToken},
		{"context", "hello world", Options{MaxNewTokens: 50}, 6, "hello", EndContext},
		{"context without a limit", "hello world", Options{}, 6, "hello", EndContext},
		{"context of the prompt alone", "hello world", Options{MaxNewTokens: 3}, 2, "h", EndContext},
	} {
		var pieces strings.Builder
		s := &script{ids: letters(c.says), context: c.context}
		r, err := Run(context.Background(), s, []int{1, 2}, c.o, &ascii{}, func(p string) error {
			pieces.WriteString(p)
			return nil
		})
		if err != nil || r.Text != c.text || r.Reason != c.reason || pieces.String() != c.text {
			t.Errorf("%s: %q (streamed %q), %v, %v, want %q, %v", c.name, r.Text, pieces.String(), r.Reason, err, c.text, c.reason)
		}
		if c.context > 0 && s.len > c.context {
			t.Errorf("%s: %d tokens were fed to a context of %d", c.name, s.len, c.context)
		}
	}
}

func TestRunErrors(t *testing.T) {
	ctx := context.Background()
	s := &script{ids: []int{'a'}, context: 3}
	if _, err := Run(ctx, s, nil, Options{}, nil, nil); err == nil || !strings.Contains(err.Error(), "empty") {
		t.Errorf("an empty prompt: %v", err)
	}
	if _, err := Run(ctx, s, []int{1, 2, 3, 4}, Options{}, nil, nil); err == nil || !strings.Contains(err.Error(), "context is 3") {
		t.Errorf("a prompt beyond the context: %v", err)
	}
	if _, err := Run(ctx, s, []int{1}, Options{Stop: []string{"x"}}, nil, nil); err == nil {
		t.Error("stop texts without a decoder were taken")
	}
	if _, err := Run(ctx, s, []int{1}, Options{Temperature: -1}, nil, nil); err == nil {
		t.Error("a bad option was taken")
	}
	done, cancel := context.WithCancel(ctx)
	n := 0
	r, err := Run(done, &script{ids: []int{'a'}}, []int{1}, Options{MaxNewTokens: 9}, &ascii{}, func(string) error {
		if n++; n == 2 {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) || r.Text != "aa" {
		t.Errorf("cancelled: %q, %v", r.Text, err)
	}
	r, err = Run(ctx, &script{ids: []int{'a'}}, []int{1}, Options{MaxNewTokens: 9}, &ascii{}, func(string) error { return ErrStop })
	if err != nil || r.Reason != EndCallback {
		t.Errorf("stopped by the callback: %v, %v", r.Reason, err)
	}
	broken := errors.New("broken pipe")
	if _, err = Run(ctx, &script{ids: []int{'a'}}, []int{1}, Options{MaxNewTokens: 9}, &ascii{}, func(string) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("a failing callback: %v", err)
	}
}

// Real models: greedy tokens are those of transformers.
func TestModels(t *testing.T) {
	dir := filepath.Join("..", "model", "llama", "testdata", "llama3_tied")
	m, err := llama.Load(modeltest.Open(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	c := modeltest.ReadCase(t, dir)
	for i, ids := range c.IDs {
		r, err := Run(context.Background(), m.NewSession(&nn.Pass{}), ids, Options{MaxNewTokens: 64}, nil, nil)
		if err != nil || !slices.Equal(r.IDs, c.Greedy[i]) {
			t.Errorf("llama: %v, %v, want %v", r.IDs, err, c.Greedy[i])
		}
	}
	r, err := Run(context.Background(), m.NewSession(&nn.Pass{}), c.IDs[0], Options{}, nil, nil)
	if err != nil || r.Reason != EndContext || len(r.IDs) != 128-len(c.IDs[0])+1 {
		t.Errorf("llama to the context's end: %d tokens, %v, %v", len(r.IDs), r.Reason, err)
	}
	dir = filepath.Join("..", "model", "t5", "testdata", "flan")
	e, err := t5.Load(modeltest.Open(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	c = modeltest.ReadCase(t, dir)
	for i, ids := range c.IDs {
		s, err := e.NewSession(&nn.Pass{}, ids)
		if err != nil {
			t.Fatal(err)
		}
		r, err := Run(context.Background(), s, []int{e.Start()}, Options{MaxNewTokens: 64}, nil, nil)
		if err != nil || !slices.Equal(r.IDs, c.Greedy[i]) {
			t.Errorf("t5: %v, %v, want %v", r.IDs, err, c.Greedy[i])
		}
	}
}
