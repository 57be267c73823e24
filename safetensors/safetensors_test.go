package safetensors_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"smelt/dtype"
	"smelt/internal/vfs"
	"smelt/safetensors"
	"smelt/tensor"
)

// file returns the bytes of a file with this header and n bytes of data.
func file(header string, n int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), make([]byte, n)...)
}

func openBytes(t testing.TB, data []byte) (*safetensors.File, error) {
	t.Helper()
	m := vfs.NewMem()
	if err := vfs.WriteFile(m, "model.safetensors", data); err != nil {
		t.Fatal(err)
	}
	return safetensors.Open(m, "model.safetensors")
}

// one is a valid header of a single tensor; the cases break one thing each.
const one = `{"a":{"dtype":"F32","shape":[4,8],"data_offsets":[0,128]}}`

// rejected are headers that must be refused, and what the error must say.
var rejected = map[string]struct {
	data []byte
	want string
}{
	"empty file":              {nil, "0 bytes are too few"},
	"seven bytes":             {make([]byte, 7), "7 bytes are too few"},
	"empty header":            {file("", 0), "does not start with '{'"},
	"length 2^63":             {binary.LittleEndian.AppendUint64(nil, 1<<63), "header of 9223372036854775808 bytes"},
	"length 2^64-1":           {bytes.Repeat([]byte{0xff}, 8), "header of 18446744073709551615 bytes"},
	"length beyond limit":     {binary.LittleEndian.AppendUint64(nil, 100_000_001), "more than 100000000"},
	"length beyond file":      {file(one, 0)[:30], "header of 58 bytes in a file of 30"},
	"leading space":           {file(" "+one, 128), "does not start with '{'"},
	"array":                   {file("[]", 0), "does not start with '{'"},
	"a pickle":                {append([]byte("PK\x03\x04\x00\x00\x00\x00"), make([]byte, 100)...), "header of 67324752 bytes in a file of 108"},
	"broken JSON":             {file(`{"a":`, 0), "invalid JSON at byte 5"},
	"trailing text":           {file(one+"x", 128), "after the value"},
	"invalid UTF-8":           {file("{\"a\xff\":{}}", 0), "not UTF-8"},
	"lone surrogate":          {file(`{"\ud800":{}}`, 0), "invalid escape"},
	"duplicate name":          {file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, 2), `name "a" occurs twice`},
	"duplicate by escape":     {file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"\u0061":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, 2), `name "a" occurs twice`},
	"duplicate member":        {file(`{"a":{"dtype":"F32","dtype":"F32","shape":[4,8],"data_offsets":[0,128]}}`, 128), `name "dtype" occurs twice`},
	"unknown member":          {file(`{"a":{"dtype":"F32","shape":[4,8],"data_offsets":[0,128],"x":1}}`, 128), `a member "x"`},
	"missing dtype":           {file(`{"a":{"shape":[4,8],"data_offsets":[0,128]}}`, 128), "lacks one of"},
	"missing shape":           {file(`{"a":{"dtype":"F32","data_offsets":[0,128]}}`, 128), "lacks one of"},
	"missing offsets":         {file(`{"a":{"dtype":"F32","shape":[4,8]}}`, 128), "lacks one of"},
	"entry no object":         {file(`{"a":[]}`, 0), "entry is an array, want an object"},
	"dtype no string":         {file(`{"a":{"dtype":5,"shape":[],"data_offsets":[0,4]}}`, 4), "dtype is a number"},
	"unknown dtype":           {file(strings.Replace(one, "F32", "F33", 1), 128), `unknown element type "F33"`},
	"lower case dtype":        {file(strings.Replace(one, "F32", "f32", 1), 128), `unknown element type "f32"`},
	"sub-byte dtype":          {file(strings.Replace(one, "F32", "F4", 1), 128), "dequantise"},
	"shape no array":          {file(`{"a":{"dtype":"F32","shape":4,"data_offsets":[0,16]}}`, 16), "shape is a number"},
	"negative dimension":      {file(strings.Replace(one, "[4,8]", "[-4,-8]", 1), 128), "dimension 0 is -4"},
	"fractional dimension":    {file(strings.Replace(one, "[4,8]", "[4.0,8]", 1), 128), "dimension 0 is 4.0"},
	"exponent dimension":      {file(strings.Replace(one, "[4,8]", "[32e0]", 1), 128), "dimension 0 is 32e0"},
	"string dimension":        {file(strings.Replace(one, "[4,8]", `["32"]`, 1), 128), "dimension 0 is a string"},
	"huge dimension":          {file(strings.Replace(one, "[4,8]", "[99999999999999999999]", 1), 128), "dimension 0 is 99999999999999999999"},
	"shape overflow":          {file(strings.Replace(one, "[4,8]", "[4294967296,4294967296]", 1), 128), "overflows"},
	"shape overflow in bytes": {file(strings.Replace(one, "[4,8]", "[4611686018427387904]", 1), 128), "overflows"},
	"many dimensions":         {file(strings.Replace(one, "[4,8]", "["+strings.Repeat("1,", 16)+"32]", 1), 128), "17 dimensions"},
	"offsets too small":       {file(strings.Replace(one, "[0,128]", "[0,64]", 1), 64), "offsets [0,64) do not fit F32 [4,8] (128 bytes)"},
	"offsets too large":       {file(strings.Replace(one, "[0,128]", "[0,256]", 1), 256), "do not fit"},
	"offsets reversed":        {file(strings.Replace(one, "[0,128]", "[128,0]", 1), 128), "do not fit"},
	"offsets negative":        {file(strings.Replace(one, "[0,128]", "[-128,0]", 1), 128), "not whole numbers"},
	"offsets minus zero":      {file(strings.Replace(one, "[0,128]", "[-0,128]", 1), 128), "not whole numbers"},
	"offsets 2^64":            {file(strings.Replace(one, "[0,128]", "[0,18446744073709551616]", 1), 128), "not whole numbers"},
	"offsets wrap":            {file(strings.Replace(one, "[0,128]", "[9223372036854775807,127]", 1), 128), "do not fit"},
	"offsets three":           {file(strings.Replace(one, "[0,128]", "[0,64,128]", 1), 128), "not an array of two"},
	"truncated":               {file(one, 127), "lie outside the file, whose data has 127 bytes"},
	"trailing bytes":          {file(one, 129), "129 bytes of data, but the tensors take 128"},
	"no tensors, data":        {file("{}", 1), "1 bytes of data"},
	"overlap":                 {file(`{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}`, 6), `overlap those of "a"`},
	"same bytes twice":        {file(`{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}`, 4), "overlap"},
	"gap":                     {file(`{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[2],"data_offsets":[5,7]}}`, 7), "leave a gap of 1 bytes"},
	"gap at the start":        {file(`{"a":{"dtype":"U8","shape":[4],"data_offsets":[1,5]}}`, 5), "leave a gap of 1 bytes"},
	"empty name":              {file(`{"":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1), "name has 0 bytes"},
	"long name":               {file(`{"`+strings.Repeat("x", 5000)+`":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1), "name has 5000 bytes"},
	"metadata no object":      {file(`{"__metadata__":[]}`, 0), "__metadata__ is an array"},
	"metadata null":           {file(`{"__metadata__":null}`, 0), "__metadata__ is null"},
	"metadata number":         {file(`{"__metadata__":{"a":1}}`, 0), `__metadata__ "a" is a number`},
	"metadata is a tensor":    {file(`{"__metadata__":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1), `__metadata__ "shape" is an array`},
	"deep nesting":            {file(`{"a":`+strings.Repeat("[", 100000)+strings.Repeat("]", 100000)+`}`, 0), "nested deeper"},
}

func TestRejects(t *testing.T) {
	for name, c := range rejected {
		f, err := openBytes(t, c.data)
		if err == nil {
			_ = f.Close()
			t.Errorf("%s: accepted", name)
			continue
		}
		text := err.Error()
		if !strings.HasPrefix(text, "safetensors: model.safetensors: ") || !strings.Contains(text, c.want) || len(text) > 600 {
			t.Errorf("%s: error %.700q, want one with %q", name, text, c.want)
		}
	}
}

func TestManyTensorsRejected(t *testing.T) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i := range safetensors.MaxTensors + 1 {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `"%x":0`, i)
	}
	b.WriteByte('}')
	if _, err := openBytes(t, file(b.String(), 0)); err == nil || !strings.Contains(err.Error(), "more than 262144") {
		t.Errorf("error %v", err)
	}
}

func TestMissingFile(t *testing.T) {
	if _, err := safetensors.Open(vfs.NewMem(), "none.safetensors"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func f32(t testing.TB, v ...float32) tensor.Tensor {
	t.Helper()
	x, err := tensor.FromFloat32(dtype.F32, v, len(v))
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func TestRoundTrip(t *testing.T) {
	empty, err := tensor.New(dtype.BF16, 0, 5)
	if err != nil {
		t.Fatal(err)
	}
	scalar, err := tensor.FromFloat32(dtype.F64, []float32{7})
	if err != nil {
		t.Fatal(err)
	}
	in := []safetensors.Named{
		{Name: "b", Tensor: f32(t, 1, 2, 3)},
		{Name: "empty", Tensor: empty},
		{Name: `quote" ü 😀` + "\n", Tensor: scalar},
		{Name: "a", Tensor: f32(t, 4)},
	}
	meta := map[string]string{"format": "pt", "z": "ü", "a": `"`}
	m := vfs.NewMem()
	if err := safetensors.Write(m, "x.safetensors", in, meta); err != nil {
		t.Fatal(err)
	}
	f, err := safetensors.Open(m, "x.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if !maps.Equal(f.Metadata(), meta) {
		t.Errorf("metadata %v", f.Metadata())
	}
	if len(f.Header())%8 != 0 || f.Size() != int64(len(f.Header()))+12+8+4 {
		t.Errorf("header %d bytes, file %d", len(f.Header()), f.Size())
	}
	for i, info := range f.Tensors() {
		if info.Name != in[i].Name || info.DType != in[i].DType || !slices.Equal(info.Shape, in[i].Shape) {
			t.Errorf("tensor %d is %v", i, info)
		}
		x, err := f.Tensor(info.Name)
		if err != nil || !bytes.Equal(x.Data, in[i].Data) || x.Validate() != nil {
			t.Errorf("%q: %v %v", info.Name, x, err)
		}
		f.Prefetch(info.Name)
		f.Release(info.Name)
	}
	f.Prefetch("none")
	if _, err := f.Tensor("none"); err == nil || !strings.Contains(err.Error(), `no tensor "none"`) {
		t.Error(err)
	}
	// The same input gives the same bytes.
	if err := safetensors.Write(m, "y.safetensors", in, maps.Clone(meta)); err != nil {
		t.Fatal(err)
	}
	x, _ := vfs.ReadFile(m, "x.safetensors", 1<<20)
	y, _ := vfs.ReadFile(m, "y.safetensors", 1<<20)
	if !bytes.Equal(x, y) {
		t.Error("two writes differ")
	}
}

func TestEmptyFile(t *testing.T) {
	for _, meta := range []map[string]string{nil, {}, {"a": "b"}} {
		m := vfs.NewMem()
		if err := safetensors.Write(m, "x", nil, meta); err != nil {
			t.Fatal(err)
		}
		f, err := safetensors.Open(m, "x")
		if err != nil || len(f.Tensors()) != 0 || (f.Metadata() == nil) != (meta == nil) {
			t.Fatalf("%v: %v", meta, err)
		}
		_ = f.Close()
	}
}

// TestReserve streams the data first and puts the header in place at the end.
func TestReserve(t *testing.T) {
	x := f32(t, 1, 2, 3)
	infos := []safetensors.Info{{Name: "a", DType: x.DType, Shape: x.Shape}, {Name: "b", DType: x.DType, Shape: x.Shape}}
	meta := map[string]string{"k": "v"}
	bound := safetensors.HeaderBound(infos, meta)
	infos[0].Begin, infos[0].End = 12, 24
	infos[1].Begin, infos[1].End = 0, 12
	head, err := safetensors.EncodeHeader(infos, meta, bound)
	if err != nil || len(head) != bound {
		t.Fatalf("header of %d bytes, bound %d: %v", len(head), bound, err)
	}
	f, err := openBytes(t, append(append(head, x.Data...), x.Data...))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Tensors()[0].Name != "b" {
		t.Error("not in the order of the data")
	}
}

func TestEncodeHeaderRefuses(t *testing.T) {
	ok := safetensors.Info{Name: "a", DType: dtype.F32, Shape: []int{2}, End: 8}
	with := func(change func(*safetensors.Info)) []safetensors.Info {
		x := ok
		change(&x)
		return []safetensors.Info{x}
	}
	for name, infos := range map[string][]safetensors.Info{
		"no name":     with(func(x *safetensors.Info) { x.Name = "" }),
		"metadata":    with(func(x *safetensors.Info) { x.Name = "__metadata__" }),
		"not UTF-8":   with(func(x *safetensors.Info) { x.Name = "\xff" }),
		"long name":   with(func(x *safetensors.Info) { x.Name = strings.Repeat("x", 5000) }),
		"twice":       {ok, {Name: "a", DType: dtype.F32, Shape: []int{2}, Begin: 8, End: 16}},
		"gap":         with(func(x *safetensors.Info) { x.Begin, x.End = 8, 16 }),
		"size":        with(func(x *safetensors.Info) { x.End = 9 }),
		"sub-byte":    with(func(x *safetensors.Info) { x.DType, x.End = dtype.F4, 1 }),
		"invalid":     with(func(x *safetensors.Info) { x.DType = dtype.Invalid }),
		"dimensions":  with(func(x *safetensors.Info) { x.Shape = append(make([]int, 16), 2) }),
		"negative":    with(func(x *safetensors.Info) { x.Shape = []int{-2} }),
		"big reserve": nil,
	} {
		reserve := 0
		if name == "big reserve" {
			reserve = safetensors.MaxHeader + 16
		}
		if _, err := safetensors.EncodeHeader(infos, nil, reserve); err == nil || !strings.HasPrefix(err.Error(), "safetensors: cannot write") {
			t.Errorf("%s: error %v", name, err)
		}
	}
	bad := []safetensors.Named{{Name: "a", Tensor: tensor.Tensor{DType: dtype.F32, Shape: []int{2}, Data: make([]byte, 7)}}}
	m := vfs.NewMem()
	if err := safetensors.Write(m, "x", bad, nil); err == nil {
		t.Error("wrote a tensor whose data does not fit its shape")
	}
	if _, err := m.Stat("x"); err == nil {
		t.Error("left a file behind")
	}
}

func TestWriteFailsAtEveryStep(t *testing.T) {
	in := []safetensors.Named{{Name: "a", Tensor: f32(t, 1)}}
	full := errors.New("no space left on device")
	for at := 0; ; at++ {
		err := safetensors.Write(vfs.Fault(vfs.NewMem(), func(e vfs.Event) error {
			if e.Seq == at {
				return full
			}
			return nil
		}), "x", in, nil)
		if err == nil {
			if at < 4 {
				t.Errorf("only %d steps", at)
			}
			return
		}
		if !errors.Is(err, full) {
			t.Fatal(err)
		}
	}
}

// TestReadsWhatPythonWrites opens files made by the safetensors package of
// Python and compares every value (tools/golden/checkpoint/safetensors_py.py).
func TestReadsWhatPythonWrites(t *testing.T) {
	files, _ := filepath.Glob("testdata/python/*.safetensors")
	if len(files) < 3 {
		t.Fatalf("%d files in testdata/python: run tools/golden/checkpoint/safetensors_py.py", len(files))
	}
	for _, name := range files {
		f, err := safetensors.Open(vfs.OS, name)
		if err != nil {
			t.Error(err)
			continue
		}
		defer f.Close()
		if filepath.Base(name) == "numbers.safetensors" {
			if len(f.Tensors()) < 12 || f.Metadata()["made by"] != "python ü" {
				t.Errorf("%s: %d tensors, metadata %v", name, len(f.Tensors()), f.Metadata())
			}
			for _, info := range f.Tensors() {
				x, err := f.Tensor(info.Name)
				if err != nil {
					t.Fatal(err)
				}
				if !info.DType.Converts() {
					continue
				}
				v, err := x.Float64()
				if err != nil {
					t.Fatal(err)
				}
				for i, got := range v {
					want := float64(i)
					if info.DType == dtype.Bool {
						want = min(want, 1)
					}
					if got != want {
						t.Errorf("%s: %s[%d] = %v", name, info.Name, i, got)
					}
				}
			}
		}
	}
}

// TestWritesWhatPythonRead holds the writer to the bytes that Python's reader
// has accepted (safetensors_py.py check).
func TestWritesWhatPythonRead(t *testing.T) {
	in := sample(t)
	m := vfs.NewMem()
	if err := safetensors.Write(m, "ours", in, map[string]string{"format": "pt", "made by": "smelt ü"}); err != nil {
		t.Fatal(err)
	}
	got, err := vfs.ReadFile(m, "ours", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/ours.safetensors"
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(golden, got, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatalf("%v: run this test with UPDATE=1, then tools/golden/checkpoint/safetensors_py.py check", err)
	}
	if !bytes.Equal(got, want) {
		t.Error("the writer's bytes have changed: run this test with UPDATE=1, then tools/golden/checkpoint/safetensors_py.py check")
	}
}

// sample holds 0, 1, 2, … in every floating-point type.
func sample(t testing.TB) []safetensors.Named {
	var out []safetensors.Named
	for _, d := range []dtype.DType{dtype.F64, dtype.F32, dtype.F16, dtype.BF16, dtype.F8E5M2} {
		x, err := tensor.FromFloat32(d, []float32{0, 1, 2, 3, 4, 5}, 2, 3)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, safetensors.Named{Name: "x." + d.String(), Tensor: x})
	}
	return append(out, safetensors.Named{Name: "ünï\"\\\n😀", Tensor: tensor.Tensor{DType: dtype.I64, Shape: []int{}, Data: []byte{0, 0, 0, 0, 0, 0, 0, 0}}})
}

// FuzzOpen: whatever the bytes, an error or a file all of whose tensors can be
// read and which the writer writes back with the same content.
func FuzzOpen(f *testing.F) {
	for _, c := range rejected {
		if len(c.data) < 4096 {
			f.Add(c.data)
		}
	}
	f.Add(file(one, 128))
	f.Add(file(`{"__metadata__":{"format":"pt"},"a":{"shape":[],"data_offsets":[0,2],"dtype":"BF16"}}   `, 2))
	f.Add(file(`{"b":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1))
	f.Fuzz(func(t *testing.T, data []byte) {
		x, err := openBytes(t, data)
		if err != nil {
			return
		}
		defer x.Close()
		var named []safetensors.Named
		total := len(x.Header())
		for _, info := range x.Tensors() {
			v, err := x.Tensor(info.Name)
			if err != nil || v.Validate() != nil {
				t.Fatalf("%v: %v", info, err)
			}
			total += len(v.Data)
			named = append(named, safetensors.Named{Name: info.Name, Tensor: v})
		}
		if total != len(data) {
			t.Fatalf("%d bytes of %d belong to something", total, len(data))
		}
		m := vfs.NewMem()
		if err := safetensors.Write(m, "again", named, x.Metadata()); err != nil {
			t.Fatal(err)
		}
		y, err := safetensors.Open(m, "again")
		if err != nil {
			t.Fatal(err)
		}
		defer y.Close()
		if len(y.Tensors()) != len(named) || !maps.Equal(x.Metadata(), y.Metadata()) {
			t.Fatal("content lost")
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	var in []safetensors.Named
	for i := range 2000 {
		in = append(in, safetensors.Named{Name: fmt.Sprintf("model.layers.%d.self_attn.q_proj.weight", i), Tensor: f32(b, 1)})
	}
	m := vfs.NewMem()
	if err := safetensors.Write(m, "x", in, nil); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		f, err := safetensors.Open(m, "x")
		if err != nil {
			b.Fatal(err)
		}
		_ = f.Close()
	}
}
