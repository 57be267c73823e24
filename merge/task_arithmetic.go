package merge

// taskArithmetic is base + λ·Σ wₑ·Δₑ.
var taskArithmetic = Method{
	Name: "task_arithmetic", Title: "Task arithmetic", Paper: "arXiv:2212.04089",
	About:   "the base and the sum of all task vectors, scaled",
	Fields:  []Field{scalingFactor(0.3)},
	Weights: AnyWeights,
	begin: func(c *Config, _ *Tensor) (Rule, error) {
		lambda := c.Value(ScalingFactor)
		return func(dst []float64, b *Block) {
			weightedSum(dst, b.Deltas, c.Weights)
			addScaled(dst, b.Base, lambda)
		}, nil
	},
}
