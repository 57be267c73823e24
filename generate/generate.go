package generate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Session is a model that decodes one sequence: llama.Session or t5.Session.
type Session interface {
	// Step adds tokens and returns the logits [V] after the last one, valid
	// until the next step.
	Step(ids []int) ([]float32, error)

	// Len is the number of tokens so far, Context the most there may be (0: no
	// limit), and Reserve makes room for n in all.
	Len() int
	Context() int
	Reserve(n int) error
}

// Text turns tokens into text as they come: tokenizer.Stream. Push returns the
// text that is settled by a token, Flush what was held back.
type Text interface {
	Push(id int) string
	Flush() string
}

// Reason says why a generation ended.
type Reason string

// The reasons to end.
const (
	EndToken    Reason = "eos"     // an end token was chosen
	EndStop     Reason = "stop"    // a stop text appeared
	EndLength   Reason = "length"  // MaxNewTokens were generated
	EndContext  Reason = "context" // the model's context is full
	EndCallback Reason = "callback"
)

// Result is what was generated.
type Result struct {
	IDs    []int // tokens, without the one that ended the text
	Text   string
	Reason Reason
}

// ErrStop is returned by a callback to end the generation without an error.
var ErrStop = errors.New("stop")

// Run feeds prompt to the session and generates. With text, which may be nil,
// stop texts are looked for and emit, which may be nil too, receives the text
// piece by piece: pieces are given out when no stop text can begin in them any
// more. A context that is done ends the generation with its error and what
// there is.
func Run(ctx context.Context, s Session, prompt []int, o Options, text Text, emit func(piece string) error) (Result, error) {
	g, err := begin(s, prompt, o, text, emit, 1)
	if err != nil {
		return Result{}, err
	}
	for more := true; more; {
		if err := ctx.Err(); err != nil {
			return g.end(), err
		}
		logits, err := s.Step(g.next)
		if err != nil {
			return g.end(), err
		}
		if more, err = g.take(logits); err != nil {
			return g.end(), err
		}
	}
	return g.end(), nil
}

// room returns how many tokens may be generated and what it means to generate
// them all, and reserves memory for them; beside sequences share it.
func room(s Session, prompt, asked, beside int) (int, Reason, error) {
	most, reason := asked, EndLength
	if most == 0 {
		most = 1 << 12 // where the context does not bound it either
	}
	if context := s.Context(); context > 0 {
		left := context - s.Len() - prompt
		if left < 0 {
			return 0, "", fmt.Errorf("generate: the prompt has %d tokens, the model's context is %d: shorten it", s.Len()+prompt, context)
		}
		left++ // the last token is not fed back
		if asked == 0 || left < most {
			most, reason = left, EndContext
		}
	}
	const ahead = 1 << 10 // beyond, memory grows as tokens come
	return most, reason, s.Reserve(s.Len() + prompt + min(most, ahead/beside) - 1)
}

// run is a generation under way.
type run struct {
	sampler *Sampler
	eos     []int
	stop    []string
	text    Text
	emit    func(string) error
	most    int             // tokens to generate
	seen    []int           // all tokens so far
	next    []int           // of them, those that the session has not seen
	out     strings.Builder // text given out
	held    string          // text in which a stop text may begin
	result  Result
}

// begin returns a run that has chosen no token yet, one of beside ones.
func begin(s Session, prompt []int, o Options, text Text, emit func(string) error, beside int) (*run, error) {
	sampler, err := NewSampler(o)
	if err != nil {
		return nil, err
	}
	if len(o.Stop) > 0 && text == nil {
		return nil, errors.New("generate: stop texts need a decoder")
	}
	if len(prompt) == 0 {
		return nil, errors.New("generate: the prompt is empty: it has no tokens")
	}
	most, reason, err := room(s, len(prompt), o.MaxNewTokens, beside)
	if err != nil {
		return nil, err
	}
	return &run{
		sampler: sampler, eos: o.EOS, stop: o.Stop, text: text, emit: emit,
		most: most, seen: slices.Clone(prompt), next: prompt, result: Result{Reason: reason},
	}, nil
}

// take chooses the token after all that the session has seen, and reports
// whether more are to come.
func (g *run) take(logits []float32) (more bool, err error) {
	id := g.sampler.Next(logits, g.seen)
	if slices.Contains(g.eos, id) {
		g.result.Reason = EndToken
		return false, g.ended(g.flush())
	}
	g.seen = append(g.seen, id)
	g.next = g.seen[len(g.seen)-1:]
	g.result.IDs = append(g.result.IDs, id)
	if err := g.add(id); err != nil {
		return false, g.ended(err)
	}
	if len(g.result.IDs) == g.most {
		return false, g.ended(g.flush())
	}
	return true, nil
}

// errStopText ends a run at a stop text.
var errStopText = errors.New("stop text")

func (g *run) add(id int) error {
	if g.text == nil {
		return nil
	}
	return g.push(g.text.Push(id), false)
}

func (g *run) flush() error {
	if g.text == nil {
		return nil
	}
	return g.push(g.text.Flush(), true)
}

// push gives out what is certain of the held text and piece.
func (g *run) push(piece string, last bool) error {
	g.held += piece
	at := -1
	for _, s := range g.stop {
		if i := strings.Index(g.held, s); i >= 0 && (at < 0 || i < at) {
			at = i
		}
	}
	keep := 0
	if at < 0 && !last {
		keep = g.suspicious()
	}
	out := g.held
	if at >= 0 {
		out = g.held[:at]
	}
	out = out[:len(out)-keep]
	g.held = g.held[len(g.held)-keep:]
	g.out.WriteString(out)
	if g.emit != nil && out != "" {
		if err := g.emit(out); err != nil {
			return err
		}
	}
	if at >= 0 {
		return errStopText
	}
	return nil
}

// suspicious returns the length of the longest end of the held text that a
// stop text begins with.
func (g *run) suspicious() int {
	longest := 0
	for _, s := range g.stop {
		for n := min(len(s)-1, len(g.held)); n > longest; n-- {
			if strings.HasSuffix(g.held, s[:n]) {
				longest = n
			}
		}
	}
	return longest
}

// ended notes the reason where err is one to end, and returns it where it is
// none.
func (g *run) ended(err error) error {
	switch {
	case errors.Is(err, errStopText):
		g.result.Reason = EndStop
	case errors.Is(err, ErrStop):
		g.result.Reason = EndCallback
	default:
		return err
	}
	return nil
}

func (g *run) end() Result {
	g.result.Text = g.out.String()
	return g.result
}
