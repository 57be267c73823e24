package tokenizer

import (
	"errors"
	"unicode/utf8"
)

// pattern is a compiled regular expression of the kind that tokenizer files
// hold: Oniguruma's Ruby syntax over the reference's Unicode tables, leftmost
// and backtracking, so first alternatives and greedy loops win. Groups do not
// capture; look-behind and back references are refused when compiling. It is
// safe for concurrent use.
type pattern struct {
	root  *node
	slots int // loops that must make progress
}

type nodeKind uint8

const (
	nodeAccept nodeKind = iota
	nodeLiteral
	nodeSet       // one code point of set
	nodeRun       // min to max code points of set
	nodeAlternate // one of alts
	nodeLoop      // body again (then back here), or on
	nodeAtomic    // body once, without going back into it
	nodeAhead     // look-ahead: body matches here
	nodeNotAhead
	nodeLineStart
	nodeLineEnd
	nodeTextStart
	nodeTextEnd
	nodeTextEndNewline
	nodeBoundary
	nodeNotBoundary
)

type node struct {
	kind       nodeKind
	lazy       bool
	possessive bool
	min, max   int // of nodeRun; max < 0 is unbounded
	slot       int // of nodeLoop
	literal    string
	set        *runeSet
	alts       []*node
	body       *node
	next       *node
}

// errSlowPattern reports a match that went back and forth too often.
var errSlowPattern = errors.New("the pattern backtracks without end on this text")

// matcher is the state of one search.
type matcher struct {
	text  string
	steps int   // left
	depth int   // of the recursion
	loops []int // per slot: where the current iteration began
	err   error
}

const (
	stepsPerByte = 500
	stepsAtLeast = 1 << 20
	maxDepth     = 200000
)

// each calls found with every match in text, leftmost first and without
// overlap. An empty match right behind a match is skipped.
func (p *pattern) each(text string, found func(start, end int)) error {
	m := matcher{text: text, steps: stepsAtLeast + stepsPerByte*len(text)}
	if p.slots > 0 {
		m.loops = make([]int, p.slots)
	}
	last := -1
	for at := 0; at <= len(text); {
		end := m.match(p.root, at)
		if m.err != nil {
			return m.err
		}
		if end >= 0 && (end > at || last != end) {
			found(at, end)
			last = end
			if end > at {
				at = end
				continue
			}
		}
		if at == len(text) {
			break
		}
		_, n := utf8.DecodeRuneInString(text[at:])
		at += n
	}
	return nil
}

// match returns where a match of n that begins at i ends, or -1.
func (m *matcher) match(n *node, i int) int {
	for {
		if m.steps--; m.steps < 0 {
			m.err = errSlowPattern
			return -1
		}
		switch n.kind {
		case nodeAccept:
			return i
		case nodeLiteral:
			if len(m.text)-i < len(n.literal) || m.text[i:i+len(n.literal)] != n.literal {
				return -1
			}
			i += len(n.literal)
		case nodeSet:
			w := n.set.width(m.text, i)
			if w == 0 {
				return -1
			}
			i += w
		case nodeRun:
			return m.run(n, i)
		case nodeAlternate:
			last := len(n.alts) - 1
			for _, alt := range n.alts[:last] {
				if end := m.descend(alt, i); end >= 0 || m.err != nil {
					return end
				}
			}
			n = n.alts[last]
			continue
		case nodeLoop:
			return m.loop(n, i)
		case nodeAtomic:
			if i = m.descend(n.body, i); i < 0 {
				return -1
			}
		case nodeAhead, nodeNotAhead:
			if (m.descend(n.body, i) >= 0) != (n.kind == nodeAhead) || m.err != nil {
				return -1
			}
		default:
			if !m.holds(n.kind, i) {
				return -1
			}
		}
		n = n.next
	}
}

// descend is match one level deeper, within bounds.
func (m *matcher) descend(n *node, i int) int {
	if n.kind == nodeLiteral && (i >= len(m.text) || m.text[i] != n.literal[0]) {
		return -1
	}
	if m.depth++; m.depth > maxDepth {
		m.err = errSlowPattern
		return -1
	}
	end := m.match(n, i)
	m.depth--
	return end
}

// run matches a repeated set and what follows it.
func (m *matcher) run(n *node, i int) int {
	end, count := i, 0
	if n.lazy {
		for ; count < n.min; count++ {
			w := n.set.width(m.text, end)
			if w == 0 {
				return -1
			}
			end += w
		}
		for {
			if got := m.descend(n.next, end); got >= 0 || m.err != nil {
				return got
			}
			w := n.set.width(m.text, end)
			if w == 0 || count == n.max {
				return -1
			}
			end, count = end+w, count+1
		}
	}
	for count != n.max {
		w := n.set.width(m.text, end)
		if w == 0 {
			break
		}
		end, count = end+w, count+1
	}
	m.steps -= count / 4
	if count < n.min {
		return -1
	}
	if n.next.kind == nodeAccept {
		return end
	}
	for {
		got := m.descend(n.next, end)
		if got >= 0 || m.err != nil || n.possessive || count == n.min {
			return got
		}
		_, w := utf8.DecodeLastRuneInString(m.text[i:end])
		end, count = end-w, count-1
	}
}

// loop tries one more round of the body and what follows the loop.
func (m *matcher) loop(n *node, i int) int {
	began := m.loops[n.slot]
	if began == i+1 { // the last round was empty
		return m.descend(n.next, i)
	}
	if n.lazy {
		if end := m.leave(n, i); end >= 0 || m.err != nil {
			return end
		}
	}
	m.loops[n.slot] = i + 1
	end := m.descend(n.body, i)
	m.loops[n.slot] = began
	if end >= 0 || m.err != nil || n.lazy {
		return end
	}
	return m.leave(n, i)
}

// leave matches what follows the loop, whose slot is free meanwhile.
func (m *matcher) leave(n *node, i int) int {
	began := m.loops[n.slot]
	m.loops[n.slot] = 0
	end := m.descend(n.next, i)
	m.loops[n.slot] = began
	return end
}

// holds reports whether an assertion is true at i.
func (m *matcher) holds(kind nodeKind, i int) bool {
	text := m.text
	switch kind {
	case nodeLineStart:
		return i == 0 || (text[i-1] == '\n' && i < len(text))
	case nodeLineEnd:
		return i == len(text) || text[i] == '\n'
	case nodeTextStart:
		return i == 0
	case nodeTextEnd:
		return i == len(text)
	case nodeTextEndNewline:
		return i == len(text) || text[i:] == "\n"
	}
	before, _ := utf8.DecodeLastRuneInString(text[:i])
	after, _ := utf8.DecodeRuneInString(text[i:])
	left := i > 0 && runeIs(before, flagWord)
	right := i < len(text) && runeIs(after, flagWord)
	return (left != right) == (kind == nodeBoundary)
}

// runeSet is a set of code points.
type runeSet struct {
	ascii      [2]uint64 // membership below 128, complement included
	ranges     []runeRange
	categories uint32   // one bit a general category
	flags      uint32   // any of these
	notFlags   []uint32 // none of one of these
	sets       []*runeSet
	and        []*runeSet
	negated    bool
}

type runeRange struct{ first, last rune }

// width returns the length of the code point of text at i if s has it, else 0.
func (s *runeSet) width(text string, i int) int {
	if i >= len(text) {
		return 0
	}
	if c := text[i]; c < utf8.RuneSelf {
		return int(s.ascii[c>>6] >> (c & 63) & 1)
	}
	c, w := utf8.DecodeRuneInString(text[i:])
	if s.has(c) {
		return w
	}
	return 0
}

// has reports whether c is a member, from the parts alone.
func (s *runeSet) has(c rune) bool {
	in := s.unionHas(c)
	for _, other := range s.and {
		in = in && other.has(c)
	}
	return in != s.negated
}

func (s *runeSet) unionHas(c rune) bool {
	if s.categories|s.flags != 0 || s.notFlags != nil {
		flags := runeFlags(c)
		if s.categories>>(flags&flagCategory)&1 != 0 || flags&s.flags != 0 {
			return true
		}
		for _, not := range s.notFlags {
			if flags&not == 0 {
				return true
			}
		}
	}
	for _, r := range s.ranges {
		if c >= r.first && c <= r.last {
			return true
		}
	}
	for _, other := range s.sets {
		if other.has(c) {
			return true
		}
	}
	return false
}

// seal fills the table of the code points below 128.
func (s *runeSet) seal() *runeSet {
	s.ascii = [2]uint64{}
	for c := range rune(utf8.RuneSelf) {
		if s.has(c) {
			s.ascii[c>>6] |= 1 << (c & 63)
		}
	}
	return s
}
