package ensemble_test

import (
	"encoding/json"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"smelt/ensemble"
	"smelt/linalg"
)

type rows [][]float32

func (r rows) matrix() linalg.Matrix {
	return linalg.Matrix{Rows: len(r), Cols: len(r[0]), Stride: len(r[0]), Data: slices.Concat(r...)}
}

func matrices(list []rows) (m []linalg.Matrix) {
	for _, r := range list {
		m = append(m, r.matrix())
	}
	return m
}

func near(t *testing.T, what string, got, want linalg.Matrix) {
	t.Helper()
	for i, w := range want.Data {
		if g := got.Data[i]; !(math.Abs(float64(g-w)) <= 4e-7*(1+math.Abs(float64(w)))) {
			t.Errorf("%s: element %d is %v, want %v", what, i, g, w)
		}
	}
}

// TestGolden holds the combinations against FusionBench's EnsembleModule,
// WeightedEnsembleModule and MaxModelPredictor (tools/golden/ensemble.py).
func TestGolden(t *testing.T) {
	type outcome struct {
		Outputs             []rows
		Mean, Weighted, Max rows
	}
	var golden struct {
		Logits        []rows
		Weights       []float64
		Logits_       outcome `json:"of_logits"`
		Probabilities outcome `json:"of_probabilities"`
	}
	data, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &golden); err != nil {
		t.Fatal(err)
	}
	for i, logits := range golden.Logits {
		m := logits.matrix()
		if err := ensemble.Probabilities(m, m); err != nil {
			t.Fatal(err)
		}
		near(t, "probabilities", m, golden.Probabilities.Outputs[i].matrix())
	}
	for what, o := range map[string]outcome{"logits": golden.Logits_, "probabilities": golden.Probabilities} {
		outputs := matrices(o.Outputs)
		before := slices.Clone(outputs[0].Data)
		for name, c := range map[string]struct {
			run  func(dst linalg.Matrix) error
			want rows
		}{
			"mean":     {func(dst linalg.Matrix) error { return ensemble.Mean(dst, outputs) }, o.Mean},
			"weighted": {func(dst linalg.Matrix) error { return ensemble.Weighted(dst, outputs, golden.Weights) }, o.Weighted},
			"max":      {func(dst linalg.Matrix) error { return ensemble.Max(dst, outputs) }, o.Max},
		} {
			dst := make(rows, len(c.want))
			for i := range dst {
				dst[i] = make([]float32, len(c.want[0]))
			}
			m := dst.matrix()
			if err := c.run(m); err != nil {
				t.Fatal(err)
			}
			near(t, name+" of "+what, m, c.want.matrix())
		}
		if !slices.Equal(outputs[0].Data, before) {
			t.Error("an input changed")
		}
	}
}

// TestLaws: an ensemble of one, or of equals, is that one; the order of the
// models does not matter.
func TestLaws(t *testing.T) {
	a, b := rows{{1, 2, 3}, {0, -1, 7}}.matrix(), rows{{-4, 9, 3}, {0.5, 0.25, 1}}.matrix()
	for name, combine := range map[string]func(dst linalg.Matrix, outputs []linalg.Matrix) error{
		"mean": ensemble.Mean, "max": ensemble.Max,
		"weighted": func(dst linalg.Matrix, o []linalg.Matrix) error {
			return ensemble.Weighted(dst, o, []float64{3, 3, 3}[:len(o)])
		},
	} {
		run := func(outputs ...linalg.Matrix) []float32 {
			dst := rows{{0, 0, 0}, {0, 0, 0}}.matrix()
			if err := combine(dst, outputs); err != nil {
				t.Fatal(err)
			}
			return dst.Data
		}
		if !slices.Equal(run(a), a.Data) || !slices.Equal(run(a, a, a), a.Data) {
			t.Errorf("%s of equals is not that output", name)
		}
		if !slices.Equal(run(a, b), run(b, a)) {
			t.Errorf("%s depends on the order", name)
		}
	}
}

func TestRefuses(t *testing.T) {
	a, b := rows{{1, 2}}.matrix(), rows{{1, 2, 3}}.matrix()
	for want, err := range map[string]error{
		"no outputs":                                 ensemble.Mean(a, nil),
		"model 1 is [1,3], want [1,2]":               ensemble.Max(a, []linalg.Matrix{a, b}),
		"1 weights for 2 models":                     ensemble.Weighted(a, []linalg.Matrix{a, a}, []float64{1}),
		"weight 1 is -1":                             ensemble.Weighted(a, []linalg.Matrix{a, a}, []float64{1, -1}),
		"weight 0 is NaN":                            ensemble.Weighted(a, []linalg.Matrix{a}, []float64{math.NaN()}),
		"all weights are 0":                          ensemble.Weighted(a, []linalg.Matrix{a}, []float64{0}),
		"the output of model 0 is [1,3], want [1,2]": ensemble.Probabilities(a, b),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
