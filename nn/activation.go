package nn

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"smelt/internal/kernel"
)

// Activation is an elementwise function of a feed-forward layer, in its plain
// and, where models use one, its gated form.
type Activation struct {
	name  string
	plain func(dst, x []float32)
	gated func(dst, gate, up []float32) // act(gate)·up; nil where there is none fused
}

// activations holds the functions by the names that config files use.
var activations = map[string]Activation{
	"gelu":              {"gelu", kernel.GELU, nil},
	"gelu_new":          {"gelu_new", kernel.GELUTanh, kernel.GELUTanhMul},
	"gelu_pytorch_tanh": {"gelu_pytorch_tanh", kernel.GELUTanh, kernel.GELUTanhMul},
	"quick_gelu":        {"quick_gelu", kernel.QuickGELU, nil},
	"relu":              {"relu", kernel.ReLU, nil},
	"silu":              {"silu", kernel.SiLU, kernel.SiLUMul},
	"swish":             {"swish", kernel.SiLU, kernel.SiLUMul},
}

// ActivationByName returns the function that a config file calls name.
func ActivationByName(name string) (Activation, error) {
	if a, ok := activations[name]; ok {
		return a, nil
	}
	known := slices.Sorted(maps.Keys(activations))
	return Activation{}, fmt.Errorf("nn: activation %q is not known, want one of %s", name, strings.Join(known, ", "))
}

// String returns the name.
func (a Activation) String() string { return a.name }

// Forward applies the function to x in place.
func (a Activation) Forward(p *Pass, x kernel.Matrix) {
	if p.Serial(x.Rows, x.Cols) {
		a.rows(x, 0, x.Rows)
		return
	}
	p.ForRows(x.Rows, x.Cols, func(lo, hi int) { a.rows(x, lo, hi) })
}

func (a Activation) rows(x kernel.Matrix, lo, hi int) {
	for i := lo; i < hi; i++ {
		a.plain(x.Row(i), x.Row(i))
	}
}

// Gate writes gate = act(gate)·up, the product of SwiGLU and GEGLU.
func (a Activation) Gate(p *Pass, gate, up kernel.Matrix) {
	if p.Serial(gate.Rows, gate.Cols) {
		a.gateRows(gate, up, 0, gate.Rows)
		return
	}
	p.ForRows(gate.Rows, gate.Cols, func(lo, hi int) { a.gateRows(gate, up, lo, hi) })
}

func (a Activation) gateRows(gate, up kernel.Matrix, lo, hi int) {
	for i := lo; i < hi; i++ {
		g, u := gate.Row(i), up.Row(i)
		if a.gated != nil {
			a.gated(g, g, u)
			continue
		}
		a.plain(g, g)
		kernel.Mul(g, g, u)
	}
}
