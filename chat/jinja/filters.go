package jinja

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

type filterFunc func(s *state, v any, args []any, named *Dict) any

// filterTable is all filters by name.
var filterTable = map[string]filterFunc{
	"abs": filterAbs, "capitalize": textFilter(capitalize), "default": filterDefault, "d": filterDefault,
	"dictsort": filterDictsort, "escape": textFilter(escapeHTML), "e": textFilter(escapeHTML), "first": filterFirst,
	"float": filterFloat, "format": filterFormat, "indent": filterIndent, "int": filterInt, "items": filterItems,
	"join": filterJoin, "last": filterLast, "length": filterLength, "count": filterLength, "list": filterList,
	"lower": textFilter(strings.ToLower), "map": filterMap, "max": extreme(1), "min": extreme(-1), "reject": selecting(false, false),
	"rejectattr": selecting(true, false), "replace": filterReplace, "reverse": filterReverse, "round": filterRound,
	"safe":   func(_ *state, v any, _ []any, _ *Dict) any { return v },
	"select": selecting(false, true), "selectattr": selecting(true, true), "sort": filterSort,
	"string": func(s *state, v any, _ []any, _ *Dict) any { return s.text(v) },
	"sum":    filterSum, "title": textFilter(filterTitle), "tojson": filterJSON, "trim": filterTrim, "unique": filterUnique,
	"upper": textFilter(strings.ToUpper), "wordcount": filterWords,
}

// testTable is all tests by name.
var testTable = tests()

// globalTable is the functions that templates may call.
var globalTable = map[string]any{
	"range": function(globalRange), "namespace": function(globalNamespace), "dict": function(globalDict),
	"raise_exception": function(raise), "strftime_now": function(globalNow),
}

// arg returns an argument by place or name, and whether it was given.
func arg(args []any, named *Dict, i int, name string) (any, bool) {
	if i < len(args) {
		return args[i], true
	}
	return named.Get(name)
}

func argText(s *state, args []any, named *Dict, i int, name, otherwise string) string {
	if v, ok := arg(args, named, i, name); ok && v != nil {
		return s.text(v)
	}
	return otherwise
}

func argInt(s *state, args []any, named *Dict, i int, name string, otherwise int) int {
	v, ok := arg(args, named, i, name)
	if !ok || v == nil {
		return otherwise
	}
	n, ok := integer(v)
	if !ok {
		fail(s.line, "%s is a %s, want an int", name, typeName(v))
	}
	return n
}

func textFilter(change func(string) string) filterFunc {
	return func(s *state, v any, _ []any, _ *Dict) any { return s.made(change(s.text(v))) }
}

func capitalize(text string) string {
	_, n := utf8.DecodeRuneInString(text)
	return strings.ToUpper(text[:n]) + strings.ToLower(text[n:])
}

// title is Python's str.title: letters behind no letter are upper case.
func title(text string) string {
	letter := false
	return strings.Map(func(c rune) rune {
		before := letter
		letter = unicode.IsLetter(c)
		if before {
			return unicode.ToLower(c)
		}
		return unicode.ToTitle(c)
	}, text)
}

// filterTitle is the filter's own idea of words.
func filterTitle(text string) string {
	start := true
	return strings.Map(func(c rune) rune {
		first := start
		start = unicode.IsSpace(c) || strings.ContainsRune("-({[<", c)
		if first {
			return unicode.ToUpper(c)
		}
		return unicode.ToLower(c)
	}, text)
}

func escapeHTML(text string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&#34;", "'", "&#39;").Replace(text)
}

func filterAbs(s *state, v any, _ []any, _ *Dict) any {
	if i, ok := integer(v); ok {
		return max(i, -i)
	}
	f, ok := number(v)
	if !ok {
		fail(s.line, "abs of a %s", typeName(v))
	}
	return math.Abs(f)
}

func filterDefault(_ *state, v any, args []any, named *Dict) any {
	otherwise, ok := arg(args, named, 0, "default_value")
	if !ok {
		otherwise = ""
	}
	falsy, _ := arg(args, named, 1, "boolean")
	if _, missing := v.(undefined); missing || (truth(falsy) && !truth(v)) {
		return otherwise
	}
	return v
}

func filterFloat(s *state, v any, args []any, named *Dict) any {
	if f, ok := number(v); ok {
		return f
	}
	if text, ok := v.(string); ok {
		if f, err := strconv.ParseFloat(strings.TrimSpace(text), 64); err == nil {
			return f
		}
	}
	if otherwise, ok := arg(args, named, 0, "default"); ok {
		return otherwise
	}
	return 0.0
}

func filterInt(s *state, v any, args []any, named *Dict) any {
	if f, ok := number(v); ok && math.Abs(f) < 1<<62 {
		return int(f)
	}
	if text, ok := v.(string); ok {
		text = strings.TrimSpace(text)
		if i, err := strconv.Atoi(text); err == nil {
			return i
		}
		if f, err := strconv.ParseFloat(text, 64); err == nil && math.Abs(f) < 1<<62 {
			return int(f)
		}
	}
	return argInt(s, args, named, 0, "default", 0)
}

func filterFormat(s *state, v any, args []any, named *Dict) any {
	if len(named.keys) > 0 {
		return s.format(s.text(v), named)
	}
	return s.format(s.text(v), &List{args, true})
}

// format is Python's % for texts: %s, %r, %d, %i, %f with a precision, %x, %%.
func (s *state) format(text string, with any) string {
	values := []any{with}
	if l, ok := with.(*List); ok && l.tuple {
		values = l.Items
	}
	var out strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '%' {
			out.WriteByte(text[i])
			continue
		}
		end := i + 1
		for end < len(text) && strings.IndexByte("0123456789.-+ ", text[end]) >= 0 {
			end++
		}
		if end >= len(text) || end-i > 12 {
			fail(s.line, "format %q ends in %%", text)
		}
		spec, verb := text[i+1:end], text[end]
		i = end
		if verb == '%' {
			out.WriteByte('%')
			continue
		}
		if len(values) == 0 {
			fail(s.line, "format %q has too few values", text)
		}
		v := values[0]
		values = values[1:]
		s.verb(&out, spec, verb, v)
		s.size(out.Len())
	}
	if _, isDict := with.(*Dict); len(values) > 0 && !isDict {
		fail(s.line, "format %q has too many values", text)
	}
	return s.made(out.String())
}

func (s *state) verb(out *strings.Builder, spec string, verb byte, v any) {
	if width, _, _ := strings.Cut(strings.TrimLeft(spec, "-+ 0"), "."); len(width) > 4 {
		fail(s.line, "format width %s", width)
	}
	switch verb {
	case 's':
		fmt.Fprintf(out, "%"+spec+"s", s.text(v))
		return
	case 'r':
		var r strings.Builder
		s.repr(&r, v, 0)
		fmt.Fprintf(out, "%"+spec+"s", r.String())
		return
	case 'd', 'i', 'x':
		if f, ok := number(v); ok && math.Abs(f) < 1<<62 {
			fmt.Fprintf(out, "%"+spec+string(map[byte]rune{'d': 'd', 'i': 'd', 'x': 'x'}[verb]), int(f))
			return
		}
	case 'f', 'e', 'g':
		if f, ok := number(v); ok {
			fmt.Fprintf(out, "%"+spec+string(rune(verb)), f)
			return
		}
	}
	fail(s.line, "format %%%c of a %s", verb, typeName(v))
}

func filterIndent(s *state, v any, args []any, named *Dict) any {
	text, pad := s.text(v), "    "
	if w, ok := arg(args, named, 0, "width"); ok {
		if n, isInt := integer(w); isInt {
			pad = s.repeat(" ", min(n, maxRange))
		} else {
			pad = s.text(w)
		}
	}
	first, _ := arg(args, named, 1, "first")
	blank, _ := arg(args, named, 2, "blank")
	s.size(len(text) + (strings.Count(text, "\n")+1)*len(pad))
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if (i > 0 || truth(first)) && (line != "" || truth(blank)) {
			lines[i] = pad + line
		}
	}
	return s.made(strings.Join(lines, "\n"))
}

// path looks up an attribute like "a.b.0".
// selecting is select, reject, selectattr or rejectattr.
func filterReplace(s *state, v any, args []any, named *Dict) any {
	return s.replace(s.text(v), argText(s, args, named, 0, "old", ""), argText(s, args, named, 1, "new", ""),
		argInt(s, args, named, 2, "count", -1))
}

func (s *state) replace(text, from, to string, count int) string {
	n := strings.Count(text, from)
	if count >= 0 {
		n = min(n, count)
	}
	s.step((len(text) + n) / 16)
	if n > 0 && len(to) > maxOutput/n {
		s.size(maxOutput + 1)
	}
	return s.made(strings.Replace(text, from, to, count))
}

func filterRound(s *state, v any, args []any, named *Dict) any {
	f, ok := number(v)
	if !ok {
		fail(s.line, "round of a %s", typeName(v))
	}
	places := min(max(argInt(s, args, named, 0, "precision", 0), -300), 300)
	switch argText(s, args, named, 1, "method", "common") {
	case "ceil":
		return math.Ceil(f*math.Pow10(places)) / math.Pow10(places)
	case "floor":
		return math.Floor(f*math.Pow10(places)) / math.Pow10(places)
	}
	if places < 0 {
		return math.RoundToEven(f/math.Pow10(-places)) * math.Pow10(-places)
	}
	r, err := strconv.ParseFloat(strconv.FormatFloat(f, 'f', places, 64), 64)
	if err != nil {
		return f
	}
	return r
}

func filterTrim(s *state, v any, args []any, named *Dict) any {
	if chars, ok := arg(args, named, 0, "chars"); ok && chars != nil {
		return strings.Trim(s.text(v), s.text(chars))
	}
	return strings.TrimFunc(s.text(v), space)
}

func filterWords(s *state, v any, _ []any, _ *Dict) any {
	return len(strings.FieldsFunc(s.text(v), space))
}

// space reports Python's white space.
func space(c rune) bool { return unicode.IsSpace(c) || c >= 0x1C && c <= 0x1F }
