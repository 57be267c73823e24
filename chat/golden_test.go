package chat

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"smelt/chat/jinja"
)

// TestGolden holds the templates against apply_chat_template.
func TestGolden(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("testdata", "golden.json"))
	if err != nil {
		t.Fatalf("fixture: %v (tools/golden/tokenizer/chat.py writes it)", err)
	}
	var g struct {
		Chats map[string]json.RawMessage
		Rows  []struct {
			Template, Chat, Error string
			Prompt                bool
			Extra                 map[string]json.RawMessage
			Text                  *string
		}
	}
	if err := json.Unmarshal(data, &g); err != nil {
		t.Fatal(err)
	}
	if len(g.Rows) < 300 {
		t.Fatalf("fixture has %d rows", len(g.Rows))
	}
	for _, row := range g.Rows {
		t.Run(row.Template+"/"+row.Chat, func(t *testing.T) {
			source, err := os.ReadFile(filepath.Join("testdata", "templates", row.Template))
			if err != nil {
				t.Fatal(err)
			}
			config, err := json.Marshal(map[string]any{"bos_token": "<s>", "eos_token": map[string]string{"content": "</s>"}, "add_bos_token": true})
			if err != nil {
				t.Fatal(err)
			}
			tmpl, err := LoadFS(fstest.MapFS{"chat_template.jinja": {Data: source}, "tokenizer_config.json": {Data: config}})
			if err != nil {
				t.Fatal(err)
			}
			messages, err := ParseMessages(g.Chats[row.Chat])
			if err != nil {
				t.Fatal(err)
			}
			o := Options{AddGenerationPrompt: row.Prompt, Tools: row.Extra["tools"], Variables: map[string]any{}}
			delete(row.Extra, "tools")
			for k, v := range row.Extra {
				if o.Variables[k], err = jinja.FromJSON(v); err != nil {
					t.Fatal(err)
				}
			}
			got, err := tmpl.Render(messages, o)
			if row.Text == nil {
				if err == nil {
					t.Fatalf("got %q, want the error %q", got, row.Error)
				}
				if strings.Contains(string(source), row.Error) && !strings.Contains(err.Error(), row.Error) {
					t.Errorf("error %q, want %q", err, row.Error)
				}
				return
			}
			if err != nil || got != *row.Text {
				t.Errorf("%v, extra %s, prompt %v\ngot  %q\nwant %q", err, row.Extra, row.Prompt, got, *row.Text)
			}
		})
	}
}

// TestSnippets holds expressions and tags against jinja2, one by one.
func TestSnippets(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("testdata", "golden.json"))
	if err != nil {
		t.Fatalf("fixture: %v (tools/golden/tokenizer/chat.py writes it)", err)
	}
	var g struct {
		Snippets []struct {
			Source, Error string
			Text          *string
		}
	}
	if err := json.Unmarshal(data, &g); err != nil || len(g.Snippets) < 50 {
		t.Fatalf("fixture has %d snippets, %v", len(g.Snippets), err)
	}
	for _, c := range g.Snippets {
		got := ""
		tmpl, err := Parse(c.Source, nil)
		if err == nil {
			got, err = tmpl.Render([]Message{NewMessage("user", "hi")}, Options{Variables: map[string]any{"n": 3}})
		}
		switch {
		case c.Text == nil && err == nil:
			t.Errorf("%s\ngot  %q, want the error %q", c.Source, got, c.Error)
		case c.Text != nil && (err != nil || got != *c.Text):
			t.Errorf("%s\ngot  %q, %v\nwant %q", c.Source, got, err, *c.Text)
		}
	}
}

func TestLoad(t *testing.T) {
	hello := []Message{NewMessage("user", "hi")}
	for _, c := range []struct {
		name, want, failure string
		files               map[string]string
		options             Options
	}{
		{name: "nothing", failure: "no chat template"},
		{name: "null", files: map[string]string{"tokenizer_config.json": `{"chat_template":null}`}, failure: "no chat template"},
		{name: "string", files: map[string]string{"tokenizer_config.json": `{"chat_template":"{{ messages[0].content }}"}`}, want: "hi"},
		{name: "list", files: map[string]string{"tokenizer_config.json": `{"chat_template":[{"name":"default","template":"a"},{"name":"tool_use","template":"b"}]}`}, want: "a"},
		{
			name: "tools", files: map[string]string{"tokenizer_config.json": `{"chat_template":[{"name":"default","template":"a"},{"name":"tool_use","template":"b"}]}`},
			options: Options{Tools: json.RawMessage(`[]`)}, want: "b",
		},
		{
			name: "name", files: map[string]string{"chat_template.jinja": "a", "additional_chat_templates/rag.jinja": "c"},
			options: Options{Name: "rag"}, want: "c",
		},
		{name: "no such name", files: map[string]string{"chat_template.jinja": "a"}, options: Options{Name: "x"}, failure: "want one of default"},
		{name: "file first", files: map[string]string{"chat_template.jinja": "f", "tokenizer_config.json": `{"chat_template":"c"}`}, want: "f"},
		{name: "json", files: map[string]string{"chat_template.json": `{"chat_template":"j"}`}, want: "j"},
		{
			name: "tokens", files: map[string]string{
				"chat_template.jinja": "{{ bos_token }}{{ pad_token }}", "special_tokens_map.json": `{"bos_token":{"content":"<s>"}}`, "tokenizer_config.json": `{"pad_token":"P"}`,
			}, want: "<s>P",
		},
		{name: "broken", files: map[string]string{"chat_template.jinja": "a\n{% if %}"}, failure: "line 2"},
		{name: "number", files: map[string]string{"tokenizer_config.json": `{"chat_template":3}`}, failure: "want a string or a list"},
		{name: "config", files: map[string]string{"tokenizer_config.json": `{`}, failure: "tokenizer_config.json"},
		{name: "bad tools", files: map[string]string{"chat_template.jinja": "a"}, options: Options{Tools: json.RawMessage(`[`)}, failure: "tools"},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := fstest.MapFS{}
			for name, text := range c.files {
				files[name] = &fstest.MapFile{Data: []byte(text)}
			}
			got := ""
			tmpl, err := LoadFS(files)
			if err == nil {
				got, err = tmpl.Render(hello, c.options)
			}
			if c.failure != "" {
				if err == nil || !strings.Contains(err.Error(), c.failure) {
					t.Fatalf("got %q, %v, want the error %q", got, err, c.failure)
				}
				return
			}
			if err != nil || got != c.want {
				t.Fatalf("got %q, %v, want %q", got, err, c.want)
			}
		})
	}
	tmpl, err := Parse("x", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tmpl.Render(nil, Options{}); err == nil {
		t.Error("an empty conversation is rendered")
	}
	for _, bad := range []string{`{}`, `[1]`, `[`, `[] []`} {
		if _, err := ParseMessages([]byte(bad)); err == nil {
			t.Errorf("messages %s are read", bad)
		}
	}
	if _, err := Load(t.TempDir()); err == nil || !strings.Contains(err.Error(), "no chat template") {
		t.Errorf("got %v", err)
	}
}
