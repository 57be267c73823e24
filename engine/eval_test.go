package engine_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"smelt/engine"
	"smelt/eval"
	"smelt/internal/vfs"
)

const pools = "../examples/pools"

// python is what tools/pools/evaluate.py measured in transformers.
func python(t *testing.T, pool string) map[string]map[string]float64 {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(pools, pool, "results.json"))
	if err != nil {
		t.Fatal(err)
	}
	var list []struct {
		Model  string
		Scores map[string]float64
	}
	if err := json.Unmarshal(data, &list); err != nil {
		t.Fatal(err)
	}
	m := map[string]map[string]float64{}
	for _, r := range list {
		m[r.Model] = r.Scores
	}
	return m
}

func evaluate(t *testing.T, pool string, models []engine.EvalModel, opt engine.EvalOptions) *eval.Results {
	t.Helper()
	file, err := eval.Load(vfs.OS, filepath.Join(pools, pool, "tasks.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := engine.Evaluate(context.Background(), vfs.OS, file, models, opt, engine.Progress{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func experts(t *testing.T, pool, folder string) []engine.Source {
	t.Helper()
	list, err := engine.ExpertFolder(vfs.OS, filepath.Join(pools, pool, folder))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func fuseTo(t *testing.T, base string, experts []engine.Source, opt engine.Options) string {
	t.Helper()
	in, err := engine.OpenInputs(vfs.OS, base, experts)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	plan, err := engine.NewPlan(in, opt)
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "fused")
	if _, err := engine.Fuse(context.Background(), in, plan, engine.Part{}, out, 0, engine.Progress{}); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestEvalVision holds accuracies against those of transformers. What differs
// are roundings: of float32 in the dense models, which may turn one answer in
// 240, and of the stored factors in the fused one.
func TestEvalVision(t *testing.T) {
	base := filepath.Join(pools, "vision/base")
	full := experts(t, "vision", "experts")
	fused := fuseTo(t, base, full, engine.Options{ExpertRank: 16, RouterRank: 16})
	r := evaluate(t, "vision", []engine.EvalModel{
		{Name: "base", Path: base},
		{Name: "individual", Experts: full},
		{Name: "individual LoRA", Experts: experts(t, "vision", "lora")},
		{Name: "fused", Path: fused},
	}, engine.EvalOptions{Tasks: []string{"digits", "signs"}})
	want := python(t, "vision")
	for i, x := range []struct {
		model     string
		tolerance float64 // points
	}{
		{"base", 0.5},
		{"individual (full)", 0.5},
		{"individual (lora)", 0.5},
		{"SMILE (16,16) (full)", 2},
	} {
		for j, task := range r.Tasks {
			w, ok := want[x.model][task.Name]
			if got := 100 * r.Rows[i].Cells[j].Value; !ok || !(math.Abs(got-w) <= x.tolerance) {
				t.Errorf("%s on %s: %.2f %%, transformers %.2f %% (known: %v)", x.model, task.Name, got, w, ok)
			}
		}
	}
	if got := r.Rows[1].Relative; got != 8 {
		t.Errorf("eight experts are %v × the base, want 8", got)
	}
	c := r.Rows[3].Cells[0]
	if c.Routed == nil || *c.Routed < 0.5 || len(c.Routing.Modules) != 24 {
		t.Errorf("routing of digits: share %v in %d modules, want most of the tokens in 24", c.Routed, len(c.Routing.Modules))
	}
	own := 0
	for _, a := range c.Answers {
		if a.Expert > 0 && c.Routing.Experts[a.Expert-1] == "digits" {
			own++
		}
	}
	if own < len(c.Answers)/2 {
		t.Errorf("%d of %d pictures of digits went to their own expert", own, len(c.Answers))
	}
}

// TestEvalCut: a fused model cut to lower ranks is the model that is fused to
// these ranks.
func TestEvalCut(t *testing.T) {
	base := filepath.Join(pools, "vision/base")
	list := experts(t, "vision", "experts")[:3]
	large := fuseTo(t, base, list, engine.Options{ExpertRank: 8, RouterRank: 6})
	small := fuseTo(t, base, list, engine.Options{ExpertRank: 3, RouterRank: 2})
	cuts, err := engine.Sweep{ExpertRanks: []int{3}, RouterRanks: []int{2}}.Cuts(vfs.OS, engine.Source{Name: "SMILE", Path: large})
	if err != nil {
		t.Fatal(err)
	}
	r := evaluate(t, "vision", append(cuts, engine.EvalModel{Name: "small", Path: small}), engine.EvalOptions{Tasks: []string{"digits"}, Limit: 128})
	cut, want := r.Rows[0], r.Rows[1]
	if cut.Parameters != want.Parameters || cut.Bytes != want.Bytes || cut.Relative != want.Relative {
		t.Errorf("cut: %d parameters, %d bytes, ×%v; fused so: %d, %d, ×%v", cut.Parameters, cut.Bytes, cut.Relative, want.Parameters, want.Bytes, want.Relative)
	}
	if a, b := fmt.Sprint(cut.Cells[0].Answers), fmt.Sprint(want.Cells[0].Answers); a != b {
		t.Errorf("answers differ:\n%s\n%s", a, b)
	}
	if _, err := (engine.Sweep{ExpertRanks: []int{16}}).Cuts(vfs.OS, engine.Source{Name: "SMILE", Path: large}); err == nil || !strings.Contains(err.Error(), "rank 16 is asked for, it stores 8") {
		t.Errorf("a rank above the stored one: %v", err)
	}
}

// TestEvalTexts holds multiple choice and exact match against transformers.
func TestEvalTexts(t *testing.T) {
	for pool, tasks := range map[string][]string{"causal": {"sums", "brackets"}, "text2text": {"translate"}} {
		r := evaluate(t, pool, []engine.EvalModel{
			{Name: "base", Path: filepath.Join(pools, pool, "base")},
			{Name: "individual", Experts: experts(t, pool, "lora")},
		}, engine.EvalOptions{Tasks: tasks})
		want := python(t, pool)
		for i, model := range []string{"base", "individual (lora)"} {
			for j, task := range r.Tasks {
				w, ok := want[model][task.Name]
				c := r.Rows[i].Cells[j]
				if got := 100 * c.Value; !ok || !(math.Abs(got-w) <= 101/float64(c.N)) {
					t.Errorf("%s on %s: %.2f %%, transformers %.2f %% (known: %v)", model, task.Name, got, w, ok)
				}
			}
		}
	}
}

// TestEvalCache: what was answered is not computed again; another corruption is
// another question; a broken file counts as none.
func TestEvalCache(t *testing.T) {
	dir := t.TempDir()
	opt := engine.EvalOptions{Tasks: []string{"digits"}, Limit: 100, Cache: eval.Cache{FS: vfs.OS, Dir: dir}}
	models := []engine.EvalModel{{Name: "base", Path: filepath.Join(pools, "vision/base")}}
	cell := func() *eval.Cell { return evaluate(t, "vision", models, opt).Rows[0].Cells[0] }
	first := cell()
	if second := cell(); first.Cached != 0 || second.Cached != 100 || second.Score != first.Score {
		t.Errorf("cached %d, then %d of 100; values %v and %v", first.Cached, second.Cached, first.Value, second.Value)
	}
	opt.Corrupt = eval.Corruption{Kind: "contrast", Severity: 5}
	if c := cell(); c.Cached != 0 {
		t.Errorf("other images: %d answers from the cache", c.Cached)
	}
	opt.Corrupt = eval.Corruption{}
	files, err := filepath.Glob(filepath.Join(dir, "*", "*.json"))
	if err != nil || len(files) != 2 {
		t.Fatalf("%d files in the cache, want 2: %v", len(files), err)
	}
	for _, f := range files {
		if err := os.Truncate(f, 200); err != nil {
			t.Fatal(err)
		}
	}
	if c := cell(); c.Cached != 0 || c.Score != first.Score {
		t.Errorf("a cut file: %d answers from the cache, value %v, want %v", c.Cached, c.Value, first.Value)
	}
}

// TestEvalT5 runs an encoder–decoder with a tokenizer of whole words: it
// agrees with itself, exact match finds what it generates, and the choice that
// it generates greedily, one token long, is the likeliest.
func TestEvalT5(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "model"), os.DirFS("../model/t5/testdata/flan")); err != nil {
		t.Fatal(err)
	}
	var config struct {
		VocabSize int `json:"vocab_size"`
	}
	text, err := os.ReadFile(filepath.Join(dir, "model/config.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	vocab := map[string]int{}
	for i := range config.VocabSize {
		vocab[fmt.Sprintf("w%d", i)] = i
	}
	tokens, err := json.Marshal(map[string]any{
		"version": "1.0", "added_tokens": []any{}, "pre_tokenizer": map[string]any{"type": "Whitespace"},
		"model": map[string]any{"type": "WordLevel", "vocab": vocab, "unk_token": "w2"},
	})
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("model/tokenizer.json", tokens)
	write("data.jsonl", []byte("{\"p\": \"w5 w9 w4\", \"t\": \"none\"}\n{\"p\": \"w7\", \"t\": \"none\"}\n"))
	run := func(tasks string) *eval.Results {
		write("tasks.yaml", []byte("version: 1\ntasks:\n"+tasks))
		file, err := eval.Load(vfs.OS, filepath.Join(dir, "tasks.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		r, err := engine.Evaluate(context.Background(), vfs.OS, file, []engine.EvalModel{{Name: "t5", Path: filepath.Join(dir, "model")}}, engine.EvalOptions{}, engine.Progress{})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	const generate = "- {name: g, type: text-to-text, data: data.jsonl, prompt: '{p}', target: '{t}', max_new_tokens: 1}\n"
	first := run(generate + "- {name: a, type: text-to-text, data: data.jsonl, prompt: '{p}', max_new_tokens: 1, metric: agreement, reference: model}\n").Rows[0]
	if first.Cells[0].Value != 0 || first.Cells[1].Value != 1 {
		t.Errorf("exact match with what it never says %v, agreement with itself %v: want 0 and 1", first.Cells[0].Value, first.Cells[1].Value)
	}
	var rows strings.Builder
	for i, p := range []string{"w5 w9 w4", "w7"} {
		said := first.Cells[0].Answers[i].Text
		fmt.Fprintf(&rows, "{\"p\": %q, \"t\": %q, \"c\": [\"w11\", %q, \"w13\"]}\n", p, said, said)
	}
	write("data.jsonl", []byte(rows.String()))
	second := run(generate + "- {name: c, type: multiple-choice, data: data.jsonl, prompt: '{p}', choices: '{c}', answer: '{t}'}\n").Rows[0]
	if second.Cells[0].Value != 1 || second.Cells[1].Value != 1 {
		t.Errorf("with its own words as targets: exact match %v, choices %v, want 1 and 1 (it says %v)", second.Cells[0].Value, second.Cells[1].Value, first.Cells[0].Answers)
	}
}
