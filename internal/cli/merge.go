package cli

import (
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"smelt/engine"
	"smelt/merge"
)

func (a *app) merge() *cobra.Command {
	var (
		opt     engine.MergeOptions
		weights []string
		out     string
		list    bool
		shard   size = engine.DefaultMaxShardSize
	)
	fields := map[string]*float64{}
	cmd := &cobra.Command{
		Use:   "merge METHOD BASE EXPERT... -o OUT",
		Short: "Merge a base's fine-tunes into one plain checkpoint",
		Long: `Merge a base's fine-tunes into one plain checkpoint of the base's architecture and size.

EXPERT is a checkpoint fine-tuned from BASE, or a PEFT LoRA adapter, as path or name=path.
The order of the experts matters for slerp only, which goes from the first to the second.
All floating-point tensors are merged; values are computed in float64 and rounded once.

smelt merge --list shows the methods and what each takes. A merge costs nothing when the
model runs, but the experts disturb each other: smelt fuse keeps them apart.`,
		Example: `  smelt merge simple_average base a b c -o merged
  smelt merge ties base a b c -o merged --density 0.2 --scaling-factor 1
  smelt merge weighted_average base a b -o merged --weight a=0.7 --weight b=0.3
  smelt merge slerp base a b -o merged --t 0.3`,
		Args: func(cmd *cobra.Command, args []string) error {
			if list {
				return needs(0, 0, "nothing beside --list")(cmd, args)
			}
			return needs(3, -1, "a method, a base and at least one expert")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if list {
				return a.print(mergeMethods(), printMethods)
			}
			if err := needsOut(out, cmd); err != nil {
				return err
			}
			m, err := merge.Find(args[0])
			if err != nil {
				return usageError{fmt.Errorf("%w: smelt merge --list tells what they do", err)}
			}
			experts := sources(args[2:])
			if opt.Settings, err = settings(cmd, m, fields, weights); err != nil {
				return usageError{err}
			}
			if m.Experts == 2 {
				opt.From = experts[0].Name
			}
			opt.Method, opt.MaxShardSize = m.Name, int64(shard)
			in, err := engine.OpenInputs(a.fs, args[1], experts)
			if err != nil {
				return err
			}
			defer in.Close()
			plan, err := engine.NewMergePlan(in, opt)
			if err != nil {
				return err
			}
			for _, n := range plan.Notes {
				fmt.Fprintf(a.err, "note: %s\n", n)
			}
			res, err := engine.Merge(cmd.Context(), in, plan, filepath.Clean(out), a.workers, a.progress())
			if err != nil {
				return err
			}
			a.warn(res.Warnings)
			return a.print(mergedJSON{res.Out, m.Name, res.Parameters, res.Bytes, res.Warnings, res.Resumed, res.Timing}, func(w io.Writer) {
				fmt.Fprintf(w, "%s: %s of %d experts, %s parameters, %s, %s\n",
					res.Out, m.Title, len(experts), count(res.Parameters.Output), bytes(res.Bytes), seconds(res.Timing.Total))
			})
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&out, "output", "o", "", "directory to make")
	for _, m := range merge.Methods() {
		for _, f := range m.Fields {
			if fields[f.Name] == nil {
				fields[f.Name] = fl.Float64(flagOf(f.Name), 0, f.About+" (default: see --list)")
			}
		}
	}
	fl.StringArrayVar(&weights, "weight", nil, "weight of one expert, name=0.3; may be given for each")
	fl.StringVar(&opt.DType, "dtype", "", "type of the output's weights: F32, F16, BF16, F64 (default the base's)")
	fl.Var(&shard, "max-shard-size", "largest shard of the output")
	fl.BoolVar(&list, "list", false, "list the methods and what they take")
	fl.IntVar(&a.workers, "workers", 0, "threads (default all)")
	return cmd
}

// mergedJSON is the result of a merge as --json prints it.
type mergedJSON struct {
	Out        string            `json:"out"`
	Method     string            `json:"method"`
	Parameters engine.Parameters `json:"parameters"`
	Bytes      int64             `json:"bytes"`
	Warnings   []string          `json:"warnings,omitempty"`
	Resumed    int               `json:"resumed"` // tensors found done
	Timing     engine.Timing     `json:"timing"`
}

func flagOf(field string) string { return strings.ReplaceAll(field, "_", "-") }

// settings collects the fields and weights that were given, which must be the
// method's.
func settings(cmd *cobra.Command, m *merge.Method, fields map[string]*float64, weights []string) (merge.Settings, error) {
	s := merge.Settings{Values: map[string]float64{}, Weights: map[string]float64{}}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if !cmd.Flags().Changed(flagOf(name)) {
			continue
		}
		if !slices.ContainsFunc(m.Fields, func(f merge.Field) bool { return f.Name == name }) {
			return s, fmt.Errorf("%s takes no --%s: smelt merge --list tells what it takes", m.Name, flagOf(name))
		}
		s.Values[name] = *fields[name]
	}
	for _, w := range weights {
		i := strings.LastIndexByte(w, '=')
		if i < 0 {
			return s, fmt.Errorf("--weight is %q, want name=weight, such as math=0.3", w)
		}
		v, err := strconv.ParseFloat(w[i+1:], 64)
		if err != nil {
			return s, fmt.Errorf("--weight %s: %q is no number", w[:i], w[i+1:])
		}
		if _, twice := s.Weights[w[:i]]; twice {
			return s, fmt.Errorf("--weight %s is given twice", w[:i])
		}
		s.Weights[w[:i]] = v
	}
	return s, nil
}

// methodJSON is a method as --list --json prints it.
type methodJSON struct {
	Name    string      `json:"name"`
	Title   string      `json:"title"`
	Paper   string      `json:"paper"`
	About   string      `json:"about"`
	Weights string      `json:"weights"`
	Fields  []fieldJSON `json:"fields"`
}

type fieldJSON struct {
	Flag    string  `json:"flag"`
	About   string  `json:"about"`
	Default float64 `json:"default"`
	Range   string  `json:"range"`
}

func mergeMethods() []methodJSON {
	var list []methodJSON
	for _, m := range merge.Methods() {
		x := methodJSON{Name: m.Name, Title: m.Title, Paper: m.Paper, About: m.About, Weights: m.Weights.String(), Fields: []fieldJSON{}}
		for _, f := range m.Fields {
			x.Fields = append(x.Fields, fieldJSON{"--" + flagOf(f.Name), f.About, f.Default, f.Range()})
		}
		list = append(list, x)
	}
	return list
}

func printMethods(w io.Writer) {
	for _, m := range mergeMethods() {
		fmt.Fprintf(w, "%s  %s: %s\n  %s\n", m.Name, m.Title, m.About, m.Paper)
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, f := range m.Fields {
			fmt.Fprintf(tw, "  %s %g\t%s; %s\n", f.Flag, f.Default, f.About, f.Range)
		}
		if m.Weights != "none" {
			fmt.Fprintf(tw, "  --weight NAME=W\tweight of an expert; %s\n", m.Weights)
		}
		tw.Flush()
		fmt.Fprintln(w)
	}
}
