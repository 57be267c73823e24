package tokenizer

import (
	"encoding/json"
	"fmt"
	"slices"
)

// template says what surrounds the ids of one text or of a pair.
type template struct {
	single, pair []templatePart
}

// templatePart is one of the texts (0 or 1), or special ids if text is -1.
type templatePart struct {
	text int
	ids  []int
}

var plainTemplate = template{
	single: []templatePart{{text: 0}},
	pair:   []templatePart{{text: 0}, {text: 1}},
}

const maxTemplate = 1024 // parts of a template, ids of a part

// newTemplate reads the "post_processor" part of a tokenizer.json.
func newTemplate(data json.RawMessage, depth int) (template, error) {
	var c struct {
		Type          string
		Processors    []json.RawMessage
		Sep, Cls      *namedID
		Single, Pair  []rawPart
		SpecialTokens map[string]struct{ IDs []int } `json:"special_tokens"`
	}
	if absent(data) {
		return plainTemplate, nil
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return template{}, fmt.Errorf("post_processor: %w", err)
	}
	switch c.Type {
	case "ByteLevel":
		return plainTemplate, nil
	case "BertProcessing", "RobertaProcessing":
		if c.Sep == nil || c.Cls == nil {
			return template{}, fmt.Errorf("post_processor %s: sep or cls is missing", c.Type)
		}
		cls, sep := templatePart{-1, []int{c.Cls.id}}, templatePart{-1, []int{c.Sep.id}}
		t := template{single: []templatePart{cls, {text: 0}, sep}, pair: []templatePart{cls, {text: 0}, sep, {text: 1}, sep}}
		if c.Type == "RobertaProcessing" {
			t.pair = slices.Insert(t.pair, 3, sep)
		}
		return t, nil
	case "TemplateProcessing":
		ids := make(map[string][]int, len(c.SpecialTokens))
		for name, token := range c.SpecialTokens {
			ids[name] = token.IDs
		}
		single, err := readParts(c.Single, ids)
		if err != nil {
			return template{}, err
		}
		pair, err := readParts(c.Pair, ids)
		return template{single, pair}, err
	case "Sequence":
		return templateSequence(c.Processors, depth)
	}
	return template{}, fmt.Errorf("post_processor: type %q is unknown", c.Type)
}

// templateSequence takes the one member that adds tokens.
func templateSequence(parts []json.RawMessage, depth int) (template, error) {
	if depth > maxParts {
		return template{}, fmt.Errorf("post_processor: sequences nested more than %d deep", maxParts)
	}
	result, found := plainTemplate, false
	for _, part := range parts {
		t, err := newTemplate(part, depth+1)
		if err != nil {
			return template{}, err
		}
		if t.added(false) == 0 && t.added(true) == 0 {
			continue
		}
		if found {
			return template{}, fmt.Errorf("post_processor: two members of a sequence add tokens, want at most one")
		}
		result, found = t, true
	}
	return result, nil
}

// namedID is ["token", id].
type namedID struct{ id int }

// UnmarshalJSON implements json.Unmarshaler.
func (n *namedID) UnmarshalJSON(data []byte) error {
	var parts []json.RawMessage
	if err := json.Unmarshal(data, &parts); err != nil || len(parts) != 2 {
		return fmt.Errorf("entry %.60s, want [token, id]", data)
	}
	return json.Unmarshal(parts[1], &n.id)
}

type rawPart struct {
	Sequence     *struct{ ID string }
	SpecialToken *struct{ ID string }
}

func readParts(parts []rawPart, ids map[string][]int) ([]templatePart, error) {
	if len(parts) > maxTemplate {
		return nil, fmt.Errorf("post_processor: template of %d parts, want at most %d", len(parts), maxTemplate)
	}
	var out []templatePart
	texts := 0
	for _, p := range parts {
		switch {
		case p.Sequence != nil && p.Sequence.ID == "A":
			out = append(out, templatePart{text: 0})
			texts++
		case p.Sequence != nil && p.Sequence.ID == "B":
			out = append(out, templatePart{text: 1})
			texts++
		case p.SpecialToken != nil:
			token, ok := ids[p.SpecialToken.ID]
			if !ok || len(token) > maxTemplate {
				return nil, fmt.Errorf("post_processor: template names %q, which special_tokens does not have (or with more than %d ids)",
					p.SpecialToken.ID, maxTemplate)
			}
			out = append(out, templatePart{-1, token})
		default:
			return nil, fmt.Errorf("post_processor: template part is neither Sequence A or B nor SpecialToken")
		}
	}
	if texts > 2 {
		return nil, fmt.Errorf("post_processor: template with %d texts, want at most 2", texts)
	}
	return out, nil
}

func (t template) parts(pair bool) []templatePart {
	if pair {
		return t.pair
	}
	return t.single
}

// added counts the special tokens of the template.
func (t template) added(pair bool) (count int) {
	for _, p := range t.parts(pair) {
		count += len(p.ids)
	}
	return count
}

// apply puts the texts into the template.
func (t template) apply(texts [][]int, addSpecial bool) []int {
	pair := len(texts) == 2
	if !addSpecial && !pair && len(t.single) > 0 && t.added(false)+1 == len(t.single) {
		return texts[0]
	}
	var out []int
	for _, p := range t.parts(pair) {
		switch {
		case p.text >= 0 && p.text < len(texts):
			out = append(out, texts[p.text]...)
		case p.text < 0 && addSpecial:
			out = append(out, p.ids...)
		}
	}
	return out
}
