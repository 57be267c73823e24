package tokenizer

import (
	"slices"
	"sync"

	"golang.org/x/text/unicode/norm"
)

// unicodeForm is NFD, NFC, NFKD or NFKC in the reference's older version of
// Unicode: what it does not decompose stays whole, and a mark that it does not
// know is no mark. Runs of marks may have any length.
type unicodeForm struct{ compose, compatible bool }

func (f unicodeForm) form() norm.Form {
	switch f {
	case unicodeForm{true, false}:
		return norm.NFC
	case unicodeForm{true, true}:
		return norm.NFKC
	case unicodeForm{false, true}:
		return norm.NFKD
	}
	return norm.NFD
}

func (f unicodeForm) normalize(text string) (string, bool, error) {
	if f.form().IsNormalString(text) {
		return text, false, nil
	}
	runes := make([]rune, 0, len(text))
	for _, c := range text {
		runes = f.decompose(runes, c)
	}
	sortMarks(runes)
	if f.compose {
		runes = composeRunes(runes)
	}
	return string(runes), false, nil
}

const (
	hangulFirst, hangulCount      = 0xAC00, 11172
	leadFirst, leadCount          = 0x1100, 19
	vowelFirst, vowelCount        = 0x1161, 21
	trailFirst, trailCount        = 0x11A7, 28
	vowelsAndTrails          rune = vowelCount * trailCount
)

// decompose appends the full decomposition of c.
func (f unicodeForm) decompose(runes []rune, c rune) []rune {
	if i := c - hangulFirst; i >= 0 && i < hangulCount {
		runes = append(runes, leadFirst+i/vowelsAndTrails, vowelFirst+i%vowelsAndTrails/trailCount)
		if trail := i % trailCount; trail != 0 {
			runes = append(runes, trailFirst+trail)
		}
		return runes
	}
	form, flag := norm.NFD, uint32(flagNFD)
	if f.compatible {
		form, flag = norm.NFKD, flagNFKD
	}
	if c < 0x80 || !runeIs(c, flag) {
		return append(runes, c)
	}
	parts := form.PropertiesString(string(c)).Decomposition()
	if parts == nil {
		return append(runes, c)
	}
	return append(runes, []rune(string(parts))...)
}

// class returns the canonical combining class of c.
func class(c rune) uint8 {
	if c < 0x300 || !runeIs(c, flagNonstarter) {
		return 0
	}
	return norm.NFD.PropertiesString(string(c)).CCC()
}

// sortMarks puts each run of marks in canonical order.
func sortMarks(runes []rune) {
	for i := 0; i < len(runes); i++ {
		if class(runes[i]) == 0 {
			continue
		}
		end := i
		for end < len(runes) && class(runes[end]) != 0 {
			end++
		}
		slices.SortStableFunc(runes[i:end], func(a, b rune) int { return int(class(a)) - int(class(b)) })
		i = end
	}
}

// composites maps pairs to the character that decomposes into them.
var composites = sync.OnceValue(func() map[[2]rune]rune {
	pairs := make(map[[2]rune]rune)
	for c := rune(0x80); c < runeLimit; c++ {
		if !runeIs(c, flagNFD) || (c >= hangulFirst && c < hangulFirst+hangulCount) {
			continue
		}
		whole := string(c)
		parts := []rune(string(norm.NFD.PropertiesString(whole).Decomposition()))
		if len(parts) < 2 || norm.NFC.String(whole) != whole {
			continue
		}
		last := len(parts) - 1
		if head := []rune(norm.NFC.String(string(parts[:last]))); len(head) == 1 {
			pairs[[2]rune{head[0], parts[last]}] = c
		}
	}
	return pairs
})

// pair returns the composite of a and b, 0 if there is none.
func pair(a, b rune) rune {
	if a >= leadFirst && a < leadFirst+leadCount && b >= vowelFirst && b < vowelFirst+vowelCount {
		return hangulFirst + ((a-leadFirst)*vowelCount+b-vowelFirst)*trailCount
	}
	if i := a - hangulFirst; i >= 0 && i < hangulCount && i%trailCount == 0 && b > trailFirst && b < trailFirst+trailCount {
		return a + b - trailFirst
	}
	return composites()[[2]rune{a, b}]
}

// composeRunes is the canonical composition of decomposed, ordered runes. It
// reuses their memory.
func composeRunes(runes []rune) []rune {
	out := runes[:0]
	starter := -1
	var last uint8 // class of the code point before, since the starter
	for _, c := range runes {
		k := class(c)
		if starter >= 0 && (starter == len(out)-1 || last < k) {
			if whole := pair(out[starter], c); whole != 0 {
				out[starter] = whole
				continue
			}
		}
		if k == 0 {
			starter = len(out)
		}
		last = k
		out = append(out, c)
	}
	return out
}
