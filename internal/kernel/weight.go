package kernel

import (
	"encoding/binary"
	"fmt"
	"math"
	"unsafe"

	"smelt/dtype"
)

// Weight is a stored linear weight [Rows = out, Cols = in]: row-major,
// little-endian bytes as they lie in a checkpoint (mapped or not, aligned or
// not), of dtype F32, BF16 or F16. It is read in place and widened inside the
// kernels, never converted as a whole.
type Weight struct {
	Rows, Cols int
	DType      dtype.DType
	Data       []byte
}

// WeightOf returns m as a float32 weight that shares its memory; m must have
// no gaps between rows.
func WeightOf(m Matrix) Weight {
	m.check("WeightOf")
	if m.Stride != m.Cols && m.Rows > 1 {
		panic(fmt.Sprintf("kernel: WeightOf: stride %d of a %d × %d matrix, want %d", m.Stride, m.Rows, m.Cols, m.Cols))
	}
	return Weight{Rows: m.Rows, Cols: m.Cols, DType: dtype.F32, Data: BytesOf(m.Data[:m.Rows*m.Cols])}
}

// Slice returns the view of rows [r0,r1).
func (w Weight) Slice(r0, r1 int) Weight {
	n := w.Cols * w.DType.Size()
	return Weight{Rows: r1 - r0, Cols: w.Cols, DType: w.DType, Data: w.Data[r0*n : r1*n : r1*n]}
}

func (w Weight) check(op string) {
	if !widens(w.DType) {
		panic(fmt.Sprintf("kernel: %s: weight of dtype %v, want F32, BF16 or F16", op, w.DType))
	}
	if w.Rows < 0 || w.Cols < 0 || len(w.Data) < w.Rows*w.Cols*w.DType.Size() {
		panic(fmt.Sprintf("kernel: %s: a %d × %d weight of dtype %v does not fit %d bytes", op, w.Rows, w.Cols, w.DType, len(w.Data)))
	}
}

// operand returns wᵀ [in,out] as a right operand.
func (w Weight) operand() operand {
	size := w.DType.Size()
	return operand{data: unsafe.Pointer(unsafe.SliceData(w.Data)), stride: w.Cols * size, size: size, kind: kindOf(w.DType), trans: true}
}

// at returns element (i,j), widened.
func (w Weight) at(i, j int) float32 {
	n := i*w.Cols + j
	switch w.DType {
	case dtype.BF16:
		return dtype.BF16ToFloat32(binary.LittleEndian.Uint16(w.Data[2*n:]))
	case dtype.F16:
		return dtype.F16ToFloat32(binary.LittleEndian.Uint16(w.Data[2*n:]))
	}
	return math.Float32frombits(binary.LittleEndian.Uint32(w.Data[4*n:]))
}

// widens reports whether t is a dtype that the kernels widen to float32.
func widens(t dtype.DType) bool { return t == dtype.F32 || t == dtype.BF16 || t == dtype.F16 }

// BytesOf returns the memory of x as bytes, little-endian on every platform
// that smelt supports.
func BytesOf(x []float32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(x))), 4*len(x))
}
