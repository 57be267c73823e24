// Package smile is the zero-shot sparse mixture of low-rank experts
// (SMILE, arXiv:2408.10174): what is stored, how ranks are chosen, and how a
// fused linear layer computes.
//
// For a linear layer y = x·Wᵀ + b and experts e = 0…E-1 with deltas ΔW_e, the
// fused layer keeps of each expert the leading singular triplets of ΔW_e. The
// right singular vectors are stored once: their first rows are the router, so
// that the router costs no parameters of its own. docs/format/native.md
// specifies the files, byte by byte.
//
// Letters: E experts, out and in of the layer, g router rank of the module,
// r_e rank of expert e, R_e = max(r_e, g) rows that it stores, N tokens.
//
// The package knows weights, not models.
package smile
