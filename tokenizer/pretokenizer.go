package tokenizer

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"
)

// piece is a part of the text on its way to the model.
type piece struct {
	text string
	head bool // begins where the original text begins
}

// preTokenizer splits a piece, which is not empty, into non-empty pieces and
// hands them on.
type preTokenizer interface {
	split(p piece, emit func(piece) error) error
}

type (
	preSequence []preTokenizer
	byteLevel   struct {
		prefixSpace bool
		pattern     *pattern // nil: the piece stays whole
		raw         bool     // the model reads bytes itself
	}
	metaspace struct {
		mark   string
		scheme string // always, first or never
		cut    bool
	}
	patternSplit struct {
		pattern  *pattern
		behavior behavior
		invert   bool
	}
	runeSplit struct {
		member   func(rune) bool
		behavior behavior
	}
	fixedLength struct{ length int }
)

// behavior says what becomes of the delimiters of a split.
type behavior string

const (
	removed            behavior = "Removed"
	isolated           behavior = "Isolated"
	mergedWithPrevious behavior = "MergedWithPrevious"
	mergedWithNext     behavior = "MergedWithNext"
	contiguous         behavior = "Contiguous"
)

// gptPattern is ByteLevel's own pattern, GPT-2's.
const gptPattern = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`

// newPreTokenizer reads the "pre_tokenizer" part of a tokenizer.json.
func newPreTokenizer(data json.RawMessage, depth int) (preTokenizer, error) {
	var c struct {
		Type             string
		PreTokenizers    []json.RawMessage `json:"pretokenizers"`
		AddPrefixSpace   *bool             `json:"add_prefix_space"`
		UseRegex         *bool             `json:"use_regex"`
		Replacement      string
		PrependScheme    string `json:"prepend_scheme"`
		Split            *bool
		Pattern          textPattern
		Behavior         behavior
		Invert           bool
		IndividualDigits bool `json:"individual_digits"`
		Delimiter        string
		Length           *int
	}
	if absent(data) {
		return nil, nil
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, fmt.Errorf("pre_tokenizer: %w", err)
	}
	white := runeSplit{func(r rune) bool { return runeIs(r, flagWhite) }, removed}
	punctuation := func(r rune) bool { return runeIs(r, flagPunct) }
	switch c.Type {
	case "Sequence":
		if depth > maxParts {
			return nil, fmt.Errorf("pre_tokenizer: sequences nested more than %d deep", maxParts)
		}
		var all preSequence
		for _, part := range c.PreTokenizers {
			p, err := newPreTokenizer(part, depth+1)
			if err != nil {
				return nil, err
			}
			if p != nil {
				all = append(all, p)
			}
		}
		return all, nil
	case "ByteLevel":
		b := byteLevel{prefixSpace: c.AddPrefixSpace == nil || *c.AddPrefixSpace}
		if c.UseRegex == nil || *c.UseRegex {
			p, err := compilePattern(gptPattern)
			if err != nil {
				return nil, err
			}
			b.pattern = p
		}
		return &b, nil
	case "Metaspace":
		return newMetaspace(c.Replacement, c.PrependScheme, c.AddPrefixSpace, c.Split)
	case "Whitespace":
		return whitespaceWords{}, nil
	case "WhitespaceSplit":
		return white, nil
	case "BertPreTokenizer":
		return preSequence{white, runeSplit{punctuation, isolated}}, nil
	case "Punctuation":
		if c.Behavior == "" {
			c.Behavior = isolated
		}
		return runeSplit{punctuation, c.Behavior}, c.Behavior.check()
	case "Digits":
		how := contiguous
		if c.IndividualDigits {
			how = isolated
		}
		return runeSplit{func(r rune) bool { return runeIs(r, flagNumeric) }, how}, nil
	case "Delimiter", "CharDelimiterSplit":
		delimiter, size := utf8.DecodeRuneInString(c.Delimiter)
		if size == 0 || size != len(c.Delimiter) {
			return nil, fmt.Errorf("pre_tokenizer %s: delimiter %q, want one character", c.Type, c.Delimiter)
		}
		return runeSplit{func(r rune) bool { return r == delimiter }, removed}, nil
	case "FixedLength":
		length := 5
		if c.Length != nil {
			length = *c.Length
		}
		if length < 1 {
			return nil, fmt.Errorf("pre_tokenizer FixedLength: length %d, want at least 1", length)
		}
		return fixedLength{length}, nil
	case "Split":
		p, _, err := c.Pattern.compile()
		if err == nil {
			err = c.Behavior.check()
		}
		if err != nil {
			return nil, fmt.Errorf("pre_tokenizer Split: %w", err)
		}
		return patternSplit{p, c.Behavior, c.Invert}, nil
	}
	return nil, fmt.Errorf("pre_tokenizer: type %q is unknown", c.Type)
}

func (b behavior) check() error {
	switch b {
	case removed, isolated, mergedWithPrevious, mergedWithNext, contiguous:
		return nil
	}
	return fmt.Errorf("behavior %q is unknown", b)
}

// newMetaspace checks the fields of a Metaspace pre-tokenizer or decoder.
func newMetaspace(mark, scheme string, prefix, cut *bool) (metaspace, error) {
	if utf8.RuneCountInString(mark) != 1 {
		return metaspace{}, fmt.Errorf("metaspace: replacement %q, want one character", mark)
	}
	switch scheme {
	case "":
		scheme = "always"
	case "always", "first", "never":
	default:
		return metaspace{}, fmt.Errorf("metaspace: prepend_scheme %q, want always, first or never", scheme)
	}
	if prefix != nil && !*prefix {
		scheme = "never"
	}
	return metaspace{mark: mark, scheme: scheme, cut: cut == nil || *cut}, nil
}

func (all preSequence) split(p piece, emit func(piece) error) error {
	switch len(all) {
	case 0:
		return emit(p)
	case 1:
		return all[0].split(p, emit)
	}
	rest := all[1:]
	return all[0].split(p, func(q piece) error { return rest.split(q, emit) })
}

func (b *byteLevel) split(p piece, emit func(piece) error) error {
	text := p.text
	if b.prefixSpace && text[0] != ' ' {
		text = " " + text
	}
	hand := func(text string, head bool) error {
		if !b.raw {
			text = mapBytes(text)
		}
		return emit(piece{text, head})
	}
	if b.pattern == nil {
		return hand(text, p.head)
	}
	return splitMatches(piece{text, p.head}, b.pattern, false, isolated, func(q piece) error { return hand(q.text, q.head) })
}

func (m metaspace) split(p piece, emit func(piece) error) error {
	text := strings.ReplaceAll(p.text, " ", m.mark)
	if (m.scheme == "always" || m.scheme == "first" && p.head) && !strings.HasPrefix(text, m.mark) {
		text = m.mark + text
	}
	if !m.cut {
		return emit(piece{text, p.head})
	}
	mark, _ := utf8.DecodeRuneInString(m.mark)
	return runeSplit{func(r rune) bool { return r == mark }, mergedWithNext}.split(piece{text, p.head}, emit)
}

func (s patternSplit) split(p piece, emit func(piece) error) error {
	return splitMatches(p, s.pattern, s.invert, s.behavior, emit)
}

// whitespaceWords is the Whitespace pre-tokenizer: runs of \w and runs of
// neither \w nor \s, by the regex crate's tables, which are not Oniguruma's.
type whitespaceWords struct{}

func (whitespaceWords) split(p piece, emit func(piece) error) error {
	kind := func(c rune) uint32 {
		switch flags := runeFlags(c); {
		case flags&flagCrateWord != 0:
			return flagCrateWord
		default:
			return flags & flagCrateSpace
		}
	}
	start, last := 0, uint32(flagCrateSpace)
	for i, c := range p.text {
		k := kind(c)
		if k == last {
			continue
		}
		if last != flagCrateSpace && i > start {
			if err := emit(piece{p.text[start:i], p.head && start == 0}); err != nil {
				return err
			}
		}
		start, last = i, k
	}
	if last == flagCrateSpace {
		return nil
	}
	return emit(piece{p.text[start:], p.head && start == 0})
}

func (f fixedLength) split(p piece, emit func(piece) error) error {
	start, count := 0, 0
	for i := range p.text {
		if count == f.length {
			if err := emit(piece{p.text[start:i], p.head && start == 0}); err != nil {
				return err
			}
			start, count = i, 0
		}
		count++
	}
	return emit(piece{p.text[start:], p.head && start == 0})
}
