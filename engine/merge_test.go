package engine_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"smelt/checkpoint"
	"smelt/dtype"
	"smelt/engine"
	"smelt/internal/vfs"
	"smelt/merge"
	"smelt/safetensors"
	"smelt/tensor"
)

// mergeInto merges the experts of base into out.
func mergeInto(fsys vfs.FS, base string, experts []engine.Source, opt engine.MergeOptions, out string, workers int) (*engine.Result, error) {
	in, err := engine.OpenInputs(fsys, base, experts)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	plan, err := engine.NewMergePlan(in, opt)
	if err != nil {
		return nil, err
	}
	return engine.Merge(context.Background(), in, plan, out, workers, engine.Progress{})
}

func mustMerge(t *testing.T, fsys vfs.FS, experts []engine.Source, opt engine.MergeOptions, out string) *engine.Result {
	t.Helper()
	res, err := mergeInto(fsys, "/base", experts, opt, out, 2)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func values(v ...any) map[string]float64 {
	m := map[string]float64{}
	for i := 0; i < len(v); i += 2 {
		m[v[i].(string)] = v[i+1].(float64)
	}
	return m
}

// everyMethod lists the methods with settings that let them do something.
func everyMethod(experts []engine.Source) (list []engine.MergeOptions) {
	weights := map[string]float64{}
	for i, e := range experts {
		weights[e.Name] = 0.5 + float64(i)
	}
	for _, m := range merge.Methods() {
		opt := engine.MergeOptions{Method: m.Name}
		if m.Weights == merge.NeededWeights {
			opt.Weights = weights
		}
		list = append(list, opt)
	}
	return list
}

// TestMergeGolden holds merges of tiny checkpoints against mergekit,
// FusionBench and peft (tools/golden/merge.py): at most one rounding apart, and
// nearly all elements equal.
func TestMergeGolden(t *testing.T) {
	dir := filepath.Join("testdata", "merge")
	var spec struct {
		Cases map[string]struct {
			Method string
			merge.Settings
			Experts []string
		}
	}
	readJSON(t, filepath.Join(dir, "cases.json"), &spec)
	if len(spec.Cases) < 11 {
		t.Fatalf("%d cases, want all", len(spec.Cases))
	}
	for _, kind := range []string{"f32", "bf16"} {
		want, err := safetensors.Open(vfs.OS, filepath.Join(dir, kind, "expected.safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		defer want.Close()
		for name, cs := range spec.Cases {
			t.Run(kind+"/"+name, func(t *testing.T) {
				if cs.Experts == nil {
					cs.Experts = []string{"gamma", "alpha", "beta"}
				}
				var experts []engine.Source
				for _, e := range cs.Experts {
					experts = append(experts, engine.Source{Name: e, Path: filepath.Join(dir, kind, e)})
				}
				out := filepath.Join(t.TempDir(), "out")
				if _, err := mergeInto(vfs.OS, filepath.Join(dir, kind, "base"), experts, engine.MergeOptions{Method: cs.Method, Settings: cs.Settings}, out, 2); err != nil {
					t.Fatal(err)
				}
				got, err := checkpoint.Open(vfs.OS, out)
				if err != nil {
					t.Fatal(err)
				}
				defer got.Close()
				elements, differ := 0, 0
				for _, info := range got.Tensors() {
					x, err := got.Tensor(info.Name)
					if err != nil {
						t.Fatal(err)
					}
					y, err := want.Tensor(name + "/" + info.Name)
					if err != nil {
						t.Fatal(err)
					}
					if x.DType != y.DType {
						t.Fatalf("%s is %v, want %v", info.Name, x.DType, y.DType)
					}
					elements += x.Elements()
					differ += compare(t, info.Name, x, y)
				}
				if differ*200 > elements {
					t.Errorf("%d of %d elements differ by a rounding, want at most one in 200", differ, elements)
				}
			})
		}
	}
}

// compare counts elements that differ; more than one rounding is an error.
func compare(t *testing.T, name string, got, want tensor.Tensor) (differ int) {
	t.Helper()
	ulp := map[dtype.DType]float64{dtype.F32: 0x1p-23, dtype.BF16: 0x1p-7}[want.DType]
	g, err := got.Float64()
	if err != nil {
		t.Fatal(err)
	}
	w, err := want.Float64()
	if err != nil {
		t.Fatal(err)
	}
	for i := range w {
		if g[i] != w[i] {
			differ++
		}
		if !(math.Abs(g[i]-w[i]) <= ulp*math.Abs(w[i])) {
			t.Errorf("%s: element %d is %v, want %v", name, i, g[i], w[i])
			return differ
		}
	}
	return differ
}

// TestMergeLaws: what must hold whatever the weights are.
func TestMergeLaws(t *testing.T) {
	fsys := vfs.NewMem()
	p := pool{t, fsys}
	experts := p.standard()
	full := experts[:3]
	shards := func(dir string) map[string][]byte { return tensorsOf(t, fsys, dir) }
	same := func(what, got, want string) {
		t.Helper()
		g, w := shards(got), shards(want)
		if len(g) != len(w) {
			t.Errorf("%s: %d tensors, want %d", what, len(g), len(w))
		}
		for name, data := range w {
			if !bytes.Equal(g[name], data) {
				t.Errorf("%s: tensor %s differs", what, name)
			}
		}
	}
	mustMerge(t, fsys, full, engine.MergeOptions{Method: "task_arithmetic", Settings: merge.Settings{Values: values("scaling_factor", 0.0)}}, "/zero")
	same("λ = 0 is the base", "/zero", "/base")

	for _, e := range []string{"a", "b"} {
		for _, opt := range []engine.MergeOptions{
			{Method: "task_arithmetic", Settings: merge.Settings{Values: values("scaling_factor", 1.0)}},
			{Method: "ties", Settings: merge.Settings{Values: values("density", 1.0)}},
			{Method: "dare_linear", Settings: merge.Settings{Values: values("density", 1.0, "scaling_factor", 1.0)}},
			{Method: "simple_average"},
		} {
			out := "/one-" + e + opt.Method
			mustMerge(t, fsys, named(e), opt, out)
			same(opt.Method+" of one expert is the expert", out, "/"+e)
		}
	}

	// Three copies of one fine-tune are that fine-tune.
	copies := []engine.Source{{Name: "x", Path: "/a"}, {Name: "y", Path: "/a"}, {Name: "z", Path: "/a"}}
	for _, opt := range everyMethod(copies) {
		n := copies
		switch opt.Method {
		case "task_arithmetic", "dare_linear":
			opt.Values = values("scaling_factor", 1.0)
			opt.Weights = map[string]float64{"x": 0.25, "y": 0.25, "z": 0.5}
			if opt.Method == "dare_linear" {
				opt.Values["density"] = 1
			}
		case "ties", "dare_ties":
			opt.Values = values("density", 1.0)
		case "slerp":
			n = copies[:2]
		}
		out := "/copies-" + opt.Method
		mustMerge(t, fsys, n, opt, out)
		same(opt.Method+" of copies is the original", out, "/a")
	}

	// SLERP's ends are its experts, and its direction is the one asked for.
	for i, at := range []float64{0, 1} {
		out := fmt.Sprintf("/end-%d", i)
		mustMerge(t, fsys, named("b", "a"), engine.MergeOptions{Method: "slerp", Settings: merge.Settings{Values: values("t", at), From: "b"}}, out)
		same("slerp's end", out, []string{"/b", "/a"}[i])
	}
}

// tensorsOf reads all tensors of a checkpoint.
func tensorsOf(t *testing.T, fsys vfs.FS, dir string) map[string][]byte {
	t.Helper()
	c, err := checkpoint.Open(fsys, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	all := map[string][]byte{}
	for _, info := range c.Tensors() {
		x, err := c.Tensor(info.Name)
		if err != nil {
			t.Fatal(err)
		}
		all[info.Name] = bytes.Clone(x.Data)
	}
	return all
}

// TestMergeSameBytes: neither workers nor the order of the experts change a
// byte, and inputs stay as they are.
func TestMergeSameBytes(t *testing.T) {
	fsys := vfs.NewMem()
	experts := pool{t, fsys}.standard()
	before := tree(t, fsys, "/")
	for _, opt := range everyMethod(experts) {
		n := experts
		if opt.Method == "slerp" {
			n = experts[2:]
			opt.From = "d"
		}
		if opt.Method == "ties" {
			opt.DType = "BF16"
		}
		var want map[string]string
		for i, workers := range []int{1, 8, 3} {
			if i == 2 {
				n = slices.Clone(n)
				slices.Reverse(n)
			}
			if _, err := mergeInto(fsys, "/base", n, opt, "/out", workers); err != nil {
				t.Fatal(err)
			}
			got := tree(t, fsys, "/out")
			if err := fsys.RemoveAll("/out"); err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				want = got
			}
			sameTree(t, fmt.Sprintf("%s, run %d", opt.Method, i), got, want)
		}
	}
	sameTree(t, "inputs", tree(t, fsys, "/"), before)
}

// TestMergeAdapters: an adapter alone, at λ = 1, is the checkpoint that peft
// merges it into.
func TestMergeAdapters(t *testing.T) {
	dir := filepath.Join("..", "checkpoint", "testdata", "adapters")
	var index struct{ Base map[string]string }
	readJSON(t, filepath.Join(dir, "index.json"), &index)
	held := 0
	for name, base := range index.Base {
		if strings.HasPrefix(name, "no-") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out")
			baseDir := filepath.Join(dir, "base-"+base)
			opt := engine.MergeOptions{Method: "task_arithmetic", Settings: merge.Settings{Values: values("scaling_factor", 1.0)}}
			_, err := mergeInto(vfs.OS, baseDir, []engine.Source{{Name: "x", Path: filepath.Join(dir, name)}}, opt, out, 1)
			if name == "saved-embedding" && err != nil && strings.Contains(err.Error(), "only equal shapes can be merged") {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err := checkpoint.Open(vfs.OS, out)
			if err != nil {
				t.Fatal(err)
			}
			defer got.Close()
			merged, err := safetensors.Open(vfs.OS, filepath.Join(dir, name, "merged.safetensors"))
			if err != nil {
				t.Fatal(err)
			}
			defer merged.Close()
			before := tensorsOf(t, vfs.OS, baseDir)
			for _, info := range got.Tensors() {
				x, err := got.Tensor(info.Name)
				if err != nil {
					t.Fatal(err)
				}
				if _, ok := merged.Lookup(info.Name); !ok {
					if !bytes.Equal(x.Data, before[info.Name]) {
						t.Errorf("%s changed; peft left it alone", info.Name)
					}
					continue
				}
				y, err := merged.Tensor(info.Name)
				if err != nil {
					t.Fatal(err)
				}
				g, _ := x.Float64()
				w, _ := y.Float64()
				for i := range w {
					if !(math.Abs(g[i]-w[i]) <= 1e-6*(1+math.Abs(w[i]))) {
						t.Errorf("%s: element %d is %v, peft has %v", info.Name, i, g[i], w[i])
						break
					}
				}
			}
			held++
		})
	}
	if held < 15 {
		t.Errorf("%d adapters were held against peft's merges, want most", held)
	}
}

// TestMergeCrash kills a merge at every operation, and lets each fail.
func TestMergeCrash(t *testing.T) {
	defer engine.SetSyncBytes(1)()
	sources := vfs.NewMem()
	tiny(pool{t, sources})
	fresh := func() *vfs.Mem { return clone(t, sources) }
	run := func(fsys vfs.FS) error {
		_, err := mergeInto(fsys, "/base", named("a", "d"), engine.MergeOptions{Method: "ties"}, "/out", 1)
		return err
	}
	whole := fresh()
	if err := run(whole); err != nil {
		t.Fatal(err)
	}
	all := tree(t, whole, "/")
	for k := range steps(t, run, fresh) {
		fsys := fresh()
		_ = run(vfs.Fault(fsys, at(k, vfs.ErrCrash)))
		for what, left := range map[string]*vfs.Mem{"killed": fsys, "power cut": fsys.CrashClone()} {
			if err := run(left); err != nil {
				t.Errorf("%s at operation %d: the rerun fails: %v", what, k, err)
				continue
			}
			sameTree(t, fmt.Sprintf("%s at operation %d", what, k), tree(t, left, "/"), all)
		}
		fsys = fresh()
		if err := run(vfs.Fault(fsys, at(k, errDisk))); err != nil && !strings.Contains(err.Error(), errDisk.Error()) {
			t.Errorf("operation %d failed: the error does not tell why: %v", k, err)
		}
	}
}

// TestMergeRefuses: each refusal names the place and says what to do, and
// leaves nothing behind.
func TestMergeRefuses(t *testing.T) {
	fsys := vfs.NewMem()
	p := pool{t, fsys}
	p.standard()
	r := rand.New(rand.NewPCG(1, 2))
	base := p.base(rand.New(rand.NewPCG(7, 11)))
	spoil := func(dir, name string, at int, v float32) {
		w := p.expert(r, base, func(string) bool { return true })
		x := w.float32s(t, name)
		x[at] = v
		w.set(name, x)
		p.write(dir, llamaConfig, w, 1)
	}
	spoil("/nan", "model.layers.1.mlp.up_proj.weight", 5, float32(math.NaN()))
	spoil("/huge", "model.norm.weight", 3, 3e38)
	spoil("/far", "model.norm.weight", 3, 70000)
	grown := base.clone()
	*grown.get("model.embed_tokens.weight") = f32(t, "model.embed_tokens.weight", normal(r, 51*24, 1), 51, 24)
	p.write("/grown", llamaConfig, grown, 1)
	biased := append(base.clone(), f32(t, "model.layers.0.mlp.up_proj.bias", normal(r, 40, 1), 40))
	p.write("/biased", llamaConfig, biased, 1)
	before := tree(t, fsys, "/")
	for _, c := range []struct {
		experts string
		opt     engine.MergeOptions
		want    string
	}{
		{"a nan", engine.MergeOptions{Method: "ties"}, `expert nan: tensor "model.layers.1.mlp.up_proj.weight": element 5 is NaN, want a finite number`},
		{"a nan", engine.MergeOptions{Method: "simple_average"}, `expert nan: tensor "model.layers.1.mlp.up_proj.weight": element 5 is NaN`},
		{"huge", engine.MergeOptions{Method: "task_arithmetic", Settings: merge.Settings{Values: values("scaling_factor", 2.0)}}, `tensor "model.norm.weight": element 3 of the merge is`},
		{"far", engine.MergeOptions{Method: "simple_average", DType: "F16"}, "which F16 cannot hold"},
		{"a grown", engine.MergeOptions{Method: "ties"}, `expert grown: tensor "model.embed_tokens.weight" has shape [51 24], the base's has [50 24]`},
		{"a biased", engine.MergeOptions{Method: "ties"}, `expert biased: tensor "model.layers.0.mlp.up_proj.bias" has no place in the base`},
		{"a", engine.MergeOptions{Method: "slerp"}, "slerp merges 2 experts, got 1"},
		{"a b", engine.MergeOptions{Method: "ties", Settings: merge.Settings{Values: values("density", 0.0)}}, "density is 0, want above 0, at most 1"},
		{"a b", engine.MergeOptions{Method: "ties", Settings: merge.Settings{Values: values("t", 0.5)}}, "ties has no t"},
		{"a b", engine.MergeOptions{Method: "weighted_average", Settings: merge.Settings{Weights: map[string]float64{"a": 1}}}, "weighted_average wants a weight for every expert: b has none"},
		{"a b", engine.MergeOptions{Method: "ties", Settings: merge.Settings{Weights: map[string]float64{"a": -1}}}, "the weight of a is -1, want a positive number"},
		{"a b", engine.MergeOptions{Method: "task_arithmetic", Settings: merge.Settings{Weights: map[string]float64{"x": 1}}}, `"x", which is no expert`},
		{"a b", engine.MergeOptions{Method: "soup"}, `there is no method "soup"`},
	} {
		_, err := mergeInto(fsys, "/base", named(strings.Fields(c.experts)...), c.opt, "/out", 2)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s of %s: %v, want %s", c.opt.Method, c.experts, err, c.want)
		}
	}
	sameTree(t, "after refusals", tree(t, fsys, "/"), before)
}

// TestMergeResumes: what was cancelled goes on, thresholds and all.
func TestMergeResumes(t *testing.T) {
	defer engine.SetSyncBytes(1)()
	fsys := vfs.NewMem()
	experts := pool{t, fsys}.standard()
	opt := engine.MergeOptions{Method: "ties"}
	mustMerge(t, fsys, experts, opt, "/want")
	in, err := engine.OpenInputs(fsys, "/base", experts)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	plan, err := engine.NewMergePlan(in, opt)
	if err != nil {
		t.Fatal(err)
	}
	for _, phase := range []string{"trim", "merge"} {
		ctx, cancel := context.WithCancel(context.Background())
		now, n := "", 0
		_, err = engine.Merge(ctx, in, plan, "/out", 2, engine.Progress{
			Start: func(what string, _ int64) { now = what },
			Add: func(int64) {
				if now == phase {
					if n++; n == 6 {
						cancel()
					}
				}
			},
		})
		if err == nil || !strings.Contains(err.Error(), "goes on where it was") || !missing(fsys, "/out") {
			t.Errorf("interrupted in %s: %v", phase, err)
		}
	}
	res, err := engine.Merge(context.Background(), in, plan, "/out", 2, engine.Progress{})
	if err != nil {
		t.Fatal(err)
	}
	if res.Resumed < 4 {
		t.Errorf("the rerun found %d units done, want those that were", res.Resumed)
	}
	sameTree(t, "resumed", tree(t, fsys, "/out"), tree(t, fsys, "/want"))
	if _, err := engine.Merge(context.Background(), in, plan, "/out", 2, engine.Progress{}); err == nil || !strings.Contains(err.Error(), "exists already") {
		t.Errorf("merging over an output: %v", err)
	}
	if left := slices.Sorted(maps.Keys(tree(t, fsys, "/"))); slices.ContainsFunc(left, func(f string) bool { return strings.Contains(f, ".smelt/") }) {
		t.Errorf("left behind: %v", left)
	}
}
