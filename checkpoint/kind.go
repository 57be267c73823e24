package checkpoint

import (
	"slices"
	"strings"
)

// Kind says what part of a network a tensor is.
type Kind uint8

// The kinds of tensor. What belongs to a mixture of experts, its router and
// its experts, is Other for now: transformers fuses these into modules that
// are not linear layers.
const (
	Other     Kind = iota // buffers, scalars, tokens of attention pools, mixtures of experts
	Linear                // 2-D weight of a linear layer
	Bias                  // bias of a linear layer
	Embedding             // tokens, positions, classes, relative positions
	Norm                  // scale or shift of a normalisation
	Conv                  // convolution, patch embedding; its bias
	Head                  // what maps hidden states to classes or to the vocabulary, as a whole
	kinds
)

// String returns the kind in lower case.
func (k Kind) String() string {
	names := [kinds]string{"other", "linear", "bias", "embedding", "norm", "conv", "head"}
	if k < kinds {
		return names[k]
	}
	return "invalid"
}

// Words by which modules are known. Segments are what stands between the dots
// of a name.
var (
	// headSegments mark a head wherever they stand in a name.
	headSegments = []string{
		"lm_head", "classifier", "score", "qa_outputs", "pre_classifier", "vocab_projector", "vocab_transform",
		"vocab_layer_norm", "generator_lm_head", "generator_predictions", "discriminator_predictions",
		"predict_state", "predict_action", "predict_return", "embed_out", "cls_classifier", "distillation_classifier",
		"sop_classifier",
	}
	// headFirst mark a head at the start of a name.
	headFirst = []string{"cls", "predictions", "proj_out", "head", "heads"}

	// embeddingModules end the name of an embedding's module.
	embeddingModules = []string{
		"wte", "wpe", "shared", "relative_attention_bias", "embed_tokens", "embed_positions", "embed_in",
		"embed_timestep", "embedding", "embeddings", "weight_tensor",
	}
	// embeddingParameters end the name of an embedding that is no module.
	embeddingParameters = []string{
		"class_embedding", "cls_token", "mask_token", "distillation_token", "register_tokens",
		"position_embeddings", "position_embedding", "relative_position_bias_table", "masked_spec_embed",
	}
	// routers of mixtures of experts, and the gate of a shared expert.
	routers = []string{"gate", "router", "shared_expert_gate"}
)

// Classify tells what a tensor is from its name and shape and the model's
// config. Where the other tensors of the checkpoint are known, as they are to
// Checkpoint.Kind, that is the better judge.
func Classify(cfg Config, name string, shape []int) Kind {
	segs := strings.Split(name, ".")
	parameter := segs[len(segs)-1]
	modules := segs[:len(segs)-1]
	last := ""
	if len(modules) > 0 {
		last = modules[len(modules)-1]
	}
	isWeight, isBias := parameter == "weight" && last != "", parameter == "bias" && last != "" && len(shape) <= 1
	switch {
	case slices.Contains(segs, "experts") || slices.Contains(routers, last):
		return Other
	case isHead(cfg, name, segs, shape):
		return Head
	case (isWeight || isBias) && len(shape) <= 1 && isNorm(last):
		return Norm
	case slices.ContainsFunc(embeddingParameters, func(p string) bool { return parameter == p }):
		return Embedding
	case isWeight && len(shape) == 2 && isEmbedding(last):
		return Embedding
	case isWeight && len(shape) == 2:
		return Linear
	case len(shape) >= 3 && (isWeight || slices.Contains(modules, "parametrizations")):
		return Conv
	case isBias && isConv(modules):
		return Conv
	case isBias:
		return Bias
	case isWeight && len(shape) == 1:
		return Norm
	}
	return Other
}

func isNorm(module string) bool {
	m := strings.ToLower(module)
	return strings.Contains(m, "norm") || strings.Contains(m, "layrnorm") ||
		m == "ln" || strings.HasPrefix(m, "ln_") || strings.HasSuffix(m, "_ln") || (len(m) == 3 && m[:2] == "ln")
}

func isEmbedding(module string) bool {
	return slices.Contains(embeddingModules, module) || strings.HasSuffix(module, "_embedding") ||
		strings.HasSuffix(module, "_embeddings") || strings.HasSuffix(module, "_embed")
}

// isConv tells from its modules whether a bias is a convolution's.
func isConv(modules []string) bool {
	last := modules[len(modules)-1]
	if strings.Contains(strings.ToLower(last), "conv") && !strings.HasPrefix(last, "pw") {
		return true
	}
	for i, m := range modules {
		if strings.HasPrefix(m, "patch_embed") && i == len(modules)-2 && (last == "projection" || last == "proj") {
			return true
		}
	}
	return last == "patch_embedding"
}

func isHead(cfg Config, name string, segs []string, shape []int) bool {
	if slices.Contains(headFirst, segs[0]) || name == "decoder.weight" || name == "decoder.bias" {
		return true
	}
	for _, s := range segs[:len(segs)-1] {
		if slices.Contains(headSegments, s) {
			return true
		}
	}
	// A top-level linear map to the vocabulary, whatever it is called.
	vocab, ok := cfg.Int("vocab_size")
	return ok && len(segs) == 2 && segs[1] == "weight" && len(shape) == 2 && shape[0] == vocab && !isEmbedding(segs[0])
}

// Kind tells what a stored tensor is, by Classify and by the tensors beside
// it: a bias goes with its weight, and the output projection of torch's own
// attention module, which is no layer that can be replaced, is Other.
func (c *Checkpoint) Kind(name string) Kind {
	t, ok := c.Lookup(name)
	if !ok {
		return Other
	}
	if module, ok := strings.CutSuffix(name, ".bias"); ok && len(t.Shape) == 1 {
		if w, ok := c.Lookup(module + ".weight"); ok {
			if k := c.Kind(w.Name); k != Linear {
				return k
			}
			return Bias
		}
	}
	k := Classify(c.Config, name, t.Shape)
	if k == Linear {
		if attention, ok := strings.CutSuffix(name, ".out_proj.weight"); ok {
			if _, ok := c.Lookup(attention + ".in_proj_weight"); ok {
				return Other
			}
		}
	}
	return k
}
