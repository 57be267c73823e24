package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"smelt/analysis"
	"smelt/engine"
	"smelt/internal/vfs"
)

// goldenAnalysis is testdata/analysis.json: tools/golden/analysis.py.
type goldenAnalysis struct {
	Experts    []string
	Rank       int
	RouterRank int `json:"router_rank"`
	Layers     map[string]struct {
		HalfRank   int `json:"half_rank"`
		RouterRank int `json:"router_rank"`
		Deltas     []*struct {
			Energy        float64
			Relative      float64
			Blocks        [3][3]float64
			Sigma         []float64
			EffectiveRank float64 `json:"effective_rank"`
			StableRank    float64 `json:"stable_rank"`
			Rank90        int     `json:"rank_90"`
			Rank95        int     `json:"rank_95"`
			Rank99        int     `json:"rank_99"`
			FusionBench   struct {
				I     float64 `json:"I"`
				II    float64 `json:"II"`
				IIIII float64 `json:"II+III"`
			} `json:"fusion_bench"`
		}
		Pairs []*struct {
			Cosine       float64
			SignConflict float64 `json:"sign_conflict"`
			LeftOverlap  float64 `json:"left_overlap"`
			RightOverlap float64 `json:"right_overlap"`
			LeftCosine   float64 `json:"left_cosine"`
			RightCosine  float64 `json:"right_cosine"`
		}
		Losses []*struct {
			Average        float64
			TaskArithmetic float64 `json:"task_arithmetic"`
			SMILE          float64 `json:"smile"`
		}
	}
}

// analyzePool analyses the committed pool with the given experts.
func analyzePool(t *testing.T, opt engine.AnalyzeOptions, workers int, experts ...engine.Source) *analysis.Report {
	t.Helper()
	in, err := engine.OpenInputs(vfs.OS, filepath.Join(fixtures, "fuse", "base"), experts)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	r, err := engine.Analyze(context.Background(), in, opt, workers, engine.Progress{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func poolExperts(names ...string) (list []engine.Source) {
	for _, n := range names {
		list = append(list, engine.Source{Name: n, Path: filepath.Join(fixtures, "fuse", "experts", n)})
	}
	return list
}

func TestAnalyzeGolden(t *testing.T) {
	text, err := os.ReadFile("testdata/analysis.json")
	if err != nil {
		t.Fatal(err)
	}
	var want goldenAnalysis
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	r := analyzePool(t, engine.AnalyzeOptions{Rank: want.Rank, RouterRank: want.RouterRank}, 0, poolExperts(want.Experts...)...)
	if len(r.Layers) != len(want.Layers) {
		t.Fatalf("%d layers, want %d", len(r.Layers), len(want.Layers))
	}
	for _, l := range r.Layers {
		w := want.Layers[l.Name]
		check := func(what string, got, want, tolerance float64) {
			t.Helper()
			if !(math.Abs(got-want) <= tolerance) {
				t.Errorf("%s: %s is %v, want %v", l.Name, what, got, want)
			}
		}
		if l.RouterRank != w.RouterRank || l.Base.HalfRank != w.HalfRank {
			t.Errorf("%s: router rank %d, half rank %d, want %d, %d", l.Name, l.RouterRank, l.Base.HalfRank, w.RouterRank, w.HalfRank)
		}
		for i, d := range l.Experts {
			x := w.Deltas[i]
			if (d == nil) != (x == nil) {
				t.Fatalf("%s: expert %d: touched %v, want %v", l.Name, i, d != nil, x != nil)
			}
			if d == nil {
				continue
			}
			check("energy", d.Energy, x.Energy, 1e-12*x.Energy)
			check("relative", float64(d.Relative), x.Relative, 1e-9)
			for y := range 3 {
				for z := range 3 {
					check("block", d.Zones.Blocks[y][z], x.Blocks[y][z], 3e-7)
				}
			}
			// FusionBench computes in float32.
			check("zone I, FusionBench", d.Zones.I, x.FusionBench.I, 3e-6)
			check("zone II, FusionBench", d.Zones.II, x.FusionBench.II, 3e-6)
			check("zones II+III, FusionBench", d.Zones.IIIII, x.FusionBench.IIIII, 3e-6)
			check("effective rank", d.EffectiveRank, x.EffectiveRank, 1e-9)
			check("stable rank", d.StableRank, x.StableRank, 1e-9)
			if got, want := [3]int{d.Rank90, d.Rank95, d.Rank99}, [3]int{x.Rank90, x.Rank95, x.Rank99}; got != want {
				t.Errorf("%s: ranks %v, want %v", l.Name, got, want)
			}
			for k, rank := range l.Ranks {
				sigma := 0.0
				if rank <= len(x.Sigma) {
					sigma = x.Sigma[rank-1]
				}
				check("singular value", d.Sigma[k], sigma, 1e-9*x.Sigma[0])
			}
		}
		for k, p := range l.Pairs {
			x := w.Pairs[k]
			if (p == nil) != (x == nil) {
				t.Fatalf("%s: pair %d: there %v, want %v", l.Name, k, p != nil, x != nil)
			}
			if p == nil {
				continue
			}
			check("cosine", p.Cosine, x.Cosine, 1e-7)
			check("sign conflict", float64(p.SignConflict), x.SignConflict, 1e-12)
			check("left overlap", p.LeftOverlap, x.LeftOverlap, 1e-6)
			check("right overlap", p.RightOverlap, x.RightOverlap, 1e-6)
			check("left cosine", p.LeftCosine, x.LeftCosine, 1e-6)
			check("right cosine", p.RightCosine, x.RightCosine, 1e-6)
		}
		for i, loss := range l.Losses {
			if x := w.Losses[i]; x != nil {
				check("loss of the average", float64(loss.Average), x.Average, 1e-6)
				check("loss of task arithmetic", float64(loss.TaskArithmetic), x.TaskArithmetic, 1e-6)
				check("loss of SMILE", float64(loss.SMILE), x.SMILE, 1e-6)
				if loss.Best > loss.Average && loss.Best > loss.TaskArithmetic {
					continue // best in the sum over experts, not for each
				}
			} else if loss.Average.Known() {
				t.Errorf("%s: expert %d changed nothing and lost %v", l.Name, i, loss.Average)
			}
		}
	}
}

// TestAnalyzeLaws holds every layer of the pool to what must be true of any.
func TestAnalyzeLaws(t *testing.T) {
	r := analyzePool(t, engine.AnalyzeOptions{Rank: 4, RouterRank: 3}, 0, poolExperts("algebra", "botany", "chess", "dance")...)
	one := func(what string, v float64) {
		t.Helper()
		if !(math.Abs(v-1) <= 1e-12) {
			t.Errorf("%s sum to %v, want 1", what, v)
		}
	}
	shares := make([]float64, len(r.Experts))
	for _, l := range r.Layers {
		for i, d := range l.Experts {
			if d == nil {
				continue
			}
			shares[i] += d.Share
			z := d.Zones
			one("left zones", z.Left[0]+z.Left[1]+z.Left[2])
			one("right zones", z.Right[0]+z.Right[1]+z.Right[2])
			one("I, II+III and cross", z.I+z.IIIII+z.Cross)
			for _, row := range z.Blocks {
				for _, v := range row {
					if !(v >= 0 && v <= 1) {
						t.Errorf("%s: block of %v", l.Name, v)
					}
				}
			}
			if !slices.IsSorted(d.Cumulative) || d.Cumulative[len(d.Cumulative)-1] != 1 {
				t.Errorf("%s: cumulative %v", l.Name, d.Cumulative)
			}
			if d.Rank90 > d.Rank95 || d.Rank95 > d.Rank99 || d.StableRank > d.EffectiveRank+1e-9 || d.EffectiveRank > float64(d.NumericalRank)+1e-9 {
				t.Errorf("%s: ranks %d %d %d, stable %v, effective %v, numerical %d", l.Name, d.Rank90, d.Rank95, d.Rank99, d.StableRank, d.EffectiveRank, d.NumericalRank)
			}
		}
		if c := l.Confusion; c != nil {
			for i, row := range c.Astray {
				if l.Experts[i] == nil {
					continue
				}
				if best, signal := c.AtBest[i], c.Signal[i]; !(best >= 0 && best <= 1) || signal.Known() != (best >= 0.5) || signal <= 0 || signal > 1 {
					t.Errorf("%s: at best %v, signal %v", l.Name, best, signal)
				}
				sum := 0.0
				for _, v := range row {
					if v.Known() {
						sum += float64(v)
					}
				}
				one("shares of stray tokens", sum)
			}
		}
	}
	for _, s := range shares {
		one("shares of layers", s)
	}
	last := 0.0
	for _, b := range r.Advice.Budgets {
		if !b.Feasible {
			continue
		}
		if b.Ratio > b.Budget || b.Mean < last || b.Mean < b.UniformMean-1e-9 {
			t.Errorf("budget %v: %+v after %v", b.Budget, b, last)
		}
		last = b.Mean
	}
}

// TestAnalyzeWorkers: the same bytes at 1 and at 8 workers.
func TestAnalyzeWorkers(t *testing.T) {
	var texts []string
	for _, workers := range []int{1, 8} {
		r := analyzePool(t, engine.AnalyzeOptions{}, workers, poolExperts("algebra", "chess", "dance")...)
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(text))
	}
	if texts[0] != texts[1] {
		t.Error("the report depends on the number of workers")
	}
}

func TestAnalyzeEdges(t *testing.T) {
	base := engine.Source{Name: "same", Path: filepath.Join(fixtures, "fuse", "base")}
	algebra, dance := poolExperts("algebra")[0], poolExperts("dance")[0]
	twin, copied := algebra, dance
	twin.Name, copied.Name = "twin", "copied"
	noted := func(r *analysis.Report, what string) {
		t.Helper()
		if !slices.ContainsFunc(slices.Concat(r.Notes, r.Advice.Say), func(s string) bool { return strings.Contains(s, what) }) {
			t.Errorf("nothing says %q: %q %q", what, r.Notes, r.Advice.Say)
		}
	}
	t.Run("equal to the base", func(t *testing.T) {
		r := analyzePool(t, engine.AnalyzeOptions{}, 0, base)
		noted(r, "Equal to the base in every tensor: same")
		noted(r, "one expert")
		if x := r.Experts[0]; !x.Equal || x.Zones != nil || x.Rank90.Known() {
			t.Errorf("%+v", x)
		}
	})
	t.Run("identical", func(t *testing.T) {
		r := analyzePool(t, engine.AnalyzeOptions{}, 0, algebra, twin, base)
		noted(r, "algebra and twin are the same in every linear layer")
		noted(r, "algebra and twin are equal: fuse one of them")
		p := r.Pairs[analysis.PairIndex(3, 0, 2)] // algebra, same, twin
		if p.Distance != 0 || math.Abs(float64(p.Cosine)-1) > 1e-12 || p.SignConflict != 0 || math.Abs(float64(p.RightOverlap)-1) > 1e-6 {
			t.Errorf("%+v", p)
		}
		if r.Pairs[0].Cosine.Known() {
			t.Errorf("a cosine with nothing: %v", r.Pairs[0].Cosine)
		}
	})
	t.Run("identical adapters", func(t *testing.T) {
		r := analyzePool(t, engine.AnalyzeOptions{}, 0, dance, copied)
		if p := r.Pairs[0]; p.Distance != 0 || math.Abs(float64(p.Cosine)-1) > 1e-12 {
			t.Errorf("%+v", p)
		}
	})
	t.Run("64 adapters", func(t *testing.T) {
		var many []engine.Source
		for i := range 64 {
			x := dance
			x.Name = string(rune('A'+i/8)) + string(rune('a'+i%8))
			many = append(many, x)
		}
		r := analyzePool(t, engine.AnalyzeOptions{Rank: 2}, 0, many...)
		if len(r.Pairs) != 64*63/2 || len(r.Advice.Copies) != len(r.Pairs) {
			t.Errorf("%d pairs, %d copies", len(r.Pairs), len(r.Advice.Copies))
		}
		if r.Losses[0].Average > 1e-12 {
			t.Errorf("the average of copies loses %v", r.Losses[0].Average)
		}
	})
}

// TestAnalyzeNaN: a broken fine-tune and a broken base are refused, with the
// place.
func TestAnalyzeNaN(t *testing.T) {
	for _, broken := range []string{"base", "expert"} {
		p := pool{t, vfs.NewMem()}
		r := rand.New(rand.NewPCG(1, 2))
		base := p.base(r)
		const name = "model.layers.0.mlp.up_proj.weight"
		changed := p.expert(r, base, func(n string) bool { return n == name })
		target := changed
		if broken == "base" {
			target = base
		}
		v := target.float32s(t, name)
		v[2*24+3] = float32(math.NaN())
		target.set(name, v)
		p.write("/base", llamaConfig, base, 1)
		p.write("/x", llamaConfig, changed, 1)
		in, err := engine.OpenInputs(p.fs, "/base", named("x"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = engine.Analyze(context.Background(), in, engine.AnalyzeOptions{}, 1, engine.Progress{})
		in.Close()
		if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "[2,3] is NaN") || !strings.Contains(err.Error(), broken) {
			t.Errorf("NaN in the %s: %v", broken, err)
		}
	}
}

// TestAnalyzeTransposed: a weight that GPT-2 stores as [in, out] has the figures
// of the same weight stored as [out, in].
func TestAnalyzeTransposed(t *testing.T) {
	const gpt2 = `{"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_embd": 24}`
	r := rand.New(rand.NewPCG(5, 6))
	turned := func(v []float32) []float32 {
		w := make([]float32, len(v))
		for i := range 24 {
			for j := range 24 {
				w[j*24+i] = v[i*24+j]
			}
		}
		return w
	}
	base, delta := normal(r, 24*24, 1), normal(r, 24*24, 0.1)
	full := slices.Clone(base)
	for i, d := range delta {
		full[i] += d
	}
	var layers []analysis.Layer
	for _, x := range []struct {
		config, module string
		store          func([]float32) []float32
	}{
		{llamaConfig, "model.layers.0.self_attn.o_proj", slices.Clone[[]float32]},
		{gpt2, "transformer.h.0.attn.c_proj", turned},
	} {
		p := pool{t, vfs.NewMem()}
		w := weights{f32(t, x.module+".weight", x.store(base), 24, 24)}
		p.write("/base", x.config, w, 1)
		p.write("/full", x.config, weights{f32(t, x.module+".weight", x.store(full), 24, 24)}, 1)
		p.adapter(rand.New(rand.NewPCG(7, 8)), "/lora", 3, w, x.module)
		p.must(vfs.WriteFile(p.fs, "/lora/adapter_config.json", fmt.Appendf(nil,
			`{"peft_type": "LORA", "r": 3, "lora_alpha": 6, "target_modules": [%q], "fan_in_fan_out": %v}`, x.module, x.config == gpt2)))
		in, err := engine.OpenInputs(p.fs, "/base", named("full", "lora"))
		if err != nil {
			t.Fatal(err)
		}
		rep, err := engine.Analyze(context.Background(), in, engine.AnalyzeOptions{Rank: 4, RouterRank: 2}, 1, engine.Progress{})
		in.Close()
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, rep.Layers[0])
	}
	a, b := layers[0], layers[1]
	for i := range a.Experts {
		for y := range 3 {
			for z := range 3 {
				if x, y := a.Experts[i].Zones.Blocks[y][z], b.Experts[i].Zones.Blocks[y][z]; math.Abs(x-y) > 1e-7 {
					t.Errorf("expert %d: block of %v, transposed %v", i, x, y)
				}
			}
		}
	}
	p, q := a.Pairs[0], b.Pairs[0]
	if math.Abs(p.Cosine-q.Cosine) > 1e-7 || p.SignConflict != q.SignConflict || math.Abs(p.LeftOverlap-q.LeftOverlap) > 1e-6 {
		t.Errorf("pair %+v, transposed %+v", p, q)
	}
	if a.Kind != "o" || b.Kind != "o" {
		t.Errorf("kinds %q and %q, want o", a.Kind, b.Kind)
	}
}

// TestAnalysisOutput: one run at a time makes an output; a failed one leaves
// nothing, and what a killed one left is removed.
func TestAnalysisOutput(t *testing.T) {
	fsys := vfs.NewMem()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	refused := func(want string) {
		t.Helper()
		if _, err := engine.OpenAnalysis(fsys, "/out"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	const work = "/.out.smelt-analysis"
	first, err := engine.OpenAnalysis(fsys, "/out")
	must(err)
	refused("/out: another run is making it at this moment")
	must(first.Close()) // gave up
	if _, err := fsys.Stat(work); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a failed run leaves %s: %v", work, err)
	}
	// What a killed run left: a lock that nobody holds, models and half of the files.
	for _, dir := range []string{"tasks", "made"} {
		must(fsys.MkdirAll(filepath.Join(work, dir)))
		must(vfs.WriteFile(fsys, filepath.Join(work, dir, "old"), []byte("x")))
	}
	must(vfs.WriteFile(fsys, filepath.Join(work, "lock"), nil))
	second, err := engine.OpenAnalysis(fsys, "/out")
	must(err)
	if _, err := fsys.Stat(second.Scratch()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the models of a killed run are there: %v", err)
	}
	must(second.Write(&analysis.Report{}, []analysis.File{{Name: "index.html", Data: []byte("page")}}))
	refused("/out: exists already")
	must(second.Close())
	refused("/out: exists already")
	entries, err := fsys.ReadDir("/")
	must(err)
	if len(entries) != 1 || entries[0].Name() != "out" {
		t.Errorf("beside the output: %v", entries)
	}
	if _, err := fsys.Stat("/out/old"); err == nil {
		t.Error("a file of the killed run is in the output")
	}
	if _, err := engine.OpenAnalysis(fsys, "/no/such"); err == nil || !strings.Contains(err.Error(), "the folder /no does not exist") {
		t.Error(err)
	}
}
