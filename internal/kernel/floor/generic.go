package floor

import (
	"encoding/binary"
	"runtime"
)

// fmaGeneric runs n times eight independent multiply-adds.
func fmaGeneric(n int) (flop float64) {
	var a, b, c, d, e, f, g, h float32
	x, y := float32(0.5), float32(0.25)
	for range n {
		a, b, c, d = a*x+y, b*x+y, c*x+y, d*x+y
		e, f, g, h = e*x+y, f*x+y, g*x+y, h*x+y
	}
	runtime.KeepAlive(a + b + c + d + e + f + g + h)
	return float64(n) * 16
}

func readGeneric(p []byte) {
	var a, b uint64
	for ; len(p) >= 16; p = p[16:] {
		a += binary.LittleEndian.Uint64(p)
		b += binary.LittleEndian.Uint64(p[8:])
	}
	runtime.KeepAlive(a + b)
}
