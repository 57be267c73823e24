package ojson

import (
	"strconv"
	"unicode/utf8"
)

// Append writes v in compact form: no white space, members in their order,
// text as UTF-8 with only what must be escaped escaped.
func Append(dst []byte, v Value) []byte { return appendValue(dst, v, "", "") }

// Indent returns v as Python's json.dumps(indent=2) lays it out, which is how
// Hugging Face writes configuration files, with a newline at the end.
func Indent(v Value) []byte {
	return append(appendValue(nil, v, "\n", "  "), '\n')
}

func appendValue(dst []byte, v Value, line, unit string) []byte {
	colon := ":"
	inner := line
	if line != "" {
		colon, inner = ": ", line+unit
	}
	switch v.Kind {
	case Null:
		return append(dst, "null"...)
	case Bool:
		return strconv.AppendBool(dst, v.Bool)
	case Number:
		return append(dst, v.Text...)
	case String:
		return AppendString(dst, v.Text)
	case Array:
		dst = append(dst, '[')
		for i, e := range v.Elems {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(dst, inner...)
			dst = appendValue(dst, e, inner, unit)
		}
		if len(v.Elems) > 0 {
			dst = append(dst, line...)
		}
		return append(dst, ']')
	default:
		dst = append(dst, '{')
		for i, m := range v.Members {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(dst, inner...)
			dst = AppendString(dst, m.Name)
			dst = append(dst, colon...)
			dst = appendValue(dst, m.Value, inner, unit)
		}
		if len(v.Members) > 0 {
			dst = append(dst, line...)
		}
		return append(dst, '}')
	}
}

// AppendString writes s as a JSON string. Bytes that are not UTF-8 become
// U+FFFD.
func AppendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r == '\n':
			dst = append(dst, `\n`...)
		case r == '\r':
			dst = append(dst, `\r`...)
		case r == '\t':
			dst = append(dst, `\t`...)
		case r < 0x20 || r == 0x7f:
			dst = append(dst, `\u00`...)
			dst = append(dst, hex[r>>4], hex[r&15])
		default:
			dst = utf8.AppendRune(dst, r)
		}
	}
	return append(dst, '"')
}
