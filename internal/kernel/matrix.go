package kernel

import (
	"fmt"
	"unsafe"
)

// Matrix is a row-major float32 matrix: element (i,j) is Data[i*Stride+j].
// Views share Data, so that a Matrix is passed by value.
//
// A matrix is well formed when Rows and Cols are not negative, Stride ≥ Cols
// and Data holds (Rows-1)*Stride+Cols elements; the functions of this package
// panic on one that is not, as on shapes that do not match.
type Matrix struct {
	Rows, Cols, Stride int
	Data               []float32
}

// New returns a rows × cols matrix of zeros.
func New(rows, cols int) Matrix {
	return Matrix{Rows: rows, Cols: cols, Stride: cols, Data: make([]float32, rows*cols)}
}

// Of returns data seen as a rows × cols matrix without gaps.
func Of(rows, cols int, data []float32) Matrix {
	m := Matrix{Rows: rows, Cols: cols, Stride: cols, Data: data}
	m.check("Of")
	return m
}

// Slice returns the view of rows [r0,r1) and columns [c0,c1).
func (m Matrix) Slice(r0, r1, c0, c1 int) Matrix {
	lo, hi := span(m.Rows, m.Cols, m.Stride, r0, r1, c0, c1)
	return Matrix{Rows: r1 - r0, Cols: c1 - c0, Stride: m.Stride, Data: m.Data[lo:hi:hi]}
}

// Row returns row i, sharing memory.
func (m Matrix) Row(i int) []float32 {
	return m.Data[i*m.Stride : i*m.Stride+m.Cols : i*m.Stride+m.Cols]
}

// At returns element (i,j).
func (m Matrix) At(i, j int) float32 { return m.Data[i*m.Stride+j] }

// Set writes element (i,j).
func (m Matrix) Set(i, j int, v float32) { m.Data[i*m.Stride+j] = v }

func (m Matrix) check(op string) { checkShape(op, m.Rows, m.Cols, m.Stride, len(m.Data)) }

func (m Matrix) operand(trans bool) operand {
	return operand{data: unsafe.Pointer(unsafe.SliceData(m.Data)), stride: 4 * m.Stride, size: 4, trans: trans}
}

// Matrix64 is [Matrix] in float64.
type Matrix64 struct {
	Rows, Cols, Stride int
	Data               []float64
}

// New64 returns a rows × cols matrix of zeros.
func New64(rows, cols int) Matrix64 {
	return Matrix64{Rows: rows, Cols: cols, Stride: cols, Data: make([]float64, rows*cols)}
}

// Of64 returns data seen as a rows × cols matrix without gaps.
func Of64(rows, cols int, data []float64) Matrix64 {
	m := Matrix64{Rows: rows, Cols: cols, Stride: cols, Data: data}
	m.check("Of64")
	return m
}

// Slice returns the view of rows [r0,r1) and columns [c0,c1).
func (m Matrix64) Slice(r0, r1, c0, c1 int) Matrix64 {
	lo, hi := span(m.Rows, m.Cols, m.Stride, r0, r1, c0, c1)
	return Matrix64{Rows: r1 - r0, Cols: c1 - c0, Stride: m.Stride, Data: m.Data[lo:hi:hi]}
}

// Row returns row i, sharing memory.
func (m Matrix64) Row(i int) []float64 {
	return m.Data[i*m.Stride : i*m.Stride+m.Cols : i*m.Stride+m.Cols]
}

// At returns element (i,j).
func (m Matrix64) At(i, j int) float64 { return m.Data[i*m.Stride+j] }

// Set writes element (i,j).
func (m Matrix64) Set(i, j int, v float64) { m.Data[i*m.Stride+j] = v }

func (m Matrix64) check(op string) { checkShape(op, m.Rows, m.Cols, m.Stride, len(m.Data)) }

func (m Matrix64) operand(trans bool) operand {
	return operand{data: unsafe.Pointer(unsafe.SliceData(m.Data)), stride: 8 * m.Stride, size: 8, trans: trans}
}

// span returns the bounds in Data of a view of a rows × cols matrix.
func span(rows, cols, stride, r0, r1, c0, c1 int) (lo, hi int) {
	if r0 < 0 || r0 > r1 || r1 > rows || c0 < 0 || c0 > c1 || c1 > cols {
		panic(fmt.Sprintf("kernel: Slice: [%d:%d, %d:%d] of a %d × %d matrix", r0, r1, c0, c1, rows, cols))
	}
	if r0 == r1 || c0 == c1 {
		return 0, 0
	}
	return r0*stride + c0, (r1-1)*stride + c1
}

func checkShape(op string, rows, cols, stride, size int) {
	if rows < 0 || cols < 0 || stride < cols || (rows > 0 && cols > 0 && (rows-1)*stride+cols > size) {
		panic(fmt.Sprintf("kernel: %s: a %d × %d matrix of stride %d does not fit %d elements", op, rows, cols, stride, size))
	}
}
