package merge

// tiesMerging trims each task vector to its largest values, elects a sign for
// each parameter, and takes the mean of the values that have it:
// base + λ·mean.
//
// As in the paper and its authors' code the trim is over the whole task
// vector, not tensor by tensor (as mergekit and peft do it): layers that
// changed much keep more. Where the trimmed values cancel exactly, the positive
// sign is elected, as in mergekit and peft.
var tiesMerging = Method{
	Name: "ties", Title: "TIES-Merging", Paper: "arXiv:2306.01708",
	About:   "the base and the mean of what is left of the task vectors after small values and the minority's signs are dropped",
	Fields:  []Field{scalingFactor(1), density(0.2)},
	Weights: PositiveWeights,
	Trims:   true,
	begin: func(c *Config, _ *Tensor) (Rule, error) {
		lambda := c.Value(ScalingFactor)
		return func(dst []float64, b *Block) {
			for e, delta := range b.Deltas {
				trim(delta, delta, c.Thresholds[e])
			}
			elect(dst, b.Deltas, c.Weights)
			disjointMean(dst, b.Deltas, c.Weights)
			addScaled(dst, b.Base, lambda)
		}, nil
	},
}
