package generate

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
)

// Sampler chooses tokens from logits. It belongs to one goroutine.
type Sampler struct {
	o       Options
	rng     *rand.Rand
	logits  []float32
	sorted  []float32
	choices []choice
	seen    []bool
}

// choice is a token that the filters left.
type choice struct {
	id int
	p  float64 // its logit, then its probability, not normalised
}

// NewSampler returns a sampler; the same options and seed choose the same
// tokens from the same logits.
func NewSampler(o Options) (*Sampler, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	return &Sampler{o: o, rng: rand.New(rand.NewPCG(o.Seed, 0x5e117))}, nil
}

// Next returns the token that follows, given the logits [V] after the last
// token; tokens of seen are repetitions. NaN is never chosen.
func (s *Sampler) Next(logits []float32, seen []int) int {
	logits = s.penalise(logits, seen)
	if !s.o.Sample {
		return argmax(logits)
	}
	s.filter(logits)
	return s.draw()
}

// argmax returns the first of the largest.
func argmax(v []float32) int {
	best := 0
	for i, x := range v {
		if x > v[best] || v[best] != v[best] && x == x {
			best = i
		}
	}
	return best
}

// penalise returns the logits with the repetition penalty, in a copy where
// there is one.
func (s *Sampler) penalise(logits []float32, seen []int) []float32 {
	r := s.o.RepetitionPenalty
	if r == 0 || r == 1 {
		return logits
	}
	s.logits = append(s.logits[:0], logits...)
	s.seen = slices.Grow(s.seen[:0], len(logits))[:len(logits)]
	clear(s.seen)
	for _, id := range seen {
		if id < 0 || id >= len(logits) || s.seen[id] {
			continue
		}
		s.seen[id] = true
		if s.logits[id] < 0 {
			s.logits[id] *= r
		} else {
			s.logits[id] /= r
		}
	}
	return s.logits
}

// filter leaves the tokens that may be drawn, with their probabilities: likely
// ones first where an order is needed.
func (s *Sampler) filter(logits []float32) {
	least := float32(math.Inf(-1))
	if k := s.o.TopK; k > 0 && k < len(logits) {
		least = s.kth(logits, k)
	}
	t := float64(s.o.Temperature)
	if t == 0 {
		t = 1
	}
	top := math.Inf(-1)
	s.choices = s.choices[:0]
	for id, v := range logits {
		if v >= least && v > float32(math.Inf(-1)) {
			s.choices = append(s.choices, choice{id, float64(v) / t})
			top = max(top, float64(v)/t)
		}
	}
	if len(s.choices) == 0 { // nothing but NaN and −Inf
		s.choices = append(s.choices, choice{argmax(logits), 1})
		return
	}
	sum := 0.0
	for i := range s.choices {
		c := &s.choices[i]
		if c.p == top {
			c.p = 1 // also where top is +Inf
		} else {
			c.p = math.Exp(c.p - top)
		}
		sum += c.p
	}
	s.nucleus(sum)
	if m := float64(s.o.MinP); m > 0 {
		s.choices = slices.DeleteFunc(s.choices, func(c choice) bool { return c.p < m })
	}
}

// nucleus keeps the most likely tokens until their probabilities reach TopP.
func (s *Sampler) nucleus(sum float64) {
	p := float64(s.o.TopP)
	if p == 0 || p == 1 {
		return
	}
	// A token of less than (1-p)/n cannot be needed: all of them together
	// would not reach 1-p. This leaves few to sort.
	cut := (1 - p) * sum / float64(len(s.choices))
	s.choices = slices.DeleteFunc(s.choices, func(c choice) bool { return c.p < cut && c.p < 1 })
	slices.SortFunc(s.choices, func(a, b choice) int {
		return cmp.Or(cmp.Compare(b.p, a.p), cmp.Compare(a.id, b.id))
	})
	before := 0.0
	for i, c := range s.choices {
		if i > 0 && before >= p*sum {
			s.choices = s.choices[:i]
			return
		}
		before += c.p
	}
}

// kth returns the k-th largest of v, by quickselect on a copy; NaN is smallest.
func (s *Sampler) kth(v []float32, k int) float32 {
	s.sorted = s.sorted[:0]
	for _, x := range v {
		if x == x {
			s.sorted = append(s.sorted, x)
		}
	}
	a := s.sorted
	if k > len(a) {
		return float32(math.Inf(-1))
	}
	k--
	for lo, hi := 0, len(a)-1; lo < hi; {
		pivot := a[lo+(hi-lo)/2]
		i, j := lo, hi
		for i <= j {
			for a[i] > pivot {
				i++
			}
			for a[j] < pivot {
				j--
			}
			if i <= j {
				a[i], a[j] = a[j], a[i]
				i++
				j--
			}
		}
		switch {
		case k <= j:
			hi = j
		case k >= i:
			lo = i
		default:
			return a[k]
		}
	}
	return a[k]
}

// draw chooses one of the tokens left by its probability.
func (s *Sampler) draw() int {
	sum := 0.0
	for _, c := range s.choices {
		sum += c.p
	}
	r := s.rng.Float64() * sum
	for _, c := range s.choices {
		if r -= c.p; r < 0 {
			return c.id
		}
	}
	return s.choices[len(s.choices)-1].id
}

// LogProb returns the natural logarithm of id's probability under logits.
func LogProb(logits []float32, id int) float64 {
	top := float64(slices.Max(logits))
	sum := 0.0
	for _, v := range logits {
		sum += math.Exp(float64(v) - top)
	}
	return float64(logits[id]) - top - math.Log(sum)
}
