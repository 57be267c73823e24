package kernel

import (
	"bytes"
	"fmt"
	"unsafe"

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

// SubRows is [SubTo] for a dst whose rows may lie apart; a and b are rows
// without gaps.
func SubRows(workers int, dst Matrix, a, b Stored) Stats {
	dst.check("SubRows")
	checkSub("SubRows", a, b)
	if dst.Rows*dst.Cols != a.Len() {
		panic(fmt.Sprintf("kernel: SubRows: dst is %d × %d, a has %d elements", dst.Rows, dst.Cols, a.Len()))
	}
	if dst.Stride == dst.Cols {
		return subChunks(workers, dst.Data[:a.Len()], a, b)
	}
	if a.Len() == 0 {
		return Stats{}
	}
	band := (chunk + dst.Cols - 1) / dst.Cols // rows
	parts := make([]Stats, (dst.Rows+band-1)/band)
	parallel.For(chunkWorkers(workers, a.Len()), len(parts), func(p int) {
		for i := p * band; i < min(dst.Rows, (p+1)*band); i++ {
			lo, hi := i*dst.Cols, (i+1)*dst.Cols
			parts[p].merge(subChunk(dst.Row(i), a.slice(lo, hi), b.slice(lo, hi)))
		}
	})
	return sumStats(parts)
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
	parallel.For(chunkWorkers(workers, n), chunks(n), func(c int) {
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
	parts := make([]Stats, chunks(n))
	parallel.For(chunkWorkers(workers, n), len(parts), func(c int) {
		lo, hi := c*chunk, min(n, (c+1)*chunk)
		var d []float32
		if dst != nil {
			d = dst[lo:hi]
		}
		parts[c] = subChunk(d, a.slice(lo, hi), b.slice(lo, hi))
	})
	return sumStats(parts)
}

func sumStats(parts []Stats) (s Stats) {
	for _, p := range parts {
		s.merge(p)
	}
	return s
}

// subChunk is SubTo on one chunk; dst may be nil.
func subChunk(dst []float32, a, b Stored) Stats {
	ka, kb := kindOf(a.DType), kindOf(b.DType)
	if ka < 0 || kb < 0 {
		return subWide(dst, a, b)
	}
	const step = 2048
	var total Stats
	t := newTails()
	defer t.free()
	run := func(d *float32, x, y unsafe.Pointer, n int) {
		s := &t.stats
		active.sub[ka][kb](d, x, y, n, s)
		total.merge(Stats{s.sumSquares, s.maxAbs, int(s.nonFinite), int(s.nonZero)})
	}
	n := a.Len() &^ (lane16 - 1)
	if dst != nil && n > 0 {
		run(ptr(dst), unsafe.Pointer(ptr(a.Data)), unsafe.Pointer(ptr(b.Data)), n)
	}
	if dst == nil && n > 0 {
		buf := buffer[float32](&active.f32.sums, step)
		defer active.f32.sums.Put(buf)
		scratch := *buf
		for lo := 0; lo < n; lo += step {
			hi := min(lo+step, n)
			run(ptr(scratch[:]), unsafe.Pointer(ptr(a.slice(lo, hi).Data)), unsafe.Pointer(ptr(b.slice(lo, hi).Data)), hi-lo)
		}
	}
	if n < a.Len() {
		clear(t.x[copy(t.x[:], a.slice(n, a.Len()).Data):])
		clear(t.y[copy(t.y[:], b.slice(n, a.Len()).Data):])
		run(&t.d[0], unsafe.Pointer(&t.x), unsafe.Pointer(&t.y), lane16)
		if dst != nil {
			copy(dst[n:], t.d[:])
		}
	}
	return total
}

// subWide is subChunk for dtypes that the kernels do not read.
func subWide(dst []float32, a, b Stored) Stats {
	const step = 512
	var total Stats
	var x, y [step]float32
	for lo := 0; lo < a.Len(); lo += step {
		hi := min(a.Len(), lo+step)
		dtype.ToFloat32(x[:hi-lo], a.slice(lo, hi).Data, a.DType)
		dtype.ToFloat32(y[:hi-lo], b.slice(lo, hi).Data, b.DType)
		d := x[:hi-lo]
		if dst != nil {
			d = dst[lo:hi]
		}
		total.merge(subChunk(d, Stored{dtype.F32, BytesOf(x[:hi-lo])}, Stored{dtype.F32, BytesOf(y[:hi-lo])}))
	}
	return total
}

// kindOf returns how the kernels read t, or −1 where they do not.
func kindOf(t dtype.DType) kind {
	switch t {
	case dtype.F32:
		return native
	case dtype.BF16:
		return bf16
	case dtype.F16:
		return f16
	}
	return -1
}

// merge adds the statistics of what follows.
func (s *Stats) merge(p Stats) {
	s.SumSquares += p.SumSquares
	s.MaxAbs = max(s.MaxAbs, p.MaxAbs)
	s.NonFinite += p.NonFinite
	s.NonZero += p.NonZero
}
