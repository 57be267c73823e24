package cli

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"smelt/engine"
	"smelt/internal/kernel"
	"smelt/nn"
)

// model opens a checkpoint to run it.
func (a *app) model(dir string) (*engine.Model, *nn.Pass, error) {
	if err := kernel.ChoiceError(); err != nil {
		a.warn([]string{err.Error()})
	}
	m, err := engine.OpenModel(a.fs, dir)
	return m, &nn.Pass{Workers: a.workers}, err
}

func (a *app) classify() *cobra.Command {
	var (
		images, labels, templates []string
		file                      string
		routing                   bool
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
					return err
				}
				labels = append(labels, lines...)
			}
			if len(images) == 0 || len(labels) < 2 {
				return fmt.Errorf("classify wants at least one --image and two labels, got %d and %d", len(images), len(labels))
			}
			m, pass, err := a.model(args[0])
			if err != nil {
				return err
			}
			defer m.Close()
			out := struct {
				Images  []engine.Classified `json:"images"`
				Routing *engine.Routes      `json:"routing,omitempty"`
			}{}
			if routing {
				out.Routing = m.Watch(pass)
			}
			if out.Images, err = m.Classify(pass, images, labels, templates); err != nil {
				return err
			}
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
	fl.IntVar(&a.workers, "workers", 0, "threads (default all)")
	return cmd
}

func (a *app) embed() *cobra.Command {
	var texts, images []string
	cmd := &cobra.Command{
		Use:   "embed MODEL --text T... | --image FILE...",
		Short: "Print the embeddings of texts or images, one a line",
		Args:  needs(1, 1, "one model"),
		RunE: func(_ *cobra.Command, args []string) error {
			if (len(texts) == 0) == (len(images) == 0) {
				return fmt.Errorf("embed wants --text or --image, one of them")
			}
			m, pass, err := a.model(args[0])
			if err != nil {
				return err
			}
			defer m.Close()
			x, err := m.Embed(pass, texts, images)
			if err != nil {
				return err
			}
			rows := make([][]float32, x.Rows)
			for i := range rows {
				rows[i] = x.Row(i)
			}
			return a.print(rows, func(w io.Writer) {
				for _, row := range rows {
					fmt.Fprintln(w, strings.Trim(fmt.Sprint(row), "[]"))
				}
			})
		},
	}
	cmd.Flags().StringArrayVar(&texts, "text", nil, "text to embed")
	cmd.Flags().StringArrayVar(&images, "image", nil, "image to embed")
	cmd.Flags().IntVar(&a.workers, "workers", 0, "threads (default all)")
	return cmd
}

func (a *app) generate() *cobra.Command {
	var (
		prompt  engine.Prompt
		max     int
		temp    float32
		topK    int
		topP    float32
		minP    float32
		penalty float32
		seed    uint64
		stops   []string
		greedy  bool
		routing bool
	)
	cmd := &cobra.Command{
		Use:   "generate MODEL --prompt TEXT",
		Short: "Continue a text with a language model",
		Long: `Continue a text with a language model of the Llama family or T5, dense or fused.

What is not given comes from the checkpoint's generation_config.json. The prompt - reads standard
input.`,
		Example: `  smelt generate fused --prompt 'The capital of France is' --max-tokens 20
  smelt generate fused --chat --prompt 'Solve 3x = 12.' --temperature 0.7 --seed 1`,
		Args: needs(1, 1, "one model"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if prompt.Text == "-" {
				text, err := io.ReadAll(io.LimitReader(os.Stdin, 64<<20))
				if err != nil {
					return err
				}
				prompt.Text = string(text)
			}
			m, pass, err := a.model(args[0])
			if err != nil {
				return err
			}
			defer m.Close()
			o, err := m.GenerationOptions()
			if err != nil {
				return err
			}
			given := cmd.Flags().Changed
			for name, set := range map[string]func(){
				"max-tokens":         func() { o.MaxNewTokens = max },
				"temperature":        func() { o.Temperature, o.Sample = temp, temp > 0 },
				"top-k":              func() { o.TopK, o.Sample = topK, true },
				"top-p":              func() { o.TopP, o.Sample = topP, true },
				"min-p":              func() { o.MinP, o.Sample = minP, true },
				"repetition-penalty": func() { o.RepetitionPenalty = penalty },
				"seed":               func() { o.Seed = seed },
				"stop":               func() { o.Stop = stops },
			} {
				if given(name) {
					set()
				}
			}
			if greedy {
				o.Sample = false
			}
			var routes *engine.Routes
			if routing {
				routes = m.Watch(pass)
			}
			emit := func(piece string) error {
				_, err := io.WriteString(a.out, piece)
				return err
			}
			if a.json {
				emit = nil
			}
			res, err := m.Generate(cmd.Context(), pass, prompt, o, emit)
			if err != nil {
				return err
			}
			out := struct {
				Text    string         `json:"text"`
				Tokens  []int          `json:"tokens"`
				Reason  string         `json:"reason"`
				Routing *engine.Routes `json:"routing,omitempty"`
			}{res.Text, res.IDs, string(res.Reason), routes}
			return a.print(out, func(w io.Writer) {
				fmt.Fprintln(w)
				printRoutes(w, routes)
			})
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&prompt.Text, "prompt", "", "text to continue; - reads standard input")
	fl.BoolVar(&prompt.Chat, "chat", false, "put the prompt into the model's chat template")
	fl.StringVar(&prompt.System, "system", "", "the system's turn of a chat")
	fl.IntVar(&max, "max-tokens", 0, "most tokens to generate (default as many as fit)")
	fl.Float32Var(&temp, "temperature", 0, "sample with this temperature; 0 takes the most likely token")
	fl.IntVar(&topK, "top-k", 0, "sample among the k most likely")
	fl.Float32Var(&topP, "top-p", 0, "sample among the most likely that make up p")
	fl.Float32Var(&minP, "min-p", 0, "sample among those of at least p times the best")
	fl.Float32Var(&penalty, "repetition-penalty", 1, "make tokens that appeared less likely")
	fl.Uint64Var(&seed, "seed", 0, "the same seed gives the same text")
	fl.StringArrayVar(&stops, "stop", nil, "text that ends the generation")
	fl.BoolVar(&greedy, "greedy", false, "take the most likely token whatever the checkpoint says")
	fl.BoolVar(&routing, "show-routing", false, "print which experts the tokens took in each layer")
	fl.IntVar(&a.workers, "workers", 0, "threads (default all)")
	return cmd
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

// readLines reads a file of one label a line.
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
