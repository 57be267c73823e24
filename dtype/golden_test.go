package dtype_test

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math"
	"os"
	"testing"

	"smelt/dtype"
)

var le = binary.LittleEndian

// golden is what tools/golden/checkpoint/dtype.py recorded from torch.
type golden struct {
	Widen, Narrow32, Narrow64 map[string]string
}

func readGolden(t *testing.T) golden {
	t.Helper()
	text, err := os.ReadFile("testdata/torch.json")
	if err != nil {
		t.Fatalf("%v: run tools/golden/checkpoint/dtype.py", err)
	}
	var g golden
	if err := json.Unmarshal(text, &g); err != nil {
		t.Fatal(err)
	}
	return g
}

// inputs returns the float32 values that the script converts.
func inputs() []float32 {
	var low []uint32
	for a := range uint32(8) {
		for _, b := range []uint32{0, 1, 0xfff, 0x1000, 0x1001, 0x1fff} {
			low = append(low, a<<13|b)
		}
	}
	v := make([]float32, 0, 65536*len(low))
	for hi := range uint32(65536) {
		for _, l := range low {
			v = append(v, math.Float32frombits(hi<<16|l))
		}
	}
	return v
}

var narrow = []dtype.DType{dtype.F16, dtype.BF16, dtype.F8E4M3, dtype.F8E5M2}

// patterns returns all bit patterns of d.
func patterns(d dtype.DType) []byte {
	n := 1 << (8 * d.Size())
	b := make([]byte, n*d.Size())
	for i := range n {
		if d.Size() == 1 {
			b[i] = byte(i)
		} else {
			le.PutUint16(b[2*i:], uint16(i))
		}
	}
	return b
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// canonical replaces NaN by one pattern of the type.
func canonical(b []byte, d dtype.DType) []byte {
	nan := map[dtype.DType]uint32{dtype.F32: 0x7fc00000, dtype.F16: 0x7e00, dtype.BF16: 0x7fc0, dtype.F8E4M3: 0x7f, dtype.F8E5M2: 0x7f}[d]
	size := d.Size()
	v := make([]float32, len(b)/size)
	dtype.ToFloat32(v, b, d)
	var word [4]byte
	le.PutUint32(word[:], nan)
	for i, x := range v {
		if x != x {
			copy(b[i*size:], word[:size])
		}
	}
	return b
}

func TestWidenIsTorchs(t *testing.T) {
	g := readGolden(t)
	for _, d := range narrow {
		src := patterns(d)
		v := make([]float32, len(src)/d.Size())
		dtype.ToFloat32(v, src, d)
		out := make([]byte, 4*len(v))
		dtype.FromFloat32(out, v, dtype.F32)
		if got := sum(canonical(out, dtype.F32)); got != g.Widen[d.String()] {
			t.Errorf("%v to float32: hash %s, torch's is %s", d, got, g.Widen[d.String()])
		}
	}
}

func TestNarrowIsTorchs(t *testing.T) {
	g := readGolden(t)
	in := inputs()
	for _, d := range narrow {
		out := make([]byte, len(in)*d.Size())
		dtype.FromFloat32(out, in, d)
		if got := sum(canonical(out, d)); got != g.Narrow32[d.String()] {
			t.Errorf("float32 to %v: hash %s, torch's is %s", d, got, g.Narrow32[d.String()])
		}
	}
}

func TestNarrowFloat64IsNumpys(t *testing.T) {
	g := readGolden(t)
	in := inputs()
	beside := func(dir float64) []float64 {
		v := make([]float64, len(in))
		for i, x := range in {
			v[i] = math.Nextafter(float64(x), dir)
		}
		return v
	}
	up, down := beside(math.Inf(1)), beside(math.Inf(-1))
	for _, c := range []struct {
		tag string
		d   dtype.DType
		in  []float64
	}{{"F16+", dtype.F16, up}, {"F16-", dtype.F16, down}, {"F32+", dtype.F32, up}} {
		out := make([]byte, len(in)*c.d.Size())
		dtype.FromFloat64(out, c.in, c.d)
		if got := sum(canonical(out, c.d)); got != g.Narrow64[c.tag] {
			t.Errorf("float64 to %s: hash %s, numpy's is %s", c.tag, got, g.Narrow64[c.tag])
		}
	}
}
