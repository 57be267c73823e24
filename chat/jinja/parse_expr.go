package jinja

import (
	"slices"
	"strconv"
)

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
