package tokenizer

import (
	"encoding/json"
	"fmt"
	"unicode/utf8"
)

// wordPiece takes, from left to right, the longest token that fits; a word that
// cannot be spelled is one unknown (BERT, arXiv:1810.04805).
type wordPiece struct {
	vocab   *vocabulary
	unknown int32 // -1: such words are an error
	prefix  string
	longest int // characters of a word that is looked at
}

func readWordPiece(data json.RawMessage) (model, error) {
	var c struct {
		UnkToken *string `json:"unk_token"`
		Prefix   *string `json:"continuing_subword_prefix"`
		Longest  *int    `json:"max_input_chars_per_word"`
		Vocab    map[string]int32
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, err
	}
	vocab, err := newVocabulary(c.Vocab)
	if err != nil {
		return nil, err
	}
	m := &wordPiece{vocab: vocab, unknown: -1, prefix: "##", longest: 100}
	if c.Prefix != nil {
		m.prefix = *c.Prefix
	}
	if c.Longest != nil {
		m.longest = min(max(*c.Longest, 0), 10000)
	}
	name := "[UNK]"
	if c.UnkToken != nil {
		name = *c.UnkToken
	}
	if id, ok := vocab.id(name); ok {
		m.unknown = id
	}
	return m, nil
}

func (m *wordPiece) vocabulary() *vocabulary { return m.vocab }

func (m *wordPiece) encode(ids []int, text string, s *scratch) ([]int, error) {
	size := len(ids)
	if utf8.RuneCountInString(text) > m.longest {
		return m.addUnknown(ids, text)
	}
	for start := 0; start < len(text); {
		end, id := len(text), int32(-1)
		for end > start {
			s.text = s.text[:0]
			if start > 0 {
				s.text = append(s.text, m.prefix...)
			}
			s.text = append(s.text, text[start:end]...)
			if got, ok := m.vocab.ids[string(s.text)]; ok {
				id = got
				break
			}
			_, width := utf8.DecodeLastRuneInString(text[start:end])
			end -= width
		}
		if id < 0 {
			return m.addUnknown(ids[:size], text)
		}
		ids = append(ids, int(id))
		start = end
	}
	return ids, nil
}

func (m *wordPiece) addUnknown(ids []int, text string) ([]int, error) {
	if m.unknown < 0 {
		return nil, fmt.Errorf("tokenizer: %.20q cannot be spelled and the vocabulary has no unknown token", text)
	}
	return append(ids, int(m.unknown)), nil
}

// wordLevel knows whole pieces only.
type wordLevel struct {
	vocab   *vocabulary
	unknown int32 // -1: such pieces are an error
}

func readWordLevel(data json.RawMessage) (model, error) {
	var c struct {
		UnkToken string `json:"unk_token"`
		Vocab    map[string]int32
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, err
	}
	vocab, err := newVocabulary(c.Vocab)
	if err != nil {
		return nil, err
	}
	m := &wordLevel{vocab, -1}
	if id, ok := vocab.id(c.UnkToken); ok {
		m.unknown = id
	}
	return m, nil
}

func (m *wordLevel) vocabulary() *vocabulary { return m.vocab }

func (m *wordLevel) encode(ids []int, text string, _ *scratch) ([]int, error) {
	id, ok := m.vocab.ids[text]
	if !ok {
		id = m.unknown
	}
	if id < 0 {
		return nil, fmt.Errorf("tokenizer: %.20q is not in the vocabulary, which has no unknown token", text)
	}
	return append(ids, int(id)), nil
}
