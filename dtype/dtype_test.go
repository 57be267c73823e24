package dtype_test

import (
	"math"
	"strings"
	"testing"

	"smelt/dtype"
)

func TestNames(t *testing.T) {
	for _, c := range []struct {
		name, torch string
		d           dtype.DType
		size        int
	}{
		{"F64", "float64", dtype.F64, 8},
		{"F32", "float32", dtype.F32, 4},
		{"F16", "float16", dtype.F16, 2},
		{"BF16", "bfloat16", dtype.BF16, 2},
		{"F8_E4M3", "float8_e4m3fn", dtype.F8E4M3, 1},
		{"F8_E5M2", "float8_e5m2", dtype.F8E5M2, 1},
		{"I64", "int64", dtype.I64, 8},
		{"U8", "uint8", dtype.U8, 1},
		{"BOOL", "bool", dtype.Bool, 1},
		{"C64", "complex64", dtype.C64, 8},
		{"F4", "float4_e2m1fn_x2", dtype.F4, 0},
		{"F6_E2M3", "", dtype.F6E2M3, 0},
	} {
		if d, err := dtype.Parse(c.name); d != c.d || err != nil {
			t.Errorf("Parse(%q) = %v, %v", c.name, d, err)
		}
		if c.d.String() != c.name || c.d.Torch() != c.torch || c.d.Size() != c.size {
			t.Errorf("%v: torch %q, size %d; want %q, %q, %d", c.d, c.d.Torch(), c.d.Size(), c.name, c.torch, c.size)
		}
		if c.torch == "" {
			continue
		}
		for _, n := range []string{c.torch, "torch." + c.torch} {
			if d, err := dtype.FromTorch(n); d != c.d || err != nil {
				t.Errorf("FromTorch(%q) = %v, %v", n, d, err)
			}
		}
	}
	for _, bad := range []string{"", "f32", "bf16", "invalid", "F32 ", "torch.", strings.Repeat("F", 1000)} {
		if d, err := dtype.Parse(bad); err == nil || len(err.Error()) > 200 {
			t.Errorf("Parse(%.20q) = %v, %v", bad, d, err)
		}
		if d, err := dtype.FromTorch(bad); err == nil {
			t.Errorf("FromTorch(%.20q) = %v", bad, d)
		}
	}
	if dtype.DType(200).String() == "" || dtype.DType(200).Size() != 0 {
		t.Error("an unknown value must have a name and no size")
	}
}

func TestCoarser(t *testing.T) {
	for _, c := range [][3]dtype.DType{
		{dtype.F32, dtype.BF16, dtype.BF16},
		{dtype.F16, dtype.BF16, dtype.BF16},
		{dtype.F64, dtype.F32, dtype.F32},
		{dtype.F16, dtype.F16, dtype.F16},
	} {
		if dtype.Coarser(c[0], c[1]) != c[2] || dtype.Coarser(c[1], c[0]) != c[2] {
			t.Errorf("Coarser(%v, %v) is not %v", c[0], c[1], c[2])
		}
	}
}

// formats describes the narrow types for value and nearest below.
var formats = map[dtype.DType]struct{ exp, man, bias int }{
	dtype.F16: {5, 10, 15}, dtype.BF16: {8, 7, 127}, dtype.F8E4M3: {4, 3, 7}, dtype.F8E5M2: {5, 2, 15},
}

// value decodes a bit pattern by the definition of the format.
func value(b uint32, d dtype.DType) float64 {
	f := formats[d]
	m := float64(b & (1<<f.man - 1))
	e := int(b >> f.man & (1<<f.exp - 1))
	sign := 1.0
	if b>>(f.man+f.exp)&1 == 1 {
		sign = -1
	}
	switch top := 1<<f.exp - 1; {
	case e == top && d == dtype.F8E4M3:
		if m == 7 {
			return math.NaN()
		}
	case e == top && m == 0:
		return sign * math.Inf(1)
	case e == top:
		return math.NaN()
	case e == 0:
		return sign * math.Ldexp(m, 1-f.bias-f.man)
	}
	return sign * math.Ldexp(m+float64(int(1)<<f.man), e-f.bias-f.man)
}

func TestWidenByDefinition(t *testing.T) {
	for _, d := range narrow {
		src := patterns(d)
		n := len(src) / d.Size()
		v32, v64 := make([]float32, n), make([]float64, n)
		dtype.ToFloat32(v32, src, d)
		dtype.ToFloat64(v64, src, d)
		for i := range n {
			want := value(uint32(i), d)
			if want != want {
				bits := math.Float32bits(v32[i])
				if v32[i] == v32[i] || v64[i] == v64[i] || bits&0x00400000 == 0 {
					t.Fatalf("%v %#x: got %v (%#x), want a quiet NaN", d, i, v32[i], bits)
				}
				if bits>>31 != uint32(i)>>(8*d.Size()-1) {
					t.Fatalf("%v %#x: NaN lost its sign", d, i)
				}
				continue
			}
			if math.Float64bits(float64(v32[i])) != math.Float64bits(want) || math.Float64bits(v64[i]) != math.Float64bits(want) {
				t.Fatalf("%v %#x: got %v and %v, want %v", d, i, v32[i], v64[i], want)
			}
		}
	}
}

// TestNarrowByDefinition takes, for every pair of neighbours of each type,
// both, their midpoint and the float64 values next to it.
func TestNarrowByDefinition(t *testing.T) {
	for _, d := range narrow {
		size := d.Size()
		check := func(x float64, want uint32) {
			t.Helper()
			var got, got32 [4]byte
			dtype.FromFloat64(got[:size], []float64{x}, d)
			if le.Uint32(got[:]) != want {
				t.Fatalf("%v: float64 %v (%#x) became %#x, want %#x", d, x, math.Float64bits(x), le.Uint32(got[:]), want)
			}
			if float64(float32(x)) == x {
				dtype.FromFloat32(got32[:size], []float32{float32(x)}, d)
				if got32 != got {
					t.Fatalf("%v: float32 %v became %#x, want %#x", d, x, le.Uint32(got32[:]), want)
				}
			}
		}
		signBit := uint32(1) << (8*size - 1)
		for b := uint32(0); b < signBit; b++ {
			lo, hi := value(b, d), value(b+1, d)
			if lo != lo || math.IsInf(lo, 0) {
				break
			}
			if hi != hi || math.IsInf(hi, 0) { // as if the format went on
				hi = lo + (lo - value(b-1, d))
			}
			mid := lo + (hi-lo)/2
			even := b + b&1
			for _, sign := range []uint32{0, signBit} {
				s := 1.0
				if sign != 0 {
					s = -1
				}
				check(s*lo, b|sign)
				check(s*mid, even|sign)
				check(s*math.Nextafter(mid, 0), b|sign)
				if b == 0x7e && d == dtype.F8E4M3 {
					check(s*hi, b|sign) // saturates
					continue
				}
				check(s*math.Nextafter(mid, math.Inf(1)), (b+1)|sign)
			}
		}
		for _, x := range []float64{math.Inf(1), math.MaxFloat64, math.MaxFloat32 * 2} {
			var got [4]byte
			dtype.FromFloat64(got[:size], []float64{x}, d)
			v := value(le.Uint32(got[:]), d)
			if d == dtype.F8E4M3 && v != 448 || d != dtype.F8E4M3 && !math.IsInf(v, 1) {
				t.Errorf("%v: %v became %v", d, x, v)
			}
		}
	}
}

func TestNaNStaysQuiet(t *testing.T) {
	for _, bits := range []uint32{0x7f800001, 0x7fc00000, 0xff800001, 0xffffffff, 0x7f801000} {
		for _, d := range narrow {
			var b [4]byte
			dtype.FromFloat32(b[:d.Size()], []float32{math.Float32frombits(bits)}, d)
			var back [1]float32
			dtype.ToFloat32(back[:], b[:d.Size()], d)
			if back[0] == back[0] || math.Float32bits(back[0])>>31 != bits>>31 {
				t.Errorf("%v: NaN %#x came back as %v (%#x)", d, bits, back[0], math.Float32bits(back[0]))
			}
		}
	}
}

func TestIntegers(t *testing.T) {
	for _, c := range []struct {
		d    dtype.DType
		src  []byte
		want float64
	}{
		{dtype.I64, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, -1},
		{dtype.U64, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 1 << 64},
		{dtype.I32, []byte{0xfe, 0xff, 0xff, 0xff}, -2},
		{dtype.U32, []byte{0xff, 0xff, 0xff, 0xff}, 1<<32 - 1},
		{dtype.I16, []byte{0x00, 0x80}, -32768},
		{dtype.U16, []byte{0x00, 0x80}, 32768},
		{dtype.I8, []byte{0x80}, -128},
		{dtype.U8, []byte{0x80}, 128},
		{dtype.Bool, []byte{1}, 1},
		{dtype.F64, []byte{0, 0, 0, 0, 0, 0, 0xf8, 0x3f}, 1.5},
	} {
		var v32 [1]float32
		var v64 [1]float64
		dtype.ToFloat32(v32[:], c.src, c.d)
		dtype.ToFloat64(v64[:], c.src, c.d)
		if v64[0] != c.want || v32[0] != float32(c.want) {
			t.Errorf("%v %x: got %v and %v, want %v", c.d, c.src, v32[0], v64[0], c.want)
		}
	}
}

func TestMisuseNamesItself(t *testing.T) {
	for name, f := range map[string]func(){
		"length": func() { dtype.ToFloat32(make([]float32, 2), make([]byte, 7), dtype.F32) },
		"type":   func() { dtype.ToFloat32(make([]float32, 2), make([]byte, 1), dtype.F4) },
		"int":    func() { dtype.FromFloat32(make([]byte, 1), make([]float32, 1), dtype.I8) },
	} {
		func() {
			defer func() {
				if s, _ := recover().(string); !strings.HasPrefix(s, "dtype: ") {
					t.Errorf("%s: panic %q", name, s)
				}
			}()
			f()
		}()
	}
}

func BenchmarkToFloat32(b *testing.B) {
	for _, d := range []dtype.DType{dtype.BF16, dtype.F16, dtype.F32} {
		b.Run(d.String(), func(b *testing.B) {
			src, dst := make([]byte, d.Size()<<16), make([]float32, 1<<16)
			b.SetBytes(int64(len(src)))
			for b.Loop() {
				dtype.ToFloat32(dst, src, d)
			}
		})
	}
}

func BenchmarkFromFloat32(b *testing.B) {
	for _, d := range []dtype.DType{dtype.BF16, dtype.F16, dtype.F32} {
		b.Run(d.String(), func(b *testing.B) {
			dst, src := make([]byte, d.Size()<<16), make([]float32, 1<<16)
			b.SetBytes(int64(len(src)) * 4)
			for b.Loop() {
				dtype.FromFloat32(dst, src, d)
			}
		})
	}
}
