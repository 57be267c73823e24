package merge

// seed chooses the random values that DARE drops.
var seed = Field{Name: Seed, About: "chooses the values that are dropped", Min: 0, Max: 1 << 53, Whole: true}

// dareLinear drops random values of each task vector, rescales the others so
// that the expectation stays, and adds the vectors up: base + λ·Σ wₑ·Δ̃ₑ.
var dareLinear = Method{
	Name: "dare_linear", Title: "DARE", Paper: "arXiv:2311.03099",
	About:   "task arithmetic of task vectors of which random values are dropped and the others rescaled",
	Fields:  []Field{scalingFactor(0.3), density(0.5), seed},
	Weights: AnyWeights,
	begin: func(c *Config, t *Tensor) (Rule, error) {
		lambda := c.Value(ScalingFactor)
		sparse := c.drops(t)
		return func(dst []float64, b *Block) {
			sparse(b)
			weightedSum(dst, b.Deltas, c.Weights)
			addScaled(dst, b.Base, lambda)
		}, nil
	},
}

// dareTIES is dareLinear with TIES' election of signs and disjoint mean in
// place of the sum. Nothing is trimmed by magnitude (as in mergekit and peft).
var dareTIES = Method{
	Name: "dare_ties", Title: "DARE with TIES", Paper: "arXiv:2311.03099",
	About:   "TIES-Merging of task vectors of which random values, not the smallest, are dropped",
	Fields:  []Field{scalingFactor(1), density(0.5), seed},
	Weights: PositiveWeights,
	begin: func(c *Config, t *Tensor) (Rule, error) {
		lambda := c.Value(ScalingFactor)
		sparse := c.drops(t)
		return func(dst []float64, b *Block) {
			sparse(b)
			elect(dst, b.Deltas, c.Weights)
			disjointMean(dst, b.Deltas, c.Weights)
			addScaled(dst, b.Base, lambda)
		}, nil
	},
}

// drops returns what drops values of a tensor's task vectors.
func (c *Config) drops(t *Tensor) func(b *Block) {
	keep := c.Value(Density)
	masks := make([]mask, len(c.Experts))
	for e, name := range c.Experts {
		masks[e] = newMask(uint64(c.Value(Seed)), name, t.Name)
	}
	return func(b *Block) {
		for e, delta := range b.Deltas {
			if keep < 1 {
				drop(delta, delta, masks[e], b.Offset, keep)
			}
		}
	}
}
