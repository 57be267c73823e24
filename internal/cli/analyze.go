package cli

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime/debug"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"smelt/analysis"
	"smelt/analysis/page"
	"smelt/engine"
	"smelt/eval"
)

func (a *app) analyze() *cobra.Command {
	var (
		opt   engine.AnalyzeOptions
		out   string
		tasks string
		limit int
	)
	cmd := &cobra.Command{
		Use:   "analyze BASE EXPERT... -o DIR [--tasks FILE]",
		Short: "See what fine-tuning changed, where experts collide, and what ranks follow",
		Long: `See what fine-tuning changed, where experts collide, and what ranks follow.

From the weights alone, in one pass: the share of each change in the singular subspaces of
the base, spectra and effective ranks, interference between experts, which experts routers
take for one another, and advice on ranks, layers and budgets. How often routers go wrong
takes data: --tasks. DIR/index.html shows it; DIR/analysis.json holds all figures, DIR/*.csv
the tables (docs/format/analysis.md says what each means), DIR/figures the plots as SVG, PNG
and CSV.`,
		Args: needs(2, -1, "a base and at least one expert"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if err := needsOut(out, cmd); err != nil {
				return err
			}
			out = filepath.Clean(out)
			output, err := engine.OpenAnalysis(a.fs, out)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, output.Close()) }()
			var file *eval.File
			if tasks != "" {
				if file, err = eval.Load(a.fs, tasks); err != nil {
					return err
				}
			}
			experts := sources(args[1:])
			in, err := engine.OpenInputs(a.fs, args[0], experts)
			if err != nil {
				return err
			}
			defer in.Close()
			debug.SetGCPercent(25) // large matrices without pointers: collecting them early costs next to nothing
			r, err := engine.Analyze(cmd.Context(), in, opt, a.workers, a.progress())
			if err != nil {
				return err
			}
			if file != nil {
				data := engine.TaskOptions{File: file, Base: args[0], Experts: experts, Limit: limit, Scratch: output.Scratch()}
				if err := engine.AnalyzeTasks(cmd.Context(), in, r, data, a.workers, a.steps("tasks")); err != nil {
					return err
				}
			}
			shown, err := page.Of(r).Files()
			if err != nil {
				return err
			}
			var further []analysis.File
			for _, f := range shown {
				further = append(further, analysis.File{Name: f.Path, Data: f.Data})
			}
			if err := output.Write(r, further); err != nil {
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
	fl.StringVar(&tasks, "tasks", "", "task file: adds what takes data")
	fl.IntVar(&limit, "limit", 0, "examples of a task (default all)")
	fl.IntVar(&a.workers, "workers", 0, "threads (default all)")
	return cmd
}

// steps tells of work in a few long steps, once it takes long.
func (a *app) steps(what string) engine.Progress {
	var total, done int64
	start := time.Now()
	return engine.Progress{
		Start: func(_ string, n int64) { total = n },
		Add: func(n int64) {
			if done += n; time.Since(start) > quiet {
				fmt.Fprintf(a.err, "%s: %d of %d steps, %s\n", what, done, total, eta(done, total, start))
			}
		},
	}
}

func printAnalysis(w io.Writer, out string, r *analysis.Report) {
	experts := fmt.Sprintf("%d experts", len(r.Experts))
	if len(r.Experts) == 1 {
		experts = "1 expert"
	}
	fmt.Fprintf(w, "%s/index.html: %s, %d linear layers\n", out, experts, len(r.Layers))
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
	if r.Tasks != nil {
		printTasks(w, r)
	}
	for _, s := range r.Notes {
		fmt.Fprintf(w, "note: %s\n", s)
	}
	for _, s := range r.Advice.Say {
		fmt.Fprintf(w, "advice: %s\n", s)
	}
}

// printTasks writes the accuracy by zone, and the share of tokens that were
// routed right.
func printTasks(w io.Writer, r *analysis.Report) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "task\texpert\tbase\texpert\tzone I\tII\tII+III")
	for _, z := range r.Tasks.Zones {
		show := func(f analysis.Figure) string { return eval.Format(float64(f), z.Metric) }
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", z.Task, r.Experts[z.Expert].Name, show(z.Base), show(z.Full), show(z.I), show(z.II), show(z.IIIII))
	}
	tw.Flush()
	right := 0.0
	for _, m := range r.Tasks.Routing {
		right += m.Right
	}
	if n := len(r.Tasks.Routing); n > 0 && len(r.Experts) > 1 {
		fmt.Fprintf(w, "routers give %.1f %% of the tokens to the right expert (by chance %.1f %%)\n", 100*right/float64(n), 100/float64(len(r.Experts)))
		if a := r.Tasks.Agreement; a != nil && a.Astray.Known() {
			fmt.Fprintf(w, "who is taken for whom: rank correlation %.2f with the order that the weights gave\n", float64(a.Astray))
		}
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
