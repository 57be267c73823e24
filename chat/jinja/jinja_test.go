package jinja

import (
	"strings"
	"testing"
	"time"
)

func render(source string) (string, error) {
	t, err := Parse(source)
	if err != nil {
		return "", err
	}
	return t.Render(map[string]any{"messages": []any{map[string]any{"role": "user", "content": "hi"}}, "n": 3})
}

// TestClock: what templates make of jinja2's answers is held in chat's fixture;
// the clock cannot be.
func TestClock(t *testing.T) {
	now = func() time.Time { return time.Date(2024, 7, 4, 9, 5, 3, 0, time.UTC) }
	defer func() { now = time.Now }()
	got, err := render("{{ strftime_now('%d %b %Y, %-d %B %H:%M:%S %j %A %% %I %p') }}")
	if want := "04 Jul 2024, 4 July 09:05:03 186 Thursday % 09 AM"; err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	if _, err := render("{{ strftime_now('%Q') }}"); err == nil {
		t.Error("an unknown directive is taken")
	}
}

func TestErrors(t *testing.T) {
	for source, want := range map[string]string{
		"{{ a.b }}":                              `"a" is undefined`,
		"{{ a + 1 }}":                            `"a" is undefined`,
		"{{ 1 + 'a' }}":                          "+ of a int and a str",
		"{{ 1 / 0 }}":                            "division by zero",
		"\n{{ n() }}":                            "line 2: a int cannot be called",
		"{{ [1] < 2 }}":                          "no order",
		"{{ 5[0:1] }}":                           "cannot be sliced",
		"{{ n | nope }}":                         `filter "nope"`,
		"{{ n is nope }}":                        `test "nope"`,
		"{% include 'x' %}":                      `tag "include"`,
		"{% for x in y recursive %}{% endfor %}": "recursive",
		"{% if true %}":                          "missing elif",
		"{% break %}":                            "outside of a loop",
		"{{ 'a }}":                               "string without end",
		"{{ a":                                   "tag without }}",
		"{# a":                                   "comment without end",
		"{% raw %}":                              "raw block without end",
		"{{ [1].append(2) }}":                    "not allowed",
		"{{ {}.update({}) }}":                    "not allowed",
		"{% set ns = namespace(_x=1) %}":         "underscore",
		"{% set ns = namespace() %}{% set ns._a = 1 %}": "underscore",
		"{% set n.a = 1 %}":                             "no namespace",
		"{{ ''.__class__.__mro__ }}":                    "undefined",
		"{{ raise_exception('oh no') }}":                "oh no",
		"{{ {[]: 1} }}":                                 "cannot be a key",
		"{{ 99999999999999999999 }}":                    "too large",
		"{{ 9223372036854775807 * 9 }}":                 "overflow",
		"{{ 10 ** 30 }}":                                "overflow",
		"{{ range(10 ** 9) }}":                          "more than 100000",
		"{{ 'a' * 10 ** 9 }}":                           "bytes",
		"{{ ('%9999999999999d' % 1) }}":                 "format",
		strings.Repeat("{% if 1 %}", 500):               "nested more than",
		"{{ " + strings.Repeat("(", 500) + strings.Repeat(")", 500) + " }}":                                          "nested more than",
		"{{ " + strings.Repeat("-", 5000) + "1 }}":                                                                   "nested more than",
		"{{ " + strings.Repeat("not ", 5000) + "1 }}":                                                                "nested more than",
		"{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}":                                                            "deep",
		"{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}":                             "steps",
		"{% set ns = namespace(x='a') %}{% for a in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}":            "bytes",
		"{% for a in range(99999) %}{{ 'abc' * 9999 }}{% endfor %}":                                                  "bytes",
		"{% set ns = namespace(x=[1]) %}{% for a in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}": "e",
	} {
		begin := time.Now()
		got, err := render(source)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80s\ngot  %.80q, %v\nwant %q", source, got, err, want)
		}
		if spent := time.Since(begin); spent > 20*time.Second {
			t.Errorf("%.80s takes %v", source, spent)
		}
	}
	if _, err := Parse(strings.Repeat("a", maxSource+1)); err == nil {
		t.Error("a giant template is parsed")
	}
	type strange struct{}
	tmpl, err := Parse("{{ x }}")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tmpl.Render(map[string]any{"x": strange{}}); err == nil {
		t.Error("a strange value is rendered")
	}
	if _, err := FromJSON([]byte(strings.Repeat("[", 5000))); err == nil {
		t.Error("deep JSON is read")
	}
}

// FuzzTemplate: any template gives a text or an error.
func FuzzTemplate(f *testing.F) {
	for _, source := range []string{
		"{% for m in messages if m.role == 'user' %}{{ loop.index ~ m['content'][::-1] | tojson(indent=2) }}{% else %}x{% endfor %}",
		"{% set ns = namespace(a=1) %}{% macro f(x, y='z') %}{{ x.split(y)[-1].strip() }}{% endmacro %}{{ f('azb') }}{%- raw -%}{{{%- endraw -%}",
		"{{ range(2, 9, 3) | map('string') | join('-') if n is odd and not (n > 4) else 2 ** -1 // 3 % 2 }}{% filter upper %}a{% endfilter %}",
	} {
		f.Add(source)
	}
	f.Fuzz(func(_ *testing.T, source string) { _, _ = render(source) })
}
