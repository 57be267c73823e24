package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Offsets of the fields of struct dots, which a test holds against the Go
// declaration.
const (
	dotsX      = 0
	dotsXRow   = 8
	dotsW      = 16
	dotsWRow   = 24
	dotsOut    = 32
	dotsOutRow = 40
	dotsSteps  = 48
	dotsGroups = 56
	dotsRun    = 64
	dotsOutRun = 72
	dotsAhead  = 80
	dotsSums   = 88
	dotsFrom   = 96
	dotsTo     = 104
)

// loadWide loads one vector of elements of type src and widens it.
func (f *file) loadWide(s isa, src source, m operand.Mem, v reg.VecPhysical) {
	switch src {
	case fromF32:
		f.VMOVUPS(m, v)
	case fromF64:
		f.VMOVUPD(m, v)
	case fromBF16:
		f.VPMOVZXWD(m, v)
		f.VPSLLD(operand.U8(16), v, v)
	case fromF16:
		f.VCVTPH2PS(m, v)
	}
}

// sumAcross leaves the sum of float32 vector i in lane 0; t is free.
func (f *file) sumAcross(s isa, i, t int) {
	if s.wide() {
		f.VEXTRACTF64X4(operand.U8(1), zmm[i], ymm[t])
		f.VADDPS(ymm[t], ymm[i], ymm[i])
	}
	if i < 16 && t < 16 {
		f.VEXTRACTF128(operand.U8(1), ymm[i], xmm[t])
	} else {
		f.VEXTRACTF32X4(operand.U8(1), ymm[i], xmm[t])
	}
	f.VADDPS(xmm[t], xmm[i], xmm[i])
	f.VPERMILPS(operand.U8(0x4e), xmm[i], xmm[t])
	f.VADDPS(xmm[t], xmm[i], xmm[i])
	f.VPERMILPS(operand.U8(0xb1), xmm[i], xmm[t])
	f.VADDPS(xmm[t], xmm[i], xmm[i])
}

// sumRows leaves the sums of up to four float32 vectors in the first lanes of the
// first, each added up in sumAcross's order; t is free, and K1 has every fourth
// bit set.
func (f *file) sumRows(vectors []int, t int) {
	v := func(i int) reg.VecPhysical { return zmm[vectors[min(i, len(vectors)-1)]] }
	pair := func(lo, hi operand.U8, a, b reg.VecPhysical) {
		f.VSHUFF32X4(hi, b, a, zmm[t])
		f.VSHUFF32X4(lo, b, a, a)
		f.VADDPS(zmm[t], a, a)
	}
	pair(0x44, 0xee, v(0), v(1))
	pair(0x44, 0xee, v(2), v(3))
	pair(0x88, 0xdd, v(0), v(2))
	for _, order := range []operand.U8{0x4e, 0xb1} {
		f.VPERMILPS(order, v(0), zmm[t])
		f.VADDPS(zmm[t], v(0), v(0))
	}
	f.VCOMPRESSPS(v(0), reg.K1, v(0))
}

// genDots writes the kernels that multiply a few rows of x with every row of a
// stored weight, several weight rows at a time.
func genDots(dir string, s isa) error {
	f := newFile("dots_" + lower(s.name))
	// By rows of x, the rows of w whose sums fill the registers.
	groups := []int{4, 4, 4, 4, 4, 4, 3, 3}
	if !s.wide() {
		groups = []int{2, 2, 2, 2}
	}
	for _, src := range []source{fromF32, fromBF16, fromF16, fromF64} {
		table := fmt.Sprintf("// dots%s%s holds the kernels by rows of x, for single rows of w and for groups.\nvar dots%s%s = [2][]stream{\n", src.name, s.name, src.name, s.name)
		for _, single := range []bool{true, false} {
			table += "\t{\n\t\t{},\n"
			for i, r := range groups {
				x := i + 1
				if single {
					r = 1
				}
				name := fmt.Sprintf("dots%s%sx%dx%d", src.name, s.name, x, r)
				if x == 1 {
					f.text(name, fmt.Sprintf("multiplies a row of x with %d runs of rows of w.", r), "(d *dots)")
					f.dotKernel(s, src, r)
				} else {
					f.text(name, fmt.Sprintf("multiplies %d rows of x with groups of %d rows of w.", x, r), "(d *dots)")
					f.dotsKernel(s, src, x, r)
				}
				table += fmt.Sprintf("\t\t{%d, %s},\n", r, name)
			}
			table += "\t},\n"
		}
		f.decls = append(f.decls, table+"}\n")
	}
	return f.write(dir, "kernel")
}

// dotsKernel takes steps of 64 (AVX2: 32) bytes of a row of every run: one vector
// of float32 or float64, two of the 16-bit types.
func (f *file) dotsKernel(s isa, src source, xn, wn int) {
	args := f.pointer("d")
	field := func(off int) reg.GPVirtual {
		r := f.GP64()
		f.MOVQ(at(args, off), r)
		return r
	}
	e := src.elem
	vecs := e.bytes / src.bytes
	in := s.bytes / vecs // bytes of w for one vector
	acc := func(w, x int) int { return w*xn + x }
	wv := func(w int) reg.VecPhysical { return s.vec(wn*xn + w) }
	xv := s.vec(wn*xn + wn)

	pw, groups, out, sums := field(dotsW), field(dotsGroups), field(dotsOut), field(dotsSums)
	xRow, run := field(dotsXRow), field(dotsRun)
	together := e == f32 && s.wide() && wn > 1
	if together {
		lanes := f.GP64()
		f.MOVQ(operand.U32(0x1111), lanes)
		f.KMOVW(lanes.As32(), reg.K1)
	}
	group, fresh, step, whole, done := f.fresh("group"), f.fresh("fresh"), f.fresh("step"), f.fresh("whole"), f.fresh("done")
	f.Label(group)
	for i := range wn * xn {
		f.zero(s, s.vec(i))
	}
	f.CMPQ(at(args, dotsFrom), operand.I8(0))
	f.JEQ(operand.LabelRef(fresh))
	for i := range wn * xn {
		f.VMOVUPS(at(sums, i*s.bytes), s.vec(i))
	}
	f.Label(fresh)
	steps, px, q, ahead := field(dotsSteps), field(dotsX), f.GP64(), field(dotsAhead)
	f.MOVQ(pw, q)
	f.ADDQ(q, ahead)
	ws, xs := f.newRows(q, run, wn), f.newRows(px, xRow, xn)
	next := ws.from(ahead)
	f.Label(step)
	for v := range vecs {
		for w := range wn {
			f.loadWide(s, src, ws.at(w, v*in), wv(w))
		}
		for x := range xn {
			f.VMOVUPS(xs.at(x, v*s.bytes), xv)
			for w := range wn {
				f.fma(e, xv, wv(w), s.vec(acc(w, x)))
			}
		}
	}
	for w := range wn {
		f.PREFETCHT0(next.at(w, 0))
	}
	f.ADDQ(operand.I32(s.bytes), q)
	f.ADDQ(operand.I32(s.bytes), ahead)
	f.ADDQ(operand.I32(vecs*s.bytes), px)
	f.DECQ(steps)
	f.JNZ(operand.LabelRef(step))

	f.CMPQ(at(args, dotsTo), operand.I8(0))
	f.JEQ(operand.LabelRef(whole))
	for i := range wn * xn {
		f.VMOVUPS(s.vec(i), at(sums, i*s.bytes))
	}
	f.JMP(operand.LabelRef(done))
	f.Label(whole)
	po, outRun := f.GP64(), field(dotsOutRun)
	f.MOVQ(out, po)
	os := f.newRows(po, outRun, wn)
	for x := range xn {
		if together {
			rows := make([]int, wn)
			for w := range rows {
				rows[w] = acc(w, x)
			}
			f.sumRows(rows, wn*xn)
		}
		for w := range wn {
			switch {
			case together && w == 0:
				f.VMOVSS(xmm[acc(0, x)], os.at(w, 0))
			case together:
				f.VEXTRACTPS(operand.U8(w), xmm[acc(0, x)], os.at(w, 0))
			case e == f32:
				f.sumAcross(s, acc(w, x), wn*xn)
				f.VMOVSS(xmm[acc(w, x)], os.at(w, 0))
			default:
				f.sumAcross64(s, acc(w, x), wn*xn)
				f.VMOVSD(xmm[acc(w, x)], os.at(w, 0))
			}
		}
		f.ADDQ(at(args, dotsOutRow), po)
	}
	f.Label(done)
	f.ADDQ(operand.I32(wn*xn*s.bytes), sums)
	f.ADDQ(operand.I8(e.bytes), out)
	f.ADDQ(at(args, dotsWRow), pw)
	f.DECQ(groups)
	f.JNZ(operand.LabelRef(group))
	f.VZEROUPPER()
	f.RET()
}

// dotKernel is dotsKernel for one row of x and wn runs of rows of w, one after
// the other, whose lengths are groups: the runs are read side by side, each from
// end to end as one stream, and a row into four sums.
func (f *file) dotKernel(s isa, src source, wn int) {
	args := f.pointer("d")
	field := func(off int) reg.GPVirtual {
		r := f.GP64()
		f.MOVQ(at(args, off), r)
		return r
	}
	const sums, ahead = 4, 2048
	e := src.elem
	vecs := e.bytes / src.bytes
	in := s.bytes / vecs
	acc := func(w, i int) int { return w*sums + i }
	free := wn * sums

	pw, groups, wRow, out := field(dotsW), field(dotsGroups), field(dotsWRow), field(dotsOut)
	run, outRun := field(dotsRun), field(dotsOutRun)
	po := f.newRows(out, outRun, wn)
	row, quad, tail, single, done := f.fresh("row"), f.fresh("quad"), f.fresh("tail"), f.fresh("single"), f.fresh("done")
	q := f.GP64()
	ws := f.newRows(q, run, wn)
	f.Label(row)
	steps, px := field(dotsSteps), field(dotsX)
	f.MOVQ(pw, q)
	for i := range wn * sums {
		f.zero(s, s.vec(i))
	}
	// step takes n steps of all runs, one run after the other. They share what
	// they multiply with, where the registers hold it.
	step := func(n int) {
		xs, first := make([]operand.Op, n*vecs), free
		for i := range xs {
			xs[i] = at(px, i*s.bytes)
			if wn > 1 && free+len(xs) < s.regs {
				f.VMOVUPS(xs[i], s.vec(first))
				xs[i] = s.vec(first)
				first++
			}
		}
		for w := range wn {
			for u := range n {
				if u*s.bytes%64 == 0 {
					f.PREFETCHT0(ws.at(w, u*s.bytes+ahead))
				}
				for v := range vecs {
					m, x := ws.at(w, u*s.bytes+v*in), xs[u*vecs+v]
					if first > free && vecs == 1 {
						f.fma(e, m, x, s.vec(acc(w, u)))
						continue
					}
					wv := s.vec(first + (u*vecs+v)%min(8, s.regs-first))
					f.loadWide(s, src, m, wv)
					f.fma(e, x, wv, s.vec(acc(w, u)))
				}
			}
		}
	}
	f.SUBQ(operand.I8(sums), steps)
	f.JLT(operand.LabelRef(tail))
	f.Label(quad)
	step(sums)
	f.ADDQ(operand.I32(sums*s.bytes), q)
	f.ADDQ(operand.I32(sums*vecs*s.bytes), px)
	f.SUBQ(operand.I8(sums), steps)
	f.JGE(operand.LabelRef(quad))
	f.Label(tail)
	f.ADDQ(operand.I8(sums), steps)
	f.JZ(operand.LabelRef(done))
	f.Label(single)
	step(1)
	f.ADDQ(operand.I32(s.bytes), q)
	f.ADDQ(operand.I32(vecs*s.bytes), px)
	f.DECQ(steps)
	f.JNZ(operand.LabelRef(single))
	f.Label(done)
	for w := range wn {
		for _, p := range [][2]int{{0, 2}, {1, 3}, {0, 1}} {
			a, b := s.vec(acc(w, p[0])), s.vec(acc(w, p[1]))
			if e == f32 {
				f.VADDPS(b, a, a)
			} else {
				f.VADDPD(b, a, a)
			}
		}
		if e == f32 {
			f.sumAcross(s, acc(w, 0), acc(w, 1))
			f.VMOVSS(xmm[acc(w, 0)], po.at(w, 0))
		} else {
			f.sumAcross64(s, acc(w, 0), acc(w, 1))
			f.VMOVSD(xmm[acc(w, 0)], po.at(w, 0))
		}
	}
	f.ADDQ(operand.I8(e.bytes), out)
	f.ADDQ(wRow, pw)
	f.DECQ(groups)
	f.JNZ(operand.LabelRef(row))
	f.VZEROUPPER()
	f.RET()
}
