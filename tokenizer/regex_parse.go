package tokenizer

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxPattern = 1 << 14 // bytes of a pattern
	maxNodes   = 1 << 14
	maxNesting = 100
	maxRepeat  = 1000 // of a counted repetition
)

// compilePattern parses source; see pattern for what it may hold.
func compilePattern(source string) (*pattern, error) {
	if len(source) > maxPattern {
		return nil, fmt.Errorf("pattern of %d bytes, want at most %d", len(source), maxPattern)
	}
	if !utf8.ValidString(source) {
		return nil, fmt.Errorf("pattern %q is not UTF-8", source)
	}
	c := &compiler{source: source}
	tree, err := c.alternation(false, 0)
	if err == nil && c.at < len(source) {
		err = fmt.Errorf("unexpected %q", source[c.at])
	}
	var root *node
	if err == nil {
		root, err = c.link(tree, &node{kind: nodeAccept})
	}
	if err != nil {
		return nil, fmt.Errorf("pattern %q, byte %d: %w", source, c.at, err)
	}
	return &pattern{root: root, slots: c.slots}, nil
}

// literalPattern matches text itself.
func literalPattern(text string) (*pattern, error) {
	if text == "" {
		return &pattern{root: &node{kind: nodeNotAhead, body: &node{kind: nodeAccept}}}, nil
	}
	return &pattern{root: &node{kind: nodeLiteral, literal: text, next: &node{kind: nodeAccept}}}, nil
}

// tree is a pattern before its nodes are linked.
type tree struct {
	kind     nodeKind
	literal  string
	set      *runeSet
	subtrees []*tree // of a sequence or an alternation, or the one body
	sequence bool
	repeat   bool // subtrees[0], min to max times
	min, max int
	lazy     bool
	atomic   bool // also possessive
}

type compiler struct {
	source string
	at     int
	nodes  int
	slots  int
}

func (c *compiler) peek() byte {
	if c.at < len(c.source) {
		return c.source[c.at]
	}
	return 0
}

func (c *compiler) eat(text string) bool {
	if strings.HasPrefix(c.source[c.at:], text) {
		c.at += len(text)
		return true
	}
	return false
}

func (c *compiler) alternation(fold bool, depth int) (*tree, error) {
	if depth > maxNesting {
		return nil, fmt.Errorf("groups nested more than %d deep", maxNesting)
	}
	var branches []*tree
	for {
		branch, err := c.branch(fold, depth)
		if err != nil {
			return nil, err
		}
		branches = append(branches, branch)
		if !c.eat("|") {
			break
		}
	}
	if len(branches) == 1 {
		return branches[0], nil
	}
	return &tree{kind: nodeAlternate, subtrees: branches}, nil
}

func (c *compiler) branch(fold bool, depth int) (*tree, error) {
	seq := &tree{sequence: true}
	for c.at < len(c.source) && c.peek() != '|' && c.peek() != ')' {
		atom, err := c.atom(fold, depth)
		if err != nil {
			return nil, err
		}
		if atom, err = c.quantified(atom); err != nil {
			return nil, err
		}
		seq.subtrees = append(seq.subtrees, atom)
	}
	return seq, nil
}

func (c *compiler) atom(fold bool, depth int) (*tree, error) {
	switch b := c.peek(); b {
	case '(':
		return c.group(fold, depth)
	case '[':
		set, err := c.class(fold, depth)
		return &tree{kind: nodeSet, set: set}, err
	case '*', '+', '?':
		return nil, fmt.Errorf("nothing to repeat with %q", b)
	case '.':
		c.at++
		return &tree{kind: nodeSet, set: (&runeSet{ranges: []runeRange{{'\n', '\n'}}, negated: true}).seal()}, nil
	case '^':
		c.at++
		return &tree{kind: nodeLineStart}, nil
	case '$':
		c.at++
		return &tree{kind: nodeLineEnd}, nil
	case '\\':
		if t := c.assertion(); t != nil {
			return t, nil
		}
		set := &runeSet{}
		r, single, err := c.escape(set)
		if err != nil {
			return nil, err
		}
		if !single {
			return &tree{kind: nodeSet, set: set.seal()}, nil
		}
		return literalTree(r, fold), nil
	}
	r, n := utf8.DecodeRuneInString(c.source[c.at:])
	c.at += n
	return literalTree(r, fold), nil
}

func (c *compiler) assertion() *tree {
	for text, kind := range map[string]nodeKind{
		`\A`: nodeTextStart, `\z`: nodeTextEnd, `\Z`: nodeTextEndNewline, `\b`: nodeBoundary, `\B`: nodeNotBoundary,
	} {
		if c.eat(text) {
			return &tree{kind: kind}
		}
	}
	return nil
}

func literalTree(r rune, fold bool) *tree {
	if fold && unicode.SimpleFold(r) != r {
		return &tree{kind: nodeSet, set: (&runeSet{ranges: foldRange(nil, r, r)}).seal()}
	}
	return &tree{kind: nodeLiteral, literal: string(r)}
}

// foldRange appends first to last and all their case variants.
func (c *compiler) group(fold bool, depth int) (*tree, error) {
	c.at++
	kind, atomic := nodeAccept, false
	if c.eat("?") {
		switch {
		case c.eat(":"):
		case c.eat("i:"):
			fold = true
		case c.eat("-i:"):
			fold = false
		case c.eat("="):
			kind = nodeAhead
		case c.eat("!"):
			kind = nodeNotAhead
		case c.eat(">"):
			atomic = true
		default:
			return nil, fmt.Errorf("group (?%.4s… is not supported (plain, (?:, (?i:, (?=, (?!, (?> are)", c.source[c.at:])
		}
	}
	body, err := c.alternation(fold, depth+1)
	if err != nil {
		return nil, err
	}
	if !c.eat(")") {
		return nil, fmt.Errorf("missing )")
	}
	if kind != nodeAccept {
		return &tree{kind: kind, subtrees: []*tree{body}}, nil
	}
	if atomic {
		return &tree{kind: nodeAtomic, subtrees: []*tree{body}}, nil
	}
	return body, nil
}

var counted = regexp.MustCompile(`^\{(\d{0,4})(,?)(\d{0,4})\}`)

// quantified reads the quantifiers behind atom. As in Ruby, {m,n}+ repeats the
// counted repetition, while ?+, *+ and ++ are possessive.
func (c *compiler) quantified(atom *tree) (*tree, error) {
	for {
		low, high, interval := 0, -1, false
		switch {
		case c.eat("?"):
			high = 1
		case c.eat("*"):
		case c.eat("+"):
			low = 1
		default:
			m := counted.FindStringSubmatch(c.source[c.at:])
			if m == nil || (m[1] == "" && m[3] == "") {
				return atom, nil
			}
			interval = true
			low, _ = strconv.Atoi(m[1])
			high = low
			if m[2] != "" {
				high = -1
				if m[3] != "" {
					high, _ = strconv.Atoi(m[3])
				}
			}
			if low > maxRepeat || high > maxRepeat || (high >= 0 && high < low) {
				return nil, fmt.Errorf("repetition %s, want counts in order and at most %d", m[0], maxRepeat)
			}
			c.at += len(m[0])
		}
		t := &tree{repeat: true, min: low, max: high, subtrees: []*tree{atom}}
		if c.eat("?") {
			t.lazy = true
		} else if !interval && c.eat("+") {
			t.atomic = true
		}
		atom = t
	}
}

// escape reads one escape: a code point, or members added to set.
// property reads {Name} or {^Name} behind \p.
// categoryMask returns one bit for each general category that name covers ("L"
// covers "Lu", "Ll", …), 0 for an unknown name.
// class reads [...], with nested classes and && as in Oniguruma.
// member reads one code point, range or escape of a class.
// link turns t into nodes that go on to next.
func (c *compiler) link(t *tree, next *node) (*node, error) {
	if c.nodes++; c.nodes > maxNodes {
		return nil, fmt.Errorf("more than %d parts", maxNodes)
	}
	switch {
	case t.sequence:
		var err error
		for _, sub := range slices.Backward(t.subtrees) {
			if next, err = c.link(sub, next); err != nil {
				return nil, err
			}
		}
		return next, nil
	case t.repeat:
		return c.linkRepeat(t, next)
	}
	switch t.kind {
	case nodeAlternate:
		n := &node{kind: nodeAlternate}
		for _, sub := range t.subtrees {
			branch, err := c.link(sub, next)
			if err != nil {
				return nil, err
			}
			n.alts = append(n.alts, branch)
		}
		return n, nil
	case nodeAhead, nodeNotAhead, nodeAtomic:
		body, err := c.link(t.subtrees[0], &node{kind: nodeAccept})
		return &node{kind: t.kind, body: body, next: next}, err
	case nodeLiteral:
		if next.kind == nodeLiteral { // two literals in a row are one
			return &node{kind: nodeLiteral, literal: t.literal + next.literal, next: next.next}, nil
		}
	}
	return &node{kind: t.kind, literal: t.literal, set: t.set, next: next}, nil
}

func (c *compiler) linkRepeat(t *tree, next *node) (*node, error) {
	body := t.subtrees[0]
	for body.sequence && len(body.subtrees) == 1 {
		body = body.subtrees[0]
	}
	if set := body.oneRune(); set != nil {
		return &node{kind: nodeRun, set: set, min: t.min, max: t.max, lazy: t.lazy, possessive: t.atomic, next: next}, nil
	}
	if t.atomic {
		plain := *t
		plain.atomic = false
		inner, err := c.link(&plain, &node{kind: nodeAccept})
		return &node{kind: nodeAtomic, body: inner, next: next}, err
	}
	tail := next
	if t.max < 0 {
		loop := &node{kind: nodeLoop, lazy: t.lazy, slot: c.slots, next: next}
		c.slots++
		var err error
		if loop.body, err = c.link(body, loop); err != nil {
			return nil, err
		}
		tail = loop
	}
	for range max(t.max-t.min, 0) {
		again, err := c.link(body, tail)
		if err != nil {
			return nil, err
		}
		alts := []*node{again, next}
		if t.lazy {
			alts = []*node{next, again}
		}
		tail = &node{kind: nodeAlternate, alts: alts}
	}
	for range t.min {
		var err error
		if tail, err = c.link(body, tail); err != nil {
			return nil, err
		}
	}
	return tail, nil
}

// oneRune returns the set of a tree that always matches one code point, or nil.
func (t *tree) oneRune() *runeSet {
	if t.sequence || t.repeat {
		return nil
	}
	if t.kind == nodeSet {
		return t.set
	}
	if t.kind == nodeLiteral && utf8.RuneCountInString(t.literal) == 1 {
		r, _ := utf8.DecodeRuneInString(t.literal)
		return (&runeSet{ranges: []runeRange{{r, r}}}).seal()
	}
	return nil
}
