package tokenizer

import (
	"encoding/json"
	"fmt"
	"strings"
)

// model turns pieces into ids. It is safe for concurrent use; what changes
// lives in the scratch.
type model interface {
	// encode appends the ids of text, which is not empty.
	encode(ids []int, text string, s *scratch) ([]int, error)
	vocabulary() *vocabulary
}

// scratch is the working memory of one encoding, kept between encodings.
type scratch struct {
	words map[string]span32 // ids of the pieces seen, in arena
	arena []int32
	heap  []merge32
	syms  []symbol
	ids   []int32
	best  []pathNode
	text  []byte
}

type span32 struct{ start, end int32 }

const (
	maxCachedWord  = 256     // bytes of a piece worth keeping
	maxCachedWords = 1 << 15 // pieces
)

// cached returns the ids that were kept for a piece.
func (s *scratch) cached(text string) ([]int32, bool) {
	at, ok := s.words[text]
	return s.arena[at.start:at.end], ok
}

// keep remembers the ids of a piece.
func (s *scratch) keep(text string, ids []int32) {
	if len(text) > maxCachedWord {
		return
	}
	if s.words == nil || len(s.words) >= maxCachedWords {
		s.words = make(map[string]span32, 256)
		s.arena = s.arena[:0]
	}
	start := len(s.arena)
	s.arena = append(s.arena, ids...)
	s.words[strings.Clone(text)] = span32{int32(start), int32(len(s.arena))}
}

// vocabulary maps tokens to ids and back.
type vocabulary struct {
	ids    map[string]int32
	tokens []string // by id; the empty string where there is none
	known  []bool   // by id; nil: all of them
}

func (v *vocabulary) id(token string) (int32, bool) {
	id, ok := v.ids[token]
	return id, ok
}

func (v *vocabulary) token(id int) (string, bool) {
	if id < 0 || id >= len(v.tokens) || (v.known != nil && !v.known[id]) {
		return "", false
	}
	return v.tokens[id], true
}

const (
	maxVocabulary = 1 << 22
	maxID         = 1 << 24
)

// newVocabulary inverts ids.
func newVocabulary(ids map[string]int32) (*vocabulary, error) {
	if len(ids) > maxVocabulary {
		return nil, fmt.Errorf("vocabulary of %d tokens, want at most %d", len(ids), maxVocabulary)
	}
	last := int32(-1)
	for token, id := range ids {
		if id < 0 || id >= maxID {
			return nil, fmt.Errorf("token %q has id %d, want 0 to %d", token, id, maxID-1)
		}
		last = max(last, id)
	}
	v := &vocabulary{ids: ids, tokens: make([]string, last+1), known: make([]bool, last+1)}
	for token, id := range ids {
		// Of two tokens with one id the lesser stands for it, whatever the order.
		if !v.known[id] || token < v.tokens[id] {
			v.tokens[id], v.known[id] = token, true
		}
	}
	return v, nil
}

// newModel reads the "model" part of a tokenizer.json.
func newModel(data json.RawMessage) (model, error) {
	if absent(data) {
		return nil, fmt.Errorf("model: missing")
	}
	var c struct {
		Type   string
		Merges json.RawMessage
		Vocab  json.RawMessage
		UnkID  *int    `json:"unk_id"`
		Prefix *string `json:"continuing_subword_prefix"`
		Most   *int    `json:"max_input_chars_per_word"`
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	if c.Type == "" { // files of old releases do not say
		switch {
		case !absent(c.Merges):
			c.Type = "BPE"
		case len(c.Vocab) > 0 && c.Vocab[0] == '[':
			c.Type = "Unigram"
		case c.Most != nil || c.Prefix != nil:
			c.Type = "WordPiece"
		default:
			c.Type = "WordLevel"
		}
	}
	var m model
	var err error
	switch c.Type {
	case "BPE":
		m, err = readBPE(data)
	case "Unigram":
		m, err = readUnigram(data)
	case "WordPiece":
		m, err = readWordPiece(data)
	case "WordLevel":
		m, err = readWordLevel(data)
	default:
		return nil, fmt.Errorf("model: type %q is unknown (BPE, Unigram, WordPiece, WordLevel are)", c.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", c.Type, err)
	}
	return m, nil
}
