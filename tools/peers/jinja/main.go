// Command jinja holds the Jinja engines that a Go program can import against
// chat's fixture (what transformers makes of templates) and against hostile
// templates, and prints what docs/decisions/chat.md says of them.
//
//	go run . [-v] [ENGINE…]
//
// It is a module of its own, so that none of these is a dependency of smelt;
// the go command fetches the toolchain that the newest of them asks for.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// engine renders a template; values in variables are nil, bool, int64, float64,
// string, []any and *object.
type engine struct {
	name   string
	render func(source string, variables map[string]any) (string, error)
}

var engines = []engine{
	{"smelt/chat/jinja", own},
	{"github.com/ardanlabs/jinja v1.12.0", ardan},
	{"github.com/nikolalohinski/gonja/v2 v2.9.1", gonja2},
	{"github.com/flosch/pongo2/v6 v6.0.0", pongo},
}

// row is a conversation in a template, or a snippet.
type row struct {
	Template, Chat, Source string
	Prompt                 bool
	Extra                  json.RawMessage
	Text                   *string
}

func main() {
	verbose := flag.Bool("v", false, "print every rendering that differs")
	child := flag.Int("hostile", -1, "render this hostile template and exit (used by the program itself)")
	flag.Parse()
	chosen := engines
	if flag.NArg() > 0 {
		chosen = slices.DeleteFunc(slices.Clone(engines), func(e engine) bool {
			return !slices.ContainsFunc(flag.Args(), func(word string) bool { return strings.Contains(e.name, word) })
		})
	}
	if *child >= 0 {
		watch()
		if _, err := safely(chosen[0], hostile[*child].source, nil); err != nil {
			os.Exit(exitError)
		}
		return
	}
	if err := run(chosen, *verbose); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(chosen []engine, verbose bool) error {
	folder := filepath.Join("..", "..", "..", "chat", "testdata")
	data, err := os.ReadFile(filepath.Join(folder, "golden.json"))
	if err != nil {
		return err
	}
	var fixture struct {
		Chats          map[string]json.RawMessage
		Rows, Snippets []row
	}
	if err := json.Unmarshal(data, &fixture); err != nil {
		return err
	}
	for _, e := range chosen {
		equal, failed := 0, map[string]int{}
		for _, r := range fixture.Rows {
			source, err := os.ReadFile(filepath.Join(folder, "templates", r.Template))
			if err != nil {
				return err
			}
			variables := map[string]any{"documents": nil, "tools": nil, "add_generation_prompt": r.Prompt, "bos_token": "<s>", "eos_token": "</s>"}
			extra, err := decode(r.Extra)
			if err != nil {
				return err
			}
			for _, key := range extra.(*object).keys {
				variables[key] = extra.(*object).values[key]
			}
			messages, err := decode(fixture.Chats[r.Chat])
			if err != nil {
				return err
			}
			variables["messages"] = prepared(messages.([]any))
			if same(e, r, string(source), variables, verbose) {
				equal++
			} else {
				failed[r.Template]++
			}
		}
		snippets := 0
		for _, r := range fixture.Snippets {
			user := newObject()
			user.set("role", "user")
			user.set("content", "hi")
			if same(e, r, r.Source, map[string]any{"messages": []any{user}, "n": int64(3)}, verbose) {
				snippets++
			}
		}
		fmt.Printf("%s\n  renderings  %d of %d equal\n  snippets    %d of %d equal\n", e.name, equal, len(fixture.Rows), snippets, len(fixture.Snippets))
		for _, name := range slices.Sorted(maps.Keys(failed)) {
			fmt.Printf("  %-20s %d differ\n", name, failed[name])
		}
		for i := range hostile {
			fmt.Printf("  hostile: %-28s %s\n", hostile[i].name, attack(e, i))
		}
	}
	return nil
}

// same reports whether the engine makes of a row what transformers makes of it.
func same(e engine, r row, source string, variables map[string]any, verbose bool) bool {
	got, err := safely(e, source, variables)
	if r.Text == nil && err != nil || r.Text != nil && err == nil && got == *r.Text {
		return true
	}
	if verbose {
		want := "an error"
		if r.Text != nil {
			want = fmt.Sprintf("%q", *r.Text)
		}
		where := fmt.Sprintf("%s/%s prompt %v", r.Template, r.Chat, r.Prompt)
		if r.Template == "" {
			where = source
		}
		fmt.Printf("- %s\n  got  %q, %v\n  want %s\n", where, got, err, want)
	}
	return false
}

// safely renders; a panic is an error.
func safely(e engine, source string, variables map[string]any) (text string, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	return e.render(source, variables)
}

// prepared is what transformers does to messages: no nulls, and reasoning
// under its several names.
func prepared(messages []any) []any {
	var out []any
	for _, m := range messages {
		from, to := m.(*object), newObject()
		reasoning, ok := from.values["reasoning_content"]
		if ok {
			to.set("thinking", reasoning)
		}
		for _, key := range from.keys {
			if from.values[key] != nil {
				to.set(key, from.values[key])
			}
		}
		out = append(out, to)
	}
	return out
}

// object is a JSON object in its order.
type object struct {
	keys   []string
	values map[string]any
}

func newObject() *object { return &object{values: map[string]any{}} }

func (o *object) set(key string, v any) {
	if _, ok := o.values[key]; !ok {
		o.keys = append(o.keys, key)
	}
	o.values[key] = v
}

// plain is an object as Go programs have it, with the order lost.
func plain(v any) any {
	switch v := v.(type) {
	case *object:
		out := map[string]any{}
		for key, item := range v.values {
			out[key] = plain(item)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = plain(item)
		}
		return out
	case int64:
		return int(v)
	}
	return v
}

// decode reads JSON in its order.
func decode(data []byte) (any, error) {
	d := json.NewDecoder(strings.NewReader(string(data)))
	d.UseNumber()
	return value(d)
}

func value(d *json.Decoder) (any, error) {
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch token := token.(type) {
	case json.Number:
		if n, err := token.Int64(); err == nil {
			return n, nil
		}
		return token.Float64()
	case json.Delim:
		if token == '[' {
			list := []any{}
			for d.More() {
				item, err := value(d)
				if err != nil {
					return nil, err
				}
				list = append(list, item)
			}
			_, err := d.Token()
			return list, err
		}
		o := newObject()
		for d.More() {
			key, err := d.Token()
			if err != nil {
				return nil, err
			}
			item, err := value(d)
			if err != nil {
				return nil, err
			}
			o.set(key.(string), item)
		}
		_, err := d.Token()
		return o, err
	}
	return token, nil
}

// dump is json.dumps with the settings of transformers' tojson.
func dump(v any, indent string, depth int) string {
	newline, separator := "", ", "
	if indent != "" {
		newline, separator = "\n"+strings.Repeat(indent, depth+1), ","
	}
	join := func(parts []string, open, end string) string {
		if len(parts) == 0 {
			return open + end
		}
		last := ""
		if indent != "" {
			last = "\n" + strings.Repeat(indent, depth)
		}
		return open + newline + strings.Join(parts, separator+newline) + last + end
	}
	var parts []string
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			parts = append(parts, dump(item, indent, depth+1))
		}
		return join(parts, "[", "]")
	case *object:
		for _, key := range v.keys {
			parts = append(parts, dump(key, indent, 0)+": "+dump(v.values[key], indent, depth+1))
		}
		return join(parts, "{", "}")
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err.Error()
	}
	return strings.TrimSuffix(b.String(), "\n")
}
