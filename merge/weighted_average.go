package merge

// weightedAverage is the mean of the experts' weights by given weights, whose
// sum counts as one.
var weightedAverage = Method{
	Name: "weighted_average", Title: "Weighted average", Paper: "arXiv:2203.05482 (model soups)",
	About:   "the mean of the experts' weights, each counted by its own weight",
	Weights: NeededWeights,
	begin:   average,
}
