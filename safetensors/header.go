// Package safetensors reads and writes the safetensors format and nothing
// else: eight bytes with the length of a JSON header, the header, the data.
// Every file is checked as a whole before a tensor is handed out, so that
// nothing behind Open needs to doubt an offset.
//
// The rules are those of the reference implementation (Rust, 0.6), and
// stricter where it is lenient: a name may not occur twice, nor may a member
// of a tensor's entry, and the entries may have no members but the three of
// the format.
package safetensors

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"

	"smelt/dtype"
	"smelt/internal/ojson"
	"smelt/tensor"
)

// Limits on what is read, checked before anything is allocated.
const (
	MaxHeader  = 100_000_000 // bytes, as in the reference implementation
	MaxTensors = 1 << 18
	MaxDims    = 16
	MaxName    = 1 << 12 // bytes
)

// metadataKey is the one name in a header that is no tensor.
const metadataKey = "__metadata__"

// Info is what a header says about one tensor.
type Info struct {
	Name  string
	DType dtype.DType
	Shape []int
	// Begin and End are offsets into the data, which starts behind the header.
	Begin, End int64
}

// Bytes returns the size of the data.
func (t Info) Bytes() int64 { return t.End - t.Begin }

// Elements returns the number of elements.
func (t Info) Elements() int64 {
	n := int64(1)
	for _, d := range t.Shape {
		n *= int64(d)
	}
	return n
}

// header is a parsed and validated header.
type header struct {
	infos    []Info // in offset order; of equal offsets in header order
	metadata map[string]string
}

// parseHeader parses text, the JSON, for a file whose data takes dataSize
// bytes.
func parseHeader(text []byte, dataSize int64) (*header, error) {
	if len(text) == 0 || text[0] != '{' {
		return nil, errors.New("header does not start with '{': not a safetensors file")
	}
	root, err := ojson.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	if len(root.Members) > MaxTensors {
		return nil, fmt.Errorf("header lists %d tensors, more than %d", len(root.Members), MaxTensors)
	}
	h := &header{infos: make([]Info, 0, len(root.Members))}
	for _, m := range root.Members {
		if m.Name == metadataKey {
			if h.metadata, err = parseMetadata(m.Value); err != nil {
				return nil, err
			}
			continue
		}
		info, err := parseInfo(m.Name, m.Value)
		if err != nil {
			return nil, fmt.Errorf("tensor %.200q: %w", m.Name, err)
		}
		h.infos = append(h.infos, info)
	}
	slices.SortStableFunc(h.infos, func(a, b Info) int {
		return cmp.Or(cmp.Compare(a.Begin, b.Begin), cmp.Compare(a.End, b.End))
	})
	if err := validate(h.infos, dataSize); err != nil {
		return nil, err
	}
	return h, nil
}

// validate checks that every tensor's offsets fit its type and shape and that
// the tensors, which are in offset order, fill the data without gap or
// overlap. It is the one place where that is judged, for reading and writing.
func validate(infos []Info, dataSize int64) error {
	var end int64
	for i, t := range infos {
		if len(t.Shape) > MaxDims {
			return fmt.Errorf("tensor %.200q: %d dimensions, more than %d", t.Name, len(t.Shape), MaxDims)
		}
		n, err := tensor.Bytes(t.DType, t.Shape)
		if err != nil {
			return fmt.Errorf("tensor %.200q: %w", t.Name, err)
		}
		if t.Begin < 0 || t.End < t.Begin || t.End-t.Begin != int64(n) {
			return fmt.Errorf("tensor %.200q: offsets [%d,%d) do not fit %v %v (%d bytes)",
				t.Name, t.Begin, t.End, t.DType, list(t.Shape), n)
		}
		if t.End > dataSize {
			return fmt.Errorf("tensor %.200q: offsets [%d,%d) lie outside the file, whose data has %d bytes (truncated?)",
				t.Name, t.Begin, t.End, dataSize)
		}
		switch {
		case t.Begin < end:
			return fmt.Errorf("tensor %.200q: offsets [%d,%d) overlap those of %.200q, [%d,%d)",
				t.Name, t.Begin, t.End, infos[i-1].Name, infos[i-1].Begin, infos[i-1].End)
		case t.Begin > end:
			return fmt.Errorf("tensor %.200q: offsets [%d,%d) leave a gap of %d bytes before them",
				t.Name, t.Begin, t.End, t.Begin-end)
		}
		end = t.End
	}
	if end != dataSize {
		return fmt.Errorf("%d bytes of data, but the tensors take %d", dataSize, end)
	}
	return nil
}

func parseMetadata(v ojson.Value) (map[string]string, error) {
	if v.Kind != ojson.Object {
		return nil, fmt.Errorf("header: %s is %s, want an object of strings", metadataKey, v.Kind.A())
	}
	m := make(map[string]string, len(v.Members))
	for _, e := range v.Members {
		if e.Value.Kind != ojson.String {
			return nil, fmt.Errorf("header: %s %.200q is %s, want a string", metadataKey, e.Name, e.Value.Kind.A())
		}
		m[e.Name] = e.Value.Text
	}
	return m, nil
}

func parseInfo(name string, v ojson.Value) (Info, error) {
	t := Info{Name: name}
	if name == "" || len(name) > MaxName {
		return t, fmt.Errorf("name has %d bytes, want 1 to %d", len(name), MaxName)
	}
	if v.Kind != ojson.Object {
		return t, fmt.Errorf("entry is %s, want an object", v.Kind.A())
	}
	seen := 0
	for _, m := range v.Members {
		var err error
		switch m.Name {
		case "dtype":
			if m.Value.Kind != ojson.String {
				return t, fmt.Errorf("dtype is %s, want a string", m.Value.Kind.A())
			}
			t.DType, err = dtype.Parse(m.Value.Text)
			if err == nil && t.DType.Size() == 0 {
				err = fmt.Errorf("dtype %v packs elements smaller than a byte, which smelt does not read: dequantise the checkpoint first", t.DType)
			}
		case "shape":
			t.Shape, err = parseShape(m.Value)
		case "data_offsets":
			t.Begin, t.End, err = parseOffsets(m.Value)
		default:
			err = fmt.Errorf("entry has a member %.200q, want dtype, shape and data_offsets only", m.Name)
		}
		if err != nil {
			return t, err
		}
		seen++
	}
	if seen != 3 {
		return t, errors.New("entry lacks one of dtype, shape and data_offsets")
	}
	return t, nil
}

func parseShape(v ojson.Value) ([]int, error) {
	if v.Kind != ojson.Array {
		return nil, fmt.Errorf("shape is %s, want an array", v.Kind.A())
	}
	if len(v.Elems) > MaxDims {
		return nil, fmt.Errorf("shape has %d dimensions, more than %d", len(v.Elems), MaxDims)
	}
	shape := make([]int, len(v.Elems))
	for i, e := range v.Elems {
		n, err := natural(e)
		if err != nil || n > math.MaxInt {
			return nil, fmt.Errorf("shape: dimension %d is %s, want a whole number from 0", i, describe(e))
		}
		shape[i] = int(n)
	}
	return shape, nil
}

func parseOffsets(v ojson.Value) (begin, end int64, err error) {
	if v.Kind != ojson.Array || len(v.Elems) != 2 {
		return 0, 0, errors.New("data_offsets is not an array of two numbers")
	}
	begin, err = natural(v.Elems[0])
	if err == nil {
		end, err = natural(v.Elems[1])
	}
	if err != nil {
		return 0, 0, fmt.Errorf("data_offsets [%s,%s] are not whole numbers from 0",
			describe(v.Elems[0]), describe(v.Elems[1]))
	}
	return begin, end, nil
}

// natural returns a number that is written as digits alone.
func natural(v ojson.Value) (int64, error) {
	if v.Kind != ojson.Number {
		return 0, errors.New("not a number")
	}
	n, err := strconv.ParseInt(v.Text, 10, 64)
	if err == nil && (n < 0 || v.Text[0] == '-') {
		err = errors.New("negative")
	}
	return n, err
}

func describe(v ojson.Value) string {
	if v.Kind == ojson.Number {
		return fmt.Sprintf("%.40s", v.Text)
	}
	return v.Kind.A()
}

// list writes a shape as headers do: [4,8].
func list(shape []int) string {
	b := []byte{'['}
	for i, d := range shape {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(d), 10)
	}
	return string(append(b, ']'))
}

// headerLength reads the first eight bytes of a file of fileSize bytes.
func headerLength(first []byte, fileSize int64) (int64, error) {
	n := binary.LittleEndian.Uint64(first)
	if n > MaxHeader {
		return 0, fmt.Errorf("header of %d bytes, more than %d: not a safetensors file", n, MaxHeader)
	}
	if int64(n) > fileSize-8 {
		return 0, fmt.Errorf("header of %d bytes in a file of %d: truncated, or not a safetensors file", n, fileSize)
	}
	return int64(n), nil
}
