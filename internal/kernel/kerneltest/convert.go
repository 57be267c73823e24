package kerneltest

import (
	"bytes"
	"encoding/binary"
	"math"
	"testing"

	"smelt/dtype"
	"smelt/internal/kernel"
)

// testWiden converts every 16-bit pattern, and every length at odd addresses.
func testWiden(t *testing.T) {
	for _, d := range []dtype.DType{dtype.BF16, dtype.F16} {
		src := make([]byte, 2<<16)
		for i := range 1 << 16 {
			binary.LittleEndian.PutUint16(src[2*i:], uint16(i))
		}
		got, want := make([]float32, 1<<16), make([]float32, 1<<16)
		kernel.Widen(2, got, src, d)
		dtype.ToFloat32(want, src, d)
		for i := range want {
			if g, w := math.Float32bits(got[i]), math.Float32bits(want[i]); g != w {
				t.Fatalf("Widen %v: %#04x became %#08x, want %#08x", d, i, g, w)
			}
		}
	}
	r := source(7)
	for _, d := range []dtype.DType{dtype.F32, dtype.BF16, dtype.F16, dtype.F64, dtype.F8E5M2} {
		lengths(func(n, offset int) {
			values := randoms(r, n, 0)
			src := make([]byte, n*d.Size()+offset)[offset:]
			dtype.FromFloat32(src, values, d)
			want := make([]float32, n)
			dtype.ToFloat32(want, src, d)
			g := guard[float32](n, offset)
			kernel.Widen(1, g.x, src, d)
			g.check(t, "Widen")
			for i := range want {
				if g.x[i] != want[i] {
					t.Fatalf("Widen %v of %d: element %d is %v, want %v", d, n, i, g.x[i], want[i])
				}
			}
		})
	}
}

// testNarrow converts every float32 that lies on, next to or halfway between
// two values of the 16-bit types, with all exponents and signs.
func testNarrow(t *testing.T) {
	var x []float32
	for high := range uint32(1 << 16) {
		for _, low := range []uint32{0, 1, 0x7fff, 0x8000, 0x8001, 0xffff, 0x1000, 0x0fff, 0x1001, 0x3000} {
			x = append(x, math.Float32frombits(high<<16|low))
		}
	}
	for _, d := range []dtype.DType{dtype.BF16, dtype.F16} {
		got, want := make([]byte, 2*len(x)), make([]byte, 2*len(x))
		kernel.Narrow(2, got, d, x)
		dtype.FromFloat32(want, x, d)
		for i := range x {
			if g, w := got[2*i:2*i+2], want[2*i:2*i+2]; !bytes.Equal(g, w) {
				t.Fatalf("Narrow to %v: %#08x became %x, want %x", d, math.Float32bits(x[i]), g, w)
			}
		}
	}
	r := source(8)
	for _, d := range []dtype.DType{dtype.F32, dtype.BF16, dtype.F16, dtype.F64} {
		lengths(func(n, offset int) {
			src := randoms(r, n, offset)
			want := make([]byte, n*d.Size())
			dtype.FromFloat32(want, src, d)
			got := bytes.Repeat([]byte{0xa5}, len(want)+offset+64)
			kernel.Narrow(1, got[offset:offset+len(want)], d, src)
			if !bytes.Equal(got[offset:offset+len(want)], want) {
				t.Fatalf("Narrow to %v of %d: differs from dtype's", d, n)
			}
			if rest := bytes.Trim(append(got[:offset:offset], got[offset+len(want):]...), "\xa5"); len(rest) > 0 {
				t.Fatalf("Narrow to %v of %d: wrote outside its output", d, n)
			}
		})
	}
}

func testFloat64(t *testing.T) {
	r := source(9)
	lengths(func(n, offset int) {
		x := append(randoms(r, n, offset)[:n:n], specials...)
		wide, narrow := guard[float64](len(x), offset), guard[float32](len(x), offset)
		kernel.F32ToF64(wide.x, x)
		for i := range wide.x {
			wide.x[i] *= 1 + 0x1p-24
		}
		kernel.F64ToF32(narrow.x, wide.x)
		wide.check(t, "F32ToF64")
		narrow.check(t, "F64ToF32")
		for i, v := range x {
			w := float64(v) * (1 + 0x1p-24)
			if math.Float64bits(wide.x[i]) != math.Float64bits(w) && v == v {
				t.Fatalf("F32ToF64(%v) = %v", v, wide.x[i])
			}
			if want := float32(w); !near(float64(narrow.x[i]), float64(want), 0) {
				t.Fatalf("F64ToF32(%v) = %v, want %v", w, narrow.x[i], want)
			}
		}
	})
}

var storedTypes = []dtype.DType{dtype.F32, dtype.BF16, dtype.F16, dtype.F64, dtype.F8E4M3}

func testSub(t *testing.T) {
	r := source(10)
	for _, da := range storedTypes {
		for _, db := range storedTypes {
			lengths(func(n, offset int) {
				a := stored(randoms(r, n, 0), da, offset)
				b := stored(randoms(r, n, 0), db, offset)
				checkSub(t, a, b, offset)
			})
		}
	}
	x := randoms(r, 200_000, 0)
	a, b := stored(x, dtype.F32, 0), stored(x, dtype.BF16, 0)
	one, two := make([]float32, len(x)), make([]float32, len(x))
	s1, s2 := kernel.SubTo(1, one, a, b), kernel.SubTo(2, two, a, b)
	if s1 != s2 {
		t.Errorf("SubTo: statistics by 1 worker %+v, by 2 workers %+v", s1, s2)
	}
	checkSub(t, a, b, 0)
	r1 := kernel.SubRows(1, kernel.Matrix{Rows: 400, Cols: 500, Stride: 501, Data: make([]float32, 400*501)}, a, b)
	r2 := kernel.SubRows(8, kernel.Matrix{Rows: 400, Cols: 500, Stride: 501, Data: make([]float32, 400*501)}, a, b)
	if r1 != r2 {
		t.Errorf("SubRows: statistics by 1 worker %+v, by 8 workers %+v", r1, r2)
	}
	if s := kernel.Diff(2, a, a); s != (kernel.Stats{}) {
		t.Errorf("Diff of equals = %+v, want zero", s)
	}
}

// stored returns x in type d, at an odd address where offset is odd.
func stored(x []float32, d dtype.DType, offset int) kernel.Stored {
	data := make([]byte, len(x)*d.Size()+offset)[offset:]
	dtype.FromFloat32(data, x, d)
	return kernel.Stored{DType: d, Data: data}
}

// checkSub holds SubTo, SubTo64 and Diff against plain loops.
func checkSub(t *testing.T, a, b kernel.Stored, offset int) {
	t.Helper()
	n := a.Len()
	x, y := make([]float32, n), make([]float32, n)
	dtype.ToFloat32(x, a.Data, a.DType)
	dtype.ToFloat32(y, b.Data, b.DType)
	var want kernel.Stats
	g := guard[float32](n, offset)
	got := kernel.SubTo(2, g.x, a, b)
	g.check(t, "SubTo")
	for i := range x {
		d := x[i] - y[i]
		if !near(float64(g.x[i]), float64(d), 0) {
			t.Fatalf("SubTo %v − %v of %d: element %d is %v, want %v", a.DType, b.DType, n, i, g.x[i], d)
		}
		want.SumSquares += float64(d) * float64(d)
		if abs := float32(math.Abs(float64(d))); abs > want.MaxAbs {
			want.MaxAbs = abs
		}
		if d != d || math.IsInf(float64(d), 0) {
			want.NonFinite++
		}
		if d != 0 {
			want.NonZero++
		}
	}
	diff := kernel.Diff(1, a, b)
	for _, s := range []kernel.Stats{got, diff} {
		if !near(s.SumSquares, want.SumSquares, epsilon64*float64(n+1)*want.SumSquares) {
			t.Fatalf("SubTo %v − %v of %d: sum of squares %v, want %v", a.DType, b.DType, n, s.SumSquares, want.SumSquares)
		}
		s.SumSquares = want.SumSquares
		if want.SumSquares == want.SumSquares && s != want {
			t.Fatalf("SubTo %v − %v of %d: got %+v, want %+v", a.DType, b.DType, n, s, want)
		}
		if s.MaxAbs != want.MaxAbs || s.NonFinite != want.NonFinite || s.NonZero != want.NonZero {
			t.Fatalf("SubTo %v − %v of %d: got %+v, want %+v", a.DType, b.DType, n, s, want)
		}
	}
	if n > 0 && n%5 == 0 {
		checkSubRows(t, a, b, got)
	}
	wide := guard[float64](n, offset)
	kernel.SubTo64(2, wide.x, a, b)
	wide.check(t, "SubTo64")
	for i := range x {
		if want := float64(x[i]) - float64(y[i]); a.DType != dtype.F64 && b.DType != dtype.F64 && !near(wide.x[i], want, 0) {
			t.Fatalf("SubTo64 %v − %v of %d: element %d is %v, want %v", a.DType, b.DType, n, i, wide.x[i], want)
		}
	}
}

// checkSubRows subtracts into rows that lie apart.
func checkSubRows(t *testing.T, a, b kernel.Stored, want kernel.Stats) {
	t.Helper()
	rows, cols := 5, a.Len()/5
	one := make([]float32, a.Len())
	kernel.SubTo(1, one, a, b)
	for _, gap := range []int{0, 3} {
		g := guard[float32](rows*(cols+gap), gap)
		got := kernel.SubRows(2, kernel.Matrix{Rows: rows, Cols: cols, Stride: cols + gap, Data: g.x}, a, b)
		g.check(t, "SubRows")
		if !near(got.SumSquares, want.SumSquares, epsilon64*float64(a.Len())*want.SumSquares) {
			t.Fatalf("SubRows %v − %v: sum of squares %v, want %v", a.DType, b.DType, got.SumSquares, want.SumSquares)
		}
		if got.SumSquares = want.SumSquares; want.SumSquares == want.SumSquares && got != want {
			t.Fatalf("SubRows %v − %v: got %+v, want %+v", a.DType, b.DType, got, want)
		}
		for i, v := range g.x {
			row, col := i/(cols+gap), i%(cols+gap)
			if col >= cols {
				if v != canary {
					t.Fatalf("SubRows %v − %v: wrote between rows", a.DType, b.DType)
				}
			} else if math.Float32bits(v) != math.Float32bits(one[row*cols+col]) {
				t.Fatalf("SubRows %v − %v: element [%d,%d] is %v, by SubTo %v", a.DType, b.DType, row, col, v, one[row*cols+col])
			}
		}
	}
}

// testSubSpecial subtracts every pair of special values.
func testSubSpecial(t *testing.T) {
	var x, y []float32
	for _, a := range specials {
		for _, b := range specials {
			x, y = append(x, a), append(y, b)
		}
	}
	for _, d := range []dtype.DType{dtype.F32, dtype.BF16, dtype.F16} {
		checkSub(t, stored(x, d, 1), stored(y, d, 3), 1)
		for i := range x {
			checkSub(t, stored(x[i:i+1], d, 0), stored(y[i:i+1], d, 0), 0)
		}
	}
}
