package eval

import (
	"fmt"
	"strings"

	"smelt/internal/ojson"
	"smelt/internal/vfs"
)

// Texts is the data of a text task.
type Texts struct {
	Truths  []Truth // one an example
	Prompts []string
	Choices [][]string // multiple choice: [example][choice]
	Key     string     // identifies the data
}

// OpenTexts reads the data of a text task.
func OpenTexts(fsys vfs.FS, f *File, t *Task) (*Texts, error) {
	x := &Texts{}
	paths, _, err := f.find(fsys, t)
	if err == nil && t.Type == Perplexity && isText(paths) {
		err = x.documents(fsys, paths, t)
	} else if err == nil {
		err = x.rows(fsys, paths, t)
	}
	if err != nil {
		return nil, t.Errorf("%w", err)
	}
	return x, nil
}

func isText(paths []string) bool {
	for _, p := range paths {
		if !strings.HasSuffix(strings.TrimSuffix(strings.ToLower(p), ".gz"), ".txt") {
			return false
		}
	}
	return true
}

// rows reads examples from rows with fields.
func (x *Texts) rows(fsys vfs.FS, paths []string, t *Task) error {
	r, err := readRows(fsys, paths, t.Limit)
	if err != nil {
		return err
	}
	x.Key = r.key
	for i, row := range r.list {
		if err := x.add(row, t); err != nil {
			return fmt.Errorf("%s: %w", r.place(i), err)
		}
	}
	return nil
}

func (x *Texts) add(row ojson.Value, t *Task) (err error) {
	var truth Truth
	if t.Type == Perplexity {
		text, err := t.fill("{"+t.Data.Text+"}", row)
		if err != nil {
			return err
		}
		x.Prompts = append(x.Prompts, text)
		x.Truths = append(x.Truths, Truth{Bytes: len(text)})
		return nil
	}
	prompt, err := t.fill(t.Prompt, row)
	if err != nil {
		return err
	}
	if prompt == "" {
		return fmt.Errorf("the prompt is empty")
	}
	if t.Type == MultipleChoice {
		choices, err := t.choices(row)
		if err != nil {
			return err
		}
		if truth.Class, err = t.answer(row, choices); err != nil {
			return err
		}
		x.Choices = append(x.Choices, choices)
	} else if t.Target != "" {
		if truth.Text, err = t.fill(t.Target, row); err != nil {
			return err
		}
	}
	x.Prompts = append(x.Prompts, prompt)
	x.Truths = append(x.Truths, truth)
	return nil
}

// choices returns the texts to choose from.
func (t *Task) choices(row ojson.Value) (list []string, err error) {
	if name, ok := onlyField(t.Choices); ok {
		v, ok := row.Get(name)
		if !ok {
			return nil, fmt.Errorf("has no field %q: it has %s", name, fieldNames(row))
		}
		if list, ok = v.Strings(); !ok {
			return nil, fmt.Errorf("field %q: want a list of strings for the choices, got %s", name, v.Kind.A())
		}
	} else {
		for _, c := range t.Choices {
			s, err := t.fill(c, row)
			if err != nil {
				return nil, err
			}
			list = append(list, s)
		}
	}
	if len(list) < 2 {
		return nil, fmt.Errorf("%d choices, want at least 2", len(list))
	}
	for i, c := range list {
		if c == "" {
			return nil, fmt.Errorf("choice %d is empty", i)
		}
	}
	return list, nil
}

// onlyField returns the field's name where choices is one "{field}".
func onlyField(choices []string) (string, bool) {
	if len(choices) != 1 {
		return "", false
	}
	name, ok := strings.CutPrefix(choices[0], "{")
	if !ok {
		return "", false
	}
	return strings.CutSuffix(name, "}")
}

// answer returns the index of the right choice.
func (t *Task) answer(row ojson.Value, choices []string) (int, error) {
	if t.Answer == "" {
		return -1, nil
	}
	text, err := t.fill(t.Answer, row)
	if err != nil {
		return 0, err
	}
	if n, ok := whole(ojson.NewString(text)); ok && n >= 0 && n < len(choices) {
		return n, nil
	}
	for i, c := range choices {
		if strings.TrimSpace(c) == strings.TrimSpace(text) {
			return i, nil
		}
	}
	return 0, fmt.Errorf("answer %.60q is none of the %d choices and no index of one", text, len(choices))
}

// fill replaces {field} by the row's fields; {{ and }} stand for braces.
func (t *Task) fill(template string, row ojson.Value) (string, error) {
	var b strings.Builder
	for s := template; s != ""; {
		i := strings.IndexAny(s, "{}")
		if i < 0 {
			b.WriteString(s)
			break
		}
		b.WriteString(s[:i])
		if strings.HasPrefix(s[i:], "{{") || strings.HasPrefix(s[i:], "}}") {
			b.WriteByte(s[i])
			s = s[i+2:]
			continue
		}
		end := strings.IndexByte(s[i:], '}')
		if s[i] == '}' || end < 0 {
			return "", fmt.Errorf("template %q: a brace without its other: double it to mean itself", template)
		}
		text, err := t.field(s[i+1:i+end], row)
		if err != nil {
			return "", err
		}
		b.WriteString(text)
		s = s[i+end+1:]
	}
	return b.String(), nil
}

// field returns a field's text: of a number with names, the name.
func (t *Task) field(name string, row ojson.Value) (string, error) {
	v := row
	for part := range strings.SplitSeq(name, ".") {
		inner, ok := v.Get(part)
		if !ok {
			return "", fmt.Errorf("has no field %q: it has %s", name, fieldNames(row))
		}
		v = inner
	}
	if list := t.Names[name]; list != nil {
		n, ok := whole(v)
		if !ok || n < 0 || n >= len(list) {
			return "", fmt.Errorf("field %q is %s, names has %d (0 to %d)", name, v.Text, len(list), len(list)-1)
		}
		return list[n], nil
	}
	switch v.Kind {
	case ojson.String, ojson.Number:
		return v.Text, nil
	case ojson.Bool:
		return fmt.Sprint(v.Bool), nil
	}
	return "", fmt.Errorf("field %q: want a text, got %s", name, v.Kind.A())
}

// documents reads text files, cut at the separator where the task has one.
func (x *Texts) documents(fsys vfs.FS, paths []string, t *Task) error {
	for _, path := range paths {
		data, err := readData(fsys, path)
		if err != nil {
			return err
		}
		parts := []string{string(data)}
		if t.Separator != "" {
			parts = strings.Split(string(data), t.Separator)
		}
		before := len(x.Prompts)
		for _, p := range parts {
			if t.Separator != "" {
				p = strings.TrimSpace(p)
			}
			if strings.TrimSpace(p) == "" || t.Limit > 0 && len(x.Prompts) == t.Limit {
				continue
			}
			x.Prompts = append(x.Prompts, p)
			x.Truths = append(x.Truths, Truth{Bytes: len(p)})
		}
		if len(x.Prompts) == before && len(parts) > 0 && (t.Limit == 0 || before < t.Limit) {
			return fmt.Errorf("%s: the data is empty: no text", path)
		}
		x.Key += hashOf(data)
	}
	return nil
}
