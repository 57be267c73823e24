package kernel

import (
	"testing"
	"unsafe"
)

// TestLayout holds the structs that assembly reads against the offsets in _gen.
func TestLayout(t *testing.T) {
	var (
		a tile
		p packing
		d dots
		s chunkStats
	)
	for _, c := range []struct {
		field     string
		got, want uintptr
	}{
		{"tile.k", unsafe.Offsetof(a.k), 0},
		{"tile.a", unsafe.Offsetof(a.a), 8},
		{"tile.aRow", unsafe.Offsetof(a.aRow), 16},
		{"tile.aStep", unsafe.Offsetof(a.aStep), 24},
		{"tile.b", unsafe.Offsetof(a.b), 32},
		{"tile.bStep", unsafe.Offsetof(a.bStep), 40},
		{"tile.c", unsafe.Offsetof(a.c), 48},
		{"tile.cRow", unsafe.Offsetof(a.cRow), 56},
		{"tile.next", unsafe.Offsetof(a.next), 64},
		{"tile.alpha", unsafe.Offsetof(a.alpha), 72},
		{"tile.beta", unsafe.Offsetof(a.beta), 80},
		{"tile.mask", unsafe.Offsetof(a.mask), 88},
		{"tile.lanes", unsafe.Offsetof(a.lanes), 96},
		{"tile.nextStep", unsafe.Offsetof(a.nextStep), 104},
		{"packing.dst", unsafe.Offsetof(p.dst), 0},
		{"packing.dstStride", unsafe.Offsetof(p.dstStride), 8},
		{"packing.src", unsafe.Offsetof(p.src), 16},
		{"packing.srcStride", unsafe.Offsetof(p.srcStride), 24},
		{"packing.rows", unsafe.Offsetof(p.rows), 32},
		{"packing.vecs", unsafe.Offsetof(p.vecs), 40},
		{"packing.mask", unsafe.Offsetof(p.mask), 48},
		{"packing.ahead", unsafe.Offsetof(p.ahead), 56},
		{"packing.srcStep", unsafe.Offsetof(p.srcStep), 64},
		{"packing.dstStep", unsafe.Offsetof(p.dstStep), 72},
		{"dots.x", unsafe.Offsetof(d.x), 0},
		{"dots.xRow", unsafe.Offsetof(d.xRow), 8},
		{"dots.w", unsafe.Offsetof(d.w), 16},
		{"dots.wRow", unsafe.Offsetof(d.wRow), 24},
		{"dots.out", unsafe.Offsetof(d.out), 32},
		{"dots.outRow", unsafe.Offsetof(d.outRow), 40},
		{"dots.steps", unsafe.Offsetof(d.steps), 48},
		{"dots.groups", unsafe.Offsetof(d.groups), 56},
		{"dots.run", unsafe.Offsetof(d.run), 64},
		{"dots.outRun", unsafe.Offsetof(d.outRun), 72},
		{"dots.ahead", unsafe.Offsetof(d.ahead), 80},
		{"dots.sums", unsafe.Offsetof(d.sums), 88},
		{"dots.from", unsafe.Offsetof(d.from), 96},
		{"dots.to", unsafe.Offsetof(d.to), 104},
		{"chunkStats.sumSquares", unsafe.Offsetof(s.sumSquares), 0},
		{"chunkStats.maxAbs", unsafe.Offsetof(s.maxAbs), 8},
		{"chunkStats.nonFinite", unsafe.Offsetof(s.nonFinite), 12},
		{"chunkStats.nonZero", unsafe.Offsetof(s.nonZero), 16},
	} {
		if c.got != c.want {
			t.Errorf("%s lies at %d, assembly reads %d", c.field, c.got, c.want)
		}
	}
}

func TestChoose(t *testing.T) {
	from := []*variant{{name: "fast"}, {name: "generic"}}
	for _, c := range []struct {
		name, want string
		fails      bool
	}{{"", "fast", false}, {"generic", "generic", false}, {"fast", "fast", false}, {"neon", "fast", true}} {
		v, err := choose(c.name, from)
		if v.name != c.want || (err != nil) != c.fails {
			t.Errorf("choose(%q) = %s, %v; want %s, an error: %v", c.name, v.name, err, c.want, c.fails)
		}
	}
}
