package cli

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"runtime/debug"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"smelt/engine"
)

// fuseFlags are the options that fuse and survey share.
type fuseFlags struct {
	opt    engine.Options
	rank   rank
	budget times
	shard  size
}

func (f *fuseFlags) bind(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.Var(&f.rank, "expert-rank", "rank of every expert in every layer, or dense (default 32)")
	fl.Float64Var(&f.opt.Energy, "energy", 0, "share of each delta's energy to keep, such as 0.95: ranks follow")
	fl.Var(&f.budget, "budget", "parameters of the output relative to the base, such as 1.25x: ranks follow")
	fl.IntVar(&f.opt.RouterRank, "router-rank", 0, fmt.Sprintf("right singular vectors that route (default %d)", engine.DefaultRouterRank))
	fl.IntVar(&f.opt.TopK, "top-k", 1, "experts per token")
	fl.StringVar(&f.opt.Others, "others", engine.OthersBase, "tensors that differ but are not fused: base, or the average of all experts")
	fl.StringArrayVar(&f.opt.Include, "include", nil, "fuse layers whose name matches this pattern too (* matches anything)")
	fl.StringArrayVar(&f.opt.Exclude, "exclude", nil, "do not fuse layers whose name matches this pattern")
	fl.StringVar(&f.opt.DType, "dtype", "", "type of the output's weights: F32, F16, BF16, F64 (default the base's)")
	f.shard = engine.DefaultMaxShardSize
	fl.Var(&f.shard, "max-shard-size", "largest shard of the output")
}

func (f *fuseFlags) options() engine.Options {
	o := f.opt
	o.ExpertRank, o.Dense, o.Budget, o.MaxShardSize = f.rank.n, f.rank.dense, float64(f.budget), int64(f.shard)
	return o
}

func (a *app) fuse() *cobra.Command {
	var (
		flags fuseFlags
		out   string
		ranks string
		part  fraction
		dry   bool
	)
	cmd := &cobra.Command{
		Use:   "fuse BASE EXPERT... -o OUT",
		Short: "Fuse a base and its fine-tunes into one checkpoint",
		Long: `Fuse a base and its fine-tunes into one checkpoint.

BASE is a checkpoint directory as Hugging Face stores it. EXPERT is one fine-tuned from
it, or a PEFT LoRA adapter, as path or name=path. The output is a checkpoint too.

A killed run goes on where it was when the same command is given again.`,
		Example: `  smelt fuse clip-vit-b32 mnist svhn cars -o fused
  smelt fuse llama math=adapters/math code=adapters/code -o fused --energy 0.95
  smelt fuse base a b c -o fused --budget 1.25x --dry-run`,
		Args: needs(2, -1, "a base and at least one expert"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := needsOut(out, cmd); err != nil && !dry {
				return err
			}
			if err := oneOf(cmd, "expert-rank", "energy", "budget", "ranks"); err != nil {
				return err
			}
			return a.runFuse(cmd.Context(), args, flags.options(), out, ranks, engine.Part{I: part.i, N: part.n}, dry)
		},
	}
	flags.bind(cmd)
	fl := cmd.Flags()
	fl.StringVarP(&out, "output", "o", "", "directory to make")
	fl.StringVar(&ranks, "ranks", "", "rank plan made by smelt survey")
	fl.Var(&part, "part", "do only part i of n, such as 2/8; smelt join puts parts together")
	fl.BoolVar(&dry, "dry-run", false, "print the plan and do nothing")
	fl.IntVar(&a.workers, "workers", 0, "threads (default all)")
	return cmd
}

func (a *app) runFuse(ctx context.Context, args []string, opt engine.Options, out, ranks string, part engine.Part, dry bool) error {
	in, err := engine.OpenInputs(a.fs, args[0], sources(args[1:]))
	if err != nil {
		return err
	}
	defer in.Close()
	if ranks != "" {
		if opt.Ranks, err = engine.ReadRanks(a.fs, ranks); err != nil {
			return err
		}
	}
	plan, err := engine.NewPlan(in, opt)
	if err != nil {
		return err
	}
	for _, n := range plan.Notes {
		fmt.Fprintf(a.err, "note: %s\n", n)
	}
	if dry {
		a.warn(plan.Warnings)
		return a.print(planned(plan, a.workers), func(w io.Writer) { printPlan(w, plan, a.workers) })
	}
	debug.SetMemoryLimit(min(debug.SetMemoryLimit(-1), plan.PeakMemory(a.workers)))
	debug.SetGCPercent(-1) // nothing is collected before it is needed
	res, err := engine.Run(ctx, in, plan, part, filepath.Clean(out), a.workers, a.progress())
	if err != nil {
		return err
	}
	a.warn(res.Warnings)
	return a.print(res, func(w io.Writer) { printResult(w, res) })
}

func printResult(w io.Writer, r *engine.Result) {
	fmt.Fprintf(w, "%s: %d experts in %d layers, %s parameters (%.3f × the base), %s, %s",
		r.Out, len(r.Captured), r.Modules, count(r.Parameters.Output), r.Parameters.Ratio(), bytes(r.Bytes), seconds(r.Timing.Total))
	if r.Timing.Sync > r.Timing.Total/10 {
		fmt.Fprintf(w, " (%s of it until the disk had it)", seconds(r.Timing.Sync))
	}
	fmt.Fprintln(w)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, name := range sortedKeys(r.Captured) {
		fmt.Fprintf(tw, "  %s\t%.2f %% of its change kept\n", name, 100*r.Captured[name])
	}
	tw.Flush()
}

// plannedJSON is a plan as --dry-run --json prints it.
type plannedJSON struct {
	*engine.Plan
	Totals     engine.Totals `json:"totals"`
	Ratio      float64       `json:"ratio"`
	PeakMemory int64         `json:"peak_memory"`
}

func planned(p *engine.Plan, workers int) plannedJSON {
	t := p.Totals()
	return plannedJSON{p, t, float64(t.Parameters) / float64(p.Parameters), p.PeakMemory(workers)}
}

func printPlan(w io.Writer, p *engine.Plan, workers int) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "action\tname\tkind\tshape\trouter\tranks\tread")
	for _, u := range p.Units {
		shape, router, ranks := "", "", ""
		if u.Action == engine.ActionFuse {
			shape, router, ranks = fmt.Sprintf("[%d,%d]", u.Out, u.In), fmt.Sprintf("≤ %d", u.RouterRank), rankList(u.Ranks)
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", u.Action, u.Name, u.Kind, shape, router, ranks, bytes(u.Read))
	}
	tw.Flush()
	t := p.Totals()
	fmt.Fprintf(w, "\n%d layers to fuse for %d experts", t.Modules, len(p.Experts))
	if p.Options.Energy > 0 || p.Options.Budget > 0 {
		fmt.Fprintf(w, "; ranks are chosen by a survey of the spectra first (smelt survey does that alone)")
		if p.Options.Budget > 0 {
			t.Parameters = min(t.Parameters, int64(p.Options.Budget*float64(p.Parameters)))
		}
	}
	fmt.Fprintf(w, "\nread     %s\nwrite    at most %s\nmemory   at most %s beyond mapped files\nparameters at most %s, %.3f × the base's %s\n",
		bytes(t.Read), bytes(t.Write), bytes(p.PeakMemory(workers)), count(t.Parameters), float64(t.Parameters)/float64(p.Parameters), count(p.Parameters))
}
