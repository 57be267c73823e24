package jinja

import (
	"slices"
)

type parser struct {
	tokens []token
	at     int
	depth  int
	loops  int // open for loops
}

func (p *parser) peek() token { return p.tokens[p.at] }

func (p *parser) next() token {
	t := p.tokens[p.at]
	if t.kind != tokEnd {
		p.at++
	}
	return t
}

func (p *parser) symbol(text string) bool {
	if t := p.peek(); t.kind == tokSymbol && t.text == text {
		p.at++
		return true
	}
	return false
}

func (p *parser) word(text string) bool {
	if t := p.peek(); t.kind == tokName && t.text == text {
		p.at++
		return true
	}
	return false
}

func (p *parser) want(text string) {
	if !p.symbol(text) {
		p.unexpected(text)
	}
}

func (p *parser) unexpected(want string) {
	t := p.peek()
	got := t.text
	switch t.kind {
	case tokEnd:
		got = "the end of the template"
	case tokBlockEnd, tokVariableEnd:
		got = "the end of the tag"
	}
	fail(t.line, "got %q, want %s", got, want)
}

func (p *parser) name() string {
	t := p.next()
	if t.kind != tokName {
		p.at--
		p.unexpected("a name")
	}
	return t.text
}

func (p *parser) deeper() func() {
	if p.depth++; p.depth > maxNesting {
		fail(p.peek().line, "nested more than %d deep", maxNesting)
	}
	return func() { p.depth-- }
}

func (p *parser) blockEnd() {
	if p.next().kind != tokBlockEnd {
		p.at--
		p.unexpected("%}")
	}
}

// body reads statements up to a tag whose name is one of ends, and returns that
// name; the tag's own expression is left to read.
func (p *parser) body(ends ...string) (list []stmt, end string) {
	defer p.deeper()()
	for {
		t := p.next()
		switch t.kind {
		case tokEnd:
			if len(ends) > 0 {
				fail(t.line, "missing %s", ends[0])
			}
			return list, ""
		case tokText:
			list = append(list, &textStmt{t.text})
		case tokVariable:
			list = append(list, &printStmt{t.line, p.tupleOr()})
			if p.next().kind != tokVariableEnd {
				p.at--
				p.unexpected("}}")
			}
		case tokBlock:
			name := p.name()
			if slices.Contains(ends, name) {
				return list, name
			}
			list = append(list, p.statement(name, t.line))
		default:
			p.at--
			p.unexpected("text or a tag")
		}
	}
}

func (p *parser) statement(name string, line int) stmt {
	switch name {
	case "if":
		return p.ifStatement(line)
	case "for":
		return p.forStatement(line)
	case "set":
		return p.setStatement(line)
	case "macro":
		return p.macroStatement(line)
	case "filter":
		value := p.filters(&constant{nil}, true)
		p.blockEnd()
		body, _ := p.body("endfilter")
		p.blockEnd()
		return &filterStmt{line, value, body}
	case "generation":
		p.blockEnd()
		body, _ := p.body("endgeneration")
		p.blockEnd()
		return &scopeStmt{body}
	case "break", "continue":
		if p.loops == 0 {
			fail(line, "%s outside of a loop", name)
		}
		p.blockEnd()
		if name == "break" {
			return jumpStmt(jumpBreak)
		}
		return jumpStmt(jumpContinue)
	}
	fail(line, "tag %q is not supported (if, for, set, macro, filter, generation, break, continue and raw are)", name)
	return nil
}

func (p *parser) ifStatement(line int) stmt {
	s := &ifStmt{line: line}
	for {
		test := p.tupleOr()
		p.blockEnd()
		body, end := p.body("elif", "else", "endif")
		s.branches = append(s.branches, branch{test, body})
		if end == "elif" {
			continue
		}
		p.blockEnd()
		if end == "else" {
			s.otherwise, _ = p.body("endif")
			p.blockEnd()
		}
		return s
	}
}

// targets reads the names of a for or set: one, or several to unpack to.
func (p *parser) targets() []string {
	names := []string{}
	open := p.symbol("(")
	names = append(names, p.name())
	for p.symbol(",") {
		if p.peek().kind != tokName {
			break
		}
		names = append(names, p.name())
	}
	if open {
		p.want(")")
	}
	return names
}

func (p *parser) forStatement(line int) stmt {
	s := &forStmt{line: line, names: p.targets()}
	if !p.word("in") {
		p.unexpected("in")
	}
	s.over = p.orTuple(false)
	if p.word("if") {
		s.test = p.expression()
	}
	if p.word("recursive") {
		fail(line, "recursive loops are not supported")
	}
	p.blockEnd()
	p.loops++
	body, end := p.body("else", "endfor")
	p.loops--
	s.body = body
	p.blockEnd()
	if end == "else" {
		s.otherwise, _ = p.body("endfor")
		p.blockEnd()
	}
	return s
}

func (p *parser) setStatement(line int) stmt {
	s := &setStmt{line: line, names: p.targets()}
	if len(s.names) == 1 && p.symbol(".") {
		s.attribute = p.name()
	}
	if p.symbol("=") {
		s.value = p.tupleOr()
		p.blockEnd()
		return s
	}
	s.value = p.filters(&constant{nil}, false)
	p.blockEnd()
	s.body, _ = p.body("endset")
	s.block = true
	p.blockEnd()
	return s
}

func (p *parser) macroStatement(line int) stmt {
	s := &macroStmt{line: line, name: p.name()}
	p.want("(")
	for !p.symbol(")") {
		s.params = append(s.params, p.name())
		var value expr
		if p.symbol("=") {
			value = p.expression()
		}
		s.defaults = append(s.defaults, value)
		if !p.symbol(",") {
			p.want(")")
			break
		}
	}
	p.blockEnd()
	loops := p.loops
	p.loops = 0
	s.body, _ = p.body("endmacro")
	p.loops = loops
	p.blockEnd()
	return s
}

// tupleOr reads an expression, or several with commas between as a tuple.
// binary reads operators of one rank, from left to right.
// sequence reads expressions up to a closing symbol.
// postfix reads attributes, subscripts and calls.
// filters reads |filter and "is test" behind a value; with first set, the first
// filter's bar has been left out.
