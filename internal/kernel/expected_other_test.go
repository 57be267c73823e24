//go:build !amd64 || purego

package kernel

// Expected are the variants in assembly of this architecture: none.
var Expected []string
