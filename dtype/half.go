package dtype

import "math"

// BF16ToFloat32 widens one bfloat16.
func BF16ToFloat32(h uint16) float32 {
	b := uint32(h) << 16
	if b&0x7fffffff > 0x7f800000 {
		b |= 0x00400000
	}
	return math.Float32frombits(b)
}

// Float32ToBF16 rounds to the nearest bfloat16, ties to even.
func Float32ToBF16(f float32) uint16 {
	b := math.Float32bits(f)
	if b&0x7fffffff > 0x7f800000 {
		return uint16(b>>16) | 0x40
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

// F16ToFloat32 widens one IEEE half.
func F16ToFloat32(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	// As a float32 the 15 bits stand for the value divided by 2¹¹², whether
	// normal or subnormal, and the product is exact.
	b := uint32(h&0x7fff) << 13
	if b >= 0x7c00<<13 {
		b |= 0x7f800000
		if b > 0x7f800000 {
			b |= 0x00400000
		}
		return math.Float32frombits(sign | b)
	}
	return math.Float32frombits(sign | math.Float32bits(math.Float32frombits(b)*0x1p112))
}

// Float32ToF16 rounds to the nearest IEEE half, ties to even; from 65520 on
// the result is infinite.
func Float32ToF16(f float32) uint16 {
	b := math.Float32bits(f)
	sign := uint16(b >> 16 & 0x8000)
	b &= 0x7fffffff
	switch {
	case b > 0x7f800000:
		return sign | 0x7e00 | uint16(b>>13&0x3ff)
	case b >= 0x47800000: // 65536
		return sign | 0x7c00
	case b < 0x38800000: // below 2⁻¹⁴: a half counts these in units of 2⁻²⁴
		u := math.Float32frombits(b) + 0.5 // the addition rounds to that unit
		return sign | uint16(math.Float32bits(u)-0x3f000000)
	}
	b += 0xfff + b>>13&1
	return sign | uint16((b-112<<23)>>13)
}

// e4m3 holds the value of every F8E4M3.
var e4m3 = func() (t [256]float32) {
	for i := range t {
		b := uint32(i & 0x7f)
		v := math.Float32frombits(b<<20) * 0x1p120
		if b == 0x7f {
			v = float32(math.NaN())
		}
		if i&0x80 != 0 {
			v = math.Float32frombits(math.Float32bits(v) | 1<<31)
		}
		t[i] = v
	}
	return
}()

// float32ToE4M3 rounds to the nearest F8E4M3, ties to even; what rounds beyond
// 448, the largest value, becomes 448.
func float32ToE4M3(f float32) uint8 {
	b := math.Float32bits(f)
	sign := uint8(b >> 24 & 0x80)
	b &= 0x7fffffff
	switch {
	case b > 0x7f800000:
		return sign | 0x7f
	case b >= 0x43e00000: // 448
		return sign | 0x7e
	case b < 0x3c800000: // below 2⁻⁶: units of 2⁻⁹
		u := math.Float32frombits(b) + 0x1p14
		return sign | uint8(math.Float32bits(u)-0x46800000)
	}
	b += 0x7ffff + b>>20&1
	return sign | uint8((b-120<<23)>>20)
}

// float32ToE5M2 rounds to the nearest F8E5M2, ties to even.
func float32ToE5M2(f float32) uint8 {
	b := math.Float32bits(f)
	sign := uint8(b >> 24 & 0x80)
	b &= 0x7fffffff
	switch {
	case b > 0x7f800000:
		return sign | 0x7f
	case b >= 0x47800000: // 65536
		return sign | 0x7c
	case b < 0x38800000: // below 2⁻¹⁴: units of 2⁻¹⁶
		u := math.Float32frombits(b) + 0x1p7
		return sign | uint8(math.Float32bits(u)-0x43000000)
	}
	b += 0xfffff + b>>21&1
	return sign | uint8((b-112<<23)>>21)
}

// roundToOdd narrows to float32 such that a later rounding to a type with at
// least two bits less is as if x had been rounded once: where x lies between
// two float32 values it takes the one whose last bit is set.
func roundToOdd(x float64) float32 {
	f := float32(x)
	w := float64(f)
	if w == x || x != x {
		return f
	}
	b := math.Float32bits(f)
	if b&1 == 1 {
		return f
	}
	if math.Abs(w) > math.Abs(x) {
		return math.Float32frombits(b - 1)
	}
	return math.Float32frombits(b + 1)
}
