package taskvector

import (
	"fmt"
	"slices"
	"sync"

	"smelt/checkpoint"
	"smelt/dtype"
	"smelt/internal/kernel"
	"smelt/linalg"
	"smelt/tensor"
)

// Delta is what an expert changed in one linear layer. At most one of Dense,
// Dense64 and the factors is set; none where the weight is untouched.
type Delta struct {
	Out, In int
	Dense   *linalg.Matrix   // [out, in]; rows may lie apart
	Dense64 *linalg.Matrix64 // [out, in], where base and expert are float64
	LowRank *LowRank
	Energy  float64   // ‖Dense‖²_F
	Bias    []float64 // Δb [out]; nil where the bias is untouched
}

// LowRank is a delta Scale·B·A.
type LowRank struct {
	B, A  linalg.Matrix // [out, r], [r, in]
	Scale float64
}

// spare is the memory of deltas that are done with, until an expert is closed:
// finding fresh memory for each takes about as long as the subtraction. There
// are never more pieces than deltas at a time.
var spare struct {
	sync.Mutex
	pieces [][]float32 // by rising size
}

// apart is how many elements lie between the rows of a large delta whose rows
// would otherwise start multiples of 4 KiB apart, in the same few lines of each
// cache.
const apart = 16

// stride is the distance between rows of a delta.
func stride(rows, cols int) int {
	if min(rows, cols) > 1024 && cols%1024 == 0 {
		return cols + apart
	}
	return cols
}

// dense returns a matrix of any content.
func dense(rows, cols int) linalg.Matrix {
	m := linalg.Matrix{Rows: rows, Cols: cols, Stride: stride(rows, cols)}
	m.Data = piece(rows * m.Stride)
	return m
}

// piece returns n elements of any content.
func piece(n int) []float32 {
	spare.Lock()
	defer spare.Unlock()
	for i, p := range spare.pieces {
		if cap(p) >= n {
			spare.pieces = slices.Delete(spare.pieces, i, i+1)
			return p[:n]
		}
	}
	if len(spare.pieces) > 0 { // a larger one takes its place
		spare.pieces = slices.Delete(spare.pieces, 0, 1)
	}
	return make([]float32, n)
}

// Free lets later deltas use the memory of Dense, which must not be used any
// more.
func (d *Delta) Free() {
	if d.Dense == nil {
		return
	}
	spare.Lock()
	defer spare.Unlock()
	p := d.Dense.Data
	i, _ := slices.BinarySearchFunc(spare.pieces, cap(p), func(q []float32, n int) int { return cap(q) - n })
	spare.pieces = slices.Insert(spare.pieces, i, p)
	d.Dense = nil
}

// Touched reports whether the weight changed.
func (d *Delta) Touched() bool { return d.Dense != nil || d.Dense64 != nil || d.LowRank != nil }

// Delta computes what the expert changed in the linear layer module of the
// base. A weight that the expert stores in a coarser type than the base (or
// the other way round) is untouched where all of it agrees in that type. The
// difference is taken in float32, in float64 where both are, and never in a
// half type. transposed says that the base stores the weight as [in, out].
func (e *Expert) Delta(module string, transposed bool, workers int) (*Delta, error) {
	w, ok := e.base.Lookup(module + ".weight")
	if !ok || len(w.Shape) != 2 {
		return nil, fmt.Errorf("taskvector: base has no 2-D tensor %q", module+".weight")
	}
	d := &Delta{Out: w.Shape[0], In: w.Shape[1]}
	if transposed {
		d.Out, d.In = d.In, d.Out
	}
	var err error
	if m, ok := e.modules[module]; ok {
		err = e.factors(d, m)
	} else {
		err = e.difference(d, w.Name, transposed, workers)
	}
	if err != nil {
		return nil, err
	}
	return d, e.bias(d, module)
}

func (e *Expert) factors(d *Delta, m checkpoint.AdapterModule) error {
	l := &LowRank{Scale: m.Scale}
	for _, f := range []struct {
		name string
		to   *linalg.Matrix
	}{{m.B, &l.B}, {m.A, &l.A}} {
		t, err := e.adapter.Tensor(f.name)
		if err != nil {
			return err
		}
		v, err := t.Float32()
		if err != nil {
			return fmt.Errorf("expert %s: tensor %q: %w", e.Name, f.name, err)
		}
		if len(t.Shape) != 2 {
			return fmt.Errorf("expert %s: tensor %q has shape %v, want two dimensions", e.Name, f.name, t.Shape)
		}
		if i := nonFinite(v); i >= 0 {
			return fmt.Errorf("expert %s: tensor %q: element %d is %v, want a finite number: the fine-tune is broken", e.Name, f.name, i, v[i])
		}
		*f.to = kernel.Of(t.Shape[0], t.Shape[1], v)
	}
	if l.B.Rows != d.Out || l.A.Cols != d.In || l.B.Cols != l.A.Rows {
		return fmt.Errorf("expert %s: factors [%d,%d]·[%d,%d] of %q do not fit the base's [%d,%d]",
			e.Name, l.B.Rows, l.B.Cols, l.A.Rows, l.A.Cols, m.Name, d.Out, d.In)
	}
	if zero(l.A.Data) || zero(l.B.Data) || l.Scale == 0 {
		return nil // LoRA starts at B = 0: never trained
	}
	d.LowRank = l
	return nil
}

func (e *Expert) difference(d *Delta, name string, transposed bool, workers int) error {
	x, ok, err := e.Tensor(name)
	if err != nil || !ok {
		return err
	}
	b, err := e.base.Tensor(name)
	if err != nil {
		return err
	}
	switch same, err := Same(x, b); {
	case err != nil:
		return fmt.Errorf("expert %s: tensor %q: %w", e.Name, name, err)
	case same:
		return nil
	}
	rows, cols := b.Shape[0], b.Shape[1]
	xs, bs := kernel.Stored{DType: x.DType, Data: x.Data}, kernel.Stored{DType: b.DType, Data: b.Data}
	if x.DType == dtype.F64 && b.DType == dtype.F64 {
		m := kernel.New64(rows, cols)
		kernel.SubTo64(workers, m.Data, xs, bs)
		for i, v := range m.Data {
			if v-v != 0 {
				return e.broken(name, i/cols, i%cols, x, b)
			}
		}
		if transposed {
			m = transpose64(m)
		}
		d.Dense64 = &m
		return nil
	}
	m := dense(rows, cols)
	stats := kernel.SubRows(workers, m, xs, bs)
	if stats.NonFinite > 0 {
		for i := range rows {
			if j := nonFinite(m.Row(i)); j >= 0 {
				return e.broken(name, i, j, x, b)
			}
		}
	}
	if stats.NonZero == 0 {
		return nil // 0 and -0
	}
	if transposed {
		m = transpose(m)
	}
	d.Dense, d.Energy = &m, stats.SumSquares
	return nil
}

// broken says which of two tensors holds what is not finite at [i,j].
func (e *Expert) broken(name string, i, j int, x, b tensor.Tensor) error {
	who, t := "expert "+e.Name, x
	v := element(t, i*t.Shape[1]+j)
	if v-v == 0 {
		who, t = "base", b
		v = element(t, i*t.Shape[1]+j)
	}
	if v-v == 0 {
		return fmt.Errorf("expert %s: tensor %q: the difference to the base overflows at [%d,%d]", e.Name, name, i, j)
	}
	return fmt.Errorf("%s: tensor %q: element [%d,%d] is %v, want a finite number: the checkpoint is broken", who, name, i, j, v)
}

func element(t tensor.Tensor, i int) float64 {
	var v [1]float64
	n := t.DType.Size()
	dtype.ToFloat64(v[:], t.Data[i*n:(i+1)*n], t.DType)
	return v[0]
}

// bias sets Δb from a bias that the expert has whole, and from lora_B's own.
func (e *Expert) bias(d *Delta, module string) error {
	name := module + ".bias"
	add := func(t tensor.Tensor, scale float64, what string) error {
		v, err := t.Float64()
		if err != nil {
			return fmt.Errorf("tensor %q: %w", what, err)
		}
		if len(v) != d.Out {
			return fmt.Errorf("tensor %q has shape %v, want [%d]", what, t.Shape, d.Out)
		}
		if d.Bias == nil {
			d.Bias = make([]float64, d.Out)
		}
		for i, x := range v {
			if x-x != 0 {
				return fmt.Errorf("tensor %q: element %d is %v, want a finite number: the checkpoint is broken", what, i, x)
			}
			d.Bias[i] += scale * x
		}
		return nil
	}
	if x, ok, err := e.Tensor(name); err != nil {
		return err
	} else if ok {
		same := false
		b, has := e.base.Lookup(name)
		var bt tensor.Tensor
		if has {
			if bt, err = e.base.Tensor(b.Name); err != nil {
				return err
			}
			if same, err = Same(x, bt); err != nil {
				return fmt.Errorf("expert %s: tensor %q: %w", e.Name, name, err)
			}
		}
		if !same {
			if err := add(x, 1, name); err != nil {
				return fmt.Errorf("expert %s: %w", e.Name, err)
			}
			if has {
				if err := add(bt, -1, name); err != nil {
					return fmt.Errorf("base: %w", err)
				}
			}
		}
	}
	if m, ok := e.modules[module]; ok && m.BiasB != "" {
		t, err := e.adapter.Tensor(m.BiasB)
		if err != nil {
			return err
		}
		if err := add(t, m.Scale, m.BiasB); err != nil {
			return fmt.Errorf("expert %s: %w", e.Name, err)
		}
	}
	for _, v := range d.Bias {
		if v != 0 {
			return nil
		}
	}
	d.Bias = nil
	return nil
}

// Same reports whether two tensors of one shape agree after rounding both to
// the coarser of their types.
func Same(a, b tensor.Tensor) (bool, error) {
	if a.Elements() != b.Elements() {
		return false, fmt.Errorf("shape %v, the base's is %v", a.Shape, b.Shape)
	}
	if a.DType == b.DType {
		return kernel.Equal(a.Data, b.Data), nil
	}
	if !a.DType.IsFloat() || !b.DType.IsFloat() {
		return false, fmt.Errorf("type %v, the base's is %v", a.DType, b.DType)
	}
	coarse := dtype.Coarser(a.DType, b.DType)
	const step = 1 << 14
	var wide [step]float64
	var ra, rb [step * 8]byte
	for lo, n := 0, a.Elements(); lo < n; lo += step {
		m := min(step, n-lo)
		for _, s := range []struct {
			t   tensor.Tensor
			out []byte
		}{{a, ra[:]}, {b, rb[:]}} {
			size := s.t.DType.Size()
			dtype.ToFloat64(wide[:m], s.t.Data[lo*size:(lo+m)*size], s.t.DType)
			dtype.FromFloat64(s.out[:m*coarse.Size()], wide[:m], coarse)
		}
		if !kernel.Equal(ra[:m*coarse.Size()], rb[:m*coarse.Size()]) {
			return false, nil
		}
	}
	return true, nil
}

func nonFinite(v []float32) int {
	for i, x := range v {
		if x-x != 0 {
			return i
		}
	}
	return -1
}

func zero(v []float32) bool {
	for _, x := range v {
		if x != 0 {
			return false
		}
	}
	return true
}

// tile is the edge of the squares in which matrices are transposed.
const tile = 32

func transpose(m linalg.Matrix) linalg.Matrix {
	t := dense(m.Cols, m.Rows)
	for i0 := 0; i0 < m.Rows; i0 += tile {
		for j0 := 0; j0 < m.Cols; j0 += tile {
			for i := i0; i < min(i0+tile, m.Rows); i++ {
				for j := j0; j < min(j0+tile, m.Cols); j++ {
					t.Data[j*t.Stride+i] = m.Data[i*m.Stride+j]
				}
			}
		}
	}
	return t
}

func transpose64(m linalg.Matrix64) linalg.Matrix64 {
	t := kernel.New64(m.Cols, m.Rows)
	for i := range m.Rows {
		for j := range m.Cols {
			t.Data[j*t.Stride+i] = m.Data[i*m.Stride+j]
		}
	}
	return t
}

// Product is the dense delta Scale·B·A [out, in].
func (l *LowRank) Product() linalg.Matrix {
	m := kernel.New(l.B.Rows, l.A.Cols)
	kernel.Gemm(0, false, false, float32(l.Scale), l.B, l.A, 0, m)
	return m
}
