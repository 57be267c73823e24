package tokenizer

import (
	"strings"
	"unicode/utf8"
)

// validText returns text with every maximal ill-formed subsequence replaced by
// U+FFFD, as Python's errors="replace" and Rust's from_utf8_lossy do.
func validText(text string) string {
	if utf8.ValidString(text) {
		return text
	}
	var out strings.Builder
	out.Grow(len(text) + 8)
	for len(text) > 0 {
		n, ok := scanRune(text)
		if ok {
			out.WriteString(text[:n])
		} else {
			out.WriteRune(utf8.RuneError)
		}
		text = text[n:]
	}
	return out.String()
}

// scanRune returns the length of the first encoded code point of text, or the
// length of its first ill-formed subsequence and false. text is not empty.
func scanRune(text string) (int, bool) {
	if c, n := utf8.DecodeRuneInString(text); c != utf8.RuneError || n > 1 {
		return n, true
	}
	want, low, high := leadByte(text[0])
	n := 1
	for n < want && n < len(text) && text[n] >= low && text[n] <= high {
		n, low, high = n+1, 0x80, 0xBF
	}
	return n, false
}

// leadByte returns how many bytes a sequence that starts with b has, and the
// range of its second byte; 1 for a byte that starts none.
func leadByte(b byte) (n int, low, high byte) {
	switch {
	case b >= 0xC2 && b <= 0xDF:
		return 2, 0x80, 0xBF
	case b == 0xE0:
		return 3, 0xA0, 0xBF
	case b == 0xED:
		return 3, 0x80, 0x9F
	case b >= 0xE1 && b <= 0xEF:
		return 3, 0x80, 0xBF
	case b == 0xF0:
		return 4, 0x90, 0xBF
	case b >= 0xF1 && b <= 0xF3:
		return 4, 0x80, 0xBF
	case b == 0xF4:
		return 4, 0x80, 0x8F
	}
	return 1, 0, 0
}

// incomplete returns how many bytes at the end of text are the beginning of a
// sequence that further bytes could complete.
func incomplete(text string) int {
	for n := 1; n <= 3 && n <= len(text); n++ {
		tail := text[len(text)-n:]
		want, _, _ := leadByte(tail[0])
		if want == 1 {
			if tail[0]&0xC0 == 0x80 {
				continue
			}
			return 0
		}
		if got, ok := scanRune(tail); !ok && got == n && n < want {
			return n
		}
		return 0
	}
	return 0
}
