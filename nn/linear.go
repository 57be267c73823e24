package nn

import (
	"fmt"

	"smelt/dtype"
	"smelt/internal/kernel"
	"smelt/tensor"
)

// Linear is y = x·Wᵀ + b in whatever form its weights are held: one stored
// matrix ([Dense]), or a base with routed experts.
type Linear interface {
	// In and Out are the sizes of an input and of an output row.
	In() int
	Out() int

	// Forward writes y [N, Out] for x [N, In]. y must not overlap x. It takes
	// scratch memory from p and gives it back.
	Forward(p *Pass, y, x kernel.Matrix)
}

// Dense is a linear layer as stored.
type Dense struct {
	Weight kernel.Weight // [out, in]
	Bias   []float32     // [out], or nil
}

// In returns the size of an input row.
func (d *Dense) In() int { return d.Weight.Cols }

// Out returns the size of an output row.
func (d *Dense) Out() int { return d.Weight.Rows }

// fewRows is how many rows are bound by reading the weights: rounding them
// would gain nothing.
const fewRows = 16

// Forward writes y = x·Wᵀ + b.
func (d *Dense) Forward(p *Pass, y, x kernel.Matrix) {
	if !p.Exact && d.Weight.DType == dtype.BF16 && x.Rows > fewRows {
		kernel.GemmBF16(p.Workers, y, x, d.Weight, 0)
	} else {
		kernel.GemmWeight(p.Workers, y, x, d.Weight, 0)
	}
	switch {
	case d.Bias == nil:
	case p.Serial(y.Rows, y.Cols):
		d.addBias(y, 0, y.Rows)
	default:
		p.ForRows(y.Rows, y.Cols, func(lo, hi int) { d.addBias(y, lo, hi) })
	}
}

func (d *Dense) addBias(y kernel.Matrix, lo, hi int) {
	for i := lo; i < hi; i++ {
		kernel.Add(y.Row(i), y.Row(i), d.Bias)
	}
}

// Job is one layer of a ForwardAll and where its output goes.
type Job struct {
	Layer Linear
	Y     kernel.Matrix // [N, Out]
}

// ForwardAll runs layers that share their input x [N, In]. Dense ones of few
// rows go to the workers together, which start and wait once.
func ForwardAll(p *Pass, x kernel.Matrix, jobs ...Job) {
	m := p.Mark()
	problems := p.Problems(len(jobs))[:0]
	for _, j := range jobs {
		d, ok := j.Layer.(*Dense)
		if !ok || x.Rows > fewRows {
			j.Layer.Forward(p, j.Y, x)
			continue
		}
		problems = append(problems, kernel.Problem{C: j.Y, X: x, W: d.Weight})
	}
	if len(problems) > 0 {
		kernel.GemmGroup(p.Workers, problems)
		for _, j := range jobs {
			if d, ok := j.Layer.(*Dense); ok && d.Bias != nil {
				d.addBias(j.Y, 0, x.Rows)
			}
		}
	}
	p.Release(m)
}

// Weight returns a matrix of a checkpoint as the kernels read it: in place for
// F32, BF16 and F16, rounded once to a float32 copy for F64.
func Weight(t tensor.Tensor) (kernel.Weight, error) {
	if len(t.Shape) != 2 {
		return kernel.Weight{}, fmt.Errorf("nn: a weight of shape %v, want two dimensions", t.Shape)
	}
	if err := t.Validate(); err != nil {
		return kernel.Weight{}, err
	}
	w := kernel.Weight{Rows: t.Shape[0], Cols: t.Shape[1], DType: t.DType, Data: t.Data}
	switch t.DType {
	case dtype.F32, dtype.BF16, dtype.F16:
		return w, nil
	case dtype.F64:
		v, err := t.Float32()
		if err != nil {
			return kernel.Weight{}, err
		}
		w.DType, w.Data = dtype.F32, kernel.BytesOf(v)
		return w, nil
	}
	return kernel.Weight{}, fmt.Errorf("nn: weight of dtype %v, want F32, BF16, F16 or F64", t.DType)
}

// Transposed returns wᵀ as a copy in w's dtype.
func Transposed(w kernel.Weight) kernel.Weight {
	n := w.DType.Size()
	t := kernel.Weight{Rows: w.Cols, Cols: w.Rows, DType: w.DType, Data: make([]byte, w.Rows*w.Cols*n)}
	for i := range w.Rows {
		for j := range w.Cols {
			copy(t.Data[(j*w.Rows+i)*n:][:n], w.Data[(i*w.Cols+j)*n:])
		}
	}
	return t
}
