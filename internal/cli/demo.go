package cli

import (
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"smelt/demo"
)

func (a *app) demo() *cobra.Command {
	opt := demo.Options{}
	cmd := &cobra.Command{
		Use:   "demo [-o DIR]",
		Short: "Fuse, merge and evaluate the bundled vision pool, and show it on a page",
		Long: `Fuse, merge and evaluate the bundled vision pool, and show it on a page.

The pool is a small CLIP with fine-tunes and LoRA adapters for eight tasks. In under a minute
the demo makes one model of them in several ways, measures each on every task, under
corruptions and on a task that none was trained for, and writes index.html and results.json.
Nothing is downloaded. It is run in the repository's root, or told where the pool is.`,
		Args: needs(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			opt.Out, opt.Pool, opt.Workers = filepath.Clean(opt.Out), filepath.Clean(opt.Pool), a.workers
			if opt.Limit < 0 {
				return fmt.Errorf("--limit %d: want at least 1", opt.Limit)
			}
			t := &table{w: a.out, live: terminal(a.out)}
			w := demo.Watcher{Row: t.row, Cell: t.cell, Step: func(line string) { fmt.Fprintln(a.out, line) }, Making: a.progress(), Measured: a.examples()}
			if a.json {
				t.w = io.Discard
				w.Step = nil
			}
			res, err := demo.Run(cmd.Context(), a.fs, opt, w)
			t.end()
			if err != nil {
				return err
			}
			return a.print(res, func(w io.Writer) { printDemo(w, opt, res) })
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&opt.Out, "output", "o", "smelt-demo", "folder to make; that of an earlier demo is replaced")
	fl.StringVar(&opt.Pool, "pool", filepath.Join("examples", "pools", "vision"), "folder of the vision pool")
	fl.IntVar(&opt.Limit, "limit", 0, "use the first so many test pictures of each task")
	fl.IntVar(&a.workers, "workers", 0, "threads (default all)")
	return cmd
}

func printDemo(w io.Writer, opt demo.Options, res *demo.Result) {
	fmt.Fprintf(w, "\n%s\n\nIn %.0f seconds:\n", demo.Verdict(res), res.Seconds)
	fmt.Fprintf(w, "  %s  the table, sizes, sample pictures, routing: open it in a browser\n", res.Page)
	fmt.Fprintf(w, "  %s  all numbers\n", filepath.Join(opt.Out, "results.json"))
	fmt.Fprintf(w, "  %s  what was made; it loads in transformers too\n\nNext:\n", filepath.Join(opt.Out, "models"))
	for _, line := range demo.Next(opt.Pool, opt.Out) {
		fmt.Fprintln(w, "  "+line)
	}
}
