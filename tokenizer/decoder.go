package tokenizer

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A decoder is a chain of stages through which the tokens flow, one by one, so
// that decoding in a stream and at once is the same. Text may come in parts:
// end marks the last part of a token.
type stage interface {
	push(text string, end bool, out sink)
	flush(out sink)
}

type sink func(text string, end bool)

// newStages reads the "decoder" part of a tokenizer.json and returns what makes
// the stages of one stream.
func newStages(data json.RawMessage, depth int) ([]func() stage, error) {
	var c struct {
		Type           string
		Decoders       []json.RawMessage
		Pattern        textPattern
		Content        string
		Start, Stop    int
		Suffix         *string
		Prefix         *string
		Cleanup        *bool
		Replacement    string
		PrependScheme  string `json:"prepend_scheme"`
		AddPrefixSpace *bool  `json:"add_prefix_space"`
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, fmt.Errorf("decoder: %w", err)
	}
	one := func(s func() stage) ([]func() stage, error) { return []func() stage{s}, nil }
	switch c.Type {
	case "Sequence":
		if depth > maxParts {
			return nil, fmt.Errorf("decoder: sequences nested more than %d deep", maxParts)
		}
		var all []func() stage
		for _, part := range c.Decoders {
			stages, err := newStages(part, depth+1)
			if err != nil {
				return nil, err
			}
			all = append(all, stages...)
		}
		return all, nil
	case "ByteLevel":
		return one(func() stage { return &bytesStage{} })
	case "ByteFallback":
		return one(func() stage { return &fallbackStage{} })
	case "Fuse":
		return one(func() stage { return fuseStage{} })
	case "Replace":
		p, literal, err := c.Pattern.compile()
		if err != nil {
			return nil, fmt.Errorf("decoder Replace: %w", err)
		}
		r := replacement{p, c.Content, literal}
		return one(func() stage {
			return &tokenStage{change: func(token string, _ int) string {
				out, _, err := r.normalize(token)
				if err != nil {
					return token
				}
				return out
			}}
		})
	case "Strip":
		content, size := utf8.DecodeRuneInString(c.Content)
		if size == 0 || size != len(c.Content) {
			return nil, fmt.Errorf("decoder Strip: content %q, want one character", c.Content)
		}
		if c.Stop <= 0 {
			return one(func() stage { return &stripStage{content: c.Content, count: c.Start, left: c.Start} })
		}
		return one(func() stage {
			return &tokenStage{change: func(token string, _ int) string { return strip(token, content, c.Start, c.Stop) }}
		})
	case "Metaspace":
		m, err := newMetaspace(c.Replacement, c.PrependScheme, c.AddPrefixSpace, nil)
		if err != nil {
			return nil, err
		}
		return one(func() stage {
			return &tokenStage{change: func(token string, i int) string {
				if i == 0 && m.scheme != "never" {
					return strings.ReplaceAll(token, m.mark, "")
				}
				return strings.ReplaceAll(token, m.mark, " ")
			}}
		})
	case "WordPiece":
		prefix, clean := "##", c.Cleanup == nil || *c.Cleanup
		if c.Prefix != nil {
			prefix = *c.Prefix
		}
		return one(func() stage {
			return &tokenStage{change: func(token string, i int) string { return joinPiece(token, i, prefix, clean) }}
		})
	case "BPEDecoder":
		suffix := "</w>"
		if c.Suffix != nil {
			suffix = *c.Suffix
		}
		return one(func() stage { return &suffixStage{suffix: suffix} })
	}
	return nil, fmt.Errorf("decoder: type %q is unknown", c.Type)
}

// tokenStage changes whole tokens; i counts them from zero.
type tokenStage struct {
	change  func(token string, i int) string
	count   int
	pending string
}

func (s *tokenStage) push(text string, end bool, out sink) {
	s.pending += text
	if end {
		if changed := s.change(s.pending, s.count); len(changed) <= maxToken {
			s.pending = changed
		}
		out(s.pending, true)
		s.count, s.pending = s.count+1, ""
	}
}

func (s *tokenStage) flush(sink) {}

// maxToken is how long a stage may make a token; a change beyond it is not done.
const maxToken = 1 << 24

// fuseStage makes all tokens one.
type fuseStage struct{}

func (fuseStage) push(text string, _ bool, out sink) { out(text, false) }
func (fuseStage) flush(out sink)                     { out("", true) }

// stripStage drops up to count times content at the beginning of each token.
type stripStage struct {
	content     string
	count, left int
}

func (s *stripStage) push(text string, end bool, out sink) {
	for s.left > 0 && text != "" {
		after, ok := strings.CutPrefix(text, s.content)
		if !ok {
			s.left = 0
			break
		}
		text, s.left = after, s.left-1
	}
	if end {
		s.left = s.count
	}
	out(text, end)
}

func (s *stripStage) flush(sink) {}

func strip(token string, content rune, start, stop int) string {
	size := utf8.RuneLen(content)
	for range start {
		if c, _ := utf8.DecodeRuneInString(token); c != content || token == "" {
			break
		}
		token = token[size:]
	}
	for range stop {
		if c, _ := utf8.DecodeLastRuneInString(token); c != content || token == "" {
			break
		}
		token = token[:len(token)-size]
	}
	return token
}

// bytesStage turns the characters of the byte-level alphabet into bytes and
// hands on what is complete UTF-8; a token with another character is taken as
// it is.
type bytesStage struct {
	token   string
	pending []byte
}

func (s *bytesStage) push(text string, end bool, out sink) {
	if s.token += text; !end {
		return
	}
	size := len(s.pending)
	var ok bool
	if s.pending, ok = unmapBytes(s.pending, s.token); !ok {
		s.pending = append(s.pending[:size], s.token...)
	}
	s.token = ""
	ready := len(s.pending) - incomplete(string(s.pending[max(0, len(s.pending)-4):]))
	if ready > 0 {
		out(validText(string(s.pending[:ready])), false)
		s.pending = append(s.pending[:0], s.pending[ready:]...)
	}
}

func (s *bytesStage) flush(out sink) {
	out(validText(string(s.pending)), true)
	s.pending = s.pending[:0]
}

// fallbackStage joins runs of byte tokens (<0x0A>): a run that is valid UTF-8
// becomes its text, any other run one U+FFFD a byte.
type fallbackStage struct {
	token string
	run   []byte
}

func (s *fallbackStage) push(text string, end bool, out sink) {
	if s.token += text; !end {
		return
	}
	token := s.token
	s.token = ""
	if b, ok := byteToken(token); ok {
		s.run = append(s.run, b)
		return
	}
	s.flush(out)
	out(token, true)
}

func (s *fallbackStage) flush(out sink) {
	if len(s.run) == 0 {
		return
	}
	if utf8.Valid(s.run) {
		out(string(s.run), true)
	} else {
		for range s.run {
			out("\uFFFD", true)
		}
	}
	s.run = s.run[:0]
}

// byteToken reads <0x0A>; as in the reference, the digits may be "+A".
func byteToken(token string) (byte, bool) {
	if len(token) != 6 || token[:3] != "<0x" || token[5] != '>' {
		return 0, false
	}
	v, err := strconv.ParseUint(strings.TrimPrefix(token[3:5], "+"), 16, 8)
	return byte(v), err == nil
}

// suffixStage makes the suffix a blank, and nothing in the last token.
type suffixStage struct {
	suffix string
	token  string
	held   string
	holds  bool
}

func (s *suffixStage) push(text string, end bool, out sink) {
	if s.token += text; !end {
		return
	}
	if s.holds {
		out(strings.ReplaceAll(s.held, s.suffix, " "), true)
	}
	s.held, s.holds, s.token = s.token, true, ""
}

func (s *suffixStage) flush(out sink) {
	if s.holds {
		out(strings.ReplaceAll(s.held, s.suffix, ""), true)
	}
	s.holds = false
}

// joinPiece is WordPiece's way to join tokens.
func joinPiece(token string, i int, prefix string, clean bool) string {
	if i > 0 {
		after, ok := strings.CutPrefix(token, prefix)
		if !ok {
			after = " " + token
		}
		token = after
	}
	if clean {
		token = pieceCleanup.Replace(token)
	}
	return token
}
