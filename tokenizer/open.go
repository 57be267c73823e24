package tokenizer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Open reads the tokenizer of a checkpoint directory.
func Open(dir string) (*Tokenizer, error) {
	if info, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	} else if !info.IsDir() {
		return nil, fmt.Errorf("tokenizer: %s is no directory", dir)
	}
	t, err := Load(os.DirFS(dir))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return t, nil
}

// specialKeys are the special tokens that have names.
var specialKeys = []string{"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}

// Load reads the tokenizer whose files lie at the root of files.
func Load(files fs.FS) (*Tokenizer, error) {
	var c config
	if err := readJSON(files, "tokenizer_config.json", &c); err != nil {
		return nil, err
	}
	data, err := readFile(files, "tokenizer.json")
	if err != nil {
		return nil, err
	}
	var t *Tokenizer
	var class *tokenizerClass
	if data != nil {
		t, err = Parse(data)
	} else {
		t, class, err = fromVocabulary(files, c.Class)
	}
	if err != nil {
		return nil, err
	}
	named, err := t.configure(files, &c, class)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	for key, content := range named {
		if id, ok := t.TokenToID(content); ok {
			t.special[key] = id
		}
	}
	if class != nil {
		return t, t.surround(class, &c)
	}
	return t, nil
}

// config is a tokenizer_config.json.
type config struct {
	Class        string                `json:"tokenizer_class"`
	Added        map[string]addedToken `json:"added_tokens_decoder"`
	MaxLength    json.Number           `json:"model_max_length"`
	Cleanup      bool                  `json:"clean_up_tokenization_spaces"`
	Extra        json.RawMessage       `json:"extra_special_tokens"`
	Additional   json.RawMessage       `json:"additional_special_tokens"`
	AddBOS       bool                  `json:"add_bos_token"`
	AddEOS       bool                  `json:"add_eos_token"`
	specialNames                       // bos_token and its like
}

// specialNames holds the named special tokens of a file.
type specialNames struct {
	BOS  *tokenName `json:"bos_token"`
	EOS  *tokenName `json:"eos_token"`
	Unk  *tokenName `json:"unk_token"`
	Sep  *tokenName `json:"sep_token"`
	Pad  *tokenName `json:"pad_token"`
	Cls  *tokenName `json:"cls_token"`
	Mask *tokenName `json:"mask_token"`
}

// list returns the names in the order of specialKeys.
func (n *specialNames) list() []*tokenName {
	return []*tokenName{n.BOS, n.EOS, n.Unk, n.Sep, n.Pad, n.Cls, n.Mask}
}

// tokenName is "token" or an object with its content and flags.
type tokenName struct {
	addedToken
	flags bool // the file gave them
}

// UnmarshalJSON implements json.Unmarshaler.
func (n *tokenName) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		n.addedToken = addedToken{Special: true}
		return json.Unmarshal(data, &n.Content)
	}
	n.addedToken = addedToken{Normalized: true}
	n.flags = true
	return json.Unmarshal(data, &n.addedToken)
}

// configure adds the tokens of the configuration files in the order in which
// transformers does, and returns the named special tokens.
func (t *Tokenizer) configure(files fs.FS, c *config, class *tokenizerClass) (map[string]string, error) {
	t.maxLength = c.maxLength()
	_, isBPE := t.model.(*bpe)
	switch {
	case isBPE && strings.HasPrefix(c.Class, "CLIPTokenizer"):
		suffix := t.model.(*bpe).suffix
		t.finish = func(text string) string {
			return strings.TrimFunc(strings.ReplaceAll(text, suffix, " "), pythonSpace)
		}
	case c.Cleanup && !isBPE:
		t.finish = textCleanup.Replace
	}
	names := c.specialNames
	var tokens []addedToken
	if c.Added != nil {
		ids := make(map[string]int, len(c.Added))
		for key := range c.Added {
			id, err := strconv.Atoi(key)
			if err != nil {
				return nil, fmt.Errorf("tokenizer_config.json: added_tokens_decoder has %q, want an id", key)
			}
			ids[key] = id
		}
		for _, key := range slices.SortedFunc(maps.Keys(ids), func(a, b string) int { return ids[a] - ids[b] }) {
			tokens = append(tokens, c.Added[key])
		}
	} else {
		legacy, err := legacyTokens(files, &names)
		if err != nil {
			return nil, err
		}
		tokens = legacy
	}
	extra, err := extraTokens(c)
	if err != nil {
		return nil, err
	}
	named := map[string]string{}
	if class != nil {
		for key, content := range class.special {
			named[key] = content
		}
	}
	for i, name := range names.list() {
		if name != nil {
			named[specialKeys[i]] = name.Content
		}
	}
	seen := map[string]bool{}
	for content := range t.added.byContent {
		seen[content] = true
	}
	for i := range tokens {
		seen[tokens[i].Content] = true
		for _, content := range named {
			tokens[i].Special = tokens[i].Special || content == tokens[i].Content
		}
	}
	for i, key := range specialKeys {
		content, ok := named[key]
		if !ok || seen[content] {
			continue
		}
		seen[content] = true
		token := addedToken{Content: content, Special: true}
		if name := names.list()[i]; name != nil && name.flags {
			token = name.addedToken
			token.Special = true
		}
		tokens = append(tokens, token)
	}
	for _, token := range extra {
		if !seen[token.Content] {
			seen[token.Content] = true
			tokens = append(tokens, token)
		}
	}
	return named, t.add(tokens)
}

// maxLength returns model_max_length, 0 where it means "no limit".
func (c *config) maxLength() int {
	v, err := c.MaxLength.Float64()
	if err != nil || v < 1 || v > 1<<40 {
		return 0
	}
	return int(v)
}

// extraTokens reads the special tokens without names: a list, or an object of
// names that mean nothing here.
func extraTokens(c *config) ([]addedToken, error) {
	data := c.Extra
	if absent(data) || bytes.Equal(data, []byte("[]")) {
		data = c.Additional
	}
	if absent(data) {
		return nil, nil
	}
	var list []tokenName
	if data[0] == '{' {
		var object map[string]tokenName
		if err := json.Unmarshal(data, &object); err != nil {
			return nil, fmt.Errorf("tokenizer_config.json: extra_special_tokens: %w", err)
		}
		for _, key := range slices.Sorted(maps.Keys(object)) {
			list = append(list, object[key])
		}
	} else if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("tokenizer_config.json: extra_special_tokens: %w", err)
	}
	var tokens []addedToken
	for _, name := range list {
		tokens = append(tokens, name.addedToken)
	}
	return tokens, nil
}

// legacyTokens reads special_tokens_map.json and added_tokens.json, which
// configurations without added_tokens_decoder rely on.
func legacyTokens(files fs.FS, names *specialNames) ([]addedToken, error) {
	var mapped specialNames
	if err := readJSON(files, "special_tokens_map.json", &mapped); err != nil {
		return nil, err
	}
	for i, name := range mapped.list() {
		if name != nil {
			slot := []**tokenName{&names.BOS, &names.EOS, &names.Unk, &names.Sep, &names.Pad, &names.Cls, &names.Mask}[i]
			*slot = name
		}
	}
	var ids map[string]int
	if err := readJSON(files, "added_tokens.json", &ids); err != nil {
		return nil, err
	}
	special := map[string]bool{}
	for _, name := range names.list() {
		if name != nil {
			special[name.Content] = true
		}
	}
	var tokens []addedToken
	for _, content := range slices.SortedFunc(maps.Keys(ids), func(a, b string) int { return ids[a] - ids[b] }) {
		tokens = append(tokens, addedToken{Content: content, Special: special[content], Normalized: !special[content]})
	}
	return tokens, nil
}

// readJSON reads a file into v and leaves v alone if there is no such file.
func readJSON(files fs.FS, name string, v any) error {
	data, err := readFile(files, name)
	if err != nil || data == nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("tokenizer: %s: %w", name, err)
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
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %s: %w", name, err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("tokenizer: %s has more than %d bytes", name, maxFile)
	}
	return data, nil
}
