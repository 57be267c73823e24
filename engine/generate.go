package engine

import (
	"context"
	"errors"
	"fmt"

	"smelt/chat"
	"smelt/generate"
	"smelt/internal/vfs"
	"smelt/model/llama"
	"smelt/model/t5"
	"smelt/nn"
	"smelt/tokenizer"
)

// Prompt is a text to continue.
type Prompt struct {
	Text   string
	Chat   bool   // put it into the checkpoint's chat template
	System string // the system's turn of a chat, where not empty
}

// MaxTogether is the most prompts that are decoded side by side: of more rows,
// products are bound by arithmetic, and round their inputs for it.
const MaxTogether = 16

// Generate continues prompts, up to width of them side by side, so that the
// weights are read once for all; each is continued as it would be alone, but for
// the rounding of float32. emit, which may be nil, receives the text of prompt i
// as it comes, and in the end an empty piece with last set.
func (m *Model) Generate(ctx context.Context, p *nn.Pass, prompts []Prompt, width int, o generate.Options, emit func(i int, piece string, last bool) error) (results []generate.Result, err error) {
	if width < 1 || width > MaxTogether {
		return nil, fmt.Errorf("%d prompts are to be decoded together, want 1 to %d", width, MaxTogether)
	}
	tok, err := tokenizer.Open(m.Dir())
	if err != nil {
		return nil, err
	}
	err = vfs.Guard(func() error {
		results, err = m.decode(ctx, p, decoding{
			n: len(prompts), width: width, options: o, tok: tok, emit: emit,
			encode: func(i int) ([]int, error) { return m.encode(tok, prompts[i]) },
		})
		return err
	})
	if failed := new(generate.SequenceError); errors.As(err, &failed) {
		err = failed.Err
		if len(prompts) > 1 {
			err = fmt.Errorf("prompt %d: %w", failed.Number+1, err)
		}
	}
	return results, err
}

// encode returns the tokens of a prompt, in its chat template where it asks for
// one.
func (m *Model) encode(tok *tokenizer.Tokenizer, prompt Prompt) ([]int, error) {
	text := prompt.Text
	if prompt.Chat {
		t, err := chat.Load(m.Dir())
		if err != nil {
			return nil, err
		}
		var turns []chat.Message
		if prompt.System != "" {
			turns = append(turns, chat.NewMessage("system", prompt.System))
		}
		turns = append(turns, chat.NewMessage("user", prompt.Text))
		if text, err = t.Render(turns, chat.Options{AddGenerationPrompt: true}); err != nil {
			return nil, err
		}
	}
	ids, err := tok.Encode(text, !prompt.Chat)
	if err != nil {
		return nil, err
	}
	if prompt.Text == "" || len(ids) == 0 {
		return nil, errors.New("the prompt is empty: give some text to continue")
	}
	return ids, nil
}

// decoding says what to decode; emit and rows may be nil.
type decoding struct {
	n, width int
	options  generate.Options
	tok      *tokenizer.Tokenizer       // nil: tokens alone
	encode   func(i int) ([]int, error) // the tokens of prompt i
	emit     func(i int, piece string, last bool) error
	rows     func(prompts []int) // told before each pass whose rows it has, equally many of each prompt
}

// decode generates with whichever language model m is.
func (m *Model) decode(ctx context.Context, p *nn.Pass, d decoding) ([]generate.Result, error) {
	switch {
	case m.Llama != nil:
		return decode(ctx, p, d, m.Llama.StepAll, func(ids []int) (*llama.Session, []int, error) {
			return m.Llama.NewSession(p), ids, nil
		})
	case m.T5 != nil:
		return decode(ctx, p, d, m.T5.StepAll, func(ids []int) (*t5.Session, []int, error) {
			s, err := m.T5.NewSession(p, ids)
			return s, []int{m.T5.Start()}, err
		})
	}
	return nil, fmt.Errorf("a %s model does not generate text: use classify or embed", m.Type)
}

// decode runs d on sessions that begin makes: it returns one for the tokens of
// a prompt, and the tokens to feed it first.
func decode[S generate.Session](ctx context.Context, p *nn.Pass, d decoding,
	step func(*nn.Pass, []S, []int) ([][]float32, error), begin func(ids []int) (S, []int, error),
) ([]generate.Result, error) {
	if d.rows == nil {
		d.rows = func([]int) {}
	}
	return generate.RunAll(ctx, d.n, d.width, d.options, func(i int) (q generate.Sequence[S], err error) {
		ids, err := d.encode(i)
		if err != nil {
			return q, err
		}
		d.rows([]int{i})
		if q.Session, q.Prompt, err = begin(ids); err != nil {
			return q, err
		}
		if d.tok != nil {
			q.Text = d.tok.NewStream(true)
		}
		if d.emit != nil {
			q.Emit = func(piece string) error { return d.emit(i, piece, false) }
			q.End = func() error { return d.emit(i, "", true) }
		}
		return q, nil
	}, func(prompts []int, sessions []S, ids []int) ([][]float32, error) {
		d.rows(prompts)
		return step(p, sessions, ids)
	})
}
