package generate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"smelt/model/llama"
	"smelt/model/modeltest"
	"smelt/model/t5"
	"smelt/nn"
)

// A sequence among others gets the tokens that it gets alone, whatever their
// number, lengths and ends: checkpoints of the Llama family and T5, greedy and
// sampled.
func TestTogether(t *testing.T) {
	for _, family := range []string{"llama", "t5"} {
		root := filepath.Join("..", "model", family, "testdata")
		dirs, err := os.ReadDir(root)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range dirs {
			if d.Name() == "encoder" { // which does not generate
				continue
			}
			t.Run(family+"/"+d.Name(), func(t *testing.T) {
				dir := filepath.Join(root, d.Name())
				p, c := &nn.Pass{}, modeltest.ReadCase(t, dir)
				if family == "t5" {
					m, err := t5.Load(modeltest.Open(t, dir))
					if err != nil {
						t.Fatal(err)
					}
					together(t, c.IDs, func(s []*t5.Session, ids []int) ([][]float32, error) { return m.StepAll(p, s, ids) },
						func(ids []int) (*t5.Session, []int, error) {
							s, err := m.NewSession(p, ids)
							return s, []int{m.Start()}, err
						})
					return
				}
				m, err := llama.Load(modeltest.Open(t, dir))
				if err != nil {
					t.Fatal(err)
				}
				together(t, c.IDs, func(s []*llama.Session, ids []int) ([][]float32, error) { return m.StepAll(p, s, ids) },
					func(ids []int) (*llama.Session, []int, error) { return m.NewSession(p), ids, nil })
			})
		}
	}
}

// together holds RunAll against Run, for prompts of many lengths made of ids.
func together[S Session](t *testing.T, ids [][]int, step func([]S, []int) ([][]float32, error), open func(ids []int) (S, []int, error)) {
	t.Helper()
	var prompts [][]int
	for n := 1; len(prompts) < 9; n++ {
		from := ids[n%len(ids)]
		prompts = append(prompts, from[:1+n*5%len(from)])
	}
	for _, o := range []Options{{MaxNewTokens: 40}, {MaxNewTokens: 30, Sample: true, Temperature: 0.9, Seed: 5, TopK: 20, RepetitionPenalty: 1.1}} {
		var want []Result
		for i, prompt := range prompts {
			s, begin, err := open(prompt)
			if err != nil {
				t.Fatal(err)
			}
			r, err := Run(context.Background(), s, begin, o, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, r)
			if i == 3 { // from here on some sequences end early
				o.EOS = []int{r.IDs[len(r.IDs)/2]}
			}
		}
		o.EOS = nil
		for _, width := range []int{1, 2, 4, 16} {
			got := runAll(t, prompts[:4], width, o, step, open)
			same(t, fmt.Sprintf("width %d", width), got, want[:4])
			ends := o
			ends.EOS = []int{want[3].IDs[len(want[3].IDs)/2]}
			got = runAll(t, prompts[4:], width, ends, step, open)
			same(t, fmt.Sprintf("width %d with an end token", width), got, want[4:])
		}
	}
}

func runAll[S Session](t *testing.T, prompts [][]int, width int, o Options, step func([]S, []int) ([][]float32, error), open func(ids []int) (S, []int, error)) []Result {
	t.Helper()
	got, err := RunAll(context.Background(), len(prompts), width, o, func(i int) (q Sequence[S], err error) {
		q.Session, q.Prompt, err = open(prompts[i])
		return q, err
	}, func(_ []int, s []S, ids []int) ([][]float32, error) { return step(s, ids) })
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func same(t *testing.T, what string, got, want []Result) {
	t.Helper()
	for i := range want {
		if !slices.Equal(got[i].IDs, want[i].IDs) || got[i].Reason != want[i].Reason {
			t.Errorf("%s: sequence %d is %v (%s), alone %v (%s)", what, i, got[i].IDs, got[i].Reason, want[i].IDs, want[i].Reason)
		}
	}
}

// Logits of several sessions are those of each alone, within rounding, and an
// error leaves them as they were.
func TestStepAll(t *testing.T) {
	dir := filepath.Join("..", "model", "llama", "testdata", "qwen3")
	m, err := llama.Load(modeltest.Open(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	p, c := &nn.Pass{}, modeltest.ReadCase(t, dir)
	alone, beside := []*llama.Session{m.NewSession(p), m.NewSession(p)}, []*llama.Session{m.NewSession(p), m.NewSession(p)}
	for i := range alone {
		for _, s := range []*llama.Session{alone[i], beside[i]} {
			if _, err := s.Step(c.IDs[i]); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := m.StepAll(p, beside, []int{3, 1 << 20}); err == nil || beside[0].Len() != len(c.IDs[0]) || beside[1].Len() != len(c.IDs[1]) {
		t.Errorf("a token outside the vocabulary: %v; the sessions hold %d and %d tokens", err, beside[0].Len(), beside[1].Len())
	}
	got, err := m.StepAll(p, beside, []int{3, 7})
	if err != nil {
		t.Fatal(err)
	}
	for i, id := range []int{3, 7} {
		want, err := alone[i].Step([]int{id})
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range want {
			if d := got[i][k] - v; !(d < 1e-5 && d > -1e-5) {
				t.Fatalf("session %d: logit %d is %v, alone %v", i, k, got[i][k], v)
			}
		}
	}
}

// scripts runs one script a text, up to width side by side, and returns the
// pieces and ends in their order.
func scripts(ctx context.Context, says []string, width int, o Options, onStep func(numbers []int) error) (events []string, results []Result, err error) {
	results, err = RunAll(ctx, len(says), width, o, func(i int) (q Sequence[*script], err error) {
		if says[i] == "" {
			return q, errors.New("nothing to say")
		}
		s := &script{}
		for _, c := range says[i] {
			s.ids = append(s.ids, int(c))
		}
		return Sequence[*script]{
			Session: s, Prompt: []int{1}, Text: &ascii{},
			Emit: func(piece string) error { events = append(events, fmt.Sprint(i, piece)); return nil },
			End:  func() error { events = append(events, fmt.Sprint(i, ".")); return nil },
		}, nil
	}, func(numbers []int, s []*script, ids []int) ([][]float32, error) {
		if err := onStep(numbers); err != nil {
			return nil, err
		}
		var logits [][]float32
		for i := range s {
			l, err := s[i].Step(ids[i : i+1])
			if err != nil {
				return nil, err
			}
			logits = append(logits, l)
		}
		return logits, nil
	})
	return events, results, err
}

func TestPlaces(t *testing.T) {
	o := Options{MaxNewTokens: 20, EOS: []int{'$'}}
	ctx := context.Background()
	var passes [][]int
	note := func(numbers []int) error { passes = append(passes, slices.Clone(numbers)); return nil }
	events, results, err := scripts(ctx, []string{"abc$", "d$", "$", "ef$"}, 2, o, note)
	if err != nil || fmt.Sprint(passes) != "[[0 1] [0 3] [0 3]]" {
		t.Errorf("passes %v, %v", passes, err)
	}
	if got := strings.Join(events, " "); got != "0a 1d 1. 2. 0b 3e 0c 0. 3f 3." {
		t.Errorf("events %s", got)
	}
	for i, want := range []string{"abc", "d", "", "ef"} {
		if results[i].Text != want || results[i].Reason != EndToken {
			t.Errorf("sequence %d: %+v, want %q", i, results[i], want)
		}
	}
	// What fails ends the whole, those before it first.
	_, results, err = scripts(ctx, []string{"abc$", "de$", "", "x$"}, 3, o, note)
	failed := new(SequenceError)
	if !errors.As(err, &failed) || failed.Number != 2 || results[0].Text != "abc" || results[1].Text != "de" || results[3].Text != "" {
		t.Errorf("a sequence that cannot begin: %v, %+v", err, results)
	}
	broken := errors.New("broken")
	_, results, err = scripts(ctx, []string{"abc$", "de$"}, 2, o, func([]int) error { return broken })
	if !errors.Is(err, broken) || len(results[0].IDs) != 1 || len(results[1].IDs) != 1 {
		t.Errorf("a step that fails: %v, %+v", err, results)
	}
	done, cancel := context.WithCancel(ctx)
	_, results, err = scripts(done, []string{"abc$", "de$", "f$"}, 2, o, func([]int) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) || len(results[0].IDs) != 2 || len(results[2].IDs) != 0 {
		t.Errorf("cancelled: %v, %+v", err, results)
	}
}
