// Package modeltest opens the golden fixtures of the models' tests: tiny
// checkpoints that transformers made, with the activations that it computed.
package modeltest

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"smelt/internal/kernel"
	"smelt/internal/vfs"
	"smelt/model"
	"smelt/nn"
	"smelt/safetensors"
	"smelt/tensor"
)

// Source is a model.Source of dense layers over one safetensors file.
type Source struct {
	Text []byte // config.json
	File *safetensors.File
}

// Open opens a checkpoint directory of one shard.
func Open(t testing.TB, dir string) *Source {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	return &Source{text, OpenFile(t, filepath.Join(dir, "model.safetensors"))}
}

// OpenFile opens a safetensors file for the length of the test.
func OpenFile(t testing.TB, path string) *safetensors.File {
	t.Helper()
	f, err := safetensors.Open(vfs.OS, path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// Config returns config.json.
func (s *Source) Config() []byte { return s.Text }

// Has reports whether the file has the tensor.
func (s *Source) Has(name string) bool { _, ok := s.File.Lookup(name); return ok }

// Tensor returns a tensor of this shape.
func (s *Source) Tensor(name string, shape ...int) (tensor.Tensor, error) {
	x, err := s.File.Tensor(name)
	if err != nil {
		return x, err
	}
	return x, model.CheckShape(name, x.Shape, shape)
}

// Linear returns a dense layer.
func (s *Source) Linear(module string, out, in int, bias bool) (nn.Linear, error) {
	return model.Dense(s, module, out, in, bias)
}

// Case is what expected.json says of a fixture.
type Case struct {
	IDs        [][]int `json:"ids"`         // input tokens by sequence, unpadded
	DecoderIDs [][]int `json:"decoder_ids"` // of an encoder–decoder
	Greedy     [][]int `json:"greedy"`      // tokens generated from each sequence
	Note       string  `json:"note"`        // versions, seed and command
}

// ReadCase reads expected.json of a fixture's directory.
func ReadCase(t testing.TB, dir string) Case {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "expected.json"))
	if err != nil {
		t.Fatal(err)
	}
	var c Case
	if err := json.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// Expected holds the activations that transformers computed, by stage.
type Expected struct {
	File *safetensors.File
	Seen map[string]bool
}

// ReadExpected opens expected.safetensors of a fixture's directory.
func ReadExpected(t testing.TB, dir string) *Expected {
	return &Expected{OpenFile(t, filepath.Join(dir, "expected.safetensors")), map[string]bool{}}
}

// Check compares x with the activations recorded under name: every element
// within tol of the largest one's magnitude.
func (e *Expected) Check(t testing.TB, name string, x kernel.Matrix, tol float64) {
	t.Helper()
	want, err := e.File.Tensor(name)
	if err != nil {
		t.Errorf("stage %s: %v", name, err)
		return
	}
	e.Seen[name] = true
	v, err := want.Float32()
	if err != nil {
		t.Fatal(err)
	}
	if len(v) != x.Rows*x.Cols {
		t.Errorf("stage %s: %d × %d values, want %v", name, x.Rows, x.Cols, want.Shape)
		return
	}
	if err := Close(x, v, tol); err != nil {
		t.Errorf("stage %s: %v", name, err)
	}
}

// CheckAll fails for stages that were recorded and never checked.
func (e *Expected) CheckAll(t testing.TB) {
	t.Helper()
	for _, info := range e.File.Tensors() {
		if !e.Seen[info.Name] {
			t.Errorf("stage %s was recorded by transformers and not reached here", info.Name)
		}
	}
}

// Close reports where x differs from want by more than tol times want's
// largest magnitude; NaN differs from everything.
func Close(x kernel.Matrix, want []float32, tol float64) error {
	top, worst, at := 0.0, 0.0, 0
	for _, v := range want {
		top = max(top, math.Abs(float64(v)))
	}
	for i := range x.Rows {
		for j, v := range x.Row(i) {
			d := math.Abs(float64(v) - float64(want[i*x.Cols+j]))
			if !(d <= worst) {
				worst, at = d, i*x.Cols+j
			}
		}
	}
	if !(worst <= tol*top) {
		return fmt.Errorf("element %d is %v, want %v (difference %.2g of the largest %.3g, at most %.2g allowed)",
			at, x.At(at/x.Cols, at%x.Cols), want[at], worst/top, top, tol)
	}
	return nil
}
