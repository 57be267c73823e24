package eval

import (
	"fmt"
	"math"
	"strings"
	"unicode"
)

// Score is what a metric says of a model on a task.
type Score struct {
	Value float64 `json:"value"` // a share for accuracy, exact match, F1 and agreement
	Low   float64 `json:"low"`   // 95 % confidence interval
	High  float64 `json:"high"`
	N     int     `json:"n"` // examples
}

// Measure applies the task's metric to the answers; reference are the answers
// of the model to agree with, for that metric.
func (t *Task) Measure(answers []Answer, truths []Truth, reference []Answer) (Score, error) {
	if len(answers) != len(truths) || len(answers) == 0 {
		return Score{}, fmt.Errorf("task %s: %d answers to %d examples", t.Name, len(answers), len(truths))
	}
	if t.Type == Perplexity {
		return t.perplexity(answers, truths), nil
	}
	if t.Metric == Agreement && len(reference) != len(answers) {
		return Score{}, fmt.Errorf("task %s: %d answers of the reference to %d examples", t.Name, len(reference), len(answers))
	}
	values := make([]float64, len(answers))
	for i, a := range answers {
		switch t.Metric {
		case Agreement:
			values[i] = of(a.Class == reference[i].Class && a.Text == reference[i].Text)
		case Accuracy:
			values[i] = of(a.Class == truths[i].Class)
		case AccuracyNormalised:
			values[i] = of(a.Normalised == truths[i].Class)
		case ExactMatch:
			values[i] = of(strings.TrimSpace(a.Text) == strings.TrimSpace(truths[i].Text))
		case F1:
			values[i] = tokenF1(a.Text, truths[i].Text)
		}
	}
	s := Score{N: len(values)}
	s.Value, s.Low, s.High = normal(values)
	if t.Metric == F1 {
		s.Low, s.High = max(s.Low, 0), min(s.High, 1)
	} else {
		s.Low, s.High = Wilson(s.Value, s.N)
	}
	return s, nil
}

func of(ok bool) float64 {
	if ok {
		return 1
	}
	return 0
}

// perplexity is e to the mean negative log-likelihood of a token, or in bits
// of a byte; the interval takes documents as independent.
func (t *Task) perplexity(answers []Answer, truths []Truth) Score {
	total, units := 0.0, 0.0
	unit := func(i int) float64 {
		if t.Metric == BitsPerByte {
			return float64(truths[i].Bytes)
		}
		return float64(answers[i].Tokens)
	}
	for i, a := range answers {
		total -= a.LogProb
		units += unit(i)
	}
	mean := total / units
	squares := 0.0
	for i, a := range answers {
		d := -a.LogProb - mean*unit(i)
		squares += d * d
	}
	n := float64(len(answers))
	half := 0.0
	if len(answers) > 1 {
		half = 1.959963984540054 * math.Sqrt(squares*n/(n-1)) / units
	}
	scale := math.Exp
	if t.Metric == BitsPerByte {
		scale = func(x float64) float64 { return x / math.Ln2 }
	}
	return Score{Value: scale(mean), Low: scale(mean - half), High: scale(mean + half), N: len(answers)}
}

// tokenF1 is that of SQuAD 2: the harmonic mean of precision and recall over the words
// of two texts, without case, punctuation and articles.
func tokenF1(got, want string) float64 {
	a, b := words(got), words(want)
	if len(a) == 0 || len(b) == 0 {
		return of(len(a) == len(b))
	}
	left := map[string]int{}
	for _, w := range b {
		left[w]++
	}
	common := 0
	for _, w := range a {
		if left[w] > 0 {
			left[w]--
			common++
		}
	}
	return 2 * float64(common) / float64(len(a)+len(b))
}

func words(s string) []string {
	s = strings.Map(func(r rune) rune {
		if r < 128 && unicode.In(r, unicode.P, unicode.S) {
			return -1
		}
		return unicode.ToLower(r)
	}, s)
	list := strings.Fields(s)
	kept := list[:0]
	for _, w := range list {
		if w != "a" && w != "an" && w != "the" {
			kept = append(kept, w)
		}
	}
	return kept
}
