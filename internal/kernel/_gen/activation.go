package main

import (
	"math"

	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The exponential after Cephes: e^x = 2^n·e^r with |r| ≤ ln(2)/2, e^r by a
// polynomial of degree 7, and 2^n in two factors, so that results overflow to
// infinity and underflow through the denormals as they should.
var (
	expHigh  = float32(89)
	expLow   = float32(-104)
	log2e    = float32(math.Log2E)
	ln2High  = float32(0.693359375)
	ln2Low   = float32(-2.12194440e-4)
	expTerms = []float32{1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1}
)

// erfP and erfQ are the coefficients of erf(x) ≈ x·P(x²)/Q(x²) on |x| ≤ 4,
// highest power first, as Eigen has them.
var (
	erfP = []float32{-2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05, -7.34990630326855e-04, -2.95459980854025e-03, -1.60960333262415e-02}
	erfQ = []float32{-1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03, -1.42647390514189e-02}
)

func words(xs ...float32) []uint32 {
	w := make([]uint32, len(xs))
	for i, x := range xs {
		w[i] = math.Float32bits(x)
	}
	return w
}

func expWords() []uint32 {
	return append(words(append([]float32{expHigh, expLow, log2e, ln2High, ln2Low, 1}, expTerms...)...), 127)
}

// exp replaces register x by its exponential, using a, b and c.
func (v *vecs) exp(x, a, b, c int) {
	X, A, B, C := v.vec(x), v.vec(a), v.vec(b), v.vec(c)
	// With x as the second source, NaN stays.
	v.VMINPS(X, v.c(expHigh), X)
	v.VMAXPS(X, v.c(expLow), X)
	v.VMULPS(v.c(log2e), X, A)
	v.VCVTPS2DQ(A, B) // n, rounded to nearest
	v.VCVTDQ2PS(B, A)
	v.VFNMADD231PS(v.c(ln2High), A, X)
	v.VFNMADD231PS(v.c(ln2Low), A, X) // r
	v.VBROADCASTSS(v.word(math.Float32bits(expTerms[0])), A)
	for _, t := range expTerms[1:] {
		v.VFMADD213PS(v.c(t), X, A)
	}
	v.VMULPS(X, X, C)
	v.VFMADD213PS(X, C, A) // polynomial·r² + r
	v.VADDPS(v.c(1), A, X) // + 1
	v.VPSRAD(operand.U8(1), B, C)
	v.VPSUBD(C, B, B)
	for _, r := range []reg.VecPhysical{B, C} {
		v.VPADDD(v.w(127), r, r)
		v.VPSLLD(operand.U8(23), r, r)
		v.VMULPS(r, X, X)
	}
}

// logistic replaces register x by x / (1 + e^y), y being another register.
func (v *vecs) divideBy1PlusExp(x, y, a, b, c int) {
	v.exp(y, a, b, c)
	v.VADDPS(v.c(1), v.vec(y), v.vec(y))
	v.VDIVPS(v.vec(y), v.vec(x), v.vec(x))
}

func (v *vecs) activations() {
	p := v.parts()
	const need = 8 // registers 0–5 for code, 7 for constants
	unary := func(stem, doc string, consts []uint32, body func()) {
		v.start(stem, doc, "(dst, x *float32, n int)")
		d, x, n := v.ptr("dst"), v.ptr("x"), v.ptr("n")
		v.hoist(need, consts...)
		v.loop(n, 16, map[reg.Register]int{d: 64, x: 64}, func() {
			for i := range p {
				v.VMOVUPS(at(x, i*v.bytes), v.vec(0))
				body()
				v.VMOVUPS(v.vec(0), at(d, i*v.bytes))
			}
		})
		v.end()
	}
	gated := func(stem, doc string, consts []uint32, body func()) {
		v.start(stem, doc, "(dst, gate, up *float32, n int)")
		d, x, u, n := v.ptr("dst"), v.ptr("gate"), v.ptr("up"), v.ptr("n")
		v.hoist(need, consts...)
		v.loop(n, 16, map[reg.Register]int{d: 64, x: 64, u: 64}, func() {
			for i := range p {
				v.VMOVUPS(at(x, i*v.bytes), v.vec(0))
				body()
				v.VMULPS(at(u, i*v.bytes), v.vec(0), v.vec(0))
				v.VMOVUPS(v.vec(0), at(d, i*v.bytes))
			}
		})
		v.end()
	}
	silu := func() {
		v.xor(1, 0, 0x80000000)
		v.divideBy1PlusExp(0, 1, 2, 3, 4)
	}
	const (
		quick = -1.702
		tanhA = -2 * 0.7978845608028654
		tanhB = -2 * 0.7978845608028654 * 0.044715
	)
	// x/2·(1+tanh u) is x/(1+e^-2u).
	geluTanh := func() {
		v.VMULPS(v.vec(0), v.vec(0), v.vec(1))
		v.VBROADCASTSS(v.word(math.Float32bits(tanhA)), v.vec(2))
		v.VFMADD132PS(v.c(tanhB), v.vec(2), v.vec(1))
		v.VMULPS(v.vec(0), v.vec(1), v.vec(1))
		v.divideBy1PlusExp(0, 1, 2, 3, 4)
	}
	e := expWords()
	unary("exp", "computes dst = e^x.", e, func() { v.exp(0, 1, 2, 3) })
	unary("silu", "computes dst = x/(1+e^-x).", append(e, 0x80000000), silu)
	unary("quickGELU", "computes dst = x/(1+e^(-1.702x)).", append(e, words(quick)...), func() {
		v.VMULPS(v.c(quick), v.vec(0), v.vec(1))
		v.divideBy1PlusExp(0, 1, 2, 3, 4)
	})
	unary("geluTanh", "computes dst = x/2·(1+tanh(√(2/π)(x+0.044715x³))).", append(e, words(tanhB)...), geluTanh)
	gated("siluMul", "computes dst = gate/(1+e^-gate)*up.", append(e, 0x80000000), silu)
	gated("geluTanhMul", "computes dst = geluTanh(gate)*up.", append(e, words(tanhB)...), geluTanh)
	const clamp = 4
	unary("gelu", "computes dst = x/2·(1+erf(x/√2)).", words(append(append([]float32{math.Sqrt2 / 2, clamp, -clamp, 1, 0.5}, erfP...), erfQ...)...), func() {
		v.VMULPS(v.c(math.Sqrt2/2), v.vec(0), v.vec(1))
		v.VMINPS(v.vec(1), v.c(clamp), v.vec(1))
		v.VMAXPS(v.vec(1), v.c(-clamp), v.vec(1))
		v.VMULPS(v.vec(1), v.vec(1), v.vec(2))
		v.VBROADCASTSS(v.word(math.Float32bits(erfP[0])), v.vec(3))
		for _, t := range erfP[1:] {
			v.VFMADD213PS(v.c(t), v.vec(2), v.vec(3))
		}
		v.VBROADCASTSS(v.word(math.Float32bits(erfQ[0])), v.vec(4))
		for _, t := range erfQ[1:] {
			v.VFMADD213PS(v.c(t), v.vec(2), v.vec(4))
		}
		v.VMULPS(v.vec(1), v.vec(3), v.vec(3))
		v.VDIVPS(v.vec(4), v.vec(3), v.vec(3))
		v.VADDPS(v.c(1), v.vec(3), v.vec(3))
		v.VMULPS(v.c(0.5), v.vec(0), v.vec(0))
		v.VMULPS(v.vec(3), v.vec(0), v.vec(0))
	})

	v.start("expSum", "computes dst = e^(x-shift) and returns the sum.", "(dst, x *float32, shift float32, n int) float32")
	d, x, n := v.ptr("dst"), v.ptr("x"), v.ptr("n")
	v.hoist(need, e...)
	v.scalar("shift", 5)
	v.zero(v.isa, v.vec(6))
	v.loop(n, 16, map[reg.Register]int{d: 64, x: 64}, func() {
		for i := range p {
			v.VMOVUPS(at(x, i*v.bytes), v.vec(0))
			v.VSUBPS(v.vec(5), v.vec(0), v.vec(0))
			v.exp(0, 1, 2, 3)
			v.VADDPS(v.vec(0), v.vec(6), v.vec(6))
			v.VMOVUPS(v.vec(0), at(d, i*v.bytes))
		}
	})
	v.sumAcross(v.isa, 6, 0)
	v.result(6)
	v.end()
}

// xor computes register dst = src ^ bits.
func (v *vecs) xor(dst, src int, bits uint32) {
	if v.wide() {
		v.VPXORD(v.w(bits), v.vec(src), v.vec(dst))
	} else {
		v.VXORPS(v.w(bits), v.vec(src), v.vec(dst))
	}
}

// and computes register dst = src & bits.
func (v *vecs) and(dst, src int, bits uint32) {
	if v.wide() {
		v.VPANDD(v.w(bits), v.vec(src), v.vec(dst))
	} else {
		v.VANDPS(v.w(bits), v.vec(src), v.vec(dst))
	}
}
