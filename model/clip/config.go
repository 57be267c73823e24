package clip

import (
	"encoding/json"
	"fmt"

	"smelt/nn"
)

// Config is a tower's part of config.json.
type Config struct {
	HiddenSize        int     `json:"hidden_size"`
	IntermediateSize  int     `json:"intermediate_size"`
	NumHiddenLayers   int     `json:"num_hidden_layers"`
	NumAttentionHeads int     `json:"num_attention_heads"`
	HiddenAct         string  `json:"hidden_act"`
	LayerNormEps      float32 `json:"layer_norm_eps"`
	ProjectionDim     int     `json:"projection_dim"`

	// Of the text tower.
	VocabSize             int `json:"vocab_size"`
	MaxPositionEmbeddings int `json:"max_position_embeddings"`
	EOSTokenID            ids `json:"eos_token_id"`

	// Of the vision tower.
	NumChannels int    `json:"num_channels"`
	ImageSize   square `json:"image_size"`
	PatchSize   square `json:"patch_size"`
}

// The defaults of transformers' CLIPTextConfig and CLIPVisionConfig.
var (
	textDefaults = Config{
		HiddenSize: 512, IntermediateSize: 2048, NumHiddenLayers: 12, NumAttentionHeads: 8,
		HiddenAct: "quick_gelu", LayerNormEps: 1e-5, ProjectionDim: 512,
		VocabSize: 49408, MaxPositionEmbeddings: 77, EOSTokenID: ids{49407},
	}
	visionDefaults = Config{
		HiddenSize: 768, IntermediateSize: 3072, NumHiddenLayers: 12, NumAttentionHeads: 12,
		HiddenAct: "quick_gelu", LayerNormEps: 1e-5, ProjectionDim: 512,
		NumChannels: 3, ImageSize: 224, PatchSize: 32,
	}
)

// parse reads a tower's config over its defaults.
func (c Config) parse(text []byte) (Config, error) {
	if len(text) > 0 {
		if err := json.Unmarshal(text, &c); err != nil {
			return c, fmt.Errorf("config.json: %w", err)
		}
	}
	return c, nil
}

// maxSize bounds every size of a config, so that products of two stay small
// integers and nothing is allocated by claim alone.
const maxSize = 1 << 24

// validate checks what both towers have.
func (c Config) validate(tower string) error {
	for _, f := range []struct {
		name  string
		value int
		most  int
	}{
		{"hidden_size", c.HiddenSize, maxSize},
		{"intermediate_size", c.IntermediateSize, maxSize},
		{"num_hidden_layers", c.NumHiddenLayers, 1 << 12},
		{"num_attention_heads", c.NumAttentionHeads, maxSize},
		{"projection_dim", c.ProjectionDim, maxSize},
	} {
		if f.value < 1 || f.value > f.most {
			return fmt.Errorf("config.json: %s: %s is %d, want 1 to %d", tower, f.name, f.value, f.most)
		}
	}
	if c.HiddenSize%c.NumAttentionHeads != 0 {
		return fmt.Errorf("config.json: %s: hidden_size %d is no multiple of num_attention_heads %d", tower, c.HiddenSize, c.NumAttentionHeads)
	}
	_, err := nn.ActivationByName(c.HiddenAct)
	return err
}

func (c Config) validateText() error {
	if c.VocabSize < 1 || c.VocabSize > maxSize || c.MaxPositionEmbeddings < 1 || c.MaxPositionEmbeddings > maxSize {
		return fmt.Errorf("config.json: text tower: vocab_size %d, max_position_embeddings %d, want 1 to %d", c.VocabSize, c.MaxPositionEmbeddings, maxSize)
	}
	return c.validate("text tower")
}

func (c Config) validateVision() error {
	const side = 1 << 14
	if c.NumChannels < 1 || c.NumChannels > 16 || c.PatchSize < 1 || c.ImageSize < c.PatchSize || c.ImageSize > side {
		return fmt.Errorf("config.json: vision tower: num_channels %d, patch_size %d, image_size %d, want 1 to 16 channels and patches within an image of at most %d", c.NumChannels, c.PatchSize, c.ImageSize, side)
	}
	return c.validate("vision tower")
}

// square is a size that a config gives as one number or as a pair of equals.
type square int

// UnmarshalJSON reads 224 or [224, 224].
func (s *square) UnmarshalJSON(text []byte) error {
	var pair [2]int
	if json.Unmarshal(text, (*int)(s)) == nil {
		return nil
	}
	if err := json.Unmarshal(text, &pair); err != nil || pair[0] != pair[1] {
		return fmt.Errorf("size %.40s, want a number or two equal ones", text)
	}
	*s = square(pair[0])
	return nil
}

// ids is one token id or a list.
type ids []int

// UnmarshalJSON reads a number, a list of numbers or null.
func (v *ids) UnmarshalJSON(text []byte) error {
	var one int
	if string(text) != "null" && json.Unmarshal(text, &one) == nil {
		*v = ids{one}
		return nil
	}
	return json.Unmarshal(text, (*[]int)(v))
}
