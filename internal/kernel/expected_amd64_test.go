//go:build amd64 && !purego

package kernel

// Expected are the variants in assembly of this architecture.
var Expected = []string{"avx512bf16", "avx512", "avx2"}
