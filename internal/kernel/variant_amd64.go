//go:build amd64 && !purego

package kernel

import "golang.org/x/sys/cpu"

// machine returns the variants in assembly that this CPU runs, the best first.
func machine() []*variant {
	var vs []*variant
	x := cpu.X86
	if x.HasAVX512F && x.HasAVX512BW && x.HasAVX512DQ && x.HasAVX512VL && x.HasFMA {
		if x.HasAVX512BF16 {
			vs = append(vs, &avx512bf16)
		}
		vs = append(vs, &avx512)
	}
	if x.HasAVX2 && x.HasFMA { // and F16C, which every such CPU has
		vs = append(vs, &avx2)
	}
	return vs
}

var avx512 = variant{
	name: "avx512",
	f32: &engine[float32]{
		lanes: 16, mr: 14, direct: 8, nr: 32, across: 14,
		tiles: [3][]func(*tile){1: gemmF32AVX512Tiles1[:], 2: gemmF32AVX512Tiles2[:]},
		packers: packers{
			copyRows:  [kinds]func(*packing){copyRowsF32AVX512, copyRowsBF16AVX512, copyRowsF16AVX512},
			transpose: [kinds]func(*packing){transposeF32AVX512, transposeBF16AVX512, transposeF16AVX512},
			spread:    spreadF32AVX512,
		},
	},
	f64: &engine[float64]{
		lanes: 8, mr: 14, direct: 8, nr: 16, across: 8,
		tiles: [3][]func(*tile){1: gemmF64AVX512Tiles1[:], 2: gemmF64AVX512Tiles2[:]},
		packers: packers{
			copyRows:  [kinds]func(*packing){copyRowsF64AVX512},
			transpose: [kinds]func(*packing){transposeF64AVX512},
			spread:    spreadF64AVX512,
		},
	},
	streams: streams{bytes: 64, rows: 12, runs: true, kernel: [kinds + 1][2][]stream{dotsF32AVX512, dotsBF16AVX512, dotsF16AVX512, dotsF64AVX512}},
	vectors: vectorsAVX512,
}

// avx512bf16 adds the dot product of pairs of bfloat16, for [GemmBF16].
var avx512bf16 = variant{
	name: "avx512bf16",
	f32:  avx512.f32,
	f64:  avx512.f64,
	bf16: &engine[float32]{
		lanes: 16, mr: 14, direct: 8, nr: 32, across: 14,
		tiles:   [3][]func(*tile){1: gemmBF16AVX512Tiles1[:], 2: gemmBF16AVX512Tiles2[:]},
		packers: avx512.f32.packers,
	},
	streams: avx512.streams,
	vectors: vectorsAVX512,
}

var avx2 = variant{
	name: "avx2",
	f32: &engine[float32]{
		lanes: 8, mr: 6, direct: 6, nr: 16, across: 6, packers: genericPackers[float32](8),
		tiles: [3][]func(*tile){1: gemmF32AVX2Tiles1[:], 2: gemmF32AVX2Tiles2[:]},
	},
	f64: &engine[float64]{
		lanes: 4, mr: 6, direct: 6, nr: 8, across: 6, packers: genericPackers[float64](4),
		tiles: [3][]func(*tile){1: gemmF64AVX2Tiles1[:], 2: gemmF64AVX2Tiles2[:]},
	},
	streams: streams{bytes: 32, rows: 2, runs: true, kernel: [kinds + 1][2][]stream{dotsF32AVX2, dotsBF16AVX2, dotsF16AVX2, dotsF64AVX2}},
	vectors: vectorsAVX2,
}
