//go:build arm64 && !purego

package kernel

// Expected are the variants in assembly of this architecture.
var Expected = []string{"neon"}
