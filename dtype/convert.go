package dtype

import (
	"encoding/binary"
	"fmt"
	"math"
)

var le = binary.LittleEndian

// ToFloat32 widens src, little-endian elements of type d, into dst. Values of
// F64 and of wide integers that float32 cannot hold are rounded to nearest
// even. It panics where len(src) is not len(dst)·d.Size() or d does not
// convert (see Converts): both are errors of the caller, never of the data.
func ToFloat32(dst []float32, src []byte, d DType) {
	check(len(dst), len(src), d, d.Converts())
	switch d {
	case F64:
		for i := range dst {
			dst[i] = float32(math.Float64frombits(le.Uint64(src[8*i:])))
		}
	case F32:
		for i := range dst {
			dst[i] = math.Float32frombits(le.Uint32(src[4*i:]))
		}
	case F16:
		for i := range dst {
			dst[i] = F16ToFloat32(le.Uint16(src[2*i:]))
		}
	case BF16:
		for i := range dst {
			dst[i] = BF16ToFloat32(le.Uint16(src[2*i:]))
		}
	case F8E4M3:
		for i, b := range src {
			dst[i] = e4m3[b]
		}
	case F8E5M2:
		for i, b := range src {
			dst[i] = F16ToFloat32(uint16(b) << 8)
		}
	case I64:
		for i := range dst {
			dst[i] = float32(int64(le.Uint64(src[8*i:])))
		}
	case I32:
		for i := range dst {
			dst[i] = float32(int32(le.Uint32(src[4*i:])))
		}
	case I16:
		for i := range dst {
			dst[i] = float32(int16(le.Uint16(src[2*i:])))
		}
	case I8:
		for i, b := range src {
			dst[i] = float32(int8(b))
		}
	case U64:
		for i := range dst {
			dst[i] = float32(le.Uint64(src[8*i:]))
		}
	case U32:
		for i := range dst {
			dst[i] = float32(le.Uint32(src[4*i:]))
		}
	case U16:
		for i := range dst {
			dst[i] = float32(le.Uint16(src[2*i:]))
		}
	case U8:
		for i, b := range src {
			dst[i] = float32(b)
		}
	case Bool:
		for i, b := range src {
			dst[i] = float32(min(b, 1))
		}
	}
}

// ToFloat64 widens src, little-endian elements of type d, into dst. It is
// exact but for 64-bit integers beyond 2⁵³, which are rounded to nearest even.
// It panics as ToFloat32 does.
func ToFloat64(dst []float64, src []byte, d DType) {
	check(len(dst), len(src), d, d.Converts())
	switch d {
	case F64:
		for i := range dst {
			dst[i] = math.Float64frombits(le.Uint64(src[8*i:]))
		}
	case I64:
		for i := range dst {
			dst[i] = float64(int64(le.Uint64(src[8*i:])))
		}
	case I32:
		for i := range dst {
			dst[i] = float64(int32(le.Uint32(src[4*i:])))
		}
	case U64:
		for i := range dst {
			dst[i] = float64(le.Uint64(src[8*i:]))
		}
	case U32:
		for i := range dst {
			dst[i] = float64(le.Uint32(src[4*i:]))
		}
	default: // float32 holds these exactly
		var buf [256]float32
		for size := d.Size(); len(dst) > 0; {
			n := min(len(dst), len(buf))
			ToFloat32(buf[:n], src[:n*size], d)
			for i, v := range buf[:n] {
				dst[i] = float64(v)
			}
			dst, src = dst[n:], src[n*size:]
		}
	}
}

// FromFloat32 writes src into dst as little-endian elements of type d, rounding
// to nearest even. What is too large becomes infinite, or 448, its largest
// value, in F8E4M3, which has no infinity (as in torch 2.15). It panics where
// len(dst) is not len(src)·d.Size() or d is no floating-point type (see
// IsFloat).
func FromFloat32(dst []byte, src []float32, d DType) {
	check(len(src), len(dst), d, d.IsFloat())
	switch d {
	case F64:
		for i, v := range src {
			le.PutUint64(dst[8*i:], math.Float64bits(float64(v)))
		}
	case F32:
		for i, v := range src {
			le.PutUint32(dst[4*i:], math.Float32bits(v))
		}
	case F16:
		for i, v := range src {
			le.PutUint16(dst[2*i:], Float32ToF16(v))
		}
	case BF16:
		for i, v := range src {
			le.PutUint16(dst[2*i:], Float32ToBF16(v))
		}
	case F8E4M3:
		for i, v := range src {
			dst[i] = float32ToE4M3(v)
		}
	case F8E5M2:
		for i, v := range src {
			dst[i] = float32ToE5M2(v)
		}
	}
}

// FromFloat64 is FromFloat32 for float64 sources. It rounds once: a value is
// never rounded to float32 on its way to a narrower type.
func FromFloat64(dst []byte, src []float64, d DType) {
	check(len(src), len(dst), d, d.IsFloat())
	switch d {
	case F64:
		for i, v := range src {
			le.PutUint64(dst[8*i:], math.Float64bits(v))
		}
	case F32:
		for i, v := range src {
			le.PutUint32(dst[4*i:], math.Float32bits(float32(v)))
		}
	default:
		var buf [256]float32
		for size := d.Size(); len(src) > 0; {
			n := min(len(src), len(buf))
			for i, v := range src[:n] {
				buf[i] = roundToOdd(v)
			}
			FromFloat32(dst[:n*size], buf[:n], d)
			dst, src = dst[n*size:], src[n:]
		}
	}
}

func check(elems, bytes int, d DType, ok bool) {
	if !ok {
		panic(fmt.Sprintf("dtype: no conversion for %v", d))
	}
	if bytes != elems*d.Size() {
		panic(fmt.Sprintf("dtype: %d bytes for %d elements of %v (want %d)", bytes, elems, d, elems*d.Size()))
	}
}
