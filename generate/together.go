package generate

import (
	"context"
	"fmt"
)

// Sequence is one of several that [RunAll] generates: what [Run] takes of one.
type Sequence[S Session] struct {
	Session S
	Prompt  []int
	Text    Text
	Emit    func(piece string) error
	End     func() error // called after the last piece; may be nil
}

// SequenceError says which of several sequences failed.
type SequenceError struct {
	Number int // from 0
	Err    error
}

func (e *SequenceError) Error() string { return fmt.Sprintf("sequence %d: %v", e.Number, e.Err) }

func (e *SequenceError) Unwrap() error { return e.Err }

// RunAll generates n sequences, up to width of them side by side, each as Run
// would alone: its own prompt, context, seed and end. They begin in the order of
// their numbers; where one ends, the next takes its place. open prepares
// sequence i. step adds one token to each of several sessions, ids[k] to
// sessions[k], which is that of sequence numbers[k], and returns their logits,
// each valid until its session's next step.
//
// A sequence that fails ends the whole, with a [SequenceError], once those
// before it have ended. The results are then, as with a context that is done,
// what there is.
func RunAll[S Session](ctx context.Context, n, width int, o Options,
	open func(i int) (Sequence[S], error), step func(numbers []int, sessions []S, ids []int) ([][]float32, error),
) ([]Result, error) {
	results := make([]Result, n)
	var active []*place[S]
	defer func() {
		for _, a := range active {
			results[a.number] = a.run.end()
		}
	}()
	var failed error
	for next := 0; ; {
		for ; next < n && failed == nil && len(active) < width; next++ {
			a := &place[S]{number: next}
			more, err := a.begin(ctx, o, open, min(n, width))
			if err != nil {
				failed = &SequenceError{next, err}
			}
			switch {
			case more:
				active = append(active, a)
			case a.run != nil:
				results[next] = a.run.end()
			}
		}
		if len(active) == 0 {
			return results, failed
		}
		if err := ctx.Err(); err != nil {
			return results, err
		}
		numbers, sessions, ids := make([]int, len(active)), make([]S, len(active)), make([]int, len(active))
		for i, a := range active {
			numbers[i], sessions[i], ids[i] = a.number, a.session, a.run.next[0]
		}
		logits, err := step(numbers, sessions, ids)
		if err != nil {
			return results, err
		}
		var going []*place[S]
		for i, a := range active {
			more, err := a.take(logits[i])
			if err != nil {
				return results, &SequenceError{a.number, err}
			}
			if more {
				going = append(going, a)
			} else {
				results[a.number] = a.run.end()
			}
		}
		active = going
	}
}

// place holds a sequence that is being generated.
type place[S Session] struct {
	number  int
	session S
	over    func() error
	run     *run // nil until the sequence is open
}

// begin opens the sequence, reads its prompt by itself, as Run does, and
// reports whether there is more to come than its first token.
func (a *place[S]) begin(ctx context.Context, o Options, open func(i int) (Sequence[S], error), beside int) (more bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	q, err := open(a.number)
	if err != nil {
		return false, err
	}
	a.session, a.over = q.Session, q.End
	if a.run, err = begin(q.Session, q.Prompt, o, q.Text, q.Emit, beside); err != nil {
		return false, err
	}
	logits, err := q.Session.Step(a.run.next)
	if err != nil {
		return false, err
	}
	return a.take(logits)
}

// take is the run's, and tells the sequence that it is over.
func (a *place[S]) take(logits []float32) (more bool, err error) {
	if more, err = a.run.take(logits); !more && err == nil && a.over != nil {
		err = a.over()
	}
	return more, err
}
