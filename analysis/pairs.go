package analysis

import (
	"math"
	"math/bits"

	"smelt/internal/kernel"
	"smelt/internal/parallel"
)

// Pairs counts the pairs of n experts, and PairIndex gives the place of (i,j),
// i < j, in their order.
func Pairs(n int) int { return n * (n - 1) / 2 }

// PairIndex is described with Pairs.
func PairIndex(n, i, j int) int { return i*(2*n-i-1)/2 + j - i - 1 }

// Inner collects what pairs of deltas of one layer have in common, a stretch of
// elements at a time: inner products, and signs.
type Inner struct {
	n        int
	product  []float64 // [n,n]
	both     []int64   // by pair: elements that both changed
	conflict []int64   // of these, with opposite signs
	elements int64

	plus, minus [][]uint64 // by expert, scratch
}

// NewInner is for n experts.
func NewInner(n int) *Inner {
	return &Inner{
		n: n, product: make([]float64, n*n), both: make([]int64, Pairs(n)), conflict: make([]int64, Pairs(n)),
		plus: make([][]uint64, n), minus: make([][]uint64, n),
	}
}

// Set gives the inner product of two deltas, found in another way.
func (c *Inner) Set(i, j int, v float64) {
	c.product[i*c.n+j], c.product[j*c.n+i] = v, v
}

// At returns ⟨Δᵢ,Δⱼ⟩.
func (c *Inner) At(i, j int) float64 { return c.product[i*c.n+j] }

// AddAll adds another layer's.
func (c *Inner) AddAll(o *Inner) {
	for i, v := range o.product {
		c.product[i] += v
	}
	for i := range o.both {
		c.both[i] += o.both[i]
		c.conflict[i] += o.conflict[i]
	}
	c.elements += o.elements
}

// Add takes the same stretch of elements of every delta, nil for an expert that
// did not touch the layer. product says of which pairs the inner product is
// wanted. Sums do not depend on the number of workers.
func (c *Inner) Add(rows [][]float32, product func(i, j int) bool, workers int) {
	var touched []int
	for i, r := range rows {
		if r != nil {
			touched = append(touched, i)
		}
	}
	if len(touched) == 0 {
		return
	}
	size := len(rows[touched[0]])
	c.elements += int64(size)
	words := (size + 63) / 64
	parallel.For(workers, len(touched), func(k int) {
		i := touched[k]
		if len(c.plus[i]) < words {
			c.plus[i], c.minus[i] = make([]uint64, words), make([]uint64, words)
		}
		signs(c.plus[i][:words], c.minus[i][:words], rows[i])
	})
	parallel.For(workers, len(touched), func(k int) {
		i := touched[k]
		for _, j := range touched[k:] {
			if product(i, j) {
				v := c.At(i, j) + kernel.DotAcc64(rows[i], rows[j])
				c.product[i*c.n+j] = v // each pair has one goroutine
				c.product[j*c.n+i] = v
			}
			if j == i {
				continue
			}
			both, conflict := 0, 0
			pi, mi, pj, mj := c.plus[i][:words], c.minus[i][:words], c.plus[j][:words], c.minus[j][:words]
			for w := range pi {
				both += bits.OnesCount64((pi[w] | mi[w]) & (pj[w] | mj[w]))
				conflict += bits.OnesCount64(pi[w]&mj[w] | mi[w]&pj[w])
			}
			at := PairIndex(c.n, i, j)
			c.both[at] += int64(both)
			c.conflict[at] += int64(conflict)
		}
	})
}

// signs packs which elements are positive and which negative.
func signs(plus, minus []uint64, x []float32) {
	for w := range plus {
		var p, m uint64
		part := x[w*64 : min(len(x), w*64+64)]
		for i, v := range part {
			b := math.Float32bits(v)
			set := uint64(0)
			if b<<1 != 0 {
				set = 1
			}
			s := uint64(b >> 31)
			m |= set & s << i
			p |= set &^ s << i
		}
		plus[w], minus[w] = p, m
	}
}

// figures are Cosine, SignConflict and SignChanged of a [LayerPair].
func (c *Inner) figures(i, j int) (cosine, conflict, changed Figure) {
	at := PairIndex(c.n, i, j)
	cosine = ratio(c.At(i, j), math.Sqrt(c.At(i, i))*math.Sqrt(c.At(j, j)))
	cosine = max(-1, min(1, cosine))
	return cosine, ratio(float64(c.conflict[at]), float64(c.both[at])), ratio(float64(c.both[at]), float64(c.elements))
}

// distance is ‖Δᵢ − Δⱼ‖/max(‖Δᵢ‖,‖Δⱼ‖). conflict-free equal deltas give 0, not
// the root of a rounding.
func (c *Inner) distance(i, j int) Figure {
	square := c.At(i, i) + c.At(j, j) - 2*c.At(i, j)
	top := max(c.At(i, i), c.At(j, j))
	if square <= 1e-12*top {
		square = 0
	}
	return ratio(math.Sqrt(square), math.Sqrt(top))
}

// RandomOverlap is the mean and the standard deviation of the mean squared
// cosine of the principal angles for independent uniformly random subspaces of dimensions a and
// b in n: with P and Q the projections, E tr(PQ) = a·b/n, and its variance is
// 2·a·b·(n−a)·(n−b)/(n²·(n−1)·(n+2)); both over min(a,b).
func RandomOverlap(a, b, n int) (mean, deviation float64) {
	g := float64(min(a, b))
	if g == 0 || n == 0 {
		return 0, 0
	}
	x, y, w := float64(a), float64(b), float64(n)
	mean = x * y / w / g
	if n > 1 {
		deviation = math.Sqrt(2*x*y*(w-x)*(w-y)/(w*w*(w-1)*(w+2))) / g
	}
	return mean, deviation
}
