package jinja

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// filterJSON is transformers' tojson: Python's json.dumps without escaping of
// HTML or of non-ASCII characters.
func filterJSON(s *state, v any, args []any, named *Dict) any {
	w := &jsonWriter{s: s, item: ", ", key: ": "}
	ascii, _ := arg(args, named, 0, "ensure_ascii")
	w.ascii = truth(ascii)
	if indent, ok := arg(args, named, 1, "indent"); ok && indent != nil {
		w.item, w.lines = ",", true
		if n, isInt := integer(indent); isInt {
			w.indent = s.repeat(" ", min(n, 100))
		} else {
			w.indent = s.text(indent)
		}
	}
	if separators, ok := arg(args, named, 2, "separators"); ok && separators != nil {
		l, isList := separators.(*List)
		if !isList || len(l.Items) != 2 {
			fail(s.line, "separators are two strings")
		}
		w.item, w.key = s.text(l.Items[0]), s.text(l.Items[1])
	}
	sorted, _ := arg(args, named, 3, "sort_keys")
	w.sorted = truth(sorted)
	w.value(v, 0)
	return s.made(w.out.String())
}

type jsonWriter struct {
	s             *state
	out           strings.Builder
	item, key     string
	indent        string
	lines, sorted bool
	ascii         bool
}

func (w *jsonWriter) line(depth int) {
	if w.lines {
		w.out.WriteByte('\n')
		for range depth {
			w.out.WriteString(w.indent)
		}
	}
}

func (w *jsonWriter) value(v any, depth int) {
	w.s.step(1)
	w.s.size(w.out.Len())
	if depth > maxNesting {
		fail(w.s.line, "value nested more than %d deep", maxNesting)
	}
	switch v := v.(type) {
	case nil:
		w.out.WriteString("null")
	case bool:
		w.out.WriteString(strconv.FormatBool(v))
	case int:
		w.out.WriteString(strconv.Itoa(v))
	case float64:
		w.out.WriteString(jsonFloat(v))
	case string:
		w.text(v)
	case *List:
		w.group('[', ']', len(v.Items), depth, func(i int) { w.value(v.Items[i], depth+1) })
	case *Dict:
		keys := v.keys
		if w.sorted {
			keys = append([]any(nil), keys...)
			w.s.sort(keys, false, func(k any) any { return k })
		}
		w.group('{', '}', len(keys), depth, func(i int) {
			switch k := keys[i].(type) {
			case string:
				w.text(k)
			case nil:
				w.out.WriteString(`"null"`)
			default:
				w.out.WriteString(`"` + w.s.text(k) + `"`)
			}
			w.out.WriteString(w.key)
			w.value(v.values[keys[i]], depth+1)
		})
	default:
		fail(w.s.line, "a %s has no JSON form", typeName(v))
	}
}

func jsonFloat(v float64) string {
	switch {
	case math.IsNaN(v):
		return "NaN"
	case math.IsInf(v, 1):
		return "Infinity"
	case math.IsInf(v, -1):
		return "-Infinity"
	}
	return floatText(v)
}

func (w *jsonWriter) group(open, closing byte, count, depth int, one func(i int)) {
	w.out.WriteByte(open)
	for i := range count {
		if i > 0 {
			w.out.WriteString(w.item)
		}
		w.line(depth + 1)
		one(i)
	}
	if count > 0 {
		w.line(depth)
	}
	w.out.WriteByte(closing)
}

func (w *jsonWriter) text(text string) {
	w.out.WriteByte('"')
	for _, c := range text {
		switch {
		case c == '"' || c == '\\':
			w.out.WriteByte('\\')
			w.out.WriteRune(c)
		case c == '\n':
			w.out.WriteString(`\n`)
		case c == '\r':
			w.out.WriteString(`\r`)
		case c == '\t':
			w.out.WriteString(`\t`)
		case c == '\b':
			w.out.WriteString(`\b`)
		case c == '\f':
			w.out.WriteString(`\f`)
		case c < 0x20 || (w.ascii && c > 0x7E && c < 0x10000):
			fmt.Fprintf(&w.out, `\u%04x`, c)
		case w.ascii && c >= 0x10000:
			c -= 0x10000
			fmt.Fprintf(&w.out, `\u%04x\u%04x`, 0xD800+c>>10, 0xDC00+c&0x3FF)
		default:
			w.out.WriteRune(c)
		}
	}
	w.out.WriteByte('"')
}

// jsonReader reads JSON in the order in which it is written.
type jsonReader struct{ d *json.Decoder }

func newJSONReader(data []byte) *jsonReader {
	if !utf8.Valid(data) {
		data = bytes.ToValidUTF8(data, []byte("\uFFFD"))
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	return &jsonReader{d}
}

func (r *jsonReader) token() json.Token {
	t, err := r.d.Token()
	if err != nil {
		fail(0, "JSON: %v", err)
	}
	return t
}

func (r *jsonReader) end() {
	if _, err := r.d.Token(); err != io.EOF {
		fail(0, "JSON: more than one value")
	}
}

func (r *jsonReader) value(depth int) any {
	if depth > maxNesting {
		fail(0, "JSON nested more than %d deep", maxNesting)
	}
	switch t := r.token().(type) {
	case json.Delim:
		if t == '[' {
			l := &List{}
			for r.d.More() {
				l.Items = append(l.Items, r.value(depth+1))
			}
			r.token()
			return l
		}
		d := NewDict()
		for r.d.More() {
			key, _ := r.token().(string)
			d.Set(key, r.value(depth+1))
		}
		r.token()
		return d
	case json.Number:
		if i, err := strconv.Atoi(t.String()); err == nil {
			return i
		}
		f, err := t.Float64()
		if err != nil {
			fail(0, "JSON: number %s", t)
		}
		return f
	default:
		return t
	}
}
