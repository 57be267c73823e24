package engine

import (
	"context"
	"errors"
	"fmt"

	"smelt/eval"
	"smelt/generate"
	"smelt/internal/kernel"
	"smelt/model/llama"
	"smelt/nn"
	"smelt/tokenizer"
)

// reader answers text tasks.
type reader struct {
	s       *subject
	t       *evalTask
	tok     *tokenizer.Tokenizer
	options generate.Options
}

const (
	textBatch = 8 // examples between two notes of progress, whose texts are generated together
	// textContext is how many tokens a perplexity task sees at a time where it
	// does not say.
	textContext = 2048
)

func (e *evaluation) newReader(s *subject, t *evalTask) (answerer, error) {
	if s.Llama == nil && s.T5 == nil {
		return nil, fmt.Errorf("a %s model does not continue texts: a %s task takes a language model", s.Type, t.Type)
	}
	if t.Type == eval.Perplexity && s.Llama == nil {
		return nil, fmt.Errorf("a %s model has no perplexity of a text by itself: that takes a decoder", s.Type)
	}
	r := &reader{s: s, t: t}
	var err error
	if r.tok, err = tokenizer.Open(s.Dir()); err != nil {
		return nil, err
	}
	o, err := s.GenerationOptions()
	r.options = generate.Options{EOS: o.EOS, MaxNewTokens: t.MaxNewTokens, Stop: t.Stop}
	return r, err
}

func (r *reader) key() string { return r.s.key }
func (r *reader) batch() int  { return textBatch }
func (r *reader) close()      {}

func (r *reader) answer(p *nn.Pass, lo, hi int) ([]eval.Answer, *eval.Routing, error) {
	answers := make([]eval.Answer, hi-lo)
	var routes *watch
	if r.s.Fused != nil {
		routes = newWatch(r.s.Fused.ExpertNames(), hi-lo)
		p.OnRouting = routes.see
		defer func() { p.OnRouting = nil }()
	}
	if err := r.all(p, lo, answers, routes); err != nil {
		failed := new(generate.SequenceError)
		if errors.As(err, &failed) {
			err = fmt.Errorf("example %d: %w", lo+failed.Number, failed.Err)
		}
		return nil, nil, err
	}
	return answers, routes.finish(answers), nil
}

// all answers the examples from lo on: together where texts are generated, else
// one by one.
func (r *reader) all(p *nn.Pass, lo int, answers []eval.Answer, routes *watch) error {
	if r.t.Type == eval.Perplexity || r.t.Type == eval.MultipleChoice {
		for i := range answers {
			routes.pass([]int{i})
			if err := r.one(p, lo+i, &answers[i]); err != nil {
				return &generate.SequenceError{Number: i, Err: err}
			}
		}
		return nil
	}
	results, err := r.s.decode(context.Background(), p, decoding{
		n: len(answers), width: textBatch, options: r.options, tok: r.tok, rows: routes.pass,
		encode: func(i int) ([]int, error) { return r.encode(lo + i) },
	})
	for i := range results {
		answers[i].Text = results[i].Text
	}
	return err
}

// encode returns the tokens of example i's text.
func (r *reader) encode(i int) ([]int, error) {
	ids, err := r.tok.Encode(r.t.texts.Prompts[i], true)
	if err == nil && len(ids) == 0 {
		err = fmt.Errorf("the text %.40q has no tokens", r.t.texts.Prompts[i])
	}
	return ids, err
}

// one answers example i without generating.
func (r *reader) one(p *nn.Pass, i int, a *eval.Answer) error {
	ids, err := r.encode(i)
	if err != nil {
		return err
	}
	if r.t.Type == eval.Perplexity {
		return r.perplexity(p, ids, a)
	}
	return r.choose(p, ids, r.t.texts.Choices[i], a)
}

// choose takes the choice of the largest log-likelihood after the prompt, and
// that of the largest per byte.
func (r *reader) choose(p *nn.Pass, prompt []int, choices []string, a *eval.Answer) error {
	tails := make([][]int, len(choices))
	for i, c := range choices {
		var err error
		if tails[i], err = r.tok.Encode(c, r.s.T5 != nil); err != nil {
			return err
		}
		if len(tails[i]) == 0 {
			return fmt.Errorf("the choice %.40q has no tokens", c)
		}
	}
	logp, err := r.s.logLikelihoods(p, prompt, tails)
	if err != nil {
		return err
	}
	for i, c := range choices {
		if logp[i] > logp[a.Class] {
			a.Class = i
		}
		if logp[i]/float64(len(c)) > logp[a.Normalised]/float64(len(choices[a.Normalised])) {
			a.Normalised = i
		}
	}
	return nil
}

// logLikelihoods returns for each tail the natural logarithm of its
// probability after the prompt: as a continuation of a decoder's text, or as
// the answer of an encoder–decoder.
func (s *subject) logLikelihoods(p *nn.Pass, prompt []int, tails [][]int) ([]float64, error) {
	logp := make([]float64, len(tails))
	if s.Llama != nil {
		inputs := make([]llama.Input, len(tails))
		from := make([]int, len(tails))
		at := 0
		for i, tail := range tails {
			ids := append(prompt[:len(prompt):len(prompt)], tail[:len(tail)-1]...)
			inputs[i] = llama.Input{Cache: s.Llama.NewCache(), IDs: ids}
			from[i] = at + len(prompt) - 1
			at += len(ids)
		}
		m := p.Mark()
		defer p.Release(m)
		hidden, err := s.Llama.Forward(p, inputs)
		if err != nil {
			return nil, err
		}
		for i, tail := range tails {
			if logp[i], err = s.score(p, hidden.Slice(from[i], from[i]+len(tail), 0, hidden.Cols), tail); err != nil {
				return nil, err
			}
		}
		return logp, nil
	}
	for i, tail := range tails {
		session, err := s.T5.NewSession(p, prompt)
		if err != nil {
			return nil, err
		}
		logits, err := session.Logits(append([]int{s.T5.Start()}, tail[:len(tail)-1]...))
		if err != nil {
			return nil, err
		}
		for j, id := range tail {
			logp[i] += generate.LogProb(logits.Row(j), id)
		}
	}
	return logp, nil
}

// score sums the logarithms of the probabilities of ids, ids[i] being what
// follows the hidden state of row i.
func (s *subject) score(p *nn.Pass, hidden kernel.Matrix, ids []int) (sum float64, err error) {
	const step = 64 // rows of logits at a time
	for lo := 0; lo < len(ids); lo += step {
		hi := min(lo+step, len(ids))
		m := p.Mark()
		logits := p.Matrix(hi-lo, s.Llama.VocabSize())
		if err := s.Llama.Logits(p, logits, hidden.Slice(lo, hi, 0, hidden.Cols)); err != nil {
			return 0, err
		}
		for i, id := range ids[lo:hi] {
			sum += generate.LogProb(logits.Row(i), id)
		}
		p.Release(m)
	}
	return sum, nil
}

// perplexity scores a document in windows of the context; a window begins with
// the last token of the one before, so that all tokens but the first are
// predicted.
func (r *reader) perplexity(p *nn.Pass, ids []int, a *eval.Answer) error {
	size := r.t.Context
	if most := r.s.Llama.Config.MaxPositionEmbeddings; size == 0 {
		size = min(textContext, most)
	} else if size > most {
		return fmt.Errorf("context is %d, the model has %d positions", size, most)
	}
	if len(ids) < 2 {
		return fmt.Errorf("the document has %d token, want at least 2", len(ids))
	}
	for lo := 0; lo+1 < len(ids); lo += size - 1 {
		hi := min(lo+size, len(ids))
		m := p.Mark()
		hidden, err := r.s.Llama.Forward(p, []llama.Input{{Cache: r.s.Llama.NewCache(), IDs: ids[lo : hi-1]}})
		if err != nil {
			return err
		}
		sum, err := r.s.score(p, hidden, ids[lo+1:hi])
		if err != nil {
			return err
		}
		p.Release(m)
		a.LogProb += sum
		a.Tokens += hi - lo - 1
	}
	return nil
}
