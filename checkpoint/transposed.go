package checkpoint

import (
	"slices"
	"strings"
)

// conv1dModels are the model types whose linear layers are transformers'
// Conv1D, which stores weights as [in, out], and conv1dModules the names of
// those layers.
var (
	conv1dModels  = []string{"gpt2", "openai-gpt", "imagegpt", "decision_transformer", "clvp_decoder"}
	conv1dModules = []string{"c_attn", "c_proj", "c_fc", "q_attn"}
)

// Transposed reports whether a model of this type stores a weight as
// [in, out], as the Conv1D modules of GPT-2 and its kin do. It goes by
// model_type and name, since a square weight does not show it.
func Transposed(modelType, name string) bool {
	module, ok := strings.CutSuffix(name, ".weight")
	return ok && slices.Contains(conv1dModels, modelType) &&
		slices.Contains(conv1dModules, module[strings.LastIndexByte(module, '.')+1:])
}

// Transposed reports whether a weight is stored as [in, out]; in a composite
// model the part that holds it decides.
func (c *Checkpoint) Transposed(name string) bool {
	return Transposed(c.Config.typeOf(name), name)
}

// typeOf returns the model type of the part of a model that holds a tensor.
func (c Config) typeOf(name string) string {
	for key, part := range c.Parts() {
		stem := strings.TrimSuffix(key, "_config")
		if strings.HasPrefix(name, stem+".") || stem == "text" && strings.HasPrefix(name, "language_model.") {
			return part.typeOf(name[strings.IndexByte(name, '.')+1:])
		}
	}
	return c.ModelType()
}
