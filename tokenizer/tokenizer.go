// Package tokenizer turns text into token ids and back, as Hugging Face's
// tokenizers do, from the files of a checkpoint directory: tokenizer.json, or
// vocab.json and merges.txt, with tokenizer_config.json and
// special_tokens_map.json beside them.
//
// A text goes through these steps: added tokens are cut out, the rest is
// normalized, cut at normalized added tokens, pre-tokenized into pieces, and
// each piece is encoded by the model (byte pair encoding, unigram, WordPiece or
// whole words); the template puts special tokens around it. The ids are those
// of the reference, token for token; see docs/decisions/tokenizer.md.
package tokenizer

import (
	"encoding/json"
	"fmt"
	"sync"
)

// Tokenizer is safe for concurrent use.
type Tokenizer struct {
	model        model
	normalizer   normalizer   // nil: none
	preTokenizer preTokenizer // nil: none
	added        addedTokens
	template     template
	stages       []func() stage
	joined       bool // no decoder: tokens are joined by blanks
	finish       func(text string) string
	special      map[string]int // "bos_token" and its like
	maxLength    int
	scratches    sync.Pool
}

const (
	maxFile  = 256 << 20 // bytes of one file
	maxParts = 64        // nesting of sequences
)

// Parse reads a tokenizer.json alone.
func Parse(data []byte) (*Tokenizer, error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("tokenizer: tokenizer.json of %d bytes, want at most %d", len(data), maxFile)
	}
	var file tokenizerFile
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, fmt.Errorf("tokenizer: tokenizer.json: %w", err)
	}
	m, err := newModel(file.Model)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: tokenizer.json: %w", err)
	}
	t, err := build(m, &file)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: tokenizer.json: %w", err)
	}
	return t, nil
}

// tokenizerFile is a tokenizer.json, its parts unread. The truncation and
// padding that it may ask for belong to the caller, see Options.
type tokenizerFile struct {
	Version       string
	AddedTokens   []addedToken    `json:"added_tokens"`
	Normalizer    json.RawMessage `json:"normalizer"`
	PreTokenizer  json.RawMessage `json:"pre_tokenizer"`
	PostProcessor json.RawMessage `json:"post_processor"`
	Decoder       json.RawMessage `json:"decoder"`
	Model         json.RawMessage `json:"model"`
}

// build puts a model and the parts of a file together.
func build(m model, file *tokenizerFile) (*Tokenizer, error) {
	if file.Version != "" && file.Version != "1.0" {
		return nil, fmt.Errorf("version %q, want 1.0", file.Version)
	}
	t := &Tokenizer{model: m, special: map[string]int{}}
	t.scratches.New = func() any { return new(scratch) }
	var err error
	if t.normalizer, err = newNormalizer(file.Normalizer, 0); err != nil {
		return nil, err
	}
	if t.preTokenizer, err = newPreTokenizer(file.PreTokenizer, 0); err != nil {
		return nil, err
	}
	if last := lastByteLevel(t.preTokenizer); last != nil {
		if b, ok := m.(*bpe); ok {
			last.raw = b.readRaw()
		}
	}
	if t.template, err = newTemplate(file.PostProcessor, 0); err != nil {
		return nil, err
	}
	if t.joined = absent(file.Decoder); !t.joined {
		if t.stages, err = newStages(file.Decoder, 0); err != nil {
			return nil, err
		}
	}
	return t, t.add(file.AddedTokens)
}

// lastByteLevel returns the byte-level step if it is the last one and the only
// one.
func lastByteLevel(p preTokenizer) *byteLevel {
	switch p := p.(type) {
	case *byteLevel:
		return p
	case preSequence:
		for i, part := range p {
			last := lastByteLevel(part)
			if i == len(p)-1 {
				return last
			}
			if last != nil || holdsByteLevel(part) {
				return nil
			}
		}
	}
	return nil
}

func holdsByteLevel(p preTokenizer) bool {
	if all, ok := p.(preSequence); ok {
		for _, part := range all {
			if holdsByteLevel(part) {
				return true
			}
		}
	}
	_, ok := p.(*byteLevel)
	return ok
}

// Encode returns the ids of text. Ill-formed UTF-8 counts as U+FFFD. With
// addSpecial the template's special tokens are put around it; special tokens
// spelled out in the text are found in any case.
func (t *Tokenizer) Encode(text string, addSpecial bool) ([]int, error) {
	ids, err := t.encode(text)
	if err != nil {
		return nil, err
	}
	return t.template.apply([][]int{ids}, addSpecial), nil
}

// EncodePair returns the ids of two texts in the template for pairs.
func (t *Tokenizer) EncodePair(first, second string, addSpecial bool) ([]int, error) {
	a, err := t.encode(first)
	if err != nil {
		return nil, err
	}
	b, err := t.encode(second)
	if err != nil {
		return nil, err
	}
	return t.template.apply([][]int{a, b}, addSpecial), nil
}

// encode returns the ids of text without special tokens around it.
func (t *Tokenizer) encode(text string) ([]int, error) {
	text = validText(text)
	s := t.scratches.Get().(*scratch)
	defer t.scratches.Put(s)
	ids := make([]int, 0, len(text)/3+8)
	hand := func(p piece) (err error) {
		ids, err = t.model.encode(ids, p.text, s)
		return err
	}
	// words encodes normalized text without added tokens.
	words := func(text string, head bool) error {
		switch {
		case text == "":
			return nil
		case t.preTokenizer == nil:
			return hand(piece{text, head})
		}
		return t.preTokenizer.split(piece{text, head}, hand)
	}
	err := t.added.each(&t.added.plain, text, func(id, start, end int) error {
		if id >= 0 {
			ids = append(ids, id)
			return nil
		}
		part, cut := text[start:end], false
		if t.normalizer != nil {
			var err error
			if part, cut, err = t.normalizer.normalize(part); err != nil {
				return err
			}
		}
		return t.added.each(&t.added.normal, part, func(id, from, to int) error {
			if id >= 0 {
				ids = append(ids, id)
				return nil
			}
			return words(part[from:to], start == 0 && from == 0 && !cut)
		})
	})
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	return ids, nil
}

// TokenToID returns the id of a token as the vocabulary spells it.
func (t *Tokenizer) TokenToID(token string) (int, bool) {
	if added := t.added.byContent[token]; added != nil {
		return added.id, true
	}
	id, ok := t.model.vocabulary().id(token)
	return int(id), ok
}

// IDToToken returns the token with an id.
func (t *Tokenizer) IDToToken(id int) (string, bool) {
	if added := t.added.byID[id]; added != nil {
		return added.form, true
	}
	return t.model.vocabulary().token(id)
}

// VocabSize counts the tokens, added ones included.
func (t *Tokenizer) VocabSize() int {
	vocab := t.model.vocabulary()
	size := len(vocab.ids)
	for content := range t.added.byContent {
		if _, ok := vocab.ids[content]; !ok {
			size++
		}
	}
	return size
}

// Special returns the id of a special token by its key in
// tokenizer_config.json ("bos_token", "eos_token", "unk_token", "sep_token",
// "pad_token", "cls_token", "mask_token"); false if there is none.
func (t *Tokenizer) Special(key string) (int, bool) {
	id, ok := t.special[key]
	return id, ok
}

// BOS returns the id of the token that begins a text.
func (t *Tokenizer) BOS() (int, bool) { return t.Special("bos_token") }

// EOS returns the id of the token that ends a text.
func (t *Tokenizer) EOS() (int, bool) { return t.Special("eos_token") }

// Pad returns the id of the token that fills up a batch.
func (t *Tokenizer) Pad() (int, bool) { return t.Special("pad_token") }

// IsSpecial reports whether Decode leaves out id when asked to skip special
// tokens.
func (t *Tokenizer) IsSpecial(id int) bool {
	token, ok := t.IDToToken(id)
	return ok && t.added.special[token]
}

// MaxLength is the longest input of the model in tokens, 0 if not stated.
func (t *Tokenizer) MaxLength() int { return t.maxLength }
