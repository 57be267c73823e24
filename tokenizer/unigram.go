package tokenizer

import (
	"encoding/json"
	"fmt"
	"math"
	"unicode/utf8"
)

// unigram is the unigram language model of SentencePiece (arXiv:1804.10959):
// of all ways to cut a piece into tokens it takes the one with the highest sum
// of scores (log probabilities). A character that no token covers costs ten
// more than the rarest token; a run of them is one unknown.
type unigram struct {
	vocab    *vocabulary
	scores   []float64
	unknown  int // -1: such text is an error
	penalty  float64
	fallback *[256]int32 // <0x00> to <0xFF>, where all are there
	trie     trie
}

// pathNode is the best way to reach a byte position.
type pathNode struct {
	score float64
	start int32 // of its last token; -1: not reached
	id    int32
}

// scoredToken is ["token", score].
type scoredToken struct {
	token string
	score float64
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *scoredToken) UnmarshalJSON(data []byte) error {
	var parts []json.RawMessage
	if err := json.Unmarshal(data, &parts); err != nil || len(parts) != 2 {
		return fmt.Errorf("vocab: entry %.60s, want [token, score]", data)
	}
	if err := json.Unmarshal(parts[0], &t.token); err != nil {
		return err
	}
	return json.Unmarshal(parts[1], &t.score)
}

func readUnigram(data json.RawMessage) (model, error) {
	var c struct {
		UnkID        *int `json:"unk_id"`
		Vocab        []scoredToken
		ByteFallback bool `json:"byte_fallback"`
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, err
	}
	return newUnigram(c.Vocab, c.UnkID, c.ByteFallback)
}

func newUnigram(entries []scoredToken, unknown *int, byteFallback bool) (*unigram, error) {
	if len(entries) == 0 || len(entries) > maxVocabulary {
		return nil, fmt.Errorf("vocabulary of %d tokens, want 1 to %d", len(entries), maxVocabulary)
	}
	u := &unigram{unknown: -1, scores: make([]float64, len(entries)), penalty: math.Inf(1)}
	if unknown != nil {
		if *unknown < 0 || *unknown >= len(entries) {
			return nil, fmt.Errorf("unk_id %d, want 0 to %d", *unknown, len(entries)-1)
		}
		u.unknown = *unknown
	}
	u.vocab = &vocabulary{ids: make(map[string]int32, len(entries)), tokens: make([]string, len(entries))}
	u.trie.init(len(entries))
	for i, e := range entries {
		if math.IsNaN(e.score) {
			return nil, fmt.Errorf("token %q has no score", e.token)
		}
		u.scores[i], u.vocab.tokens[i] = e.score, e.token
		u.vocab.ids[e.token] = int32(i)
		u.penalty = min(u.penalty, e.score)
		if e.token != "" {
			if err := u.trie.put(e.token, int32(i)); err != nil {
				return nil, err
			}
		}
	}
	u.penalty -= 10
	if byteFallback {
		u.fallback = new([256]int32)
		for i := range u.fallback {
			u.fallback[i] = -1
			if id, ok := u.vocab.id(fmt.Sprintf("<0x%02X>", i)); ok {
				u.fallback[i] = id
			}
		}
	}
	return u, nil
}

func (u *unigram) vocabulary() *vocabulary { return u.vocab }

func (u *unigram) encode(ids []int, text string, s *scratch) ([]int, error) {
	got, ok := s.cached(text)
	if !ok {
		var err error
		if s.ids, err = u.cut(s.ids[:0], text, s); err != nil {
			return nil, err
		}
		s.keep(text, s.ids)
		got = s.ids
	}
	for _, id := range got {
		ids = append(ids, int(id))
	}
	return ids, nil
}

// cut appends the ids of the best path through text (Viterbi).
func (u *unigram) cut(ids []int32, text string, s *scratch) ([]int32, error) {
	best := u.paths(text, s)
	// Walk the path backwards: the ids come out in reverse, and an unknown's
	// bytes with them.
	for end := len(text); end > 0; {
		node := best[end]
		if node.id < 0 {
			return nil, fmt.Errorf("tokenizer: %.20q is not in the vocabulary, which has no unknown token", text[node.start:])
		}
		start := int(node.start)
		if int(node.id) == u.unknown {
			for start > 0 && int(best[start].id) == u.unknown {
				start = int(best[start].start)
			}
			ids = u.addUnknown(ids, text[start:end])
		} else {
			ids = append(ids, node.id)
		}
		end = start
	}
	for i, j := 0, len(ids)-1; i < j; i, j = i+1, j-1 {
		ids[i], ids[j] = ids[j], ids[i]
	}
	return ids, nil
}

// paths finds the best way to each position of text.
func (u *unigram) paths(text string, s *scratch) []pathNode {
	best := s.best[:0]
	for range len(text) + 1 {
		best = append(best, pathNode{start: -1, id: -1})
	}
	s.best = best
	for at := 0; at < len(text); {
		_, width := utf8.DecodeRuneInString(text[at:])
		sum, alone := best[at].score, false
		node := int32(0)
		for end := at; end < len(text); {
			if node = u.trie.next(node, text[end]); node < 0 {
				break
			}
			end++
			id := u.trie.ids[node]
			if id < 0 {
				continue
			}
			alone = alone || end == at+width
			if to := &best[end]; to.start < 0 || sum+u.scores[id] > to.score {
				*to = pathNode{sum + u.scores[id], int32(at), id}
			}
		}
		if !alone {
			if to := &best[at+width]; to.start < 0 || sum+u.penalty > to.score {
				*to = pathNode{sum + u.penalty, int32(at), int32(u.unknown)}
			}
		}
		at += width
	}
	return best
}

// addUnknown appends, in reverse, what stands for text: the token of that very
// text (unknown characters in a row may spell one), its bytes, or the unknown.
func (u *unigram) addUnknown(ids []int32, text string) []int32 {
	if id, ok := u.vocab.ids[text]; ok {
		return append(ids, id)
	}
	if u.fallback != nil {
		size := len(ids)
		for i := len(text) - 1; i >= 0; i-- {
			id := u.fallback[text[i]]
			if id < 0 {
				return append(ids[:size], int32(u.unknown))
			}
			ids = append(ids, id)
		}
		return ids
	}
	return append(ids, int32(u.unknown))
}
