package report

import (
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gomedium"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/sfnt"
	"golang.org/x/image/math/fixed"
)

// The fonts of images, and the measure of all text. Browsers draw text in the
// reader's font, which is rarely wider than these.
var (
	regular = sync.OnceValue(func() *sfnt.Font { return mustParse(goregular.TTF) })
	medium  = sync.OnceValue(func() *sfnt.Font { return mustParse(gomedium.TTF) })
)

// mustParse reads a font that is compiled in.
func mustParse(ttf []byte) *sfnt.Font {
	f, err := sfnt.Parse(ttf)
	if err != nil {
		panic(err)
	}
	return f
}

func face(bold bool) *sfnt.Font {
	if bold {
		return medium()
	}
	return regular()
}

// textWidth is the width of a text in CSS pixels.
func textWidth(text string, size float64, bold bool) float64 {
	var buf sfnt.Buffer
	f := face(bold)
	total := 0.0
	for _, r := range text {
		total += advance(f, &buf, r, size)
	}
	return total
}

// advance is the width of one character; one that the font lacks is as wide as
// the font's box, or twice that for the scripts that are written in squares.
func advance(f *sfnt.Font, buf *sfnt.Buffer, r rune, size float64) float64 {
	g, err := f.GlyphIndex(buf, r)
	if err != nil || g == 0 {
		if unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul) {
			return size
		}
		return 0.6 * size
	}
	const unit = 1000
	a, err := f.GlyphAdvance(buf, g, fixed.I(unit), font.HintingNone)
	if err != nil {
		return 0.6 * size
	}
	return float64(a) / 64 / unit * size
}

// fit cuts a text to a width, in the middle, where names of checkpoints differ
// least.
func fit(text string, size float64, bold bool, width float64) string {
	text = clean(text)
	if textWidth(text, size, bold) <= width {
		return text
	}
	runes := []rune(text)
	for keep := len(runes) - 1; keep > 1; keep-- {
		head := (keep + 1) / 2
		s := strings.TrimRight(string(runes[:head]), " ") + "…" + strings.TrimLeft(string(runes[len(runes)-(keep-head):]), " ")
		if textWidth(s, size, bold) <= width {
			return s
		}
	}
	return "…"
}

// wrap breaks a text into lines at its spaces.
func wrap(text string, size float64, bold bool, width float64) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(clean(text)) {
		next := strings.TrimLeft(line+" "+word, " ")
		if line != "" && textWidth(next, size, bold) > width {
			lines = append(lines, line)
			next = word
		}
		line = fit(next, size, bold, width)
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}

// clean makes a text one line of valid characters: what XML forbids, what
// would steer a terminal and what would turn the direction of writing are left
// out.
func clean(text string) string {
	if len(text) > 2000 {
		text = text[:2000]
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == utf8.RuneError:
			return '�'
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r), r >= 0xfffe && r <= 0xffff, unicode.Is(unicode.Cs, r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "�"))
}
