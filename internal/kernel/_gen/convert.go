package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// half returns the register of half the width that is the low half of i.
func (v *vecs) half(i int) reg.VecPhysical {
	if v.wide() {
		return ymm[i]
	}
	return xmm[i]
}

func (v *vecs) conversions() {
	p := v.parts()
	for _, src := range []source{fromBF16, fromF16} {
		v.start("widen"+src.name, "widens n elements, a multiple of 16; NaN becomes quiet.", "(dst *float32, src unsafe.Pointer, n int)")
		d, s, n := v.ptr("dst"), v.ptr("src"), v.ptr("n")
		v.hoist(4, 0x80000000)
		v.loop(n, 16, map[reg.Register]int{d: 64, s: 32}, func() {
			for i := range p {
				v.loadWide(v.isa, src, at(s, i*v.bytes/2), v.vec(i))
				if src == fromBF16 {
					v.VADDPS(v.w(0x80000000), v.vec(i), v.vec(i)) // −0 alters nothing but a signalling NaN
				}
				v.VMOVUPS(v.vec(i), at(d, i*v.bytes))
			}
		})
		v.end()
	}

	v.start("narrowBF16", "rounds n elements, a multiple of 16, to nearest even; NaN becomes quiet.", "(dst unsafe.Pointer, src *float32, n int)")
	d, s, n := v.ptr("dst"), v.ptr("src"), v.ptr("n")
	v.hoist(8, 1, 0x7fff, 0x40)
	v.loop(n, 16, map[reg.Register]int{d: 32, s: 64}, func() {
		for i := range p {
			x, high, odd := v.vec(0), v.vec(1), v.vec(2)
			v.VMOVUPS(at(s, i*v.bytes), x)
			v.VPSRLD(operand.U8(16), x, high)
			if v.wide() {
				v.VPANDD(v.w(1), high, odd)
			} else {
				v.VPAND(v.w(1), high, odd)
			}
			v.VPADDD(v.w(0x7fff), odd, odd)
			v.VPADDD(x, odd, odd)
			v.VPSRLD(operand.U8(16), odd, odd)
			if v.wide() {
				v.VCMPPS(operand.U8(3), x, x, reg.K1) // unordered: NaN
				v.VPORD(v.w(0x40), high, reg.K1, odd)
				v.VPMOVDW(odd, at(d, i*v.bytes/2))
			} else {
				v.VPOR(v.w(0x40), high, high)
				v.VCMPPS(operand.U8(3), x, x, v.vec(3))
				v.VBLENDVPS(v.vec(3), high, odd, odd)
				v.VPACKUSDW(odd, odd, odd)
				v.VPERMQ(operand.U8(0xd8), odd, odd)
				v.VMOVUPS(xmm[2], at(d, i*v.bytes/2))
			}
		}
	})
	v.end()

	v.start("narrowF16", "rounds n elements, a multiple of 16, to nearest even; NaN becomes quiet.", "(dst unsafe.Pointer, src *float32, n int)")
	d, s, n = v.ptr("dst"), v.ptr("src"), v.ptr("n")
	v.loop(n, 16, map[reg.Register]int{d: 32, s: 64}, func() {
		for i := range p {
			v.VMOVUPS(at(s, i*v.bytes), v.vec(0))
			v.VCVTPS2PH(operand.U8(0), v.vec(0), at(d, i*v.bytes/2))
		}
	})
	v.end()

	v.start("f32ToF64", "widens n elements, a multiple of 16.", "(dst *float64, src *float32, n int)")
	d, s, n = v.ptr("dst"), v.ptr("src"), v.ptr("n")
	v.loop(n, 16, map[reg.Register]int{d: 128, s: 64}, func() {
		for i := range 2 * p {
			v.VCVTPS2PD(at(s, i*v.bytes/2), v.vec(i))
			v.VMOVUPD(v.vec(i), at(d, i*v.bytes))
		}
	})
	v.end()

	v.start("f64ToF32", "rounds n elements, a multiple of 16, to nearest even.", "(dst *float32, src *float64, n int)")
	d, s, n = v.ptr("dst"), v.ptr("src"), v.ptr("n")
	v.loop(n, 16, map[reg.Register]int{d: 64, s: 128}, func() {
		for i := range 2 * p {
			v.VMOVUPD(at(s, i*v.bytes), v.vec(i))
			if v.wide() {
				v.VCVTPD2PS(zmm[i], ymm[i])
				v.VMOVUPS(ymm[i], at(d, i*32))
			} else {
				v.VCVTPD2PSY(ymm[i], xmm[i])
				v.VMOVUPS(xmm[i], at(d, i*16))
			}
		}
	})
	v.end()
}

// Offsets of the fields of struct chunkStats, which a test holds against the Go
// declaration.
const (
	statsSquares   = 0
	statsMax       = 8
	statsNonFinite = 12
	statsNonZero   = 16
)

// subtractions write, for every pair of stored types, dst = a - b with its
// statistics, n a multiple of 16 below 2³¹.
func (v *vecs) subtractions() {
	p := v.parts()
	for _, a := range []source{fromF32, fromBF16, fromF16} {
		for _, b := range []source{fromF32, fromBF16, fromF16} {
			v.start(fmt.Sprintf("sub%s%s", a.name, b.name), "computes dst = a - b and the statistics s.", "(dst *float32, a, b unsafe.Pointer, n int, s *chunkStats)")
			pd, pa, pb, n := v.ptr("dst"), v.ptr("a"), v.ptr("b"), v.ptr("n")
			const (
				squares = 2 // and 3
				top     = 4
				bad     = 5
				nonzero = 6
				zero    = 7
				d, t    = 0, 1
			)
			v.hoist(12, 0x7fffffff, 0x7f7fffff, 1)
			for i := 2; i <= 7; i++ {
				v.zero(v.isa, v.vec(i))
			}
			v.loop(n, 16, map[reg.Register]int{pd: 64, pa: 16 * a.bytes, pb: 16 * b.bytes}, func() {
				v.PREFETCHT0(at(pa, 4096)) // across pages, which the hardware does not
				for i := range p {
					v.loadWide(v.isa, a, at(pa, i*v.bytes/4*a.bytes), v.vec(d))
					v.loadWide(v.isa, b, at(pb, i*v.bytes/4*b.bytes), v.vec(t))
					v.VSUBPS(v.vec(t), v.vec(d), v.vec(d))
					v.VMOVUPS(v.vec(d), at(pd, i*v.bytes))
					v.count(4, d, zero, nonzero) // not equal, or unordered
					v.VCVTPS2PD(v.half(d), v.vec(t))
					v.VFMADD231PD(v.vec(t), v.vec(t), v.vec(squares))
					if v.wide() {
						v.VEXTRACTF64X4(operand.U8(1), zmm[d], ymm[t])
					} else {
						v.VEXTRACTF128(operand.U8(1), ymm[d], xmm[t])
					}
					v.VCVTPS2PD(v.half(t), v.vec(t))
					v.VFMADD231PD(v.vec(t), v.vec(t), v.vec(squares+1))
					v.and(d, d, 0x7fffffff)
					v.VMAXPS(v.vec(top), v.vec(d), v.vec(top))
					r := v.consts[0x7f7fffff]
					v.count(6, d, r, bad) // not less or equal, or unordered
				}
			})
			ps := v.ptr("s")
			v.VADDPD(v.vec(squares+1), v.vec(squares), v.vec(squares))
			v.sumAcross64(v.isa, squares, t)
			v.VMOVSD(xmm[squares], at(ps, statsSquares))
			v.maxAcross(v.isa, top, t)
			v.VMOVSS(xmm[top], at(ps, statsMax))
			v.addAcross(bad, t)
			v.VMOVD(xmm[bad], at(ps, statsNonFinite))
			v.addAcross(nonzero, t)
			v.VMOVD(xmm[nonzero], at(ps, statsNonZero))
			v.end()
		}
	}
}

// count adds 1 to the lanes of acc in which x compares with y by predicate; x
// and y are kept, register 8 is used.
func (v *vecs) count(predicate, x, y, acc int) {
	if v.wide() {
		v.VCMPPS(operand.U8(predicate), v.vec(y), v.vec(x), reg.K1)
		v.VPADDD(v.w(1), v.vec(acc), reg.K1, v.vec(acc))
		return
	}
	v.VCMPPS(operand.U8(predicate), v.vec(y), v.vec(x), v.vec(8))
	v.VPSUBD(v.vec(8), v.vec(acc), v.vec(acc))
}

// addAcross leaves the sum of the int32 lanes of register i in lane 0.
func (v *vecs) addAcross(i, t int) {
	if v.wide() {
		v.VEXTRACTI64X4(operand.U8(1), zmm[i], ymm[t])
		v.VPADDD(ymm[t], ymm[i], ymm[i])
	}
	v.VEXTRACTI128(operand.U8(1), ymm[i], xmm[t])
	v.VPADDD(xmm[t], xmm[i], xmm[i])
	v.VPSHUFD(operand.U8(0x4e), xmm[i], xmm[t])
	v.VPADDD(xmm[t], xmm[i], xmm[i])
	v.VPSHUFD(operand.U8(0xb1), xmm[i], xmm[t])
	v.VPADDD(xmm[t], xmm[i], xmm[i])
}
