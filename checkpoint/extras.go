package checkpoint

// Extras are the files of a checkpoint beside config and weights that a model
// made from it needs.
type Extras struct {
	Files []string // relative to Dir, sorted: tokenizer, processor, generation, licence
	Code  []string // *.py that auto_map names: remote code, never carried over silently
}

// Extras returns the files to carry over.
func (c *Checkpoint) Extras() (Extras, error) { return Extras{}, nil }

// Fingerprint identifies the checkpoint's content as far as names, sizes,
// modification times and headers tell: it keys what is resumed.
func (c *Checkpoint) Fingerprint() (string, error) { return "", nil }
