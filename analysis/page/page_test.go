package page

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"smelt/analysis"
)

// made is a report with numbers that are easy to find again: e experts, n
// layers of two kinds.
func made(e, n int) *analysis.Report {
	r := &analysis.Report{
		Generator: "smelt test", Base: analysis.Base{Name: "base", ModelType: "clip", Parameters: 1e6},
		Settings: analysis.Settings{Rank: 8, RouterRank: 4, ScalingFactor: 0.3},
	}
	zones := analysis.Zones{I: 0.2, II: 0.3, IIIII: 0.3, Cross: 0.5, Even: [5]float64{0.1, 0.6, 0, 0.6, 0.3}}
	for i := range e {
		r.Experts = append(r.Experts, analysis.Expert{Name: fmt.Sprintf("expert%d", i), Kind: "full", Touched: n, Energy: 1, Relative: 0.05, Zones: &zones, Rank95: 7})
		r.Losses = append(r.Losses, analysis.Loss{Average: 0.8, TaskArithmetic: 1.6, SMILE: 0.05, Best: 0.7, BestScaling: 0.2})
		for j := i + 1; j < e; j++ {
			r.PairNames = append(r.PairNames, [2]int{i, j})
			r.Pairs = append(r.Pairs, analysis.Pair{A: i, B: j, Cosine: 0.25, RightOverlap: 0.4, LeftOverlap: 0.3, SignConflict: 0.5})
		}
	}
	for l := range n {
		layer := analysis.Layer{
			Name: fmt.Sprintf("model.layers.%d.mlp.%s", l/2, []string{"up_proj", "down_proj"}[l%2]), Kind: []string{"up", "down"}[l%2], Tower: "model.layers", Depth: l / 2,
			In: 64 << (l % 2), Out: 64, Ranks: []int{1, 2, 4}, RouterRank: 4, Losses: r.Losses, Baseline: &analysis.Baseline{Right: 4.0 / float64(int(64)<<(l%2)), Left: 0.05},
		}
		for range e {
			layer.Experts = append(layer.Experts, &analysis.Delta{Relative: 0.07, Zones: zones, Cumulative: []float64{0.5, 0.9, 1}, Complete: true, Rank95: 3})
		}
		for range r.Pairs {
			layer.Pairs = append(layer.Pairs, &analysis.LayerPair{Cosine: 0.2, RightOverlap: 0.35, LeftOverlap: 0.25})
		}
		r.Layers = append(r.Layers, layer)
		if l%2 == 0 {
			g := analysis.Group{By: "depth", Tower: "model.layers", Depth: l / 2, Layers: 2}
			for range e {
				g.Experts = append(g.Experts, &analysis.GroupDelta{Zones: zones, EffectiveRank: 9, StableRank: 3, Rank95: 5})
			}
			r.Groups = append(r.Groups, g)
		}
	}
	if e > 1 && n > 0 {
		r.Confusion = &analysis.RouterForecast{}
		for i := range e {
			row := make([]analysis.Figure, e)
			for j := range row {
				row[j] = 1 / analysis.Figure(e-1)
			}
			row[i] = analysis.None
			r.Confusion.AtBest, r.Confusion.Signal = append(r.Confusion.AtBest, 0.96), append(r.Confusion.Signal, 0.04)
			r.Confusion.Astray = append(r.Confusion.Astray, row)
		}
	}
	r.Advice = analysis.Advice{Say: []string{"Leave it."}, Subspace: &analysis.Subspace{Choice: "minor", Why: "because"}}
	for _, b := range []float64{1.05, 1.25, 1.5, 2} {
		r.Advice.Budgets = append(r.Advice.Budgets, analysis.Budget{Budget: b, Feasible: b > 1.1, Ratio: b, Mean: b / 3, Uniform: int(8 * b), UniformMean: b / 4, Energy: make([]analysis.Figure, e)})
	}
	return r
}

// render writes all files of the page and returns them by path.
func render(t *testing.T, r *analysis.Report) map[string]string {
	t.Helper()
	files, err := Of(r).Files()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, f := range files {
		out[f.Path] = string(f.Data)
	}
	return out
}

func TestPage(t *testing.T) {
	files := render(t, made(3, 6))
	for _, want := range []string{
		"What fine-tuning changed in base", "3 fine-tunes of one base (clip, 1 M parameters)", "Leave it.", "Where the change is",
		"How compressible the changes are", "How experts stand in each other", "Which experts routers take for one another", "What to choose", "adapter-init BASE -o ADAPTER --subspace minor",
	} {
		if !strings.Contains(files["index.html"], want) {
			t.Errorf("no %q in the page", want)
		}
	}
	for path, want := range map[string]string{
		"figures/zones.csv":     "expert1,0.2,0.3,0.5",
		"figures/change.csv":    "up,0.07,0.07,0.07",
		"figures/losses.csv":    "expert2,0.8,1.6,0.7,0.05",
		"figures/cosines.csv":   "expert0,,0.25,0.25",
		"figures/energy.csv":    "up,expert0,4,1",
		"figures/rank.csv":      "down,3,3,3",
		"figures/confusion.csv": "expert1,0.5,,0.5",
		"figures/budgets.csv":   "one rank,1.25,0.3125,rank 10",
	} {
		if !strings.Contains(files[path], want) {
			t.Errorf("%s has no %q:\n%s", path, want, files[path])
		}
	}
}

// TestUnusual: what an analysis meets at its edges has a page.
func TestUnusual(t *testing.T) {
	empty := made(2, 4) // the second expert changed nothing
	empty.Experts[1] = analysis.Expert{Name: "idle", Kind: "lora", Equal: true, Relative: analysis.None, Rank95: analysis.None}
	empty.Losses[1] = analysis.Loss{Average: analysis.None, TaskArithmetic: analysis.None, SMILE: analysis.None, Best: analysis.None, BestScaling: analysis.None}
	empty.Pairs[0] = analysis.Pair{A: 0, B: 1, Cosine: analysis.None, RightOverlap: analysis.None, LeftOverlap: analysis.None, SignConflict: analysis.None}
	for i := range empty.Layers {
		l := &empty.Layers[i]
		l.Experts[1], l.Pairs[0], l.Baseline = nil, nil, nil
	}
	for i := range empty.Groups {
		empty.Groups[i].Experts[1] = nil
	}
	nothing := made(2, 0)
	lone := made(1, 4)
	two := made(2, 4)
	two.Layers[3].Name, two.Layers[3].Tower = "text_model.encoder.layers.1.fc2", "text_model.encoder.layers"
	hostile := made(2, 2)
	hostile.Experts[0].Name = "<img src=x onerror=alert(1)>\x1b[2J"
	for name, r := range map[string]*analysis.Report{"empty expert": empty, "nothing changed": nothing, "one expert": lone, "two towers": two, "hostile": hostile, "64 experts": made(64, 4)} {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			if err := Of(r).HTML(&b); err != nil {
				t.Fatal(err)
			}
			html := b.String()
			if strings.Contains(html, "<img src=x") || strings.Contains(html, "\x1b") {
				t.Error("a name is not escaped")
			}
			if strings.Contains(html, "NaN\"") && !strings.Contains(html, `data-v="NaN"`) {
				t.Error("a coordinate does not exist")
			}
			if len(html) > 8<<20 {
				t.Errorf("the page has %d bytes", len(html))
			}
		})
	}
}

func TestTasks(t *testing.T) {
	r := made(2, 4)
	r.Tasks = &analysis.Tasks{Zones: []analysis.ZoneAccuracy{{Expert: 0, Task: "zero", Metric: "accuracy", Base: 0.4, Full: 0.95, I: 0.5, II: 0.6, IIIII: analysis.None}}}
	for e := range 2 {
		for _, l := range r.Layers {
			r.Tasks.Routing = append(r.Tasks.Routing, analysis.ModuleRouting{Module: l.Name, Expert: e, Right: 0.875, Taken: []float64{0.875, 0.125}, Base: 2, Adaptation: 0.5})
		}
		for s := range 3 {
			r.Tasks.Errors = append(r.Tasks.Errors, analysis.StageError{Stage: fmt.Sprint("layer ", s), Expert: e, Total: 0.3, Oracle: 0.2, Rank: 0.1, Base: 0.6})
		}
	}
	r.Tasks.Agreement = &analysis.Agreement{Right: 0.5, AtBest: 1, Astray: 0.75, Experts: analysis.None, Layers: analysis.None}
	files := render(t, r)
	if want := "agrees with the one from the weights by a rank correlation of 0.75"; !strings.Contains(files["index.html"], want) {
		t.Errorf("no %q in the page", want)
	}
	for path, want := range map[string]string{
		"figures/zone-accuracy.csv":      "zero,0.4,0.5,0.6,,0.95",
		"figures/measured-confusion.csv": "expert1,0.875,0.125",
		"figures/routing.csv":            "expert0,0.875,0.875,0.875,0.875",
		"figures/adaptation.csv":         "expert1,0 up,0.25",
		"figures/errors.csv":             "expert1,oracle router,layer 2,0.2",
	} {
		if !strings.Contains(files[path], want) {
			t.Errorf("%s has no %q:\n%s", path, want, files[path])
		}
	}
}

func TestMean(t *testing.T) {
	var m mean
	if !math.IsNaN(m.value()) {
		t.Error("the mean of nothing exists")
	}
	for _, v := range []float64{3, math.NaN(), -1, math.Inf(1)} {
		m.add(v)
	}
	if m.value() != 1 || m.low != -1 || m.high != 3 {
		t.Errorf("mean %+v", m)
	}
}
