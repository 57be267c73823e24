package main

import (
	"bytes"
	"errors"
	"regexp"
	"strings"

	ardanlabs "github.com/ardanlabs/jinja"
	"github.com/flosch/pongo2/v6"
	"github.com/nikolalohinski/gonja/v2/builtins"
	"github.com/nikolalohinski/gonja/v2/config"
	"github.com/nikolalohinski/gonja/v2/exec"
	"github.com/nikolalohinski/gonja/v2/loaders"

	"smelt/chat/jinja"
)

func own(source string, variables map[string]any) (string, error) {
	t, err := jinja.Parse(source)
	if err != nil {
		return "", err
	}
	values := map[string]any{}
	for key, v := range variables {
		values[key] = ownValue(v)
	}
	return t.Render(values)
}

func ownValue(v any) any {
	switch v := v.(type) {
	case *object:
		d := jinja.NewDict()
		for _, key := range v.keys {
			d.Set(key, ownValue(v.values[key]))
		}
		return d
	case []any:
		list := &jinja.List{}
		for _, item := range v {
			list.Items = append(list.Items, ownValue(item))
		}
		return list
	case int64:
		return int(v)
	}
	return v
}

// generation is the one tag that transformers adds to Jinja. It only marks its
// body, and so becomes a condition that holds.
var (
	generation    = regexp.MustCompile(`\{%([-+]?)\s*generation\s*([-+]?)%\}`)
	endgeneration = regexp.MustCompile(`\{%([-+]?)\s*endgeneration\s*([-+]?)%\}`)
)

func withoutGeneration(source string) string {
	return endgeneration.ReplaceAllString(generation.ReplaceAllString(source, "{%$1 if true $2%}"), "{%$1 endif $2%}")
}

func ardan(source string, variables map[string]any) (string, error) {
	t, err := ardanlabs.Compile(withoutGeneration(source))
	if err != nil {
		return "", err
	}
	values := map[string]ardanlabs.Value{}
	for key, v := range variables {
		values[key] = ardanValue(v)
	}
	return t.RenderValues(values)
}

func ardanValue(v any) ardanlabs.Value {
	switch v := v.(type) {
	case *object:
		d := ardanlabs.NewDict()
		for _, key := range v.keys {
			d.AsDict().Set(key, ardanValue(v.values[key]))
		}
		return d
	case []any:
		list := make([]ardanlabs.Value, len(v))
		for i, item := range v {
			list[i] = ardanValue(item)
		}
		return ardanlabs.NewList(list)
	}
	return ardanlabs.FromGoValue(v)
}

func gonja2(source string, variables map[string]any) (string, error) {
	c := config.New()
	c.TrimBlocks, c.LeftStripBlocks = true, true
	files := loaders.MustNewFileSystemLoader("")
	loader, err := loaders.NewShiftedLoader("template", strings.NewReader(withoutGeneration(source)), files)
	if err != nil {
		return "", err
	}
	filters := exec.NewFilterSet(map[string]exec.FilterFunction{
		"tojson": func(_ *exec.Evaluator, in *exec.Value, p *exec.VarArgs) *exec.Value {
			indent := ""
			if n, ok := p.KwArgs["indent"]; ok {
				indent = strings.Repeat(" ", n.Integer())
			}
			return exec.AsSafeValue(dump(fromGonja(in.Interface()), indent, 0))
		},
	})
	t, err := exec.NewTemplate("template", c, loader, &exec.Environment{
		Context:           exec.EmptyContext().Update(builtins.GlobalFunctions).Update(builtins.GlobalVariables),
		Filters:           exec.NewFilterSet(map[string]exec.FilterFunction{}).Update(builtins.Filters).Update(filters),
		Tests:             builtins.Tests,
		ControlStructures: builtins.ControlStructures,
		Methods:           builtins.Methods,
	})
	if err != nil {
		return "", err
	}
	values := map[string]any{"raise_exception": func(message string) (string, error) { return "", errors.New(message) }}
	for key, v := range variables {
		values[key] = gonjaValue(v)
	}
	var out bytes.Buffer
	err = t.Execute(&out, exec.NewContext(values))
	return out.String(), err
}

func gonjaValue(v any) any {
	switch v := v.(type) {
	case *object:
		d := exec.NewDict()
		for _, key := range v.keys {
			d.Pairs = append(d.Pairs, &exec.Pair{Key: exec.AsValue(key), Value: exec.AsValue(gonjaValue(v.values[key]))})
		}
		return d
	case []any:
		list := make([]any, len(v))
		for i, item := range v {
			list[i] = gonjaValue(item)
		}
		return list
	case int64:
		return int(v)
	}
	return v
}

// fromGonja is the way back, for tojson.
func fromGonja(v any) any {
	switch v := v.(type) {
	case *exec.Value:
		return fromGonja(v.Interface())
	case *exec.Dict:
		return fromGonja(*v)
	case exec.Dict:
		o := newObject()
		for _, pair := range v.Pairs {
			o.set(pair.Key.String(), fromGonja(pair.Value))
		}
		return o
	case []any:
		list := make([]any, len(v))
		for i, item := range v {
			list[i] = fromGonja(item)
		}
		return list
	}
	return v
}

func pongo(source string, variables map[string]any) (string, error) {
	t, err := pongo2.FromString(withoutGeneration(source))
	if err != nil {
		return "", err
	}
	values := pongo2.Context{"raise_exception": func(message string) (string, error) { return "", errors.New(message) }}
	for key, v := range variables {
		values[key] = plain(v)
	}
	return t.Execute(values)
}
