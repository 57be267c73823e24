//go:build !amd64 || purego

package floor

func fmaLoop(n int) (flop float64) { return fmaGeneric(n) }

func readLoop(p []byte) { readGeneric(p) }
