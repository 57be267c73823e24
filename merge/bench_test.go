package merge

import (
	"math/rand/v2"
	"testing"
)

// BenchmarkRules measures the arithmetic of each method, without reading and
// rounding, in elements of the base per second.
func BenchmarkRules(b *testing.B) {
	const n = 8192
	r := rand.New(rand.NewPCG(1, 2))
	draw := func() []float64 {
		v := make([]float64, n)
		for i := range v {
			v[i] = r.NormFloat64()
		}
		return v
	}
	base := draw()
	for _, m := range Methods() {
		experts := []string{"a", "b", "c"}
		if m.Experts > 0 {
			experts = experts[:m.Experts]
		}
		c, err := NewConfig(m.Name, experts, Settings{})
		if m.Weights == NeededWeights {
			c, err = NewConfig(m.Name, experts, Settings{Weights: map[string]float64{"a": 1, "b": 2, "c": 3}})
		}
		if err != nil {
			b.Fatal(err)
		}
		c.Thresholds = []float32{1.28, 1.28, 1.28}[:len(experts)]
		original := &Block{Base: base}
		for range experts {
			original.Deltas = append(original.Deltas, draw())
		}
		work := &Block{Base: base, Deltas: make([][]float64, len(experts))}
		for e := range experts {
			work.Deltas[e] = make([]float64, n)
		}
		rule, err := c.Begin(&Tensor{Name: "x", Blocks: 1, Read: func(*Block, int) (*Block, error) { return original, nil }})
		if err != nil {
			b.Fatal(err)
		}
		dst := make([]float64, n)
		b.Run(m.Name, func(b *testing.B) {
			for b.Loop() {
				for e := range work.Deltas {
					copy(work.Deltas[e], original.Deltas[e])
				}
				rule(dst, work)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/element")
		})
	}
	b.Run("magnitudes", func(b *testing.B) {
		m := &Magnitudes{}
		for b.Loop() {
			m.Add(base)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/element")
	})
}
