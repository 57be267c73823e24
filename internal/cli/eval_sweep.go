package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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

// sweep makes the rows of a sweep: over one fused model, or over what base and
// experts are fused to.
func (a *app) sweep(ctx context.Context, args []engine.Source, ranks []string, opt engine.EvalOptions) (models []engine.EvalModel, done func(), err error) {
	done = func() {}
	s, err := parseSweep(ranks)
	if err != nil {
		return nil, done, err
	}
	switch len(args) {
	case 0:
		return nil, done, errors.New("--sweep wants one fused model, or a base and its experts")
	case 1:
		models, err = s.Cuts(a.fs, args[0].Path)
		return models, done, err
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
