package nn

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"smelt/internal/kernel"
)

func random(r *rand.Rand, rows, cols int) kernel.Matrix {
	m := kernel.New(rows, cols)
	for i := range m.Data {
		m.Data[i] = float32(r.NormFloat64())
	}
	return m
}

// attend is the definition, in float64: one query of one head at a time.
func attend(a *Attention, q kernel.Matrix, s Segment, row, h int) []float64 {
	d, kv := a.HeadDim, h/(a.Heads/a.KVHeads)
	pos := row - s.Lo
	if a.Causal {
		pos += s.K.Rows - (s.Hi - s.Lo)
	}
	weights, sum := make([]float64, s.K.Rows), 0.0
	for k := range weights {
		if a.Causal && (k > pos || a.Window > 0 && k <= pos-a.Window) {
			continue
		}
		score := 0.0
		for i := range d {
			score += float64(q.At(row, h*d+i)) * float64(s.K.At(k, kv*d+i))
		}
		score *= float64(a.Scale)
		if a.Bias.Rows > 0 {
			score += float64(a.Bias.At(h, a.Zero+k-pos))
		}
		weights[k] = math.Exp(score)
		sum += weights[k]
	}
	y := make([]float64, d)
	for k, w := range weights {
		for i := range y {
			y[i] += w / sum * float64(s.V.At(k, kv*d+i))
		}
	}
	return y
}

func TestAttention(t *testing.T) {
	for _, c := range []struct {
		name string
		a    Attention
		keys []int // of each sequence
		new  []int // queries of each sequence
		bias bool
	}{
		{"encoder", Attention{Heads: 3, KVHeads: 3, HeadDim: 8, Scale: 0.3}, []int{50, 7, 1}, []int{50, 7, 1}, false},
		{"cross", Attention{Heads: 2, KVHeads: 2, HeadDim: 6, Scale: 1}, []int{33, 5}, []int{4, 1}, false},
		{"relative", Attention{Heads: 3, KVHeads: 3, HeadDim: 8, Scale: 1}, []int{130, 9}, []int{130, 9}, true},
		{"causal", Attention{Heads: 4, KVHeads: 4, HeadDim: 8, Scale: 0.4, Causal: true}, []int{150, 3}, []int{150, 3}, false},
		{"grouped", Attention{Heads: 6, KVHeads: 2, HeadDim: 8, Scale: 0.4, Causal: true}, []int{70, 20}, []int{70, 20}, false},
		{"continued", Attention{Heads: 6, KVHeads: 2, HeadDim: 8, Scale: 0.4, Causal: true}, []int{170, 20}, []int{70, 3}, false},
		{"one token", Attention{Heads: 6, KVHeads: 1, HeadDim: 16, Scale: 0.4, Causal: true}, []int{170, 20, 1}, []int{1, 1, 1}, false},
		{"window", Attention{Heads: 4, KVHeads: 2, HeadDim: 8, Scale: 0.4, Causal: true, Window: 17}, []int{200, 5, 90}, []int{200, 5, 1}, false},
		{"window of one", Attention{Heads: 2, KVHeads: 2, HeadDim: 8, Scale: 0.4, Causal: true, Window: 1}, []int{20}, []int{20}, false},
		{"relative, causal", Attention{Heads: 2, KVHeads: 2, HeadDim: 8, Scale: 1, Causal: true}, []int{90, 12}, []int{80, 1}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			n := 1 // a row that no sequence owns
			var segments []Segment
			for i, keys := range c.keys {
				segments = append(segments, Segment{n, n + c.new[i], random(r, keys, c.a.KVHeads*c.a.HeadDim), random(r, keys, c.a.KVHeads*c.a.HeadDim)})
				n += c.new[i]
			}
			if c.bias {
				longest := slices.Max(c.keys)
				c.a.Bias, c.a.Zero = random(r, c.a.Heads, 2*longest-1), longest-1
				if c.a.Causal {
					c.a.Bias = c.a.Bias.Slice(0, c.a.Heads, 0, longest) // nothing beyond the query
				}
			}
			q := random(r, n, c.a.Heads*c.a.HeadDim)
			y := kernel.New(n, q.Cols)
			y.Data[0] = 42
			c.a.Forward(&Pass{Workers: 1}, y, q, segments)
			if y.Data[0] != 42 {
				t.Error("a row of no sequence was written")
			}
			for _, workers := range []int{2, 8} {
				again := kernel.New(n, q.Cols)
				again.Data[0] = 42
				c.a.Forward(&Pass{Workers: workers}, again, q, segments)
				if !slices.Equal(y.Data, again.Data) {
					t.Errorf("%d workers change the result", workers)
				}
			}
			for _, s := range segments {
				for row := s.Lo; row < s.Hi; row++ {
					for h := range c.a.Heads {
						want := attend(&c.a, q, s, row, h)
						for i, w := range want {
							if got := float64(y.At(row, h*c.a.HeadDim+i)); !(math.Abs(got-w) <= 1e-5) {
								t.Fatalf("row %d, head %d, element %d: %v, want %v", row, h, i, got, w)
							}
						}
					}
				}
			}
		})
	}
}

func TestPassScratch(t *testing.T) {
	var p Pass
	a := p.Matrix(10, 10)
	m := p.Mark()
	b := p.Floats(1 << 20) // beyond the first chunk
	c := p.Floats(5)
	for i := range a.Data {
		a.Data[i] = 1
	}
	for _, s := range [][]float32{b, c} {
		for i := range s {
			s[i] = 2
		}
	}
	for _, v := range a.Data {
		if v != 1 {
			t.Fatal("scratch memory overlaps")
		}
	}
	p.Release(m)
	p.Release(Mark{})
	use := func() {
		m := p.Mark()
		p.Matrix(10, 10)
		p.Floats(1 << 20)
		p.Ints(1000)
		p.Problems(3)
		p.Release(m)
	}
	use()
	if n := testing.AllocsPerRun(10, use); n != 0 {
		t.Errorf("%v allocations for scratch memory that was seen before", n)
	}
}

func TestForRows(t *testing.T) {
	for _, rows := range []int{0, 1, 7, 1000} {
		for _, width := range []int{1, 64, 100000} {
			p := &Pass{Workers: 2}
			seen := make([]int32, rows)
			p.ForRows(rows, width, func(lo, hi int) {
				for i := lo; i < hi; i++ {
					seen[i]++
				}
			})
			if slices.ContainsFunc(seen, func(n int32) bool { return n != 1 }) {
				t.Errorf("%d rows of %d: not every row once", rows, width)
			}
		}
	}
}

func TestCache(t *testing.T) {
	c := NewCache(2, 3, 100)
	for n := range 90 {
		if err := c.Reserve(c.Len() + 1); err != nil {
			t.Fatal(err)
		}
		for layer := range 2 {
			row := kernel.Of(1, 3, []float32{float32(n), float32(layer), 7})
			c.Put(layer, row, row)
		}
		c.Advance(1)
	}
	for layer := range 2 {
		k, _ := c.View(layer, 90)
		for n := range 90 {
			if k.At(n, 0) != float32(n) || k.At(n, 1) != float32(layer) {
				t.Fatalf("layer %d, token %d: %v", layer, n, k.Row(n))
			}
		}
	}
	if err := c.Reserve(101); err == nil {
		t.Error("more tokens than the limit were taken")
	}
	c.Truncate(5)
	if c.Len() != 5 {
		t.Errorf("%d tokens after Truncate(5)", c.Len())
	}
	if c.Reset(); c.Len() != 0 {
		t.Errorf("%d tokens after Reset", c.Len())
	}
}

func TestDense(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 3))
	w, x := random(r, 5, 7), random(r, 4, 7)
	for _, bias := range [][]float32{nil, random(r, 1, 5).Data} {
		d := &Dense{Weight: kernel.WeightOf(w), Bias: bias}
		y := kernel.New(4, 5)
		d.Forward(&Pass{}, y, x)
		for i := range 4 {
			for j := range 5 {
				want := 0.0
				for k := range 7 {
					want += float64(x.At(i, k)) * float64(w.At(j, k))
				}
				if bias != nil {
					want += float64(bias[j])
				}
				if !(math.Abs(float64(y.At(i, j))-want) < 1e-5) {
					t.Errorf("y[%d,%d] = %v, want %v", i, j, y.At(i, j), want)
				}
			}
		}
	}
	two := &Dense{Weight: kernel.WeightOf(random(r, 3, 7)), Bias: random(r, 1, 3).Data}
	for _, rows := range []int{1, 4, 40} {
		x := random(r, rows, 7)
		one := &Dense{Weight: kernel.WeightOf(w)}
		var want, got [2]kernel.Matrix
		for i, d := range []*Dense{one, two} {
			want[i], got[i] = kernel.New(rows, d.Out()), kernel.New(rows, d.Out())
			d.Forward(&Pass{}, want[i], x)
		}
		ForwardAll(&Pass{}, x, Job{one, got[0]}, Job{two, got[1]})
		if !slices.Equal(got[0].Data, want[0].Data) || !slices.Equal(got[1].Data, want[1].Data) {
			t.Errorf("%d rows: layers together are not what they are one by one", rows)
		}
	}
	back := Transposed(Transposed(kernel.WeightOf(w)))
	if !slices.Equal(back.Data, kernel.WeightOf(w).Data) {
		t.Error("a weight transposed twice is another")
	}
}

func ExampleActivationByName() {
	_, err := ActivationByName("mish")
	fmt.Println(err)
	// Output: nn: activation "mish" is not known, want one of gelu, gelu_new, gelu_pytorch_tanh, quick_gelu, relu, silu, swish
}
