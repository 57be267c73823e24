package tokenizer

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

func foldRange(ranges []runeRange, first, last rune) []runeRange {
	ranges = append(ranges, runeRange{first, last})
	for r := first; r <= last; r++ {
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			ranges = append(ranges, runeRange{f, f})
		}
	}
	return ranges
}

func (c *compiler) escape(set *runeSet) (r rune, single bool, err error) {
	c.at++
	if c.at >= len(c.source) {
		return 0, false, fmt.Errorf("trailing backslash")
	}
	r, n := utf8.DecodeRuneInString(c.source[c.at:])
	c.at += n
	switch r {
	case 's':
		set.flags |= flagSpace
	case 'S':
		set.notFlags = append(set.notFlags, flagSpace)
	case 'w':
		set.flags |= flagWord
	case 'W':
		set.notFlags = append(set.notFlags, flagWord)
	case 'd':
		set.categories |= categoryMask("Nd")
	case 'D':
		set.categories |= ^categoryMask("Nd")
	case 'p', 'P':
		return 0, false, c.property(set, r == 'P')
	case 'x', 'u':
		r, err = c.hex(r)
		return r, true, err
	default:
		if i := strings.IndexRune("ntrfvae0", r); i >= 0 {
			return rune("\n\t\r\f\v\a\x1b\x00"[i]), true, nil
		}
		if r < utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsDigit(r)) {
			return 0, false, fmt.Errorf("escape \\%c is not supported", r)
		}
		return r, true, nil
	}
	return 0, false, nil
}

func (c *compiler) hex(kind rune) (rune, error) {
	rest, digits := c.source[c.at:], ""
	if kind == 'x' && strings.HasPrefix(rest, "{") {
		end := strings.IndexByte(rest, '}')
		if end < 0 {
			return 0, fmt.Errorf(`missing } behind \x{`)
		}
		digits, c.at = rest[1:end], c.at+end+1
	} else {
		n := min(map[rune]int{'x': 2, 'u': 4}[kind], len(rest))
		digits, c.at = rest[:n], c.at+n
	}
	v, err := strconv.ParseUint(digits, 16, 32)
	if err != nil || !utf8.ValidRune(rune(v)) || v > unicode.MaxRune {
		return 0, fmt.Errorf("%q is no code point in hexadecimal", digits)
	}
	return rune(v), nil
}

func (c *compiler) property(set *runeSet, negated bool) error {
	rest := c.source[c.at:]
	end := strings.IndexByte(rest, '}')
	if !strings.HasPrefix(rest, "{") || end < 0 {
		return fmt.Errorf(`want {Name} behind \p`)
	}
	name := rest[1:end]
	c.at += end + 1
	if after, ok := strings.CutPrefix(name, "^"); ok {
		name, negated = after, !negated
	}
	if mask := categoryMask(name); mask != 0 {
		if negated {
			mask = ^mask
		}
		set.categories |= mask
		return nil
	}
	table := unicode.Scripts[name]
	if table == nil {
		return fmt.Errorf(`property %q, want a general category or a script`, name)
	}
	script := &runeSet{negated: negated}
	for _, r := range table.R16 {
		for v := rune(r.Lo); v <= rune(r.Hi); v += rune(r.Stride) {
			script.ranges = appendRange(script.ranges, v)
		}
	}
	for _, r := range table.R32 {
		for v := rune(r.Lo); v <= rune(r.Hi); v += rune(r.Stride) {
			script.ranges = appendRange(script.ranges, v)
		}
	}
	set.sets = append(set.sets, script.seal())
	return nil
}

func appendRange(ranges []runeRange, r rune) []runeRange {
	if n := len(ranges); n > 0 && ranges[n-1].last == r-1 {
		ranges[n-1].last = r
		return ranges
	}
	return append(ranges, runeRange{r, r})
}

func categoryMask(name string) (mask uint32) {
	if name == "" || len(name) > 2 {
		return 0
	}
	for i, category := range categoryNames {
		if strings.HasPrefix(category, name) {
			mask |= 1 << i
		}
	}
	return mask
}

func (c *compiler) class(fold bool, depth int) (*runeSet, error) {
	if depth > maxNesting {
		return nil, fmt.Errorf("classes nested more than %d deep", maxNesting)
	}
	c.at++
	whole := &runeSet{negated: c.eat("^")}
	set := whole
	for first := true; ; first = false {
		if c.at >= len(c.source) {
			return nil, fmt.Errorf("missing ]")
		}
		switch {
		case c.peek() == ']' && !first:
			c.at++
			if set != whole {
				set.seal()
			}
			return whole.seal(), nil
		case strings.HasPrefix(c.source[c.at:], "[:"):
			return nil, fmt.Errorf("[:name:] is not supported")
		case c.peek() == '[':
			inner, err := c.class(fold, depth+1)
			if err != nil {
				return nil, err
			}
			set.sets = append(set.sets, inner)
		case c.eat("&&"):
			next := &runeSet{}
			whole.and = append(whole.and, next)
			set = next
		default:
			if err := c.member(set, fold); err != nil {
				return nil, err
			}
		}
	}
}

func (c *compiler) member(set *runeSet, fold bool) error {
	low, single, err := c.point(set)
	if err != nil || !single {
		return err
	}
	high := low
	rest := c.source[c.at:]
	if len(rest) > 1 && rest[0] == '-' && rest[1] != ']' && rest[1] != '[' {
		c.at++
		if high, single, err = c.point(&runeSet{}); err != nil {
			return err
		}
		if !single || high < low {
			return fmt.Errorf("bad range in a class")
		}
	}
	if fold && high-low < 0x1000 {
		set.ranges = foldRange(set.ranges, low, high)
	} else {
		set.ranges = append(set.ranges, runeRange{low, high})
	}
	return nil
}

func (c *compiler) point(set *runeSet) (rune, bool, error) {
	if c.peek() == '\\' {
		return c.escape(set)
	}
	r, n := utf8.DecodeRuneInString(c.source[c.at:])
	c.at += n
	return r, true, nil
}
