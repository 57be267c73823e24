// Package generate continues token sequences: the decoding loop, greedy and
// sampled choice of tokens, and when to stop.
package generate

import (
	"encoding/json"
	"fmt"
	"math"
)

// Options say how tokens are chosen and when to stop. The zero value is greedy
// and stops at the context's end alone.
type Options struct {
	MaxNewTokens int // 0: as many as the context has room for

	// Sample chooses by chance, else the most likely token is taken. The
	// filters apply in the order in which they stand here, as in transformers,
	// and with Sample alone, but for RepetitionPenalty.
	Sample            bool
	RepetitionPenalty float32 // logits of tokens seen: positive ones divided, negative ones multiplied; 0 or 1: off
	Temperature       float32 // logits are divided by it; 0: 1
	TopK              int     // keep the k most likely; 0: off
	TopP              float32 // keep the most likely until their sum reaches p; 0 or 1: off
	MinP              float32 // keep those of at least p times the likeliest's probability; 0: off
	Seed              uint64

	EOS  []int    // tokens that end the text; the one that did is not part of it
	Stop []string // texts that end the text, cut off before they begin
}

// Validate reports the first option that is out of its range.
func (o Options) Validate() error {
	bad := func(name string, v any, want string) error {
		return fmt.Errorf("generate: %s is %v, want %s", name, v, want)
	}
	switch {
	case o.MaxNewTokens < 0:
		return bad("max_new_tokens", o.MaxNewTokens, "at least 1")
	case !(o.RepetitionPenalty >= 0) || math.IsInf(float64(o.RepetitionPenalty), 0):
		return bad("repetition_penalty", o.RepetitionPenalty, "a positive number")
	case !(o.Temperature >= 0) || math.IsInf(float64(o.Temperature), 0):
		return bad("temperature", o.Temperature, "a positive number")
	case o.TopK < 0:
		return bad("top_k", o.TopK, "at least 1, or 0 for off")
	case !(o.TopP >= 0 && o.TopP <= 1):
		return bad("top_p", o.TopP, "0 to 1")
	case !(o.MinP >= 0 && o.MinP <= 1):
		return bad("min_p", o.MinP, "0 to 1")
	}
	for _, s := range o.Stop {
		if s == "" {
			return bad("a stop text", `""`, "one that is not empty")
		}
	}
	return nil
}

// ReadConfig reads a generation_config.json over o: keys that the file has not
// or sets to null keep o's values. Without top_k, sampling keeps the 50 most
// likely, as transformers does. What would change the text and is not known
// here is refused.
func (o Options) ReadConfig(text []byte) (Options, error) {
	var c struct {
		DoSample          *bool    `json:"do_sample"`
		Temperature       *float32 `json:"temperature"`
		TopK              *int     `json:"top_k"`
		TopP              *float32 `json:"top_p"`
		MinP              *float32 `json:"min_p"`
		RepetitionPenalty *float32 `json:"repetition_penalty"`
		MaxNewTokens      *int     `json:"max_new_tokens"`
		EOS               ids      `json:"eos_token_id"`
		NumBeams          *int     `json:"num_beams"`
		NoRepeatNGram     *int     `json:"no_repeat_ngram_size"`
		Stop              strs     `json:"stop_strings"`
		BadWords          [][]int  `json:"bad_words_ids"`
		Suppress          []int    `json:"suppress_tokens"`
		TypicalP          *float32 `json:"typical_p"`
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return o, fmt.Errorf("generation_config.json: %w", err)
	}
	switch {
	case c.NumBeams != nil && *c.NumBeams > 1:
		return o, fmt.Errorf("generation_config.json: num_beams %d is not supported, want 1", *c.NumBeams)
	case c.NoRepeatNGram != nil && *c.NoRepeatNGram > 0:
		return o, fmt.Errorf("generation_config.json: no_repeat_ngram_size is not supported, want 0")
	case len(c.BadWords) > 0, len(c.Suppress) > 0:
		return o, fmt.Errorf("generation_config.json: bad_words_ids and suppress_tokens are not supported")
	case c.TypicalP != nil && *c.TypicalP != 1:
		return o, fmt.Errorf("generation_config.json: typical_p %v is not supported, want 1", *c.TypicalP)
	}
	set(&o.Sample, c.DoSample)
	set(&o.Temperature, c.Temperature)
	set(&o.TopP, c.TopP)
	set(&o.MinP, c.MinP)
	set(&o.RepetitionPenalty, c.RepetitionPenalty)
	set(&o.MaxNewTokens, c.MaxNewTokens)
	if set(&o.TopK, c.TopK); c.TopK == nil && o.Sample && o.TopK == 0 {
		o.TopK = 50
	}
	if c.EOS != nil {
		o.EOS = c.EOS
	}
	if c.Stop != nil {
		o.Stop = c.Stop
	}
	return o, o.Validate()
}

func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

// ids is one token id or a list.
type ids []int

// UnmarshalJSON reads a number, a list of numbers or null.
func (v *ids) UnmarshalJSON(text []byte) error { return oneOrMany((*[]int)(v), text) }

// strs is one text or a list.
type strs []string

// UnmarshalJSON reads a text, a list of texts or null.
func (v *strs) UnmarshalJSON(text []byte) error { return oneOrMany((*[]string)(v), text) }

func oneOrMany[T any](v *[]T, text []byte) error {
	var one T
	if string(text) != "null" && json.Unmarshal(text, &one) == nil {
		*v = []T{one}
		return nil
	}
	return json.Unmarshal(text, v)
}

// EOSFromConfig returns the eos_token_id of a config.json, for models without
// a generation_config.json; nil where there is none.
func EOSFromConfig(text []byte) []int {
	var c struct {
		EOS ids `json:"eos_token_id"`
	}
	if json.Unmarshal(text, &c) != nil {
		return nil
	}
	return c.EOS
}
