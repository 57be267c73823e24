package taskvector_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"smelt/checkpoint"
	"smelt/dtype"
	"smelt/internal/vfs"
	"smelt/safetensors"
	"smelt/taskvector"
	"smelt/tensor"
)

const (
	llama = `{"model_type":"llama"}`
	gpt2  = `{"model_type":"gpt2"}`
	lora  = `{"peft_type":"LORA","r":2,"lora_alpha":6,"lora_bias":true,"target_modules":["up_proj","c_fc"]}`
	up    = "model.layers.0.mlp.up_proj"
	fc    = "h.0.mlp.c_fc"
)

func normal(seed uint64, n int, scale float64) []float64 {
	r := rand.New(rand.NewPCG(seed, 1))
	v := make([]float64, n)
	for i := range v {
		v[i] = r.NormFloat64() * scale
	}
	return v
}

// plus is b with changes of a tenth of its size.
func plus(b []float64, seed uint64) []float64 {
	v := normal(seed, len(b), 0.1)
	for i := range v {
		v[i] += b[i]
	}
	return v
}

func stored(d dtype.DType, v []float64, shape ...int) tensor.Tensor {
	t, err := tensor.New(d, shape...)
	if err != nil {
		panic(err)
	}
	dtype.FromFloat64(t.Data, v, d)
	return t
}

func named(name string, t tensor.Tensor) safetensors.Named {
	return safetensors.Named{Name: name, Tensor: t}
}

// values are the elements as they are stored.
func values(t *testing.T, x tensor.Tensor) []float64 {
	t.Helper()
	v, err := x.Float64()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// open opens an expert of a base, both in memory. The expert is an adapter
// where its config is one.
func open(t *testing.T, config string, base []safetensors.Named, expert string, weights []safetensors.Named) *taskvector.Expert {
	t.Helper()
	fsys := vfs.NewMem()
	write := func(dir, config, file, weightFile string, w []safetensors.Named) {
		if err := fsys.MkdirAll(dir); err != nil {
			t.Fatal(err)
		}
		if err := vfs.WriteFile(fsys, dir+"/"+file, []byte(config)); err != nil {
			t.Fatal(err)
		}
		if err := safetensors.Write(fsys, dir+"/"+weightFile, w, nil); err != nil {
			t.Fatal(err)
		}
	}
	write("/base", config, "config.json", "model.safetensors", base)
	if strings.Contains(expert, "peft_type") {
		write("/x", expert, "adapter_config.json", "adapter_model.safetensors", weights)
	} else {
		write("/x", expert, "config.json", "model.safetensors", weights)
	}
	b, err := checkpoint.Open(fsys, "/base")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	e, problems, err := taskvector.Open(fsys, b, "x", "/x")
	if err != nil || len(problems) > 0 {
		t.Fatal(err, problems)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

func delta(t *testing.T, e *taskvector.Expert, module string, transposed bool) *taskvector.Delta {
	t.Helper()
	d, err := e.Delta(module, transposed, 2)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// near fails where got differs from want by more than rtol of either.
func near(t *testing.T, what string, got, want, rtol float64) {
	t.Helper()
	if !(math.Abs(got-want) <= rtol*max(math.Abs(got), math.Abs(want))) {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

// TestDelta holds deltas of full fine-tunes against differences in float64,
// rounded once, and energies against the sums of their squares. The largest
// have rows that lie apart.
func TestDelta(t *testing.T) {
	for _, c := range []struct {
		base, expert dtype.DType
		rows, cols   int
		transposed   bool
		apart        bool
	}{
		{dtype.F32, dtype.F32, 5, 7, false, false},
		{dtype.BF16, dtype.BF16, 5, 7, false, false},
		{dtype.F16, dtype.F16, 5, 7, false, false},
		{dtype.F32, dtype.BF16, 5, 7, false, false},
		{dtype.BF16, dtype.F32, 5, 7, false, false},
		{dtype.F16, dtype.BF16, 5, 7, false, false},
		{dtype.F32, dtype.F16, 5, 7, false, false},
		{dtype.F64, dtype.F64, 5, 7, false, false},
		{dtype.F64, dtype.F64, 5, 7, true, false},
		{dtype.F32, dtype.F32, 33, 70, true, false},
		{dtype.BF16, dtype.BF16, 1025, 2048, false, true},
		{dtype.BF16, dtype.BF16, 2048, 1025, true, true},
		{dtype.F32, dtype.F32, 1025, 2048, true, false},
	} {
		t.Run(fmt.Sprint(c.base, c.expert, c.rows, c.cols, c.transposed), func(t *testing.T) {
			b := normal(1, c.rows*c.cols, 1)
			base := stored(c.base, b, c.rows, c.cols)
			expert := stored(c.expert, plus(b, 2), c.rows, c.cols)
			config, module := llama, up
			if c.transposed {
				config, module = gpt2, fc
			}
			d := delta(t, open(t, config, []safetensors.Named{named(module+".weight", base)},
				config, []safetensors.Named{named(module+".weight", expert)}), module, c.transposed)
			out, in := c.rows, c.cols
			if c.transposed {
				out, in = in, out
			}
			if d.Out != out || d.In != in || !d.Touched() || d.LowRank != nil || d.Bias != nil {
				t.Fatalf("[%d,%d] touched %v, want [%d,%d]", d.Out, d.In, d.Touched(), out, in)
			}
			wide := c.base == dtype.F64 && c.expert == dtype.F64
			if (d.Dense64 != nil) != wide || (d.Dense != nil) == wide {
				t.Fatal("the difference is in the wrong type")
			}
			if d.Dense != nil && (d.Dense.Stride > d.Dense.Cols) != c.apart {
				t.Errorf("%d columns lie %d apart", d.Dense.Cols, d.Dense.Stride)
			}
			x, y, energy, bad := values(t, expert), values(t, base), 0.0, 0
			for i := range out {
				for j := range in {
					at := i*in + j
					if c.transposed {
						at = j*out + i
					}
					want := x[at] - y[at]
					var got float64
					if wide {
						got = d.Dense64.Row(i)[j]
					} else {
						want, got = float64(float32(want)), float64(d.Dense.Row(i)[j])
					}
					energy += want * want
					if got != want {
						if bad++; bad == 1 {
							t.Errorf("[%d,%d] is %v, want %v", i, j, got, want)
						}
					}
				}
			}
			if !wide {
				near(t, "energy", d.Energy, energy, 1e-9)
			}
			if d.Free(); d.Dense != nil {
				t.Error("Dense outlives Free")
			}
		})
	}
}

// TestLoRA holds factors against scale·B·A in float64, on weights that are
// stored [out, in] and [in, out].
func TestLoRA(t *testing.T) {
	const out, in, r, scale = 5, 7, 2, 3.0
	b, a, bias := normal(3, out*r, 1), normal(4, r*in, 1), normal(5, out, 1)
	for _, c := range []struct {
		config, module string
		transposed     bool
		shape          []int
	}{{llama, up, false, []int{out, in}}, {gpt2, fc, true, []int{in, out}}} {
		A, B, Bias := stored(dtype.F32, a, r, in), stored(dtype.BF16, b, out, r), stored(dtype.F32, bias, out)
		prefix := "base_model.model." + c.module
		e := open(t, c.config, []safetensors.Named{
			named(c.module+".weight", stored(dtype.F32, normal(1, out*in, 1), c.shape...)),
			named(c.module+".bias", stored(dtype.F32, normal(2, out, 1), out)),
		}, lora, []safetensors.Named{
			named(prefix+".lora_A.weight", A), named(prefix+".lora_B.weight", B), named(prefix+".lora_B.bias", Bias),
		})
		d := delta(t, e, c.module, c.transposed)
		if d.Out != out || d.In != in || d.LowRank == nil || d.Dense != nil {
			t.Fatalf("%s: [%d,%d] %+v, want factors of [%d,%d]", c.module, d.Out, d.In, d, out, in)
		}
		p, wa, wb, wbias := d.LowRank.Product(), values(t, A), values(t, B), values(t, Bias)
		for i := range out {
			for j := range in {
				want, size := 0.0, 0.0
				for k := range r {
					want += scale * wb[i*r+k] * wa[k*in+j]
					size += math.Abs(scale * wb[i*r+k] * wa[k*in+j])
				}
				if got := float64(p.Row(i)[j]); !(math.Abs(got-want) <= 1e-6*size) {
					t.Errorf("%s: product [%d,%d] is %v, want %v", c.module, i, j, got, want)
				}
			}
			near(t, fmt.Sprintf("%s: Δb[%d]", c.module, i), d.Bias[i], scale*wbias[i], 1e-12)
		}
		if n, ok := e.Covers(c.module); !ok || n != int64(len(A.Data)+len(B.Data)) {
			t.Errorf("%s: covers %d bytes, %v", c.module, n, ok)
		}
		if e.Kind != taskvector.LoRA || e.AdapterRank(c.module) != r {
			t.Errorf("%s: a %s of rank %d", c.module, e.Kind, e.AdapterRank(c.module))
		}
		if _, ok := e.Lookup(c.module + ".weight"); ok {
			t.Errorf("%s: an adapter has no whole weight", c.module)
		}
	}
}

// TestUntrainedLoRA: B = 0 is no change.
func TestUntrainedLoRA(t *testing.T) {
	e := open(t, llama, []safetensors.Named{named(up+".weight", stored(dtype.F32, normal(1, 35, 1), 5, 7))}, lora, []safetensors.Named{
		named("base_model.model."+up+".lora_A.weight", stored(dtype.F32, normal(2, 14, 1), 2, 7)),
		named("base_model.model."+up+".lora_B.weight", stored(dtype.F32, make([]float64, 10), 5, 2)),
	})
	if d := delta(t, e, up, false); d.Touched() {
		t.Error("an untrained adapter touches the weight")
	}
}

// TestBias: the change of a bias, all of one that the base lacks, none where
// nothing changed; and what an expert has of its own.
func TestBias(t *testing.T) {
	w, b := stored(dtype.F32, normal(1, 6, 1), 2, 3), stored(dtype.F32, []float64{1, -2}, 2)
	x := stored(dtype.F32, []float64{1.5, -2}, 2)
	for _, c := range []struct {
		name         string
		base, expert *tensor.Tensor
		want         string
	}{
		{"changed", &b, &x, "[0.5 0]"},
		{"new", nil, &x, "[1.5 -2]"},
		{"same", &b, &b, "[]"},
		{"none", nil, nil, "[]"},
	} {
		with := func(bias *tensor.Tensor) []safetensors.Named {
			n := []safetensors.Named{named(up+".weight", w)}
			if bias != nil {
				n = append(n, named(up+".bias", *bias))
			}
			return n
		}
		e := open(t, llama, with(c.base), llama, with(c.expert))
		d := delta(t, e, up, false)
		if got := fmt.Sprint(d.Bias); got != c.want || d.Touched() {
			t.Errorf("%s: Δb is %s, want %s; weight touched %v", c.name, got, c.want, d.Touched())
		}
		if info, ok := e.Lookup(up + ".bias"); ok != (c.expert != nil) || ok && info.Bytes() != 8 {
			t.Errorf("%s: Lookup of the bias gives %v, %v", c.name, info, ok)
		}
		if n, ok := e.Covers(up); !ok || n != 24 {
			t.Errorf("%s: covers %d bytes, %v", c.name, n, ok)
		}
		if n, ok := e.Covers("model.layers.1.mlp.up_proj"); ok || n != 0 {
			t.Errorf("%s: covers %d bytes of what it lacks", c.name, n)
		}
	}
}

func TestSame(t *testing.T) {
	nan, neg := math.NaN(), math.Copysign(0, -1)
	for _, c := range []struct {
		name     string
		a, b     tensor.Tensor
		same, ok bool
	}{
		{"equal", stored(dtype.F32, []float64{1, 2}, 2), stored(dtype.F32, []float64{1, 2}, 2), true, true},
		{"NaN", stored(dtype.F32, []float64{nan}, 1), stored(dtype.F32, []float64{nan}, 1), true, true},
		{"NaN and number", stored(dtype.F32, []float64{nan}, 1), stored(dtype.F32, []float64{1}, 1), false, true},
		{"-0", stored(dtype.F32, []float64{neg}, 1), stored(dtype.F32, []float64{0}, 1), false, true},
		{"rounded", stored(dtype.F32, []float64{1.0001}, 1), stored(dtype.BF16, []float64{1}, 1), true, true},
		{"coarse", stored(dtype.BF16, []float64{1.0078125}, 1), stored(dtype.F32, []float64{1}, 1), false, true},
		{"halves", stored(dtype.F16, []float64{1.001}, 1), stored(dtype.BF16, []float64{1}, 1), true, true},
		{"shape", stored(dtype.F32, []float64{1}, 1), stored(dtype.F32, []float64{1, 2}, 2), false, false},
		{"integer", stored(dtype.F32, []float64{1}, 1), tensor.Tensor{DType: dtype.I32, Shape: []int{1}, Data: make([]byte, 4)}, false, false},
	} {
		same, err := taskvector.Same(c.a, c.b)
		if same != c.same || (err == nil) != c.ok {
			t.Errorf("%s: %v, %v, want %v", c.name, same, err, c.same)
		}
	}
	// the last element of the second step
	v := make([]float64, 1<<14+3)
	a := stored(dtype.F32, v, len(v))
	v[len(v)-1] = 1
	if same, err := taskvector.Same(a, stored(dtype.BF16, v, len(v))); same || err != nil {
		t.Errorf("a change at the end: %v, %v", same, err)
	}
}

// TestSignOfZero: 0 and -0 differ in bits, and no change is left.
func TestSignOfZero(t *testing.T) {
	e := open(t, llama, []safetensors.Named{named(up+".weight", stored(dtype.F32, []float64{0, 1}, 1, 2))},
		llama, []safetensors.Named{named(up+".weight", stored(dtype.F32, []float64{math.Copysign(0, -1), 1}, 1, 2))})
	if d := delta(t, e, up, false); d.Touched() {
		t.Error("-0 for 0 is taken for a change")
	}
}

// TestBroken: what is not finite is refused, and the error names where it is.
func TestBroken(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	good := []float64{1, 2, 3, 4, 5, 6}
	bad := func(v float64) []float64 { return []float64{1, 2.5, 3, 4, 5, v} }
	one := []float64{1, 1}
	for _, c := range []struct {
		name         string
		d            dtype.DType
		base, expert []float64
		bb, xb       []float64 // biases
		want         []string
	}{
		{"expert", dtype.F32, good, bad(nan), one, one, []string{"expert x", up + ".weight", "[1,2]", "NaN"}},
		{"base", dtype.BF16, bad(inf), good, one, one, []string{"base", up + ".weight", "[1,2]", "+Inf"}},
		{"float64", dtype.F64, good, bad(nan), one, one, []string{"expert x", up + ".weight", "[1,2]", "NaN"}},
		{"overflow", dtype.F32, bad(-3e38), bad(3e38), one, one, []string{"expert x", up + ".weight", "[1,2]", "overflows"}},
		{"bias", dtype.F32, good, good, one, []float64{1, nan}, []string{"expert x", up + ".bias", "element 1", "NaN"}},
		{"base's bias", dtype.F32, good, good, []float64{nan, 1}, one, []string{"base", up + ".bias", "element 0", "NaN"}},
	} {
		files := func(w, b []float64) []safetensors.Named {
			return []safetensors.Named{named(up+".weight", stored(c.d, w, 2, 3)), named(up+".bias", stored(c.d, b, 2))}
		}
		_, err := open(t, llama, files(c.base, c.bb), llama, files(c.expert, c.xb)).Delta(up, false, 1)
		refused(t, c.name, err, c.want)
	}
	_, err := open(t, llama, []safetensors.Named{named(up+".weight", stored(dtype.F32, good, 2, 3))}, lora, []safetensors.Named{
		named("base_model.model."+up+".lora_A.weight", stored(dtype.F32, bad(nan), 2, 3)),
		named("base_model.model."+up+".lora_B.weight", stored(dtype.F32, good[:4], 2, 2)),
	}).Delta(up, false, 1)
	refused(t, "factor", err, []string{"expert x", "lora_A", "element 5", "NaN"})
}

func refused(t *testing.T, name string, err error, want []string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: accepted", name)
		return
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%s: %q does not say %q", name, err, w)
		}
	}
}
