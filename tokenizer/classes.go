package tokenizer

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
)

// tokenizerClass is what transformers builds around vocab.json and merges.txt
// where a directory has no tokenizer.json.
type tokenizerClass struct {
	suffix        string
	unknown       bool // the model has the class's unknown token
	normalizer    string
	preTokenizer  string
	roberta       bool // bos, or cls, in front and eos, or sep, behind
	first, second string
	special       map[string]string
}

const (
	byteLevelPart = `{"type":"ByteLevel","add_prefix_space":false,"use_regex":true}`
	endOfText     = "<|endoftext|>"
)

var tokenizerClasses = map[string]*tokenizerClass{
	"CLIPTokenizer": {
		suffix: "</w>", unknown: true, roberta: true, first: "bos_token", second: "eos_token",
		normalizer: `{"type":"Sequence","normalizers":[{"type":"NFC"},
			{"type":"Replace","pattern":{"Regex":"\\s+"},"content":" "},{"type":"Lowercase"}]}`,
		preTokenizer: `{"type":"Sequence","pretokenizers":[{"type":"Split","behavior":"Removed","invert":true,"pattern":{"Regex":
			"<\\|startoftext\\|>|<\\|endoftext\\|>|'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+"}},
			{"type":"ByteLevel","add_prefix_space":false,"use_regex":true}]}`,
		special: map[string]string{
			"bos_token": "<|startoftext|>", "eos_token": endOfText, "unk_token": endOfText, "pad_token": endOfText,
		},
	},
	"GPT2Tokenizer": {
		preTokenizer: byteLevelPart,
		special:      map[string]string{"bos_token": endOfText, "eos_token": endOfText, "unk_token": endOfText},
	},
	"Qwen2Tokenizer": {
		normalizer: `{"type":"NFC"}`,
		preTokenizer: `{"type":"Sequence","pretokenizers":[{"type":"Split","behavior":"Isolated","invert":false,"pattern":{"Regex":
			"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}},
			{"type":"ByteLevel","add_prefix_space":false,"use_regex":false}]}`,
		special: map[string]string{"eos_token": endOfText, "unk_token": endOfText, "pad_token": endOfText},
	},
	"RobertaTokenizer": {
		preTokenizer: byteLevelPart, roberta: true, first: "cls_token", second: "sep_token",
		special: map[string]string{
			"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>",
			"cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>",
		},
	},
}

// fromVocabulary builds the tokenizer of a directory without tokenizer.json.
func fromVocabulary(files fs.FS, name string) (*Tokenizer, *tokenizerClass, error) {
	class := tokenizerClasses[strings.TrimSuffix(name, "Fast")]
	if class == nil {
		return nil, nil, fmt.Errorf("tokenizer: no tokenizer.json, and tokenizer_class %q is none of those that vocab.json and merges.txt suffice for (%s); save it with transformers to get a tokenizer.json",
			name, strings.Join(slices.Sorted(maps.Keys(tokenizerClasses)), ", "))
	}
	var c bpeConfig
	c.unknownIsFine = true
	data, err := readFile(files, "vocab.json")
	if err != nil {
		return nil, nil, err
	}
	merges, err := readFile(files, "merges.txt")
	if err != nil {
		return nil, nil, err
	}
	if data == nil || merges == nil {
		return nil, nil, fmt.Errorf("tokenizer: want tokenizer.json, or vocab.json and merges.txt")
	}
	if err := json.Unmarshal(data, &c.Vocab); err != nil {
		return nil, nil, fmt.Errorf("tokenizer: vocab.json: %w", err)
	}
	lines := strings.Split(strings.TrimSuffix(string(merges), "\n"), "\n")
	for i, line := range lines {
		if err := c.Merges.add(strings.TrimSuffix(line, "\r"), i); err != nil {
			return nil, nil, fmt.Errorf("tokenizer: merges.txt: %w", err)
		}
	}
	if class.suffix != "" {
		c.Suffix = &class.suffix
	}
	if class.unknown {
		unknown := class.special["unk_token"]
		c.UnkToken = &unknown
	}
	m, err := newBPE(c)
	if err != nil {
		return nil, nil, fmt.Errorf("tokenizer: vocab.json and merges.txt: %w", err)
	}
	t, err := build(m, &tokenizerFile{
		Normalizer:   json.RawMessage(class.normalizer),
		PreTokenizer: json.RawMessage(class.preTokenizer),
		Decoder:      json.RawMessage(byteLevelPart),
	})
	if err != nil {
		return nil, nil, fmt.Errorf("tokenizer: %s: %w", name, err)
	}
	return t, class, nil
}

// surround sets what the class puts around texts: its two tokens, or those that
// the configuration asks for (a tokenizer.json says so itself).
func (t *Tokenizer) surround(class *tokenizerClass, c *config) error {
	if !class.roberta {
		bos, ok := t.BOS()
		front := c.AddBOS && ok
		eos, ok := t.EOS()
		for i, parts := range []*[]templatePart{&t.template.single, &t.template.pair} {
			*parts = nil
			for text := range i + 1 {
				if front {
					*parts = append(*parts, templatePart{-1, []int{bos}})
				}
				*parts = append(*parts, templatePart{text: text})
				if c.AddEOS && ok {
					*parts = append(*parts, templatePart{-1, []int{eos}})
				}
			}
		}
		return nil
	}
	first, ok1 := t.special[class.first]
	second, ok2 := t.special[class.second]
	if !ok1 || !ok2 {
		return fmt.Errorf("tokenizer: %s or %s is not in the vocabulary", class.first, class.second)
	}
	a, b := templatePart{-1, []int{first}}, templatePart{-1, []int{second}}
	t.template = template{
		single: []templatePart{a, {text: 0}, b},
		pair:   []templatePart{a, {text: 0}, b, b, {text: 1}, b},
	}
	return nil
}
