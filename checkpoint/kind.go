package checkpoint

import "strings"

// Kind says what part of a network a tensor is.
type Kind uint8

// The kinds of tensor.
const (
	Other     Kind = iota // buffers, scalars, routers of mixtures, fused 3-D experts
	Linear                // 2-D weight of a linear layer
	Bias                  // bias of a linear layer
	Embedding             // tokens, positions, classes, relative positions
	Norm                  // scale or shift of a normalisation
	Conv                  // convolution, patch embedding, and its bias
	Head                  // what maps hidden states to classes or to the vocabulary
)

// String returns the kind in lower case.
func (k Kind) String() string {
	return [...]string{"other", "linear", "bias", "embedding", "norm", "conv", "head"}[k%7]
}

// Classify tells what a tensor is from its name and shape.
func Classify(cfg Config, name string, shape []int) Kind {
	has := func(subs ...string) bool {
		for _, s := range subs {
			if strings.Contains(name, s) {
				return true
			}
		}
		return false
	}
	module, weight := strings.CutSuffix(name, ".weight")
	switch {
	case has("lm_head", "classifier", "score.", "cls.predictions", "qa_outputs"):
		return Head
	case has("norm", "ln_", "layrnorm", "LayerNorm"):
		return Norm
	case has("relative_attention_bias", "embed", "wte", "wpe", "shared."):
		if len(shape) == 4 {
			return Conv
		}
		return Embedding
	case weight && len(shape) == 2:
		_ = module
		return Linear
	case strings.HasSuffix(name, ".bias"):
		return Bias
	case len(shape) >= 3:
		return Conv
	}
	return Other
}

// Kind tells what a stored tensor is.
func (c *Checkpoint) Kind(name string) Kind {
	t, ok := c.Lookup(name)
	if !ok {
		return Other
	}
	return Classify(c.Config, name, t.Shape)
}
