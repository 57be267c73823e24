// Package jinja renders the Jinja templates that chat models bring along, with
// Python's semantics and the settings of transformers (trim_blocks,
// lstrip_blocks, loop controls, the generation tag, an immutable sandbox).
//
// Templates come from strangers: a rendering has a budget of steps and of
// output, nesting is bounded, and there is no way to files, the network or
// Go's reflection.
package jinja

import (
	"fmt"
	"maps"
	"strings"
)

const (
	maxSource  = 1 << 20
	maxTokens  = 1 << 18
	maxNesting = 200
	maxSteps   = 4_000_000
	maxOutput  = 16 << 20 // bytes, also of any string on the way
	maxRange   = 100_000  // Jinja's own limit
)

// Template is a parsed template. It is safe for concurrent use.
type Template struct{ body []stmt }

// templateError is what fail panics with; it does not leave the package.
type templateError struct {
	line    int
	message string
}

func (e *templateError) Error() string {
	if e.line == 0 {
		return e.message
	}
	return fmt.Sprintf("line %d: %s", e.line, e.message)
}

func fail(line int, format string, args ...any) {
	panic(&templateError{line, fmt.Sprintf(format, args...)})
}

// catch turns a failure into an error.
func catch(err *error) {
	switch r := recover().(type) {
	case nil:
	case *templateError:
		*err = r
	default:
		panic(r)
	}
}

// Parse reads a template.
func Parse(source string) (t *Template, err error) {
	defer catch(&err)
	if len(source) > maxSource {
		return nil, fmt.Errorf("template of %d bytes, want at most %d", len(source), maxSource)
	}
	p := &parser{tokens: lex(strings.ToValidUTF8(source, "\uFFFD"))}
	body, _ := p.body()
	return &Template{body}, nil
}

// Render writes the template with the given variables: nil, bool, int, float64,
// string, slices and maps of those (as in encoding/json), *List, *Dict.
// A Dict keeps its order, a map is sorted.
func (t *Template) Render(variables map[string]any) (text string, err error) {
	defer catch(&err)
	s := &state{left: maxSteps, filters: filterTable, tests: testTable}
	globals := &scope{values: maps.Clone(globalTable)}
	for k, v := range variables {
		globals.values[k] = plain(v, 0)
	}
	s.scope = &scope{parent: globals, values: map[string]any{}}
	s.run(t.body)
	return s.out.String(), nil
}

// raise ends the rendering with the message it is given.
func raise(s *state, args []any, _ *Dict) any {
	message := ""
	if len(args) > 0 {
		message = s.text(args[0])
	}
	panic(&templateError{0, message})
}

// FromJSON reads JSON with the order of its objects kept.
func FromJSON(data []byte) (v any, err error) {
	defer catch(&err)
	d := newJSONReader(data)
	v = d.value(0)
	d.end()
	return v, nil
}
