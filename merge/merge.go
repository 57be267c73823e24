// Package merge makes one set of weights of several fine-tunes of one base:
// averages, task arithmetic, TIES, DARE, SLERP. It works on one stretch of one
// tensor at a time, and knows no files and no models.
//
// A method is a table entry in methods.go and a file of its own, composed of
// small functions: prune (prune.go), elect a sign and merge what agrees with
// it (combine.go). All arithmetic is in float64, whatever the types of the
// weights, so that a result is the exact one rounded once: merged identical
// fine-tunes are that fine-tune, to the last bit.
package merge

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Method is one way to merge.
type Method struct {
	Name   string // ties
	Title  string // TIES-Merging
	Paper  string // where it was published
	About  string // what it does, in a sentence
	Fields []Field
	// Weights says which weights the experts may have.
	Weights Weights
	// Experts is how many experts there must be; 0: any number.
	Experts int
	// Trims says that the method needs [Config.Thresholds].
	Trims bool

	begin func(c *Config, t *Tensor) (Rule, error)
}

// Field is a number that a method takes.
type Field struct {
	Name     string // scaling_factor
	About    string
	Default  float64
	Min, Max float64 // inclusive
	Above    bool    // Min itself is not allowed
	Whole    bool    // a whole number
}

// Names of fields.
const (
	ScalingFactor = "scaling_factor"
	Density       = "density"
	Position      = "t"
	Seed          = "seed"
)

// Weights says which weights the experts of a method may have.
type Weights int

// The kinds of weights.
const (
	NoWeights       Weights = iota
	AnyWeights              // any finite number, 1 unless given
	PositiveWeights         // above zero, 1 unless given
	NeededWeights           // above zero, to be given for every expert
)

// String says in words what the weights may be.
func (w Weights) String() string {
	return [...]string{"none", "any finite number, 1 unless given", "above 0, 1 unless given", "above 0, needed for every expert"}[w]
}

// Settings are what a user asks for: values of fields, and weights by expert.
type Settings struct {
	Values  map[string]float64 `json:"values,omitempty"`
	Weights map[string]float64 `json:"weights,omitempty"`
	// From is the expert at which SLERP starts; "" is the first by name.
	From string `json:"from,omitempty"`
}

// Config is a method with everything that it needs to know.
type Config struct {
	Method  *Method
	Experts []string  // in the order of Block.Deltas
	Weights []float64 // by expert
	From    int       // of SLERP: the expert at which it starts
	// Thresholds are, for a method that trims, the least magnitudes that the
	// experts' task vectors keep: see Magnitudes.
	Thresholds []float32

	values map[string]float64
}

// NewConfig checks settings against a method and fills in the defaults.
func NewConfig(method string, experts []string, s Settings) (*Config, error) {
	m, err := Find(method)
	if err != nil {
		return nil, err
	}
	if m.Experts > 0 && len(experts) != m.Experts {
		return nil, fmt.Errorf("%s merges %d experts, got %d", m.Name, m.Experts, len(experts))
	}
	if len(experts) == 0 {
		return nil, errors.New("no experts: nothing to merge")
	}
	c := &Config{Method: m, Experts: experts, values: map[string]float64{}}
	for _, f := range m.Fields {
		c.values[f.Name] = f.Default
	}
	for name, v := range s.Values {
		i := slices.IndexFunc(m.Fields, func(f Field) bool { return f.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("%s has no %s: it has %s", m.Name, name, m.fields())
		}
		if err := m.Fields[i].check(v); err != nil {
			return nil, err
		}
		c.values[name] = v
	}
	if s.From != "" {
		if c.From = slices.Index(experts, s.From); c.From < 0 {
			return nil, fmt.Errorf("there is no expert %q to start from", s.From)
		}
	}
	return c, c.weigh(s.Weights)
}

func (f Field) check(v float64) error {
	if !(v >= f.Min && v <= f.Max) || f.Above && v == f.Min || f.Whole && v != math.Trunc(v) {
		return fmt.Errorf("%s is %v, want %s", f.Name, v, f.Range())
	}
	return nil
}

// Range says in words which values a field takes.
func (f Field) Range() string {
	s := ""
	if f.Whole {
		s = "a whole number "
	}
	switch {
	case math.IsInf(f.Max, 1) || f.Max >= math.MaxFloat64:
		return strings.TrimSpace(s + "any finite number")
	case f.Above:
		return fmt.Sprintf("%sabove %s, at most %s", s, number(f.Min), number(f.Max))
	}
	return fmt.Sprintf("%s%s to %s", s, number(f.Min), number(f.Max))
}

func number(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

func (m *Method) fields() string {
	if len(m.Fields) == 0 {
		return "no settings"
	}
	var names []string
	for _, f := range m.Fields {
		names = append(names, f.Name)
	}
	return strings.Join(names, ", ")
}

// weigh sets the weights of the experts.
func (c *Config) weigh(given map[string]float64) error {
	m := c.Method
	if m.Weights == NoWeights && len(given) > 0 {
		return fmt.Errorf("%s takes no weights", m.Name)
	}
	for name, w := range given {
		if !slices.Contains(c.Experts, name) {
			return fmt.Errorf("a weight is given for %q, which is no expert: the experts are %s", name, strings.Join(c.Experts, ", "))
		}
		if w-w != 0 || m.Weights != AnyWeights && w <= 0 {
			return fmt.Errorf("the weight of %s is %v, want a %s number", name, w, map[bool]string{true: "finite", false: "positive"}[m.Weights == AnyWeights])
		}
	}
	for _, name := range c.Experts {
		w, ok := given[name]
		if !ok && m.Weights == NeededWeights {
			return fmt.Errorf("%s wants a weight for every expert: %s has none", m.Name, name)
		}
		if !ok {
			w = 1
		}
		c.Weights = append(c.Weights, w)
	}
	return nil
}

// Value is the value of one of the method's fields.
func (c *Config) Value(field string) float64 { return c.values[field] }

// Block is the same stretch of one tensor in the base and in all task vectors.
type Block struct {
	Offset int       // of its first element in the tensor
	Base   []float64 // read only
	// Deltas are expert − base, by expert, nil where an expert left the tensor
	// as it was. A rule may overwrite them.
	Deltas [][]float64
}

// Rule writes one merged stretch to dst, which overlaps nothing in b. Rules
// may run concurrently.
type Rule func(dst []float64, b *Block)

// Tensor is one tensor of a merge.
type Tensor struct {
	Name   string
	Blocks int // stretches that it is cut into
	// Read returns one stretch, valid until the next call with the same block;
	// a nil block makes a new one.
	Read func(b *Block, i int) (*Block, error)
}

// Begin measures what the method must know of a whole tensor, and returns the
// rule that merges its stretches.
func (c *Config) Begin(t *Tensor) (Rule, error) {
	if c.Method.Trims && len(c.Thresholds) != len(c.Experts) {
		return nil, fmt.Errorf("merge: %s wants %d thresholds, got %d", c.Method.Name, len(c.Experts), len(c.Thresholds))
	}
	return c.Method.begin(c, t)
}
