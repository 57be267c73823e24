package kernel

import (
	"bytes"
	"fmt"
	"math"

	"smelt/dtype"
	"smelt/internal/parallel"
)

// Stored is a run of elements as a checkpoint stores them: little-endian bytes
// of a floating-point dtype, aligned or not.
type Stored struct {
	DType dtype.DType
	Data  []byte
}

// Len returns the number of elements.
func (s Stored) Len() int { return len(s.Data) / s.DType.Size() }

func (s Stored) slice(lo, hi int) Stored {
	n := s.DType.Size()
	return Stored{s.DType, s.Data[lo*n : hi*n]}
}

// Stats says what a difference d = a − b looks like. It does not depend on the
// number of workers.
type Stats struct {
	SumSquares float64 // Σ d[i]², summed in float64
	MaxAbs     float32 // max |d[i]|, of the elements that are not NaN
	NonFinite  int     // elements of d that are NaN or infinite
	NonZero    int     // elements of d that are not zero, NaN among them
}

// chunk is the unit of work, and of the summing, of loops over long vectors: a
// partial result per chunk, added in order.
const chunk = 1 << 15

// SubTo computes dst = a − b in one pass, both widened to float32, and returns
// what the difference looks like.
//
//	for i { dst[i] = float32(a[i]) - float32(b[i]) }
func SubTo(workers int, dst []float32, a, b Stored) Stats {
	checkSub("SubTo", a, b)
	if len(dst) != a.Len() {
		panic(fmt.Sprintf("kernel: SubTo: dst has %d elements, a has %d", len(dst), a.Len()))
	}
	return subChunks(workers, dst, a, b)
}

// Diff returns what a − b looks like without storing it.
func Diff(workers int, a, b Stored) Stats {
	checkSub("Diff", a, b)
	return subChunks(workers, nil, a, b)
}

// SubTo64 computes dst = a − b, both widened to float64.
func SubTo64(workers int, dst []float64, a, b Stored) {
	checkSub("SubTo64", a, b)
	if len(dst) != a.Len() {
		panic(fmt.Sprintf("kernel: SubTo64: dst has %d elements, a has %d", len(dst), a.Len()))
	}
	const step = 512
	n := len(dst)
	parallel.For(workers, (n+chunk-1)/chunk, func(c int) {
		var buf [step]float64
		for lo := c * chunk; lo < min(n, (c+1)*chunk); lo += step {
			hi := min(n, lo+step)
			dtype.ToFloat64(dst[lo:hi], a.slice(lo, hi).Data, a.DType)
			dtype.ToFloat64(buf[:hi-lo], b.slice(lo, hi).Data, b.DType)
			Axpy64(-1, buf[:hi-lo], dst[lo:hi])
		}
	})
}

// Equal reports whether a and b hold the same bytes; it stops at the first
// difference.
func Equal(a, b []byte) bool { return bytes.Equal(a, b) }

func checkSub(op string, a, b Stored) {
	if !a.DType.IsFloat() || !b.DType.IsFloat() || len(a.Data)%a.DType.Size() != 0 ||
		len(b.Data)%b.DType.Size() != 0 || a.Len() != b.Len() {
		panic(fmt.Sprintf("kernel: %s: a is %d bytes of %v, b is %d bytes of %v", op, len(a.Data), a.DType, len(b.Data), b.DType))
	}
}

func subChunks(workers int, dst []float32, a, b Stored) Stats {
	n := a.Len()
	parts := make([]Stats, (n+chunk-1)/chunk)
	parallel.For(workers, len(parts), func(c int) {
		lo, hi := c*chunk, min(n, (c+1)*chunk)
		var d []float32
		if dst != nil {
			d = dst[lo:hi]
		}
		parts[c] = subChunk(d, a.slice(lo, hi), b.slice(lo, hi))
	})
	var s Stats
	for _, p := range parts {
		s.SumSquares += p.SumSquares
		s.MaxAbs = max(s.MaxAbs, p.MaxAbs)
		s.NonFinite += p.NonFinite
		s.NonZero += p.NonZero
	}
	return s
}

// subChunk is SubTo on one chunk; dst may be nil.
func subChunk(dst []float32, a, b Stored) Stats {
	const step = 512
	var s Stats
	var x, y [step]float32
	for lo := 0; lo < a.Len(); lo += step {
		hi := min(a.Len(), lo+step)
		dtype.ToFloat32(x[:hi-lo], a.slice(lo, hi).Data, a.DType)
		dtype.ToFloat32(y[:hi-lo], b.slice(lo, hi).Data, b.DType)
		for i, v := range x[:hi-lo] {
			d := v - y[i]
			if dst != nil {
				dst[lo+i] = d
			}
			s.SumSquares += float64(d) * float64(d)
			abs := math.Float32frombits(math.Float32bits(d) &^ (1 << 31))
			if abs > s.MaxAbs {
				s.MaxAbs = abs
			}
			if !(abs <= math.MaxFloat32) {
				s.NonFinite++
			}
			if d != 0 {
				s.NonZero++
			}
		}
	}
	return s
}
