package tensor_test

import (
	"math"
	"slices"
	"testing"

	"smelt/dtype"
	"smelt/tensor"
)

func TestElementsAndBytes(t *testing.T) {
	for _, c := range []struct {
		shape []int
		d     dtype.DType
		n     int // -1: refused
	}{
		{nil, dtype.F32, 4},
		{[]int{2, 3}, dtype.BF16, 12},
		{[]int{0, math.MaxInt}, dtype.F32, 0},
		{[]int{math.MaxInt, math.MaxInt, 0}, dtype.F32, 0},
		{[]int{math.MaxInt, 2}, dtype.U8, -1},
		{[]int{math.MaxInt / 2}, dtype.F32, -1},
		{[]int{-1}, dtype.F32, -1},
		{[]int{0, -1}, dtype.F32, -1},
		{[]int{2}, dtype.F4, -1},
		{[]int{2}, dtype.Invalid, -1},
	} {
		n, err := tensor.Bytes(c.d, c.shape)
		if (err != nil) != (c.n < 0) || err == nil && n != c.n {
			t.Errorf("Bytes(%v, %v) = %d, %v; want %d", c.d, c.shape, n, err, c.n)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	want := []float32{1, -2, 0.5, 65504, 0, -0.25}
	for _, d := range []dtype.DType{dtype.F64, dtype.F32, dtype.F16} {
		x, err := tensor.FromFloat32(d, want, 2, 3)
		if err != nil {
			t.Fatal(err)
		}
		if err := x.Validate(); err != nil || x.Elements() != 6 || x.Bytes() != 6*d.Size() {
			t.Errorf("%v: %v, %d elements, %d bytes", x, err, x.Elements(), x.Bytes())
		}
		got, err := x.Float32()
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%v: %v, %v", d, got, err)
		}
		got64, err := x.Float64()
		if err != nil || got64[3] != 65504 {
			t.Errorf("%v: %v, %v", d, got64, err)
		}
	}
}

func TestViews(t *testing.T) {
	x, err := tensor.FromFloat32(dtype.F32, []float32{1, 2, 3}, 3)
	if err != nil {
		t.Fatal(err)
	}
	v, ok := x.ViewFloat32()
	if !ok || !slices.Equal(v, []float32{1, 2, 3}) {
		t.Fatalf("view %v, %v", v, ok)
	}
	v[0] = 9
	if w, _ := x.Float32(); w[0] != 9 {
		t.Error("the view is a copy")
	}
	off := tensor.Tensor{DType: dtype.F32, Shape: []int{1}, Data: x.Data[1:5]}
	if _, ok := off.ViewFloat32(); ok {
		t.Error("a view of unaligned data")
	}
	if _, err := off.Float32(); err != nil {
		t.Error(err)
	}
	if _, ok := x.ViewUint16(); ok {
		t.Error("a 16-bit view of F32")
	}
	h, err := tensor.FromFloat32(dtype.BF16, []float32{1}, 1)
	if err != nil {
		t.Fatal(err)
	}
	if u, ok := h.ViewUint16(); !ok || u[0] != 0x3f80 {
		t.Errorf("view %#x, %v", u, ok)
	}
}

func TestErrorsNotPanics(t *testing.T) {
	bad := []tensor.Tensor{
		{},
		{DType: dtype.F32, Shape: []int{2}, Data: make([]byte, 7)},
		{DType: dtype.F4, Shape: []int{2}, Data: make([]byte, 1)},
		{DType: dtype.C64, Shape: []int{1}, Data: make([]byte, 8)},
		{DType: dtype.F32, Shape: []int{-2}},
		{DType: 99, Shape: []int{1}, Data: make([]byte, 4)},
	}
	for _, x := range bad {
		if _, err := x.Float32(); err == nil {
			t.Errorf("%v with %d bytes: no error", x, len(x.Data))
		}
		if _, err := x.Float64(); err == nil {
			t.Errorf("%v with %d bytes: no error", x, len(x.Data))
		}
	}
	if _, err := tensor.FromFloat32(dtype.F32, []float32{1}, 2); err == nil {
		t.Error("one value for two elements")
	}
	if _, err := tensor.FromFloat32(dtype.I8, []float32{1}, 1); err == nil {
		t.Error("float32 stored as I8")
	}
}
