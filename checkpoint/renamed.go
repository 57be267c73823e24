package checkpoint

import (
	"slices"
	"strings"
)

// renaming says what transformers 5 calls layers of some model types in
// memory, and so in adapters trained and loaded there, while their checkpoints
// keep the older names. Names are what follows the layer's index and "."; the
// stem stands before the index.
type renaming struct {
	modelTypes   []string
	stem, memory string            // in the file, in memory
	modules      map[string]string // from the file to memory
}

// renamings are the rules for linear layers of transformers.conversion_mapping
// (5.23) that change more than a prefix, without those that also change
// tensors.
var renamings = []*renaming{
	{
		modelTypes: []string{"vit", "deit", "beit", "ijepa", "vit_mae", "vit_msn", "vivit", "audio-spectrogram-transformer"},
		stem:       "encoder.layer.", memory: "layers.",
		modules: map[string]string{
			"attention.attention.query": "attention.q_proj",
			"attention.attention.key":   "attention.k_proj",
			"attention.attention.value": "attention.v_proj",
			"attention.output.dense":    "attention.o_proj",
			"intermediate.dense":        "mlp.fc1",
			"output.dense":              "mlp.fc2",
		},
	},
	{
		modelTypes: []string{"dinov2", "dinov2_with_registers"},
		stem:       "encoder.layer.", memory: "encoder.layer.",
		modules: map[string]string{
			"attention.attention.query": "attention.q_proj",
			"attention.attention.key":   "attention.k_proj",
			"attention.attention.value": "attention.v_proj",
			"attention.output.dense":    "attention.o_proj",
		},
	},
}

// InMemory returns what transformers 5 calls a module of a checkpoint with
// this config once it is loaded, which is how PEFT's adapters name it.
func (c Config) InMemory(module string) string { return c.rename(module, false) }

// inFile is the inverse of InMemory; a name that the file could have stays.
func (c Config) inFile(module string) string { return c.rename(module, true) }

func (c Config) rename(module string, back bool) string {
	for _, r := range renamings {
		if !slices.Contains(r.modelTypes, c.ModelType()) {
			continue
		}
		from, to := r.stem, r.memory
		if back {
			from, to = to, from
		}
		at := strings.LastIndex("."+module, "."+from)
		if at < 0 {
			continue
		}
		index, rest, ok := strings.Cut(module[at+len(from):], ".")
		if !ok {
			continue
		}
		for file, memory := range r.modules {
			if back {
				file, memory = memory, file
			}
			if rest == file {
				return module[:at] + to + index + "." + memory
			}
		}
	}
	return module
}
