package jinja

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Values are nil (None), bool, int, float64, string, *List, *Dict, undefined,
// *namespace, *loopState, *macro and function.

// List is a Python list or tuple.
type List struct {
	Items []any
	tuple bool
}

// Dict is a Python dict: it keeps the order of its keys.
type Dict struct {
	keys   []any
	values map[any]any
}

// NewDict returns an empty Dict.
func NewDict() *Dict { return &Dict{values: map[any]any{}} }

// Set puts a value at a key, which keeps its place if it is there already.
func (d *Dict) Set(key string, value any) { d.set(key, value) }

// Get returns the value at a key.
func (d *Dict) Get(key string) (any, bool) {
	v, ok := d.values[key]
	return v, ok
}

func (d *Dict) set(key, value any) {
	key = hashable(key)
	if _, ok := d.values[key]; !ok {
		d.keys = append(d.keys, key)
	}
	d.values[key] = value
}

// hashable makes equal numbers equal keys.
func hashable(key any) any {
	switch k := key.(type) {
	case bool:
		if k {
			return 1
		}
		return 0
	case float64:
		if k == math.Trunc(k) && math.Abs(k) < 1<<53 {
			return int(k)
		}
	case nil, int, string:
	default:
		fail(0, "a %s cannot be a key", typeName(key))
	}
	return key
}

type undefined struct{ what string }

type namespace struct{ values *Dict }

type function func(s *state, args []any, named *Dict) any

func typeName(v any) string {
	switch v := v.(type) {
	case nil:
		return "NoneType"
	case bool:
		return "bool"
	case int:
		return "int"
	case float64:
		return "float"
	case string:
		return "str"
	case *List:
		if v.tuple {
			return "tuple"
		}
		return "list"
	case *Dict:
		return "dict"
	case undefined:
		return "undefined value"
	case *namespace:
		return "namespace"
	}
	return "function"
}

func truth(v any) bool {
	switch v := v.(type) {
	case nil, undefined:
		return false
	case bool:
		return v
	case int:
		return v != 0
	case float64:
		return v != 0
	case string:
		return v != ""
	case *List:
		return len(v.Items) > 0
	case *Dict:
		return len(v.keys) > 0
	}
	return true
}

// number returns v as a float; bools count.
func number(v any) (float64, bool) {
	switch v := v.(type) {
	case bool:
		if v {
			return 1, true
		}
		return 0, true
	case int:
		return float64(v), true
	case float64:
		return v, true
	}
	return 0, false
}

// integer returns v as an int; bools count.
func integer(v any) (int, bool) {
	switch v := v.(type) {
	case bool:
		if v {
			return 1, true
		}
		return 0, true
	case int:
		return v, true
	}
	return 0, false
}

func (s *state) equal(a, b any) bool {
	s.step(1)
	if x, ok := number(a); ok {
		y, ok := number(b)
		return ok && x == y
	}
	switch a := a.(type) {
	case nil:
		return b == nil
	case string:
		b, ok := b.(string)
		return ok && a == b
	case undefined:
		_, ok := b.(undefined)
		return ok
	case *List:
		b, ok := b.(*List)
		return ok && a.tuple == b.tuple && slices.EqualFunc(a.Items, b.Items, s.equal)
	case *Dict:
		b, ok := b.(*Dict)
		if !ok || len(a.keys) != len(b.keys) {
			return false
		}
		for k, v := range a.values {
			if w, ok := b.values[k]; !ok || !s.equal(v, w) {
				return false
			}
		}
		return true
	case *namespace:
		return a == b
	}
	return false
}

// compare orders two numbers, strings or lists.
func (s *state) compare(a, b any) int {
	s.step(1)
	if x, ok := number(a); ok {
		if y, ok := number(b); ok {
			switch {
			case x < y:
				return -1
			case x > y:
				return 1
			}
			return 0
		}
	}
	if x, ok := a.(string); ok {
		if y, ok := b.(string); ok {
			return strings.Compare(x, y)
		}
	}
	if x, ok := a.(*List); ok {
		if y, ok := b.(*List); ok && x.tuple == y.tuple {
			return slices.CompareFunc(x.Items, y.Items, s.compare)
		}
	}
	fail(s.line, "a %s and a %s have no order", typeName(a), typeName(b))
	return 0
}

// text is Python's str.
func (s *state) text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case undefined:
		return ""
	}
	var out strings.Builder
	s.repr(&out, v, 0)
	return out.String()
}

// repr writes Python's repr.
func (s *state) repr(out *strings.Builder, v any, depth int) {
	s.step(1)
	s.size(out.Len())
	if depth > maxNesting {
		fail(s.line, "value nested more than %d deep", maxNesting)
	}
	switch v := v.(type) {
	case nil:
		out.WriteString("None")
	case bool:
		out.WriteString(map[bool]string{true: "True", false: "False"}[v])
	case int:
		out.WriteString(strconv.Itoa(v))
	case float64:
		out.WriteString(floatText(v))
	case string:
		quote(out, v)
	case undefined:
		out.WriteString("Undefined")
	case *List:
		ends := "[]"
		if v.tuple {
			ends = "()"
		}
		out.WriteByte(ends[0])
		for i, item := range v.Items {
			if i > 0 {
				out.WriteString(", ")
			}
			s.repr(out, item, depth+1)
		}
		if v.tuple && len(v.Items) == 1 {
			out.WriteByte(',')
		}
		out.WriteByte(ends[1])
	case *Dict:
		out.WriteByte('{')
		for i, k := range v.keys {
			if i > 0 {
				out.WriteString(", ")
			}
			s.repr(out, k, depth+1)
			out.WriteString(": ")
			s.repr(out, v.values[k], depth+1)
		}
		out.WriteByte('}')
	default:
		fmt.Fprintf(out, "<%s>", typeName(v))
	}
}

// floatText is Python's repr of a float.
func floatText(v float64) string {
	switch {
	case math.IsInf(v, 1):
		return "inf"
	case math.IsInf(v, -1):
		return "-inf"
	case math.IsNaN(v):
		return "nan"
	}
	if a := math.Abs(v); a != 0 && (a < 1e-4 || a >= 1e16) {
		return strconv.FormatFloat(v, 'e', -1, 64)
	}
	text := strconv.FormatFloat(v, 'f', -1, 64)
	if !strings.Contains(text, ".") {
		text += ".0"
	}
	return text
}

// quote is Python's repr of a string.
func quote(out *strings.Builder, text string) {
	mark := byte('\'')
	if strings.Contains(text, "'") && !strings.Contains(text, `"`) {
		mark = '"'
	}
	out.WriteByte(mark)
	for _, c := range text {
		switch {
		case c == rune(mark) || c == '\\':
			out.WriteByte('\\')
			out.WriteRune(c)
		case c == '\n':
			out.WriteString(`\n`)
		case c == '\t':
			out.WriteString(`\t`)
		case c == '\r':
			out.WriteString(`\r`)
		case c == ' ' || unicode.IsPrint(c):
			out.WriteRune(c)
		case c < 0x100:
			fmt.Fprintf(out, `\x%02x`, c)
		case c < 0x10000:
			fmt.Fprintf(out, `\u%04x`, c)
		default:
			fmt.Fprintf(out, `\U%08x`, c)
		}
	}
	out.WriteByte(mark)
}

// items returns what iterating over v gives.
func (s *state) items(v any) []any {
	switch v := v.(type) {
	case *List:
		return v.Items
	case *Dict:
		return v.keys
	case undefined:
		return nil
	case string:
		s.step(len(v))
		var out []any
		for _, c := range v {
			out = append(out, string(c))
		}
		return out
	}
	fail(s.line, "a %s cannot be iterated over", typeName(v))
	return nil
}

// plain makes Go values template values.
func plain(v any, depth int) any {
	if depth > maxNesting {
		fail(0, "value nested more than %d deep", maxNesting)
	}
	switch v := v.(type) {
	case nil, bool, int, float64, string, *List, *Dict, function:
		return v
	case []any:
		l := &List{}
		for _, item := range v {
			l.Items = append(l.Items, plain(item, depth+1))
		}
		return l
	case []string:
		l := &List{}
		for _, item := range v {
			l.Items = append(l.Items, item)
		}
		return l
	case []map[string]string:
		l := &List{}
		for _, item := range v {
			l.Items = append(l.Items, plain(item, depth+1))
		}
		return l
	case map[string]string:
		d := NewDict()
		for _, k := range sortedKeys(v) {
			d.Set(k, v[k])
		}
		return d
	case map[string]any:
		d := NewDict()
		for _, k := range sortedKeys(v) {
			d.Set(k, plain(v[k], depth+1))
		}
		return d
	}
	fail(0, "a value of type %T cannot be used in a template", v)
	return nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// Keys returns the keys that are strings, in order.
func (d *Dict) Keys() []string {
	var keys []string
	for _, k := range d.keys {
		if text, ok := k.(string); ok {
			keys = append(keys, text)
		}
	}
	return keys
}
