package cli

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"smelt/engine"
	"smelt/smile"
)

func (a *app) survey() *cobra.Command {
	var flags fuseFlags
	var out string
	cmd := &cobra.Command{
		Use:   "survey BASE EXPERT... -o ranks.json",
		Short: "Measure the spectra of all deltas and plan ranks",
		Long: `Measure the spectra of all deltas and plan ranks.

This is what --energy and --budget of smelt fuse do first. The file can be given to
smelt fuse --ranks, so that parts and reruns share it. Without options it keeps 95 % of
each delta's energy.`,
		Args: needs(2, -1, "a base and at least one expert"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := needsOut(out, cmd); err != nil {
				return err
			}
			if err := oneOf(cmd, "expert-rank", "energy", "budget"); err != nil {
				return err
			}
			opt := flags.options()
			if opt.Energy == 0 && opt.Budget == 0 && opt.ExpertRank == 0 && !opt.Dense {
				opt.Energy = 0.95
			}
			in, err := engine.OpenInputs(a.fs, args[0], sources(args[1:]))
			if err != nil {
				return err
			}
			defer in.Close()
			plan, err := engine.NewPlan(in, opt)
			if err != nil {
				return err
			}
			r, err := engine.Survey(cmd.Context(), in, plan, a.workers, a.progress())
			if err != nil {
				return err
			}
			if err := r.Write(a.fs, out); err != nil {
				return err
			}
			a.warn(plan.Warnings)
			return a.print(r, func(w io.Writer) { printRanks(w, out, r) })
		},
	}
	flags.bind(cmd)
	cmd.Flags().StringVarP(&out, "output", "o", "", "file to make")
	cmd.Flags().IntVar(&a.workers, "workers", 0, "threads (default all)")
	return cmd
}

func printRanks(w io.Writer, out string, r *engine.Ranks) {
	fmt.Fprintf(w, "%s: %d layers, %s: %s parameters, %.4f × the base\n", out, len(r.Modules), r.Asked, count(r.Parameters.Output), r.Parameters.Ratio())
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i, name := range r.Experts {
		fmt.Fprintf(tw, "  %s\t%.2f %% of its change kept\n", name, 100*r.Captured[i])
	}
	tw.Flush()
}

func (a *app) join() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "join PART... -o OUT",
		Short: "Put parts of a fusion together",
		Long: `Put parts of a fusion together.

PART is a directory made by smelt fuse --part i/n. All parts of one fusion must be there;
the output is, byte for byte, that of a fusion in one piece.`,
		Args: needs(1, -1, "the parts of a fusion"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := needsOut(out, cmd); err != nil {
				return err
			}
			res, err := engine.Join(cmd.Context(), a.fs, args, filepath.Clean(out), a.workers, a.progress())
			if err != nil {
				return err
			}
			a.warn(res.Warnings)
			return a.print(res, func(w io.Writer) { printResult(w, res) })
		},
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "directory to make")
	cmd.Flags().IntVar(&a.workers, "workers", 0, "threads (default all)")
	return cmd
}

func (a *app) verify() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify OUT [BASE EXPERT...]",
		Short: "Check a fused model: checksums, shapes, and its fidelity to the sources",
		Long: `Check a fused model.

Every file is held against its checksum and the config. With the sources, the delta of each
expert in each layer is computed again and held against what the model stores: the relative
error, the lowest one that any matrix of that rank could have, and the certified one. A layer
that is worse than certified is an error.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 2 {
				return usageError{fmt.Errorf("%s wants a fused model, or a fused model with its base and all its experts: %s", cmd.CommandPath(), cmd.UseLine())}
			}
			return needs(1, -1, "a fused model")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			var in *engine.Inputs
			if len(args) > 1 {
				var err error
				if in, err = engine.OpenInputs(a.fs, args[1], sources(args[2:])); err != nil {
					return err
				}
				defer in.Close()
			}
			v, err := engine.Verify(cmd.Context(), a.fs, args[0], in, a.workers, a.progress())
			if err != nil {
				return err
			}
			return a.print(v, func(w io.Writer) { printVerification(w, args[0], v) })
		},
	}
	cmd.Flags().IntVar(&a.workers, "workers", 0, "threads (default all)")
	return cmd
}

func printVerification(w io.Writer, dir string, v *engine.Verification) {
	fmt.Fprintf(w, "%s: whole: %d files, %d tensors, %s\n", dir, v.Files, v.Tensors, bytes(v.Bytes))
	if len(v.Fidelity) == 0 {
		return
	}
	type sum struct{ n, worst int }
	by := map[string]*sum{}
	var order []string
	for i, f := range v.Fidelity {
		s := by[f.Expert]
		if s == nil {
			s = &sum{worst: i}
			by[f.Expert] = s
			order = append(order, f.Expert)
		}
		s.n++
		if f.Error > v.Fidelity[s.worst].Error {
			s.worst = i
		}
	}
	slices.Sort(order)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "expert\tlayers\tlargest error\toptimum\tcertified\tin")
	for _, name := range order {
		f := v.Fidelity[by[name].worst]
		fmt.Fprintf(tw, "%s\t%d\t%.4f\t%.4f\t%.4f\t%s\n", name, by[name].n, f.Error, f.Optimum, f.Allowed, f.Module)
	}
	tw.Flush()
	fmt.Fprintln(w, "errors are ‖ΔW − stored‖/‖ΔW‖ of one layer; no layer is worse than certified")
}

func (a *app) edit() *cobra.Command {
	var (
		opt   engine.EditOptions
		add   []string
		out   string
		shard size = engine.DefaultMaxShardSize
	)
	cmd := &cobra.Command{
		Use:   "edit OUT -o OUT2 --drop NAME | --add EXPERT | --truncate RANK",
		Short: "Drop, add or truncate experts of a fused model",
		Long: `Drop, add or truncate experts of a fused model, without decomposing again what is there.

The options can be given together and, but for --truncate, more than once.`,
		Args: needs(1, 1, "one fused model"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := needsOut(out, cmd); err != nil {
				return err
			}
			opt.Add, opt.MaxShardSize = sources(add), int64(shard)
			res, err := engine.Edit(cmd.Context(), a.fs, args[0], opt, filepath.Clean(out), a.workers, a.progress())
			if err != nil {
				return err
			}
			a.warn(res.Warnings)
			return a.print(res, func(w io.Writer) { printResult(w, res) })
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&out, "output", "o", "", "directory to make")
	fl.StringArrayVar(&opt.Drop, "drop", nil, "leave this expert out")
	fl.StringArrayVar(&add, "add", nil, "add this expert: path, or name=path")
	fl.IntVar(&opt.Truncate, "truncate", 0, "largest rank that experts keep")
	fl.IntVar(&opt.ExpertRank, "expert-rank", 0, "rank of added experts (default 32)")
	fl.Var(&shard, "max-shard-size", "largest shard of the output")
	fl.IntVar(&a.workers, "workers", 0, "threads (default all)")
	return cmd
}

// rankList writes the ranks of a module briefly.
func rankList(ranks []smile.Rank) string {
	var b strings.Builder
	for i := 0; i < len(ranks); {
		n := 1
		for i+n < len(ranks) && ranks[i+n] == ranks[i] {
			n++
		}
		if b.Len() > 0 {
			b.WriteString(" ")
		}
		switch r := ranks[i]; r {
		case smile.Untouched:
			b.WriteString("–")
		case smile.Dense:
			b.WriteString("dense")
		default:
			fmt.Fprintf(&b, "%d", r)
		}
		if n > 1 {
			fmt.Fprintf(&b, "×%d", n)
		}
		i += n
	}
	return b.String()
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
