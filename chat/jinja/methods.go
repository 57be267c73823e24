package jinja

import (
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// method returns a method of v, nil if it has none of that name.
func method(_ *state, v any, name string) any {
	switch v := v.(type) {
	case string:
		if m := textMethods[name]; m != nil {
			return function(func(s *state, args []any, named *Dict) any { return m(s, v, args, named) })
		}
	case *Dict:
		if m := dictMethods[name]; m != nil {
			return function(func(s *state, args []any, named *Dict) any { return m(s, v, args, named) })
		}
		if slices.Contains([]string{"update", "pop", "popitem", "clear", "setdefault"}, name) {
			return refused(name)
		}
	case *List:
		if slices.Contains([]string{"append", "extend", "insert", "pop", "remove", "reverse", "sort", "clear"}, name) && !v.tuple {
			return refused(name)
		}
		switch name {
		case "index", "count":
			return function(func(s *state, args []any, _ *Dict) any { return find(s, v, name, args) })
		case "copy":
			return function(func(*state, []any, *Dict) any { return &List{slices.Clone(v.Items), v.tuple} })
		}
	}
	return nil
}

// refused is a method that would change its value.
func refused(name string) function {
	return func(s *state, _ []any, _ *Dict) any {
		fail(s.line, "%s is not allowed: templates cannot change values", name)
		return nil
	}
}

func find(s *state, l *List, name string, args []any) any {
	if len(args) == 0 {
		fail(s.line, "%s without a value", name)
	}
	count, first := 0, -1
	for i, item := range l.Items {
		if s.equal(item, args[0]) {
			if count++; first < 0 {
				first = i
			}
		}
	}
	if name == "count" {
		return count
	}
	if first < 0 {
		fail(s.line, "value is not in the list")
	}
	return first
}

var dictMethods = map[string]func(s *state, d *Dict, args []any, named *Dict) any{
	"items":  func(s *state, d *Dict, _ []any, _ *Dict) any { return &List{Items: pairs(s, d)} },
	"keys":   func(_ *state, d *Dict, _ []any, _ *Dict) any { return &List{Items: slices.Clone(d.keys)} },
	"values": dictValues,
	"copy": func(s *state, d *Dict, _ []any, _ *Dict) any {
		out := NewDict()
		s.step(len(d.keys))
		for _, k := range d.keys {
			out.set(k, d.values[k])
		}
		return out
	},
	"get": func(s *state, d *Dict, args []any, _ *Dict) any {
		if len(args) == 0 {
			fail(s.line, "get without a key")
		}
		if v, ok := d.values[hashable(args[0])]; ok {
			return v
		}
		if len(args) > 1 {
			return args[1]
		}
		return nil
	},
}

func dictValues(_ *state, d *Dict, _ []any, _ *Dict) any {
	out := &List{}
	for _, k := range d.keys {
		out.Items = append(out.Items, d.values[k])
	}
	return out
}

type textMethod = func(s *state, text string, args []any, named *Dict) any

var textMethods = map[string]textMethod{
	"upper":      simple(strings.ToUpper),
	"lower":      simple(strings.ToLower),
	"title":      simple(title),
	"capitalize": simple(capitalize),
	"strip":      stripping(strings.TrimFunc, strings.Trim),
	"lstrip":     stripping(strings.TrimLeftFunc, strings.TrimLeft),
	"rstrip":     stripping(strings.TrimRightFunc, strings.TrimRight),
	"startswith": edge(strings.HasPrefix),
	"endswith":   edge(strings.HasSuffix),
	"removeprefix": func(s *state, text string, args []any, named *Dict) any {
		return strings.TrimPrefix(text, argText(s, args, named, 0, "prefix", ""))
	},
	"removesuffix": func(s *state, text string, args []any, named *Dict) any {
		return strings.TrimSuffix(text, argText(s, args, named, 0, "suffix", ""))
	},
	"split":  func(s *state, text string, args []any, named *Dict) any { return split(s, text, args, named, false) },
	"rsplit": func(s *state, text string, args []any, named *Dict) any { return split(s, text, args, named, true) },
	"splitlines": func(s *state, text string, _ []any, _ *Dict) any {
		s.step(len(text) / 8)
		return texts(strings.Split(strings.TrimSuffix(strings.ReplaceAll(text, "\r\n", "\n"), "\n"), "\n"), text == "")
	},
	"replace": func(s *state, text string, args []any, named *Dict) any {
		if len(args) < 2 {
			fail(s.line, "replace takes two strings")
		}
		return s.replace(text, s.text(args[0]), s.text(args[1]), argInt(s, args, named, 2, "count", -1))
	},
	"join": func(s *state, text string, args []any, _ *Dict) any {
		if len(args) != 1 {
			fail(s.line, "join takes one list")
		}
		items := s.items(args[0])
		for _, item := range items {
			if _, ok := item.(string); !ok {
				fail(s.line, "join of a %s", typeName(item))
			}
		}
		return s.join(text, items)
	},
	"find": func(s *state, text string, args []any, named *Dict) any {
		i := strings.Index(text, argText(s, args, named, 0, "sub", ""))
		if i > 0 {
			i = utf8.RuneCountInString(text[:i])
		}
		return i
	},
	"count": func(s *state, text string, args []any, named *Dict) any {
		s.step(len(text) / 16)
		return strings.Count(text, argText(s, args, named, 0, "sub", ""))
	},
	"isdigit": all(unicode.IsDigit),
	"isalpha": all(unicode.IsLetter),
	"isspace": all(space),
	"isalnum": all(func(c rune) bool { return unicode.IsLetter(c) || unicode.IsNumber(c) }),
	"isupper": func(_ *state, text string, _ []any, _ *Dict) any {
		return text == strings.ToUpper(text) && text != strings.ToLower(text)
	},
	"islower": func(_ *state, text string, _ []any, _ *Dict) any {
		return text == strings.ToLower(text) && text != strings.ToUpper(text)
	},
}

func simple(change func(string) string) textMethod {
	return func(s *state, text string, _ []any, _ *Dict) any { return s.made(change(text)) }
}

func all(is func(rune) bool) textMethod {
	return func(s *state, text string, _ []any, _ *Dict) any {
		s.step(len(text) / 16)
		return text != "" && strings.IndexFunc(text, func(c rune) bool { return !is(c) }) < 0
	}
}

func stripping(white func(string, func(rune) bool) string, chars func(string, string) string) textMethod {
	return func(s *state, text string, args []any, _ *Dict) any {
		s.step(len(text) / 64)
		if len(args) > 0 && args[0] != nil {
			return chars(text, s.text(args[0]))
		}
		return white(text, space)
	}
}

// edge tests for one text, or any of a tuple of them.
func edge(has func(text, part string) bool) textMethod {
	return func(s *state, text string, args []any, _ *Dict) any {
		if len(args) == 0 {
			fail(s.line, "startswith and endswith take a string")
		}
		options := []any{args[0]}
		if l, ok := args[0].(*List); ok {
			options = l.Items
		}
		return slices.ContainsFunc(options, func(o any) bool { return has(text, s.text(o)) })
	}
}

func texts(parts []string, empty bool) *List {
	out := &List{}
	if empty {
		return out
	}
	for _, p := range parts {
		out.Items = append(out.Items, p)
	}
	return out
}

// split is str.split or, from the right, str.rsplit.
func split(s *state, text string, args []any, named *Dict, right bool) any {
	s.step(len(text) / 8)
	most := argInt(s, args, named, 1, "maxsplit", -1)
	v, ok := arg(args, named, 0, "sep")
	if !ok || v == nil {
		return splitSpace(text, most, right)
	}
	by := s.text(v)
	if by == "" {
		fail(s.line, "empty separator")
	}
	if !right || most < 0 {
		if most >= 0 {
			most++
		}
		return texts(strings.SplitN(text, by, most), false)
	}
	parts := strings.Split(text, by)
	if head := len(parts) - most; head > 1 {
		parts = append([]string{strings.Join(parts[:head], by)}, parts[head:]...)
	}
	return texts(parts, false)
}

// splitSpace splits at runs of white space.
func splitSpace(text string, most int, right bool) any {
	fields := strings.FieldsFunc(text, space)
	if most < 0 || len(fields) <= most+1 {
		return texts(fields, false)
	}
	if right {
		var tail []string
		for range most {
			text = strings.TrimRightFunc(text, space)
			i := strings.LastIndexFunc(text, space)
			_, n := utf8.DecodeRuneInString(text[i:])
			tail, text = append(tail, text[i+n:]), text[:i]
		}
		slices.Reverse(tail)
		return texts(append([]string{strings.TrimRightFunc(text, space)}, tail...), false)
	}
	var head []string
	for range most {
		text = strings.TrimLeftFunc(text, space)
		i := strings.IndexFunc(text, space)
		head, text = append(head, text[:i]), text[i:]
	}
	return texts(append(head, strings.TrimLeftFunc(text, space)), false)
}

func globalRange(s *state, args []any, _ *Dict) any {
	bounds := [3]int{0, 0, 1}
	if len(args) < 1 || len(args) > 3 {
		fail(s.line, "range takes one to three numbers")
	}
	for i, a := range args {
		v, ok := integer(a)
		if !ok {
			fail(s.line, "range of a %s", typeName(a))
		}
		bounds[i] = v
	}
	if len(args) == 1 {
		bounds[0], bounds[1] = 0, bounds[0]
	}
	start, end, step := bounds[0], bounds[1], bounds[2]
	if step == 0 {
		fail(s.line, "range step cannot be zero")
	}
	out := &List{}
	for i := start; (step > 0 && i < end) || (step < 0 && i > end); i += step {
		if len(out.Items) >= maxRange || i+step > 1<<62 || i+step < -1<<62 {
			fail(s.line, "range of more than %d numbers", maxRange)
		}
		out.Items = append(out.Items, i)
	}
	s.step(len(out.Items))
	return out
}

func globalNamespace(s *state, args []any, named *Dict) any {
	ns := &namespace{globalDict(s, args, named).(*Dict)}
	for _, k := range ns.values.keys {
		if name, ok := k.(string); ok && strings.HasPrefix(name, "_") {
			fail(s.line, "attribute %q of a namespace begins with an underscore", name)
		}
	}
	return ns
}

func globalDict(s *state, args []any, named *Dict) any {
	out := NewDict()
	for _, a := range args {
		d := s.dict(a)
		for _, k := range d.keys {
			out.set(k, d.values[k])
		}
	}
	for _, k := range named.keys {
		out.set(k, named.values[k])
	}
	return out
}

// now is the clock of strftime_now.
var now = time.Now

func globalNow(s *state, args []any, _ *Dict) any {
	if len(args) != 1 {
		fail(s.line, "strftime_now takes a format")
	}
	layouts := map[byte]string{
		'Y': "2006", 'm': "01", 'd': "02", 'B': "January", 'b': "Jan", 'H': "15", 'I': "03", 'M': "04", 'S': "05", 'p': "PM",
		'A': "Monday", 'a': "Mon", 'y': "06", 'j': "002", 'Z': "", 'z': "", 'F': "2006-01-02", 'T': "15:04:05",
	}
	format, t := s.text(args[0]), now()
	var out strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			out.WriteByte(format[i])
			continue
		}
		i++
		bare := format[i] == '-' && i+1 < len(format)
		if bare {
			i++
		}
		layout, ok := layouts[format[i]]
		switch {
		case format[i] == '%':
			out.WriteByte('%')
		case !ok:
			fail(s.line, "strftime_now: %%%c is not supported", format[i])
		case layout != "":
			part := t.Format(layout)
			if bare && len(part) > 1 {
				part = strings.TrimLeft(part[:len(part)-1], "0") + part[len(part)-1:]
			}
			out.WriteString(part)
		}
	}
	return s.made(out.String())
}
