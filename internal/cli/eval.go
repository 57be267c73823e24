package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"smelt/engine"
	"smelt/eval"
	"smelt/internal/vfs"
	"smelt/report"
)

// evalFlags are the options of smelt eval.
type evalFlags struct {
	tasks, base, out, cache string
	experts, ensembles      []string
	only                    []string
	corrupt                 string
	sweep                   []string
	limit                   int
	noCache                 bool
}

func (a *app) eval() *cobra.Command {
	var f evalFlags
	cmd := &cobra.Command{
		Use:   "eval MODEL... --tasks FILE",
		Short: "Measure models on tasks: accuracy, F1, perplexity, agreement",
		Long: `Measure models on the tasks of a task file (docs/format/tasks.md).

MODEL is [name=]path: a checkpoint, dense or fused, or an adapter or a vision tower, which runs on
the base that --base or the task file names. --experts DIR is a row of its own, in which each task
is done by the expert that was fine-tuned for it (DIR holds a folder each); the others' accuracies
are then given relative to it, too.

--sweep expert-rank=4,8,16,router-rank=4,16 evaluates fused models cut to each of these ranks; given
BASE EXPERT... it fuses them once, to the largest, and evaluates base, experts and all ranks.

Answers are kept in a cache, by the content of models and data: what is there is not computed again,
and an evaluation that was killed goes on where it was.`,
		Example: `  smelt eval base fused --tasks tasks.yaml
  smelt eval base avg=merged smile=fused --experts experts --ensemble mean --tasks tasks.yaml -o results
  smelt eval base experts/* --tasks tasks.yaml --sweep expert-rank=4,8,16 --sweep router-rank=16 -o sweep
  smelt eval fused --tasks tasks.yaml --task digits --corrupt blur:3 --json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.tasks == "" {
				return usageError{fmt.Errorf("%s wants a task file: --tasks FILE", cmd.CommandPath())}
			}
			if len(args) == 0 && len(f.experts) == 0 {
				return usageError{fmt.Errorf("%s wants at least one MODEL, or --experts DIR", cmd.CommandPath())}
			}
			return a.runEval(cmd, args, &f)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.tasks, "tasks", "", "task file (YAML)")
	fl.StringVar(&f.base, "base", "", "base of adapters and vision towers (default: the task file's)")
	fl.StringArrayVar(&f.experts, "experts", nil, "[name=]folder of experts, each evaluated on its own task")
	fl.StringArrayVar(&f.ensembles, "ensemble", nil, "[name=]mean, max or weighted:EXPERT=WEIGHT,...: combine the experts' probabilities")
	fl.StringSliceVar(&f.only, "task", nil, "run these tasks only")
	fl.StringVar(&f.corrupt, "corrupt", "", "disturb all images: noise, blur or contrast, with :1 to :5 for the severity")
	fl.StringArrayVar(&f.sweep, "sweep", nil, "expert-rank=R,R,... and router-rank=R,R,...: ranks to cut fused models to")
	fl.IntVar(&f.limit, "limit", 0, "use the first so many examples of each task")
	fl.StringVarP(&f.out, "out", "o", "", "folder for results.json, results.csv, results.md and figures (SVG, PNG, CSV)")
	fl.StringVar(&f.cache, "cache", "", "folder of the cache (default: smelt/eval in the user's cache folder)")
	fl.BoolVar(&f.noCache, "no-cache", false, "neither read nor write the cache")
	fl.IntVar(&a.workers, "workers", 0, "threads (default all)")
	return cmd
}

func (a *app) runEval(cmd *cobra.Command, args []string, f *evalFlags) error {
	if err := oneOf(cmd, "cache", "no-cache"); err != nil {
		return err
	}
	file, err := eval.Load(a.fs, f.tasks)
	if err != nil {
		return err
	}
	opt, err := f.options(a)
	if err != nil {
		return err
	}
	models, done, err := a.evalModels(cmd.Context(), args, f, opt)
	if err != nil {
		return err
	}
	defer done()
	t := &table{w: a.out, live: terminal(a.out)}
	if a.json {
		t.w = io.Discard
	}
	opt.OnCell, opt.OnRow = t.cell, t.row
	r, err := engine.Evaluate(cmd.Context(), a.fs, file, models, opt, a.examples())
	t.end()
	if err != nil {
		return err
	}
	if err := a.writeResults(f.out, r); err != nil {
		return err
	}
	return a.print(r, func(w io.Writer) {
		if low, high := r.Interval(); high > 0 {
			fmt.Fprintf(w, "95 %% confidence intervals: ±%.1f to ±%.1f points\n", low, high)
		}
		if f.out != "" {
			fmt.Fprintf(w, "%s: results.json, results.csv, results.md and the figures\n", f.out)
		}
	})
}

func (f *evalFlags) options(a *app) (opt engine.EvalOptions, err error) {
	opt = engine.EvalOptions{Base: f.base, Tasks: f.only, Limit: f.limit, Workers: a.workers}
	if f.limit < 0 {
		return opt, fmt.Errorf("--limit %d: want at least 1", f.limit)
	}
	if f.corrupt != "" {
		if opt.Corrupt, err = eval.ParseCorruption(f.corrupt); err != nil {
			return opt, err
		}
	}
	opt.Cache = eval.Cache{FS: a.fs, Dir: f.cache}
	if f.cache == "" && !f.noCache {
		user, err := os.UserCacheDir()
		if err != nil {
			return opt, fmt.Errorf("no folder for the cache (%w): name one with --cache, or use --no-cache", err)
		}
		opt.Cache.Dir = filepath.Join(user, "smelt", "eval")
	}
	return opt, nil
}

// evalModels makes the rows of the table: the models in the order of the
// arguments, the sets of experts before the second of them, ensembles last.
// done removes what was made for them.
func (a *app) evalModels(ctx context.Context, args []string, f *evalFlags, opt engine.EvalOptions) (models []engine.EvalModel, done func(), err error) {
	done = func() {}
	members := sources(args)
	var sets []engine.EvalModel
	for _, arg := range f.experts {
		name, dir, named := strings.Cut(arg, "=")
		if !named {
			name, dir = "individual", arg
		}
		experts, err := engine.ExpertFolder(a.fs, dir)
		if err != nil {
			return nil, done, err
		}
		sets = append(sets, engine.EvalModel{Name: name, Path: dir, Experts: experts})
	}
	if len(f.sweep) > 0 {
		if len(sets) == 0 && len(args) > 1 && !a.anyFused(members) {
			sets = append(sets, engine.EvalModel{Name: "individual", Experts: members[1:]})
		}
		models, done, err = a.sweep(ctx, members, f.sweep, opt)
		if err != nil {
			return nil, done, err
		}
	} else {
		for _, s := range members {
			models = append(models, engine.EvalModel{Name: s.Name, Path: s.Path})
		}
	}
	at := min(1, len(models))
	models = append(models[:at:at], append(sets, models[at:]...)...)
	if len(sets) > 0 {
		members = sets[0].Experts
	}
	for _, arg := range f.ensembles {
		m, err := ensemble(arg, members)
		if err != nil {
			return nil, done, err
		}
		models = append(models, m)
	}
	return models, done, nil
}

// ensemble reads [name=]mean, max or weighted:EXPERT=WEIGHT,...
func ensemble(arg string, members []engine.Source) (m engine.EvalModel, err error) {
	head, weights, weighted := strings.Cut(arg, ":")
	name, method, named := strings.Cut(head, "=")
	if !named {
		name, method = "ensemble "+head, head
	}
	e := &engine.Ensemble{Method: method, Members: members}
	wrong := fmt.Errorf("--ensemble %q: want mean, max or weighted:EXPERT=WEIGHT,EXPERT=WEIGHT", arg)
	switch {
	case (method == "mean" || method == "max") && !weighted:
	case method == "weighted" && weighted:
		e.Members = nil
		for pair := range strings.SplitSeq(weights, ",") {
			expert, text, ok := strings.Cut(pair, "=")
			var w float64
			if _, err := fmt.Sscanf(text, "%g", &w); !ok || err != nil || !(w > 0) {
				return m, wrong
			}
			found := false
			for _, s := range members {
				if s.Name == expert {
					e.Members, e.Weights, found = append(e.Members, s), append(e.Weights, w), true
				}
			}
			if !found {
				return m, fmt.Errorf("--ensemble %q: there is no expert %q", arg, expert)
			}
		}
	default:
		return m, wrong
	}
	return engine.EvalModel{Name: name, Ensemble: e}, nil
}

// writeResults writes the files of -o; those of an earlier run are replaced.
func (a *app) writeResults(dir string, r *eval.Results) error {
	if dir == "" {
		return nil
	}
	if err := a.fs.MkdirAll(dir); err != nil {
		return err
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	files, err := engine.EvalFigures(r)
	if err != nil {
		return err
	}
	files = append(files,
		report.File{Path: "results.json", Data: append(text, '\n')},
		report.File{Path: "results.csv", Data: []byte(r.CSV())},
		report.File{Path: "results.md", Data: []byte(r.Markdown())})
	for _, x := range files {
		path := filepath.Join(dir, filepath.FromSlash(x.Path))
		if err := vfs.WriteFile(a.fs, path+".tmp", x.Data); err != nil {
			return err
		}
		if err := a.fs.Rename(path+".tmp", path); err != nil {
			return err
		}
	}
	return nil
}
