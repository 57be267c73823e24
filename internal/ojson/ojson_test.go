package ojson_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"smelt/internal/ojson"
)

func TestRoundTripKeepsOrderAndDigits(t *testing.T) {
	text := `{"z":1.50e+3,"a":[null,true,false,"x\n\"\\é"],"m":{},"n":[],"big":123456789012345678901234567890,"inf":-Infinity,"nan":NaN}`
	v, err := ojson.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if got := string(ojson.Append(nil, v)); got != text {
		t.Errorf("got  %s\nwant %s", got, text)
	}
}

func TestIndentIsPythons(t *testing.T) {
	v, err := ojson.Parse([]byte(`{"a":[1,2],"b":{"c":[],"d":{}},"e":null}`))
	if err != nil {
		t.Fatal(err)
	}
	want := "{\n  \"a\": [\n    1,\n    2\n  ],\n  \"b\": {\n    \"c\": [],\n    \"d\": {}\n  },\n  \"e\": null\n}\n"
	if got := string(ojson.Indent(v)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestRefuses(t *testing.T) {
	deep := strings.Repeat("[", 200) + strings.Repeat("]", 200)
	many := "{"
	for i := range 20 {
		many += `"k` + string(rune('a'+i)) + `":1,`
	}
	for text, want := range map[string]string{
		``:                          "end of text",
		` `:                         "end of text",
		`{"a":1,"a":2}`:             `"a" occurs twice`,
		`{"a":1,"\u0061":2}`:        `"a" occurs twice`,
		many + `"kc":2}`:            `"kc" occurs twice`,
		`{"a":1}x`:                  "after the value",
		`{"a":1,}`:                  "name should stand",
		`[1,]`:                      "value should stand",
		`[1 2]`:                     "comma",
		`{"a" 1}`:                   "colon",
		`{"a":1 "b":2}`:             "comma",
		`"abc`:                      "does not end",
		`"a\`:                       "does not end",
		`"\x"`:                      "invalid escape",
		`"\ud800"`:                  "invalid escape",
		`"\ud800\u0041"`:            "invalid escape",
		`"\u12"`:                    "invalid escape",
		`"\u+123"`:                  "invalid escape",
		"\"a\nb\"":                  "control character",
		"\"\\t\n\"":                 "control character",
		"\"\xff\"":                  "not UTF-8",
		`01`:                        "after the value",
		`-`:                         "digit should stand",
		`1.`:                        "digit should stand",
		`1e`:                        "digit should stand",
		`.5`:                        "value should stand",
		`tru`:                       "value should stand",
		deep:                        "nested deeper",
		`{"a":` + deep + `}`:        "nested deeper",
		"\ufeff{}":                  "value should stand",
		`{"a":1}` + "\x00":          "after the value",
		`[` + `"\ud83d\ude0"` + `]`: "invalid escape",
	} {
		_, err := ojson.Parse([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: error %v, want one with %q", text, err, want)
		}
	}
}

func TestAccess(t *testing.T) {
	v, err := ojson.Parse([]byte(`{"s":"x","n":1e3,"f":0.5,"i":-7,"l":["a","b"],"b":true,"big":1e300,"inf":Infinity}`))
	if err != nil {
		t.Fatal(err)
	}
	get := func(k string) ojson.Value { m, _ := v.Get(k); return m }
	if v.Str("s") != "x" || v.Str("n") != "" || v.Str("none") != "" {
		t.Error("Str")
	}
	if n, ok := get("n").Int(); n != 1000 || !ok {
		t.Error("1e3 is a whole number")
	}
	for _, k := range []string{"f", "s", "big", "inf", "none"} {
		if n, ok := get(k).Int(); ok {
			t.Errorf("%s: Int %d", k, n)
		}
	}
	if f, ok := get("inf").Float(); !ok || !math.IsInf(f, 1) {
		t.Error("Infinity")
	}
	if l, ok := get("l").Strings(); !ok || len(l) != 2 {
		t.Error("Strings")
	}
	v.Set("i", ojson.NewInt(8))
	v.Set("new", ojson.NewFloat(2))
	if !v.Delete("s") || v.Delete("s") {
		t.Error("Delete")
	}
	if got := string(ojson.Append(nil, v)); got != `{"n":1e3,"f":0.5,"i":8,"l":["a","b"],"b":true,"big":1e300,"inf":Infinity,"new":2.0}` {
		t.Error(got)
	}
}

// FuzzParse holds Parse against encoding/json: what it accepts, that must
// accept with the same meaning, but for the numbers that only Python knows;
// and what is written reads back the same.
func FuzzParse(f *testing.F) {
	for _, s := range []string{`{}`, `[1,-2.5e3,"a\u00e9\ud83d\ude00"]`, `{"a":{"b":[null,true]}}`, `"\/"`, `NaN`, `{"a":1,"a":2}`, `-0`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := ojson.Parse(data)
		if err != nil {
			return
		}
		out := ojson.Append(nil, v)
		again, err := ojson.Parse(out)
		if err != nil {
			t.Fatalf("%q was written as %q, which does not parse: %v", data, out, err)
		}
		if got := ojson.Append(nil, again); string(got) != string(out) {
			t.Fatalf("%q, then %q", out, got)
		}
		if s := string(out); !strings.Contains(s, "NaN") && !strings.Contains(s, "Infinity") && !json.Valid(data) {
			t.Fatalf("%q is refused by encoding/json", data)
		}
		if pretty, err := ojson.Parse(ojson.Indent(v)); err != nil || string(ojson.Append(nil, pretty)) != string(out) {
			t.Fatalf("%q does not survive indenting: %v", out, err)
		}
	})
}
