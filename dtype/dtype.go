// Package dtype names the element types of tensors as safetensors files spell
// them, says how large they are, and converts between them and the two types
// that smelt computes in, float32 and float64.
//
// Data is little endian. Widening is exact. Narrowing rounds once, to nearest
// with ties to even; NaN stays NaN, with its sign and the leading bits of its
// payload, and becomes quiet.
package dtype

import "fmt"

// DType is the type of a tensor's elements. The zero value, Invalid, is no
// type.
type DType uint8

// The element types. Those from F8E8M0 on are known so that a file that holds
// them can be listed and refused by name; they do not convert.
const (
	Invalid DType = iota
	F64
	F32
	F16
	BF16
	F8E4M3 // 4 exponent bits, 3 of mantissa, no infinity (E4M3FN)
	F8E5M2 // 5 exponent bits, 2 of mantissa
	I64
	I32
	I16
	I8
	U64
	U32
	U16
	U8
	Bool
	F8E8M0
	F8E4M3FNUZ
	F8E5M2FNUZ
	C64
	F6E2M3
	F6E3M2
	F4
	count
)

type info struct {
	name  string // in safetensors
	torch string // torch's attribute name, "" where torch has none
	bits  int
}

var infos = [count]info{
	Invalid:    {"invalid", "", 0},
	F64:        {"F64", "float64", 64},
	F32:        {"F32", "float32", 32},
	F16:        {"F16", "float16", 16},
	BF16:       {"BF16", "bfloat16", 16},
	F8E4M3:     {"F8_E4M3", "float8_e4m3fn", 8},
	F8E5M2:     {"F8_E5M2", "float8_e5m2", 8},
	I64:        {"I64", "int64", 64},
	I32:        {"I32", "int32", 32},
	I16:        {"I16", "int16", 16},
	I8:         {"I8", "int8", 8},
	U64:        {"U64", "uint64", 64},
	U32:        {"U32", "uint32", 32},
	U16:        {"U16", "uint16", 16},
	U8:         {"U8", "uint8", 8},
	Bool:       {"BOOL", "bool", 8},
	F8E8M0:     {"F8_E8M0", "float8_e8m0fnu", 8},
	F8E4M3FNUZ: {"F8_E4M3FNUZ", "float8_e4m3fnuz", 8},
	F8E5M2FNUZ: {"F8_E5M2FNUZ", "float8_e5m2fnuz", 8},
	C64:        {"C64", "complex64", 64},
	F6E2M3:     {"F6_E2M3", "", 6},
	F6E3M2:     {"F6_E3M2", "", 6},
	F4:         {"F4", "float4_e2m1fn_x2", 4},
}

var byName, byTorch = func() (map[string]DType, map[string]DType) {
	names := make(map[string]DType, count)
	// torch's aliases, as config files and users write them.
	torch := map[string]DType{
		"double": F64, "float": F32, "half": F16,
		"long": I64, "int": I32, "short": I16,
	}
	for d := F64; d < count; d++ {
		names[infos[d].name] = d
		if t := infos[d].torch; t != "" {
			torch[t] = d
		}
	}
	return names, torch
}()

// Parse returns the type that a safetensors header calls name. The match is
// exact, as in the reference implementation.
func Parse(name string) (DType, error) {
	if d, ok := byName[name]; ok {
		return d, nil
	}
	return Invalid, fmt.Errorf("dtype: unknown element type %q", clip(name))
}

// FromTorch returns the type that torch calls name, with or without the
// "torch." in front: "bfloat16", "torch.float32", "half".
func FromTorch(name string) (DType, error) {
	const prefix = "torch."
	short := name
	if len(short) > len(prefix) && short[:len(prefix)] == prefix {
		short = short[len(prefix):]
	}
	if d, ok := byTorch[short]; ok {
		return d, nil
	}
	return Invalid, fmt.Errorf("dtype: unknown torch type %q", clip(name))
}

// clip shortens a name that came from a file, for an error message.
func clip(name string) string {
	if len(name) > 40 {
		return name[:40] + "…"
	}
	return name
}

// String returns the name that safetensors files use: "BF16".
func (d DType) String() string {
	if d < count {
		return infos[d].name
	}
	return fmt.Sprintf("DType(%d)", uint8(d))
}

// Torch returns torch's name, "bfloat16", or "" where torch has none.
func (d DType) Torch() string {
	if d < count {
		return infos[d].torch
	}
	return ""
}

// Bits returns the size of an element in bits.
func (d DType) Bits() int {
	if d < count {
		return infos[d].bits
	}
	return 0
}

// Size returns the size of an element in bytes, 0 for the types that are
// smaller than a byte (F4, F6E2M3, F6E3M2) and for Invalid.
func (d DType) Size() int {
	if b := d.Bits(); b%8 == 0 {
		return b / 8
	}
	return 0
}

// IsFloat reports whether d is a real floating-point type that converts:
// F64, F32, F16, BF16 and the two common 8-bit ones.
func (d DType) IsFloat() bool { return d >= F64 && d <= F8E5M2 }

// IsInt reports whether d is an integer type; Bool is none.
func (d DType) IsInt() bool { return d >= I64 && d <= U8 }

// Converts reports whether ToFloat32 and ToFloat64 accept d.
func (d DType) Converts() bool { return d >= F64 && d <= Bool }

// Coarser returns whichever of two floating-point types has the larger spacing
// around 1: Coarser(F32, BF16) is BF16, Coarser(F16, BF16) is BF16.
func Coarser(a, b DType) DType {
	if mantissa[a%count] <= mantissa[b%count] {
		return a
	}
	return b
}

// mantissa holds the explicit mantissa bits of the types that IsFloat.
var mantissa = [count]int{F64: 52, F32: 23, F16: 10, BF16: 7, F8E4M3: 3, F8E5M2: 2}
