package main

import (
	"fmt"
	"math"

	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// vecs writes loops over whole vectors for one instruction set. Every loop
// takes 16 float32 (8 float64) at a time, one vector of AVX-512 or two of AVX2,
// so that n counts the same everywhere.
type vecs struct {
	*file
	isa
	consts map[uint32]int // register of a hoisted constant
	spare  int            // register for the others
	pool   map[uint32]operand.Mem
}

func genVectors(dir string, s isa) error {
	v := &vecs{file: newFile("vector_" + lower(s.name)), isa: s, pool: map[uint32]operand.Mem{}}
	v.reductions()
	v.updates()
	v.conversions()
	v.subtractions()
	v.activations()
	v.norms()
	return v.write(dir, "kernel", "unsafe")
}

// start begins a function called stem+ISA.
func (v *vecs) start(stem, doc, signature string) { v.text(stem+v.isa.name, doc, signature) }

func (v *vecs) end() {
	v.VZEROUPPER()
	v.RET()
}

// loop runs body for byte offsets of one block of 16 float32, while n (in
// elements, a multiple of 16, not zero) lasts; pointers advance by the given
// bytes per block.
func (v *vecs) loop(n reg.Register, elems int, pointers map[reg.Register]int, body func()) {
	l := v.fresh("loop")
	v.Label(l)
	body()
	for _, p := range sorted(pointers) {
		v.ADDQ(operand.I32(pointers[p]), p)
	}
	v.SUBQ(operand.I8(elems), n)
	v.JNZ(operand.LabelRef(l))
}

// sorted orders the pointers of a loop, for the same text in every run.
func sorted(m map[reg.Register]int) []reg.Register {
	var keys []reg.Register
	for k := range m {
		keys = append(keys, k)
	}
	for i := range keys {
		for j := i; j > 0 && keys[j].(reg.Virtual).VirtualIndex() < keys[j-1].(reg.Virtual).VirtualIndex(); j-- {
			keys[j], keys[j-1] = keys[j-1], keys[j]
		}
	}
	return keys
}

// parts returns the number of vectors in a block of 64 bytes.
func (v *vecs) parts() int { return 64 / v.bytes }

func (v *vecs) ptr(name string) reg.GPVirtual { return v.pointer(name) }

// spread broadcasts scalar parameter name into register i.
func (v *vecs) scalar(name string, i int) {
	b, err := v.Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	v.VBROADCASTSS(b.Addr, v.vec(i))
}

// word returns a read-only 4-byte constant.
func (v *vecs) word(bits uint32) operand.Mem {
	m, ok := v.pool[bits]
	if !ok {
		m = v.ConstData(fmt.Sprintf("%sx%08x", lower(v.isa.name), bits), operand.U32(bits))
		v.pool[bits] = m
	}
	return m
}

// hoist keeps constants in registers, from the last register downwards, leaving
// at least `need` for the code, of which the last serves the other constants.
func (v *vecs) hoist(need int, words ...uint32) {
	v.consts = map[uint32]int{}
	v.spare = need - 1
	r := v.regs - 1
	for _, w := range words {
		if r < need {
			break
		}
		if _, ok := v.consts[w]; ok {
			continue
		}
		v.VBROADCASTSS(v.word(w), v.vec(r))
		v.consts[w] = r
		r--
	}
}

// c returns a register that holds a constant, until the next call of c.
func (v *vecs) c(x float32) reg.VecPhysical { return v.w(math.Float32bits(x)) }

func (v *vecs) w(bits uint32) reg.VecPhysical {
	if r, ok := v.consts[bits]; ok {
		return v.vec(r)
	}
	v.VBROADCASTSS(v.word(bits), v.vec(v.spare))
	return v.vec(v.spare)
}

// sumAcross64 leaves the sum of float64 vector i in lane 0; t is free.
func (f *file) sumAcross64(s isa, i, t int) {
	if s.wide() {
		f.VEXTRACTF64X4(operand.U8(1), zmm[i], ymm[t])
		f.VADDPD(ymm[t], ymm[i], ymm[i])
	}
	if i < 16 && t < 16 {
		f.VEXTRACTF128(operand.U8(1), ymm[i], xmm[t])
	} else {
		f.VEXTRACTF64X2(operand.U8(1), ymm[i], xmm[t])
	}
	f.VADDPD(xmm[t], xmm[i], xmm[i])
	f.VPERMILPD(operand.U8(1), xmm[i], xmm[t])
	f.VADDSD(xmm[t], xmm[i], xmm[i])
}

// maxAcross leaves the largest lane of float32 vector i in lane 0; t is free.
// No lane is NaN.
func (f *file) maxAcross(s isa, i, t int) {
	if s.wide() {
		f.VEXTRACTF64X4(operand.U8(1), zmm[i], ymm[t])
		f.VMAXPS(ymm[t], ymm[i], ymm[i])
	}
	f.VEXTRACTF128(operand.U8(1), ymm[i], xmm[t])
	f.VMAXPS(xmm[t], xmm[i], xmm[i])
	f.VPERMILPS(operand.U8(0x4e), xmm[i], xmm[t])
	f.VMAXPS(xmm[t], xmm[i], xmm[i])
	f.VPERMILPS(operand.U8(0xb1), xmm[i], xmm[t])
	f.VMAXPS(xmm[t], xmm[i], xmm[i])
}

// result stores lane 0 of register i as the function's result.
func (v *vecs) result(i int) { v.Store(xmm[i], v.ReturnIndex(0)) }

func (v *vecs) reductions() {
	p := v.parts()
	// Four blocks at a time while they last, then one; sums are kept apart.
	for _, e := range []elem{f32, f64} {
		t := map[elem]string{f32: "float32", f64: "float64"}[e]
		per := 64 / e.bytes
		v.start("dot"+e.name, fmt.Sprintf("returns Σ x[i]*y[i], n a multiple of %d.", per), fmt.Sprintf("(x, y *%s, n int) %s", t, t))
		x, y, n := v.ptr("x"), v.ptr("y"), v.ptr("n")
		for i := range 4 * p {
			v.zero(v.isa, v.vec(i))
		}
		ones, done := v.fresh("ones"), v.fresh("done")
		bulk := v.fresh("bulk")
		v.SUBQ(operand.I32(4*per), n)
		v.JLT(operand.LabelRef(ones))
		v.Label(bulk)
		for i := range 4 * p {
			r := v.vec(4*p + i%4)
			v.VMOVUPS(at(x, i*v.bytes), r)
			v.fma(e, at(y, i*v.bytes), r, v.vec(i))
		}
		v.ADDQ(operand.I32(256), x)
		v.ADDQ(operand.I32(256), y)
		v.SUBQ(operand.I32(4*per), n)
		v.JGE(operand.LabelRef(bulk))
		v.Label(ones)
		v.ADDQ(operand.I32(4*per), n)
		v.JZ(operand.LabelRef(done))
		v.loop(n, per, map[reg.Register]int{x: 64, y: 64}, func() {
			for i := range p {
				v.VMOVUPS(at(x, i*v.bytes), v.vec(4*p))
				v.fma(e, at(y, i*v.bytes), v.vec(4*p), v.vec(i))
			}
		})
		v.Label(done)
		for step := 2 * p; step >= 1; step /= 2 {
			for i := range step {
				if e == f32 {
					v.VADDPS(v.vec(i+step), v.vec(i), v.vec(i))
				} else {
					v.VADDPD(v.vec(i+step), v.vec(i), v.vec(i))
				}
			}
		}
		if e == f32 {
			v.sumAcross(v.isa, 0, 1)
		} else {
			v.sumAcross64(v.isa, 0, 1)
		}
		v.result(0)
		v.end()
	}

	v.start("dotAcc", "returns Σ x[i]*y[i] in float64, n a multiple of 16.", "(x, y *float32, n int) float64")
	x, y, n := v.ptr("x"), v.ptr("y"), v.ptr("n")
	k := 2 * p // vectors of float64 in a block
	for i := range k {
		v.zero(v.isa, v.vec(i))
	}
	v.loop(n, 16, map[reg.Register]int{x: 64, y: 64}, func() {
		for i := range k {
			v.VCVTPS2PD(at(x, i*v.bytes/2), v.vec(k))
			v.VCVTPS2PD(at(y, i*v.bytes/2), v.vec(k+1))
			v.VFMADD231PD(v.vec(k), v.vec(k+1), v.vec(i))
		}
	})
	for step := k / 2; step >= 1; step /= 2 {
		for i := range step {
			v.VADDPD(v.vec(i+step), v.vec(i), v.vec(i))
		}
	}
	v.sumAcross64(v.isa, 0, 1)
	v.result(0)
	v.end()

	v.start("sum", "returns Σ x[i] in float64, n a multiple of 16.", "(x *float32, n int) float64")
	x, n = v.ptr("x"), v.ptr("n")
	for i := range k {
		v.zero(v.isa, v.vec(i))
	}
	v.loop(n, 16, map[reg.Register]int{x: 64}, func() {
		for i := range k {
			v.VCVTPS2PD(at(x, i*v.bytes/2), v.vec(k))
			v.VADDPD(v.vec(k), v.vec(i), v.vec(i))
		}
	})
	for step := k / 2; step >= 1; step /= 2 {
		for i := range step {
			v.VADDPD(v.vec(i+step), v.vec(i), v.vec(i))
		}
	}
	v.sumAcross64(v.isa, 0, 1)
	v.result(0)
	v.end()

	v.start("largest", "returns the largest x[i], NaN left out, n a multiple of 16.", "(x *float32, n int) float32")
	x, n = v.ptr("x"), v.ptr("n")
	for i := range p {
		v.VBROADCASTSS(v.word(0xff800000), v.vec(i))
	}
	v.loop(n, 16, map[reg.Register]int{x: 64}, func() {
		for i := range p {
			// Of a NaN and a number, VMAXPS takes its second source, here the
			// one that has been found before.
			v.VMOVUPS(at(x, i*v.bytes), v.vec(p))
			v.VMAXPS(v.vec(i), v.vec(p), v.vec(i))
		}
	})
	for i := 1; i < p; i++ {
		v.VMAXPS(v.vec(i), v.vec(0), v.vec(0))
	}
	v.maxAcross(v.isa, 0, p)
	v.result(0)
	v.end()
}

func (v *vecs) updates() {
	p := v.parts()
	for _, e := range []elem{f32, f64} {
		t := map[elem]string{f32: "float32", f64: "float64"}[e]
		per := 64 / e.bytes
		alpha := func() {
			b, err := v.Param("alpha").Resolve()
			if err != nil {
				panic(err)
			}
			v.broadcast(e, b.Addr, v.vec(0))
		}
		v.start("axpy"+e.name, "adds alpha*x to y.", fmt.Sprintf("(alpha %s, x, y *%s, n int)", t, t))
		alpha()
		x, y, n := v.ptr("x"), v.ptr("y"), v.ptr("n")
		v.loop(n, per, map[reg.Register]int{x: 64, y: 64}, func() {
			for i := range p {
				v.VMOVUPS(at(y, i*v.bytes), v.vec(1+i))
				v.fma(e, at(x, i*v.bytes), v.vec(0), v.vec(1+i))
				v.VMOVUPS(v.vec(1+i), at(y, i*v.bytes))
			}
		})
		v.end()

		// Four rows at once spare three of four reads and writes of y.
		v.start("axpy4"+e.name, "adds alpha[0]*x[0] + … + alpha[3]*x[3] to y, rows of x lying stride bytes apart.",
			fmt.Sprintf("(alpha, x *%s, stride int, y *%s, n int)", t, t))
		a := v.ptr("alpha")
		for i := range 4 {
			v.broadcast(e, at(a, i*e.bytes), v.vec(i))
		}
		x, y, n = v.ptr("x"), v.ptr("y"), v.ptr("n")
		rs := v.newRows(x, v.ptr("stride"), 4)
		v.loop(n, per, map[reg.Register]int{x: 64, y: 64}, func() {
			for i := range p {
				v.VMOVUPS(at(y, i*v.bytes), v.vec(4+i))
				for r := range 4 {
					v.fma(e, rs.at(r, i*v.bytes), v.vec(r), v.vec(4+i))
				}
				v.VMOVUPS(v.vec(4+i), at(y, i*v.bytes))
			}
		})
		v.end()

		v.start("scale"+e.name, "multiplies x by alpha.", fmt.Sprintf("(alpha %s, x *%s, n int)", t, t))
		alpha()
		x, n = v.ptr("x"), v.ptr("n")
		v.loop(n, per, map[reg.Register]int{x: 64}, func() {
			for i := range p {
				v.mul(e, at(x, i*v.bytes), v.vec(0), v.vec(1+i))
				v.VMOVUPS(v.vec(1+i), at(x, i*v.bytes))
			}
		})
		v.end()
	}
	for _, o := range []string{"add", "mul"} {
		v.start(o+"F32", "computes dst = x "+map[string]string{"add": "+", "mul": "*"}[o]+" y.", "(dst, x, y *float32, n int)")
		d, x, y, n := v.ptr("dst"), v.ptr("x"), v.ptr("y"), v.ptr("n")
		v.loop(n, 16, map[reg.Register]int{d: 64, x: 64, y: 64}, func() {
			for i := range p {
				v.VMOVUPS(at(x, i*v.bytes), v.vec(i))
				if o == "add" {
					v.VADDPS(at(y, i*v.bytes), v.vec(i), v.vec(i))
				} else {
					v.VMULPS(at(y, i*v.bytes), v.vec(i), v.vec(i))
				}
				v.VMOVUPS(v.vec(i), at(d, i*v.bytes))
			}
		})
		v.end()
	}

	v.start("rope", "rotates pairs (lo[i], hi[i]) by angles of which cos and sin are given.", "(lo, hi, cos, sin *float32, n int)")
	lo, hi, cos, sin, n := v.ptr("lo"), v.ptr("hi"), v.ptr("cos"), v.ptr("sin"), v.ptr("n")
	v.loop(n, 16, map[reg.Register]int{lo: 64, hi: 64, cos: 64, sin: 64}, func() {
		for i := range p {
			o := i * v.bytes
			v.VMOVUPS(at(lo, o), v.vec(0))
			v.VMOVUPS(at(hi, o), v.vec(1))
			v.VMOVUPS(at(cos, o), v.vec(2))
			v.VMOVUPS(at(sin, o), v.vec(3))
			v.VMULPS(v.vec(1), v.vec(3), v.vec(4))
			v.VMULPS(v.vec(0), v.vec(3), v.vec(5))
			v.VFMSUB231PS(v.vec(0), v.vec(2), v.vec(4))
			v.VFMADD231PS(v.vec(1), v.vec(2), v.vec(5))
			v.VMOVUPS(v.vec(4), at(lo, o))
			v.VMOVUPS(v.vec(5), at(hi, o))
		}
	})
	v.end()
}

func (v *vecs) norms() {
	p := v.parts()
	v.start("layerNorm", "computes dst = (x - mean)*inv*weight + bias.", "(dst, x, weight, bias *float32, mean, inv float32, n int)")
	d, x, w, b, n := v.ptr("dst"), v.ptr("x"), v.ptr("weight"), v.ptr("bias"), v.ptr("n")
	v.scalar("mean", 0)
	v.scalar("inv", 1)
	v.loop(n, 16, map[reg.Register]int{d: 64, x: 64, w: 64, b: 64}, func() {
		for i := range p {
			o := i * v.bytes
			v.VMOVUPS(at(x, o), v.vec(2))
			v.VSUBPS(v.vec(0), v.vec(2), v.vec(2))
			v.VMULPS(v.vec(1), v.vec(2), v.vec(2))
			v.VMOVUPS(at(w, o), v.vec(3))
			v.VFMADD213PS(at(b, o), v.vec(3), v.vec(2))
			v.VMOVUPS(v.vec(2), at(d, o))
		}
	})
	v.end()

	v.start("rmsNorm", "computes dst = x*inv*weight.", "(dst, x, weight *float32, inv float32, n int)")
	d, x, w, n = v.ptr("dst"), v.ptr("x"), v.ptr("weight"), v.ptr("n")
	v.scalar("inv", 1)
	v.loop(n, 16, map[reg.Register]int{d: 64, x: 64, w: 64}, func() {
		for i := range p {
			o := i * v.bytes
			v.VMULPS(at(x, o), v.vec(1), v.vec(2))
			v.VMULPS(at(w, o), v.vec(2), v.vec(2))
			v.VMOVUPS(v.vec(2), at(d, o))
		}
	})
	v.end()

	// Σ (x - mean)² in float64.
	v.start("squaresAbout", "returns Σ (x[i]-mean)² in float64.", "(x *float32, mean float32, n int) float64")
	x, n = v.ptr("x"), v.ptr("n")
	k := 2 * p
	b2, err := v.Param("mean").Resolve()
	if err != nil {
		panic(err)
	}
	for i := range k {
		v.zero(v.isa, v.vec(i))
	}
	half := map[bool][]reg.VecPhysical{true: ymm[:], false: xmm[:]}[v.wide()]
	v.VBROADCASTSS(b2.Addr, half[k])
	v.loop(n, 16, map[reg.Register]int{x: 64}, func() {
		for i := range k {
			v.VMOVUPS(at(x, i*v.bytes/2), half[k+1])
			v.VSUBPS(half[k], half[k+1], half[k+1])
			v.VCVTPS2PD(half[k+1], v.vec(k+2))
			v.VFMADD231PD(v.vec(k+2), v.vec(k+2), v.vec(i))
		}
	})
	for step := k / 2; step >= 1; step /= 2 {
		for i := range step {
			v.VADDPD(v.vec(i+step), v.vec(i), v.vec(i))
		}
	}
	v.sumAcross64(v.isa, 0, 1)
	v.result(0)
	v.end()
}
