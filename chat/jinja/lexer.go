package jinja

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

type tokenKind uint8

const (
	tokEnd tokenKind = iota
	tokText
	tokVariable    // {{
	tokVariableEnd // }}
	tokBlock       // {%
	tokBlockEnd    // %}
	tokName
	tokString
	tokInt
	tokFloat
	tokSymbol
)

type token struct {
	kind tokenKind
	text string
	line int
}

// lex cuts a template into tokens, with the white-space rules that
// transformers sets: trim_blocks and lstrip_blocks.
func lex(source string) []token {
	source = strings.ReplaceAll(strings.ReplaceAll(source, "\r\n", "\n"), "\r", "\n")
	l := &lexer{source: strings.TrimSuffix(source, "\n"), line: 1, lineStart: true}
	for l.at < len(l.source) {
		l.text()
	}
	return append(l.tokens, token{tokEnd, "", l.line})
}

type lexer struct {
	source    string
	at, line  int
	lineStart bool // what was read last ended a line
	tokens    []token
}

func (l *lexer) add(kind tokenKind, text string) {
	l.tokens = append(l.tokens, token{kind, text, l.line})
	if len(l.tokens) > maxTokens {
		fail(l.line, "template of more than %d tokens", maxTokens)
	}
}

// skip moves on by n bytes and counts lines.
func (l *lexer) skip(n int) {
	read := l.source[l.at : l.at+n]
	l.line += strings.Count(read, "\n")
	if n > 0 {
		l.lineStart = read[n-1] == '\n'
	}
	l.at += n
}

// text reads up to the next tag, and that tag.
func (l *lexer) text() {
	rest := l.source[l.at:]
	open := -1
	for i := 0; i+1 < len(rest); i++ {
		if rest[i] == '{' && (rest[i+1] == '{' || rest[i+1] == '%' || rest[i+1] == '#') {
			open = i
			break
		}
	}
	if open < 0 {
		l.add(tokText, rest)
		l.skip(len(rest))
		return
	}
	text, kind, sign := rest[:open], rest[open+1], byte(0)
	if open+2 < len(rest) && (rest[open+2] == '-' || rest[open+2] == '+' && kind != '{') {
		sign = rest[open+2]
	}
	kept := text
	if sign == '-' {
		kept = strings.TrimRightFunc(text, unicode.IsSpace)
	} else if sign == 0 && kind != '{' {
		line := strings.LastIndexByte(text, '\n') + 1
		if (line > 0 || l.lineStart) && strings.Trim(text[line:], " \t") == "" {
			kept = text[:line]
		}
	}
	if kept != "" {
		l.add(tokText, kept)
	}
	l.skip(open + 2)
	if sign != 0 {
		l.skip(1)
	}
	switch kind {
	case '#':
		l.comment()
	case '{':
		l.add(tokVariable, "")
		l.expression("}}", tokVariableEnd)
	default:
		if !l.raw() {
			l.add(tokBlock, "")
			l.expression("%}", tokBlockEnd)
		}
	}
}

// end consumes what closes a tag, its sign and the white space it takes.
func (l *lexer) end(size int, sign byte, trim bool) {
	l.skip(size)
	rest := l.source[l.at:]
	if sign == '-' {
		l.skip(len(rest) - len(strings.TrimLeftFunc(rest, unicode.IsSpace)))
	} else if sign == 0 && trim && strings.HasPrefix(rest, "\n") {
		l.skip(1)
	}
}

func (l *lexer) comment() {
	n := strings.Index(l.source[l.at:], "#}")
	if n < 0 {
		fail(l.line, "comment without end")
	}
	sign := byte(0)
	if n > 0 {
		if c := l.source[l.at+n-1]; c == '-' || c == '+' {
			sign = c
		}
	}
	l.end(n+2, sign, true)
}

// raw reads a whole {% raw %} block, if that is what follows.
func (l *lexer) raw() bool {
	rest := l.source[l.at:]
	body, ok := strings.CutPrefix(strings.TrimLeftFunc(rest, unicode.IsSpace), "raw")
	if !ok {
		return false
	}
	body = strings.TrimLeftFunc(body, unicode.IsSpace)
	strip := strings.HasPrefix(body, "-%}")
	if body, ok = strings.CutPrefix(strings.TrimPrefix(body, "-"), "%}"); !ok {
		return false
	}
	if strip {
		body = strings.TrimLeftFunc(body, unicode.IsSpace)
	}
	l.skip(len(rest) - len(body))
	for from := 0; ; {
		i := strings.Index(body[from:], "{%")
		if i < 0 {
			fail(l.line, "raw block without end")
		}
		i += from
		tag := body[i+2:]
		open := byte(0)
		if tag != "" && (tag[0] == '-' || tag[0] == '+') {
			open, tag = tag[0], tag[1:]
		}
		after, ok := strings.CutPrefix(strings.TrimLeftFunc(tag, unicode.IsSpace), "endraw")
		if after = strings.TrimLeftFunc(after, unicode.IsSpace); ok {
			sign := byte(0)
			if after != "" && (after[0] == '-' || after[0] == '+') {
				sign, after = after[0], after[1:]
			}
			if strings.HasPrefix(after, "%}") {
				text := body[:i]
				if open == '-' {
					text = strings.TrimRightFunc(text, unicode.IsSpace)
				} else if line := strings.LastIndexByte(text, '\n') + 1; open == 0 && line > 0 && strings.Trim(text[line:], " \t") == "" {
					text = text[:line]
				}
				l.add(tokText, text)
				l.end(len(body)-len(after)+2, sign, true)
				return true
			}
		}
		from = i + 2
	}
}

var symbols = []string{
	"**", "//", "==", "!=", "<=", ">=", "+", "-", "*", "/", "%", "~", "<", ">", "=", "(", ")", "[", "]", "{", "}", ",", ":", ".", "|", ";",
}

// expression reads tokens up to the end of a tag.
func (l *lexer) expression(closing string, kind tokenKind) {
	depth := 0
	for {
		rest := l.source[l.at:]
		trimmed := strings.TrimLeftFunc(rest, unicode.IsSpace)
		l.skip(len(rest) - len(trimmed))
		if trimmed == "" {
			fail(l.line, "tag without %s", closing)
		}
		if depth == 0 {
			sign := byte(0)
			end := trimmed
			if end[0] == '-' || end[0] == '+' && closing == "%}" {
				sign, end = end[0], end[1:]
			}
			if strings.HasPrefix(end, closing) {
				l.add(kind, "")
				l.end(len(trimmed)-len(end)+2, sign, closing == "%}")
				return
			}
		}
		c := trimmed[0]
		switch {
		case c == '"' || c == '\'':
			l.quoted(trimmed, c)
		case c >= '0' && c <= '9':
			l.number(trimmed)
		case c == '_' || c >= utf8.RuneSelf || unicode.IsLetter(rune(c)):
			n := strings.IndexFunc(trimmed, func(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) })
			if n < 0 {
				n = len(trimmed)
			}
			if n == 0 {
				fail(l.line, "unexpected %.4q", trimmed)
			}
			l.add(tokName, trimmed[:n])
			l.skip(n)
		default:
			depth += l.symbol(trimmed)
		}
	}
}

// symbol reads an operator and returns how it changes the nesting.
func (l *lexer) symbol(text string) int {
	for _, s := range symbols {
		if strings.HasPrefix(text, s) {
			l.add(tokSymbol, s)
			l.skip(len(s))
			switch s {
			case "(", "[", "{":
				return 1
			case ")", "]", "}":
				return -1
			}
			return 0
		}
	}
	fail(l.line, "unexpected %.4q", text)
	return 0
}

func (l *lexer) number(text string) {
	n, float := 0, false
	for n < len(text) {
		c := text[n]
		switch {
		case c >= '0' && c <= '9' || c == '_':
		case c == '.' && !float && n+1 < len(text) && text[n+1] >= '0' && text[n+1] <= '9':
			float = true
		case (c == 'e' || c == 'E') && n+1 < len(text) && strings.IndexByte("0123456789+-", text[n+1]) >= 0:
			float = true
			n++
		default:
			goto done
		}
		n++
	}
done:
	digits := strings.ReplaceAll(text[:n], "_", "")
	kind := tokInt
	if float {
		kind = tokFloat
	}
	l.add(kind, digits)
	l.skip(n)
}

// quoted reads a string literal with Python's escapes.
func (l *lexer) quoted(text string, quote byte) {
	var out strings.Builder
	for i := 1; i < len(text); i++ {
		switch c := text[i]; c {
		case quote:
			l.add(tokString, out.String())
			l.skip(i + 1)
			return
		case '\\':
			if i++; i < len(text) {
				i += escape(&out, text[i:])
			}
		default:
			out.WriteByte(c)
		}
	}
	fail(l.line, "string without end")
}

// escape writes what stands behind a backslash and returns how many bytes it
// takes beyond the first.
func escape(out *strings.Builder, text string) int {
	if i := strings.IndexByte("ntr\\'\"abfv\n", text[0]); i >= 0 {
		if text[0] != '\n' {
			out.WriteByte("\n\t\r\\'\"\a\b\f\v"[i])
		}
		return 0
	}
	if size := map[byte]int{'x': 2, 'u': 4, 'U': 8}[text[0]]; size > 0 && len(text) > size {
		if v, err := strconv.ParseUint(text[1:1+size], 16, 32); err == nil && v <= unicode.MaxRune {
			out.WriteRune(rune(v))
			return size
		}
	}
	out.WriteByte('\\')
	out.WriteByte(text[0])
	return 0
}
