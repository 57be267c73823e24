package kernel

import (
	"fmt"
	"math"
)

// Softmax computes dst = exp(x - max x) / Σ exp(x - max x); dst may be x. A row
// of −Inf alone gives NaN, as the formula does.
func Softmax(dst, x []float32) {
	checkLen("Softmax", len(dst), len(x))
	if len(x) == 0 {
		return
	}
	inf := float32(math.Inf(-1))
	t := newTails()
	defer t.free()
	n := len(x) &^ (lane16 - 1)
	top := inf
	if n > 0 {
		top = active.largest(ptr(x), n)
	}
	if n < len(x) {
		top = max(top, active.largest(pad(&t.a, x[n:], inf), lane16))
	}
	var sum float32
	if n > 0 {
		sum = active.expSum(ptr(dst), ptr(x), top, n)
	}
	if n < len(x) {
		sum += active.expSum(&t.d[0], pad(&t.a, x[n:], inf), top, lane16)
		copy(dst[n:], t.d[:])
	}
	Scale(1/sum, dst)
}

// SoftmaxRows applies [Softmax] to each row of x in place.
func SoftmaxRows(x Matrix) {
	for i := range x.Rows {
		Softmax(x.Row(i), x.Row(i))
	}
}

// LayerNorm computes dst = (x - mean) / √(variance + eps) * weight + bias for
// one row; weight and bias may be nil, dst may be x. The variance is the mean
// square deviation from the mean, taken in a second pass.
func LayerNorm(dst, x, weight, bias []float32, eps float32) {
	checkNorm("LayerNorm", dst, x, weight, bias)
	t := newTails()
	defer t.free()
	n := len(x) &^ (lane16 - 1)
	size := float64(len(x))
	var sum, sq float64
	if n > 0 {
		sum = active.sum(ptr(x), n)
	}
	if n < len(x) {
		sum += active.sum(pad(&t.a, x[n:], 0), lane16)
	}
	mean := float32(sum / size)
	if n > 0 {
		sq = active.squaresAbout(ptr(x), mean, n)
	}
	if n < len(x) {
		sq += active.squaresAbout(pad(&t.a, x[n:], mean), mean, lane16)
	}
	inv := float32(1 / math.Sqrt(sq/size+float64(eps)))
	if weight == nil || bias == nil {
		normPlain(dst, x, weight, bias, mean, inv)
		return
	}
	if n > 0 {
		active.layerNorm(ptr(dst), ptr(x), ptr(weight), ptr(bias), mean, inv, n)
	}
	if n < len(x) {
		active.layerNorm(&t.d[0], pad(&t.a, x[n:], 0), pad(&t.b, weight[n:], 0), pad(&t.c, bias[n:], 0), mean, inv, lane16)
		copy(dst[n:], t.d[:])
	}
}

// RMSNorm computes dst = x / √(mean x² + eps) * weight for one row; weight may
// be nil, dst may be x. The mean is taken in float64.
func RMSNorm(dst, x, weight []float32, eps float32) {
	checkNorm("RMSNorm", dst, x, weight, nil)
	inv := float32(1 / math.Sqrt(SumSquares(x)/float64(len(x))+float64(eps)))
	if weight == nil {
		normPlain(dst, x, nil, nil, 0, inv)
		return
	}
	n := len(x) &^ (lane16 - 1)
	if n > 0 {
		active.rmsNorm(ptr(dst), ptr(x), ptr(weight), inv, n)
	}
	if n < len(x) {
		t := newTails()
		defer t.free()
		active.rmsNorm(&t.d[0], pad(&t.a, x[n:], 0), pad(&t.b, weight[n:], 0), inv, lane16)
		copy(dst[n:], t.d[:])
	}
}

// normPlain is the last step of a norm without weight or without bias.
func normPlain(dst, x, weight, bias []float32, mean, inv float32) {
	for i, v := range x {
		v = (v - mean) * inv
		if weight != nil {
			v *= weight[i]
		}
		if bias != nil {
			v += bias[i]
		}
		dst[i] = v
	}
}

func checkNorm(op string, dst, x, weight, bias []float32) {
	checkLen(op, len(dst), len(x))
	if weight != nil {
		checkLen(op, len(x), len(weight))
	}
	if bias != nil {
		checkLen(op, len(x), len(bias))
	}
}

// GELU computes dst = x·Φ(x) = x/2·(1 + erf(x/√2)); dst may be x.
func GELU(dst, x []float32) {
	checkLen("GELU", len(dst), len(x))
	mapTo(active.gelu, dst, x)
}

// GELUTanh computes dst = x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³))), known as
// gelu_new and gelu_pytorch_tanh; dst may be x.
func GELUTanh(dst, x []float32) {
	checkLen("GELUTanh", len(dst), len(x))
	mapTo(active.geluTanh, dst, x)
}

// QuickGELU computes dst = x·σ(1.702·x); dst may be x.
func QuickGELU(dst, x []float32) {
	checkLen("QuickGELU", len(dst), len(x))
	mapTo(active.quickGELU, dst, x)
}

// SiLU computes dst = x·σ(x) = x/(1 + e⁻ˣ); dst may be x.
func SiLU(dst, x []float32) {
	checkLen("SiLU", len(dst), len(x))
	mapTo(active.silu, dst, x)
}

// SiLUMul computes dst = SiLU(gate)·up, the SwiGLU product; dst may be either.
func SiLUMul(dst, gate, up []float32) {
	checkLen("SiLUMul", len(dst), len(gate), len(up))
	mapTo2(active.siluMul, dst, gate, up)
}

// GELUTanhMul computes dst = GELUTanh(gate)·up, the GEGLU product of T5 v1.1;
// dst may be either.
func GELUTanhMul(dst, gate, up []float32) {
	checkLen("GELUTanhMul", len(dst), len(gate), len(up))
	mapTo2(active.geluTanhMul, dst, gate, up)
}

// ReLU computes dst = max(x, 0), NaN staying NaN; dst may be x.
func ReLU(dst, x []float32) {
	checkLen("ReLU", len(dst), len(x))
	for i, v := range x {
		dst[i] = max(v, 0)
	}
}

// Exp computes dst = eˣ; dst may be x.
func Exp(dst, x []float32) {
	checkLen("Exp", len(dst), len(x))
	mapTo(active.exp, dst, x)
}

// RoPE rotates one head x [Dh] in place by the half-rotation of Hugging Face
// models (rotate_half): with h = Dh/2, cos and sin [h],
//
//	x[i], x[i+h] = x[i]*cos[i] - x[i+h]*sin[i], x[i+h]*cos[i] + x[i]*sin[i]
func RoPE(x, cos, sin []float32) {
	h := checkRoPE("RoPE", x, cos, sin)
	lo, hi := x[:h], x[h:]
	n := h &^ (lane16 - 1)
	if n > 0 {
		active.rope(ptr(lo), ptr(hi), ptr(cos), ptr(sin), n)
	}
	for i := n; i < h; i++ {
		a, b, c, s := lo[i], hi[i], cos[i], sin[i]
		lo[i], hi[i] = a*c-b*s, b*c+a*s
	}
}

// RoPEInterleaved is [RoPE] on neighbouring pairs (GPT-J, the original Llama):
//
//	x[2i], x[2i+1] = x[2i]*cos[i] - x[2i+1]*sin[i], x[2i+1]*cos[i] + x[2i]*sin[i]
func RoPEInterleaved(x, cos, sin []float32) {
	checkRoPE("RoPEInterleaved", x, cos, sin)
	for i, c := range cos {
		a, b, s := x[2*i], x[2*i+1], sin[i]
		x[2*i], x[2*i+1] = a*c-b*s, b*c+a*s
	}
}

func checkRoPE(op string, x, cos, sin []float32) int {
	if len(x)%2 != 0 || len(cos) != len(x)/2 || len(sin) != len(x)/2 {
		panic(fmt.Sprintf("kernel: %s: head of %d, cos of %d, sin of %d elements, want 2h, h, h", op, len(x), len(cos), len(sin)))
	}
	return len(x) / 2
}
