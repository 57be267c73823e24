package merge

import "math"

const (
	collinear = 0.9995 // cosine above which weights are interpolated on a line
	tinyNorm  = 1e-8   // norm below which a tensor has no direction
)

// slerp goes from one expert to the other on the sphere, tensor by tensor: the
// angle is that between the two whole tensors. Tensors that are almost
// collinear, as those of two fine-tunes mostly are, are interpolated on a line.
var slerp = Method{
	Name: "slerp", Title: "SLERP", Paper: "Shoemake, Animating rotation with quaternion curves, SIGGRAPH 1985",
	About:   "a point between two experts on the sphere, tensor by tensor",
	Fields:  []Field{{Name: Position, About: "where between the first expert (0) and the second (1)", Default: 0.5, Min: 0, Max: 1}},
	Experts: 2,
	begin: func(c *Config, t *Tensor) (Rule, error) {
		from, to := c.From, 1-c.From
		var aa, bb, ab float64
		var b *Block
		for i := range t.Blocks {
			var err error
			if b, err = t.Read(b, i); err != nil {
				return nil, err
			}
			for j := range b.Base {
				x, y := b.at(from, j), b.at(to, j)
				aa += x * x
				bb += y * y
				ab += x * y
			}
		}
		a1, a2 := arc(c.Value(Position), ab/(length(aa)*length(bb)))
		return func(dst []float64, b *Block) {
			for j := range dst {
				dst[j] = a1*b.at(from, j) + a2*b.at(to, j)
			}
		}, nil
	},
}

// at is element i of an expert.
func (b *Block) at(e, i int) float64 {
	if b.Deltas[e] == nil {
		return b.Base[i]
	}
	return b.Base[i] + b.Deltas[e][i]
}

func length(sumSquares float64) float64 {
	if n := math.Sqrt(sumSquares); n > tinyNorm {
		return n
	}
	return 1
}

// arc returns what the two ends of an arc of the given cosine count at t.
func arc(t, cosine float64) (from, to float64) {
	cosine = max(-1, min(1, cosine))
	if math.Abs(cosine) > collinear {
		return 1 - t, t
	}
	theta := math.Acos(cosine)
	return math.Sin((1-t)*theta) / math.Sin(theta), math.Sin(t*theta) / math.Sin(theta)
}
