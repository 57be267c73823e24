package tokenizer

import "unicode/utf8"

// span is a part of a text, a delimiter or not.
type span struct {
	start, end int
	match      bool
}

// splitMatches splits p at the matches of pattern.
func splitMatches(p piece, pattern *pattern, invert bool, how behavior, emit func(piece) error) error {
	var failed error
	hand := func(start, end int) {
		if failed == nil && start < end {
			failed = emit(piece{p.text[start:end], p.head && start == 0})
		}
	}
	last := 0
	var spans []span
	visit := func(start, end int, match bool) {
		switch {
		case how == isolated:
			hand(start, end)
		case how == removed:
			if match == invert {
				hand(start, end)
			}
		default:
			spans = append(spans, span{start, end, match != invert})
		}
	}
	err := pattern.each(p.text, func(start, end int) {
		if last < start {
			visit(last, start, false)
		}
		visit(start, end, true)
		last = end
	})
	if err != nil {
		return err
	}
	if last < len(p.text) {
		visit(last, len(p.text), false)
	}
	for _, s := range merge(spans, how) {
		hand(s.start, s.end)
	}
	return failed
}

// split treats each member as a delimiter by itself.
func (r runeSplit) split(p piece, emit func(piece) error) error {
	last := 0
	var spans []span
	for i, c := range p.text {
		if !r.member(c) {
			continue
		}
		if last < i {
			spans = append(spans, span{last, i, false})
		}
		last = i + utf8.RuneLen(c)
		spans = append(spans, span{i, last, true})
	}
	if last == 0 && spans == nil {
		return emit(p)
	}
	if last < len(p.text) {
		spans = append(spans, span{last, len(p.text), false})
	}
	for _, s := range merge(spans, r.behavior) {
		if s.match && r.behavior == removed || s.start == s.end {
			continue
		}
		if err := emit(piece{p.text[s.start:s.end], p.head && s.start == 0}); err != nil {
			return err
		}
	}
	return nil
}

// merge joins delimiters to their neighbours.
func merge(spans []span, how behavior) []span {
	var out []span
	previous := false
	switch how {
	case contiguous, mergedWithPrevious:
		for _, s := range spans {
			join := s.match == previous
			if how == mergedWithPrevious {
				join = s.match && !previous
			}
			if join && len(out) > 0 {
				out[len(out)-1].end = s.end
			} else {
				out = append(out, s)
			}
			previous = s.match
		}
		return out
	case mergedWithNext:
		at := len(spans)
		out = make([]span, len(spans))
		for i := len(spans) - 1; i >= 0; i-- {
			s := spans[i]
			if s.match && !previous && at < len(spans) {
				out[at].start = s.start
			} else {
				at--
				out[at] = s
			}
			previous = s.match
		}
		return out[at:]
	}
	return spans
}
