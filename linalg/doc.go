// Package linalg decomposes deltas: the exact and the truncated singular value
// decomposition, with a certificate of how near the truncation is to the best
// one, and the decomposition of a LoRA product from its factors.
//
// Every result is a function of its inputs and the seed alone: the same bits
// for any number of workers (per instruction set). Input that is not finite is
// an error that names the position.
//
// Signs are fixed: the entry of largest magnitude of each right singular
// vector is positive (the first of equals). Within a cluster of equal singular
// values the vectors remain arbitrary: compare subspaces, not entries.
package linalg
