package model

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"smelt/dtype"
	"smelt/nn"
	"smelt/tensor"
)

// memory is a source of tensors in memory.
type memory map[string]tensor.Tensor

func (m memory) Config() []byte       { return nil }
func (m memory) Has(name string) bool { _, ok := m[name]; return ok }

func (m memory) Tensor(name string, shape ...int) (tensor.Tensor, error) {
	t, ok := m[name]
	if !ok {
		return t, fmt.Errorf("no tensor %q", name)
	}
	return t, CheckShape(name, t.Shape, shape)
}

func (m memory) Linear(module string, out, in int, bias bool) (nn.Linear, error) {
	return Dense(m, module, out, in, bias)
}

func floats(t *testing.T, d dtype.DType, shape ...int) tensor.Tensor {
	t.Helper()
	n, err := tensor.Elements(shape)
	if err != nil {
		t.Fatal(err)
	}
	x, err := tensor.FromFloat32(d, make([]float32, n), shape...)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func TestType(t *testing.T) {
	for _, kind := range Types {
		if got, err := Type([]byte(`{"model_type": "` + kind + `"}`)); err != nil || got != kind {
			t.Errorf("%s: %q, %v", kind, got, err)
		}
	}
	for _, c := range []struct{ config, want string }{
		{`{"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}`, `"gpt2 (GPT2LMHeadModel)" cannot be run, want one of clip,`},
		{`{}`, `architecture ""`},
		{`[`, "config.json"},
	} {
		if _, err := Type([]byte(c.config)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one that says %q", c.config, err, c.want)
		}
	}
}

func TestDense(t *testing.T) {
	s := memory{
		"a.weight": floats(t, dtype.BF16, 3, 2), "a.bias": floats(t, dtype.BF16, 3),
		"b.weight": floats(t, dtype.F64, 3, 2),
		"c.weight": floats(t, dtype.F32, 3, 2), "c.bias": floats(t, dtype.F32, 4),
		"d.weight": {DType: dtype.I32, Shape: []int{3, 2}, Data: make([]byte, 24)},
	}
	// A bias that is there is used whether it was asked for or not.
	for _, bias := range []bool{false, true} {
		d, err := Dense(s, "a", 3, 2, bias)
		if err != nil || len(d.Bias) != 3 || &d.Weight.Data[0] != &s["a.weight"].Data[0] {
			t.Errorf("a: %+v, %v", d, err)
		}
	}
	if d, err := Dense(s, "b", 3, 2, false); err != nil || d.Weight.DType != dtype.F32 || d.Bias != nil {
		t.Errorf("b: %+v, %v", d, err)
	}
	for _, c := range []struct {
		module  string
		out, in int
		bias    bool
		want    string
	}{
		{"a", 2, 3, true, `tensor "a.weight" has shape [3 2], want [2 3]`},
		{"b", 3, 2, true, `"b.bias"`},
		{"c", 3, 2, false, `tensor "c.bias" has shape [4], want [3]`},
		{"d", 3, 2, false, `tensor "d.weight": nn: weight of dtype I32`},
		{"e", 3, 2, false, `"e.weight"`},
	} {
		if _, err := Dense(s, c.module, c.out, c.in, c.bias); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one that says %q", c.module, err, c.want)
		}
	}
}

func TestLoader(t *testing.T) {
	s := memory{"x.conv.weight": floats(t, dtype.F32, 5, 3, 2, 2), "x.norm.weight": floats(t, dtype.F16, 4)}
	l := NewLoader(s)
	x := l.In("x.")
	if c := x.Convolution("conv", 5, 3, 2, 2); c == nil || c.In() != 12 || c.Out() != 5 {
		t.Error("a convolution is not the dense layer over its patches")
	}
	if n := x.RMSNorm("norm", 4, 1e-6); !slices.Equal(n.Weight, make([]float32, 4)) {
		t.Errorf("norm %v", n.Weight)
	}
	if err := l.Err(); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		x.Vector(fmt.Sprint("missing", i), 3)
	}
	x.Embedding("norm", 4, 1)
	err := l.Err()
	if err == nil || strings.Count(err.Error(), "\n")+1 != maxErrors || !strings.Contains(err.Error(), `"x.missing0"`) {
		t.Errorf("errors of a part are not those of the whole, %d at most: %v", maxErrors, err)
	}
}
