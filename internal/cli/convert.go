package cli

import (
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"smelt/engine"
)

func (a *app) convert() *cobra.Command {
	var (
		to, expert, out string
		shard           size = engine.DefaultMaxShardSize
	)
	cmd := &cobra.Command{
		Use:   "convert OUT --to lora|dense|fusionbench|native -o DIR",
		Short: "Write a fused model in another form",
		Long: `Write a fused model in another form.

  lora   one PEFT adapter per expert, DIR/NAME, for servers that switch adapters per request
  dense  the plain checkpoint base + one expert (--expert NAME)
  fusionbench  what FusionBench's SmileLlama, SmileMistral and SmileQwen2 classes load
  native       a checkpoint of those classes in smelt's own form

Every fused model loads in transformers as it is: docs/interop.md.`,
		Args: needs(1, 1, "one fused model"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := needsOut(out, cmd); err != nil {
				return err
			}
			var results []*engine.Result
			var err error
			switch to {
			case "lora":
				results, err = engine.ToLoRA(cmd.Context(), a.fs, args[0], filepath.Clean(out), a.workers, a.progress())
			case "dense":
				var res *engine.Result
				res, err = engine.ToDense(cmd.Context(), a.fs, args[0], expert, filepath.Clean(out), int64(shard), a.workers, a.progress())
				results = append(results, res)
			case "fusionbench":
				var res *engine.Result
				res, err = engine.ToFusionBench(cmd.Context(), a.fs, args[0], filepath.Clean(out), int64(shard), a.workers, a.progress())
				results = append(results, res)
			case "native":
				var res *engine.Result
				res, err = engine.FromFusionBench(cmd.Context(), a.fs, args[0], filepath.Clean(out), int64(shard), a.workers, a.progress())
				results = append(results, res)
			default:
				return usageError{fmt.Errorf("--to is %q, want lora, dense, fusionbench or native", to)}
			}
			if err != nil {
				return err
			}
			for _, r := range results {
				a.warn(r.Warnings)
			}
			return a.print(results, func(w io.Writer) {
				for _, r := range results {
					fmt.Fprintf(w, "%s: %s parameters, %s\n", r.Out, count(r.Parameters.Output), bytes(r.Bytes))
				}
			})
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&to, "to", "", "lora, dense, fusionbench or native")
	fl.StringVar(&expert, "expert", "", "the expert of a dense checkpoint")
	fl.StringVarP(&out, "output", "o", "", "directory to make")
	fl.Var(&shard, "max-shard-size", "largest shard of a checkpoint")
	fl.IntVar(&a.workers, "workers", 0, "threads (default all)")
	return cmd
}

func (a *app) extractLoRA() *cobra.Command {
	var (
		opt engine.Options
		out string
	)
	cmd := &cobra.Command{
		Use:   "extract-lora BASE EXPERT -o DIR --rank N | --energy SHARE",
		Short: "Write the change of one fine-tune as a PEFT adapter",
		Args:  needs(2, 2, "a base and one expert"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := needsOut(out, cmd); err != nil {
				return err
			}
			if err := oneOf(cmd, "rank", "energy"); err != nil {
				return err
			}
			in, err := engine.OpenInputs(a.fs, args[0], sources(args[1:]))
			if err != nil {
				return err
			}
			defer in.Close()
			res, err := engine.ExtractLoRA(cmd.Context(), in, opt, filepath.Clean(out), a.workers, a.progress())
			if err != nil {
				return err
			}
			a.warn(res.Warnings)
			return a.print(res, func(w io.Writer) {
				fmt.Fprintf(w, "%s: %d modules, %s parameters, %s\n", res.Out, res.Modules, count(res.Parameters.Output), bytes(res.Bytes))
				for _, name := range sortedKeys(res.Captured) {
					fmt.Fprintf(w, "  %s  %.2f %% of its change kept\n", name, 100*res.Captured[name])
				}
			})
		},
	}
	fl := cmd.Flags()
	fl.IntVar(&opt.ExpertRank, "rank", 0, "rank of every module (default 32)")
	fl.Float64Var(&opt.Energy, "energy", 0, "share of each delta's energy to keep: ranks follow")
	fl.StringVarP(&out, "output", "o", "", "directory to make")
	fl.StringVar(&opt.DType, "dtype", "", "type of the adapter's weights: F32, F16, BF16 (default the expert's)")
	fl.StringArrayVar(&opt.Exclude, "exclude", nil, "leave out layers whose name matches this pattern")
	fl.IntVar(&a.workers, "workers", 0, "threads (default all)")
	return cmd
}
