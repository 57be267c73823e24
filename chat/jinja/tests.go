package jinja

import "strings"

// test is what may stand behind "is"; v is what stands before.
type test = func(s *state, v any, args []any) bool

// tests returns all tests by name.
func tests() map[string]test {
	one := func(f func(s *state, v, arg any) bool) test {
		return func(s *state, v any, args []any) bool {
			if len(args) != 1 {
				fail(s.line, "the test takes one value, got %d", len(args))
			}
			return f(s, v, args[0])
		}
	}
	kind := func(f func(v any) bool) test { return func(_ *state, v any, _ []any) bool { return f(v) } }
	holds := func(op string) test {
		return one(func(s *state, v, arg any) bool { return s.holds(op, v, arg) })
	}
	missing := func(v any) bool { _, ok := v.(undefined); return ok }
	isInt := func(v any) bool { _, ok := v.(int); return ok }
	isFloat := func(v any) bool { _, ok := v.(float64); return ok }
	parity := func(rest int) test {
		return func(s *state, v any, _ []any) bool {
			i, ok := integer(v)
			if !ok {
				fail(s.line, "a %s is neither odd nor even", typeName(v))
			}
			return i&1 == rest
		}
	}
	return map[string]test{
		"defined":   kind(func(v any) bool { return !missing(v) }),
		"undefined": kind(missing),
		"none":      kind(func(v any) bool { return v == nil }),
		"true":      kind(func(v any) bool { return v == true }),
		"false":     kind(func(v any) bool { return v == false }),
		"boolean":   kind(func(v any) bool { _, ok := v.(bool); return ok }),
		"integer":   kind(isInt),
		"float":     kind(isFloat),
		"number":    kind(func(v any) bool { _, ok := number(v); return ok }),
		"string":    kind(func(v any) bool { _, ok := v.(string); return ok }),
		"mapping":   kind(func(v any) bool { _, ok := v.(*Dict); return ok }),
		"sequence":  kind(sequence),
		"iterable":  kind(func(v any) bool { return sequence(v) || missing(v) }),
		"callable":  kind(func(v any) bool { _, ok := v.(function); return ok }),
		"odd":       parity(1),
		"even":      parity(0),
		"lower": func(s *state, v any, _ []any) bool {
			t := s.text(v)
			return t == strings.ToLower(t) && t != strings.ToUpper(t)
		},
		"upper": func(s *state, v any, _ []any) bool {
			t := s.text(v)
			return t == strings.ToUpper(t) && t != strings.ToLower(t)
		},
		"divisibleby": one(func(s *state, v, by any) bool {
			a, ok1 := integer(v)
			b, ok2 := integer(by)
			if !ok1 || !ok2 || b == 0 {
				fail(s.line, "divisibleby takes two ints, the second above 0")
			}
			return a%b == 0
		}),
		"sameas": one(func(_ *state, v, arg any) bool {
			switch v.(type) {
			case nil, bool, int, string, *List, *Dict:
				return v == arg
			}
			return false
		}),
		"eq": holds("=="), "equalto": holds("=="), "==": holds("=="), "ne": holds("!="), "!=": holds("!="),
		"lt": holds("<"), "lessthan": holds("<"), "<": holds("<"), "le": holds("<="), "<=": holds("<="),
		"gt": holds(">"), "greaterthan": holds(">"), ">": holds(">"), "ge": holds(">="), ">=": holds(">="),
		"in":   holds("in"),
		"test": one(func(s *state, _, arg any) bool { return s.tests[s.text(arg)] != nil }),
		"filter": func(s *state, v any, _ []any) bool {
			return s.filters[s.text(v)] != nil
		},
	}
}

func sequence(v any) bool {
	switch v.(type) {
	case *List, *Dict, string:
		return true
	}
	return false
}
