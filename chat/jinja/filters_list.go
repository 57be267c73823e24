package jinja

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

func (s *state) dict(v any) *Dict {
	d, ok := v.(*Dict)
	if !ok {
		fail(s.line, "got a %s, want a dict", typeName(v))
	}
	return d
}

func pairs(s *state, d *Dict) []any {
	s.step(len(d.keys))
	var out []any
	for _, k := range d.keys {
		out = append(out, &List{[]any{k, d.values[k]}, true})
	}
	return out
}

func filterDictsort(s *state, v any, args []any, named *Dict) any {
	items := pairs(s, s.dict(v))
	at := 0
	if argText(s, args, named, 1, "by", "key") == "value" {
		at = 1
	}
	backwards, _ := arg(args, named, 2, "reverse")
	exact, _ := arg(args, named, 0, "case_sensitive")
	s.sort(items, truth(backwards), func(v any) any { return folded(v.(*List).Items[at], truth(exact)) })
	return &List{Items: items}
}

func folded(v any, exact bool) any {
	if text, ok := v.(string); ok && !exact {
		return strings.ToLower(text)
	}
	return v
}

func (s *state) sort(items []any, backwards bool, key func(any) any) {
	s.step(len(items))
	slices.SortStableFunc(items, func(a, b any) int {
		order := s.compare(key(a), key(b))
		if backwards {
			return -order
		}
		return order
	})
}

func filterFirst(s *state, v any, _ []any, _ *Dict) any {
	if items := s.items(v); len(items) > 0 {
		return items[0]
	}
	return undefined{"first item of nothing"}
}

func filterLast(s *state, v any, _ []any, _ *Dict) any {
	if items := s.items(v); len(items) > 0 {
		return items[len(items)-1]
	}
	return undefined{"last item of nothing"}
}

func filterItems(s *state, v any, _ []any, _ *Dict) any {
	if _, missing := v.(undefined); missing {
		return &List{}
	}
	return &List{Items: pairs(s, s.dict(v))}
}

func filterJoin(s *state, v any, args []any, named *Dict) any {
	items := s.items(v)
	if name, ok := arg(args, named, 1, "attribute"); ok {
		items = s.attributes(items, name)
	}
	return s.join(argText(s, args, named, 0, "d", ""), items)
}

func (s *state) join(between string, items []any) string {
	var out strings.Builder
	for i, item := range items {
		if i > 0 {
			out.WriteString(between)
		}
		out.WriteString(s.text(item))
		s.size(out.Len())
	}
	return s.made(out.String())
}

func filterLength(s *state, v any, _ []any, _ *Dict) any {
	if text, ok := v.(string); ok {
		s.step(len(text) / 64)
		return utf8.RuneCountInString(text)
	}
	return len(s.items(v))
}

func filterList(s *state, v any, _ []any, _ *Dict) any {
	items := s.items(v)
	s.step(len(items))
	return &List{Items: slices.Clone(items)}
}

func (s *state) path(v, path any) any {
	text, ok := path.(string)
	if !ok {
		return s.item(v, path)
	}
	for part := range strings.SplitSeq(text, ".") {
		if i, err := strconv.Atoi(part); err == nil {
			v = s.item(v, i)
		} else {
			v = s.item(v, part)
		}
	}
	return v
}

func (s *state) attributes(items []any, path any) []any {
	var out []any
	for _, item := range items {
		out = append(out, s.path(item, path))
	}
	return out
}

func filterMap(s *state, v any, args []any, named *Dict) any {
	items := s.items(v)
	s.step(len(items))
	if path, ok := named.Get("attribute"); ok && len(args) == 0 {
		out := s.attributes(items, path)
		if otherwise, ok := named.Get("default"); ok {
			for i, got := range out {
				if _, missing := got.(undefined); missing {
					out[i] = otherwise
				}
			}
		}
		return &List{Items: out}
	}
	if len(args) == 0 {
		fail(s.line, "map without a filter or attribute")
	}
	f := s.filters[s.text(args[0])]
	if f == nil {
		fail(s.line, "filter %q is not supported", s.text(args[0]))
	}
	out := &List{}
	for _, item := range items {
		out.Items = append(out.Items, f(s, item, args[1:], named))
	}
	return out
}

func selecting(attribute, keep bool) filterFunc {
	return func(s *state, v any, args []any, _ *Dict) any {
		out := &List{}
		var path any
		if attribute {
			if len(args) == 0 {
				fail(s.line, "selectattr without an attribute")
			}
			path, args = args[0], args[1:]
		}
		test := func(v any) bool { return truth(v) }
		if len(args) > 0 {
			t := s.tests[s.text(args[0])]
			if t == nil {
				fail(s.line, "test %q is not supported", s.text(args[0]))
			}
			test = func(v any) bool { return t(s, v, args[1:]) }
		}
		for _, item := range s.items(v) {
			s.step(1)
			got := item
			if attribute {
				got = s.path(item, path)
			}
			if test(got) == keep {
				out.Items = append(out.Items, item)
			}
		}
		return out
	}
}

func extreme(sign int) filterFunc {
	return func(s *state, v any, args []any, named *Dict) any {
		items := s.items(v)
		if len(items) == 0 {
			return undefined{"extreme of nothing"}
		}
		path, byPath := named.Get("attribute")
		key := func(v any) any {
			if byPath {
				v = s.path(v, path)
			}
			return folded(v, false)
		}
		best := items[0]
		for _, item := range items[1:] {
			if s.compare(key(item), key(best)) == sign {
				best = item
			}
		}
		return best
	}
}

func filterReverse(s *state, v any, _ []any, _ *Dict) any {
	if text, ok := v.(string); ok {
		runes := s.runes(text)
		slices.Reverse(runes)
		return string(runes)
	}
	items := slices.Clone(s.items(v))
	s.step(len(items))
	slices.Reverse(items)
	return &List{Items: items}
}

func filterSort(s *state, v any, args []any, named *Dict) any {
	items := slices.Clone(s.items(v))
	backwards, _ := arg(args, named, 0, "reverse")
	exact, _ := arg(args, named, 1, "case_sensitive")
	path, byPath := arg(args, named, 2, "attribute")
	s.sort(items, truth(backwards), func(v any) any {
		if byPath && path != nil {
			v = s.path(v, path)
		}
		return folded(v, truth(exact))
	})
	return &List{Items: items}
}

func filterSum(s *state, v any, args []any, named *Dict) any {
	items := s.items(v)
	if path, ok := arg(args, named, 0, "attribute"); ok && path != nil {
		items = s.attributes(items, path)
	}
	total, ok := arg(args, named, 1, "start")
	if !ok {
		total = 0
	}
	for _, item := range items {
		total = s.binary("+", total, item)
	}
	return total
}

func filterUnique(s *state, v any, _ []any, named *Dict) any {
	exact, _ := named.Get("case_sensitive")
	out := &List{}
	var seen []any
	for _, item := range s.items(v) {
		key := folded(item, truth(exact))
		if !slices.ContainsFunc(seen, func(old any) bool { return s.equal(old, key) }) {
			seen, out.Items = append(seen, key), append(out.Items, item)
		}
	}
	return out
}
