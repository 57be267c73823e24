package checkpoint

import (
	"fmt"

	"smelt/dtype"
	"smelt/internal/ojson"
)

// Config is a config.json. It keeps every key in its order, known or not, so
// that it can be written back with only what is meant to change.
type Config struct {
	// Raw is the whole object. It must not be changed in place; copy Members
	// before setting any.
	Raw ojson.Value
	// Text is the file as it was read.
	Text []byte
}

// ParseConfig parses the text of a config.json.
func ParseConfig(text []byte) (Config, error) {
	raw, err := ojson.Parse(text)
	if err != nil {
		return Config{}, err
	}
	if raw.Kind != ojson.Object {
		return Config{}, fmt.Errorf("content is %s, want an object", raw.Kind.A())
	}
	return Config{Raw: raw, Text: text}, nil
}

// ModelType returns "clip", "llama", …, "" where the config has none.
func (c Config) ModelType() string { return c.Raw.Str("model_type") }

// Architectures returns the names of the model classes, such as
// "LlamaForCausalLM".
func (c Config) Architectures() []string {
	v, _ := c.Raw.Get("architectures")
	s, _ := v.Strings()
	return s
}

// TieWordEmbeddings returns tie_word_embeddings; set is false where neither
// the config nor its text_config has it and the model class decides.
func (c Config) TieWordEmbeddings() (tie, set bool) {
	for _, raw := range []ojson.Value{c.Raw, c.Nested("text_config").Raw} {
		if v, ok := raw.Get("tie_word_embeddings"); ok && v.Kind == ojson.Bool {
			return v.Bool, true
		}
	}
	return false, false
}

// DType returns the type that torch_dtype, or dtype as newer files call it,
// says the weights have; ok is false where it says nothing or "auto". The
// tensors themselves are the truth.
func (c Config) DType() (d dtype.DType, ok bool) {
	for _, key := range []string{"dtype", "torch_dtype"} {
		if s := c.Raw.Str(key); s != "" {
			d, err := dtype.FromTorch(s)
			return d, err == nil
		}
	}
	return dtype.Invalid, false
}

// Nested returns the config under key, such as "text_config"; without one its
// Raw is Null.
func (c Config) Nested(key string) Config {
	v, ok := c.Raw.Get(key)
	if !ok || v.Kind != ojson.Object {
		return Config{}
	}
	return Config{Raw: v}
}

// nestedKeys are the keys under which composite models keep the configs of
// their parts.
var nestedKeys = []string{
	"text_config", "vision_config", "audio_config", "encoder", "decoder",
	"text_encoder", "audio_encoder", "qformer_config", "thinker_config", "talker_config",
}

// Parts returns the configs of a composite model's parts by their keys.
func (c Config) Parts() map[string]Config {
	parts := make(map[string]Config)
	for _, key := range nestedKeys {
		if p := c.Nested(key); p.Raw.Kind == ojson.Object {
			parts[key] = p
		}
	}
	return parts
}

// Int returns a whole number, such as hidden_size.
func (c Config) Int(key string) (int, bool) {
	v, _ := c.Raw.Get(key)
	n, ok := v.Int()
	return int(n), ok && int64(int(n)) == n
}

// JSON writes the config as Hugging Face does: two spaces, keys in order, a
// newline at the end.
func (c Config) JSON() []byte { return ojson.Indent(c.Raw) }
