package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"smelt/ensemble"
	"smelt/eval"
	"smelt/internal/kernel"
	"smelt/nn"
)

// Ensemble combines the outputs of several models.
type Ensemble struct {
	Method  string // mean, weighted or max: of the classes' probabilities
	Members []Source
	Weights []float64 // of the members, for weighted
}

// together is an ensemble under evaluation.
type together struct {
	e       *evaluation
	how     *Ensemble
	members []*subject
}

func (e *evaluation) newEnsemble(m EvalModel) (_ runner, err error) {
	r := &together{e: e, how: m.Ensemble}
	if len(m.Ensemble.Members) < 2 {
		return nil, errors.New("an ensemble has at least two members")
	}
	for _, x := range m.Ensemble.Members {
		s, err := e.openSubject(EvalModel{Name: x.Name, Path: x.Path})
		if err != nil {
			r.close()
			return nil, err
		}
		r.members = append(r.members, s)
	}
	return r, nil
}

func (r *together) describe(row *eval.Row) {
	row.Kind = eval.KindEnsemble
	var tower int64
	for _, s := range r.members {
		row.Parameters += s.parameters
		row.Bytes += s.bytes
		tower += s.tower
	}
	row.Relative = r.e.relative(row.Parameters, tower)
}

func (r *together) on(t *evalTask) (answerer, error) {
	if t.images == nil {
		return nil, fmt.Errorf("an ensemble combines classifiers, the task is of type %s", t.Type)
	}
	v := &votes{together: r}
	for _, s := range r.members {
		c, err := r.e.newClassifier(s, t)
		if err != nil {
			return nil, err
		}
		v.members = append(v.members, c)
	}
	return v, nil
}

func (r *together) close() {
	for _, s := range r.members {
		s.Close()
	}
}

// votes answers a task with an ensemble.
type votes struct {
	*together
	members []*classifier
}

func (v *votes) key() string {
	var keys []string
	for _, c := range v.members {
		keys = append(keys, c.key())
	}
	h := sha256.Sum256([]byte(strings.Join(keys, "\n")))
	return fmt.Sprintf("ensemble %s %v %s", v.how.Method, v.how.Weights, hex.EncodeToString(h[:]))
}

func (v *votes) batch() int { return imageBatch }
func (v *votes) close()     {}

func (v *votes) answer(p *nn.Pass, lo, hi int) ([]eval.Answer, *eval.Routing, error) {
	outputs := make([]kernel.Matrix, len(v.members))
	for i, c := range v.members {
		var err error
		if outputs[i], err = c.logits(p, lo, hi, nil); err != nil {
			return nil, nil, err
		}
	}
	all, err := v.how.combine(outputs)
	if err != nil {
		return nil, nil, err
	}
	answers := make([]eval.Answer, hi-lo)
	for i := range answers {
		answers[i].Class = argmax(all.Row(i))
	}
	return answers, nil, nil
}

// combine returns the ensemble's probabilities [images, classes] for the
// members' logits, which it overwrites.
func (m *Ensemble) combine(logits []kernel.Matrix) (kernel.Matrix, error) {
	for _, x := range logits {
		if err := ensemble.Probabilities(x, x); err != nil {
			return x, err
		}
	}
	out := kernel.New(logits[0].Rows, logits[0].Cols)
	switch m.Method {
	case "mean":
		return out, ensemble.Mean(out, logits)
	case "weighted":
		return out, ensemble.Weighted(out, logits, m.Weights)
	case "max":
		return out, ensemble.Max(out, logits)
	}
	return out, fmt.Errorf("ensemble method %q: want mean, weighted or max", m.Method)
}
