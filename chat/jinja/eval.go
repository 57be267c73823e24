package jinja

import (
	"math"
	"slices"
	"strings"
)

// state is one rendering.
type state struct {
	out   strings.Builder
	scope *scope
	left  int // steps
	depth int // of macro calls
	line  int
	jump  jumpKind

	filters map[string]filterFunc
	tests   map[string]test
}

// scope holds the variables of a loop round, a macro or the template.
type scope struct {
	parent *scope
	values map[string]any
}

func (s *state) lookup(name string) any {
	for c := s.scope; c != nil; c = c.parent {
		if v, ok := c.values[name]; ok {
			return v
		}
	}
	return undefined{name}
}

// step pays for work; size refuses texts that grow without end.
func (s *state) step(n int) {
	if s.left -= n; s.left < 0 {
		fail(s.line, "the template takes more than %d steps", maxSteps)
	}
}

func (s *state) size(n int) {
	if n > maxOutput {
		fail(s.line, "the template makes a text of more than %d bytes", maxOutput)
	}
}

// made pays for a new text.
func (s *state) made(text string) string {
	s.size(len(text))
	s.step(len(text) / 64)
	return text
}

func (s *state) write(text string) {
	s.size(s.out.Len() + len(text))
	s.out.WriteString(text)
}

// inner runs f with a scope of its own.
func (s *state) inner(parent *scope, f func()) {
	outer := s.scope
	s.scope = &scope{parent: parent, values: map[string]any{}}
	f()
	s.scope = outer
}

// capture returns what f writes.
func (s *state) capture(f func()) string {
	outer := s.out
	s.out = strings.Builder{}
	f()
	text := s.out.String()
	s.out = outer
	return s.made(text)
}

type stmt interface{ run(s *state) }

type jumpKind uint8

const (
	jumpNone jumpKind = iota
	jumpBreak
	jumpContinue
)

type (
	textStmt  struct{ text string }
	printStmt struct {
		line  int
		value expr
	}
	branch struct {
		test expr
		body []stmt
	}
	ifStmt struct {
		line      int
		branches  []branch
		otherwise []stmt
	}
	forStmt struct {
		line      int
		names     []string
		over      expr
		test      expr // nil: all
		body      []stmt
		otherwise []stmt
	}
	setStmt struct {
		line      int
		names     []string
		attribute string
		value     expr // of a block: the filters, around a constant
		block     bool
		body      []stmt
	}
	macroStmt struct {
		line     int
		name     string
		params   []string
		defaults []expr // nil: none
		body     []stmt
	}
	filterStmt struct {
		line  int
		value expr
		body  []stmt
	}
	scopeStmt struct{ body []stmt }
	jumpStmt  jumpKind
)

func (s *state) run(list []stmt) {
	for _, st := range list {
		s.step(1)
		if st.run(s); s.jump != jumpNone {
			return
		}
	}
}

func (t *textStmt) run(s *state) { s.write(t.text) }

func (p *printStmt) run(s *state) {
	s.line = p.line
	s.write(s.text(p.value.eval(s)))
}

func (i *ifStmt) run(s *state) {
	s.line = i.line
	for _, b := range i.branches {
		if truth(b.test.eval(s)) {
			s.run(b.body)
			return
		}
	}
	s.run(i.otherwise)
}

func (j jumpStmt) run(s *state) { s.jump = jumpKind(j) }

func (c *scopeStmt) run(s *state) { s.inner(s.scope, func() { s.run(c.body) }) }

// loopState is the variable "loop".
type loopState struct {
	items []any
	index int
}

func (f *forStmt) run(s *state) {
	s.line = f.line
	items := s.items(f.over.eval(s))
	if f.test != nil {
		var kept []any
		for _, item := range items {
			s.inner(s.scope, func() {
				s.assign(f.names, item)
				if truth(f.test.eval(s)) {
					kept = append(kept, item)
				}
			})
		}
		items = kept
	}
	if len(items) == 0 {
		s.inner(s.scope, func() { s.run(f.otherwise) })
		return
	}
	loop := &loopState{items: items}
	for i, item := range items {
		s.step(1)
		loop.index = i
		s.inner(s.scope, func() {
			s.assign(f.names, item)
			s.scope.values["loop"] = loop
			s.run(f.body)
		})
		jump := s.jump
		s.jump = jumpNone
		if jump == jumpBreak {
			return
		}
	}
}

// assign gives a value to one name, or its parts to several.
func (s *state) assign(names []string, value any) {
	if len(names) == 1 {
		s.scope.values[names[0]] = value
		return
	}
	parts := s.items(value)
	if len(parts) != len(names) {
		fail(s.line, "%d values for %d names", len(parts), len(names))
	}
	for i, name := range names {
		s.scope.values[name] = parts[i]
	}
}

func (t *setStmt) run(s *state) {
	s.line = t.line
	var value any
	if t.block {
		text := s.capture(func() { s.inner(s.scope, func() { s.run(t.body) }) })
		value = filtered(s, t.value, text)
	} else {
		value = t.value.eval(s)
	}
	if t.attribute == "" {
		s.assign(t.names, value)
		return
	}
	ns, ok := s.lookup(t.names[0]).(*namespace)
	if !ok {
		fail(t.line, "%s is no namespace, so its attributes cannot be set", t.names[0])
	}
	if strings.HasPrefix(t.attribute, "_") {
		fail(t.line, "attribute %q of a namespace begins with an underscore", t.attribute)
	}
	ns.values.Set(t.attribute, value)
}

// filtered applies the filters around a constant to text instead.
func filtered(s *state, e expr, text string) any {
	switch e := e.(type) {
	case *constant:
		return text
	case *filterExpr:
		return e.apply(s, filtered(s, e.value, text))
	}
	fail(s.line, "only filters may stand here")
	return nil
}

func (f *filterStmt) run(s *state) {
	s.line = f.line
	text := s.capture(func() { s.inner(s.scope, func() { s.run(f.body) }) })
	s.write(s.text(filtered(s, f.value, text)))
}

func (m *macroStmt) run(s *state) {
	home := s.scope
	s.scope.values[m.name] = function(func(s *state, args []any, named *Dict) any { return m.call(s, home, args, named) })
}

func (m *macroStmt) call(s *state, home *scope, args []any, named *Dict) any {
	if s.depth++; s.depth > maxNesting {
		fail(m.line, "macros call one another more than %d deep", maxNesting)
	}
	if len(args) > len(m.params) {
		fail(s.line, "macro %s takes %d arguments, got %d", m.name, len(m.params), len(args))
	}
	caller, jump := s.scope, s.jump
	text := s.capture(func() {
		s.inner(home, func() {
			for i, name := range m.params {
				switch v, ok := named.Get(name); {
				case i < len(args):
					s.scope.values[name] = args[i]
				case ok:
					s.scope.values[name] = v
				case m.defaults[i] != nil:
					s.scope.values[name] = m.defaults[i].eval(s)
				default:
					s.scope.values[name] = undefined{name}
				}
			}
			s.run(m.body)
		})
	})
	for _, key := range named.keys {
		if name, ok := key.(string); !ok || !slices.Contains(m.params, name) {
			fail(s.line, "macro %s has no parameter %v", m.name, key)
		}
	}
	s.scope, s.jump = caller, jump
	s.depth--
	return text
}

// arithmetic on two values.
func (s *state) binary(op string, a, b any) any {
	if op == "~" {
		return s.made(s.text(a) + s.text(b))
	}
	for _, v := range []any{a, b} {
		if u, ok := v.(undefined); ok {
			fail(s.line, "%q is undefined", u.what)
		}
	}
	if x, ok := integer(a); ok {
		if y, ok := integer(b); ok {
			return s.integers(op, x, y)
		}
	}
	if x, ok := number(a); ok {
		if y, ok := number(b); ok {
			return s.floats(op, x, y)
		}
	}
	switch a := a.(type) {
	case string:
		switch b := b.(type) {
		case string:
			if op == "+" {
				return s.made(a + b)
			}
		case int:
			if op == "*" {
				return s.repeat(a, b)
			}
		}
		if op == "%" {
			return s.format(a, b)
		}
	case *List:
		switch b := b.(type) {
		case *List:
			if op == "+" && a.tuple == b.tuple {
				s.step(len(a.Items) + len(b.Items))
				return &List{slices.Concat(a.Items, b.Items), a.tuple}
			}
		case int:
			if op == "*" {
				if b > 0 && len(a.Items) > maxRange/b {
					fail(s.line, "list of more than %d items", maxRange)
				}
				s.step(len(a.Items) * max(b, 0))
				return &List{slices.Repeat(a.Items, max(b, 0)), a.tuple}
			}
		}
	case int:
		if _, ok := b.(string); ok && op == "*" {
			return s.binary(op, b, a)
		}
		if _, ok := b.(*List); ok && op == "*" {
			return s.binary(op, b, a)
		}
	}
	fail(s.line, "%s of a %s and a %s is not possible", op, typeName(a), typeName(b))
	return nil
}

func (s *state) repeat(text string, count int) string {
	if count > 0 && len(text) > maxOutput/count {
		s.size(maxOutput + 1)
	}
	return s.made(strings.Repeat(text, max(count, 0)))
}

func (s *state) integers(op string, a, b int) any {
	overflow := func(exact float64) {
		if math.Abs(exact) > 1<<62 {
			fail(s.line, "integer overflow")
		}
	}
	switch op {
	case "+":
		overflow(float64(a) + float64(b))
		return a + b
	case "-":
		overflow(float64(a) - float64(b))
		return a - b
	case "*":
		overflow(float64(a) * float64(b))
		return a * b
	case "**":
		if b < 0 {
			return math.Pow(float64(a), float64(b))
		}
		overflow(math.Pow(float64(a), float64(b)))
		if a >= -1 && a <= 1 {
			b = min(b, 2+b%2)
		}
		v := 1
		for range b {
			v *= a
		}
		return v
	}
	if b == 0 {
		fail(s.line, "division by zero")
	}
	switch op {
	case "/":
		return float64(a) / float64(b)
	case "//":
		q := a / b
		if a%b != 0 && (a < 0) != (b < 0) {
			q--
		}
		return q
	}
	m := a % b
	if m != 0 && (m < 0) != (b < 0) {
		m += b
	}
	return m
}

func (s *state) floats(op string, a, b float64) any {
	switch op {
	case "+":
		return a + b
	case "-":
		return a - b
	case "*":
		return a * b
	case "**":
		return math.Pow(a, b)
	}
	if b == 0 {
		fail(s.line, "division by zero")
	}
	switch op {
	case "/":
		return a / b
	case "//":
		return math.Floor(a / b)
	}
	return a - b*math.Floor(a/b)
}

// contains is the operator in.
func (s *state) contains(item, in any) bool {
	switch in := in.(type) {
	case string:
		text, ok := item.(string)
		if !ok {
			fail(s.line, "a %s cannot be in a str", typeName(item))
		}
		s.step(len(in) / 16)
		return strings.Contains(in, text)
	case *Dict:
		switch item.(type) {
		case nil, bool, int, float64, string:
			_, ok := in.values[hashable(item)]
			return ok
		}
		return false
	case *namespace:
		fail(s.line, "a namespace cannot be searched")
	}
	return slices.ContainsFunc(s.items(in), func(v any) bool { return s.equal(v, item) })
}
