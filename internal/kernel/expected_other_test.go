//go:build (!amd64 && !arm64) || purego

package kernel

// Expected are the variants in assembly of this architecture: none.
var Expected []string
