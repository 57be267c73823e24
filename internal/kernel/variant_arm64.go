//go:build arm64 && !purego

package kernel

import "unsafe"

// machine returns the variants in assembly that this CPU runs, the best first:
// every arm64 CPU has NEON.
func machine() []*variant { return []*variant{&neon} }

var neon = variant{
	name: "neon",
	f32: &engine[float32]{
		lanes: 4, mr: 12, direct: 8, nr: 8, across: 12, packers: genericPackers[float32](4),
		tiles: [3][]func(*tile){1: wholeTiles[float32](gemmF32NEONTiles1[:], 1), 2: wholeTiles[float32](gemmF32NEONTiles2[:], 2)},
	},
	f64: &engine[float64]{
		lanes: 2, mr: 12, direct: 8, nr: 4, across: 12, packers: genericPackers[float64](2),
		tiles: [3][]func(*tile){1: wholeTiles[float64](gemmF64NEONTiles1[:], 1), 2: wholeTiles[float64](gemmF64NEONTiles2[:], 2)},
	},
	streams: streams{bytes: 16, rows: 4, kernel: [kinds + 1][2][]stream{dotsF32NEON, dotsBF16NEON, dotsF16NEON, dotsF64NEON}},
	vectors: vectorsNEON(),
}

// vectorsNEON are the generic loops, those in assembly put in their place.
func vectorsNEON() vectors {
	v := genericVectors
	v.dotF32, v.dotF64 = dotF32NEON, dotF64NEON
	v.axpyF32, v.axpyF64 = axpyF32NEON, axpyF64NEON
	v.widenBF16, v.widenF16 = widenBF16NEON, widenF16NEON
	return v
}

// wholeTiles adapts tiles that write whole vectors: where the last vector of c
// is cut, they work on a copy.
func wholeTiles[T float](tiles []func(*tile), nv int) []func(*tile) {
	out := make([]func(*tile), len(tiles))
	size := elemSize[T]()
	width := 16 / size
	for m := 1; m < len(tiles); m++ {
		out[m] = func(t *tile) {
			if t.lanes == width {
				tiles[m](t)
				return
			}
			n := (nv-1)*width + t.lanes
			whole := make([]T, m*nv*width)
			c, cRow := t.c, t.cRow
			each := func(f func(whole, c []T)) {
				for i := range m {
					f(whole[i*nv*width:][:n], unsafe.Slice((*T)(unsafe.Add(c, i*cRow)), n))
				}
			}
			if t.beta != 0 {
				each(func(whole, c []T) { copy(whole, c) })
			}
			t.c, t.cRow = unsafe.Pointer(&whole[0]), nv*16
			tiles[m](t)
			t.c, t.cRow = c, cRow
			each(func(whole, c []T) { copy(c, whole) })
		}
	}
	return out
}
