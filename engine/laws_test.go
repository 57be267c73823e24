package engine_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"smelt/engine"
	"smelt/internal/kernel"
	"smelt/internal/vfs"
	"smelt/linalg"
	"smelt/smile"
)

// TestSameBytes: neither workers, nor the order in which experts are named,
// nor parts change a byte.
func TestSameBytes(t *testing.T) {
	for _, opt := range []engine.Options{
		{ExpertRank: 4, RouterRank: 2},
		{Dense: true, RouterRank: 3, TopK: 2},
		{Energy: 0.9, RouterRank: 2, Others: engine.OthersAverage},
		{Budget: 2.2, RouterRank: 2, DType: "BF16"},
	} {
		t.Run(fmt.Sprintf("%+v", opt), func(t *testing.T) {
			fsys := vfs.NewMem()
			experts := pool{t, fsys}.standard()
			before := tree(t, fsys, "/")
			mustFuse(t, fsys, experts, opt, "/one", 1)
			want := tree(t, fsys, "/one")

			mustFuse(t, fsys, experts, opt, "/eight", 8)
			sameTree(t, "8 workers", tree(t, fsys, "/eight"), want)

			shuffled := slices.Clone(experts)
			slices.Reverse(shuffled)
			mustFuse(t, fsys, shuffled, opt, "/shuffled", 3)
			sameTree(t, "experts reversed", tree(t, fsys, "/shuffled"), want)

			for _, dir := range []string{"/one", "/eight", "/shuffled"} {
				if err := fsys.RemoveAll(dir); err != nil {
					t.Fatal(err)
				}
			}
			sameTree(t, "inputs after fusing", tree(t, fsys, "/"), before)
		})
	}
}

func TestParts(t *testing.T) {
	fsys := vfs.NewMem()
	experts := pool{t, fsys}.standard()
	in, err := engine.OpenInputs(fsys, "/base", experts)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	plan, err := engine.NewPlan(in, engine.Options{Energy: 0.8, RouterRank: 2})
	if err != nil {
		t.Fatal(err)
	}
	ranks, err := engine.Survey(context.Background(), in, plan, 2, engine.Progress{})
	if err != nil {
		t.Fatal(err)
	}
	if err := ranks.Write(fsys, "/ranks.json"); err != nil {
		t.Fatal(err)
	}
	if ranks, err = engine.ReadRanks(fsys, "/ranks.json"); err != nil {
		t.Fatal(err)
	}
	opt := engine.Options{Ranks: ranks}
	mustFuse(t, fsys, experts, opt, "/whole", 2)
	want := tree(t, fsys, "/whole")
	for _, n := range []int{1, 3, 7} {
		var parts []string
		for i := 1; i <= n; i++ {
			dir := fmt.Sprintf("/part-%d-of-%d", i, n)
			if _, err := fuse(fsys, experts, opt, engine.Part{I: i, N: n}, dir, 1+i%3); err != nil {
				t.Fatal(err)
			}
			parts = append(parts, dir)
		}
		slices.Reverse(parts)
		out := fmt.Sprintf("/joined-%d", n)
		if _, err := engine.Join(context.Background(), fsys, parts, out, 2, engine.Progress{}); err != nil {
			t.Fatal(err)
		}
		sameTree(t, fmt.Sprintf("%d parts joined", n), tree(t, fsys, out), want)
		if n > 1 {
			_, err := engine.Join(context.Background(), fsys, parts[1:], "/lacking", 1, engine.Progress{})
			if err == nil || !strings.Contains(err.Error(), "do not make the whole") {
				t.Errorf("join without a part: %v", err)
			}
			_, err = engine.Join(context.Background(), fsys, append(parts, parts[0]), "/twice", 1, engine.Progress{})
			if err == nil || !strings.Contains(err.Error(), "are both part") {
				t.Errorf("join with a part twice: %v", err)
			}
		}
	}
	if _, err := fuse(fsys, experts, engine.Options{Energy: 0.5}, engine.Part{I: 1, N: 2}, "/unsurveyed", 1); err == nil || !strings.Contains(err.Error(), "smelt survey") {
		t.Errorf("a part with --energy: %v", err)
	}
}

// TestFullRankIsTheExpert: one expert at full rank is that expert, and the
// manifest's residual is the tail of σ².
func TestFullRankIsTheExpert(t *testing.T) {
	fsys := vfs.NewMem()
	pool{t, fsys}.standard()
	for _, opt := range []engine.Options{{ExpertRank: 24}, {Dense: true}, {ExpertRank: 3}, {Energy: 1}} {
		out := fmt.Sprintf("/full-%d-%v-%v", opt.ExpertRank, opt.Dense, opt.Energy)
		mustFuse(t, fsys, named("a"), opt, out, 2)
		in, err := engine.OpenInputs(fsys, "/base", named("a"))
		if err != nil {
			t.Fatal(err)
		}
		f, err := engine.OpenFused(fsys, out)
		if err != nil {
			t.Fatal(err)
		}
		for i := range f.Config.Modules {
			m := &f.Config.Modules[i]
			d, err := in.Experts[0].Delta(m.Name, false, 1)
			if err != nil {
				t.Fatal(err)
			}
			if d.Dense == nil {
				continue // only the bias changed
			}
			parts, err := f.Parts(m)
			if err != nil {
				t.Fatal(err)
			}
			got := product(t, parts[0], m)
			residual := 0.0
			for k, v := range d.Dense.Data {
				residual += (float64(v) - float64(got.Data[k])) * (float64(v) - float64(got.Data[k]))
			}
			exact, err := linalg.Exact(*d.Dense, 1)
			if err != nil {
				t.Fatal(err)
			}
			tail := 0.0
			if opt.ExpertRank == 3 {
				for _, s := range exact.S[3:] {
					tail += s * s
				}
			}
			if !(math.Abs(residual-tail) <= 1e-3*tail+1e-10*exact.Energy) {
				t.Errorf("%s %s: residual %g, tail of σ² %g of energy %g", out, m.Name, residual, tail, exact.Energy)
			}
			x := f.Manifest.Modules[m.Name][0]
			if want := exact.Energy - tail; !(math.Abs(x.Captured-want) <= 1e-4*want) || !(x.Bound >= want*(1-1e-6)) {
				t.Errorf("%s %s: captured %g, bound %g, the optimum is %g", out, m.Name, x.Captured, x.Bound, want)
			}
		}
		in.Close()
		f.Close()
	}
}

// product is US·Vt, or the dense delta.
func product(t *testing.T, p smile.Part, m *smile.Module) kernel.Matrix {
	out := kernel.New(m.Out, m.In)
	if p.Rank == smile.Dense {
		v, err := p.Dense.Float32()
		if err != nil {
			t.Fatal(err)
		}
		copy(out.Data, v)
		return out
	}
	us, err := p.US.Float64()
	if err != nil {
		t.Fatal(err)
	}
	vt, err := p.Vt.Float64()
	if err != nil {
		t.Fatal(err)
	}
	r := int(p.Rank)
	for i := range m.Out {
		for j := range m.In {
			s := 0.0
			for k := range r {
				s += us[i*r+k] * vt[k*m.In+j]
			}
			out.Data[i*m.In+j] = float32(s)
		}
	}
	return out
}

// TestEditIsFuse: dropping an expert gives the bytes of a fusion without it,
// adding one those of a fusion with it.
func TestEditIsFuse(t *testing.T) {
	fsys := vfs.NewMem()
	pool{t, fsys}.standard()
	opt := engine.Options{ExpertRank: 5, RouterRank: 3}
	edit := func(from string, e engine.EditOptions, out string) {
		t.Helper()
		e.MaxShardSize = engine.DefaultMaxShardSize
		if _, err := engine.Edit(context.Background(), fsys, from, e, out, 2, engine.Progress{}); err != nil {
			t.Fatal(err)
		}
	}
	mustFuse(t, fsys, named("a", "b"), opt, "/ab", 2)
	mustFuse(t, fsys, named("a", "b", "c"), opt, "/abc", 2)
	mustFuse(t, fsys, named("a", "b", "c", "d"), opt, "/abcd", 2)
	mustFuse(t, fsys, named("a"), opt, "/a-alone", 2)

	edit("/abc", engine.EditOptions{Drop: []string{"c"}}, "/abc-c")
	sameTree(t, "abc without c", tree(t, fsys, "/abc-c"), tree(t, fsys, "/ab"))
	edit("/ab", engine.EditOptions{Drop: []string{"b"}}, "/ab-b")
	edit("/ab", engine.EditOptions{Add: named("c"), ExpertRank: 5}, "/ab+c")
	sameTree(t, "ab with c", tree(t, fsys, "/ab+c"), tree(t, fsys, "/abc"))
	edit("/abc", engine.EditOptions{Add: named("d"), ExpertRank: 5}, "/abc+d")
	sameTree(t, "abc with d", tree(t, fsys, "/abc+d"), tree(t, fsys, "/abcd"))
	edit("/abcd", engine.EditOptions{Truncate: 2}, "/abcd-2")

	for _, dir := range []string{"/abcd-2", "/ab-b"} {
		experts := named("a", "b", "c", "d")
		if dir == "/ab-b" {
			experts = named("a")
		}
		in, err := engine.OpenInputs(fsys, "/base", experts)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := engine.Verify(context.Background(), fsys, dir, in, 2, engine.Progress{}); err != nil {
			t.Errorf("%s: %v", dir, err)
		}
		in.Close()
	}
	f, err := engine.OpenFused(fsys, "/abcd-2")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, m := range f.Config.Modules {
		for e, r := range m.Ranks {
			if r > 2 {
				t.Errorf("after --truncate 2: %s has rank %d for expert %d", m.Name, r, e)
			}
		}
	}
	for _, bad := range []engine.EditOptions{{}, {Drop: []string{"z"}}, {Add: named("a")}, {Drop: []string{"a", "b"}}, {Truncate: -1}} {
		bad.MaxShardSize = engine.DefaultMaxShardSize
		if _, err := engine.Edit(context.Background(), fsys, "/ab", bad, "/bad", 1, engine.Progress{}); err == nil || !missing(fsys, "/bad") {
			t.Errorf("edit %+v of ab: %v, want an error and no output", bad, err)
		}
	}
}

// TestUntouched: a bf16 copy of the base touches nothing, a layer that nobody
// touched stays dense, and an expert that left a layer alone stores nothing
// there.
func TestUntouched(t *testing.T) {
	fsys := vfs.NewMem()
	p := pool{t, fsys}
	p.standard()
	r := rand.New(rand.NewPCG(7, 11))
	base := p.base(r)
	p.write("/copy", llamaConfig, halve(t, base), 1)
	res := mustFuse(t, fsys, append(named("a", "c"), engine.Source{Name: "copy", Path: "/copy"}), engine.Options{ExpertRank: 4, RouterRank: 2}, "/out", 1)
	f, err := engine.OpenFused(fsys, "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if m := f.Config.Module("model.layers.1.mlp.down_proj"); m != nil {
		t.Errorf("a layer that nobody touched is fused: %+v", m)
	}
	for _, m := range f.Config.Modules {
		want := []smile.Rank{4, 4, smile.Untouched}
		if strings.HasPrefix(m.Name, "model.layers.0.") {
			want[1] = smile.Untouched
		}
		if !slices.Equal(m.Ranks, want) {
			t.Errorf("%s has ranks %v, want %v", m.Name, m.Ranks, want)
		}
	}
	if !slices.ContainsFunc(res.Warnings, func(s string) bool { return strings.Contains(s, "equal to the base: copy") }) {
		t.Errorf("warnings %q do not tell that the copy is equal to the base", res.Warnings)
	}
}

// TestBudget: the output never exceeds the budget, comes close to it, and a
// budget below the router's floor is refused.
func TestBudget(t *testing.T) {
	fsys := vfs.NewMem()
	experts := pool{t, fsys}.standard()
	for _, budget := range []float64{1.9, 2.1, 2.5, 3.5} {
		res := mustFuse(t, fsys, experts, engine.Options{Budget: budget, RouterRank: 2}, fmt.Sprintf("/b%g", budget), 2)
		if got := res.Parameters.Ratio(); got > budget || got < budget-0.02 && budget < 3 {
			t.Errorf("budget %gx gave %.4fx", budget, got)
		}
		f, err := engine.OpenFused(fsys, fmt.Sprintf("/b%g", budget))
		if err != nil {
			t.Fatal(err)
		}
		counted := f.Base.Parameters()
		x, err := engine.Inspect(fsys, fmt.Sprintf("/b%g", budget))
		if err != nil {
			t.Fatal(err)
		}
		if x.Parameters != res.Parameters.Output || counted != res.Parameters.Base {
			t.Errorf("counted %d and %d parameters, the result says %+v", x.Parameters, counted, res.Parameters)
		}
		f.Close()
	}
	if _, err := fuse(fsys, experts, engine.Options{Budget: 1.001, RouterRank: 2}, engine.Part{}, "/low", 1); err == nil || !strings.Contains(err.Error(), "below what the router") {
		t.Errorf("a budget below the router: %v", err)
	}
}
