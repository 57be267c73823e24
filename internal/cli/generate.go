package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"smelt/engine"
	"smelt/generate"
)

// sampling holds the options that say how tokens are chosen.
type sampling struct {
	max     int
	temp    float32
	topK    int
	topP    float32
	minP    float32
	penalty float32
	seed    uint64
	stops   []string
	greedy  bool
}

// over puts what was given on the command line over the checkpoint's options.
func (s *sampling) over(o generate.Options, given func(flag string) bool) generate.Options {
	for name, set := range map[string]func(){
		"max-tokens":         func() { o.MaxNewTokens = s.max },
		"temperature":        func() { o.Temperature, o.Sample = s.temp, s.temp > 0 },
		"top-k":              func() { o.TopK = s.topK },
		"top-p":              func() { o.TopP = s.topP },
		"min-p":              func() { o.MinP = s.minP },
		"repetition-penalty": func() { o.RepetitionPenalty = s.penalty },
		"seed":               func() { o.Seed = s.seed },
		"stop":               func() { o.Stop = s.stops },
	} {
		if given(name) {
			set()
		}
	}
	if !given("temperature") && (given("top-k") || given("top-p") || given("min-p")) {
		o.Sample = true
	}
	if s.greedy {
		o.Sample = false
	}
	return o
}

// generated is one prompt and what follows it.
type generated struct {
	Prompt string `json:"prompt"`
	Text   string `json:"text"`
	Tokens []int  `json:"tokens"`
	Reason string `json:"reason"`
}

func (a *app) generate() *cobra.Command {
	var (
		prompts []string
		file    string
		turn    engine.Prompt
		s       sampling
		width   int
		routing bool
		r       runs
	)
	cmd := &cobra.Command{
		Use:   "generate MODEL --prompt TEXT...",
		Short: "Continue a text with a language model",
		Long: `Continue a text with a language model of the Llama family or T5, dense or fused.

What is not given comes from the checkpoint's generation_config.json. The text is printed as it
comes. Several prompts are continued side by side, which takes little longer than one; they are
printed in their order, each before its text.`,
		Example: `  smelt generate fused --prompt 'The capital of France is' --max-tokens 20
  smelt generate fused --chat --prompt 'Solve 3x = 12.' --temperature 0.7 --seed 1
  smelt generate fused --prompts-file questions.txt --stop '\n' --json`,
		Args: needs(1, 1, "one model"),
		RunE: func(cmd *cobra.Command, args []string) error {
			prompts, err := allPrompts(prompts, file)
			if err != nil {
				return err
			}
			if width < 1 || width > engine.MaxTogether {
				return fmt.Errorf("--batch is %d, want 1 to %d", width, engine.MaxTogether)
			}
			m, pass, err := r.model(a, args[0])
			if err != nil {
				return err
			}
			defer m.Close()
			o, err := m.GenerationOptions()
			if err != nil {
				return err
			}
			o = s.over(o, cmd.Flags().Changed)
			out := struct {
				Texts   []generated    `json:"texts"`
				Routing *engine.Routes `json:"routing,omitempty"`
				Memory  memory         `json:"memory"`
			}{}
			if routing {
				width = 1 // tokens are listed in their order
				if out.Routing, err = watch(m, pass); err != nil {
					return err
				}
			}
			turns := make([]engine.Prompt, len(prompts))
			for i, text := range prompts {
				turns[i] = turn
				turns[i].Text = text
			}
			var emit func(i int, piece string, last bool) error
			if !a.json {
				t, err := newTexts(a.out, prompts)
				if err != nil {
					return err
				}
				defer t.close()
				emit = t.emit
			}
			results, err := m.Generate(cmd.Context(), pass, turns, width, o, emit)
			if err != nil {
				return err
			}
			for i, res := range results {
				out.Texts = append(out.Texts, generated{prompts[i], res.Text, res.IDs, string(res.Reason)})
			}
			out.Memory = memoryOf(m)
			out.Memory.report(a)
			return a.print(out, func(w io.Writer) { printRoutes(w, out.Routing) })
		},
	}
	fl := cmd.Flags()
	fl.StringArrayVar(&prompts, "prompt", nil, "text to continue, any number of them; - reads standard input")
	fl.StringVar(&file, "prompts-file", "", "file with a prompt a line")
	fl.BoolVar(&turn.Chat, "chat", false, "put the prompt into the model's chat template")
	fl.StringVar(&turn.System, "system", "", "the system's turn of a chat")
	fl.IntVar(&s.max, "max-tokens", 0, "most tokens to generate (default as many as fit)")
	fl.Float32Var(&s.temp, "temperature", 0, "sample with this temperature; 0 takes the most likely token")
	fl.IntVar(&s.topK, "top-k", 0, "sample among the k most likely")
	fl.Float32Var(&s.topP, "top-p", 0, "sample among the most likely that make up p")
	fl.Float32Var(&s.minP, "min-p", 0, "sample among those of at least p times the best")
	fl.Float32Var(&s.penalty, "repetition-penalty", 1, "make tokens that appeared less likely")
	fl.Uint64Var(&s.seed, "seed", 0, "the same seed gives the same text")
	fl.StringArrayVar(&s.stops, "stop", nil, "text that ends the generation, any number of them")
	fl.BoolVar(&s.greedy, "greedy", false, "take the most likely token whatever the checkpoint says")
	fl.IntVar(&width, "batch", 8, fmt.Sprintf("most prompts to continue side by side, up to %d", engine.MaxTogether))
	fl.BoolVar(&routing, "show-routing", false, "print which experts the tokens took in each layer, one prompt after the other")
	r.flags(a, cmd)
	return cmd
}

// maxPrompt bounds what is read from standard input.
const maxPrompt = 64 << 20

// allPrompts returns the prompts of the command line and of a file.
func allPrompts(prompts []string, file string) ([]string, error) {
	all := make([]string, 0, len(prompts))
	for _, text := range prompts {
		if text == "-" {
			input, err := io.ReadAll(io.LimitReader(os.Stdin, maxPrompt))
			if err != nil {
				return nil, err
			}
			text = strings.TrimSuffix(string(input), "\n") // of echo, or of a file's last line
		}
		all = append(all, text)
	}
	if file != "" {
		lines, err := readLines(file)
		if err != nil {
			return nil, err
		}
		all = append(all, lines...)
	}
	if len(all) == 0 {
		return nil, errors.New("generate wants a prompt: give --prompt or --prompts-file")
	}
	return all, nil
}

// texts prints texts that come side by side one after the other: that of the
// first prompt as it comes, of the others what has come when it is their turn,
// each after its prompt where there are several.
type texts struct {
	w       io.Writer
	prompts []string
	held    []strings.Builder
	ended   []bool
	at      int  // the prompt whose turn it is
	open    bool // its line is not ended
}

func newTexts(w io.Writer, prompts []string) (*texts, error) {
	t := &texts{w: w, prompts: prompts, held: make([]strings.Builder, len(prompts)), ended: make([]bool, len(prompts))}
	return t, t.head()
}

// head prints the prompt whose turn it is.
func (t *texts) head() error {
	if len(t.prompts) == 1 || t.at == len(t.prompts) {
		return nil
	}
	_, err := fmt.Fprintf(t.w, "> %s\n", t.prompts[t.at])
	return err
}

// emit takes a piece of text i.
func (t *texts) emit(i int, piece string, last bool) error {
	t.held[i].WriteString(piece)
	t.ended[i] = last
	for t.at < len(t.prompts) {
		if text := t.held[t.at].String(); text != "" {
			t.held[t.at].Reset()
			t.open = true
			if _, err := io.WriteString(t.w, text); err != nil {
				return err
			}
		}
		if !t.ended[t.at] {
			return nil
		}
		if _, err := fmt.Fprintln(t.w); err != nil {
			return err
		}
		t.at, t.open = t.at+1, false
		if err := t.head(); err != nil {
			return err
		}
	}
	return nil
}

// close ends the line of a text that was broken off.
func (t *texts) close() {
	if t.open {
		fmt.Fprintln(t.w)
	}
}
