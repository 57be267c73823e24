// Package model holds what the forward passes share: the [Source] of their
// weights, and the names of the architectures that smelt runs.
//
// A model asks its source for linear layers and tensors by the checkpoint's own
// names, with the shapes that it needs, so that a checkpoint that does not fit
// fails while it is loaded, by tensor name. Whether a linear layer is dense or
// fused is the source's affair: one model file serves both.
package model

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"smelt/nn"
	"smelt/tensor"
)

// Source answers a model's requests for weights.
type Source interface {
	// Config returns the text of config.json with the architecture's own
	// model_type.
	Config() []byte

	// Has reports whether there is a tensor of this name.
	Has(name string) bool

	// Tensor returns a tensor of exactly this shape. Its data may be a mapped
	// file's.
	Tensor(name string, shape ...int) (tensor.Tensor, error)

	// Linear returns the linear layer of a module, the weight's name without
	// ".weight", and refuses it where the weight is not [out, in], the bias not
	// [out] or, with bias set, missing.
	Linear(module string, out, in int, bias bool) (nn.Linear, error)
}

// Types lists the values of model_type that smelt runs.
var Types = []string{
	"clip", "clip_vision_model", "clip_text_model", "t5",
	"llama", "mistral", "qwen2", "qwen3",
}

// Type returns the architecture of a config.json, or an error that names it
// and lists those that there are.
func Type(config []byte) (string, error) {
	var c struct {
		ModelType     string   `json:"model_type"`
		Architectures []string `json:"architectures"`
	}
	if err := json.Unmarshal(config, &c); err != nil {
		return "", fmt.Errorf("config.json: %w", err)
	}
	if !slices.Contains(Types, c.ModelType) {
		name := c.ModelType
		if len(c.Architectures) > 0 {
			name += " (" + strings.Join(c.Architectures, ", ") + ")"
		}
		return "", fmt.Errorf("config.json: architecture %q cannot be run, want one of %s", name, strings.Join(Types, ", "))
	}
	return c.ModelType, nil
}

// Loader asks a source for weights and keeps the first errors, so that a
// model's constructor reads like its architecture. Names are those of the
// checkpoint below Prefix.
type Loader struct {
	Source Source
	Prefix string
	errs   *[]error
}

// maxErrors is how many errors a loader keeps.
const maxErrors = 6

// NewLoader returns a loader of everything that s has.
func NewLoader(s Source) Loader { return Loader{Source: s, errs: new([]error)} }

// In returns a loader of what stands below prefix; errors are kept together.
func (l Loader) In(prefix string) Loader {
	l.Prefix += prefix
	return l
}

// Err returns what failed, if anything did.
func (l Loader) Err() error { return errors.Join(*l.errs...) }

func (l Loader) fail(err error) {
	if err != nil && len(*l.errs) < maxErrors {
		*l.errs = append(*l.errs, err)
	}
}

// Has reports whether there is a tensor of this name.
func (l Loader) Has(name string) bool { return l.Source.Has(l.Prefix + name) }

// Linear loads a linear layer [out, in].
func (l Loader) Linear(module string, out, in int, bias bool) nn.Linear {
	lin, err := l.Source.Linear(l.Prefix+module, out, in, bias)
	l.fail(err)
	return lin
}

// Vector loads n values as float32.
func (l Loader) Vector(name string, n int) []float32 { return l.Values(name, n) }

// Values loads a tensor of any shape as float32.
func (l Loader) Values(name string, shape ...int) []float32 {
	t, err := l.Source.Tensor(l.Prefix+name, shape...)
	if err != nil {
		l.fail(err)
		return nil
	}
	v, err := t.Float32()
	if err != nil {
		l.fail(fmt.Errorf("tensor %q: %w", l.Prefix+name, err))
	}
	return v
}

// Convolution loads a convolution without bias whose stride is its kernel, as a
// dense layer over flattened patches: [out, channels·height·width].
func (l Loader) Convolution(module string, out, channels, height, width int) nn.Linear {
	name := l.Prefix + module + ".weight"
	t, err := l.Source.Tensor(name, out, channels, height, width)
	if err != nil {
		l.fail(err)
		return nil
	}
	t.Shape = []int{out, channels * height * width}
	w, err := nn.Weight(t)
	if err != nil {
		l.fail(fmt.Errorf("tensor %q: %w", name, err))
	}
	return &nn.Dense{Weight: w}
}

// Embedding loads a table [rows, width] in its stored dtype.
func (l Loader) Embedding(module string, rows, width int) *nn.Embedding {
	t, err := l.Source.Tensor(l.Prefix+module+".weight", rows, width)
	if err != nil {
		l.fail(err)
		return nil
	}
	w, err := nn.Weight(t)
	if err != nil {
		l.fail(fmt.Errorf("tensor %q: %w", l.Prefix+module+".weight", err))
	}
	return &nn.Embedding{Weight: w}
}

// LayerNorm loads weight and bias of width n.
func (l Loader) LayerNorm(module string, n int, eps float32) *nn.LayerNorm {
	return &nn.LayerNorm{Weight: l.Vector(module+".weight", n), Bias: l.Vector(module+".bias", n), Eps: eps}
}

// RMSNorm loads a weight of width n.
func (l Loader) RMSNorm(module string, n int, eps float32) *nn.RMSNorm {
	return &nn.RMSNorm{Weight: l.Vector(module+".weight", n), Eps: eps}
}

// CheckShape returns an error that names the tensor unless got is want.
func CheckShape(name string, got, want []int) error {
	if !slices.Equal(got, want) {
		return fmt.Errorf("tensor %q has shape %v, want %v", name, got, want)
	}
	return nil
}

// Dense builds the dense form of a module from a source's tensors: what
// [Source.Linear] answers for a layer that is not fused. weight is [out, in].
func Dense(s Source, module string, out, in int, bias bool) (*nn.Dense, error) {
	t, err := s.Tensor(module+".weight", out, in)
	if err != nil {
		return nil, err
	}
	w, err := nn.Weight(t)
	if err != nil {
		return nil, fmt.Errorf("tensor %q: %w", module+".weight", err)
	}
	d := &nn.Dense{Weight: w}
	if !bias && !s.Has(module+".bias") {
		return d, nil
	}
	b, err := s.Tensor(module+".bias", out)
	if err != nil {
		return nil, err
	}
	if d.Bias, err = b.Float32(); err != nil {
		return nil, fmt.Errorf("tensor %q: %w", module+".bias", err)
	}
	return d, nil
}
