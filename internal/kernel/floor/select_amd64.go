//go:build amd64 && !purego

package floor

import "golang.org/x/sys/cpu"

func fmaLoop(n int) (flop float64) {
	if cpu.X86.HasAVX512F {
		fmaAVX512(n)
		return float64(n) * 24 * 16 * 2
	}
	if cpu.X86.HasAVX2 && cpu.X86.HasFMA {
		fmaAVX2(n)
		return float64(n) * 12 * 8 * 2
	}
	return fmaGeneric(n)
}

func readLoop(p []byte) {
	switch {
	case cpu.X86.HasAVX512F:
		readAVX512(&p[0], len(p)/4)
	case cpu.X86.HasAVX2:
		readAVX2(&p[0], len(p)/4)
	default:
		readGeneric(p)
	}
}
