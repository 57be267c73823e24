package nn

import (
	"encoding/json"
	"fmt"
	"math"

	"smelt/internal/kernel"
)

// RoPE holds the frequencies of rotary position embeddings, with the scalings
// of long contexts that Hugging Face's config files name: default, linear,
// dynamic, llama3 and yarn. All arithmetic is float32 where torch's is, since
// an angle at position 30,000 depends on it.
type RoPE struct {
	base      float64
	dim       int
	inv       []float32 // [Dh/2]
	attention float32   // factor of cos and sin
	dynamic   float64   // factor of dynamic scaling, 0: none
	trained   int       // with dynamic: the positions that need no scaling
	context   int
}

// Context returns the positions that the settings are made for: those of the
// config, times the factor where a scaling stretches them.
func (e *RoPE) Context() int { return e.context }

// ropeJSON is the rope part of a config file: rope_parameters as transformers
// 5 writes it, rope_scaling (beside a top-level rope_theta) as older ones do.
type ropeJSON struct {
	RopeType         string   `json:"rope_type"`
	Type             string   `json:"type"`
	RopeTheta        *float64 `json:"rope_theta"`
	Factor           *float64 `json:"factor"`
	Original         *int     `json:"original_max_position_embeddings"`
	LowFreqFactor    *float64 `json:"low_freq_factor"`
	HighFreqFactor   *float64 `json:"high_freq_factor"`
	AttentionFactor  *float64 `json:"attention_factor"`
	BetaFast         *float64 `json:"beta_fast"`
	BetaSlow         *float64 `json:"beta_slow"`
	MScale           *float64 `json:"mscale"`
	MScaleAllDim     *float64 `json:"mscale_all_dim"`
	Truncate         *bool    `json:"truncate"`
	PartialRotary    *float64 `json:"partial_rotary_factor"`
	FullAttention    any      `json:"full_attention"`
	SlidingAttention any      `json:"sliding_attention"`
}

// RoPEFromConfig reads the rope settings of a config.json for heads of dim
// elements and a context of positions.
func RoPEFromConfig(config []byte, dim, positions int) (*RoPE, error) {
	var c struct {
		RopeTheta      *float64  `json:"rope_theta"`
		RopeScaling    *ropeJSON `json:"rope_scaling"`
		RopeParameters *ropeJSON `json:"rope_parameters"`
		PartialRotary  *float64  `json:"partial_rotary_factor"`
		Original       *int      `json:"original_max_position_embeddings"`
	}
	if err := json.Unmarshal(config, &c); err != nil {
		return nil, fmt.Errorf("config.json: rope settings: %w", err)
	}
	r := c.RopeScaling
	if r == nil {
		r = c.RopeParameters
	}
	if r == nil {
		r = &ropeJSON{}
	}
	if r.FullAttention != nil || r.SlidingAttention != nil {
		return nil, fmt.Errorf("config.json: rope settings by layer type are not supported")
	}
	for _, f := range []*float64{c.PartialRotary, r.PartialRotary} {
		if f != nil && *f != 1 {
			return nil, fmt.Errorf("config.json: partial_rotary_factor %v is not supported, want 1", *f)
		}
	}
	if dim < 2 || dim%2 != 0 {
		return nil, fmt.Errorf("config.json: heads of %d elements cannot be rotated, want an even number", dim)
	}
	theta := 10000.0
	switch {
	case r.RopeTheta != nil:
		theta = *r.RopeTheta
	case c.RopeTheta != nil:
		theta = *c.RopeTheta
	}
	if !(theta > 0) {
		return nil, fmt.Errorf("config.json: rope_theta %v, want a positive number", theta)
	}
	kind := r.RopeType
	if kind == "" {
		kind = r.Type
	}
	if c.Original != nil {
		r.Original = c.Original
	}
	if r.Original == nil {
		r.Original = &positions
	}
	if *r.Original < 1 {
		return nil, fmt.Errorf("config.json: original_max_position_embeddings is %d, want at least 1", *r.Original)
	}
	e := &RoPE{base: theta, dim: dim, attention: 1, trained: positions, context: positions}
	e.inv = inverse(theta, dim)
	if kind == "" || kind == "default" {
		return e, nil
	}
	if r.Factor == nil || !(*r.Factor > 0) {
		return nil, fmt.Errorf("config.json: rope type %q needs a positive factor", kind)
	}
	stretched := func(n int) int { return int(min(float64(n)*max(*r.Factor, 1), 1<<30)) }
	switch kind {
	case "linear":
		e.context = stretched(positions)
		for i := range e.inv {
			e.inv[i] /= float32(*r.Factor)
		}
	case "dynamic":
		if dim == 2 {
			return nil, fmt.Errorf("config.json: dynamic rope scaling needs heads of more than 2 elements")
		}
		e.dynamic = *r.Factor
		e.context = stretched(positions)
	case "llama3":
		return e, e.llama3(r)
	case "yarn":
		e.yarn(r)
		e.context = max(positions, stretched(*r.Original))
	default:
		return nil, fmt.Errorf("config.json: rope type %q is not supported, want default, linear, dynamic, llama3 or yarn", kind)
	}
	return e, nil
}

// inverse returns 1/base^(2i/dim).
func inverse(base float64, dim int) []float32 {
	inv := make([]float32, dim/2)
	for i := range inv {
		inv[i] = 1 / power(base, i, dim)
	}
	return inv
}

// power returns base^(2i/dim) with torch's roundings.
func power(base float64, i, dim int) float32 {
	exponent := float32(2*i) / float32(dim)
	return float32(math.Pow(float64(float32(base)), float64(exponent)))
}

// llama3 keeps short wavelengths, divides long ones by the factor, and
// interpolates between (Llama 3.1).
func (e *RoPE) llama3(r *ropeJSON) error {
	if r.LowFreqFactor == nil || r.HighFreqFactor == nil || *r.LowFreqFactor == *r.HighFreqFactor {
		return fmt.Errorf("config.json: rope type llama3 needs low_freq_factor and high_freq_factor, unequal")
	}
	factor, low, high := *r.Factor, *r.LowFreqFactor, *r.HighFreqFactor
	old := float64(*r.Original)
	for i, f := range e.inv {
		wavelen := float32(2 * math.Pi / float64(f))
		switch {
		case float64(wavelen) > old/low:
			e.inv[i] = f / float32(factor)
		case float64(wavelen) < old/high:
		default:
			smooth := (float32(old)/wavelen - float32(low)) / float32(high-low)
			e.inv[i] = (1-smooth)*f/float32(factor) + smooth*f
		}
	}
	return nil
}

// yarn blends interpolated and plain frequencies by how often a dimension
// turns in the trained context, and sharpens the attention (arXiv:2309.00071).
func (e *RoPE) yarn(r *ropeJSON) {
	factor, original := *r.Factor, float64(*r.Original)
	mscale := func(m float64) float64 {
		if factor <= 1 {
			return 1
		}
		return 0.1*m*math.Log(factor) + 1
	}
	switch {
	case r.AttentionFactor != nil:
		e.attention = float32(*r.AttentionFactor)
	case nonzero(r.MScale) && nonzero(r.MScaleAllDim):
		e.attention = float32(mscale(*r.MScale) / mscale(*r.MScaleAllDim))
	default:
		e.attention = float32(mscale(1))
	}
	fast, slow := 32.0, 1.0
	if nonzero(r.BetaFast) {
		fast = *r.BetaFast
	}
	if nonzero(r.BetaSlow) {
		slow = *r.BetaSlow
	}
	at := func(rotations float64) float64 {
		return float64(e.dim) * math.Log(original/(rotations*2*math.Pi)) / (2 * math.Log(e.base))
	}
	low, high := at(fast), at(slow)
	if r.Truncate == nil || *r.Truncate {
		low, high = math.Floor(low), math.Ceil(high)
	}
	low, high = max(low, 0), min(high, float64(e.dim-1))
	if low == high {
		high += 0.001
	}
	for i := range e.inv {
		ramp := min(max((float32(i)-float32(low))/float32(high-low), 0), 1)
		plain := 1 - ramp
		pos := power(e.base, i, e.dim)
		e.inv[i] = 1/(float32(factor)*pos)*(1-plain) + 1/pos*plain
	}
}

func nonzero(v *float64) bool { return v != nil && *v != 0 }

// Tables writes cosines and sines [T, Dh/2] of positions first, first+1, …, of
// a sequence that has total tokens after this pass; dynamic scaling depends on
// that, and rotates the keys of each pass with the frequencies of its moment,
// as transformers does.
func (e *RoPE) Tables(cos, sin kernel.Matrix, first, total int) {
	inv := e.inv
	if e.dynamic > 0 && total > e.trained {
		d := float64(e.dim)
		grow := e.dynamic*float64(total)/float64(e.trained) - (e.dynamic - 1)
		inv = inverse(e.base*math.Pow(grow, d/(d-2)), e.dim)
	}
	for t := range cos.Rows {
		c, s := cos.Row(t), sin.Row(t)
		for i, f := range inv {
			sn, cs := math.Sincos(float64(float32(first+t) * f))
			c[i], s[i] = float32(cs)*e.attention, float32(sn)*e.attention
		}
	}
}

// Rotate turns every head of x [T, heads·Dh] by the tables' angles, in place.
func (e *RoPE) Rotate(p *Pass, x, cos, sin kernel.Matrix) {
	if p.Serial(x.Rows, x.Cols) {
		e.rows(x, cos, sin, 0, x.Rows)
		return
	}
	p.ForRows(x.Rows, x.Cols, func(lo, hi int) { e.rows(x, cos, sin, lo, hi) })
}

func (e *RoPE) rows(x, cos, sin kernel.Matrix, lo, hi int) {
	for t := lo; t < hi; t++ {
		c, s := cos.Row(t), sin.Row(t)
		for row := x.Row(t); len(row) > 0; row = row[e.dim:] {
			kernel.RoPE(row[:e.dim], c, s)
		}
	}
}
