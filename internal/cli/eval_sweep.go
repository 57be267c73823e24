package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"smelt/engine"
)

// parseSweep reads expert-rank=4,8 and router-rank=4,16, apart or in one
// argument after a comma or space.
func parseSweep(args []string) (s engine.Sweep, err error) {
	var to *[]int
	for _, arg := range args {
		for part := range strings.FieldsFuncSeq(arg, func(r rune) bool { return r == ',' || r == ' ' }) {
			if name, first, ok := strings.Cut(part, "="); ok {
				switch name {
				case "expert-rank":
					to = &s.ExpertRanks
				case "router-rank":
					to = &s.RouterRanks
				default:
					return s, fmt.Errorf("--sweep %q: want expert-rank=R,R,... or router-rank=R,R,... there", arg)
				}
				part = first
			}
			n, err := strconv.Atoi(part)
			if to == nil || err != nil || n < 1 || n > 1<<20 {
				return s, fmt.Errorf("--sweep %q: rank %q: want expert-rank=R,R,... or router-rank=R,R,... with ranks from 1", arg, part)
			}
			*to = append(*to, n)
		}
	}
	if len(s.ExpertRanks)+len(s.RouterRanks) == 0 {
		return s, errors.New("--sweep names no ranks: expert-rank=4,8,16")
	}
	return s, nil
}

// sweep makes the rows of a sweep: fused models are cut to each of its ranks
// and others stand as they are; without a fused one, base and experts are
// fused first.
func (a *app) sweep(ctx context.Context, args []engine.Source, ranks []string, opt engine.EvalOptions) (models []engine.EvalModel, done func(), err error) {
	done = func() {}
	s, err := parseSweep(ranks)
	if err != nil {
		return nil, done, err
	}
	if len(args) == 1 || a.anyFused(args) {
		for _, m := range args {
			cuts := []engine.EvalModel{{Name: m.Name, Path: m.Path}}
			if len(args) == 1 || engine.IsFused(a.fs, m.Path) {
				if cuts, err = s.Cuts(a.fs, m); err != nil {
					return nil, done, err
				}
			}
			models = append(models, cuts...)
		}
		return models, done, nil
	}
	if len(args) == 0 {
		return nil, done, errors.New("--sweep wants fused models, or a base and its experts")
	}
	dir := filepath.Join(opt.Cache.Dir, "fused")
	if opt.Cache.Dir == "" {
		if dir, err = os.MkdirTemp("", "smelt-sweep-*"); err != nil {
			return nil, done, err
		}
		done = func() { _ = a.fs.RemoveAll(dir) }
	}
	models, err = s.Fuse(ctx, a.fs, args[0].Path, args[1:], dir, a.workers, a.progress())
	return append([]engine.EvalModel{{Name: args[0].Name, Path: args[0].Path}}, models...), done, err
}

func (a *app) anyFused(models []engine.Source) bool {
	return slices.ContainsFunc(models, func(m engine.Source) bool { return engine.IsFused(a.fs, m.Path) })
}
