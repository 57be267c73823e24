package checkpoint

import (
	"fmt"
	"regexp"
	"time"

	"github.com/dlclark/regexp2"
)

// maxPattern is the length of a regular expression in an adapter's config.
const maxPattern = 4096

// pattern is one of Python's regular expressions, matched against a whole
// module name. What Go's engine knows runs in linear time; lookaround and
// back references go to one that backtracks, under a time limit.
type pattern struct {
	source string
	fast   *regexp.Regexp
	slow   *regexp2.Regexp
}

// compilePattern compiles an expression that must match a name as a whole, as
// re.fullmatch does.
func compilePattern(source string) (*pattern, error) {
	return newPattern(source, `\A(?:`+source+`)\z`)
}

// compileSuffix compiles an expression that must match a name from its start
// or from behind a dot to its end: PEFT's rule for rank_pattern and
// alpha_pattern.
func compileSuffix(source string) (*pattern, error) {
	return newPattern(source, `\A(?:.*\.)?(?:`+source+`)\z`)
}

func newPattern(source, whole string) (*pattern, error) {
	if len(source) > maxPattern {
		return nil, fmt.Errorf("regular expression %.60q… has %d bytes, more than %d", source, len(source), maxPattern)
	}
	p := &pattern{source: source}
	var err error
	if p.fast, err = regexp.Compile(whole); err == nil {
		return p, nil
	}
	if p.slow, err = regexp2.Compile(whole, regexp2.RE2); err != nil {
		return nil, fmt.Errorf("regular expression %.200q: %w", source, err)
	}
	p.slow.MatchTimeout = 200 * time.Millisecond
	return p, nil
}

func (p *pattern) match(name string) (bool, error) {
	if p.fast != nil {
		return p.fast.MatchString(name), nil
	}
	ok, err := p.slow.MatchString(name)
	if err != nil {
		return false, fmt.Errorf("regular expression %.200q takes too long: %w", p.source, err)
	}
	return ok, nil
}
