// Package chat turns a conversation into the prompt that a chat model was
// trained on, by the Jinja template that its directory carries, as
// apply_chat_template of transformers does.
package chat

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"smelt/chat/jinja"
)

// ErrNoTemplate reports a directory without a chat template.
var ErrNoTemplate = errors.New("chat: no chat template (chat_template.jinja, or chat_template in tokenizer_config.json)")

// Template is the chat template of a model, possibly one of several by name. It
// is safe for concurrent use.
type Template struct {
	named   map[string]*jinja.Template
	special map[string]string // bos_token and its like
}

// Message is one turn of a conversation: "role", "content" and whatever else a
// template reads ("tool_calls", "name", …), in the order of its JSON form.
type Message struct{ fields *jinja.Dict }

// NewMessage returns a turn of plain text; role is mostly "system", "user" or
// "assistant".
func NewMessage(role, content string) Message {
	d := jinja.NewDict()
	d.Set("role", role)
	d.Set("content", content)
	return Message{d}
}

// ParseMessages reads a conversation from a JSON list of objects. Fields that
// are null count as missing, as in transformers.
func ParseMessages(data []byte) ([]Message, error) {
	v, err := jinja.FromJSON(data)
	if err != nil {
		return nil, fmt.Errorf("chat: messages: %w", err)
	}
	list, ok := v.(*jinja.List)
	if !ok {
		return nil, errors.New("chat: messages: want a JSON list of objects")
	}
	var messages []Message
	for i, item := range list.Items {
		d, ok := item.(*jinja.Dict)
		if !ok {
			return nil, fmt.Errorf("chat: message %d is no object", i)
		}
		messages = append(messages, Message{d})
	}
	return messages, nil
}

// reasoningFields are the names under which reasoning is passed.
var reasoningFields = []string{"reasoning_content", "thinking", "reasoning"}

// prepared returns the fields without nulls, and with the names that older and
// newer templates use for reasoning.
func (m Message) prepared() *jinja.Dict {
	var reasoning any
	for _, name := range reasoningFields {
		if v, ok := m.fields.Get(name); ok && v != nil && reasoning == nil {
			reasoning = v
		}
	}
	out := jinja.NewDict()
	if reasoning != nil {
		out.Set("thinking", reasoning)
	}
	for _, key := range m.fields.Keys() {
		if v, _ := m.fields.Get(key); v != nil {
			out.Set(key, v)
		}
	}
	if reasoning != nil {
		out.Set("reasoning_content", reasoning)
	}
	return out
}

// Options say how a conversation is rendered.
type Options struct {
	// AddGenerationPrompt ends the prompt where the model's answer begins.
	AddGenerationPrompt bool
	// Name picks one of several templates; the empty name is the default one,
	// or, with tools, "tool_use".
	Name string
	// Tools is a JSON list of tool descriptions.
	Tools json.RawMessage
	// Variables are further variables for the template.
	Variables map[string]any
}

// Render returns the prompt for a conversation. It holds its special tokens
// spelled out: encode it without adding more.
func (t *Template) Render(messages []Message, o Options) (string, error) {
	if len(messages) == 0 {
		return "", errors.New("chat: the conversation is empty, want at least one message")
	}
	tmpl, err := t.pick(o)
	if err != nil {
		return "", err
	}
	variables := map[string]any{"documents": nil, "tools": nil, "add_generation_prompt": o.AddGenerationPrompt}
	for key, token := range t.special {
		variables[key] = token
	}
	if o.Tools != nil {
		if variables["tools"], err = jinja.FromJSON(o.Tools); err != nil {
			return "", fmt.Errorf("chat: tools: %w", err)
		}
	}
	maps.Copy(variables, o.Variables)
	list := &jinja.List{}
	for _, m := range messages {
		list.Items = append(list.Items, m.prepared())
	}
	variables["messages"] = list
	text, err := tmpl.Render(variables)
	if err != nil {
		return "", fmt.Errorf("chat: template: %w", err)
	}
	return text, nil
}

// pick returns the template that the options ask for.
func (t *Template) pick(o Options) (*jinja.Template, error) {
	name := o.Name
	if name == "" {
		name = "default"
		if o.Tools != nil && t.named["tool_use"] != nil {
			name = "tool_use"
		}
	}
	if tmpl := t.named[name]; tmpl != nil {
		return tmpl, nil
	}
	return nil, fmt.Errorf("chat: no template %q, want one of %s", name, strings.Join(t.Names(), ", "))
}

// Names returns the names of the templates, sorted.
func (t *Template) Names() []string { return slices.Sorted(maps.Keys(t.named)) }

// Parse reads a template from its source; special holds the tokens it may name
// ("bos_token", "eos_token", …).
func Parse(source string, special map[string]string) (*Template, error) {
	return parse(map[string]string{"default": source}, special)
}

func parse(sources, special map[string]string) (*Template, error) {
	t := &Template{named: map[string]*jinja.Template{}, special: special}
	for name, source := range sources {
		tmpl, err := jinja.Parse(source)
		if err != nil {
			return nil, fmt.Errorf("chat: template %q: %w", name, err)
		}
		t.named[name] = tmpl
	}
	return t, nil
}

// Load reads the chat template of a checkpoint directory; ErrNoTemplate if it
// has none.
func Load(dir string) (*Template, error) {
	t, err := LoadFS(os.DirFS(dir))
	if err != nil {
		return nil, fmt.Errorf("%w (%s)", err, dir)
	}
	return t, nil
}

// LoadFS is Load for the files at the root of files. Template files go before
// what tokenizer_config.json holds.
func LoadFS(files fs.FS) (*Template, error) {
	var c struct {
		Template json.RawMessage `json:"chat_template"`
	}
	var tokens map[string]json.RawMessage
	for _, v := range []any{&c, &tokens} {
		if err := readJSON(files, "tokenizer_config.json", v); err != nil {
			return nil, err
		}
	}
	special, err := specialTokens(files, tokens)
	if err != nil {
		return nil, err
	}
	sources, err := templateFiles(files)
	if err != nil {
		return nil, err
	}
	if len(sources) == 0 {
		if sources, err = configured(c.Template); err != nil {
			return nil, err
		}
	}
	if len(sources) == 0 {
		if err := readJSON(files, "chat_template.json", &c); err != nil {
			return nil, err
		}
		if sources, err = configured(c.Template); err != nil {
			return nil, err
		}
	}
	if len(sources) == 0 {
		return nil, ErrNoTemplate
	}
	return parse(sources, special)
}

// templateFiles reads chat_template.jinja and additional_chat_templates.
func templateFiles(files fs.FS) (map[string]string, error) {
	sources := map[string]string{}
	data, err := readFile(files, "chat_template.jinja")
	if err != nil {
		return nil, err
	}
	if data != nil {
		sources["default"] = string(data)
	}
	more, err := fs.Glob(files, "additional_chat_templates/*.jinja")
	if err != nil {
		return nil, fmt.Errorf("chat: %w", err)
	}
	for _, name := range more {
		if data, err = readFile(files, name); err != nil {
			return nil, err
		}
		sources[strings.TrimSuffix(path.Base(name), ".jinja")] = string(data)
	}
	return sources, nil
}

// configured reads chat_template: a string, or a list of names and templates.
func configured(data json.RawMessage) (map[string]string, error) {
	if len(data) == 0 || string(data) == "null" {
		return nil, nil
	}
	var one string
	if err := json.Unmarshal(data, &one); err == nil {
		return map[string]string{"default": one}, nil
	}
	var list []struct{ Name, Template string }
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("chat: chat_template: want a string or a list of names and templates: %w", err)
	}
	sources := map[string]string{}
	for _, t := range list {
		sources[t.Name] = t.Template
	}
	return sources, nil
}

// specialTokens collects the tokens that templates name: those of
// tokenizer_config.json, or, where that has no added_tokens_decoder, those of
// special_tokens_map.json before them.
func specialTokens(files fs.FS, tokens map[string]json.RawMessage) (map[string]string, error) {
	if tokens == nil {
		tokens = map[string]json.RawMessage{}
	}
	if tokens["added_tokens_decoder"] == nil {
		var mapped map[string]json.RawMessage
		if err := readJSON(files, "special_tokens_map.json", &mapped); err != nil {
			return nil, err
		}
		maps.Copy(tokens, mapped)
	}
	special := map[string]string{}
	for key, data := range tokens {
		if !strings.HasSuffix(key, "_token") {
			continue
		}
		var token struct{ Content string }
		if json.Unmarshal(data, &token.Content) != nil && json.Unmarshal(data, &token) != nil {
			continue // add_bos_token and its like
		}
		if token.Content != "" {
			special[key] = token.Content
		}
	}
	return special, nil
}

const maxFile = 64 << 20

func readJSON(files fs.FS, name string, v any) error {
	data, err := readFile(files, name)
	if err != nil || data == nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("chat: %s: %w", name, err)
	}
	return nil
}

// readFile returns the content of a file, nil if there is none.
func readFile(files fs.FS, name string) ([]byte, error) {
	f, err := files.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("chat: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("chat: %s: %w", name, err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("chat: %s has more than %d bytes", name, maxFile)
	}
	return data, nil
}
