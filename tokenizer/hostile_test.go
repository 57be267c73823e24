package tokenizer

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"unicode/utf8"
)

const smallVocab = `"vocab":{"a":0,"b":1,"ab":2,"<unk>":3},"merges":["a b"]`

func TestParseRejects(t *testing.T) {
	bpe := func(more string) string { return `{"model":{"type":"BPE",` + smallVocab + more + `}}` }
	part := func(key, value string) string {
		return `{"` + key + `":` + value + `,"model":{"type":"BPE",` + smallVocab + `}}`
	}
	for _, c := range []struct{ name, file, want string }{
		{"empty", ``, "unexpected end"},
		{"no object", `[]`, "cannot unmarshal"},
		{"no model", `{}`, "model: missing"},
		{"null model", `{"model":null}`, "model: missing"},
		{"version", `{"version":"2.0","model":{"type":"BPE",` + smallVocab + `}}`, `version "2.0"`},
		{"unknown model", `{"model":{"type":"Magic"}}`, `"Magic"`},
		{"dropout", bpe(`,"dropout":0.1`), "dropout 0.1"},
		{"unknown token", bpe(`,"unk_token":"<none>"`), `"<none>"`},
		{"huge id", `{"model":{"type":"BPE","vocab":{"a":2000000000},"merges":[]}}`, "id 2000000000"},
		{"negative id", `{"model":{"type":"BPE","vocab":{"a":-1},"merges":[]}}`, "id -1"},
		{"merge of a stranger", `{"model":{"type":"BPE","vocab":{"a":0},"merges":["a b"]}}`, "merge 0"},
		{"merge to a stranger", `{"model":{"type":"BPE","vocab":{"a":0,"b":1},"merges":[["a","b"]]}}`, `"ab"`},
		{"merge of three", `{"model":{"type":"BPE","vocab":{"a":0,"b":1},"merges":["a b c"]}}`, "want two tokens"},
		{"merge below the prefix", `{"model":{"type":"BPE","continuing_subword_prefix":"##","vocab":{"a":0,"b":1},"merges":["a b"]}}`, "prefix"},
		{"merges of another kind", `{"model":{"type":"BPE","vocab":{},"merges":7}}`, "merges"},
		{"unigram without tokens", `{"model":{"type":"Unigram","vocab":[]}}`, "vocabulary of 0"},
		{"unigram unk_id", `{"model":{"type":"Unigram","unk_id":3,"vocab":[["a",0]]}}`, "unk_id 3"},
		{"unigram entry", `{"model":{"type":"Unigram","vocab":[["a"]]}}`, "want [token, score]"},
		{"normalizer", part("normalizer", `{"type":"Magic"}`), `"Magic"`},
		{"deep normalizer", part("normalizer", strings.Repeat(`{"type":"Sequence","normalizers":[`, 200)+strings.Repeat(`]}`, 200)), "nested"},
		{"charsmap", part("normalizer", `{"type":"Precompiled","precompiled_charsmap":"////fw=="}`), "trie"},
		{"pre-tokenizer", part("pre_tokenizer", `{"type":"UnicodeScripts"}`), `"UnicodeScripts"`},
		{"deep pre-tokenizer", part("pre_tokenizer", strings.Repeat(`{"type":"Sequence","pretokenizers":[`, 200)+strings.Repeat(`]}`, 200)), "nested"},
		{"behavior", part("pre_tokenizer", `{"type":"Split","pattern":{"String":"a"},"behavior":"Eaten"}`), `"Eaten"`},
		{"no pattern", part("pre_tokenizer", `{"type":"Split","pattern":{},"behavior":"Removed"}`), "pattern without"},
		{"metaspace", part("pre_tokenizer", `{"type":"Metaspace","replacement":"ab"}`), "one character"},
		{"delimiter", part("pre_tokenizer", `{"type":"CharDelimiterSplit","delimiter":""}`), "one character"},
		{"length", part("pre_tokenizer", `{"type":"FixedLength","length":0}`), "length 0"},
		{"decoder", part("decoder", `{"type":"CTC"}`), `"CTC"`},
		{"template", part("post_processor", `{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"[X]"}}],"pair":[]}`), `"[X]"`},
		{"template part", part("post_processor", `{"type":"TemplateProcessing","single":[{}],"pair":[]}`), "neither"},
		{"two templates", part("post_processor", `{"type":"Sequence","processors":[{"type":"BertProcessing","sep":["a",0],"cls":["b",1]},{"type":"BertProcessing","sep":["a",0],"cls":["b",1]}]}`), "at most one"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse([]byte(c.file))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
			if !strings.HasPrefix(err.Error(), "tokenizer: ") {
				t.Errorf("%q does not name its place", err)
			}
		})
	}
}

func TestLoadRejects(t *testing.T) {
	for _, c := range []struct {
		name, want string
		files      map[string]string
	}{
		{"nothing", "no tokenizer.json", nil},
		{"class", `"BloomTokenizer"`, map[string]string{"tokenizer_config.json": `{"tokenizer_class":"BloomTokenizer"}`}},
		{"no vocabulary", "vocab.json and merges.txt", map[string]string{"tokenizer_config.json": `{"tokenizer_class":"GPT2Tokenizer"}`}},
		{"config", "tokenizer_config.json", map[string]string{"tokenizer_config.json": `{`}},
		{"merges", "merges.txt", map[string]string{
			"tokenizer_config.json": `{"tokenizer_class":"GPT2Tokenizer"}`, "vocab.json": `{"a":0}`, "merges.txt": "a\n",
		}},
		{"id", `"x"`, map[string]string{
			"tokenizer_config.json": `{"added_tokens_decoder":{"x":{"content":"a"}}}`,
			"tokenizer.json":        `{"model":{"type":"BPE",` + smallVocab + `}}`,
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := fstest.MapFS{}
			for name, text := range c.files {
				files[name] = &fstest.MapFile{Data: []byte(text)}
			}
			if _, err := Load(files); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
		})
	}
	if _, err := Open(t.TempDir() + "/none"); err == nil {
		t.Error("a missing directory opens")
	}
}

func TestPatternRejects(t *testing.T) {
	for _, source := range []string{
		`(`, `)`, `[`, `[a`, `*`, `a**?+*{2,1}`, `a{9999}`, `(?<=a)b`, `(?<n>a)`, `\1`, `\q`, `\p{Nope}`, `\p`, `\x{110000}`, `\x{`,
		`\`, `[z-a]`, `[a-\s]`, `[[:alpha:]]`, "\xff", strings.Repeat("(", 1000), strings.Repeat("[", 1000),
		strings.Repeat("a", maxPattern+1), `((((a{999}){999}){999}){999})`,
	} {
		if p, err := compilePattern(source); err == nil {
			t.Errorf("%.40q compiles to %v", source, p)
		}
	}
}

func TestSlowPattern(t *testing.T) {
	p, err := compilePattern(`(?:a|aa)*(?:a|aa)*(?:a|aa)*b`)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.each(strings.Repeat("a", 5000), func(int, int) {}); err == nil {
		t.Error("a pattern without end ends")
	}
}

func TestPatterns(t *testing.T) {
	for _, c := range []struct {
		source, text string
		want         []string
	}{
		{`a*`, "baac", []string{"", "aa", ""}},
		{`(?:ab|a)(?:bc)?`, "abc", []string{"ab"}},
		{`(?>a*)ab`, "aab", nil},
		{`a+?`, "aa", []string{"a", "a"}},
		{`(?:a|b){2}`, "abab", []string{"ab", "ab"}},
		{`(?:ab){1,2}`, "ababab", []string{"abab", "ab"}},
		{`^a|a$`, "a\na", []string{"a", "a"}},
		{`\Aa|a\z`, "aa", []string{"a", "a"}},
		{`a\Z`, "a\n", []string{"a"}},
		{`\bfoo\B`, "foo food", []string{"foo"}},
		{`(?i:s)`, "sSſx", []string{"s", "S", "ſ"}},
		{`[^a-c\d]`, "a1x", []string{"x"}},
		{`[]a]`, "]a", []string{"]", "a"}},
		{`(a*)*b`, "aab", []string{"aab"}},
		{`(?:a?)*?b`, "aab", []string{"aab"}},
		{`\u0041\x42\x{43}\t`, "ABC\t", []string{"ABC\t"}},
	} {
		p, err := compilePattern(c.source)
		if err != nil {
			t.Errorf("%q: %v", c.source, err)
			continue
		}
		var got []string
		if err := p.each(c.text, func(start, end int) { got = append(got, c.text[start:end]) }); err != nil {
			t.Error(err)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%q in %q: got %q, want %q", c.source, c.text, got, c.want)
		}
	}
}

func TestValidText(t *testing.T) {
	for text, want := range map[string]string{
		"\xff":                 "\uFFFD",
		"\xe2\x82A":            "\uFFFDA",
		"\xed\xa0\x80":         "\uFFFD\uFFFD\uFFFD",
		"\xf0\x9f\x98":         "\uFFFD",
		"a\xc3":                "a\uFFFD",
		"\xf5\x80":             "\uFFFD\uFFFD",
		"\xe0\x80\x80":         "\uFFFD\uFFFD\uFFFD",
		"\uFFFDé":              "\uFFFDé",
		"\xf0\x9f\xf0\x9f\x98": "\uFFFD\uFFFD",
	} {
		if got := validText(text); got != want {
			t.Errorf("%q: got %+q, want %+q", text, got, want)
		}
	}
}

func TestBatchRejects(t *testing.T) {
	c := readGolden(t, "wordpiece")["wordpiece"]
	tok := c.load(t)
	if _, err := tok.EncodeBatch([]string{"a"}, Options{AddSpecial: true, MaxLength: 1}); err == nil {
		t.Error("a length below the special tokens is taken")
	}
	if _, err := tok.EncodeBatch([]string{"a"}, Options{Pad: true, PadID: -1}); err == nil {
		t.Error("padding without a pad token is taken")
	}
	if b, err := tok.EncodeBatch([]string{"a", ""}, Options{Pad: true, PadID: 0, PadTo: 4}); err != nil || len(b.IDs[1]) != 4 || b.Mask[1][0] != 0 {
		t.Errorf("got %v, %v", b, err)
	}
}

func TestGrowth(t *testing.T) {
	for _, part := range []string{
		strings.Repeat(`{"type":"Replace","pattern":{"String":"a"},"content":"aa"},`, 60),
		strings.Repeat(`{"type":"Replace","pattern":{"Regex":"a"},"content":"aa"},`, 60),
		`{"type":"Prepend","prepend":"` + strings.Repeat("a", 1<<21) + `"},`,
	} {
		tok, err := Parse([]byte(`{"normalizer":{"type":"Sequence","normalizers":[` + part + `{"type":"NFC"}]},"model":{"type":"BPE",` + smallVocab + `}}`))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tok.Encode("ab", false); err == nil || !strings.Contains(err.Error(), "64 times") {
			t.Errorf("got %v", err)
		}
	}
}

// FuzzParse: whatever the file, there is an error or a tokenizer that works.
func FuzzParse(f *testing.F) {
	for _, name := range []string{"t5", "llama", "clip", "qwen2", "parts"} {
		for _, c := range readGolden(f, name) {
			var file map[string]json.RawMessage
			if err := json.Unmarshal([]byte(c.Files["tokenizer.json"]), &file); err != nil {
				f.Fatal(err)
			}
			file["model"] = json.RawMessage(`{"type":"BPE",` + smallVocab + `}`)
			if data, err := json.Marshal(file); err != nil {
				f.Fatal(err)
			} else if len(data) < 4000 {
				f.Add(data, "ab c\n")
			}
		}
	}
	f.Add([]byte(`{"normalizer":{"type":"Sequence","normalizers":[`+strings.Repeat(`{"type":"Replace","pattern":{"String":"a"},"content":"aa"},`, 60)+
		`{"type":"NFC"}]},"model":{"type":"BPE",`+smallVocab+`}}`), "aab")
	f.Add([]byte(`{"normalizer":{"type":"Replace","pattern":{"Regex":"(a|b)*?"},"content":""},"model":{"type":"BPE",`+smallVocab+`}}`), "aab")
	f.Add([]byte(`{"decoder":{"type":"Strip","content":"a","start":2,"stop":9},"model":{"type":"Unigram","unk_id":0,"vocab":[["a",-1]]}}`), "aab")
	f.Fuzz(func(t *testing.T, file []byte, text string) {
		tok, err := Parse(file)
		if err != nil {
			return
		}
		ids, err := tok.Encode(text, true)
		if err != nil {
			return
		}
		if got, want := streamed(t, tok, ids, false), tok.Decode(ids, false); got != want {
			t.Errorf("stream %q, at once %q", got, want)
		}
	})
}

// FuzzText: any text, any ids.
func FuzzText(f *testing.F) {
	toks := map[string]*Tokenizer{}
	for _, name := range []string{"qwen2", "llama", "unigram-bytes", "clip", "wordpiece"} {
		toks[name] = readGolden(f, name)[name].load(f)
	}
	f.Add("Hello, wörld\xff \u0301", []byte{1, 2, 255})
	f.Fuzz(func(t *testing.T, text string, raw []byte) {
		for name, tok := range toks {
			ids, err := tok.Encode(text, true)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			for _, b := range raw {
				ids = append(ids, int(b)*5-3)
			}
			if got := streamed(t, tok, ids, true); !utf8.ValidString(got) || got != tok.Decode(ids, true) {
				t.Errorf("%s: stream %q, at once %q", name, got, tok.Decode(ids, true))
			}
		}
	})
}

// FuzzPattern: compiling and matching end, in order and on boundaries.
func FuzzPattern(f *testing.F) {
	f.Add(gptPattern, "it's 1,000 é")
	f.Add(`(?:a|b)*?c{2,3}+(?!x)[^\s&&\p{L}]`, "abcccx1")
	f.Fuzz(func(t *testing.T, source, text string) {
		p, err := compilePattern(source)
		if err != nil || len(text) > 200 {
			return
		}
		text = validText(text)
		last := 0
		_ = p.each(text, func(start, end int) {
			if start < last || end < start || end > len(text) || !utf8.ValidString(text[start:end]) {
				t.Fatal(fmt.Sprint(start, end, last))
			}
			last = end
		})
	})
}
