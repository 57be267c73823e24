package engine_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"smelt/engine"
	"smelt/internal/vfs"
)

var errDisk = errors.New("no space left on device")

// steps counts the operations of a fusion that change the file system.
func steps(t *testing.T, run func(fsys vfs.FS) error, fresh func() *vfs.Mem) int {
	t.Helper()
	n := 0
	err := run(vfs.Fault(fresh(), func(e vfs.Event) error {
		if e.Op.Changes() {
			n++
		}
		return nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// at is a hook that gives err at the k-th changing operation.
func at(k int, err error) vfs.Hook {
	n := 0
	return func(e vfs.Event) error {
		if !e.Op.Changes() {
			return nil
		}
		if n++; n == k+1 {
			return err
		}
		return nil
	}
}

// TestCrash kills a fusion at every operation, and cuts the power there, and
// lets every operation fail. The output is absent or whole, a rerun finishes
// it with the same bytes, and after a failure nothing is left behind.
func TestCrash(t *testing.T) {
	runs := map[string]func(fsys vfs.FS) error{
		"rank": func(fsys vfs.FS) error {
			_, err := fuse(fsys, named("a", "d"), engine.Options{ExpertRank: 3, RouterRank: 2, MaxShardSize: 1 << 20}, engine.Part{}, "/out", 1)
			return err
		},
		"energy": func(fsys vfs.FS) error {
			_, err := fuse(fsys, named("a", "d"), engine.Options{Energy: 0.8, RouterRank: 2}, engine.Part{}, "/out", 1)
			return err
		},
		"part": func(fsys vfs.FS) error {
			_, err := fuse(fsys, named("a", "d"), engine.Options{ExpertRank: 3, RouterRank: 2}, engine.Part{I: 2, N: 3}, "/out", 1)
			return err
		},
	}
	// Journal after every unit, so that there are many states to resume from.
	defer engine.SetSyncBytes(1)()
	sources := vfs.NewMem()
	tiny(pool{t, sources})
	for name, run := range runs {
		t.Run(name, func(t *testing.T) {
			fresh := func() *vfs.Mem { return clone(t, sources) }
			whole := fresh()
			if err := run(whole); err != nil {
				t.Fatal(err)
			}
			want := tree(t, whole, "/out")
			all := tree(t, whole, "/")
			n := steps(t, run, fresh)
			if n < 20 {
				t.Fatalf("only %d operations: the hook sees too little", n)
			}
			t.Logf("%d operations", n)
			check := func(what string, fsys *vfs.Mem) {
				t.Helper()
				if !missing(fsys, "/out") {
					sameTree(t, what+": output", tree(t, fsys, "/out"), want)
				}
				if err := run(fsys); err != nil {
					t.Errorf("%s: the rerun fails: %v", what, err)
					return
				}
				sameTree(t, what+": after the rerun", tree(t, fsys, "/"), all)
			}
			for k := range n {
				fsys := fresh()
				err := run(vfs.Fault(fsys, at(k, vfs.ErrCrash)))
				if err == nil && k < n-2 {
					t.Errorf("killed at operation %d: no error", k)
				}
				cut, lucky := fsys.CrashClone(), fsys.CrashCloneRandom(uint64(k))
				check(fmt.Sprintf("killed at operation %d", k), fsys)
				check(fmt.Sprintf("power cut at operation %d", k), cut)
				check(fmt.Sprintf("power cut at operation %d, some writes done", k), lucky)

				fsys = fresh()
				err = run(vfs.Fault(fsys, at(k, errDisk)))
				if err != nil && !strings.Contains(err.Error(), errDisk.Error()) {
					t.Errorf("operation %d failed: the error does not tell why: %v", k, err)
				}
				if err != nil && missing(fsys, "/out") {
					// The tidying up itself may be what failed.
					left := tree(t, fsys, "/")
					for file := range left {
						if strings.Contains(file, ".smelt/") && k < n-2 {
							t.Errorf("operation %d failed: %s is left behind", k, file)
						}
					}
				}
				check(fmt.Sprintf("operation %d failed", k), fsys)
			}
		})
	}
}

// TestInterrupt: a cancelled run keeps its work, and the next goes on.
func TestInterrupt(t *testing.T) {
	defer engine.SetSyncBytes(1)()
	fsys := vfs.NewMem()
	experts := pool{t, fsys}.standard()
	opt := engine.Options{ExpertRank: 3, RouterRank: 2}
	mustFuse(t, fsys, experts, opt, "/want", 1)
	want := tree(t, fsys, "/want")
	in, err := engine.OpenInputs(fsys, "/base", experts)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	plan, err := engine.NewPlan(in, opt)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n := 0
	_, err = engine.Fuse(ctx, in, plan, engine.Part{}, "/out", 2, engine.Progress{Add: func(int64) {
		if n++; n == 6 {
			cancel()
		}
	}})
	if err == nil || !strings.Contains(err.Error(), "goes on where it was") {
		t.Fatalf("interrupted: %v", err)
	}
	if !missing(fsys, "/out") {
		t.Error("interrupted: the output is there")
	}
	res, err := engine.Fuse(context.Background(), in, plan, engine.Part{}, "/out", 2, engine.Progress{})
	if err != nil {
		t.Fatal(err)
	}
	if res.Resumed < 4 {
		t.Errorf("the rerun found %d units done, want those that were", res.Resumed)
	}
	sameTree(t, "resumed", tree(t, fsys, "/out"), want)

	if _, err := engine.Fuse(context.Background(), in, plan, engine.Part{}, "/out", 2, engine.Progress{}); err == nil || !strings.Contains(err.Error(), "exists already") {
		t.Errorf("fusing over an output: %v", err)
	}
	sameTree(t, "after a second run", tree(t, fsys, "/out"), want)
}

// tiny writes a base of few tensors, a full expert a and an adapter d.
func tiny(p pool) {
	r := rand.New(rand.NewPCG(3, 5))
	few := func(w weights) (kept weights) {
		for _, x := range w {
			if strings.HasPrefix(x.Name, "model.layers.0.self_attn") || strings.HasPrefix(x.Name, "model.norm") {
				kept = append(kept, x)
			}
		}
		return kept
	}
	base := few(p.base(r))
	p.write("/base", llamaConfig, base, 2)
	p.write("/a", llamaConfig, p.expert(r, base, func(string) bool { return true }), 1)
	p.adapter(r, "/d", 3, base, "model.layers.0.self_attn.q_proj")
}

func clone(t *testing.T, m *vfs.Mem) *vfs.Mem {
	t.Helper()
	c := vfs.NewMem()
	files := tree(t, m, "/")
	for _, name := range slices.Sorted(maps.Keys(files)) { // the order gives the times
		data := files[name]
		dir := name[:strings.LastIndexByte(name, '/')]
		if err := c.MkdirAll("/" + dir); err != nil {
			t.Fatal(err)
		}
		if err := vfs.WriteFile(c, "/"+name, []byte(data)); err != nil {
			t.Fatal(err)
		}
		if err := c.SyncDir("/" + dir); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.SyncDir("/"); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestInterruptSurvey: a cancelled survey keeps what it has measured.
func TestInterruptSurvey(t *testing.T) {
	fsys := vfs.NewMem()
	experts := pool{t, fsys}.standard()
	opt := engine.Options{Energy: 0.9, RouterRank: 2}
	mustFuse(t, fsys, experts, opt, "/want", 1)
	in, err := engine.OpenInputs(fsys, "/base", experts)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	plan, err := engine.NewPlan(in, opt)
	if err != nil {
		t.Fatal(err)
	}
	// run counts what the survey measures and stops it after so many layers.
	run := func(stop int) (measured int, err error) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		surveying := false
		_, err = engine.Run(ctx, in, plan, engine.Part{}, "/out", 1, engine.Progress{
			Start: func(what string, _ int64) { surveying = what == "survey" },
			Add: func(int64) {
				if surveying {
					if measured++; measured == stop {
						cancel()
					}
				}
			},
		})
		return measured, err
	}
	first, err := run(4)
	if err == nil || !missing(fsys, "/out") {
		t.Fatalf("an interrupted survey: %v", err)
	}
	second, err := run(-1)
	if err != nil {
		t.Fatal(err)
	}
	if first != 4 || first+second < 10 || first+second > 11 {
		t.Errorf("measured %d layers, then %d: want the ten layers once, but for the one that was interrupted", first, second)
	}
	sameTree(t, "resumed", tree(t, fsys, "/out"), tree(t, fsys, "/want"))
}
