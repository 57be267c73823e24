package tokenizer

import (
	"compress/gzip"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
)

// goldenCase is a tokenizer and what the reference made of some lines.
type goldenCase struct {
	Files map[string]string
	Lines [][]byte
	Rows  []struct {
		Plain, Full []int
		Text        *string // decoded; nil: the reference panics
		Bare        *string `json:"skip"` // without special tokens
	}
	Pairs []struct {
		A, B string
		IDs  []int
	}
	Special map[string]int
	Size    int
	Batches []struct {
		Texts     []string
		Left      bool
		Max       int
		IDs, Mask [][]int
	}
}

func (c *goldenCase) load(t testing.TB) *Tokenizer {
	t.Helper()
	files := fstest.MapFS{}
	for name, text := range c.Files {
		files[name] = &fstest.MapFile{Data: []byte(text)}
	}
	tok, err := Load(files)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func readGolden(t testing.TB, name string) map[string]*goldenCase {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name+".json.gz"))
	if err != nil {
		t.Fatalf("fixture: %v (tools/golden/tokenizer/fixture.py writes it)", err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Cases map[string]*goldenCase }
	if err := json.NewDecoder(z).Decode(&file); err != nil {
		t.Fatal(err)
	}
	if len(file.Cases) == 0 {
		t.Fatalf("fixture %s has no case", name)
	}
	return file.Cases
}

var goldenNames = []string{
	"gpt2", "qwen2", "llama3", "o200k", "roberta", "clip", "llama", "llama-v5", "unigram", "t5", "unigram-bytes",
	"wordpiece", "words", "parts", "directories",
}

func TestGolden(t *testing.T) {
	for _, file := range goldenNames {
		for name, c := range readGolden(t, file) {
			t.Run(file+"/"+name, func(t *testing.T) {
				tok := c.load(t)
				for i, line := range c.Lines {
					checkLine(t, tok, string(line), c, i)
				}
				for _, p := range c.Pairs {
					got, err := tok.EncodePair(p.A, p.B, true)
					if err != nil || !slices.Equal(got, p.IDs) {
						t.Errorf("pair %+q, %+q: got %v, %v, want %v", p.A, p.B, got, err, p.IDs)
					}
				}
				checkDirectory(t, tok, c)
			})
		}
	}
}

func checkLine(t *testing.T, tok *Tokenizer, line string, c *goldenCase, i int) {
	t.Helper()
	want := c.Rows[i]
	plain, err := tok.Encode(line, false)
	if err != nil || !slices.Equal(plain, want.Plain) {
		t.Errorf("line %d %+q: got %v, %v, want %v", i, line, plain, err, want.Plain)
	}
	full, err := tok.Encode(line, true)
	if err != nil || !slices.Equal(full, want.Full) {
		t.Errorf("line %d %+q with special tokens: got %v, %v, want %v", i, line, full, err, want.Full)
	}
	for _, d := range []struct {
		skip bool
		want *string
	}{{false, want.Text}, {true, want.Bare}} {
		got := tok.Decode(want.Full, d.skip)
		if d.want != nil && got != *d.want {
			t.Errorf("line %d %+q decoded (skip %v): got %+q, want %+q", i, line, d.skip, got, *d.want)
		}
		if s := streamed(t, tok, want.Full, d.skip); s != got {
			t.Errorf("line %d %+q in a stream (skip %v): got %+q, want %+q", i, line, d.skip, s, got)
		}
	}
}

// streamed decodes one id after the other and checks that no part ends inside
// a character.
func streamed(t testing.TB, tok *Tokenizer, ids []int, skip bool) string {
	t.Helper()
	var text strings.Builder
	s := tok.NewStream(skip)
	for _, id := range ids {
		part := s.Push(id)
		if validText(part) != part {
			t.Errorf("part %+q of a stream is not UTF-8", part)
		}
		text.WriteString(part)
	}
	text.WriteString(s.Flush())
	return text.String()
}

func checkDirectory(t *testing.T, tok *Tokenizer, c *goldenCase) {
	t.Helper()
	for key, want := range c.Special {
		if got, ok := tok.Special(key); !ok || got != want {
			t.Errorf("%s: got %d, %v, want %d", key, got, ok, want)
		}
	}
	if c.Special != nil && len(tok.special) != len(c.Special) {
		t.Errorf("special tokens: got %v, want %v", tok.special, c.Special)
	}
	if c.Size != 0 && tok.VocabSize() != c.Size {
		t.Errorf("size: got %d, want %d", tok.VocabSize(), c.Size)
	}
	for _, b := range c.Batches {
		got, err := tok.EncodeBatch(b.Texts, Options{
			AddSpecial: true, MaxLength: b.Max, Pad: true, PadID: -1, PadLeft: b.Left, TruncateLeft: b.Left,
		})
		if err != nil {
			t.Fatal(err)
		}
		for i := range b.IDs {
			if !slices.Equal(got.IDs[i], b.IDs[i]) || !slices.Equal(got.Mask[i], b.Mask[i]) {
				t.Errorf("batch (left %v), row %d: got %v %v, want %v %v", b.Left, i, got.IDs[i], got.Mask[i], b.IDs[i], b.Mask[i])
			}
		}
	}
}

func TestConcurrent(t *testing.T) {
	c := readGolden(t, "qwen2")["qwen2"]
	tok := c.load(t)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for i, line := range c.Lines {
				if got, err := tok.Encode(string(line), true); err != nil || !slices.Equal(got, c.Rows[i].Full) {
					t.Errorf("line %d: got %v, %v", i, got, err)
				}
			}
		})
	}
	group.Wait()
}

// TestHeap holds the two ways to merge against one another.
func TestHeap(t *testing.T) {
	c := readGolden(t, "gpt2")["gpt2"]
	b := c.load(t).model.(*bpe)
	var s scratch
	for _, line := range c.Lines {
		ids := b.byteSymbols(nil, string(line))
		if len(ids) > shortWord {
			ids = ids[:shortWord]
		}
		plain := b.merges.apply(slices.Clone(ids), &s)
		if len(ids) < 2 {
			continue
		}
		if heap := b.merges.applyHeap(slices.Clone(ids), &s); !slices.Equal(heap, plain) {
			t.Errorf("%+q: heap %v, search %v", line, heap, plain)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	for _, name := range []string{"qwen2", "llama", "unigram"} {
		c := readGolden(b, name)[name]
		tok := c.load(b)
		size := 0
		for _, line := range c.Lines {
			size += len(line)
		}
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				for _, line := range c.Lines {
					if _, err := tok.Encode(string(line), false); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
