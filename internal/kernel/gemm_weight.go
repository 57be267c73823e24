package kernel

// gemmWeight is GemmWeight on arguments that are known to fit.
func gemmWeight(workers int, c, x Matrix, w Weight, beta float32) {
	active.f32.multiply(workers, c.Rows, c.Cols, x.Cols, 1, x.operand(false), w.operand(), beta, c.Data, c.Stride)
}
