package jinja

import (
	"slices"
	"strconv"
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
func (p *parser) tupleOr() expr { return p.orTuple(true) }

func (p *parser) orTuple(conditional bool) expr {
	one := p.expression
	if !conditional {
		one = p.or
	}
	first := one()
	if t := p.peek(); t.kind != tokSymbol || t.text != "," {
		return first
	}
	items := []expr{first}
	for p.symbol(",") {
		if k := p.peek(); k.kind == tokBlockEnd || k.kind == tokVariableEnd || (k.kind == tokSymbol && k.text == ")") {
			break
		}
		items = append(items, one())
	}
	return &listExpr{items, true}
}

func (p *parser) expression() expr {
	defer p.deeper()()
	value := p.or()
	for {
		line := p.peek().line
		if !p.word("if") {
			return value
		}
		c := &conditionExpr{line: line, yes: value, test: p.or()}
		if p.word("else") {
			c.no = p.expression()
		}
		value = c
	}
}

func (p *parser) or() expr {
	left := p.and()
	for p.word("or") {
		left = &logicExpr{left, p.and(), true}
	}
	return left
}

func (p *parser) and() expr {
	left := p.not()
	for p.word("and") {
		left = &logicExpr{left, p.not(), false}
	}
	return left
}

func (p *parser) not() expr {
	if p.word("not") {
		defer p.deeper()()
		return &notExpr{p.not()}
	}
	return p.comparison()
}

func (p *parser) comparison() expr {
	line := p.peek().line
	first := p.sum()
	var rest []comparison
	for {
		t := p.peek()
		switch {
		case t.kind == tokSymbol && slices.Contains([]string{"==", "!=", "<", "<=", ">", ">="}, t.text):
			p.at++
			rest = append(rest, comparison{t.text, p.sum()})
		case t.kind == tokName && t.text == "in":
			p.at++
			rest = append(rest, comparison{"in", p.sum()})
		case t.kind == tokName && t.text == "not" && p.tokens[p.at+1].kind == tokName && p.tokens[p.at+1].text == "in":
			p.at += 2
			rest = append(rest, comparison{"not in", p.sum()})
		default:
			if rest == nil {
				return first
			}
			return &compareExpr{line, first, rest}
		}
	}
}

// binary reads operators of one rank, from left to right.
func (p *parser) binary(operand func() expr, operators ...string) expr {
	left := operand()
	for {
		t := p.peek()
		if t.kind != tokSymbol || !slices.Contains(operators, t.text) {
			return left
		}
		p.at++
		left = &binaryExpr{t.line, t.text, left, operand()}
	}
}

func (p *parser) sum() expr     { return p.binary(p.joined, "+", "-") }
func (p *parser) joined() expr  { return p.binary(p.product, "~") }
func (p *parser) product() expr { return p.binary(p.power, "*", "/", "//", "%") }
func (p *parser) power() expr   { return p.binary(p.signed, "**") }

func (p *parser) signed() expr { return p.unary(true) }

func (p *parser) unary(filtered bool) expr {
	t := p.peek()
	var value expr
	if t.kind == tokSymbol && (t.text == "-" || t.text == "+") {
		defer p.deeper()()
		p.at++
		value = &signExpr{t.line, t.text == "-", p.unary(false)}
	} else {
		value = p.primary()
	}
	value = p.postfix(value)
	if filtered {
		value = p.filters(value, false)
	}
	return value
}

func (p *parser) primary() expr {
	t := p.next()
	switch t.kind {
	case tokName:
		switch t.text {
		case "true", "True":
			return &constant{true}
		case "false", "False":
			return &constant{false}
		case "none", "None":
			return &constant{nil}
		}
		return &nameExpr{t.line, t.text}
	case tokString:
		text := t.text
		for p.peek().kind == tokString {
			text += p.next().text
		}
		return &constant{text}
	case tokInt:
		v, err := strconv.Atoi(t.text)
		if err != nil {
			fail(t.line, "integer %s is too large", t.text)
		}
		return &constant{v}
	case tokFloat:
		v, err := strconv.ParseFloat(t.text, 64)
		if err != nil {
			fail(t.line, "%q is no number", t.text)
		}
		return &constant{v}
	case tokSymbol:
		switch t.text {
		case "(":
			return p.parentheses()
		case "[":
			return &listExpr{p.sequence("]"), false}
		case "{":
			return p.dictionary(t.line)
		}
	}
	p.at--
	p.unexpected("a value")
	return nil
}

func (p *parser) parentheses() expr {
	defer p.deeper()()
	if p.symbol(")") {
		return &listExpr{nil, true}
	}
	value := p.tupleOr()
	p.want(")")
	return value
}

// sequence reads expressions up to a closing symbol.
func (p *parser) sequence(closing string) (items []expr) {
	defer p.deeper()()
	for !p.symbol(closing) {
		items = append(items, p.expression())
		if !p.symbol(",") {
			p.want(closing)
			return items
		}
	}
	return items
}

func (p *parser) dictionary(line int) expr {
	defer p.deeper()()
	d := &dictExpr{line: line}
	for !p.symbol("}") {
		d.keys = append(d.keys, p.expression())
		p.want(":")
		d.values = append(d.values, p.expression())
		if !p.symbol(",") {
			p.want("}")
			break
		}
	}
	return d
}

// postfix reads attributes, subscripts and calls.
func (p *parser) postfix(value expr) expr {
	for {
		line := p.peek().line
		switch {
		case p.symbol("."):
			if t := p.peek(); t.kind == tokInt {
				p.at++
				index, _ := strconv.Atoi(t.text)
				value = &itemExpr{line, value, &constant{index}}
				continue
			}
			value = &attributeExpr{line, value, p.name()}
		case p.symbol("["):
			value = p.subscript(value, line)
		case p.symbol("("):
			value = &callExpr{line, value, p.arguments()}
		default:
			return value
		}
	}
}

func (p *parser) subscript(value expr, line int) expr {
	var parts [3]expr
	colons := 0
	for {
		if p.symbol(":") {
			if colons++; colons > 2 {
				fail(line, "a slice has at most three parts")
			}
			continue
		}
		if p.symbol("]") {
			break
		}
		if parts[colons] != nil {
			p.unexpected("]")
		}
		parts[colons] = p.tupleOr()
	}
	if colons > 0 {
		return &sliceExpr{line, value, parts}
	}
	if parts[0] == nil {
		fail(line, "subscript without a value")
	}
	return &itemExpr{line, value, parts[0]}
}

func (p *parser) arguments() (a arguments) {
	defer p.deeper()()
	for !p.symbol(")") {
		if t := p.peek(); t.kind == tokName && p.tokens[p.at+1].kind == tokSymbol && p.tokens[p.at+1].text == "=" {
			p.at += 2
			a.names = append(a.names, t.text)
			a.named = append(a.named, p.expression())
		} else {
			a.list = append(a.list, p.expression())
		}
		if !p.symbol(",") {
			p.want(")")
			return a
		}
	}
	return a
}

// filters reads |filter and "is test" behind a value; with first set, the first
// filter's bar has been left out.
func (p *parser) filters(value expr, first bool) expr {
	for {
		line := p.peek().line
		switch {
		case first || p.symbol("|"):
			f := &filterExpr{line: line, value: value, name: p.name()}
			if filterTable[f.name] == nil {
				fail(line, "filter %q is not supported", f.name)
			}
			if p.symbol("(") {
				f.arguments = p.arguments()
			}
			value, first = f, false
		case p.word("is"):
			value = p.test(value, line)
		case p.peek().kind == tokSymbol && p.peek().text == "(":
			p.at++
			value = &callExpr{line, value, p.arguments()}
		default:
			return value
		}
	}
}

func (p *parser) test(value expr, line int) expr {
	t := &testExpr{line: line, value: value, not: p.word("not"), name: p.name()}
	if testTable[t.name] == nil {
		fail(line, "test %q is not supported", t.name)
	}
	switch k := p.peek(); {
	case p.symbol("("):
		t.arguments = p.arguments()
	case k.kind == tokString, k.kind == tokInt, k.kind == tokFloat,
		k.kind == tokSymbol && (k.text == "[" || k.text == "{"),
		k.kind == tokName && !slices.Contains([]string{"else", "or", "and", "is", "if", "in", "not"}, k.text):
		t.arguments.list = []expr{p.postfix(p.primary())}
	}
	return t
}
