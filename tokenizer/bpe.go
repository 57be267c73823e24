package tokenizer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"
)

// bpe is byte pair encoding (arXiv:1508.07909): of all neighbours that a merge
// rule joins, the pair of the earliest rule is joined first, the leftmost of
// equals, until no rule applies.
type bpe struct {
	vocab        *vocabulary
	merges       mergeTable
	prefix       string // of every symbol but the first
	suffix       string // of the last symbol
	unknown      int32  // -1: unknown characters are left out
	fuseUnknown  bool
	ignoreMerges bool
	fallback     *[256]int32 // <0x00> to <0xFF>; nil: no byte fallback
	bounded      bool        // no token has a mark behind another character

	// Where the byte-level pre-tokenizer comes last, pieces are raw bytes.
	raw     *rawBytes
	rawText map[string]int32 // whole tokens as raw bytes, for ignoreMerges
}

// rawBytes holds the symbol of each byte, as the last one of a piece and
// elsewhere; -1 for none.
type rawBytes struct{ inner, last [256]int32 }

// mark is SentencePiece's visible blank.
const mark = "▁"

type bpeConfig struct {
	Dropout       *float64
	UnkToken      *string `json:"unk_token"`
	Prefix        *string `json:"continuing_subword_prefix"`
	Suffix        *string `json:"end_of_word_suffix"`
	FuseUnk       bool    `json:"fuse_unk"`
	ByteFallback  bool    `json:"byte_fallback"`
	IgnoreMerges  bool    `json:"ignore_merges"`
	Vocab         map[string]int32
	Merges        mergeList
	unknownIsFine bool
}

// mergeList reads merges as pairs or as "left right".
type mergeList [][2]string

// UnmarshalJSON implements json.Unmarshaler.
func (l *mergeList) UnmarshalJSON(data []byte) error {
	inner := bytes.TrimLeft(bytes.TrimPrefix(data, []byte("[")), " \t\r\n")
	if bytes.HasPrefix(inner, []byte("[")) {
		var pairs [][2]string
		if err := json.Unmarshal(data, &pairs); err != nil {
			return fmt.Errorf("merges: %w", err)
		}
		*l = pairs
		return nil
	}
	var lines []string
	if err := json.Unmarshal(data, &lines); err != nil {
		return fmt.Errorf(`merges: want pairs or "left right": %w`, err)
	}
	for i, line := range lines {
		if err := l.add(line, i); err != nil {
			return err
		}
	}
	return nil
}

// add appends one line of a merges file; comments that give a version are
// passed over.
func (l *mergeList) add(line string, number int) error {
	if strings.HasPrefix(line, "#version") {
		return nil
	}
	left, right, ok := strings.Cut(line, " ")
	if !ok || strings.Contains(right, " ") {
		return fmt.Errorf("merges: line %d is %q, want two tokens", number+1, line)
	}
	*l = append(*l, [2]string{left, right})
	return nil
}

func readBPE(data json.RawMessage) (model, error) {
	var c bpeConfig
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, err
	}
	return newBPE(c)
}

func newBPE(c bpeConfig) (*bpe, error) {
	if c.Dropout != nil && *c.Dropout != 0 {
		return nil, fmt.Errorf("dropout %g, want none: it makes encodings random", *c.Dropout)
	}
	vocab, err := newVocabulary(c.Vocab)
	if err != nil {
		return nil, err
	}
	b := &bpe{vocab: vocab, unknown: -1, fuseUnknown: c.FuseUnk, ignoreMerges: c.IgnoreMerges}
	if c.Prefix != nil {
		b.prefix = *c.Prefix
	}
	if c.Suffix != nil {
		b.suffix = *c.Suffix
	}
	if c.UnkToken != nil {
		id, ok := vocab.id(*c.UnkToken)
		if !ok && !c.unknownIsFine {
			return nil, fmt.Errorf("unk_token %q is not in the vocabulary", *c.UnkToken)
		}
		if ok {
			b.unknown = id
		}
	}
	if c.ByteFallback {
		b.fallback = new([256]int32)
		for i := range b.fallback {
			b.fallback[i] = -1
			if id, ok := vocab.id(fmt.Sprintf("<0x%02X>", i)); ok {
				b.fallback[i] = id
			}
		}
	}
	_, marked := vocab.id(mark)
	b.bounded = marked && b.prefix == "" && b.suffix == "" && !c.IgnoreMerges
	b.merges = newMergeTable(len(c.Merges))
	for i, m := range c.Merges {
		left, ok1 := vocab.id(m[0])
		right, ok2 := vocab.id(m[1])
		if !ok1 || !ok2 {
			return nil, fmt.Errorf("merge %d joins %q and %q, want tokens of the vocabulary", i, m[0], m[1])
		}
		if !strings.HasPrefix(m[1], b.prefix) && len(m[1]) < len(b.prefix) {
			return nil, fmt.Errorf("merge %d: %q is shorter than the prefix %q", i, m[1], b.prefix)
		}
		whole := m[0] + m[1][len(b.prefix):]
		id, ok := vocab.id(whole)
		if !ok {
			return nil, fmt.Errorf("merge %d gives %q, which is not in the vocabulary", i, whole)
		}
		b.bounded = b.bounded && !markInside(whole)
		b.merges.put(left, right, int32(i), id)
	}
	return b, nil
}

// markInside reports whether a mark stands behind another character.
func markInside(token string) bool {
	return strings.Contains(strings.TrimLeft(token, mark), mark)
}

// readRaw makes pieces raw bytes, if the model allows it.
func (b *bpe) readRaw() bool {
	if b.prefix != "" || b.fallback != nil {
		return false
	}
	b.raw = new(rawBytes)
	for i, c := range byteRunes {
		b.raw.inner[i], b.raw.last[i] = -1, -1
		if id, ok := b.vocab.id(string(c)); ok {
			b.raw.inner[i] = id
		}
		if id, ok := b.vocab.id(string(c) + b.suffix); ok {
			b.raw.last[i] = id
		}
	}
	b.bounded = false
	if b.ignoreMerges {
		b.rawText = make(map[string]int32, len(b.vocab.ids))
		for token, id := range b.vocab.ids {
			if text, ok := unmapBytes(nil, token); ok {
				b.rawText[string(text)] = id
			}
		}
	}
	return true
}

func (b *bpe) vocabulary() *vocabulary { return b.vocab }

func (b *bpe) encode(ids []int, text string, s *scratch) ([]int, error) {
	if !b.bounded {
		return b.word(ids, text, s), nil
	}
	// No merge joins anything with a mark behind it, so each mark that follows
	// another character begins a piece of its own.
	for {
		at, lead := len(text), len(text)-len(strings.TrimLeft(text, mark))
		if next := strings.Index(text[lead:], mark); next >= 0 {
			at = lead + next
		}
		ids = b.word(ids, text[:at], s)
		if at == len(text) {
			return ids, nil
		}
		text = text[at:]
	}
}

// word appends the ids of one piece.
func (b *bpe) word(ids []int, text string, s *scratch) []int {
	if b.ignoreMerges {
		whole, ok := b.vocab.ids[text]
		if b.raw != nil {
			whole, ok = b.rawText[text]
		}
		if ok {
			return append(ids, int(whole))
		}
	}
	got, ok := s.cached(text)
	if !ok {
		if b.raw != nil {
			s.ids = b.byteSymbols(s.ids[:0], text)
		} else {
			s.ids = b.symbols(s.ids[:0], text, s)
		}
		s.ids = b.merges.apply(s.ids, s)
		s.keep(text, s.ids)
		got = s.ids
	}
	for _, id := range got {
		ids = append(ids, int(id))
	}
	return ids
}

// byteSymbols appends the first symbols of a piece of raw bytes.
func (b *bpe) byteSymbols(out []int32, text string) []int32 {
	last, unknown := len(text)-1, false
	for i := range len(text) {
		id := b.raw.inner[text[i]]
		if i == last {
			id = b.raw.last[text[i]]
		}
		if id < 0 {
			out, unknown = b.addUnknown(out, unknown)
			continue
		}
		out = b.endUnknown(out, unknown)
		out, unknown = append(out, id), false
	}
	return b.endUnknown(out, unknown)
}

// symbols appends the first symbols of a piece, one for each character or, where
// that is not in the vocabulary, for each of its bytes.
func (b *bpe) symbols(out []int32, text string, s *scratch) []int32 {
	unknown := false
	for i, c := range text {
		end := i + utf8.RuneLen(c)
		key := text[i:end]
		if (i > 0 && b.prefix != "") || (end == len(text) && b.suffix != "") {
			s.text = s.text[:0]
			if i > 0 {
				s.text = append(s.text, b.prefix...)
			}
			s.text = append(s.text, key...)
			if end == len(text) {
				s.text = append(s.text, b.suffix...)
			}
			key = string(s.text)
		}
		if id, ok := b.vocab.ids[key]; ok {
			out = b.endUnknown(out, unknown)
			out, unknown = append(out, id), false
			continue
		}
		// As in the reference, bytes do not end a run of unknowns: its token
		// comes behind them.
		if more, ok := b.byteTokens(out, key); ok {
			out = more
			continue
		}
		out, unknown = b.addUnknown(out, unknown)
	}
	return b.endUnknown(out, unknown)
}

func (b *bpe) byteTokens(out []int32, key string) ([]int32, bool) {
	if b.fallback == nil {
		return out, false
	}
	size := len(out)
	for i := range len(key) {
		id := b.fallback[key[i]]
		if id < 0 {
			return out[:size], false
		}
		out = append(out, id)
	}
	return out, true
}

// addUnknown begins, or goes on with, a run of unknown characters: one token
// for each of them, or one in all if they fuse. The last one stays pending.
func (b *bpe) addUnknown(out []int32, pending bool) ([]int32, bool) {
	if b.unknown < 0 {
		return out, false
	}
	return b.endUnknown(out, pending && !b.fuseUnknown), true
}

func (b *bpe) endUnknown(out []int32, pending bool) []int32 {
	if pending {
		return append(out, b.unknown)
	}
	return out
}
