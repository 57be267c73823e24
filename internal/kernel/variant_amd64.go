//go:build amd64 && !purego

package kernel

import "golang.org/x/sys/cpu"

// native returns the variants in assembly that this CPU runs, the best first.
func native() []*variant {
	var vs []*variant
	x := cpu.X86
	if x.HasAVX512F && x.HasAVX512BW && x.HasAVX512DQ && x.HasAVX512VL && x.HasFMA {
		vs = append(vs, &avx512)
	}
	if x.HasAVX2 && x.HasFMA {
		vs = append(vs, &avx2)
	}
	return vs
}

var avx512 = variant{
	name: "avx512",
	f32:  &engine[float32]{lanes: 16, mr: 14, nr: 32, tiles: [3][]func(*tile){1: gemmF32AVX512Tiles1[:], 2: gemmF32AVX512Tiles2[:]}},
	f64:  &engine[float64]{lanes: 8, mr: 14, nr: 16, tiles: [3][]func(*tile){1: gemmF64AVX512Tiles1[:], 2: gemmF64AVX512Tiles2[:]}},
}

var avx2 = variant{
	name: "avx2",
	f32:  &engine[float32]{lanes: 8, mr: 6, nr: 16, tiles: [3][]func(*tile){1: gemmF32AVX2Tiles1[:], 2: gemmF32AVX2Tiles2[:]}},
	f64:  &engine[float64]{lanes: 4, mr: 6, nr: 8, tiles: [3][]func(*tile){1: gemmF64AVX2Tiles1[:], 2: gemmF64AVX2Tiles2[:]}},
}
