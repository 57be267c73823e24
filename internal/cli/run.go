package cli

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"runtime/metrics"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"smelt/engine"
	"smelt/internal/kernel"
	"smelt/nn"
)

// runs holds the options of all commands that run a model.
type runs struct{ exact bool }

func (r *runs) flags(a *app, cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.BoolVar(&r.exact, "exact", false, "do not round the inputs of products with bf16 weights: slower where the CPU has instructions for it")
	fl.IntVar(&a.workers, "workers", 0, "threads (default all)")
}

// model opens a checkpoint to run it.
func (r *runs) model(a *app, dir string) (*engine.Model, *nn.Pass, error) {
	if err := kernel.ChoiceError(); err != nil {
		a.warn([]string{err.Error()})
	}
	m, err := engine.OpenModel(a.fs, dir)
	return m, &nn.Pass{Workers: a.workers, Exact: r.exact}, err
}

// memory is what a run took. Weights are the mapped files, in their stored
// type; the program's own memory holds all else: activations, caches, tables.
type memory struct {
	Weights int64  `json:"weights_mapped"`
	DType   string `json:"dtype"`
	Own     int64  `json:"own"`
}

func memoryOf(m *engine.Model) memory {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/free:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}}
	metrics.Read(sample)
	var own uint64
	for _, s := range sample {
		own += s.Value.Uint64()
	}
	return memory{Weights: m.Bytes(), DType: m.DType().String(), Own: int64(own)}
}

// report prints the memory to standard error.
func (m memory) report(a *app) {
	fmt.Fprintf(a.err, "memory: weights %s mapped (%s), %s beside them\n", bytes(m.Weights), m.DType, bytes(m.Own))
}

func (a *app) classify() *cobra.Command {
	var (
		images, labels, templates []string
		file                      string
		routing                   bool
		r                         runs
	)
	cmd := &cobra.Command{
		Use:   "classify MODEL --image FILE... --labels A,B,C",
		Short: "Classify images with a CLIP model, zero-shot",
		Long: `Classify images with a CLIP model, dense or fused, zero-shot.

Each label is put into every template at {}; the mean of the text embeddings is the label's.`,
		Example: `  smelt classify fused --image cat.jpg --labels cat,dog,horse
  smelt classify fused --image sign.png --labels-file signs.txt --template 'a photo of a {} traffic sign' --show-routing`,
		Args: needs(1, 1, "one model"),
		RunE: func(_ *cobra.Command, args []string) error {
			if file != "" {
				lines, err := readLines(file)
				if err != nil {
					return fmt.Errorf("labels file: %w", err)
				}
				labels = append(labels, lines...)
			}
			if len(images) == 0 || len(labels) < 2 {
				return fmt.Errorf("classify wants at least one --image and two labels, got %d and %d", len(images), len(labels))
			}
			m, pass, err := r.model(a, args[0])
			if err != nil {
				return err
			}
			defer m.Close()
			out := struct {
				Images  []engine.Classified `json:"images"`
				Routing *engine.Routes      `json:"routing,omitempty"`
				Memory  memory              `json:"memory"`
			}{}
			if routing {
				if out.Routing, err = watch(m, pass); err != nil {
					return err
				}
			}
			if out.Images, err = m.Classify(pass, images, labels, templates, a.progress()); err != nil {
				return err
			}
			out.Memory = memoryOf(m)
			out.Memory.report(a)
			return a.print(out, func(w io.Writer) {
				tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
				for _, c := range out.Images {
					fmt.Fprint(tw, c.Image)
					for _, l := range c.Labels[:min(3, len(c.Labels))] {
						fmt.Fprintf(tw, "\t%s\t%.1f %%", l.Label, 100*l.Probability)
					}
					fmt.Fprintln(tw)
				}
				tw.Flush()
				printRoutes(w, out.Routing)
			})
		},
	}
	fl := cmd.Flags()
	fl.StringArrayVar(&images, "image", nil, "image to classify: PNG, JPEG, GIF, WebP or BMP")
	fl.StringSliceVar(&labels, "labels", nil, "labels, separated by commas")
	fl.StringVar(&file, "labels-file", "", "file with a label a line")
	fl.StringArrayVar(&templates, "template", []string{"a photo of a {}"}, "text around a label")
	fl.BoolVar(&routing, "show-routing", false, "print which experts the tokens took in each layer")
	r.flags(a, cmd)
	return cmd
}

func (a *app) embed() *cobra.Command {
	var (
		texts, images []string
		r             runs
	)
	cmd := &cobra.Command{
		Use:   "embed MODEL --text T... | --image FILE...",
		Short: "Print the embeddings of texts or images, one a line",
		Args:  needs(1, 1, "one model"),
		RunE: func(_ *cobra.Command, args []string) error {
			if (len(texts) == 0) == (len(images) == 0) {
				return fmt.Errorf("embed wants --text or --image, one of them")
			}
			m, pass, err := r.model(a, args[0])
			if err != nil {
				return err
			}
			defer m.Close()
			x, err := m.Embed(pass, texts, images, a.progress())
			if err != nil {
				return err
			}
			mem := memoryOf(m)
			mem.report(a)
			rows := make([][]float32, x.Rows)
			for i := range rows {
				rows[i] = x.Row(i)
			}
			out := struct {
				Embeddings [][]float32 `json:"embeddings"`
				Memory     memory      `json:"memory"`
			}{rows, mem}
			return a.print(out, func(w io.Writer) {
				for _, row := range rows {
					fmt.Fprintln(w, strings.Trim(fmt.Sprint(row), "[]"))
				}
			})
		},
	}
	cmd.Flags().StringArrayVar(&texts, "text", nil, "text to embed")
	cmd.Flags().StringArrayVar(&images, "image", nil, "image to embed")
	r.flags(a, cmd)
	return cmd
}

// watch makes the passes of p count the experts' tokens.
func watch(m *engine.Model, p *nn.Pass) (*engine.Routes, error) {
	routes := m.Watch(p)
	if routes == nil {
		return nil, fmt.Errorf("--show-routing: %s is a dense model: it has no experts to choose from", m.Dir())
	}
	return routes, nil
}

// printRoutes writes a table: tokens per expert, module by module.
func printRoutes(w io.Writer, r *engine.Routes) {
	if r == nil {
		return
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(tw, "\nmodule\t%s\n", strings.Join(r.Experts, "\t"))
	for _, m := range r.Modules {
		fmt.Fprint(tw, m.Module)
		for _, n := range m.Counts {
			fmt.Fprintf(tw, "\t%d", n)
		}
		fmt.Fprintln(tw)
	}
	tw.Flush()
}

// readLines reads the lines of a file that are not blank.
func readLines(name string) ([]string, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var lines []string
	s := bufio.NewScanner(io.LimitReader(f, 16<<20))
	for s.Scan() {
		if line := strings.TrimSpace(s.Text()); line != "" {
			lines = append(lines, line)
		}
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return lines, nil
}
