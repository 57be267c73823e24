package jinja

import "slices"

type expr interface{ eval(s *state) any }

type (
	constant struct{ value any }
	nameExpr struct {
		line int
		name string
	}
	listExpr struct {
		items []expr
		tuple bool
	}
	dictExpr struct {
		line         int
		keys, values []expr
	}
	attributeExpr struct {
		line  int
		value expr
		name  string
	}
	itemExpr struct {
		line       int
		value, key expr
	}
	sliceExpr struct {
		line  int
		value expr
		parts [3]expr
	}
	arguments struct {
		list, named []expr
		names       []string
	}
	callExpr struct {
		line  int
		value expr
		arguments
	}
	filterExpr struct {
		line  int
		value expr
		name  string
		arguments
	}
	testExpr struct {
		line  int
		value expr
		not   bool
		name  string
		arguments
	}
	conditionExpr struct {
		line          int
		yes, test, no expr
	}
	logicExpr struct {
		left, right expr
		or          bool
	}
	notExpr    struct{ value expr }
	comparison struct {
		op    string
		value expr
	}
	compareExpr struct {
		line  int
		first expr
		rest  []comparison
	}
	binaryExpr struct {
		line        int
		op          string
		left, right expr
	}
	signExpr struct {
		line  int
		minus bool
		value expr
	}
)

func (c *constant) eval(*state) any { return c.value }

func (n *nameExpr) eval(s *state) any {
	s.step(1)
	return s.lookup(n.name)
}

func (l *listExpr) eval(s *state) any {
	s.step(len(l.items))
	out := &List{tuple: l.tuple}
	for _, item := range l.items {
		out.Items = append(out.Items, item.eval(s))
	}
	return out
}

func (d *dictExpr) eval(s *state) any {
	s.step(len(d.keys))
	out := NewDict()
	for i, k := range d.keys {
		out.set(k.eval(s), d.values[i].eval(s))
	}
	return out
}

func (a *attributeExpr) eval(s *state) any {
	v := a.value.eval(s)
	s.line = a.line
	s.step(1)
	if m := method(s, v, a.name); m != nil {
		return m
	}
	return s.item(v, a.name)
}

func (i *itemExpr) eval(s *state) any {
	v, key := i.value.eval(s), i.key.eval(s)
	s.line = i.line
	s.step(1)
	got := s.item(v, key)
	if _, missing := got.(undefined); missing {
		if name, ok := key.(string); ok {
			if m := method(s, v, name); m != nil {
				return m
			}
		}
	}
	return got
}

// item is v[key]; undefined if there is none.
func (s *state) item(v, key any) any {
	switch v := v.(type) {
	case undefined:
		fail(s.line, "%q is undefined", v.what)
	case *Dict:
		switch key.(type) {
		case nil, bool, int, float64, string:
			if got, ok := v.values[hashable(key)]; ok {
				return got
			}
		}
	case *namespace:
		if name, ok := key.(string); ok {
			if got, ok := v.values.Get(name); ok {
				return got
			}
		}
	case *loopState:
		if name, ok := key.(string); ok {
			return v.attribute(name)
		}
	case *List:
		if i, ok := integer(key); ok {
			if i < 0 {
				i += len(v.Items)
			}
			if i >= 0 && i < len(v.Items) {
				return v.Items[i]
			}
		}
	case string:
		if i, ok := integer(key); ok {
			runes := s.runes(v)
			if i < 0 {
				i += len(runes)
			}
			if i >= 0 && i < len(runes) {
				return string(runes[i])
			}
		}
	}
	return undefined{typeName(v) + " element " + s.text(key)}
}

func (s *state) runes(text string) []rune {
	s.step(len(text) / 8)
	return []rune(text)
}

// attribute is one of loop's.
func (l *loopState) attribute(name string) any {
	n := len(l.items)
	switch name {
	case "index":
		return l.index + 1
	case "index0":
		return l.index
	case "revindex":
		return n - l.index
	case "revindex0":
		return n - l.index - 1
	case "first":
		return l.index == 0
	case "last":
		return l.index == n-1
	case "length":
		return n
	case "previtem":
		if l.index > 0 {
			return l.items[l.index-1]
		}
	case "nextitem":
		if l.index < n-1 {
			return l.items[l.index+1]
		}
	case "cycle":
		at := l.index
		return function(func(s *state, args []any, _ *Dict) any {
			if len(args) == 0 {
				fail(s.line, "loop.cycle without values")
			}
			return args[at%len(args)]
		})
	}
	return undefined{"loop." + name}
}

func (x *sliceExpr) eval(s *state) any {
	v := x.value.eval(s)
	s.line = x.line
	var bounds [3]any
	for i, part := range x.parts {
		if part == nil {
			continue
		}
		bounds[i] = part.eval(s)
		if _, ok := integer(bounds[i]); bounds[i] != nil && !ok {
			fail(x.line, "slice bound is a %s, want an int", typeName(bounds[i]))
		}
	}
	switch v := v.(type) {
	case *List:
		s.step(len(v.Items))
		return &List{cut(s, v.Items, bounds), v.tuple}
	case string:
		return string(cut(s, s.runes(v), bounds))
	}
	fail(x.line, "a %s cannot be sliced", typeName(v))
	return nil
}

// cut is Python's slice.
func cut[T any](s *state, items []T, bounds [3]any) []T {
	n, step := len(items), 1
	if v, ok := integer(bounds[2]); ok {
		step = v
	}
	if step == 0 {
		fail(s.line, "slice step cannot be zero")
	}
	low, high := 0, n
	if step < 0 {
		low, high = -1, n-1
	}
	place := func(v any, missing int) int {
		i, ok := integer(v)
		if !ok {
			return missing
		}
		if i < 0 {
			i += n
		}
		return min(max(i, low), high)
	}
	start, end := place(bounds[0], low), place(bounds[1], high)
	if step < 0 {
		start, end = place(bounds[0], high), place(bounds[1], low)
	}
	var out []T
	if step > 0 {
		for i := start; i < end; i += step {
			if out = append(out, items[i]); step > n {
				break
			}
		}
		return out
	}
	for i := start; i > end; i += step {
		if out = append(out, items[i]); step < -n {
			break
		}
	}
	return out
}

// values evaluates arguments.
func (a *arguments) values(s *state) ([]any, *Dict) {
	var list []any
	for _, e := range a.list {
		list = append(list, e.eval(s))
	}
	named := NewDict()
	for i, name := range a.names {
		named.Set(name, a.named[i].eval(s))
	}
	return list, named
}

func (c *callExpr) eval(s *state) any {
	f := c.value.eval(s)
	list, named := c.values(s)
	s.line = c.line
	s.step(1)
	call, ok := f.(function)
	if u, missing := f.(undefined); missing {
		fail(c.line, "%q is undefined", u.what)
	}
	if !ok {
		fail(c.line, "a %s cannot be called", typeName(f))
	}
	return call(s, list, named)
}

func (f *filterExpr) eval(s *state) any { return f.apply(s, f.value.eval(s)) }

func (f *filterExpr) apply(s *state, value any) any {
	list, named := f.values(s)
	s.line = f.line
	s.step(1)
	return filterTable[f.name](s, value, list, named)
}

func (t *testExpr) eval(s *state) any {
	value := t.value.eval(s)
	list, _ := t.values(s)
	s.line = t.line
	s.step(1)
	return testTable[t.name](s, value, list) != t.not
}

func (c *conditionExpr) eval(s *state) any {
	switch {
	case truth(c.test.eval(s)):
		return c.yes.eval(s)
	case c.no != nil:
		return c.no.eval(s)
	}
	return undefined{"value of an if without else"}
}

func (l *logicExpr) eval(s *state) any {
	if left := l.left.eval(s); truth(left) == l.or {
		return left
	}
	return l.right.eval(s)
}

func (n *notExpr) eval(s *state) any { return !truth(n.value.eval(s)) }

func (c *compareExpr) eval(s *state) any {
	left := c.first.eval(s)
	for _, r := range c.rest {
		right := r.value.eval(s)
		s.line = c.line
		if !s.holds(r.op, left, right) {
			return false
		}
		left = right
	}
	return true
}

func (s *state) holds(op string, a, b any) bool {
	switch op {
	case "==":
		return s.equal(a, b)
	case "!=":
		return !s.equal(a, b)
	case "in":
		return s.contains(a, b)
	case "not in":
		return !s.contains(a, b)
	}
	order := s.compare(a, b)
	return slices.Contains(map[string][]int{"<": {-1}, "<=": {-1, 0}, ">": {1}, ">=": {0, 1}}[op], order)
}

func (b *binaryExpr) eval(s *state) any {
	left, right := b.left.eval(s), b.right.eval(s)
	s.line = b.line
	s.step(1)
	return s.binary(b.op, left, right)
}

func (n *signExpr) eval(s *state) any {
	v := n.value.eval(s)
	s.line = n.line
	if i, ok := integer(v); ok {
		if n.minus {
			return -i
		}
		return i
	}
	f, ok := number(v)
	if !ok {
		fail(n.line, "a %s has no sign", typeName(v))
	}
	if n.minus {
		return -f
	}
	return f
}
