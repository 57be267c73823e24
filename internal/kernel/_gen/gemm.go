package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Offsets of the fields of struct tile, which a test holds against the Go
// declaration.
const (
	tileK        = 0
	tileA        = 8
	tileARow     = 16
	tileAStep    = 24
	tileB        = 32
	tileBStep    = 40
	tileC        = 48
	tileCRow     = 56
	tileNext     = 64
	tileAlpha    = 72
	tileBeta     = 80
	tileMask     = 88
	tileLanes    = 96
	tileNextStep = 104
)

// elem is an element type together with the instructions that act on it.
type elem struct {
	name  string
	bytes int
}

var (
	f32   = elem{"F32", 4}
	f64   = elem{"F64", 8}
	pairs = elem{"BF16", 4} // two bfloat16, neighbours in k, that become one float32
)

func (f *file) fma(e elem, a, b, acc operand.Op) {
	switch e {
	case f32:
		f.VFMADD231PS(a, b, acc)
	case f64:
		f.VFMADD231PD(a, b, acc)
	case pairs:
		f.raw(vdpbf16ps(a.(reg.VecPhysical), b.(reg.VecPhysical), acc.(reg.VecPhysical)))
	}
}

// vdpbf16ps encodes acc += a·b, which Go's assembler lacks:
// EVEX.512.F3.0F38.W0 52 /r, registers only.
func vdpbf16ps(a, b, acc reg.VecPhysical) []byte {
	bit := func(r reg.VecPhysical, n uint) byte { return byte(r.PhysicalIndex()>>n)&1 ^ 1 }
	return []byte{
		0x62,
		bit(acc, 3)<<7 | bit(a, 4)<<6 | bit(a, 3)<<5 | bit(acc, 4)<<4 | 0b010,
		byte(b.PhysicalIndex()&15^15)<<3 | 0b110,
		0b10<<5 | bit(b, 4)<<3,
		0x52,
		0b11<<6 | byte(acc.PhysicalIndex()&7)<<3 | byte(a.PhysicalIndex()&7),
	}
}

func (f *file) broadcast(e elem, m, v operand.Op) {
	if e != f64 {
		f.VBROADCASTSS(m, v)
	} else {
		f.VBROADCASTSD(m, v)
	}
}

func (f *file) mul(e elem, a, b, v operand.Op) {
	if e != f64 {
		f.VMULPS(a, b, v)
	} else {
		f.VMULPD(a, b, v)
	}
}

func (f *file) zero(s isa, v reg.VecPhysical) {
	if s.wide() {
		f.VPXORD(v, v, v)
	} else {
		f.VXORPS(v, v, v)
	}
}

// mask is a loaded mask of the last vector of a row.
type mask struct {
	k reg.Register    // AVX-512
	v reg.VecPhysical // AVX2
}

func (f *file) loadMasked(s isa, e elem, m operand.Mem, k mask, v operand.Op) {
	switch {
	case s.wide() && e != f64:
		f.VMOVUPS_Z(m, k.k, v)
	case s.wide():
		f.VMOVUPD_Z(m, k.k, v)
	case e == f32:
		f.VMASKMOVPS(m, k.v, v)
	default:
		f.VMASKMOVPD(m, k.v, v)
	}
}

func (f *file) storeMasked(s isa, e elem, v operand.Op, k mask, m operand.Mem) {
	switch {
	case s.wide() && e != f64:
		f.VMOVUPS(v, k.k, m)
	case s.wide():
		f.VMOVUPD(v, k.k, m)
	case e == f32:
		f.VMASKMOVPS(v, k.v, m)
	default:
		f.VMASKMOVPD(v, k.v, m)
	}
}

// rows addresses row i of a panel of up to 16 rows: base + i*stride, from
// multiples 1, 3, 5 … of the stride kept in registers.
type rows struct {
	base reg.Register
	odd  map[int]reg.Register
}

func (f *file) newRows(base, stride reg.Register, n int) rows {
	r := rows{base, map[int]reg.Register{1: stride}}
	for i := 3; i < n; i += 2 {
		m := f.GP64()
		f.LEAQ(idx(r.odd[i-2], stride, 2, 0), m)
		r.odd[i] = m
	}
	return r
}

func (r rows) at(i, disp int) operand.Mem {
	if i == 0 {
		return at(r.base, disp)
	}
	scale := 1
	for i%2 == 0 {
		i /= 2
		scale *= 2
	}
	return idx(r.base, r.odd[i], scale, disp)
}

func (r rows) from(base reg.Register) rows { return rows{base, r.odd} }

// genGemm writes, for one instruction set and element type, the register-tile
// kernels of every height up to mr and width up to 2 vectors.
func genGemm(dir string, s isa, e elem, mr int) error {
	f := newFile(fmt.Sprintf("gemm_%s_%s", lower(e.name), lower(s.name)))
	names := [2][]string{}
	for nv := 1; nv <= 2; nv++ {
		for m := 1; m <= mr; m++ {
			name := fmt.Sprintf("gemm%s%sx%dx%d", e.name, s.name, m, nv)
			names[nv-1] = append(names[nv-1], name)
			f.text(name, fmt.Sprintf("is the tile kernel of %d rows and %d vectors.", m, nv), "(t *tile)")
			f.tileKernel(s, e, m, nv)
		}
	}
	for nv := range names {
		d := fmt.Sprintf("var gemm%s%sTiles%d = [...]func(*tile){\n\tnil,\n", e.name, s.name, nv+1)
		for _, n := range names[nv] {
			d += "\t" + n + ",\n"
		}
		f.decls = append(f.decls, d+"}\n")
	}
	return f.write(dir, "kernel")
}

// tileKernel writes c[m × nv vectors] = alpha·a·b + beta·c. Vector registers:
// m·nv sums, then nv of b, then one for the broadcast (two where there is
// room), then AVX2's mask.
func (f *file) tileKernel(s isa, e elem, m, nv int) {
	args := f.pointer("t")
	field := func(off int) reg.GPVirtual {
		r := f.GP64()
		f.MOVQ(at(args, off), r)
		return r
	}
	acc := func(i, j int) reg.VecPhysical { return s.vec(i*nv + j) }
	b := func(j int) reg.VecPhysical { return s.vec(m*nv + j) }
	tmp := m*nv + nv

	var k mask
	if s.wide() {
		k.k = reg.K1
		f.KMOVW(at(args, tileMask), reg.K1)
	} else {
		k.v = s.vec(15)
		lanes, table := f.GP64(), f.GP64()
		f.MOVQ(at(args, tileLanes), lanes)
		f.LEAQ(operand.NewDataAddr(operand.Symbol{Name: "·maskTable"}, 32), table)
		f.SHLQ(operand.U8(map[int]int{4: 2, 8: 3}[e.bytes]), lanes)
		f.SUBQ(lanes, table)
		f.VMOVUPS(at(table, 0), k.v)
	}

	// What c will be added to is fetched while the sums are made.
	early, earlyRow := field(tileC), field(tileCRow)
	for i := range m {
		f.PREFETCHT1(at(early, 0))
		f.PREFETCHT1(at(early, nv*s.bytes-1))
		if i < m-1 {
			f.ADDQ(earlyRow, early)
		}
	}

	count := field(tileK)
	pb, bStep := field(tileB), field(tileBStep)
	pa, aStep := field(tileA), field(tileAStep)
	a := f.newRows(pa, field(tileARow), m)
	next, nextStep := field(tileNext), field(tileNextStep)
	for i := range m * nv {
		f.zero(s, s.vec(i))
	}
	step := func() {
		for j := range nv - 1 {
			f.VMOVUPS(at(pb, j*s.bytes), b(j))
		}
		f.loadMasked(s, e, at(pb, (nv-1)*s.bytes), k, b(nv-1))
		f.ADDQ(bStep, pb)
		for i := range m {
			t := s.vec(tmp)
			if s.wide() && tmp+1 < s.regs {
				t = s.vec(tmp + i%2)
			}
			f.broadcast(e, a.at(i, 0), t)
			for j := range nv {
				f.fma(e, t, b(j), acc(i, j))
			}
		}
		f.ADDQ(aStep, pa)
	}
	const unroll = 4
	bulk, tail, tailLoop, done := f.fresh("bulk"), f.fresh("tail"), f.fresh("tailloop"), f.fresh("done")
	f.SUBQ(operand.I8(unroll), count)
	f.JLT(operand.LabelRef(tail))
	byRows, fetched := f.fresh("byrows"), f.fresh("fetched")
	f.Label(bulk)
	step()
	f.TESTQ(nextStep, nextStep)
	f.JLT(operand.LabelRef(byRows))
	f.PREFETCHT1(at(next, 0))
	f.PREFETCHT1(at(next, 64))
	f.ADDQ(nextStep, next)
	f.JMP(operand.LabelRef(fetched))
	f.Label(byRows)
	for i := range m {
		f.PREFETCHT1(a.from(next).at(i, 0))
	}
	f.LEAQ(idx(next, aStep, unroll, 0), next)
	f.Label(fetched)
	for range unroll - 1 {
		step()
	}
	f.SUBQ(operand.I8(unroll), count)
	f.JGE(operand.LabelRef(bulk))
	f.Label(tail)
	f.ADDQ(operand.I8(unroll), count)
	f.JZ(operand.LabelRef(done))
	f.Label(tailLoop)
	step()
	f.DECQ(count)
	f.JNZ(operand.LabelRef(tailLoop))
	f.Label(done)

	// c = alpha·sum + beta·c
	sum := e
	if e == pairs {
		sum = f32
	}
	pc, cRow := field(tileC), field(tileCRow)
	alpha, beta, old := b(0), s.vec(tmp), s.vec(tmp+1)
	if !s.wide() {
		// AVX2 has but 16 registers: 12 sums, alpha, beta, one of c, the mask.
		old = s.vec(14)
		alpha, beta = s.vec(12), s.vec(13)
		if m*nv > 12 {
			panic("tile too large for AVX2")
		}
	}
	f.broadcast(e, at(args, tileAlpha), alpha)
	f.broadcast(e, at(args, tileBeta), beta)
	bits := f.GP64()
	f.MOVQ(at(args, tileBeta), bits)
	plain := f.fresh("plain")
	f.TESTQ(bits, bits)
	f.JZ(operand.LabelRef(plain))
	for i := range m {
		for j := range nv {
			f.mul(e, alpha, acc(i, j), acc(i, j))
			c := at(pc, j*s.bytes)
			if j < nv-1 {
				f.VMOVUPS(c, old)
			} else {
				f.loadMasked(s, e, c, k, old)
			}
			f.fma(sum, beta, old, acc(i, j))
			if j < nv-1 {
				f.VMOVUPS(acc(i, j), c)
			} else {
				f.storeMasked(s, e, acc(i, j), k, c)
			}
		}
		f.ADDQ(cRow, pc)
	}
	f.VZEROUPPER()
	f.RET()
	f.Label(plain)
	for i := range m {
		for j := range nv {
			f.mul(e, alpha, acc(i, j), acc(i, j))
			c := at(pc, j*s.bytes)
			if j < nv-1 {
				f.VMOVUPS(acc(i, j), c)
			} else {
				f.storeMasked(s, e, acc(i, j), k, c)
			}
		}
		f.ADDQ(cRow, pc)
	}
	f.VZEROUPPER()
	f.RET()
}
