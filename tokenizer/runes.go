package tokenizer

import "sync"

// Flags of a code point in the reference's eyes. The low five bits are its
// general category in Oniguruma; the other bits are the reference's several
// other opinions (see tools/golden/tokenizer/unicode.py).
const (
	flagCategory   = 0x1f
	flagSpace      = 1 << 5  // \s of Oniguruma
	flagWord       = 1 << 6  // \w of Oniguruma
	flagCrateWord  = 1 << 7  // \w of the regex crate
	flagCrateSpace = 1 << 8  // \s of the regex crate
	flagWhite      = 1 << 9  // char::is_whitespace
	flagNumeric    = 1 << 10 // char::is_numeric
	flagPunct      = 1 << 11 // punctuation for BERT and Punctuation
	flagAccent     = 1 << 12 // dropped by StripAccents
	flagControl    = 1 << 13 // dropped by BERT's text cleaning
	flagMark       = 1 << 14 // non-spacing mark for BERT
	flagNonstarter = 1 << 15 // canonical combining class above zero
	flagNFD        = 1 << 16 // has a canonical decomposition
	flagNFKD       = 1 << 17 // has a decomposition
)

// categoryNames gives the number of each general category: its index.
var categoryNames = [...]string{
	"Cn", "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe",
	"Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Co",
}

const (
	runePage  = 256 // code points a page of the two-stage table
	runeLimit = 0x110000
)

// runePages is the two-stage form of runeRuns: equal pages share storage.
var runePages = sync.OnceValue(func() *[runeLimit / runePage]*[runePage]uint32 {
	var table [runeLimit / runePage]*[runePage]uint32
	seen := make(map[[runePage]uint32]*[runePage]uint32)
	run := 0
	for p := range table {
		var page [runePage]uint32
		for i := range page {
			c := rune(p*runePage + i)
			for run+1 < len(runeRuns) && runeRuns[run+1].first <= c {
				run++
			}
			page[i] = runeRuns[run].flags
		}
		if seen[page] == nil {
			copied := page
			seen[page] = &copied
		}
		table[p] = seen[page]
	}
	return &table
})

// runeFlags returns the flags of c, which must be a valid code point.
func runeFlags(c rune) uint32 {
	return runePages()[c/runePage][c%runePage]
}

func runeIs(c rune, flag uint32) bool { return runeFlags(c)&flag != 0 }
