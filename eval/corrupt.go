package eval

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
)

// Corruption disturbs images before they are prepared, in the manner of
// Hendrycks and Dietterich's common corruptions (arXiv:1903.12261):
//
//	noise     x + N(0, σ²)          σ = 0.04 0.06 0.08 0.09 0.10 of the range (theirs for small images)
//	blur      Gaussian              σ = 0.4 0.6 0.7 0.8 1.0 pixels of a picture of 32 rows, scaled with its size
//	contrast  (x − mean)·c + mean   c = 0.75 0.5 0.4 0.3 0.15, the mean of each channel
//
// The zero Corruption leaves images as they are.
type Corruption struct {
	Kind     string
	Severity int // 1 … 5
	Seed     int
}

var severities = map[string][5]float64{
	"noise":    {0.04, 0.06, 0.08, 0.09, 0.10},
	"blur":     {0.4, 0.6, 0.7, 0.8, 1.0},
	"contrast": {0.75, 0.5, 0.4, 0.3, 0.15},
}

func (c *Corruption) read(n node) error {
	c.Severity = 3
	err := n.object("a corruption", oneOf("kind", &c.Kind, "noise", "blur", "contrast"),
		count("severity", 1, 5, &c.Severity), count("seed", 0, 1<<30, &c.Seed))
	if err == nil && c.Kind == "" {
		err = n.errorf("a corruption has a kind: noise, blur or contrast")
	}
	return err
}

// ParseCorruption reads kind or kind:severity, as in blur:2.
func ParseCorruption(s string) (c Corruption, err error) {
	kind, severity, given := strings.Cut(s, ":")
	c = Corruption{Kind: kind, Severity: 3}
	if given {
		c.Severity, err = strconv.Atoi(severity)
	}
	if _, ok := severities[kind]; !ok || err != nil || c.Severity < 1 || c.Severity > 5 {
		return c, fmt.Errorf("corruption %q: want noise, blur or contrast, with a severity of 1 to 5 after a colon", s)
	}
	return c, nil
}

// String is the inverse of ParseCorruption; "" for none.
func (c Corruption) String() string {
	if c.Kind == "" {
		return ""
	}
	return fmt.Sprintf("%s:%d", c.Kind, c.Severity)
}

// apply disturbs packed pixels [height, width, channels] in place; index is
// the example's, so that each has noise of its own.
func (c Corruption) apply(pix []byte, height, width, channels, index int) {
	if c.Kind == "" || len(pix) == 0 {
		return
	}
	amount := severities[c.Kind][c.Severity-1]
	switch c.Kind {
	case "noise":
		r := rand.New(rand.NewPCG(uint64(c.Seed), uint64(index)))
		for i, v := range pix {
			pix[i] = clamp(float64(v) + 255*amount*r.NormFloat64())
		}
	case "blur":
		blur(pix, height, width, channels, amount*float64(height)/32)
	case "contrast":
		for ch := range channels {
			sum := 0.0
			for i := ch; i < len(pix); i += channels {
				sum += float64(pix[i])
			}
			mean := sum / float64(len(pix)/channels)
			for i := ch; i < len(pix); i += channels {
				pix[i] = clamp((float64(pix[i])-mean)*amount + mean)
			}
		}
	}
}

// blur is a separable Gaussian; the edge pixels go on beyond the edge.
func blur(pix []byte, height, width, channels int, sigma float64) {
	radius := int(math.Ceil(4 * sigma))
	weights := make([]float64, 2*radius+1)
	sum := 0.0
	for i := range weights {
		d := float64(i-radius) / sigma
		weights[i] = math.Exp(-d * d / 2)
		sum += weights[i]
	}
	for i := range weights {
		weights[i] /= sum
	}
	x := make([]float64, len(pix))
	for i, v := range pix {
		x[i] = float64(v)
	}
	line := make([]float64, max(height, width))
	along := func(at, n, stride int) {
		for i := range n {
			line[i] = x[at+i*stride]
		}
		for i := range n {
			v := 0.0
			for j, w := range weights {
				v += w * line[min(max(i+j-radius, 0), n-1)]
			}
			x[at+i*stride] = v
		}
	}
	for y := range height {
		for ch := range channels {
			along(y*width*channels+ch, width, channels)
		}
	}
	for i := range width * channels {
		along(i, height, width*channels)
	}
	for i, v := range x {
		pix[i] = clamp(v)
	}
}

func clamp(v float64) byte { return byte(math.RoundToEven(min(max(v, 0), 255))) }
