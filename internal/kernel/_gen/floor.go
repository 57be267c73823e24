package main

import (
	"github.com/mmcloughlin/avo/operand"
)

// genFloor writes the loops that measure the machine itself.
func genFloor(dir string) error {
	f := newFile("floor")
	for _, s := range []isa{avx512, avx2} {
		f.text("fma"+s.name, "runs n times 24 (AVX-512) or 12 (AVX2) independent fused multiply-adds.", "(n int)")
		n := f.pointer("n")
		acc := 24
		if !s.wide() {
			acc = 12
		}
		for i := range acc + 2 {
			f.VXORPS(ymm[i%16], ymm[i%16], ymm[i%16])
			if s.wide() {
				f.VPXORD(s.vec(i), s.vec(i), s.vec(i))
			}
		}
		f.Label("loop" + s.name)
		for i := range acc {
			f.VFMADD231PS(s.vec(acc), s.vec(acc+1), s.vec(i))
		}
		f.DECQ(n)
		f.JNZ(operand.LabelRef("loop" + s.name))
		f.VZEROUPPER()
		f.RET()

		f.text("read"+s.name, "loads n bytes, a multiple of 512, and does nothing with them.", "(p *byte, n int)")
		p, m := f.pointer("p"), f.pointer("n")
		f.Label("read" + s.name + "loop")
		for i := 0; i < 512; i += s.bytes {
			f.VMOVUPS(at(p, i), s.vec(i/s.bytes%8))
		}
		f.ADDQ(operand.I32(512), p)
		f.SUBQ(operand.I32(512), m)
		f.JNZ(operand.LabelRef("read" + s.name + "loop"))
		f.VZEROUPPER()
		f.RET()
	}
	return f.write(dir, "floor")
}
