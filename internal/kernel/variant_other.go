//go:build (!amd64 && !arm64) || purego

package kernel

// machine returns the variants in assembly: this build has none.
func machine() []*variant { return nil }
