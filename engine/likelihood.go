package engine

import (
	"fmt"

	"smelt/generate"
	"smelt/internal/kernel"
	"smelt/internal/vfs"
	"smelt/model/llama"
	"smelt/nn"
)

// LogLikelihoods returns, for each continuation, the natural logarithm of its
// probability after the prompt: as the next tokens of a decoder's text, or as an
// encoder–decoder's answer. The prompt is read once, a decoder's continuations
// after it in one batch.
func (m *Model) LogLikelihoods(p *nn.Pass, prompt []int, continuations [][]int) (logs []float64, err error) {
	for i, ids := range continuations {
		if len(ids) == 0 {
			return nil, fmt.Errorf("continuation %d has no tokens", i)
		}
	}
	err = vfs.Guard(func() (err error) {
		switch {
		case m.Llama != nil:
			logs, err = m.continued(p, prompt, continuations)
		case m.T5 != nil:
			logs, err = m.answered(p, prompt, continuations)
		default:
			err = fmt.Errorf("a %s model does not generate text: it has no likelihoods", m.Type)
		}
		return err
	})
	return logs, err
}

// continued is LogLikelihoods for a decoder.
func (m *Model) continued(p *nn.Pass, prompt []int, continuations [][]int) ([]float64, error) {
	mark := p.Mark()
	defer p.Release(mark)
	first := m.Llama.NewSession(p)
	logits, err := first.Step(prompt)
	if err != nil {
		return nil, err
	}
	logs := make([]float64, len(continuations))
	var inputs []llama.Input
	var of []int // which continuation an input is
	for i, ids := range continuations {
		if ids[0] < 0 || ids[0] >= len(logits) {
			return nil, fmt.Errorf("token id %d is outside the vocabulary of %d", ids[0], len(logits))
		}
		logs[i] = generate.LogProb(logits, ids[0])
		if rest := ids[:len(ids)-1]; len(rest) > 0 {
			cache, err := first.Cache().Fork(len(rest))
			if err != nil {
				return nil, err
			}
			inputs, of = append(inputs, llama.Input{Cache: cache, IDs: rest}), append(of, i)
		}
	}
	if len(inputs) == 0 {
		return logs, nil
	}
	hidden, err := m.Llama.Forward(p, inputs)
	if err != nil {
		return nil, err
	}
	at := 0
	for k, in := range inputs {
		rows := hidden.Slice(at, at+len(in.IDs), 0, hidden.Cols)
		sum, err := m.score(p, rows, continuations[of[k]][1:])
		if err != nil {
			return nil, err
		}
		logs[of[k]] += sum
		at += len(in.IDs)
	}
	return logs, nil
}

// score sums the logarithms of the probabilities of ids, ids[i] being what
// follows the hidden state of row i.
func (m *Model) score(p *nn.Pass, hidden kernel.Matrix, ids []int) (sum float64, err error) {
	const step = 64 // rows of logits at a time
	for lo := 0; lo < len(ids); lo += step {
		hi := min(lo+step, len(ids))
		mark := p.Mark()
		logits := p.Matrix(hi-lo, m.Llama.VocabSize())
		if err := m.Llama.Logits(p, logits, hidden.Slice(lo, hi, 0, hidden.Cols)); err != nil {
			return 0, err
		}
		for i, id := range ids[lo:hi] {
			if id < 0 || id >= logits.Cols {
				return 0, fmt.Errorf("token id %d is outside the vocabulary of %d", id, logits.Cols)
			}
			sum += generate.LogProb(logits.Row(i), id)
		}
		p.Release(mark)
	}
	return sum, nil
}

// answered is LogLikelihoods for an encoder–decoder.
func (m *Model) answered(p *nn.Pass, prompt []int, continuations [][]int) ([]float64, error) {
	s, err := m.T5.NewSession(p, prompt)
	if err != nil {
		return nil, err
	}
	logs := make([]float64, len(continuations))
	for i, ids := range continuations {
		s.Truncate(0)
		logits, err := s.Logits(append([]int{m.T5.Start()}, ids[:len(ids)-1]...))
		if err != nil {
			return nil, err
		}
		for j, id := range ids {
			if id < 0 || id >= logits.Cols {
				return nil, fmt.Errorf("token id %d is outside the vocabulary of %d", id, logits.Cols)
			}
			logs[i] += generate.LogProb(logits.Row(j), id)
		}
	}
	return logs, nil
}
