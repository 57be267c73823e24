// Package nn holds the layers that models are built of: the [Linear] interface
// and its dense form, embeddings, norms, activations, rotary positions and
// attention over a key–value cache.
//
// Weights stay as they are stored, mapped and in their own dtype; the kernels
// widen them. Activations and sums are float32. A layer holds weights only: what
// a forward pass needs besides them — workers, scratch memory, observers — is in
// a [Pass], so that one model serves many goroutines, each with its own pass.
//
// Letters in shapes: B sequences, T tokens of one sequence, N tokens of all
// sequences, D hidden, H heads, Hkv key–value heads, Dh head size, F
// feed-forward, V vocabulary, S keys, E experts, R rank.
package nn
