//go:build !amd64 || purego

package kernel

// native returns the variants in assembly: this build has none.
func native() []*variant { return nil }
