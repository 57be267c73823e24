package engine

import (
	"fmt"
	"math"

	"smelt/dtype"
	"smelt/internal/kernel"
	"smelt/internal/parallel"
	"smelt/internal/vfs"
	"smelt/linalg"
	"smelt/merge"
	"smelt/taskvector"
	"smelt/tensor"
)

const (
	mergeBlock     = 1 << 13 // elements of a stretch
	mergeBlockWide = 1 << 18 // of one that takes a product of an adapter's factors
)

// change is what one expert changed in one tensor: a whole tensor, or factors,
// or a difference of biases; none of them where it left it as it was.
type change struct {
	whole      *tensor.Tensor
	factors    *taskvector.LowRank
	transposed bool // of factors: the base stores [in, out]
	bias       []float64
}

func (c *change) touched() bool { return c.whole != nil || c.factors != nil || c.bias != nil }

// mergeSource reads one tensor of a merge in stretches.
type mergeSource struct {
	name    string
	base    tensor.Tensor
	experts []*taskvector.Expert
	changes []change // by expert
}

func (s *mergeSource) touched() bool {
	for i := range s.changes {
		if s.changes[i].touched() {
			return true
		}
	}
	return false
}

// release lets the experts' pages go; the base's go when the unit is written.
func (s *mergeSource) release() {
	for _, e := range s.experts {
		e.Release(s.name)
	}
}

// stretch is how many elements a block has: whole rows where factors are
// multiplied.
func (s *mergeSource) stretch() int {
	for i := range s.changes {
		if s.changes[i].factors != nil {
			return max(1, mergeBlockWide/s.base.Shape[1]) * s.base.Shape[1]
		}
	}
	return mergeBlock
}

// tensor is what package merge sees.
func (s *mergeSource) tensor() *merge.Tensor {
	n, step := s.base.Elements(), s.stretch()
	return &merge.Tensor{
		Name: s.name, Blocks: (n + step - 1) / step,
		Read: func(b *merge.Block, i int) (*merge.Block, error) { return s.read(b, i*step, min(n, (i+1)*step)) },
	}
}

// read fills a block with elements lo to hi.
func (s *mergeSource) read(b *merge.Block, lo, hi int) (*merge.Block, error) {
	if b == nil {
		step := min(s.stretch(), s.base.Elements())
		b = &merge.Block{Base: make([]float64, step), Deltas: make([][]float64, len(s.changes))}
		for i := range s.changes {
			if s.changes[i].touched() {
				b.Deltas[i] = make([]float64, step)
			}
		}
	}
	b.Offset, b.Base = lo, b.Base[:hi-lo]
	widen(b.Base, s.base, lo)
	if i := notFinite(b.Base); i >= 0 {
		return nil, s.broken("base", lo+i, b.Base[i])
	}
	for e := range s.changes {
		c := &s.changes[e]
		if !c.touched() {
			continue
		}
		delta := b.Deltas[e][:hi-lo]
		b.Deltas[e] = delta
		switch {
		case c.whole != nil:
			widen(delta, *c.whole, lo)
			kernel.Axpy64(-1, b.Base, delta)
		case c.factors != nil:
			c.product(delta, lo/s.base.Shape[1], hi/s.base.Shape[1])
		default:
			copy(delta, c.bias[lo:hi])
		}
		if i := notFinite(delta); i >= 0 {
			return nil, s.broken("expert "+s.experts[e].Name, lo+i, delta[i]+b.Base[i])
		}
	}
	return b, nil
}

// product computes rows lo to hi, as the base stores them, of an adapter's
// delta.
func (c *change) product(dst []float64, lo, hi int) {
	l := c.factors
	a, b := l.A, l.B // [r, in], [out, r]
	var m linalg.Matrix
	if c.transposed {
		a.Data, a.Cols = a.Data[lo:], hi-lo
		m = kernel.New(hi-lo, b.Rows)
		kernel.Gemm(1, true, true, float32(l.Scale), a, b, 0, m)
	} else {
		b.Data, b.Rows = b.Data[lo*b.Stride:], hi-lo
		m = kernel.New(hi-lo, a.Cols)
		kernel.Gemm(1, false, false, float32(l.Scale), b, a, 0, m)
	}
	kernel.F32ToF64(dst, m.Data)
}

func (s *mergeSource) broken(who string, i int, v float64) error {
	return fmt.Errorf("%s: tensor %q: element %d is %v, want a finite number: the checkpoint is broken", who, s.name, i, v)
}

// merge merges the tensor and rounds it once, to the type that is asked for.
func (s *mergeSource) merge(c *merge.Config, to dtype.DType, workers int) (tensor.Tensor, error) {
	t := s.tensor()
	rule, err := c.Begin(t)
	if err != nil {
		return tensor.Tensor{}, err
	}
	n, step := s.base.Elements(), s.stretch()
	out := tensor.Tensor{DType: to, Shape: s.base.Shape, Data: make([]byte, n*to.Size())}
	// Runs of blocks go to the workers; of several errors the first counts.
	runs := min(t.Blocks, 4*parallel.Workers(workers))
	errs := make([]error, runs)
	parallel.For(workers, runs, func(r int) {
		errs[r] = vfs.Guard(func() (err error) {
			var b *merge.Block
			dst := make([]float64, min(step, n))
			for i := t.Blocks * r / runs; i < t.Blocks*(r+1)/runs; i++ {
				if b, err = t.Read(b, i); err != nil {
					return err
				}
				dst := dst[:len(b.Base)]
				rule(dst, b)
				if err := s.round(out, b.Offset, dst); err != nil {
					return err
				}
			}
			return nil
		})
	})
	for _, err := range errs {
		if err != nil {
			return tensor.Tensor{}, err
		}
	}
	return out, nil
}

// round stores merged values, which must fit the type.
func (s *mergeSource) round(out tensor.Tensor, lo int, v []float64) error {
	size := out.DType.Size()
	data := out.Data[lo*size : (lo+len(v))*size]
	if out.DType == dtype.BF16 && roundBF16(data, v) {
		return nil
	}
	dtype.FromFloat64(data, v, out.DType)
	if limit := overflow(out.DType); limit < math.MaxFloat64 {
		for i, x := range v {
			if !(math.Abs(x) < limit) {
				return fmt.Errorf("tensor %q: element %d of the merge is %g, which %v cannot hold: another --dtype can", s.name, lo+i, x, out.DType)
			}
		}
	} else if i := notFinite(v); i >= 0 {
		return fmt.Errorf("tensor %q: element %d of the merge is %v: the weights or the scaling factor are too large", s.name, lo+i, v[i])
	}
	return nil
}

// roundBF16 is dtype.FromFloat64 for bfloat16; done is false where v has a
// number that overflows, or is no normal one but not zero, which it leaves to
// that. All but 24 significant bits of a number become one bit, which the last
// of these takes over: rounded from there, it is rounded once (round to odd).
func roundBF16(dst []byte, v []float64) (done bool) {
	const (
		low      = 1<<29 - 1          // the bits of float64's mantissa that float32 lacks
		smallest = (1023 - 126) << 53 // 2⁻¹²⁶ without its sign
	)
	limit := math.Float64bits(overflow(dtype.BF16)) << 1
	var odd [256]float64
	var narrow [256]float32
	for len(v) > 0 {
		n := min(len(v), len(odd))
		for i, x := range v[:n] {
			b := math.Float64bits(x)
			if m := b << 1; m >= limit || m-1 < smallest-1 {
				return false
			}
			odd[i] = math.Float64frombits((b | (b&low + low)) &^ low)
		}
		kernel.F64ToF32(narrow[:n], odd[:n])
		kernel.Narrow(1, dst[:2*n], dtype.BF16, narrow[:n])
		dst, v = dst[2*n:], v[n:]
	}
	return true
}

// overflow is the least magnitude that a type rounds to infinity.
func overflow(d dtype.DType) float64 {
	switch d {
	case dtype.F16:
		return 65520
	case dtype.BF16:
		return 0x1.ffp127
	case dtype.F32:
		return 0x1.ffffffp127
	}
	return math.MaxFloat64
}

// widen reads len(dst) elements of a tensor from element lo.
func widen(dst []float64, t tensor.Tensor, lo int) {
	size := t.DType.Size()
	data := t.Data[lo*size : (lo+len(dst))*size]
	if t.DType == dtype.F64 {
		dtype.ToFloat64(dst, data, t.DType)
		return
	}
	var narrow [1 << 10]float32
	for len(dst) > 0 {
		n := min(len(dst), len(narrow))
		kernel.Widen(1, narrow[:n], data[:n*size], t.DType)
		kernel.F32ToF64(dst[:n], narrow[:n])
		dst, data = dst[n:], data[n*size:]
	}
}

// notFinite returns the first index of what is not finite, or −1.
func notFinite(v []float64) int {
	if sum := kernel.Dot64(v, v); sum-sum == 0 { // no square is infinite or NaN
		return -1
	}
	for i, x := range v {
		if x-x != 0 {
			return i
		}
	}
	return -1
}
