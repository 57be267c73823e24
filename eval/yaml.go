package eval

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

const (
	maxTaskFile  = 4 << 20
	maxYAMLDepth = 16
)

// node is a place in a YAML file that is read strictly: whatever is not asked
// for is an error, and every error names file and line.
type node struct {
	file string
	at   ast.Node
}

func (n node) errorf(format string, args ...any) error {
	return fmt.Errorf("%s:%d: %s", n.file, n.line(), fmt.Sprintf(format, args...))
}

func (n node) line() int {
	if n.at == nil || n.at.GetToken() == nil {
		return 1
	}
	return n.at.GetToken().Position.Line
}

// parseYAML parses a file of one document.
func parseYAML(file string, text []byte) (n node, err error) {
	defer func() {
		if r := recover(); r != nil { // of the parser
			err = fmt.Errorf("%s: is no YAML: %v", file, r)
		}
	}()
	for i, line := range strings.Split(string(text), "\n") {
		// The parser's time grows with the square of this.
		if strings.Count(line, "[")+strings.Count(line, "{") > 1000 {
			return n, fmt.Errorf("%s:%d: more than 1000 brackets in a line", file, i+1)
		}
	}
	f, err := parser.ParseBytes(text, 0)
	if err != nil {
		return n, fmt.Errorf("%s: %s", file, syntax(err))
	}
	if len(f.Docs) != 1 || f.Docs[0].Body == nil {
		return n, fmt.Errorf("%s: want one YAML document, got %d", file, len(f.Docs))
	}
	return node{file, f.Docs[0].Body}, nil
}

// syntax makes one line of a parser's error, which shows the source below.
func syntax(err error) string {
	first, _, _ := strings.Cut(err.Error(), "\n")
	first = strings.TrimSpace(first)
	if line, rest, ok := strings.Cut(strings.TrimPrefix(first, "["), "] "); ok {
		number, _, _ := strings.Cut(line, ":")
		return "line " + number + ": " + rest
	}
	return first
}

// field is a key of a mapping and what takes its value.
type field struct {
	name string
	set  func(node) error
}

// object reads a mapping: every key must be one of fields, and occurs once.
func (n node) object(what string, fields ...field) error {
	values, err := n.pairs(what)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, v := range values {
		key := node{n.file, v.Key}
		name, err := key.text("key")
		if err != nil {
			return err
		}
		if seen[name] {
			return key.errorf("%s has %q twice", what, name)
		}
		seen[name] = true
		known := false
		for _, f := range fields {
			if f.name != name {
				continue
			}
			known = true
			if err := f.set(node{n.file, v.Value}); err != nil {
				return err
			}
		}
		if !known {
			return key.errorf("%s has no key %q: want %s", what, name, names(fields))
		}
	}
	return nil
}

func names(fields []field) string {
	list := make([]string, len(fields))
	for i, f := range fields {
		list[i] = f.name
	}
	return strings.Join(list, ", ")
}

func (n node) pairs(what string) ([]*ast.MappingValueNode, error) {
	switch v := n.at.(type) {
	case *ast.MappingNode:
		return v.Values, nil
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{v}, nil
	}
	return nil, n.errorf("%s: want a mapping (key: value), got %s", what, n.kind())
}

// kind names what stands at n.
func (n node) kind() string {
	switch n.at.(type) {
	case nil, *ast.NullNode:
		return "nothing"
	case *ast.StringNode, *ast.LiteralNode:
		return "a string"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "a number"
	case *ast.BoolNode:
		return "a boolean"
	case *ast.SequenceNode:
		return "a list"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode:
		return "an anchor or alias, which task files do not have"
	case *ast.TagNode:
		return "a tag, which task files do not have"
	}
	return "something else"
}

// text reads a string.
func (n node) text(what string) (string, error) {
	switch v := n.at.(type) {
	case *ast.StringNode:
		return v.Value, nil
	case *ast.LiteralNode:
		return v.Value.Value, nil
	}
	hint := ""
	switch n.at.(type) {
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		hint = ": put it in quotes"
	}
	return "", n.errorf("%s: want a string, got %s%s", what, n.kind(), hint)
}

// str, count and so on return the setters of fields.

func str(what string, to *string) field {
	return field{what, func(n node) (err error) {
		if *to, err = n.text(what); err == nil && *to == "" {
			err = n.errorf("%s is empty", what)
		}
		return err
	}}
}

func count(what string, lo, hi int, to *int) field {
	return field{what, func(n node) error {
		v, ok := n.at.(*ast.IntegerNode)
		if !ok {
			return n.errorf("%s: want a whole number, got %s", what, n.kind())
		}
		i, err := strconv.Atoi(fmt.Sprint(v.Value))
		if err != nil || i < lo || i > hi {
			return n.errorf("%s is %v, want %d to %d", what, v.Value, lo, hi)
		}
		*to = i
		return nil
	}}
}

func flag(what string, to *bool) field {
	return field{what, func(n node) error {
		v, ok := n.at.(*ast.BoolNode)
		if !ok {
			return n.errorf("%s: want true or false, got %s", what, n.kind())
		}
		*to = v.Value
		return nil
	}}
}

// list reads the elements of a sequence.
func (n node) list(what string, each func(node) error) error {
	s, ok := n.at.(*ast.SequenceNode)
	if !ok {
		return n.errorf("%s: want a list, got %s", what, n.kind())
	}
	if len(s.Values) == 0 {
		return n.errorf("%s is empty", what)
	}
	for _, v := range s.Values {
		if err := each(node{n.file, v}); err != nil {
			return err
		}
	}
	return nil
}

func (n node) strings(what string) (list []string, err error) {
	err = n.list(what, func(e node) error {
		s, err := e.text(what)
		list = append(list, s)
		return err
	})
	return list, err
}

func texts(what string, to *[]string) field {
	return field{what, func(n node) (err error) {
		*to, err = n.strings(what)
		return err
	}}
}

// oneOrMore reads a string or a list of strings.
func oneOrMore(what string, to *[]string) field {
	return field{what, func(n node) (err error) {
		if _, ok := n.at.(*ast.SequenceNode); ok {
			*to, err = n.strings(what)
			return err
		}
		s, err := n.text(what)
		*to = []string{s}
		return err
	}}
}

func oneOf(what string, to *string, values ...string) field {
	return field{what, func(n node) (err error) {
		if *to, err = n.text(what); err != nil {
			return err
		}
		for _, v := range values {
			if *to == v {
				return nil
			}
		}
		return n.errorf("%s is %q, want %s", what, *to, strings.Join(values, ", "))
	}}
}
