package checkpoint_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"smelt/checkpoint"
	"smelt/dtype"
	"smelt/internal/vfs"
	"smelt/safetensors"
	"smelt/tensor"
)

// truth is what tools/golden/checkpoint/names.py recorded of one model.
type truth struct {
	Class   string
	Config  json.RawMessage
	Tied    [][]string
	Tensors [][4]json.RawMessage

	rows []row
}

type row struct {
	name  string
	shape []int
	owner string // class of the torch module
	kind  string // linear, conv1d, embedding or nothing
}

func truths(t *testing.T) map[string]*truth {
	t.Helper()
	files, err := filepath.Glob("testdata/names/*.json")
	if err != nil || len(files) < 40 {
		t.Fatalf("%d files in testdata/names: run tools/golden/checkpoint/names.py", len(files))
	}
	all := map[string]*truth{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		x := &truth{}
		if err := json.Unmarshal(text, x); err != nil {
			t.Fatal(err)
		}
		for _, cols := range x.Tensors {
			var r row
			for i, to := range []any{&r.name, &r.shape, &r.owner, &r.kind} {
				if err := json.Unmarshal(cols[i], to); err != nil {
					t.Fatal(err)
				}
			}
			x.rows = append(x.rows, r)
		}
		all[strings.TrimSuffix(filepath.Base(file), ".json")] = x
	}
	return all
}

// open makes a checkpoint of the recorded names, with zeros for values.
func (x *truth) open(t *testing.T) *checkpoint.Checkpoint {
	t.Helper()
	var ts []safetensors.Named
	for _, r := range x.rows {
		z, err := tensor.New(dtype.BF16, r.shape...)
		if err != nil {
			t.Fatal(err)
		}
		ts = append(ts, safetensors.Named{Name: r.name, Tensor: z})
	}
	return openMem(t, string(x.Config), ts)
}

// openMem makes and opens a checkpoint in memory.
func openMem(t *testing.T, config string, ts []safetensors.Named) *checkpoint.Checkpoint {
	t.Helper()
	m := vfs.NewMem()
	if err := m.MkdirAll("/m"); err != nil {
		t.Fatal(err)
	}
	if err := vfs.WriteFile(m, "/m/config.json", []byte(config)); err != nil {
		t.Fatal(err)
	}
	if err := safetensors.Write(m, "/m/model.safetensors", ts, nil); err != nil {
		t.Fatal(err)
	}
	c, err := checkpoint.Open(m, "/m")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// heads are the modules in the recorded models that map to classes or words.
var heads = []string{
	"lm_head.", "classifier.", "score.", "qa_outputs.", "pre_classifier.", "cls.predictions.", "predictions.",
	"discriminator_predictions.", "predict_", "proj_out.", "embed_out.", "head.dense", "head.norm", "decoder.bias",
	"decoder.weight", "language_model.lm_head.", "decoder.lm_head.",
}

// TestKindIsTorchs holds the name rules against the classes of the torch
// modules that own the tensors.
func TestKindIsTorchs(t *testing.T) {
	for model, x := range truths(t) {
		c := x.open(t)
		for _, r := range x.rows {
			got := c.Kind(r.name)
			if want := expected(r); !slices.Contains(want, got) {
				t.Errorf("%s: %s %v of %s is %v, want %v", model, r.name, r.shape, r.owner, got, want)
			}
		}
	}
}

// expected gives the kinds that are right for a tensor, by its torch module.
func expected(r row) []checkpoint.Kind {
	parameter := r.name[strings.LastIndexByte(r.name, '.')+1:]
	linear := r.kind == "linear" || r.kind == "conv1d"
	switch {
	case slices.ContainsFunc(heads, func(h string) bool { return strings.HasPrefix(r.name, h) }):
		return []checkpoint.Kind{checkpoint.Head}
	case strings.Contains(r.name, ".experts.") || r.owner == "" || strings.HasSuffix(r.name, "_expert_gate.weight"):
		return []checkpoint.Kind{checkpoint.Other}
	case r.owner == "NonDynamicallyQuantizableLinear": // inside torch's attention, which reads it past the module
		return []checkpoint.Kind{checkpoint.Other, checkpoint.Bias}
	case linear && parameter == "weight":
		return []checkpoint.Kind{checkpoint.Linear}
	case linear && parameter == "bias":
		return []checkpoint.Kind{checkpoint.Bias}
	case r.kind == "embedding":
		return []checkpoint.Kind{checkpoint.Embedding}
	case strings.Contains(r.owner, "Norm"):
		return []checkpoint.Kind{checkpoint.Norm}
	case strings.HasPrefix(r.owner, "Conv") && (parameter == "weight" || parameter == "bias"):
		return []checkpoint.Kind{checkpoint.Conv}
	}
	return []checkpoint.Kind{checkpoint.Other, checkpoint.Embedding, checkpoint.Conv}
}

// TestTransposedIsTorchs holds Transposed against Conv1D modules.
func TestTransposedIsTorchs(t *testing.T) {
	n := 0
	for model, x := range truths(t) {
		c := x.open(t)
		for _, r := range x.rows {
			want := r.kind == "conv1d" && strings.HasSuffix(r.name, ".weight")
			if got := c.Transposed(r.name); got != want {
				t.Errorf("%s: %s: transposed %v, want %v", model, r.name, got, want)
			}
			if want {
				n++
			}
		}
	}
	if n < 40 {
		t.Errorf("only %d Conv1D weights in the fixtures", n)
	}
}

// TestTiedIsTransformers holds the tied groups against the parameters that
// transformers shares.
func TestTiedIsTransformers(t *testing.T) {
	for model, x := range truths(t) {
		c := x.open(t)
		grouped := map[string]bool{}
		for _, group := range x.Tied {
			want := ""
			for _, name := range group {
				grouped[name] = true
				if _, ok := c.Lookup(name); ok {
					want = name
				}
			}
			for _, name := range group {
				if got, ok := c.Resolve(name); !ok || got.Name != want {
					t.Errorf("%s: %s resolves to %q, want %q", model, name, got.Name, want)
				}
			}
		}
		for _, group := range c.Tied() {
			for _, name := range group {
				if !grouped[name] {
					t.Errorf("%s: %s is in the group %v, but transformers does not tie it", model, name, group)
				}
			}
		}
	}
}

// zeros makes F32 tensors of zeros: name, rows, columns, and so on.
func zeros(t *testing.T, args ...any) []safetensors.Named {
	t.Helper()
	var ts []safetensors.Named
	for len(args) > 0 {
		shape := []int{}
		i := 1
		for ; i < len(args); i++ {
			d, ok := args[i].(int)
			if !ok {
				break
			}
			shape = append(shape, d)
		}
		z, err := tensor.New(dtype.F32, shape...)
		if err != nil {
			t.Fatal(err)
		}
		ts = append(ts, safetensors.Named{Name: args[0].(string), Tensor: z})
		args = args[i:]
	}
	return ts
}
