package cli

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"smelt/engine"
)

func (a *app) inspect() *cobra.Command {
	return &cobra.Command{
		Use:   "inspect DIR",
		Short: "Show what is in a checkpoint, an adapter or a fused model",
		Args:  needs(1, 1, "one directory"),
		RunE: func(_ *cobra.Command, args []string) error {
			x, err := engine.Inspect(a.fs, args[0])
			if err != nil {
				return err
			}
			return a.print(x, func(w io.Writer) { printInspection(w, x) })
		},
	}
}

func printInspection(w io.Writer, x *engine.Inspection) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(key, format string, args ...any) { fmt.Fprintf(tw, "%s\t%s\n", key, fmt.Sprintf(format, args...)) }
	line("kind", "%s", x.Kind)
	if x.ModelType != "" {
		line("model type", "%s", x.ModelType)
	}
	if len(x.Architectures) > 0 {
		line("architecture", "%s", strings.Join(x.Architectures, ", "))
	}
	if x.BaseModel != "" {
		line("trained from", "%s", x.BaseModel)
	}
	line("parameters", "%s in %d tensors", count(x.Parameters), x.Tensors)
	line("size", "%s in %d file(s)", bytes(x.Bytes), max(len(x.Shards), 1))
	for _, d := range sortedKeys(x.DTypes) {
		line("type "+d, "%s parameters", count(x.DTypes[d]))
	}
	for _, k := range x.Kinds {
		line(k.Kind, "%s parameters in %d tensors", count(k.Parameters), k.Tensors)
	}
	for _, t := range x.Tied {
		line("tied", "%s", strings.Join(t, " = "))
	}
	if s := x.Adapter; s != nil {
		line("modules", "%d", s.Modules)
		for r, n := range s.Ranks {
			line("rank", "%d in %d modules", r, n)
		}
		line("targets", "%s", strings.Join(sortedKeys(s.Targets), ", "))
		if len(s.Saved) > 0 {
			line("kept whole", "%s", strings.Join(s.Saved, ", "))
		}
	}
	tw.Flush()
	if x.Fused != nil {
		printFused(w, x.Fused)
	}
}

func printFused(w io.Writer, s *engine.FusedSummary) {
	fmt.Fprintf(w, "\nfused from %s (%s), ranks by %s: %d layers, router rank %d, %d expert(s) per token\n",
		s.Base, s.BaseModelType, s.Asked, s.Modules, s.RouterRank, s.TopK)
	fmt.Fprintf(w, "%s parameters: %.3f × the base; base and %d experts as they were take %s\n\n",
		count(s.Parameters.Output), s.Parameters.Ratio(), len(s.Experts), count(s.KeepingAll))
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "expert\tfrom\tkind\ttype\tranks\tenergy kept")
	for _, e := range s.Experts {
		kept := "–" // unknown
		if e.Captured > 0 {
			kept = fmt.Sprintf("%.2f %%", 100*e.Captured)
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\n", e.Name, e.Source, e.Kind, e.DType, e.Ranks, kept)
	}
	fmt.Fprintln(tw)
	fmt.Fprint(tw, "layer\tmodules\tranks")
	for _, e := range s.Experts {
		fmt.Fprintf(tw, "\t%s", e.Name)
	}
	fmt.Fprintln(tw)
	for _, l := range s.Layers {
		fmt.Fprintf(tw, "%s\t%d\t%s", l.Layer, l.Modules, l.Ranks)
		for _, c := range l.Captured {
			if c == nil {
				fmt.Fprint(tw, "\t–")
				continue
			}
			fmt.Fprintf(tw, "\t%.1f %%", 100**c)
		}
		fmt.Fprintln(tw)
	}
	tw.Flush()
	if n := len(s.Others.Changed); n > 0 {
		fmt.Fprintf(w, "\n%d tensors differ from the base but are not fused (--others %s): smelt.json lists them\n", n, s.Others.Policy)
	}
}
