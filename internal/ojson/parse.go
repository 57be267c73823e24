package ojson

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// MaxDepth is how deep arrays and objects may nest.
const MaxDepth = 100

// Parse reads one value that fills data but for white space around it. Memory
// is bounded by a small multiple of len(data), which the caller limits. Like
// Python's json it takes NaN, Infinity and -Infinity for numbers.
func Parse(data []byte) (Value, error) {
	p := parser{s: string(data)}
	if i := invalidUTF8(p.s); i >= 0 {
		return Value{}, &SyntaxError{i, "text is not UTF-8"}
	}
	v, err := p.value(0)
	if err != nil {
		return Value{}, err
	}
	p.space()
	if p.i < len(p.s) {
		return Value{}, p.errorf("%s after the value", p.seen())
	}
	return v, nil
}

func invalidUTF8(s string) int {
	if utf8.ValidString(s) {
		return -1
	}
	for i, r := range s {
		if r == utf8.RuneError {
			if _, n := utf8.DecodeRuneInString(s[i:]); n == 1 {
				return i
			}
		}
	}
	return -1
}

type parser struct {
	s string
	i int
}

func (p *parser) errorf(format string, args ...any) error {
	return &SyntaxError{p.i, fmt.Sprintf(format, args...)}
}

// seen describes the next character, for an error.
func (p *parser) seen() string {
	if p.i >= len(p.s) {
		return "end of text"
	}
	r, _ := utf8.DecodeRuneInString(p.s[p.i:])
	return strconv.QuoteRune(r)
}

func (p *parser) space() {
	for p.i < len(p.s) {
		switch p.s[p.i] {
		case ' ', '\t', '\n', '\r':
			p.i++
		default:
			return
		}
	}
}

// next skips white space and returns the character there, 0 at the end.
func (p *parser) next() byte {
	p.space()
	if p.i < len(p.s) {
		return p.s[p.i]
	}
	return 0
}

func (p *parser) value(depth int) (Value, error) {
	if depth > MaxDepth {
		return Value{}, p.errorf("nested deeper than %d", MaxDepth)
	}
	switch c := p.next(); {
	case c == '{':
		return p.object(depth)
	case c == '[':
		return p.array(depth)
	case c == '"':
		s, err := p.str()
		return Value{Kind: String, Text: s}, err
	case c == '-' || c >= '0' && c <= '9':
		return p.number()
	}
	for _, w := range literals {
		if strings.HasPrefix(p.s[p.i:], w.text) {
			p.i += len(w.text)
			return w.value, nil
		}
	}
	return Value{}, p.errorf("%s where a value should stand", p.seen())
}

var literals = []struct {
	text  string
	value Value
}{
	{"null", Value{}},
	{"true", Value{Kind: Bool, Bool: true}},
	{"false", Value{Kind: Bool}},
	{"NaN", Value{Kind: Number, Text: "NaN"}},
	{"Infinity", Value{Kind: Number, Text: "Infinity"}},
}

func (p *parser) object(depth int) (Value, error) {
	v := Value{Kind: Object}
	p.i++ // {
	if p.next() == '}' {
		p.i++
		return v, nil
	}
	var names map[string]struct{} // once there are more than a few
	for {
		if p.next() != '"' {
			return v, p.errorf("%s where a member's name should stand", p.seen())
		}
		start := p.i
		name, err := p.str()
		if err != nil {
			return v, err
		}
		if dup(v.Members, &names, name) {
			p.i = start
			return v, p.errorf("name %.100q occurs twice in one object", name)
		}
		if p.next() != ':' {
			return v, p.errorf("%s where a colon should stand", p.seen())
		}
		p.i++
		val, err := p.value(depth + 1)
		if err != nil {
			return v, err
		}
		v.Members = append(v.Members, Member{name, val})
		switch p.next() {
		case ',':
			p.i++
		case '}':
			p.i++
			return v, nil
		default:
			return v, p.errorf("%s where a comma or a closing brace should stand", p.seen())
		}
	}
}

// dup reports whether name is among the members already. Small objects are
// searched, larger ones keep a set.
func dup(members []Member, names *map[string]struct{}, name string) bool {
	if len(members) < 8 {
		for i := range members {
			if members[i].Name == name {
				return true
			}
		}
		return false
	}
	if *names == nil {
		*names = make(map[string]struct{}, 2*len(members))
		for i := range members {
			(*names)[members[i].Name] = struct{}{}
		}
	}
	if _, ok := (*names)[name]; ok {
		return true
	}
	(*names)[name] = struct{}{}
	return false
}

func (p *parser) array(depth int) (Value, error) {
	v := Value{Kind: Array}
	p.i++ // [
	if p.next() == ']' {
		p.i++
		return v, nil
	}
	for {
		e, err := p.value(depth + 1)
		if err != nil {
			return v, err
		}
		v.Elems = append(v.Elems, e)
		switch p.next() {
		case ',':
			p.i++
		case ']':
			p.i++
			return v, nil
		default:
			return v, p.errorf("%s where a comma or a closing bracket should stand", p.seen())
		}
	}
}

func (p *parser) number() (Value, error) {
	start := p.i
	if p.s[p.i] == '-' {
		p.i++
		if strings.HasPrefix(p.s[p.i:], "Infinity") {
			p.i += len("Infinity")
			return Value{Kind: Number, Text: p.s[start:p.i]}, nil
		}
	}
	switch {
	case p.i < len(p.s) && p.s[p.i] == '0':
		p.i++
	case !p.digits():
		return Value{}, p.errorf("%s where a digit should stand", p.seen())
	}
	if p.i < len(p.s) && p.s[p.i] == '.' {
		p.i++
		if !p.digits() {
			return Value{}, p.errorf("%s where a digit should stand", p.seen())
		}
	}
	if p.i < len(p.s) && (p.s[p.i] == 'e' || p.s[p.i] == 'E') {
		p.i++
		if p.i < len(p.s) && (p.s[p.i] == '+' || p.s[p.i] == '-') {
			p.i++
		}
		if !p.digits() {
			return Value{}, p.errorf("%s where a digit should stand", p.seen())
		}
	}
	return Value{Kind: Number, Text: p.s[start:p.i]}, nil
}

func (p *parser) digits() bool {
	start := p.i
	for p.i < len(p.s) && p.s[p.i] >= '0' && p.s[p.i] <= '9' {
		p.i++
	}
	return p.i > start
}

// str reads a string; the text is shared with the source where it holds no
// escape.
func (p *parser) str() (string, error) {
	p.i++ // "
	start := p.i
	for p.i < len(p.s) {
		switch c := p.s[p.i]; {
		case c == '"':
			s := p.s[start:p.i]
			p.i++
			return s, nil
		case c == '\\':
			return p.escaped(start)
		case c < 0x20:
			return "", p.errorf("control character %s in a string", p.seen())
		}
		p.i++
	}
	return "", p.errorf("a string does not end")
}

func (p *parser) escaped(start int) (string, error) {
	var b strings.Builder
	b.WriteString(p.s[start:p.i])
	for p.i < len(p.s) {
		c := p.s[p.i]
		switch {
		case c == '"':
			p.i++
			return b.String(), nil
		case c < 0x20:
			return "", p.errorf("control character %s in a string", p.seen())
		case c != '\\':
			b.WriteByte(c)
			p.i++
			continue
		}
		if p.i+1 >= len(p.s) {
			break
		}
		if at := strings.IndexByte(`"\/bfnrt`, p.s[p.i+1]); at >= 0 {
			b.WriteByte("\"\\/\b\f\n\r\t"[at])
			p.i += 2
			continue
		}
		r, n, ok := unicodeEscape(p.s[p.i:])
		if !ok {
			return "", p.errorf("invalid escape in a string")
		}
		b.WriteRune(r)
		p.i += n
	}
	return "", p.errorf("a string does not end")
}

// unicodeEscape reads \uXXXX, or two of them that form a surrogate pair, at
// the start of s and returns the character and the bytes it took.
func unicodeEscape(s string) (r rune, n int, ok bool) {
	hi, ok := hex4(s)
	if !ok || !utf16.IsSurrogate(hi) {
		return hi, 6, ok
	}
	lo, ok := hex4(s[6:])
	if r = utf16.DecodeRune(hi, lo); !ok || r == utf8.RuneError {
		return 0, 0, false
	}
	return r, 12, true
}

func hex4(s string) (rune, bool) {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(s[2:6], 16, 16)
	return rune(n), err == nil
}
