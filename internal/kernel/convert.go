package kernel

import (
	"fmt"
	"unsafe"

	"smelt/dtype"
	"smelt/internal/parallel"
)

// Widen converts the little-endian elements of src, of dtype F64, F32, BF16 or
// F16 (other dtypes that convert go through package dtype), to float32: exact
// but for F64, which rounds to nearest even. NaN stays NaN and becomes quiet.
// src need not be aligned.
func Widen(workers int, dst []float32, src []byte, t dtype.DType) {
	checkBytes("Widen", len(dst), len(src), t)
	size := t.Size()
	parallel.For(chunkWorkers(workers, len(dst)), chunks(len(dst)), func(c int) {
		lo, hi := c*chunk, min(len(dst), (c+1)*chunk)
		widen(dst[lo:hi], src[lo*size:hi*size], t)
	})
}

// Narrow converts float32 to little-endian elements of dtype t, rounding to
// nearest even; NaN stays NaN and becomes quiet.
func Narrow(workers int, dst []byte, t dtype.DType, src []float32) {
	checkBytes("Narrow", len(src), len(dst), t)
	size := t.Size()
	parallel.For(chunkWorkers(workers, len(src)), chunks(len(src)), func(c int) {
		lo, hi := c*chunk, min(len(src), (c+1)*chunk)
		narrow(dst[lo*size:hi*size], t, src[lo:hi])
	})
}

// F32ToF64 widens src, exactly.
func F32ToF64(dst []float64, src []float32) {
	checkLen("F32ToF64", len(dst), len(src))
	n := len(src) &^ (lane16 - 1)
	if n > 0 {
		active.f32ToF64(ptr(dst), ptr(src), n)
	}
	for i := n; i < len(src); i++ {
		dst[i] = float64(src[i])
	}
}

// F64ToF32 rounds src to nearest even.
func F64ToF32(dst []float32, src []float64) {
	checkLen("F64ToF32", len(dst), len(src))
	n := len(src) &^ (lane16 - 1)
	if n > 0 {
		active.f64ToF32(ptr(dst), ptr(src), n)
	}
	for i := n; i < len(src); i++ {
		dst[i] = float32(src[i])
	}
}

func checkBytes(op string, elems, bytes int, t dtype.DType) {
	if !t.Converts() || elems*t.Size() != bytes {
		panic(fmt.Sprintf("kernel: %s: %d elements and %d bytes of %v", op, elems, bytes, t))
	}
}

// widen converts one chunk.
func widen(dst []float32, src []byte, t dtype.DType) {
	n := 0
	if m := len(dst) &^ (lane16 - 1); m > 0 {
		switch t {
		case dtype.BF16:
			active.widenBF16(ptr(dst), unsafe.Pointer(ptr(src)), m)
			n = m
		case dtype.F16:
			active.widenF16(ptr(dst), unsafe.Pointer(ptr(src)), m)
			n = m
		case dtype.F32:
			copy(BytesOf(dst), src)
			return
		}
	}
	dtype.ToFloat32(dst[n:], src[n*t.Size():], t)
}

// narrow converts one chunk.
func narrow(dst []byte, t dtype.DType, src []float32) {
	n := 0
	if m := len(src) &^ (lane16 - 1); m > 0 {
		switch t {
		case dtype.BF16:
			active.narrowBF16(unsafe.Pointer(ptr(dst)), ptr(src), m)
			n = m
		case dtype.F16:
			active.narrowF16(unsafe.Pointer(ptr(dst)), ptr(src), m)
			n = m
		case dtype.F32:
			copy(dst, BytesOf(src))
			return
		}
	}
	dtype.FromFloat32(dst[n*t.Size():], src[n:], t)
}

// chunks returns the number of chunks of n elements.
func chunks(n int) int { return (n + chunk - 1) / chunk }

// chunkWorkers returns 1 where n elements are too few to share.
func chunkWorkers(workers, n int) int {
	if n < 2*chunk {
		return 1
	}
	return workers
}
