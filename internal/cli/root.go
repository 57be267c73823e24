// Package cli is smelt's command line: one file a subcommand. It parses,
// prints and exits; what is done is done in package engine.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"smelt/engine"
	"smelt/internal/vfs"
)

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2 // the command line cannot be parsed
)

// usageError is a command line that cannot be parsed.
type usageError struct{ error }

// app is what subcommands share.
type app struct {
	fs      vfs.FS
	out     io.Writer
	err     io.Writer
	json    bool
	workers int
}

// Main runs smelt with the given arguments and returns its exit code.
func Main(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a := &app{fs: vfs.OS, out: stdout, err: stderr}
	root := a.root()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	var usage usageError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "smelt: %v\n", err)
		return exitUsage
	}
	fmt.Fprintf(stderr, "smelt: %v\n", err)
	return exitFailed
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "smelt",
		Short: "Fuse fine-tuned models into one, without retraining",
		Long: `smelt fuses fine-tuned models into one, without retraining.

You give it a base checkpoint and any number of checkpoints or LoRA adapters that
were fine-tuned from it; it gives back one checkpoint that does all their tasks.`,
		Version:       engine.Version,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("unknown command %q: smelt --help lists them", args[0])}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetVersionTemplate("smelt {{.Version}}\n")
	root.CompletionOptions.HiddenDefaultCmd = true
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print the result as JSON")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w: %s --help lists the options", err, cmd.CommandPath())}
	})
	root.AddCommand(a.fuse(), a.survey(), a.join(), a.merge(), a.demo(), a.inspect(), a.verify(), a.edit(), a.convert(), a.extractLoRA(), a.adapterInit(), a.analyze(), a.classify(), a.generate(), a.embed(), a.eval())
	return root
}

// needs checks the number of arguments, at least lo and at most hi (-1: any).
func needs(lo, hi int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < lo || hi >= 0 && len(args) > hi {
			return usageError{fmt.Errorf("%s wants %s, got %d arguments: %s", cmd.CommandPath(), what, len(args), cmd.UseLine())}
		}
		return nil
	}
}

// needsOut checks that -o is there.
func needsOut(out string, cmd *cobra.Command) error {
	if out == "" {
		return usageError{fmt.Errorf("%s wants an output: -o OUT", cmd.CommandPath())}
	}
	return nil
}

// oneOf checks that at most one of the options is given.
func oneOf(cmd *cobra.Command, names ...string) error {
	var given []string
	for _, name := range names {
		if cmd.Flags().Changed(name) {
			given = append(given, "--"+name)
		}
	}
	if len(given) > 1 {
		return usageError{fmt.Errorf("%s exclude one another: give one", strings.Join(given, " and "))}
	}
	return nil
}

// sources parses EXPERT arguments: path, or name=path.
func sources(args []string) []engine.Source {
	var list []engine.Source
	for _, arg := range args {
		name, path, named := strings.Cut(arg, "=")
		if !named {
			path = arg
			abs, err := filepath.Abs(arg)
			if err != nil {
				abs = arg
			}
			name = filepath.Base(abs)
		}
		list = append(list, engine.Source{Name: name, Path: path})
	}
	return list
}

// print writes a result: as JSON where it was asked for, otherwise as text.
func (a *app) print(v any, text func(io.Writer)) error {
	if !a.json {
		text(a.out)
		return nil
	}
	enc := json.NewEncoder(a.out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// warn prints warnings to standard error.
func (a *app) warn(lines []string) {
	for _, line := range lines {
		fmt.Fprintf(a.err, "warning: %s\n", line)
	}
}
