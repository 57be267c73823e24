package tokenizer

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// addedToken is a token that stands beside the model's vocabulary and is found
// in the text before anything else is done to it.
type addedToken struct {
	Content    string
	SingleWord bool `json:"single_word"` // not inside a word
	LStrip     bool // takes the white space to its left
	RStrip     bool // and to its right
	Normalized bool // looked for, in its normalized form, in normalized text
	Special    bool // dropped when decoding without special tokens

	id   int
	form string // Content, normalized if Normalized
}

// addedTokens are looked for in two rounds: as they are in the text as it is,
// then in their normalized form in what the normalizer made of the rest.
type addedTokens struct {
	byContent map[string]*addedToken
	byID      map[int]*addedToken
	special   map[string]bool
	plain     finder
	normal    finder
}

// finder finds the leftmost-longest of a set of texts.
type finder struct {
	trie  trie
	count int
}

const maxAddedTokens = 1 << 18

// add registers tokens in order. A token of the vocabulary keeps its id, a new
// one gets the next free one, whatever the file says: so does the reference.
func (t *Tokenizer) add(tokens []addedToken) error {
	if len(tokens) > maxAddedTokens {
		return fmt.Errorf("%d added tokens, want at most %d", len(tokens), maxAddedTokens)
	}
	a := &t.added
	if a.byContent == nil {
		a.byContent, a.byID = make(map[string]*addedToken), make(map[int]*addedToken)
		a.special = make(map[string]bool)
	}
	vocab := t.model.vocabulary()
	size := len(vocab.ids)
	next := size
	for id := range a.byID {
		if id >= size {
			next = max(next, id+1)
		}
	}
	for _, token := range tokens {
		if token.Content == "" {
			continue
		}
		token.form = token.Content
		if token.Normalized && t.normalizer != nil {
			form, _, err := t.normalizer.normalize(token.Content)
			if err != nil {
				return fmt.Errorf("added token %q: %w", token.Content, err)
			}
			token.form = form
		}
		if old := a.byContent[token.Content]; old != nil {
			token.id = old.id
		} else if id, ok := vocab.id(token.Content); ok {
			token.id = int(id)
		} else {
			token.id = next
			next++
		}
		kept := token
		a.byContent[token.Content], a.byID[token.id] = &kept, &kept
		if token.Special {
			a.special[token.Content] = true
		}
	}
	return a.index()
}

// index builds the two finders.
func (a *addedTokens) index() error {
	a.plain, a.normal = finder{}, finder{}
	a.plain.trie.init(len(a.byID))
	a.normal.trie.init(len(a.byID))
	for id, token := range a.byID {
		f := &a.plain
		if token.Normalized {
			f = &a.normal
		}
		if token.form == "" {
			continue
		}
		if err := f.put(token.form, int32(id)); err != nil {
			return err
		}
	}
	return nil
}

func (f *finder) put(text string, id int32) error {
	f.count++
	if old, end := f.longest(text, 0); end == len(text) && old < int(id) {
		return nil // of equal texts the lowest id is found
	}
	return f.trie.put(text, id)
}

// longest returns the longest text at i and its end, or -1.
func (f *finder) longest(text string, i int) (id, end int) {
	id, end = -1, -1
	node := int32(0)
	for i < len(text) {
		if node = f.trie.next(node, text[i]); node < 0 {
			break
		}
		i++
		if got := f.trie.ids[node]; got >= 0 {
			id, end = int(got), i
		}
	}
	return id, end
}

// each cuts text at the added tokens that f finds: id is -1 for the text
// between them. Parts may overlap where one token strips white space that
// another one is made of, as in the reference.
func (a *addedTokens) each(f *finder, text string, emit func(id, start, end int) error) error {
	done := 0
	for at := 0; f.count > 0 && at < len(text); {
		if f.trie.first[text[at]] < 0 {
			at++
			continue
		}
		id, stop := f.longest(text, at)
		if id < 0 {
			at++
			continue
		}
		start := at
		at = stop
		token := a.byID[id]
		if token.SingleWord && (endsWithWord(text[:start]) || startsWithWord(text[stop:])) {
			continue
		}
		if token.LStrip {
			start = max(len(strings.TrimRightFunc(text[:start], crateSpace)), done)
		}
		if token.RStrip {
			stop = len(text) - len(strings.TrimLeftFunc(text[stop:], crateSpace))
		}
		if done < start {
			if err := emit(-1, done, start); err != nil {
				return err
			}
		}
		if err := emit(id, start, stop); err != nil {
			return err
		}
		done = stop
	}
	if done != len(text) {
		return emit(-1, done, len(text))
	}
	return nil
}

func crateSpace(c rune) bool { return runeIs(c, flagCrateSpace) }

func endsWithWord(text string) bool {
	c, n := utf8.DecodeLastRuneInString(text)
	return n > 0 && runeIs(c, flagCrateWord)
}

func startsWithWord(text string) bool {
	c, n := utf8.DecodeRuneInString(text)
	return n > 0 && runeIs(c, flagCrateWord)
}
