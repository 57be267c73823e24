package kernel

import (
	"math"
	"unsafe"

	"smelt/dtype"
)

// genericVectors are the loops in Go, and what all others must equal.
var genericVectors = vectors{
	dotF32:  dotGeneric[float32],
	dotF64:  dotGeneric[float64],
	dotAcc:  dotAccGeneric,
	sum:     sumGeneric,
	largest: largestGeneric,
	squaresAbout: func(x *float32, mean float32, n int) (s float64) {
		for _, v := range unsafe.Slice(x, n) {
			d := float64(v - mean)
			s += d * d
		}
		return s
	},
	axpyF32:  axpyGeneric[float32],
	axpyF64:  axpyGeneric[float64],
	axpy4F32: axpy4Generic[float32],
	axpy4F64: axpy4Generic[float64],
	scaleF32: scaleGeneric[float32],
	scaleF64: scaleGeneric[float64],
	add: func(dst, x, y *float32, n int) {
		d, a, b := unsafe.Slice(dst, n), unsafe.Slice(x, n), unsafe.Slice(y, n)
		for i := range d {
			d[i] = a[i] + b[i]
		}
	},
	mul: func(dst, x, y *float32, n int) {
		d, a, b := unsafe.Slice(dst, n), unsafe.Slice(x, n), unsafe.Slice(y, n)
		for i := range d {
			d[i] = a[i] * b[i]
		}
	},
	rope: func(lo, hi, cos, sin *float32, n int) {
		l, h, c, s := unsafe.Slice(lo, n), unsafe.Slice(hi, n), unsafe.Slice(cos, n), unsafe.Slice(sin, n)
		for i := range l {
			a, b := l[i], h[i]
			l[i], h[i] = a*c[i]-b*s[i], b*c[i]+a*s[i]
		}
	},
	layerNorm: func(dst, x, weight, bias *float32, mean, inv float32, n int) {
		d, a, w, b := unsafe.Slice(dst, n), unsafe.Slice(x, n), unsafe.Slice(weight, n), unsafe.Slice(bias, n)
		for i := range d {
			d[i] = (a[i]-mean)*inv*w[i] + b[i]
		}
	},
	rmsNorm: func(dst, x, weight *float32, inv float32, n int) {
		d, a, w := unsafe.Slice(dst, n), unsafe.Slice(x, n), unsafe.Slice(weight, n)
		for i := range d {
			d[i] = a[i] * inv * w[i]
		}
	},
	exp:         each(math.Exp),
	silu:        each(silu),
	quickGELU:   each(func(x float64) float64 { return x / (1 + math.Exp(-1.702*x)) }),
	geluTanh:    each(geluTanh),
	gelu:        each(func(x float64) float64 { return 0.5 * x * (1 + math.Erf(x*(math.Sqrt2/2))) }),
	siluMul:     gatedGeneric(silu),
	geluTanhMul: gatedGeneric(geluTanh),
	expSum: func(dst, x *float32, shift float32, n int) (sum float32) {
		d := unsafe.Slice(dst, n)
		for i, v := range unsafe.Slice(x, n) {
			d[i] = float32(math.Exp(float64(v - shift)))
			sum += d[i]
		}
		return sum
	},
	widenBF16:  widenGeneric(dtype.BF16),
	widenF16:   widenGeneric(dtype.F16),
	narrowBF16: narrowGeneric(dtype.BF16),
	narrowF16:  narrowGeneric(dtype.F16),
	f32ToF64: func(dst *float64, src *float32, n int) {
		d := unsafe.Slice(dst, n)
		for i, v := range unsafe.Slice(src, n) {
			d[i] = float64(v)
		}
	},
	f64ToF32: func(dst *float32, src *float64, n int) {
		d := unsafe.Slice(dst, n)
		for i, v := range unsafe.Slice(src, n) {
			d[i] = float32(v)
		}
	},
	sub: [kinds][kinds]func(*float32, unsafe.Pointer, unsafe.Pointer, int, *chunkStats){
		{subGeneric(native, native), subGeneric(native, bf16), subGeneric(native, f16)},
		{subGeneric(bf16, native), subGeneric(bf16, bf16), subGeneric(bf16, f16)},
		{subGeneric(f16, native), subGeneric(f16, bf16), subGeneric(f16, f16)},
	},
}

func silu(x float64) float64 { return x / (1 + math.Exp(-x)) }

// geluTanh is x/2·(1+tanh u) with u = √(2/π)(x+0.044715x³), by
// 1+tanh u = 2/(1+e^-2u).
func geluTanh(x float64) float64 {
	const a = 0.7978845608028654 // √(2/π)
	return x / (1 + math.Exp(-2*a*(x+0.044715*x*x*x)))
}

func each(f func(float64) float64) func(dst, x *float32, n int) {
	return func(dst, x *float32, n int) {
		d := unsafe.Slice(dst, n)
		for i, v := range unsafe.Slice(x, n) {
			d[i] = float32(f(float64(v)))
		}
	}
}

func gatedGeneric(f func(float64) float64) func(dst, gate, up *float32, n int) {
	return func(dst, gate, up *float32, n int) {
		d, u := unsafe.Slice(dst, n), unsafe.Slice(up, n)
		for i, v := range unsafe.Slice(gate, n) {
			d[i] = float32(f(float64(v))) * u[i]
		}
	}
}

func dotGeneric[T float](x, y *T, n int) T {
	var s [4]T
	a, b := unsafe.Slice(x, n), unsafe.Slice(y, n)
	for i := 0; i+4 <= len(a); i += 4 {
		p, q := a[i:i+4:i+4], b[i:i+4:i+4]
		s[0] += p[0] * q[0]
		s[1] += p[1] * q[1]
		s[2] += p[2] * q[2]
		s[3] += p[3] * q[3]
	}
	return (s[0] + s[1]) + (s[2] + s[3])
}

func dotAccGeneric(x, y *float32, n int) (s float64) {
	b := unsafe.Slice(y, n)
	for i, v := range unsafe.Slice(x, n) {
		s += float64(v) * float64(b[i])
	}
	return s
}

func sumGeneric(x *float32, n int) (s float64) {
	for _, v := range unsafe.Slice(x, n) {
		s += float64(v)
	}
	return s
}

func largestGeneric(x *float32, n int) float32 {
	top := float32(math.Inf(-1))
	for _, v := range unsafe.Slice(x, n) {
		if v > top {
			top = v
		}
	}
	return top
}

func axpyGeneric[T float](alpha T, x, y *T, n int) {
	d := unsafe.Slice(y, n)
	for i, v := range unsafe.Slice(x, n) {
		d[i] += alpha * v
	}
}

func axpy4Generic[T float](alpha, x *T, stride int, y *T, n int) {
	for r, a := range unsafe.Slice(alpha, 4) {
		axpyGeneric(a, (*T)(unsafe.Add(unsafe.Pointer(x), r*stride)), y, n)
	}
}

func scaleGeneric[T float](alpha T, x *T, n int) {
	d := unsafe.Slice(x, n)
	for i := range d {
		d[i] *= alpha
	}
}

func widenGeneric(t dtype.DType) func(dst *float32, src unsafe.Pointer, n int) {
	return func(dst *float32, src unsafe.Pointer, n int) {
		dtype.ToFloat32(unsafe.Slice(dst, n), unsafe.Slice((*byte)(src), n*t.Size()), t)
	}
}

func narrowGeneric(t dtype.DType) func(dst unsafe.Pointer, src *float32, n int) {
	return func(dst unsafe.Pointer, src *float32, n int) {
		dtype.FromFloat32(unsafe.Slice((*byte)(dst), n*t.Size()), unsafe.Slice(src, n), t)
	}
}

func subGeneric(ka, kb kind) func(dst *float32, a, b unsafe.Pointer, n int, s *chunkStats) {
	loadA, loadB := loader[float32](ka), loader[float32](kb)
	return func(dst *float32, a, b unsafe.Pointer, n int, s *chunkStats) {
		*s = chunkStats{}
		out := unsafe.Slice(dst, n)
		for i := range out {
			d := loadA(a, i) - loadB(b, i)
			out[i] = d
			s.sumSquares += float64(d) * float64(d)
			abs := math.Float32frombits(math.Float32bits(d) &^ (1 << 31))
			if abs > s.maxAbs {
				s.maxAbs = abs
			}
			if !(abs <= math.MaxFloat32) {
				s.nonFinite++
			}
			if d != 0 {
				s.nonZero++
			}
		}
	}
}
