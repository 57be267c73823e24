// Package kernel holds the arithmetic that smelt's speed rests on: matrix
// products, matrix–vector products, norms, activations, conversions and the
// one-pass subtraction of checkpoints, on slices.
//
// Every function has a generic Go form and forms in assembly; the doc comment
// says the loop that all of them must equal. Misuse (shapes that do not match)
// panics; data never does.
//
// The assembly for x86 is written by the generator in _gen (avo):
//
//	go generate ./internal/kernel
package kernel

//go:generate go -C _gen run .
