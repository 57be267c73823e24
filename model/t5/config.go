package t5

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"

	"smelt/internal/kernel"
	"smelt/nn"
)

// Config is what config.json says.
type Config struct {
	VocabSize                    int     `json:"vocab_size"`
	DModel                       int     `json:"d_model"`
	DKV                          int     `json:"d_kv"`
	DFF                          int     `json:"d_ff"`
	NumLayers                    int     `json:"num_layers"`
	NumDecoderLayers             *int    `json:"num_decoder_layers"` // nil: as many as num_layers
	NumHeads                     int     `json:"num_heads"`
	RelativeAttentionNumBuckets  int     `json:"relative_attention_num_buckets"`
	RelativeAttentionMaxDistance int     `json:"relative_attention_max_distance"`
	LayerNormEpsilon             float32 `json:"layer_norm_epsilon"`
	FeedForwardProj              string  `json:"feed_forward_proj"`
	TieWordEmbeddings            *bool   `json:"tie_word_embeddings"`
	ScaleDecoderOutputs          *bool   `json:"scale_decoder_outputs"`
	DecoderStartTokenID          *int    `json:"decoder_start_token_id"`
	PadTokenID                   *int    `json:"pad_token_id"`

	act   nn.Activation
	gated bool
}

// readConfig reads and checks config.json.
func readConfig(text []byte) (*Config, error) {
	c := &Config{
		VocabSize: 32128, DModel: 512, DKV: 64, DFF: 2048, NumLayers: 6, NumHeads: 8,
		RelativeAttentionNumBuckets: 32, RelativeAttentionMaxDistance: 128,
		LayerNormEpsilon: 1e-6, FeedForwardProj: "relu",
	}
	if err := json.Unmarshal(text, c); err != nil {
		return nil, fmt.Errorf("config.json: %w", err)
	}
	if c.NumDecoderLayers == nil {
		c.NumDecoderLayers = &c.NumLayers
	}
	const most = 1 << 24
	for _, f := range []struct {
		name  string
		value int
		most  int
	}{
		{"vocab_size", c.VocabSize, most},
		{"d_model", c.DModel, most},
		{"d_kv", c.DKV, 1 << 16},
		{"d_ff", c.DFF, most},
		{"num_layers", c.NumLayers, 1 << 12},
		{"num_decoder_layers", *c.NumDecoderLayers, 1 << 12},
		{"num_heads", c.NumHeads, 1 << 16},
		{"relative_attention_num_buckets", c.RelativeAttentionNumBuckets / 4, 1 << 16},
		{"relative_attention_max_distance", c.RelativeAttentionMaxDistance - c.RelativeAttentionNumBuckets/2, 1 << 20},
	} {
		if f.value < 1 || f.value > f.most {
			return nil, fmt.Errorf("config.json: %s is out of range", f.name)
		}
	}
	return c, c.readActivation()
}

// readActivation splits feed_forward_proj, "relu" or "gated-gelu"; the latter
// means gelu_new, as the first T5 v1.1 was trained.
func (c *Config) readActivation() (err error) {
	name, gated := strings.CutPrefix(c.FeedForwardProj, "gated-")
	if c.gated = gated; c.FeedForwardProj == "gated-gelu" {
		name = "gelu_new"
	}
	if c.act, err = nn.ActivationByName(name); err != nil {
		return fmt.Errorf("config.json: feed_forward_proj %.40q: %w", c.FeedForwardProj, err)
	}
	return nil
}

// scaled reports whether hidden states are divided by √d_model before the
// head: in the original T5, whose files do not say tie_word_embeddings false.
func (c *Config) scaled() bool {
	if c.ScaleDecoderOutputs != nil {
		return *c.ScaleDecoderOutputs
	}
	return c.TieWordEmbeddings == nil || *c.TieWordEmbeddings
}

// bucket returns which entry of the relative attention bias belongs to a key
// relative positions after its query, with torch's float32 roundings.
func (c *Config) bucket(relative int, bidirectional bool) int {
	buckets, at := c.RelativeAttentionNumBuckets, 0
	n := -relative
	if bidirectional {
		buckets /= 2
		if relative > 0 {
			at, n = buckets, relative
		}
	}
	n = max(n, 0)
	exact := buckets / 2
	if n < exact {
		return at + n
	}
	l := float32(math.Log(float64(float32(n)/float32(exact)))) /
		float32(math.Log(float64(c.RelativeAttentionMaxDistance)/float64(exact))) * float32(buckets-exact)
	return at + min(exact+int(l), buckets-1)
}

// bias tabulates the relative attention bias: row h, column before+r for a key
// r positions after its query, for -before ≤ r ≤ after.
func (c *Config) bias(table kernel.Matrix, before, after int, bidirectional bool) kernel.Matrix {
	b := kernel.New(c.NumHeads, before+after+1)
	for r := -before; r <= after; r++ {
		row := table.Row(c.bucket(r, bidirectional)) // [H]
		for h, v := range row {
			b.Set(h, before+r, v)
		}
	}
	return b
}
