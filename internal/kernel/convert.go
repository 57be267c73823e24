package kernel

import (
	"fmt"

	"smelt/dtype"
)

// Widen converts the little-endian elements of src, of dtype F64, F32, BF16 or
// F16 (other dtypes that convert go through package dtype), to float32: exact
// but for F64, which rounds to nearest even. NaN stays NaN and becomes quiet.
// src need not be aligned.
func Widen(workers int, dst []float32, src []byte, t dtype.DType) {
	checkBytes("Widen", len(dst), len(src), t)
	widen(workers, dst, src, t)
}

// Narrow converts float32 to little-endian elements of dtype t, rounding to
// nearest even; NaN stays NaN and becomes quiet.
func Narrow(workers int, dst []byte, t dtype.DType, src []float32) {
	checkBytes("Narrow", len(src), len(dst), t)
	narrow(workers, dst, t, src)
}

// F32ToF64 widens src, exactly.
func F32ToF64(dst []float64, src []float32) {
	checkLen("F32ToF64", len(dst), len(src))
	f32ToF64(dst, src)
}

// F64ToF32 rounds src to nearest even.
func F64ToF32(dst []float32, src []float64) {
	checkLen("F64ToF32", len(dst), len(src))
	f64ToF32(dst, src)
}

func checkBytes(op string, elems, bytes int, t dtype.DType) {
	if !t.Converts() || elems*t.Size() != bytes {
		panic(fmt.Sprintf("kernel: %s: %d elements and %d bytes of %v", op, elems, bytes, t))
	}
}
