package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Offsets of the fields of struct packing, which a test holds against the Go
// declaration.
const (
	packDst       = 0
	packDstStride = 8
	packSrc       = 16
	packSrcStride = 24
	packRowCount  = 32
	packVecs      = 40
	packMask      = 48
	packAhead     = 56
	packSrcStep   = 64
	packDstStep   = 72
)

// source is the element type that a packing kernel reads.
type source struct {
	name  string
	bytes int
	elem  elem // what it becomes
}

var (
	fromF32  = source{"F32", 4, f32}
	fromF64  = source{"F64", 8, f64}
	fromBF16 = source{"BF16", 2, f32}
	fromF16  = source{"F16", 2, f32}
)

// loadWide512 loads 16 (8 for F64) elements under mask k, zero elsewhere, and
// widens them into v.
func (f *file) loadWide512(src source, m operand.Mem, k reg.Register, i int) {
	z := zmm[i]
	switch src {
	case fromF32:
		f.VMOVUPS_Z(m, k, z)
	case fromF64:
		f.VMOVUPD_Z(m, k, z)
	case fromBF16:
		f.VPMOVZXWD_Z(m, k, z)
		f.VPSLLD(operand.U8(16), z, z)
	case fromF16:
		f.VCVTPH2PS_Z(m, k, z)
	}
}

// genPack512 writes the AVX-512 packing kernels.
func genPack512(dir string) error {
	f := newFile("pack_avx512")
	for _, src := range []source{fromF32, fromF64, fromBF16, fromF16} {
		f.copyRows512(src)
		f.transpose512(src)
	}
	for _, e := range []elem{f32, f64} {
		f.spread512(e)
	}
	return f.write(dir, "kernel")
}

// spread512 copies rows of masked vectors whose distances differ between
// source and destination.
func (f *file) spread512(e elem) {
	f.text("spread"+e.name+"AVX512", "copies p's rows of masked vectors; see packing.", "(p *packing)")
	args := f.pointer("p")
	field := func(off int) reg.GPVirtual {
		r := f.GP64()
		f.MOVQ(at(args, off), r)
		return r
	}
	dst, dstStride, s, sStride := field(packDst), field(packDstStride), field(packSrc), field(packSrcStride)
	sStep, dStep := field(packSrcStep), field(packDstStep)
	count, vecs, ahead := field(packRowCount), field(packVecs), field(packAhead)
	f.KMOVW(at(args, packMask), reg.K1)
	row, next := f.fresh("row"), f.fresh("next")
	d, q, n := f.GP64(), f.GP64(), f.GP64()
	k := mask{k: reg.K1}
	f.Label(row)
	f.MOVQ(dst, d)
	f.MOVQ(s, q)
	f.MOVQ(vecs, n)
	f.Label(next)
	f.loadMasked(avx512, e, at(q, 0), k, zmm[0])
	f.PREFETCHT1(idx(q, ahead, 1, 0))
	f.storeMasked(avx512, e, zmm[0], k, at(d, 0))
	f.ADDQ(sStep, q)
	f.ADDQ(dStep, d)
	f.DECQ(n)
	f.JNZ(operand.LabelRef(next))
	f.ADDQ(dstStride, dst)
	f.ADDQ(sStride, s)
	f.DECQ(count)
	f.JNZ(operand.LabelRef(row))
	f.VZEROUPPER()
	f.RET()
}

// copyRows512 copies rows of vectors; the last vector of a row is masked and
// filled up with zeros.
func (f *file) copyRows512(src source) {
	name := "copyRows" + src.name + "AVX512"
	f.text(name, "copies and widens p's rows; see packing.", "(p *packing)")
	args := f.pointer("p")
	field := func(off int) reg.GPVirtual {
		r := f.GP64()
		f.MOVQ(at(args, off), r)
		return r
	}
	dst, dstStride, s, sStride := field(packDst), field(packDstStride), field(packSrc), field(packSrcStride)
	count, vecs, ahead := field(packRowCount), field(packVecs), field(packAhead)
	f.KMOVW(at(args, packMask), reg.K1)
	f.KXNORW(reg.K2, reg.K2, reg.K2)
	in := 64 / src.elem.bytes * src.bytes // source bytes of a vector
	row, bulk, last, done := f.fresh("row"), f.fresh("bulk"), f.fresh("last"), f.fresh("done")
	d, q, n, pf := f.GP64(), f.GP64(), f.GP64(), f.GP64()

	// Panels are two vectors wide.
	pair := f.fresh("pair")
	f.CMPQ(vecs, operand.I8(2))
	f.JNE(operand.LabelRef(row))
	f.Label(pair)
	f.loadWide512(src, at(s, 0), reg.K2, 0)
	f.loadWide512(src, at(s, in), reg.K1, 1)
	for i := 0; i < 2*in; i += 64 {
		f.PREFETCHT1(idx(s, ahead, 1, i))
	}
	f.VMOVUPS(zmm[0], at(dst, 0))
	f.VMOVUPS(zmm[1], at(dst, 64))
	f.ADDQ(dstStride, dst)
	f.ADDQ(sStride, s)
	f.DECQ(count)
	f.JNZ(operand.LabelRef(pair))
	f.JMP(operand.LabelRef(done))

	f.Label(row)
	f.MOVQ(dst, d)
	f.MOVQ(s, q)
	f.LEAQ(idx(s, ahead, 1, 0), pf)
	f.MOVQ(vecs, n)
	f.SUBQ(operand.I8(4), n)
	f.JLE(operand.LabelRef(last))
	f.Label(bulk)
	for i := range 4 {
		f.loadWide512(src, at(q, i*in), reg.K2, i)
		f.VMOVUPS(zmm[i], at(d, i*64))
	}
	for i := 0; i < 4*in; i += 64 {
		f.PREFETCHT1(at(pf, i))
	}
	f.ADDQ(operand.I32(4*in), q)
	f.ADDQ(operand.I32(4*in), pf)
	f.ADDQ(operand.I32(256), d)
	f.SUBQ(operand.I8(4), n)
	f.JG(operand.LabelRef(bulk))
	f.Label(last)
	single, final := f.fresh("single"), f.fresh("final")
	f.ADDQ(operand.I8(4), n)
	f.PREFETCHT1(at(pf, 0))
	f.PREFETCHT1(at(pf, 64))
	f.Label(single)
	f.DECQ(n)
	f.JLE(operand.LabelRef(final))
	f.loadWide512(src, at(q, 0), reg.K2, 0)
	f.VMOVUPS(zmm[0], at(d, 0))
	f.ADDQ(operand.I32(in), q)
	f.ADDQ(operand.I32(64), d)
	f.JMP(operand.LabelRef(single))
	f.Label(final)
	f.loadWide512(src, at(q, 0), reg.K1, 0)
	f.VMOVUPS(zmm[0], at(d, 0))
	f.ADDQ(dstStride, dst)
	f.ADDQ(sStride, s)
	f.DECQ(count)
	f.JNZ(operand.LabelRef(row))
	f.Label(done)
	f.VZEROUPPER()
	f.RET()
}

// transpose512 writes the transpose of one vector-wide column of source rows:
// up to 16 (8) rows of any length become as many columns of dst.
func (f *file) transpose512(src source) {
	name := "transpose" + src.name + "AVX512"
	lanes := 64 / src.elem.bytes
	f.text(name, fmt.Sprintf("writes the transpose of up to %d of p's rows, widened; see packing.", lanes), "(p *packing)")
	args := f.pointer("p")
	field := func(off int) reg.GPVirtual {
		r := f.GP64()
		f.MOVQ(at(args, off), r)
		return r
	}
	dst, dstStride, s, sStride := field(packDst), field(packDstStride), field(packSrc), field(packSrcStride)
	vecs, present := field(packVecs), field(packRowCount)
	f.KXNORW(reg.K1, reg.K1, reg.K1)
	left := f.GP64()
	f.MOVQ(vecs, left)
	block, full := f.fresh("block"), f.fresh("full")
	in := lanes * src.bytes
	f.Label(block)
	f.CMPQ(left, operand.I8(1))
	f.JG(operand.LabelRef(full))
	f.KMOVW(at(args, packMask), reg.K1)
	f.Label(full)
	// Rows that are missing stay zero.
	for i := range lanes {
		f.VPXORD(zmm[i], zmm[i], zmm[i])
	}
	p, loaded := f.GP64(), f.fresh("loaded")
	f.MOVQ(s, p)
	for i := range lanes {
		f.loadWide512(src, at(p, 0), reg.K1, i)
		f.PREFETCHT0(at(p, 4*in))
		if i < lanes-1 {
			f.CMPQ(present, operand.I8(i+1))
			f.JEQ(operand.LabelRef(loaded))
			f.ADDQ(sStride, p)
		}
	}
	f.Label(loaded)
	var out []int
	if lanes == 16 {
		out = f.transpose16()
	} else {
		out = f.transpose8()
	}
	// The last block stores only the columns that exist.
	stored := f.fresh("stored")
	n := f.GP64()
	f.MOVQ(operand.U32(lanes), n)
	whole := f.fresh("whole")
	f.CMPQ(left, operand.I8(1))
	f.JG(operand.LabelRef(whole))
	mask := f.GP64()
	f.MOVQ(at(args, packMask), mask)
	f.POPCNTQ(mask, n)
	f.Label(whole)
	for i := range lanes {
		f.VMOVUPS(zmm[out[i]], at(dst, 0))
		f.ADDQ(dstStride, dst)
		if i < lanes-1 {
			f.CMPQ(n, operand.I8(i+1))
			f.JEQ(operand.LabelRef(stored))
		}
	}
	f.Label(stored)
	f.ADDQ(operand.I32(in), s)
	f.DECQ(left)
	f.JNZ(operand.LabelRef(block))
	f.VZEROUPPER()
	f.RET()
}

// transpose16 transposes the 16×16 float32 in registers 0–15, using the other
// 16, and returns the registers that hold the columns in order.
func (f *file) transpose16() []int {
	// Pairs of rows, then pairs of pairs, then quarters.
	for i := 0; i < 16; i += 2 {
		f.VUNPCKLPS(zmm[i+1], zmm[i], zmm[16+i])
		f.VUNPCKHPS(zmm[i+1], zmm[i], zmm[16+i+1])
	}
	for i := 0; i < 16; i += 4 {
		f.VUNPCKLPD(zmm[16+i+2], zmm[16+i], zmm[i])
		f.VUNPCKHPD(zmm[16+i+2], zmm[16+i], zmm[i+1])
		f.VUNPCKLPD(zmm[16+i+3], zmm[16+i+1], zmm[i+2])
		f.VUNPCKHPD(zmm[16+i+3], zmm[16+i+1], zmm[i+3])
	}
	// Register 4q+c now holds, in each of its four lanes l, column 4l+c of
	// rows 4q…4q+3.
	for c := range 4 {
		f.VSHUFF32X4(operand.U8(0x88), zmm[4+c], zmm[c], zmm[16+c])     // lanes 0,2 of q 0 and 1
		f.VSHUFF32X4(operand.U8(0xdd), zmm[4+c], zmm[c], zmm[20+c])     // lanes 1,3
		f.VSHUFF32X4(operand.U8(0x88), zmm[12+c], zmm[8+c], zmm[24+c])  // of q 2 and 3
		f.VSHUFF32X4(operand.U8(0xdd), zmm[12+c], zmm[8+c], zmm[28+c])  // lanes 1,3
		f.VSHUFF32X4(operand.U8(0x88), zmm[24+c], zmm[16+c], zmm[c])    // column c
		f.VSHUFF32X4(operand.U8(0xdd), zmm[24+c], zmm[16+c], zmm[8+c])  // column 8+c
		f.VSHUFF32X4(operand.U8(0x88), zmm[28+c], zmm[20+c], zmm[4+c])  // column 4+c
		f.VSHUFF32X4(operand.U8(0xdd), zmm[28+c], zmm[20+c], zmm[12+c]) // column 12+c
	}
	out := make([]int, 16)
	for i := range out {
		out[i] = i
	}
	return out
}

// transpose8 transposes the 8×8 float64 in registers 0–7, using 16–23.
func (f *file) transpose8() []int {
	for i := 0; i < 8; i += 2 {
		f.VUNPCKLPD(zmm[i+1], zmm[i], zmm[16+i])
		f.VUNPCKHPD(zmm[i+1], zmm[i], zmm[16+i+1])
	}
	// Register 16+2q+c holds, in lane l, column 2l+c of rows 2q, 2q+1.
	for c := range 2 {
		f.VSHUFF64X2(operand.U8(0x88), zmm[18+c], zmm[16+c], zmm[0+c])
		f.VSHUFF64X2(operand.U8(0xdd), zmm[18+c], zmm[16+c], zmm[2+c])
		f.VSHUFF64X2(operand.U8(0x88), zmm[22+c], zmm[20+c], zmm[4+c])
		f.VSHUFF64X2(operand.U8(0xdd), zmm[22+c], zmm[20+c], zmm[6+c])
		f.VSHUFF64X2(operand.U8(0x88), zmm[4+c], zmm[0+c], zmm[24+c]) // column c
		f.VSHUFF64X2(operand.U8(0xdd), zmm[4+c], zmm[0+c], zmm[28+c]) // column 4+c
		f.VSHUFF64X2(operand.U8(0x88), zmm[6+c], zmm[2+c], zmm[26+c]) // column 2+c
		f.VSHUFF64X2(operand.U8(0xdd), zmm[6+c], zmm[2+c], zmm[30+c]) // column 6+c
	}
	return []int{24, 25, 26, 27, 28, 29, 30, 31}
}
