// Package tensor holds dense arrays as files hold them: an element type, a
// shape and bytes. It does no arithmetic.
package tensor

import (
	"fmt"
	"math"
	"unsafe"

	"smelt/dtype"
)

// Tensor is a dense array, row major and little endian.
//
// Data may be a read-only view of a mapped file: writing to it may fault, and
// it is valid for as long as whoever handed it out says.
type Tensor struct {
	DType dtype.DType
	Shape []int // no dimensions: one element
	Data  []byte
}

// Elements returns the product of shape's dimensions, 1 for none. It fails
// where a dimension is negative or the product overflows an int.
func Elements(shape []int) (int, error) {
	n := 1
	for _, d := range shape {
		if d < 0 {
			return 0, fmt.Errorf("tensor: shape %v has a negative dimension", shape)
		}
		n = min(n, d)
	}
	if n == 0 {
		return 0, nil
	}
	for _, d := range shape {
		if n > math.MaxInt/d {
			return 0, fmt.Errorf("tensor: shape %v overflows", shape)
		}
		n *= d
	}
	return n, nil
}

// Bytes returns the size of a tensor of this type and shape. It fails where
// Elements does, where the size overflows, and for types smaller than a byte.
func Bytes(d dtype.DType, shape []int) (int, error) {
	n, err := Elements(shape)
	if err != nil {
		return 0, err
	}
	size := d.Size()
	if size == 0 {
		return 0, fmt.Errorf("tensor: %v has no whole number of bytes per element", d)
	}
	if n > math.MaxInt/size {
		return 0, fmt.Errorf("tensor: %v %v overflows", d, shape)
	}
	return n * size, nil
}

// New returns a tensor of zeros.
func New(d dtype.DType, shape ...int) (Tensor, error) {
	n, err := Bytes(d, shape)
	if err != nil {
		return Tensor{}, err
	}
	return Tensor{DType: d, Shape: shape, Data: make([]byte, n)}, nil
}

// FromFloat32 returns a tensor of type d, which must be a floating-point type,
// that holds a copy of v rounded to nearest even.
func FromFloat32(d dtype.DType, v []float32, shape ...int) (Tensor, error) {
	if !d.IsFloat() {
		return Tensor{}, fmt.Errorf("tensor: cannot store float32 as %v", d)
	}
	t, err := New(d, shape...)
	if err != nil {
		return Tensor{}, err
	}
	if len(v) != t.Elements() {
		return Tensor{}, fmt.Errorf("tensor: %d values for shape %v", len(v), shape)
	}
	dtype.FromFloat32(t.Data, v, d)
	return t, nil
}

// Validate reports whether the shape is sound and Data has the size that type
// and shape ask for.
func (t Tensor) Validate() error {
	n, err := Bytes(t.DType, t.Shape)
	if err != nil {
		return err
	}
	if n != len(t.Data) {
		return fmt.Errorf("tensor: %v %v takes %d bytes, got %d", t.DType, t.Shape, n, len(t.Data))
	}
	return nil
}

// Elements returns the number of elements that Data holds.
func (t Tensor) Elements() int {
	if size := t.DType.Size(); size > 0 {
		return len(t.Data) / size
	}
	return 0
}

// Bytes returns the size of Data.
func (t Tensor) Bytes() int { return len(t.Data) }

// String returns type and shape: "BF16 [768 3072]".
func (t Tensor) String() string { return fmt.Sprintf("%v %v", t.DType, t.Shape) }

// Float32 returns the elements as float32 in a fresh slice; see
// dtype.ToFloat32 for rounding. It fails where the type does not convert or
// Validate does.
func (t Tensor) Float32() ([]float32, error) {
	if err := t.convertible(); err != nil {
		return nil, err
	}
	v := make([]float32, t.Elements())
	dtype.ToFloat32(v, t.Data, t.DType)
	return v, nil
}

// Float64 is Float32 for float64.
func (t Tensor) Float64() ([]float64, error) {
	if err := t.convertible(); err != nil {
		return nil, err
	}
	v := make([]float64, t.Elements())
	dtype.ToFloat64(v, t.Data, t.DType)
	return v, nil
}

func (t Tensor) convertible() error {
	if !t.DType.Converts() {
		return fmt.Errorf("tensor: %v does not convert to floating point", t.DType)
	}
	return t.Validate()
}

// ViewFloat32 returns the elements of an F32 tensor without copying: the slice
// is Data itself, as writable and as long-lived as Data is. ok is false where
// the type is another, Data is not aligned to 4 bytes or the machine is big
// endian; Float32 always works.
func (t Tensor) ViewFloat32() (v []float32, ok bool) {
	if t.DType != dtype.F32 {
		return nil, false
	}
	return view[float32](t.Data)
}

// ViewUint16 is ViewFloat32 for the bit patterns of F16 and BF16 tensors.
func (t Tensor) ViewUint16() (v []uint16, ok bool) {
	if t.DType != dtype.F16 && t.DType != dtype.BF16 {
		return nil, false
	}
	return view[uint16](t.Data)
}

// littleEndian is whether this machine stores the low byte first.
var littleEndian = func() bool {
	x := uint16(1)
	return *(*byte)(unsafe.Pointer(&x)) == 1
}()

func view[T float32 | uint16](data []byte) ([]T, bool) {
	var zero T
	size := unsafe.Sizeof(zero)
	if len(data) == 0 {
		return nil, true
	}
	p := unsafe.Pointer(unsafe.SliceData(data))
	if !littleEndian || uintptr(p)%size != 0 || uintptr(len(data))%size != 0 {
		return nil, false
	}
	return unsafe.Slice((*T)(p), uintptr(len(data))/size), true
}
