package tokenizer

import (
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/clipperhouse/uax29/v2/graphemes"
)

// charsMap is SentencePiece's compiled normalization: a double-array trie from
// byte strings to offsets of zero-terminated replacements.
type charsMap struct {
	units []uint32
	texts string
}

// maxReplacement is how many bytes one replacement may have; real ones have
// some dozens.
const maxReplacement = 1 << 12

func newCharsMap(data []byte) (normalizer, error) {
	if len(data) < 4 {
		return nil, fmt.Errorf("normalizer Precompiled: charsmap of %d bytes, want at least 4", len(data))
	}
	size := int64(binary.LittleEndian.Uint32(data))
	data = data[4:]
	if size > int64(len(data)) || size%4 != 0 || size == 0 {
		return nil, fmt.Errorf("normalizer Precompiled: trie of %d bytes in %d bytes of charsmap", size, len(data))
	}
	m := &charsMap{units: make([]uint32, size/4), texts: string(data[size:])}
	for i := range m.units {
		m.units[i] = binary.LittleEndian.Uint32(data[4*i:])
	}
	if !utf8.ValidString(m.texts) {
		return nil, fmt.Errorf("normalizer Precompiled: replacements are not UTF-8")
	}
	return m, nil
}

// lookup returns the replacement of the shortest key that key begins with (the
// reference takes the shortest too).
func (m *charsMap) lookup(key string) (string, bool) {
	at := m.step(0, m.units[0])
	for i := range len(key) {
		c := key[i]
		if c == 0 {
			return "", false
		}
		at ^= uint32(c)
		if int(at) >= len(m.units) {
			return "", false
		}
		unit := m.units[at]
		if unit&(1<<31|0xFF) != uint32(c) {
			return "", false
		}
		at = m.step(at, unit)
		if unit>>8&1 == 0 {
			continue
		}
		if int(at) >= len(m.units) {
			return "", false
		}
		start := int(m.units[at] & (1<<31 - 1))
		if start >= len(m.texts) {
			return "", false
		}
		text, _, _ := strings.Cut(m.texts[start:], "\x00")
		return text[:min(len(text), maxReplacement)], len(text) <= maxReplacement
	}
	return "", false
}

func (m *charsMap) step(at, unit uint32) uint32 {
	return at ^ unit>>10<<(unit&(1<<9)>>6)
}

func (m *charsMap) normalize(text string) (string, bool, error) {
	var out strings.Builder
	out.Grow(len(text) + 8)
	modified := false
	for g := graphemes.FromString(text); g.Next(); {
		cluster := g.Value()
		if tooLong(text, out.Len()) {
			return "", false, errGrowth
		}
		if len(cluster) < 6 {
			if to, ok := m.lookup(cluster); ok {
				out.WriteString(to)
				modified = true
				continue
			}
		}
		for _, c := range cluster {
			if to, ok := m.lookup(string(c)); ok {
				out.WriteString(to)
				modified = true
			} else {
				out.WriteRune(c)
			}
		}
	}
	if !modified {
		return text, false, nil
	}
	return out.String(), false, nil
}
