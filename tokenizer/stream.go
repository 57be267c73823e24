package tokenizer

import "strings"

// Stream decodes ids one at a time. What it returns, put together, is what
// Decode returns for all of the ids; it never ends inside a character. A Stream
// belongs to one goroutine.
type Stream struct {
	t           *Tokenizer
	skipSpecial bool
	stages      []stage
	sinks       []sink
	out         strings.Builder
	first       bool
	closed      bool
}

// NewStream begins a text; with skipSpecial the special tokens are left out.
func (t *Tokenizer) NewStream(skipSpecial bool) *Stream {
	s := &Stream{t: t, skipSpecial: skipSpecial, first: true}
	s.stages, s.sinks = make([]stage, len(t.stages)), make([]sink, len(t.stages)+1)
	s.sinks[len(t.stages)] = func(text string, _ bool) { s.out.WriteString(text) }
	for i := len(t.stages) - 1; i >= 0; i-- {
		st, next := t.stages[i](), s.sinks[i+1]
		s.stages[i] = st
		s.sinks[i] = func(text string, end bool) { st.push(text, end, next) }
	}
	return s
}

// Push adds an id and returns the text that is settled by now, possibly none.
// An id that no token has is passed over.
func (s *Stream) Push(id int) string {
	s.push(id)
	if s.t.finish != nil {
		return ""
	}
	return s.take()
}

func (s *Stream) push(id int) {
	token, ok := s.t.IDToToken(id)
	if !ok || (s.skipSpecial && s.t.added.special[token]) {
		return
	}
	if s.t.joined && !s.first {
		s.out.WriteByte(' ')
	}
	s.first = false
	s.sinks[0](token, true)
}

// Flush ends the text and returns what was held back. The stream is used up.
func (s *Stream) Flush() string {
	if s.closed {
		return ""
	}
	s.closed = true
	for i, st := range s.stages {
		st.flush(s.sinks[i+1])
	}
	text := s.take()
	if s.t.finish != nil {
		text = s.t.finish(text)
	}
	return text
}

func (s *Stream) take() string {
	text := s.out.String()
	s.out.Reset()
	return text
}

// Decode returns the text of ids. Ids that no token has are passed over.
func (t *Tokenizer) Decode(ids []int, skipSpecial bool) string {
	s := t.NewStream(skipSpecial)
	for _, id := range ids {
		s.push(id)
	}
	return s.Flush()
}

// replacer replaces one text after the other, unlike strings.Replacer, which
// goes over the text once.
type replacer []string

func (r replacer) Replace(text string) string {
	for i := 0; i < len(r); i += 2 {
		text = strings.ReplaceAll(text, r[i], r[i+1])
	}
	return text
}

var (
	// pieceCleanup is the clean-up of the WordPiece decoder.
	pieceCleanup = replacer{
		" .", ".", " ?", "?", " !", "!", " ,", ",", " ' ", "'", " n't", "n't", " 'm", "'m",
		" do not", " don't", " 's", "'s", " 've", "'ve", " 're", "'re",
	}
	// textCleanup is that of transformers (clean_up_tokenization_spaces).
	textCleanup = replacer{
		" .", ".", " ?", "?", " !", "!", " ,", ",", " ' ", "'", " n't", "n't", " 'm", "'m",
		" 's", "'s", " 've", "'ve", " 're", "'re",
	}
)

// pythonSpace reports what str.strip() strips.
func pythonSpace(c rune) bool {
	return runeIs(c, flagWhite) || c >= 0x1C && c <= 0x1F
}
