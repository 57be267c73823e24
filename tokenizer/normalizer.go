package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// normalizer rewrites text before it is split. cut reports that the beginning
// of the text was dropped, so that what is left no longer starts where the
// original did (Metaspace's "first" rule asks).
type normalizer interface {
	normalize(text string) (out string, cut bool, err error)
}

type (
	normalizerSequence []normalizer
	lowercase          struct{}
	stripSpaces        struct{ left, right bool }
	stripAccents       struct{}
	replacement        struct {
		pattern *pattern
		content string
		literal string // the pattern where it is plain text
	}
	prependText   struct{ text string }
	byteLevelText struct{}
	nmt           struct{}
	bertText      struct{ clean, chinese, accents, lower bool }
)

// textPattern is {"String": s} or {"Regex": s}.
type textPattern struct {
	String *string
	Regex  *string
}

// compile returns the pattern, and its text if it is a plain, non-empty string.
func (p textPattern) compile() (*pattern, string, error) {
	switch {
	case p.Regex != nil:
		compiled, err := compilePattern(*p.Regex)
		return compiled, "", err
	case p.String != nil:
		compiled, err := literalPattern(*p.String)
		return compiled, *p.String, err
	}
	return nil, "", fmt.Errorf(`pattern without "String" or "Regex"`)
}

// newNormalizer reads the "normalizer" part of a tokenizer.json.
func newNormalizer(data json.RawMessage, depth int) (normalizer, error) {
	var c struct {
		Type                   string
		Normalizers            []json.RawMessage
		StripLeft              bool `json:"strip_left"`
		StripRight             bool `json:"strip_right"`
		Pattern                textPattern
		Content                string
		Prepend                string
		PrecompiledCharsmap    []byte `json:"precompiled_charsmap"`
		Lowercase              *bool
		CleanTextSnake         *bool `json:"clean_text"`
		HandleChineseCharsFlag *bool `json:"handle_chinese_chars"`
		StripAccentsFlag       *bool `json:"strip_accents"`
	}
	if absent(data) {
		return nil, nil
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, fmt.Errorf("normalizer: %w", err)
	}
	switch c.Type {
	case "Sequence":
		if depth > maxParts {
			return nil, fmt.Errorf("normalizer: sequences nested more than %d deep", maxParts)
		}
		var all normalizerSequence
		for _, part := range c.Normalizers {
			n, err := newNormalizer(part, depth+1)
			if err != nil {
				return nil, err
			}
			if n != nil {
				all = append(all, n)
			}
		}
		return all, nil
	case "NFC", "NFD", "NFKC", "NFKD":
		return unicodeForm{compose: c.Type[len(c.Type)-1] == 'C', compatible: len(c.Type) == 4}, nil
	case "Lowercase":
		return lowercase{}, nil
	case "Strip":
		return stripSpaces{c.StripLeft, c.StripRight}, nil
	case "StripAccents":
		return stripAccents{}, nil
	case "Replace":
		p, literal, err := c.Pattern.compile()
		if err != nil {
			return nil, fmt.Errorf("normalizer Replace: %w", err)
		}
		return replacement{p, c.Content, literal}, nil
	case "Prepend":
		return prependText{c.Prepend}, nil
	case "Precompiled":
		return newCharsMap(c.PrecompiledCharsmap)
	case "ByteLevel":
		return byteLevelText{}, nil
	case "Nmt":
		return nmt{}, nil
	case "BertNormalizer":
		lower := c.Lowercase == nil || *c.Lowercase
		accents := lower
		if c.StripAccentsFlag != nil {
			accents = *c.StripAccentsFlag
		}
		return bertText{
			clean:   c.CleanTextSnake == nil || *c.CleanTextSnake,
			chinese: c.HandleChineseCharsFlag == nil || *c.HandleChineseCharsFlag,
			accents: accents, lower: lower,
		}, nil
	}
	return nil, fmt.Errorf("normalizer: type %q is unknown", c.Type)
}

func (all normalizerSequence) normalize(text string) (string, bool, error) {
	cut, given := false, text
	for _, n := range all {
		out, c, err := n.normalize(text)
		if err == nil && tooLong(given, len(out)) {
			err = errGrowth
		}
		if err != nil {
			return "", false, err
		}
		text, cut = out, cut || c
	}
	return text, cut, nil
}

func (lowercase) normalize(text string) (string, bool, error) { return lowerText(text), false, nil }

// lowerText lowers each code point by itself (a final sigma is not special).
func lowerText(text string) string {
	i := 0
	for i < len(text) && text[i] < utf8.RuneSelf && (text[i] < 'A' || text[i] > 'Z') {
		i++
	}
	if i == len(text) {
		return text
	}
	out := make([]byte, 0, len(text)+8)
	for _, c := range text {
		if c < utf8.RuneSelf {
			if c >= 'A' && c <= 'Z' {
				c += 'a' - 'A'
			}
			out = append(out, byte(c))
		} else if low, ok := lowerRunes[c]; ok {
			out = append(out, low...)
		} else {
			out = utf8.AppendRune(out, c)
		}
	}
	return string(out)
}

func (s stripSpaces) normalize(text string) (string, bool, error) {
	white := func(c rune) bool { return runeIs(c, flagWhite) }
	size := len(text)
	if s.left {
		text = strings.TrimLeftFunc(text, white)
	}
	cut := len(text) < size
	if s.right {
		text = strings.TrimRightFunc(text, white)
	}
	return text, cut, nil
}

// dropRunes removes the code points with one of the flags.
func dropRunes(text string, flag uint32) (string, bool) {
	has := func(c rune) bool { return runeIs(c, flag) }
	if strings.IndexFunc(text, has) < 0 {
		return text, false
	}
	first, _ := utf8.DecodeRuneInString(text)
	return strings.Map(func(c rune) rune {
		if has(c) {
			return -1
		}
		return c
	}, text), has(first)
}

func (stripAccents) normalize(text string) (string, bool, error) {
	out, cut := dropRunes(text, flagAccent)
	return out, cut, nil
}

// errGrowth reports a normalizer that makes a text many times as long.
var errGrowth = errors.New("normalizing makes the text more than 64 times as long")

// tooLong reports whether size is beyond what normalizing text may give.
func tooLong(text string, size int) bool { return size > 64*len(text)+1<<20 }

func (r replacement) normalize(text string) (string, bool, error) {
	if r.literal != "" {
		if tooLong(text, len(text)+strings.Count(text, r.literal)*len(r.content)) {
			return "", false, errGrowth
		}
		cut := r.content == "" && strings.HasPrefix(text, r.literal)
		return strings.ReplaceAll(text, r.literal, r.content), cut, nil
	}
	var out strings.Builder
	last, cut := 0, false
	err := r.pattern.each(text, func(start, end int) {
		if tooLong(text, out.Len()+len(r.content)) {
			return
		}
		cut = cut || (start == 0 && end > 0 && r.content == "")
		out.WriteString(text[last:start])
		out.WriteString(r.content)
		last = end
	})
	if err == nil && tooLong(text, out.Len()+len(r.content)) {
		err = errGrowth
	}
	if err != nil {
		return "", false, err
	}
	if last == 0 && out.Len() == 0 {
		return text, false, nil
	}
	out.WriteString(text[last:])
	return out.String(), cut, nil
}

func (p prependText) normalize(text string) (string, bool, error) {
	if text == "" {
		return text, false, nil
	}
	if tooLong(text, len(p.text)) {
		return "", false, errGrowth
	}
	return p.text + text, false, nil
}

func (byteLevelText) normalize(text string) (string, bool, error) {
	return mapBytes(text), false, nil
}

func (nmt) normalize(text string) (string, bool, error) {
	dropped := func(c rune) bool {
		return c >= 1 && c <= 8 || c == 0xB || c >= 0xE && c <= 0x1F || c == 0x7F || c == 0x8F || c == 0x9F
	}
	first, _ := utf8.DecodeRuneInString(text)
	out := strings.Map(func(c rune) rune {
		switch {
		case dropped(c):
			return -1
		case c == '\t', c == '\n', c == '\f', c == '\r', c == 0x1680, c >= 0x200B && c <= 0x200F,
			c == 0x2028, c == 0x2029, c == 0x2581, c == 0xFEFF, c == 0xFFFD:
			return ' '
		}
		return c
	}, text)
	return out, text != "" && dropped(first), nil
}

func (b bertText) normalize(text string) (string, bool, error) {
	cut := false
	if b.clean {
		text, cut = cleanText(text)
	}
	if b.chinese {
		var out strings.Builder
		for _, c := range text {
			if chinese(c) {
				out.WriteByte(' ')
				out.WriteRune(c)
				out.WriteByte(' ')
			} else {
				out.WriteRune(c)
			}
		}
		text = out.String()
	}
	if b.accents {
		text, _, _ = unicodeForm{}.normalize(text)
		var dropped bool
		text, dropped = dropRunes(text, flagMark)
		cut = cut || dropped
	}
	if b.lower {
		text = lowerText(text)
	}
	return text, cut, nil
}

// cleanText drops control characters and makes all white space a blank.
func cleanText(text string) (string, bool) {
	dropped := func(c rune) bool {
		if c == '\t' || c == '\n' || c == '\r' {
			return false
		}
		return c == 0 || c == utf8.RuneError || runeIs(c, flagControl)
	}
	first, _ := utf8.DecodeRuneInString(text)
	out := strings.Map(func(c rune) rune {
		switch {
		case dropped(c):
			return -1
		case c == '\t' || c == '\n' || c == '\r' || runeIs(c, flagWhite):
			return ' '
		}
		return c
	}, text)
	return out, text != "" && dropped(first)
}

// chinese reports whether BERT puts blanks around c.
func chinese(c rune) bool {
	return c >= 0x4E00 && c <= 0x9FFF || c >= 0x3400 && c <= 0x4DBF || c >= 0x20000 && c <= 0x2A6DF ||
		c >= 0x2A700 && c <= 0x2B73F || c >= 0x2B740 && c <= 0x2B81F || c >= 0x2B920 && c <= 0x2CEAF ||
		c >= 0xF900 && c <= 0xFAFF || c >= 0x2F800 && c <= 0x2FA1F
}
