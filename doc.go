// Package smelt is the map of the house: the program is cmd/smelt, and what it
// does is done by the packages below it, which can be used as a library.
//
//	dtype, tensor        element types and arrays as files hold them
//	internal/kernel      matrix products and vector loops, in assembly and in Go
//	linalg               SVD, truncated with a certificate; QR; spectra
//	nn                   layers of networks over stored weights
//	safetensors          the file format and nothing else
//	checkpoint           Hugging Face directories and PEFT adapters
//	tokenizer            tokenizer.json
//	taskvector           Δ = expert − base, one tensor at a time
//	smile                the fused layer: what is stored, ranks, forward pass
//	model, generate      forward passes and decoding
//	engine               plans, surveys, fuses, joins, edits, verifies
//	internal/cli         the command line over engine
//
// Imports go up this list only; deps_test.go holds that. ARCHITECTURE.md tells
// the story.
package smelt
