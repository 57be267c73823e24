package kernel

// chunkStats is what a subtraction kernel says of up to 2³⁰ differences.
type chunkStats struct {
	sumSquares float64
	maxAbs     float32
	nonFinite  int32
	nonZero    int32
}
