package engine

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"smelt/internal/vfs"
	"smelt/smile"
)

// Sweep lists the ranks at which a fused model is evaluated.
type Sweep struct {
	ExpertRanks []int // none leaves what is stored
	RouterRanks []int
}

// Cuts returns the rows of a sweep over a fused model: every router rank with
// every expert rank.
func (s Sweep) Cuts(fsys vfs.FS, fused Source) ([]EvalModel, error) {
	dir := fused.Path
	f, err := OpenFused(fsys, dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	router, expert := 0, 0
	for _, m := range f.Config.Modules {
		router = max(router, m.RouterRank)
		for _, r := range m.Ranks {
			if expert = max(expert, int(r)); r == smile.Dense {
				return nil, fmt.Errorf("%s: keeps experts whole, which cannot be cut: fuse with --expert-rank", dir)
			}
		}
	}
	for _, x := range []struct {
		what   string
		asked  []int
		stored int
	}{{"expert", s.ExpertRanks, expert}, {"router", s.RouterRanks, router}} {
		if len(x.asked) > 0 && slices.Max(x.asked) > x.stored {
			return nil, fmt.Errorf("%s: %s rank %d is asked for, it stores %d: fuse with more, or give base and experts to be fused", dir, x.what, slices.Max(x.asked), x.stored)
		}
	}
	return s.rows(fused, router, expert), nil
}

// rows are the models of a sweep; router and expert are what stands in the
// name where it does not vary.
func (s Sweep) rows(fused Source, router, expert int) (list []EvalModel) {
	routers, experts := s.RouterRanks, s.ExpertRanks
	if len(routers) == 0 {
		routers = []int{router}
	}
	if len(experts) == 0 {
		experts = []int{expert}
	}
	for _, g := range routers {
		for _, k := range experts {
			list = append(list, EvalModel{Name: fmt.Sprintf("%s (%d,%d)", fused.Name, g, k), Path: fused.Path, ExpertRank: k, RouterRank: g})
		}
	}
	return list
}

// Fuse fuses base and experts once, to the largest ranks of the sweep, into a
// folder below dir that is named by its content, and returns the rows. What is
// there is not fused again. Ranks above what a module has are the module's.
func (s Sweep) Fuse(ctx context.Context, fsys vfs.FS, base string, experts []Source, dir string, workers int, progress Progress) ([]EvalModel, error) {
	if len(s.ExpertRanks) == 0 {
		return nil, errors.New("a sweep from base and experts wants expert ranks: expert-rank=4,8,16")
	}
	opt := Options{ExpertRank: slices.Max(s.ExpertRanks), RouterRank: DefaultRouterRank}
	if len(s.RouterRanks) > 0 {
		opt.RouterRank = slices.Max(s.RouterRanks)
	}
	in, err := OpenInputs(fsys, base, experts)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	plan, err := NewPlan(in, opt)
	if err != nil {
		return nil, err
	}
	key, err := plan.Key()
	if err != nil {
		return nil, err
	}
	out := filepath.Join(dir, key[:32])
	if f, err := OpenFused(fsys, out); err == nil {
		f.Close()
		return s.rows(Source{Name: "SMILE", Path: out}, opt.RouterRank, opt.ExpertRank), nil
	}
	if err := fsys.MkdirAll(dir); err != nil {
		return nil, err
	}
	if _, err := Fuse(ctx, in, plan, Part{}, out, workers, progress); err != nil {
		return nil, err
	}
	return s.rows(Source{Name: "SMILE", Path: out}, opt.RouterRank, opt.ExpertRank), nil
}
