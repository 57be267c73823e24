package llama

import (
	"encoding/json"
	"fmt"

	"smelt/nn"
)

// Config is what the family's config.json files say.
type Config struct {
	ModelType             string   `json:"model_type"`
	VocabSize             int      `json:"vocab_size"`
	HiddenSize            int      `json:"hidden_size"`
	IntermediateSize      int      `json:"intermediate_size"`
	NumHiddenLayers       int      `json:"num_hidden_layers"`
	NumAttentionHeads     int      `json:"num_attention_heads"`
	NumKeyValueHeads      int      `json:"num_key_value_heads"` // 0: as many as heads
	HeadDim               int      `json:"head_dim"`            // 0: hidden_size/num_attention_heads
	HiddenAct             string   `json:"hidden_act"`
	MaxPositionEmbeddings int      `json:"max_position_embeddings"`
	RMSNormEps            float32  `json:"rms_norm_eps"`
	TieWordEmbeddings     bool     `json:"tie_word_embeddings"`
	AttentionBias         bool     `json:"attention_bias"`
	MLPBias               bool     `json:"mlp_bias"`
	UseSlidingWindow      bool     `json:"use_sliding_window"`
	SlidingWindow         *int     `json:"sliding_window"`
	MaxWindowLayers       int      `json:"max_window_layers"`
	LayerTypes            []string `json:"layer_types"`

	rope *nn.RoPE
}

// variant says how a member of the family differs from Llama.
type variant struct {
	defaults Config // of transformers' config class
	qkvBias  bool   // q, k and v have biases whatever attention_bias says
	oneBias  bool   // attention_bias counts
	qkNorm   bool   // heads of q and k are normalised
	headDim  int    // the default head size, 0: hidden_size/num_attention_heads
	window   func(c *Config, layer int) int
}

var variants = map[string]variant{
	"llama": {
		defaults: Config{VocabSize: 32000, HiddenSize: 4096, IntermediateSize: 11008, NumHiddenLayers: 32, NumAttentionHeads: 32, MaxPositionEmbeddings: 2048},
		oneBias:  true,
		window:   func(*Config, int) int { return 0 },
	},
	"mistral": {
		defaults: Config{VocabSize: 32000, HiddenSize: 4096, IntermediateSize: 14336, NumHiddenLayers: 32, NumAttentionHeads: 32, NumKeyValueHeads: 8, MaxPositionEmbeddings: 131072, SlidingWindow: pointer(4096)},
		window:   func(c *Config, _ int) int { return value(c.SlidingWindow) },
	},
	"qwen2": {
		defaults: Config{VocabSize: 151936, HiddenSize: 4096, IntermediateSize: 22016, NumHiddenLayers: 32, NumAttentionHeads: 32, NumKeyValueHeads: 32, MaxPositionEmbeddings: 32768, SlidingWindow: pointer(4096), MaxWindowLayers: 28},
		qkvBias:  true,
		window:   (*Config).qwenWindow,
	},
	"qwen3": {
		defaults: Config{VocabSize: 151936, HiddenSize: 4096, IntermediateSize: 22016, NumHiddenLayers: 32, NumAttentionHeads: 32, NumKeyValueHeads: 32, MaxPositionEmbeddings: 32768, SlidingWindow: pointer(4096), MaxWindowLayers: 28},
		oneBias:  true,
		qkNorm:   true,
		headDim:  128,
		window:   (*Config).qwenWindow,
	},
}

func pointer(n int) *int { return &n }

func value(n *int) int {
	if n == nil {
		return 0
	}
	return *n
}

// qwenWindow is the sliding window of a Qwen layer, 0 for full attention.
func (c *Config) qwenWindow(layer int) int {
	if !c.UseSlidingWindow {
		return 0
	}
	sliding := layer >= c.MaxWindowLayers
	if layer < len(c.LayerTypes) {
		sliding = c.LayerTypes[layer] == "sliding_attention"
	}
	if !sliding {
		return 0
	}
	return value(c.SlidingWindow)
}

// readConfig reads and checks config.json.
func readConfig(kind string, text []byte) (*Config, *variant, error) {
	v, ok := variants[kind]
	if !ok {
		return nil, nil, fmt.Errorf("config.json: model_type %q is none of the Llama family", kind)
	}
	c := v.defaults
	c.HiddenAct, c.RMSNormEps = "silu", 1e-6
	if err := json.Unmarshal(text, &c); err != nil {
		return nil, nil, fmt.Errorf("config.json: %w", err)
	}
	if c.NumKeyValueHeads == 0 {
		c.NumKeyValueHeads = c.NumAttentionHeads
	}
	if c.HeadDim == 0 {
		c.HeadDim = v.headDim
	}
	if c.HeadDim == 0 && c.NumAttentionHeads > 0 {
		c.HeadDim = c.HiddenSize / c.NumAttentionHeads
	}
	if err := c.validate(); err != nil {
		return nil, nil, fmt.Errorf("config.json: %w", err)
	}
	var err error
	if c.rope, err = nn.RoPEFromConfig(text, c.HeadDim, c.MaxPositionEmbeddings); err != nil {
		return nil, nil, err
	}
	return &c, &v, nil
}

func (c *Config) validate() error {
	const most = 1 << 24
	for _, f := range []struct {
		name  string
		value int
		most  int
	}{
		{"vocab_size", c.VocabSize, most},
		{"hidden_size", c.HiddenSize, most},
		{"intermediate_size", c.IntermediateSize, most},
		{"num_hidden_layers", c.NumHiddenLayers, 1 << 12},
		{"num_attention_heads", c.NumAttentionHeads, 1 << 16},
		{"num_key_value_heads", c.NumKeyValueHeads, 1 << 16},
		{"head_dim", c.HeadDim, 1 << 16},
		{"max_position_embeddings", c.MaxPositionEmbeddings, 1 << 30},
	} {
		if f.value < 1 || f.value > f.most {
			return fmt.Errorf("%s is %d, want 1 to %d", f.name, f.value, f.most)
		}
	}
	if c.NumAttentionHeads%c.NumKeyValueHeads != 0 {
		return fmt.Errorf("num_attention_heads %d is no multiple of num_key_value_heads %d", c.NumAttentionHeads, c.NumKeyValueHeads)
	}
	for i, t := range c.LayerTypes {
		if t != "full_attention" && t != "sliding_attention" {
			return fmt.Errorf("layer_types[%d] is %.40q, want full_attention or sliding_attention", i, t)
		}
	}
	if w := value(c.SlidingWindow); w < 0 {
		return fmt.Errorf("sliding_window is %d, want at least 1 or null", w)
	}
	_, err := nn.ActivationByName(c.HiddenAct)
	return err
}
