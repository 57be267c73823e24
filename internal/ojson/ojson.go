// Package ojson reads and writes the JSON of model files. Where encoding/json
// drops what it does not need, this keeps it: the order of an object's
// members, the digits of a number. And it refuses what encoding/json lets
// pass: a name that occurs twice, text that is not UTF-8, half a surrogate
// pair.
package ojson

import (
	"fmt"
	"math"
	"strconv"
)

// Kind is the kind of a Value.
type Kind uint8

// The kinds. The zero Value is Null.
const (
	Null Kind = iota
	Bool
	Number
	String
	Array
	Object
)

// String names the kind as error messages do.
func (k Kind) String() string {
	names := [...]string{"null", "boolean", "number", "string", "array", "object"}
	if int(k) < len(names) {
		return names[k]
	}
	return "Kind(" + strconv.Itoa(int(k)) + ")"
}

// A names the kind with its article: "an array".
func (k Kind) A() string {
	switch k {
	case Null:
		return "null"
	case Array, Object:
		return "an " + k.String()
	}
	return "a " + k.String()
}

// Value is one JSON value. Only the fields of its kind are set.
type Value struct {
	Kind    Kind
	Bool    bool
	Text    string   // String: the text. Number: the literal as it was written
	Elems   []Value  // Array
	Members []Member // Object, in order
}

// Member is one member of an object.
type Member struct {
	Name  string
	Value Value
}

// Get returns the member of an object called name; ok is false where v is no
// object or lacks it.
func (v Value) Get(name string) (Value, bool) {
	for i := range v.Members {
		if v.Members[i].Name == name {
			return v.Members[i].Value, true
		}
	}
	return Value{}, false
}

// Set replaces the member called name in place, or appends it.
func (v *Value) Set(name string, value Value) {
	for i := range v.Members {
		if v.Members[i].Name == name {
			v.Members[i].Value = value
			return
		}
	}
	v.Kind = Object
	v.Members = append(v.Members, Member{name, value})
}

// Delete removes the member called name and reports whether it was there.
func (v *Value) Delete(name string) bool {
	for i := range v.Members {
		if v.Members[i].Name == name {
			v.Members = append(v.Members[:i:i], v.Members[i+1:]...)
			return true
		}
	}
	return false
}

// Str returns the text of the string member called name, "" where there is
// none.
func (v Value) Str(name string) string {
	m, _ := v.Get(name)
	if m.Kind != String {
		return ""
	}
	return m.Text
}

// Int returns a number that is a whole one within int64, in whatever notation.
func (v Value) Int() (int64, bool) {
	if v.Kind != Number {
		return 0, false
	}
	if n, err := strconv.ParseInt(v.Text, 10, 64); err == nil {
		return n, true
	}
	f, err := strconv.ParseFloat(v.Text, 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) >= 1<<53 {
		return 0, false
	}
	return int64(f), true
}

// Float returns a number's value. Infinity and NaN, which Python writes, are
// numbers here.
func (v Value) Float() (float64, bool) {
	if v.Kind != Number {
		return 0, false
	}
	f, err := strconv.ParseFloat(v.Text, 64)
	return f, err == nil
}

// Strings returns the elements of an array of strings.
func (v Value) Strings() ([]string, bool) {
	if v.Kind != Array {
		return nil, false
	}
	out := make([]string, len(v.Elems))
	for i, e := range v.Elems {
		if e.Kind != String {
			return nil, false
		}
		out[i] = e.Text
	}
	return out, true
}

// NewString returns a string.
func NewString(s string) Value { return Value{Kind: String, Text: s} }

// NewBool returns a boolean.
func NewBool(b bool) Value { return Value{Kind: Bool, Bool: b} }

// NewInt returns a whole number.
func NewInt(n int) Value { return Value{Kind: Number, Text: strconv.Itoa(n)} }

// NewFloat returns a number in its shortest form that reads back the same,
// with a point or an exponent so that Python reads a float.
func NewFloat(f float64) Value {
	s := strconv.FormatFloat(f, 'g', -1, 64)
	switch {
	case math.IsInf(f, 1):
		s = "Infinity"
	case math.IsInf(f, -1):
		s = "-Infinity"
	case math.IsNaN(f):
		s = "NaN"
	default:
		if _, err := strconv.ParseInt(s, 10, 64); err == nil {
			s += ".0"
		}
	}
	return Value{Kind: Number, Text: s}
}

// NewArray returns an array.
func NewArray(elems ...Value) Value { return Value{Kind: Array, Elems: elems} }

// NewStrings returns an array of strings.
func NewStrings(ss ...string) Value {
	v := Value{Kind: Array, Elems: make([]Value, len(ss))}
	for i, s := range ss {
		v.Elems[i] = NewString(s)
	}
	return v
}

// NewObject returns an object.
func NewObject(members ...Member) Value { return Value{Kind: Object, Members: members} }

// A SyntaxError says where a text is not the JSON that was asked for.
type SyntaxError struct {
	Offset int // in bytes
	Msg    string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("invalid JSON at byte %d: %s", e.Offset, e.Msg)
}
