package cli

import (
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"smelt/checkpoint"
	"smelt/engine"
)

func (a *app) adapterInit() *cobra.Command {
	var (
		opt engine.InitOptions
		out string
	)
	cmd := &cobra.Command{
		Use:   "adapter-init BASE [EXPERT] -o DIR --subspace minor|null|principal",
		Short: "Write a PEFT adapter that begins a fine-tune in a chosen subspace",
		Long: `Write a PEFT adapter that begins a fine-tune in a chosen subspace.

The rows of each lora_A are orthonormal directions of the inputs of a layer:

  principal  the leading right singular vectors of the base's weight
  minor      those of its smallest singular values
  null       directions that the weight maps to zero, where there are such

With EXPERT, a fine-tune of the base, they are those of what it changed: principal goes on
with its task, null keeps out of its way. lora_B is zero: the adapter changes nothing until
it is trained. PEFT loads it with PeftModel.from_pretrained(base, DIR, is_trainable=True).`,
		Args: needs(1, 2, "a base, and an expert where the directions are to be of its change"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := needsOut(out, cmd); err != nil {
				return err
			}
			in := &engine.Inputs{FS: a.fs}
			var err error
			if len(args) == 1 {
				in.Base, err = checkpoint.Open(a.fs, args[0])
			} else {
				in, err = engine.OpenInputs(a.fs, args[0], sources(args[1:]))
			}
			if err != nil {
				return err
			}
			defer in.Close()
			res, err := engine.InitAdapter(cmd.Context(), in, opt, filepath.Clean(out), a.workers, a.progress())
			if err != nil {
				return err
			}
			a.warn(res.Warnings)
			return a.print(res, func(w io.Writer) {
				fmt.Fprintf(w, "%s: %d modules, %s parameters to train, %s\n", res.Out, res.Modules, count(res.Parameters.Output), bytes(res.Bytes))
			})
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&out, "output", "o", "", "directory to make")
	fl.StringVar(&opt.Subspace, "subspace", "", "minor, null or principal")
	fl.IntVar(&opt.Rank, "rank", engine.DefaultInitRank, "rank of every module")
	fl.StringSliceVar(&opt.Targets, "target-modules", nil, "modules, or the ends of their names: q_proj,v_proj (default every linear layer)")
	fl.StringArrayVar(&opt.Exclude, "exclude", nil, "leave out layers whose name matches this pattern")
	fl.IntVar(&a.workers, "workers", 0, "threads (default all)")
	return cmd
}
