package cli

import (
	"fmt"
	"io"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"smelt/analysis"
	"smelt/analysis/page"
	"smelt/engine"
)

func (a *app) analyze() *cobra.Command {
	var (
		opt engine.AnalyzeOptions
		out string
	)
	cmd := &cobra.Command{
		Use:   "analyze BASE EXPERT... -o DIR",
		Short: "See what fine-tuning changed, where experts collide, and what ranks follow",
		Long: `See what fine-tuning changed, where experts collide, and what ranks follow.

From the weights alone, in one pass: the share of each change in the singular subspaces of
the base, spectra and effective ranks, interference between experts, what the routers will
confuse, and advice on ranks, layers and budgets. DIR/index.html shows it;
DIR/analysis.json holds all figures, DIR/*.csv the tables (docs/format/analysis.md says what
each means), DIR/figures the plots as SVG, PNG and CSV.`,
		Args: needs(2, -1, "a base and at least one expert"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := needsOut(out, cmd); err != nil {
				return err
			}
			out = filepath.Clean(out)
			if err := engine.CheckAnalysis(a.fs, out); err != nil {
				return err
			}
			in, err := engine.OpenInputs(a.fs, args[0], sources(args[1:]))
			if err != nil {
				return err
			}
			defer in.Close()
			r, err := engine.Analyze(cmd.Context(), in, opt, a.workers, a.progress())
			if err != nil {
				return err
			}
			shown, err := page.Of(r).Files()
			if err != nil {
				return err
			}
			var further []analysis.File
			for _, f := range shown {
				further = append(further, analysis.File{Name: f.Path, Data: f.Data})
			}
			if err := engine.WriteAnalysis(a.fs, r, further, out); err != nil {
				return err
			}
			return a.print(r, func(w io.Writer) { printAnalysis(w, out, r) })
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&out, "output", "o", "", "directory to make")
	fl.IntVar(&opt.Rank, "rank", engine.DefaultExpertRank, "rank of experts, for what SMILE would lose")
	fl.IntVar(&opt.RouterRank, "router-rank", engine.DefaultRouterRank, "directions that are compared: the router's rank")
	fl.StringArrayVar(&opt.Exclude, "exclude", nil, "leave out layers whose name matches this pattern")
	fl.IntVar(&a.workers, "workers", 0, "threads (default all)")
	return cmd
}

func printAnalysis(w io.Writer, out string, r *analysis.Report) {
	fmt.Fprintf(w, "%s/index.html: %d experts, %d linear layers\n", out, len(r.Experts), len(r.Layers))
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "expert\tlayers\tchange\tzone I\tII\tII+III\tcross\trank 90 %\t95 %\t99 %\telsewhere")
	for _, x := range r.Experts {
		if x.Zones == nil {
			fmt.Fprintf(tw, "%s\t0\t–\t–\t–\t–\t–\t–\t–\t–\t%s\n", x.Name, percent(elsewhere(x)))
			continue
		}
		fmt.Fprintf(tw, "%s\t%d\t%s\t%s\t%s\t%s\t%s\t%.0f\t%.0f\t%.0f\t%s\n", x.Name, x.Touched, percent(x.Relative),
			percent(analysis.Figure(x.Zones.I)), percent(analysis.Figure(x.Zones.II)), percent(analysis.Figure(x.Zones.IIIII)), percent(analysis.Figure(x.Zones.Cross)),
			float64(x.Rank90), float64(x.Rank95), float64(x.Rank99), percent(elsewhere(x)))
	}
	tw.Flush()
	if len(r.Pairs) > 0 {
		worst := r.Pairs[0]
		for _, p := range r.Pairs[1:] {
			if p.RightOverlap.Known() && !(p.RightOverlap <= worst.RightOverlap) {
				worst = p
			}
		}
		if worst.RightOverlap.Known() {
			fmt.Fprintf(w, "closest: %s and %s: cosine %.3f, the routers' subspaces overlap by %s (by chance %s)\n",
				r.Experts[worst.A].Name, r.Experts[worst.B].Name, float64(worst.Cosine), percent(worst.RightOverlap), percent(worst.RightBaseline))
		}
	}
	for _, s := range r.Notes {
		fmt.Fprintf(w, "note: %s\n", s)
	}
	for _, s := range r.Advice.Say {
		fmt.Fprintf(w, "advice: %s\n", s)
	}
}

// elsewhere is the share of an expert's change outside linear layers' weights.
func elsewhere(x analysis.Expert) analysis.Figure {
	if x.Energy+x.Others == 0 {
		return analysis.None
	}
	return analysis.Figure(x.Others / (x.Energy + x.Others))
}

func percent(f analysis.Figure) string {
	if !f.Known() {
		return "–"
	}
	return fmt.Sprintf("%.1f %%", 100*float64(f))
}
