package nn

import "smelt/internal/kernel"

// LayerNorm is (x - mean)/√(variance + ε)·weight + bias, row by row.
type LayerNorm struct {
	Weight, Bias []float32 // [D]
	Eps          float32
}

// Forward writes y [N, D], which may be x.
func (l *LayerNorm) Forward(p *Pass, y, x kernel.Matrix) {
	if p.Serial(x.Rows, x.Cols) {
		l.rows(y, x, 0, x.Rows)
		return
	}
	p.ForRows(x.Rows, x.Cols, func(lo, hi int) { l.rows(y, x, lo, hi) })
}

func (l *LayerNorm) rows(y, x kernel.Matrix, lo, hi int) {
	for i := lo; i < hi; i++ {
		kernel.LayerNorm(y.Row(i), x.Row(i), l.Weight, l.Bias, l.Eps)
	}
}

// RMSNorm is x/√(mean x² + ε)·weight, row by row.
type RMSNorm struct {
	Weight []float32 // [D]
	Eps    float32
}

// Forward writes y [N, D], which may be x.
func (r *RMSNorm) Forward(p *Pass, y, x kernel.Matrix) {
	if p.Serial(x.Rows, x.Cols) {
		r.rows(y, x, 0, x.Rows)
		return
	}
	p.ForRows(x.Rows, x.Cols, func(lo, hi int) { r.rows(y, x, lo, hi) })
}

func (r *RMSNorm) rows(y, x kernel.Matrix, lo, hi int) {
	for i := lo; i < hi; i++ {
		kernel.RMSNorm(y.Row(i), x.Row(i), r.Weight, r.Eps)
	}
}

// Add adds x to y, row by row.
func Add(p *Pass, y, x kernel.Matrix) {
	if p.Serial(x.Rows, x.Cols) {
		addRows(y, x, 0, x.Rows)
		return
	}
	p.ForRows(x.Rows, x.Cols, func(lo, hi int) { addRows(y, x, lo, hi) })
}

func addRows(y, x kernel.Matrix, lo, hi int) {
	for i := lo; i < hi; i++ {
		kernel.Add(y.Row(i), y.Row(i), x.Row(i))
	}
}
