package nn

import (
	"fmt"

	"smelt/internal/kernel"
)

// Cache holds the keys and values of one sequence, layer by layer, for the
// tokens seen so far. It grows by doubling up to its limit.
type Cache struct {
	layers []layerCache
	width  int // Hkv·Dh
	limit  int // 0: none
	len    int
}

type layerCache struct{ k, v []float32 } // [capacity, Hkv·Dh] each

// NewCache returns an empty cache for layers of key rows of width Hkv·Dh. It
// refuses more than limit tokens (0: no limit).
func NewCache(layers, width, limit int) *Cache {
	return &Cache{layers: make([]layerCache, layers), width: width, limit: limit}
}

// Len returns the number of tokens held.
func (c *Cache) Len() int { return c.len }

// Limit returns the most tokens that the cache takes, 0 for no limit.
func (c *Cache) Limit() int { return c.limit }

// Reset forgets all tokens and keeps the memory.
func (c *Cache) Reset() { c.len = 0 }

// Truncate forgets all but the first n tokens.
func (c *Cache) Truncate(n int) { c.len = min(c.len, max(n, 0)) }

// Fork returns a copy of the tokens so far, with room for n more.
func (c *Cache) Fork(n int) (*Cache, error) {
	f := NewCache(len(c.layers), c.width, c.limit)
	if err := f.Reserve(c.len + n); err != nil {
		return nil, err
	}
	for i, l := range c.layers {
		copy(f.layers[i].k, l.k[:c.len*c.width])
		copy(f.layers[i].v, l.v[:c.len*c.width])
	}
	f.len = c.len
	return f, nil
}

// Reserve makes room for n tokens in all, so that passes up to there allocate
// nothing.
func (c *Cache) Reserve(n int) error {
	if c.limit > 0 && n > c.limit {
		return fmt.Errorf("a sequence of %d tokens exceeds the model's context of %d", n, c.limit)
	}
	if len(c.layers) == 0 || n*c.width <= len(c.layers[0].k) {
		return nil
	}
	size := max(n, 2*len(c.layers[0].k)/max(c.width, 1), 64)
	if c.limit > 0 {
		size = min(size, c.limit)
	}
	for i := range c.layers {
		l := &c.layers[i]
		l.k, l.v = grown(l.k, c.len*c.width, size*c.width), grown(l.v, c.len*c.width, size*c.width)
	}
	return nil
}

func grown(old []float32, used, size int) []float32 {
	s := make([]float32, size)
	copy(s, old[:used])
	return s
}

// Put writes the keys and values [T, Hkv·Dh] of the tokens after the first
// Len into layer's memory; room for them must have been reserved. They count
// from the next Advance on.
func (c *Cache) Put(layer int, k, v kernel.Matrix) {
	l := &c.layers[layer]
	for i := range k.Rows {
		at := (c.len + i) * c.width
		copy(l.k[at:at+c.width], k.Row(i))
		copy(l.v[at:at+c.width], v.Row(i))
	}
}

// View returns the first n rows of a layer's keys and values, those of a Put
// that is not yet advanced among them.
func (c *Cache) View(layer, n int) (k, v kernel.Matrix) {
	l := &c.layers[layer]
	return kernel.Of(n, c.width, l.k[:n*c.width]), kernel.Of(n, c.width, l.v[:n*c.width])
}

// Advance counts n more tokens.
func (c *Cache) Advance(n int) { c.len += n }
