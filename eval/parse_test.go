package eval_test

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"smelt/eval"
	"smelt/internal/vfs"
)

// TestParseErrors: every mistake is one line that names file and line.
func TestParseErrors(t *testing.T) {
	image := "version: 1\ntasks:\n- name: x\n  type: image-classification\n"
	for _, x := range []struct{ text, want string }{
		{"", "t.yaml: want one YAML document"},
		{"- 1\n", "t.yaml:1: a task file: want a mapping (key: value), got a list"},
		{"version: 2\ntasks: [{name: x}]\n", "t.yaml:2: task x: has no type"},
		{"version: one\n", "t.yaml:1: version: want a whole number, got a string"},
		{"version: 3\n" + image[11:] + "  data: d\n  templates: ['{}']\n", "t.yaml:1: version is 3, this smelt reads 1"},
		{"tasks:\n" + image[18:] + "  data: d\n  templates: ['{}']\n", "t.yaml:1: a task file begins with version: 1"},
		{"version: 1\ntasks: []\n", "t.yaml:2: tasks is empty"},
		{"version: 1\nversion: 1\n", "version"},
		{"version: &a 1\ntasks: *a\n", "got an anchor or alias"},
		{image + "  data: d\n", "t.yaml:3: task x: wants templates, texts with {} for a class, or a head file"},
		{image + "  templates: ['{}']\n", "t.yaml:3: task x: has no data"},
		{image + "  images: a\n  templates: ['{}']\n", "t.yaml:3: task x: has images and no labels"},
		{image + "  labels: a\n  templates: ['{}']\n", "has labels and no images"},
		{image + "  data: d\n  templates: [a cat]\n", `template "a cat" has no {} for the class`},
		{image + "  data: d\n  templates: ['{}']\n  metric: f1\n", `metric "f1" is none of a task of type image-classification: want accuracy, agreement`},
		{image + "  data: d\n  templates: ['{}']\n  metric: agreement\n", "metric agreement and reference"},
		{image + "  data: d\n  templates: ['{}']\n  prompt: p\n", "prompt is no key of a task of type image-classification"},
		{image + "  data: d\n  templates: ['{}']\n  limit: 0\n", "t.yaml:7: limit is 0, want 1 to"},
		{image + "  data: d\n  templates: ['{}']\n  held_out: 1\n", "held_out: want true or false, got a number"},
		{image + "  data: d\n  templates: ['{}']\n  held_out: true\n  expert: y\n", "is held out and names an expert"},
		{image + "  data: d\n  templates: ['{}']\n  corruption: {kind: fog}\n", `kind is "fog", want noise, blur, contrast`},
		{image + "  data: d\n  templates: ['{}']\n- name: x\n  type: perplexity\n  data: d\n", `t.yaml:7: two tasks are called "x"`},
		{"version: 1\ntasks:\n- name: a/b\n  type: perplexity\n", "want at most 100 characters without slashes"},
	} {
		_, err := eval.Parse("t.yaml", []byte(x.text))
		if err == nil || !strings.Contains(err.Error(), x.want) || strings.Contains(err.Error(), "\n") || !strings.HasPrefix(err.Error(), "t.yaml") {
			t.Errorf("%q:\n%v\nwant %s", x.text, err, x.want)
		}
	}
}

// TestTextErrors: what is wrong with a row is said with its place.
func TestTextErrors(t *testing.T) {
	for _, x := range []struct{ rows, task, want string }{
		{`{"p": "a"}` + "\n" + `{"q": "b"}`, "prompt: '{p}'\ntarget: '{p}'", `d.jsonl:2: has no field "p": it has q`},
		{`{"p": [1]}`, "prompt: '{p}'\ntarget: '{p}'", `d.jsonl:1: field "p": want a text, got an array`},
		{`{"p": ""}`, "prompt: '{p}'\ntarget: x", "d.jsonl:1: the prompt is empty"},
		{`{"p": "a"}`, "prompt: '{p'\ntarget: x", "a brace without its other"},
		{`{"p": "a"`, "prompt: '{p}'\ntarget: x", "line 1: invalid JSON"},
		{`["p"]`, "prompt: '{p}'\ntarget: x", "line 1: want an object, got an array"},
		{`{"p": "a", "l": 2}`, "prompt: '{p}'\ntarget: '{l}'\nnames: {l: [no, 'yes']}", `field "l" is 2, names has 2 (0 to 1)`},
		{"", "prompt: '{p}'\ntarget: x", "the data is empty: no rows"},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "d.jsonl"), []byte(x.rows), 0o644); err != nil {
			t.Fatal(err)
		}
		f, err := eval.Parse(filepath.Join(dir, "t.yaml"), []byte("version: 1\ntasks:\n- name: x\n  type: text-to-text\n  data: d.jsonl\n"+indent(x.task)+"\n"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err = eval.OpenTexts(vfs.OS, f, &f.Tasks[0]); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v, want %s", x.rows, err, x.want)
		}
	}
}

// TestSummary: means are over tasks that are not held out, relative to the
// individual experts, upside down for perplexity.
func TestSummary(t *testing.T) {
	cell := func(v float64) *eval.Cell { return &eval.Cell{Score: eval.Score{Value: v, N: 10}} }
	r := &eval.Results{
		Tasks: []eval.TaskInfo{{Name: "a", Metric: eval.Accuracy}, {Name: "p", Metric: eval.PerplexityMetric}, {Name: "h", Metric: eval.Accuracy, HeldOut: true}},
		Rows: []eval.Row{
			{Model: "base", Cells: []*eval.Cell{cell(0.4), cell(20), cell(0.9)}},
			{Model: "own", Kind: eval.KindIndividual, Cells: []*eval.Cell{cell(0.8), cell(10), nil}},
			{Model: "part", Cells: []*eval.Cell{cell(0.8), nil, nil}},
		},
	}
	r.Summarise()
	if got := r.Rows[0].Normalised; got == nil || math.Abs(*got-0.5) > 1e-12 {
		t.Errorf("normalised mean %v, want 0.5", got)
	}
	if r.Rows[0].Mean != nil || r.Rows[2].Normalised != nil {
		t.Error("a mean over two metrics, or over a part of the tasks, is none")
	}
	if got, want := strings.Split(r.Markdown(), "\n")[2], "| base |  | 40.0 | 20.00 |  | 50.0 | 90.0 |"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if _, err := json.Marshal(r); err != nil {
		t.Error(err)
	}
	if got := len(strings.Split(strings.TrimSpace(r.CSV()), "\n")); got != 1+6 {
		t.Errorf("%d lines of CSV, want 7", got)
	}
}

// TestPerplexity on numbers worked out by hand.
func TestPerplexity(t *testing.T) {
	answers := []eval.Answer{{LogProb: -3 * math.Ln2, Tokens: 3}, {LogProb: -5 * math.Ln2, Tokens: 1}}
	truths := []eval.Truth{{Bytes: 4}, {Bytes: 12}}
	for metric, want := range map[string]float64{eval.PerplexityMetric: 4, eval.BitsPerByte: 0.5} {
		s, err := (&eval.Task{Type: eval.Perplexity, Metric: metric}).Measure(answers, truths, nil)
		if err != nil || math.Abs(s.Value-want) > 1e-12 || s.Low > want || s.High < want {
			t.Errorf("%s: %+v %v, want %v", metric, s, err, want)
		}
	}
}

// FuzzData: no task file and no data file makes smelt panic.
func FuzzData(f *testing.F) {
	for _, name := range []string{"images.idx", "labels.idx.gz", "images.csv", "images.jsonl", "rows.parquet", "hub/data/test-00001-of-00002.parquet"} {
		data, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(name, data)
	}
	f.Add("t.yaml", []byte("version: 1\ntasks:\n- name: x\n  type: perplexity\n  data: [a, 'b']\n  context: 16\n"))
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		_, _ = eval.Parse("t.yaml", data)
		fsys := vfs.NewMem()
		ending := filepath.Ext(strings.TrimSuffix(name, ".gz"))
		if !strings.Contains(".idx.csv.jsonl.parquet.txt", ending) || ending == "" {
			return
		}
		if strings.HasSuffix(name, ".gz") {
			ending += ".gz"
		}
		if err := vfs.WriteFile(fsys, "d"+ending, bytes.Clone(data)); err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{
			"type: image-classification\ntemplates: ['{}']\nclasses: [a, b]\nimages: d.idx\nlabels: d.idx\n",
			"type: image-classification\ntemplates: ['{}']\nclasses: [a, b]\ndata: d" + ending + "\n",
			"type: text-to-text\nprompt: '{text}'\ntarget: '{label}'\ndata: d" + ending + "\n",
		} {
			file, err := eval.Parse("t.yaml", []byte("version: 1\ntasks:\n- name: x\n"+indent(text)))
			if err != nil {
				continue // an ending that is no YAML
			}
			if file.Tasks[0].Type == eval.TextToText {
				_, _ = eval.OpenTexts(fsys, file, &file.Tasks[0])
			} else if im, err := eval.OpenImages(fsys, file, &file.Tasks[0]); err == nil {
				_, _ = im.Picture(0)
			}
		}
	})
}
