package tokenizer

import "unicode/utf8"

// byteRunes is GPT-2's printable character for each byte.
var byteRunes = func() (runes [256]rune) {
	next := rune(256)
	for b := range runes {
		if b >= '!' && b <= '~' || b >= 0xA1 && b <= 0xAC || b >= 0xAE {
			runes[b] = rune(b)
		} else {
			runes[b] = next
			next++
		}
	}
	return runes
}()

// runeBytes is the inverse of byteRunes; -1 where there is none.
var runeBytes = func() (bytes [256 + 68]int16) {
	for i := range bytes {
		bytes[i] = -1
	}
	for b, c := range byteRunes {
		bytes[c] = int16(b)
	}
	return bytes
}()

// mapBytes writes each byte of text as its character.
func mapBytes(text string) string {
	out := make([]byte, 0, 2*len(text))
	for i := range len(text) {
		out = utf8.AppendRune(out, byteRunes[text[i]])
	}
	return string(out)
}

// unmapBytes appends the bytes that the characters of text stand for; false if
// one stands for none.
func unmapBytes(out []byte, text string) ([]byte, bool) {
	for _, c := range text {
		if int(c) >= len(runeBytes) || runeBytes[c] < 0 {
			return out, false
		}
		out = append(out, byte(runeBytes[c]))
	}
	return out, true
}
