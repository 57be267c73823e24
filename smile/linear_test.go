package smile

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"smelt/dtype"
	"smelt/internal/kernel"
	"smelt/nn"
	"smelt/tensor"
)

// fused is a random fused layer, in float64 and as the tensors of its file.
type fused struct {
	module  Module
	weight  []float64 // [out, in]
	bias    []float64 // [out], or nil
	tensors map[string]tensor.Tensor
	vt      [][]float64 // of each expert, [R_e, in]
	us      [][]float64 // [out, r_e]
	dense   [][]float64 // [out, in] or nil
	delta   [][]float64 // bias [out] or nil
}

func random(r *rand.Rand, n int, scale float64) []float64 {
	v := make([]float64, n)
	for i := range v {
		v[i] = scale * float64(float32(r.NormFloat64()))
	}
	return v
}

// stored rounds v to d in place and returns the tensor.
func stored(t testing.TB, d dtype.DType, v []float64, shape ...int) tensor.Tensor {
	t.Helper()
	x, err := tensor.New(d, shape...)
	if err != nil {
		t.Fatal(err)
	}
	dtype.FromFloat64(x.Data, v, d)
	dtype.ToFloat64(v, x.Data, d)
	return x
}

func newFused(t testing.TB, r *rand.Rand, m Module, d dtype.DType, bias bool, biased []int) *fused {
	m.Bias = len(biased) > 0
	f := &fused{module: m, weight: random(r, m.Out*m.In, 0.3), tensors: map[string]tensor.Tensor{}}
	f.tensors[m.Name+".weight"] = stored(t, d, f.weight, m.Out, m.In)
	if bias {
		f.bias = random(r, m.Out, 1)
		f.tensors[m.Name+".bias"] = stored(t, d, f.bias, m.Out)
	}
	parts := make([]Part, len(m.Ranks))
	for e, rank := range m.Ranks {
		p := &parts[e]
		p.Rank = rank
		f.vt = append(f.vt, random(r, m.Rows(e)*m.In, 0.4))
		f.us = append(f.us, random(r, m.Out*max(int(rank), 0), 0.4))
		f.dense, f.delta = append(f.dense, nil), append(f.delta, nil)
		if m.Rows(e) > 0 {
			p.Vt = stored(t, d, f.vt[e], m.Rows(e), m.In)
		}
		if rank > 0 {
			p.US = stored(t, d, f.us[e], m.Out, int(rank))
		}
		if rank == Dense {
			f.dense[e] = random(r, m.Out*m.In, 0.3)
			p.Dense = stored(t, d, f.dense[e], m.Out, m.In)
		}
		if slices.Contains(biased, e) {
			f.delta[e] = random(r, m.Out, 1)
			p.Bias = stored(t, d, f.delta[e], m.Out)
		}
	}
	named, err := m.Join(parts)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range named {
		f.tensors[n.Name] = n.Tensor
	}
	return f
}

func (f *fused) get(name string) (tensor.Tensor, bool, error) {
	x, ok := f.tensors[name]
	return x, ok, nil
}

func (f *fused) base(t testing.TB) *nn.Dense {
	t.Helper()
	w, err := nn.Weight(f.tensors[f.module.Name+".weight"])
	if err != nil {
		t.Fatal(err)
	}
	d := &nn.Dense{Weight: w}
	for _, v := range f.bias {
		d.Bias = append(d.Bias, float32(v))
	}
	return d
}

// linear builds the layer in one of the two ways, whichever would be chosen.
func (f *fused) linear(t testing.TB, topK int, grouped bool) *Linear {
	t.Helper()
	m := f.module
	parts, err := m.Split(f.get)
	if err != nil {
		t.Fatal(err)
	}
	l := &Linear{module: m.Name, base: f.base(t), topK: topK, g: m.RouterRank, grouped: grouped}
	if err := l.load(&m, parts, f.get); err != nil {
		t.Fatal(err)
	}
	return l
}

// formula computes one row in float64, exactly as docs/format/native.md says,
// and the size of the sums, for a bound on rounding.
func (f *fused) formula(x []float64, topK int) (y, size []float64, selected []int) {
	m := &f.module
	mul := func(w []float64, rows int) []float64 {
		out := make([]float64, rows)
		for i := range out {
			for j, v := range x {
				out[i] += w[i*len(x)+j] * v
			}
		}
		return out
	}
	p := make([][]float64, len(m.Ranks))
	scores := make([]float64, len(m.Ranks))
	order := make([]int, len(m.Ranks))
	for e := range m.Ranks {
		order[e] = e
		p[e] = mul(f.vt[e], m.Rows(e))
		if m.Ranks[e] != Untouched {
			for _, v := range p[e][:m.RouterRank] {
				scores[e] += v * v
			}
			scores[e] = math.Sqrt(scores[e])
		}
	}
	slices.SortStableFunc(order, func(a, b int) int {
		if ta, tb := m.Ranks[a] != Untouched, m.Ranks[b] != Untouched; ta != tb {
			if ta {
				return -1
			}
			return 1
		}
		switch {
		case scores[a] > scores[b]:
			return -1
		case scores[a] < scores[b]:
			return 1
		}
		return 0
	})
	selected = order[:topK]
	sum := 0.0
	for _, e := range selected {
		sum += math.Exp(scores[e])
	}
	y = mul(f.weight, m.Out)
	size = make([]float64, m.Out)
	abs := func(v float64) float64 { return math.Abs(v) }
	for i := range y {
		for j, v := range x {
			size[i] += abs(f.weight[i*m.In+j] * v)
		}
		if f.bias != nil {
			y[i] += f.bias[i]
			size[i] += abs(f.bias[i])
		}
	}
	for _, e := range selected {
		w := math.Exp(scores[e]) / sum
		var whole []float64
		if f.dense[e] != nil {
			whole = mul(f.dense[e], m.Out)
		}
		for i := range y {
			v := 0.0
			for k := range max(int(m.Ranks[e]), 0) {
				v += p[e][k] * f.us[e][i*int(m.Ranks[e])+k]
				size[i] += abs(p[e][k]*f.us[e][i*int(m.Ranks[e])+k]) * 4
			}
			if whole != nil {
				v += whole[i]
				for j, xv := range x {
					size[i] += abs(f.dense[e][i*m.In+j] * xv)
				}
			}
			if f.delta[e] != nil {
				v += f.delta[e][i]
			}
			y[i] += w * v
			size[i] += abs(w*v) + abs(v)
		}
	}
	return y, size, selected
}

var linearCases = []struct {
	name    string
	in, out int
	g, topK int
	ranks   []Rank
	bias    bool
	biased  []int // experts with a bias
}{
	{"uniform", 24, 36, 4, 1, []Rank{8, 8, 8, 8, 8, 8, 8, 8}, true, nil},
	{"top two", 24, 36, 4, 2, []Rank{8, 8, 8, 8}, true, []int{0, 2}},
	{"all selected", 17, 13, 3, 3, []Rank{5, 5, 5}, false, nil},
	{"ragged", 31, 19, 4, 2, []Rank{7, 2, 13, 4, 1}, true, []int{1, 4}},
	{"rank zero", 20, 12, 3, 1, []Rank{0, 6, 0, 9}, true, []int{0, 1}},
	{"router above ranks", 20, 12, 9, 1, []Rank{2, 3, 4, 1}, true, nil},
	{"untouched", 20, 12, 3, 1, []Rank{Untouched, 6, Untouched, 5}, true, []int{0, 2, 3}},
	{"untouched selected", 20, 12, 3, 3, []Rank{Untouched, 6, Untouched, 5}, true, []int{0, 2}},
	{"whole", 20, 12, 3, 1, []Rank{Dense, 6, 2, Dense}, true, []int{3}},
	{"whole, top two", 20, 12, 3, 2, []Rank{Dense, Untouched, 2, Dense}, false, []int{1}},
	{"one expert", 20, 12, 3, 1, []Rank{5}, true, []int{0}},
	{"one whole expert", 20, 12, 3, 1, []Rank{Dense}, false, nil},
	{"bias alone, one expert", 20, 12, 0, 1, []Rank{Untouched}, true, []int{0}},
	{"bias alone, two experts", 20, 12, 0, 2, []Rank{Untouched, Untouched}, true, []int{0, 1}},
	{"all rank zero", 20, 12, 2, 1, []Rank{0, 0, 0}, true, []int{1}},
	{"wide", 96, 384, 16, 1, []Rank{32, 32, 32, 32, 32, 32, 32, 32}, true, nil},
}

func TestLinearIsTheFormula(t *testing.T) {
	for _, d := range []dtype.DType{dtype.F32, dtype.BF16, dtype.F16} {
		for _, c := range linearCases {
			for _, rows := range []int{1, 2, 37} {
				t.Run(fmt.Sprintf("%v/%s/%d", d, c.name, rows), func(t *testing.T) {
					r := rand.New(rand.NewPCG(7, uint64(rows)))
					m := Module{Name: "m", In: c.in, Out: c.out, RouterRank: c.g, Ranks: c.ranks}
					f := newFused(t, r, m, d, c.bias, c.biased)
					x := kernel.New(rows, c.in)
					for i := range x.Data {
						x.Data[i] = float32(r.NormFloat64())
					}
					for _, grouped := range []bool{false, true} {
						checkLinear(t, f, x, c.topK, grouped)
					}
				})
			}
		}
	}
}

func checkLinear(t *testing.T, f *fused, x kernel.Matrix, topK int, grouped bool) {
	t.Helper()
	var seen nn.Routing
	p := &nn.Pass{Workers: 1, Exact: true, OnRouting: func(r nn.Routing) {
		seen = r
		seen.Selected = slices.Clone(r.Selected)
		seen.Weights = slices.Clone(r.Weights)
	}}
	l := f.linear(t, topK, grouped)
	y := kernel.New(x.Rows, f.module.Out)
	for i := range y.Data {
		y.Data[i] = float32(math.NaN()) // must be overwritten
	}
	before := slices.Clone(x.Data)
	l.Forward(p, y, x)
	if !slices.Equal(before, x.Data) {
		t.Error("the input was changed")
	}
	row := make([]float64, x.Cols)
	for n := range x.Rows {
		for j, v := range x.Row(n) {
			row[j] = float64(v)
		}
		want, size, selected := f.formula(row, topK)
		for k, e := range selected {
			if int(seen.Selected[n*topK+k]) != e {
				t.Fatalf("grouped %v: token %d: selected %v, want %v", grouped, n, seen.Selected[n*topK:(n+1)*topK], selected)
			}
		}
		for i, v := range y.Row(n) {
			tol := float64(x.Cols) * 0x1p-23 * size[i]
			if !(math.Abs(float64(v)-want[i]) <= tol) {
				t.Fatalf("grouped %v: y[%d,%d] = %v, want %v ± %.2g", grouped, n, i, v, want[i], tol)
			}
		}
		var sum float32
		for _, w := range seen.Weights[n*topK : (n+1)*topK] {
			sum += w
		}
		if topK == 1 && sum != 1 || math.Abs(float64(sum-1)) > 1e-6 {
			t.Fatalf("grouped %v: token %d: weights sum to %v", grouped, n, sum)
		}
	}
}

// Workers, and the scratch memory that earlier passes left behind, must not
// change a bit.
func TestLinearWorkers(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 1))
	m := Module{Name: "m", In: 200, Out: 330, RouterRank: 8, Ranks: []Rank{24, 8, Untouched, Dense, 0, 40}}
	f := newFused(t, r, m, dtype.BF16, true, []int{0, 3, 4})
	x := kernel.New(300, m.In)
	for i := range x.Data {
		x.Data[i] = float32(r.NormFloat64())
	}
	for _, c := range []struct {
		topK           int
		grouped, exact bool
	}{{2, false, true}, {2, true, true}, {1, true, true}, {1, true, false}, {2, true, false}} {
		l := f.linear(t, c.topK, c.grouped)
		var want []float32
		for _, workers := range []int{1, 2, 8, 1} {
			y := kernel.New(x.Rows, m.Out)
			p := &nn.Pass{Workers: workers, Exact: c.exact}
			l.Forward(p, y, x)
			l.Forward(p, y, x)
			if want == nil {
				want = y.Data
			} else if !slices.Equal(want, y.Data) {
				t.Errorf("%+v: %d workers change the result", c, workers)
			}
		}
	}
}

// Rounded inputs err by what one rounding each of x and of the down-projections
// explains. One expert: no score decides anything.
func TestLinearRounds(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 2))
	m := Module{Name: "m", In: 200, Out: 330, RouterRank: 8, Ranks: []Rank{24}}
	f := newFused(t, r, m, dtype.BF16, true, []int{0})
	x, row := kernel.New(300, m.In), make([]float64, m.In)
	for i := range x.Data {
		x.Data[i] = float32(r.NormFloat64())
	}
	y := kernel.New(x.Rows, m.Out)
	f.linear(t, 1, true).Forward(&nn.Pass{}, y, x)
	for n := range x.Rows {
		for j, v := range x.Row(n) {
			row[j] = float64(v)
		}
		want, size, _ := f.formula(row, 1)
		for i, v := range y.Row(n) {
			if !(math.Abs(float64(v)-want[i]) <= 0x1p-7*size[i]) {
				t.Fatalf("y[%d,%d] = %v, want %v ± %.2g", n, i, v, want[i], 0x1p-7*size[i])
			}
		}
	}
}

// Equal scores go to the lower expert, also in float32.
func TestLinearTies(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 1))
	m := Module{Name: "m", In: 16, Out: 8, RouterRank: 2, Ranks: []Rank{4, 4, 4}}
	f := newFused(t, r, m, dtype.F32, false, nil)
	vt := f.tensors[VtName("m")]
	one := 4 * m.In * 4
	copy(vt.Data[one:2*one], vt.Data[:one])
	copy(vt.Data[2*one:], vt.Data[:one])
	x := kernel.New(5, m.In)
	for i := range x.Data {
		x.Data[i] = float32(r.NormFloat64())
	}
	for _, grouped := range []bool{false, true} {
		p := &nn.Pass{Exact: true, OnRouting: func(r nn.Routing) {
			for n := range 5 {
				if got := r.Selected[2*n : 2*n+2]; got[0] != 0 || got[1] != 1 {
					t.Errorf("grouped %v: token %d: selected %v among equals, want [0 1]", grouped, n, got)
				}
			}
		}}
		f.linear(t, 2, grouped).Forward(p, kernel.New(5, m.Out), x)
	}
}

func TestLinearWork(t *testing.T) {
	ranks := func(n int, r Rank) []Rank { return slices.Repeat([]Rank{r}, n) }
	for _, c := range []struct {
		m       Module
		topK    int
		grouped bool
	}{
		{Module{In: 768, Out: 768, RouterRank: 16, Ranks: ranks(8, 32)}, 1, true},
		{Module{In: 768, Out: 768, RouterRank: 16, Ranks: ranks(8, 32)}, 8, false},
		{Module{In: 768, Out: 768, RouterRank: 32, Ranks: ranks(8, 32)}, 8, false},
		{Module{In: 768, Out: 768, RouterRank: 16, Ranks: ranks(1, 32)}, 1, false},
		{Module{In: 768, Out: 768, RouterRank: 0, Ranks: ranks(2, Untouched)}, 1, false},
	} {
		stacked, grouped := c.m.work(c.topK)
		if got := grouped < stacked; got != c.grouped {
			t.Errorf("%v top %d: stacked %d, grouped %d, grouped chosen: %v", c.m, c.topK, stacked, grouped, got)
		}
	}
}

func TestLinearRefusals(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 1))
	m := Module{Name: "m", In: 16, Out: 8, RouterRank: 2, Ranks: []Rank{4, Dense}}
	for _, name := range []string{VtName("m"), USName("m"), DenseName("m", 1)} {
		f := newFused(t, r, m, dtype.F32, false, nil)
		x := f.tensors[name]
		x.Shape = []int{x.Shape[0] + 1, x.Shape[1]}
		f.tensors[name] = x
		if _, err := NewLinear(&m, 1, f.base(t), f.get); err == nil {
			t.Errorf("%s of a wrong shape was taken", name)
		}
		delete(f.tensors, name)
		if _, err := NewLinear(&m, 1, f.base(t), f.get); err == nil {
			t.Errorf("a missing %s was taken", name)
		}
	}
	f := newFused(t, r, m, dtype.F32, false, nil)
	wrong := m
	wrong.In = 17
	if _, err := NewLinear(&wrong, 1, f.base(t), f.get); err == nil {
		t.Error("a base of another shape was taken")
	}
}
