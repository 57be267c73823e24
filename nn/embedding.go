package nn

import (
	"fmt"

	"smelt/dtype"
	"smelt/internal/kernel"
)

// Embedding is a table of rows by id.
type Embedding struct {
	Weight kernel.Weight // [V, D]
}

// Forward writes row ids[i] to y's row i. An id outside the table is an error
// that names it.
func (e *Embedding) Forward(y kernel.Matrix, ids []int) error {
	for i, id := range ids {
		if id < 0 || id >= e.Weight.Rows {
			return fmt.Errorf("token id %d at position %d is outside the vocabulary of %d", id, i, e.Weight.Rows)
		}
		e.row(y.Row(i), id)
	}
	return nil
}

// Add adds row id to y.
func (e *Embedding) Add(p *Pass, y []float32, id int) {
	m := p.Mark()
	row := p.Floats(e.Weight.Cols)
	e.row(row, id)
	kernel.Add(y, y, row)
	p.Release(m)
}

func (e *Embedding) row(y []float32, id int) {
	n := e.Weight.Cols * e.Weight.DType.Size()
	dtype.ToFloat32(y, e.Weight.Data[id*n:(id+1)*n], e.Weight.DType)
}
