package engine_test

import (
	"context"
	"fmt"
	"path"
	"reflect"
	"strings"
	"testing"

	"smelt/checkpoint"
	"smelt/engine"
	"smelt/internal/vfs"
	"smelt/smile"
)

// TestToDense: base + an expert kept whole is that expert, in every linear
// layer and bias.
func TestToDense(t *testing.T) {
	fsys := vfs.NewMem()
	pool{t, fsys}.standard()
	mustFuse(t, fsys, named("a", "b"), engine.Options{Dense: true, RouterRank: 2}, "/fused", 2)
	if _, err := engine.ToDense(context.Background(), fsys, "/fused", "b", "/dense", engine.DefaultMaxShardSize, 2, engine.Progress{}); err != nil {
		t.Fatal(err)
	}
	got, err := checkpoint.Open(fsys, "/dense")
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	want, err := checkpoint.Open(fsys, "/b")
	if err != nil {
		t.Fatal(err)
	}
	defer want.Close()
	if c, err := checkpoint.ParseConfig([]byte(llamaConfig)); err != nil || !reflect.DeepEqual(got.Config.Raw, c.Raw) {
		t.Errorf("config.json is\n%s\nwant the base's", got.Config.Text)
	}
	if len(got.Tensors()) != len(want.Tensors()) {
		t.Errorf("%d tensors, want %d", len(got.Tensors()), len(want.Tensors()))
	}
	for _, info := range want.Tensors() {
		if kind := want.Kind(info.Name); kind != checkpoint.Linear && kind != checkpoint.Bias {
			continue
		}
		x, err := got.Tensor(info.Name)
		if err != nil {
			t.Fatal(err)
		}
		y, err := want.Tensor(info.Name)
		if err != nil {
			t.Fatal(err)
		}
		a, _ := x.Float32()
		b, _ := y.Float32()
		near(t, info.Name, a, b, 1e-6)
	}
}

// TestToLoRA: each adapter's update is what the fused model stores, and so is
// that of one extracted without a fusion.
func TestToLoRA(t *testing.T) {
	fsys := vfs.NewMem()
	experts := pool{t, fsys}.standard()
	mustFuse(t, fsys, experts, engine.Options{ExpertRank: 4, RouterRank: 2}, "/fused", 2)
	if _, err := engine.ToLoRA(context.Background(), fsys, "/fused", "/lora", 2, engine.Progress{}); err != nil {
		t.Fatal(err)
	}
	f, err := engine.OpenFused(fsys, "/fused")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	check := func(dir, expert string, e int) {
		t.Helper()
		in, err := engine.OpenInputs(fsys, "/base", []engine.Source{{Name: expert, Path: dir}})
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		for i := range f.Config.Modules {
			m := &f.Config.Modules[i]
			parts, err := f.Parts(m)
			if err != nil {
				t.Fatal(err)
			}
			d, err := in.Experts[0].Delta(m.Name, false, 1)
			if err != nil {
				t.Fatal(err)
			}
			if d.Touched() != (parts[e].Rank != smile.Untouched) {
				t.Errorf("%s: %s: touched is %v", dir, m.Name, d.Touched())
				continue
			}
			if d.Touched() {
				near(t, path.Join(dir, m.Name), d.LowRank.Product().Data, product(t, parts[e], m).Data, 2e-6)
			}
			if len(parts[e].Bias.Data) > 0 {
				want, _ := parts[e].Bias.Float64()
				got := make([]float32, m.Out)
				for k := range d.Bias {
					got[k] = float32(d.Bias[k])
				}
				near(t, path.Join(dir, m.Name)+" bias", got, want, 2e-6)
			} else if d.Bias != nil {
				t.Errorf("%s: %s has a bias that the model lacks", dir, m.Name)
			}
		}
	}
	for e, x := range f.Config.Experts {
		check("/lora/"+x.Name, x.Name, e)
	}
	in, err := engine.OpenInputs(fsys, "/base", named("b"))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if _, err := engine.ExtractLoRA(context.Background(), in, engine.Options{ExpertRank: 4}, "/b-lora", 1, engine.Progress{}); err != nil {
		t.Fatal(err)
	}
	check("/b-lora", "b", 1)
	for name := range tree(t, fsys, "/") {
		if strings.Contains(name, ".smelt/") {
			t.Errorf("%s is left behind", name)
		}
	}
}

// TestFusionBenchRoundTrip: to FusionBench's layout and back changes no bit of
// any tensor, ragged ranks and untouched modules included.
func TestFusionBenchRoundTrip(t *testing.T) {
	fsys := vfs.NewMem()
	pool{t, fsys}.standard()
	ctx := context.Background()
	for _, opt := range []engine.Options{{ExpertRank: 4, RouterRank: 2, TopK: 2}, {ExpertRank: 2, RouterRank: 5}, {Energy: 0.6, RouterRank: 2}} {
		dir := fmt.Sprintf("/%d-%d", opt.ExpertRank, opt.RouterRank)
		mustFuse(t, fsys, named("a", "b", "c"), opt, dir, 2)
		if _, err := engine.ToFusionBench(ctx, fsys, dir, dir+"-bench", engine.DefaultMaxShardSize, 2, engine.Progress{}); err != nil {
			if opt.Energy > 0 && strings.Contains(err.Error(), "one rank for all") {
				continue // an expert is kept whole
			}
			t.Fatal(err)
		}
		if _, err := engine.FromFusionBench(ctx, fsys, dir+"-bench", dir+"-back", engine.DefaultMaxShardSize, 2, engine.Progress{}); err != nil {
			t.Fatal(err)
		}
		want, err := engine.OpenFused(fsys, dir)
		if err != nil {
			t.Fatal(err)
		}
		got, err := engine.OpenFused(fsys, dir+"-back")
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got.Config.Modules, want.Config.Modules) || got.Config.TopK != want.Config.TopK {
			t.Errorf("%s: modules\n%+v\nwant\n%+v", dir, got.Config.Modules, want.Config.Modules)
		}
		if !reflect.DeepEqual(got.Base.Config.Raw, want.Base.Config.Raw) {
			t.Errorf("%s: the base's config changed", dir)
		}
		c, err := checkpoint.Open(fsys, dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, info := range c.Tensors() {
			x, err := want.Tensor(info.Name)
			if err != nil {
				t.Fatal(err)
			}
			y, err := got.Tensor(info.Name)
			if err != nil {
				t.Fatal(err)
			}
			if string(x.Data) != string(y.Data) {
				t.Errorf("%s: tensor %s changed", dir, info.Name)
			}
		}
		c.Close()
		want.Close()
		got.Close()
	}
}
