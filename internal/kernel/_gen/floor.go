package main

import (
	"github.com/mmcloughlin/avo/operand"
)

// genFloor writes the loops that measure the machine itself.
func genFloor(dir string) error {
	f := newFile("floor")
	for _, s := range []isa{avx512, avx2} {
		f.text("fma"+s.name, "runs n times 24 (AVX-512) or 12 (AVX2) independent fused multiply-adds.", "(n int)")
		count := f.pointer("n")
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
		f.DECQ(count)
		f.JNZ(operand.LabelRef("loop" + s.name))
		f.VZEROUPPER()
		f.RET()

		f.text("read"+s.name, "loads 4n bytes and does nothing with them: four runs of n, a multiple of 256, side by side.", "(p *byte, n int)")
		p, n := f.pointer("p"), f.pointer("n")
		end := f.GP64()
		runs := f.newRows(p, n, 4)
		f.LEAQ(idx(p, n, 1, 0), end)
		f.Label("read" + s.name + "loop")
		for r := range 4 {
			for i := 0; i < 256; i += s.bytes {
				f.VMOVUPS(runs.at(r, i), s.vec(i/s.bytes))
			}
		}
		f.ADDQ(operand.I32(256), p)
		f.CMPQ(p, end)
		f.JNE(operand.LabelRef("read" + s.name + "loop"))
		f.VZEROUPPER()
		f.RET()
	}
	return f.write(dir, "floor")
}
