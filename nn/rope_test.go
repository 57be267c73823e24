package nn

import (
	"encoding/json"
	"math"
	"os"
	"testing"

	"smelt/internal/kernel"
)

// Angles are those of transformers, near and far: the products of position and
// frequency are rounded to float32 there, and so they are here.
func TestRoPETables(t *testing.T) {
	text, err := os.ReadFile("testdata/rope.json")
	if err != nil {
		t.Fatal(err)
	}
	var golden struct {
		Cases []struct {
			Config                   json.RawMessage
			Positions, Dim, Position int
			Cos, Sin                 []float64
		}
	}
	if err := json.Unmarshal(text, &golden); err != nil || len(golden.Cases) < 40 {
		t.Fatalf("%d cases: %v", len(golden.Cases), err)
	}
	for _, c := range golden.Cases {
		config, err := json.Marshal(map[string]any{"rope_parameters": c.Config})
		if err != nil {
			t.Fatal(err)
		}
		e, err := RoPEFromConfig(config, c.Dim, c.Positions)
		if err != nil {
			t.Fatal(err)
		}
		cos, sin := kernel.New(1, c.Dim/2), kernel.New(1, c.Dim/2)
		e.Tables(cos, sin, c.Position, c.Position+1)
		// A frequency may differ by one rounding: the angle then by position
		// times frequency times 2⁻²³.
		for i := range c.Cos {
			tol := 2e-6 + float64(c.Position)*float64(e.inv[i])*0x1p-22
			if !(math.Abs(float64(cos.Data[i])-c.Cos[i]) <= tol) || !(math.Abs(float64(sin.Data[i])-c.Sin[i]) <= tol) {
				t.Errorf("%s: position %d, pair %d: (%v, %v), want (%v, %v)", c.Config, c.Position, i, cos.Data[i], sin.Data[i], c.Cos[i], c.Sin[i])
				break
			}
		}
	}
}

func TestRoPEContext(t *testing.T) {
	for _, c := range []struct {
		config string
		want   int
	}{
		{`{}`, 4096},
		{`{"rope_theta": 5e5, "rope_scaling": null}`, 4096},
		{`{"rope_scaling": {"type": "linear", "factor": 4}}`, 16384},
		{`{"rope_scaling": {"type": "dynamic", "factor": 2.0}}`, 8192},
		{`{"rope_scaling": {"type": "yarn", "factor": 4, "original_max_position_embeddings": 4096}}`, 16384},
		{`{"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4, "original_max_position_embeddings": 1024}}`, 4096},
	} {
		e, err := RoPEFromConfig([]byte(c.config), 64, 4096)
		if err != nil || e.Context() != c.want {
			t.Errorf("%s: context %v, %v, want %d", c.config, e, err, c.want)
		}
	}
}
