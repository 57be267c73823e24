package kerneltest

import (
	"fmt"
	"math"
	"runtime"
	"testing"

	"smelt/dtype"
	"smelt/internal/kernel"
)

// case32 is a product in float32 whose matrices lie inside larger ones.
type case32 struct {
	transA, transB bool
	alpha, beta    float32
	a, b, c        kernel.Matrix
	guard          guarded[float32]
	m, n, k        int
}

func (c case32) String() string {
	return fmt.Sprintf("%d×%d×%d, trans %v %v, alpha %v, beta %v", c.m, c.n, c.k, c.transA, c.transB, c.alpha, c.beta)
}

// newCase makes a product of random matrices with strides beyond their width;
// with beta 0, c is full of NaN, which must not be read.
func newCase(seed uint64, m, n, k, flags int, alpha, beta float32) case32 {
	r := source(seed)
	c := case32{transA: flags&1 != 0, transB: flags&2 != 0, alpha: alpha, beta: beta, m: m, n: n, k: k}
	pad := flags >> 2
	matrix := func(rows, cols int, trans bool) kernel.Matrix {
		if trans {
			rows, cols = cols, rows
		}
		x := randoms(r, rows*(cols+pad), flags%3)
		return kernel.Matrix{Rows: rows, Cols: cols, Stride: cols + pad, Data: x}
	}
	c.a, c.b = matrix(m, k, c.transA), matrix(k, n, c.transB)
	c.guard = guard[float32](m*(n+pad), flags%5)
	c.c = kernel.Matrix{Rows: m, Cols: n, Stride: n + pad, Data: c.guard.x}
	for i := range m {
		for j := range c.c.Row(i) {
			c.c.Row(i)[j] = float32(math.NaN())
			if beta != 0 {
				c.c.Row(i)[j] = float32(r.NormFloat64())
			}
		}
	}
	return c
}

func element32(m kernel.Matrix, trans bool, i, j int) float64 {
	if trans {
		i, j = j, i
	}
	return float64(m.At(i, j))
}

// check runs the product and holds every element against float64, and the gaps
// between c's rows against the canary.
func (c case32) check(t *testing.T, workers int) {
	t.Helper()
	old := kernel.New(c.m, c.n)
	for i := range c.m {
		copy(old.Row(i), c.c.Row(i))
	}
	kernel.Gemm(workers, c.transA, c.transB, c.alpha, c.a, c.b, c.beta, c.c)
	c.guard.check(t, "Gemm "+c.String())
	for i := range c.m {
		for j := range c.n {
			var sum, abs float64
			for k := range c.k {
				p := element32(c.a, c.transA, i, k) * element32(c.b, c.transB, k, j)
				sum, abs = sum+p, abs+math.Abs(p)
			}
			want := float64(c.alpha) * sum
			tol := float64(c.k+4) * epsilon * math.Abs(float64(c.alpha)) * abs
			if c.beta != 0 {
				want += float64(c.beta) * float64(old.At(i, j))
				tol += 4 * epsilon * math.Abs(float64(c.beta)*float64(old.At(i, j)))
			}
			if got := float64(c.c.At(i, j)); !near(got, want, tol) {
				t.Fatalf("Gemm %v: c[%d,%d] = %v, want %v ± %v", c, i, j, got, want, tol)
			}
		}
		for _, v := range c.gap(i) {
			if v != canary {
				t.Fatalf("Gemm %v: wrote beyond row %d", c, i)
			}
		}
	}
}

// gap returns what lies between row i of c and the next.
func (c case32) gap(i int) []float32 {
	return c.c.Data[i*c.c.Stride+c.n : (i+1)*c.c.Stride]
}

// testGemm tries every small shape around the sizes of tiles.
func testGemm(t *testing.T) {
	seed := uint64(100)
	sizes := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 14, 15, 16, 17, 28, 31, 32, 33}
	for _, m := range sizes {
		for _, n := range sizes {
			for _, k := range []int{0, 1, 2, 3, 4, 5, 9} {
				seed++
				flags := int(seed*2654435761>>7) & 15
				newCase(seed, m, n, k, flags, 1, 0).check(t, 1)
			}
		}
	}
}

// testGemmShapes tries shapes that take every path: many blocks of k, wide and
// tall, all transpositions, alpha and beta.
func testGemmShapes(t *testing.T) {
	seed := uint64(1000)
	for _, s := range [][3]int{
		{50, 50, 64},
		{70, 40, 800},
		{3, 100, 500},
		{100, 3, 500},
		{300, 33, 130},
		{33, 300, 130},
		{40, 600, 20},
		{600, 40, 20},
		{1, 300, 300},
		{300, 1, 300},
		{130, 130, 385},
		{20, 40, 1030},
		{150, 40, 1030},
	} {
		for flags := range 8 {
			for _, ab := range [][2]float32{{1, 0}, {-0.5, 1}, {2, 0.25}, {0, 2}} {
				seed++
				newCase(seed, s[0], s[1], s[2], flags, ab[0], ab[1]).check(t, 2)
				if flags > 3 {
					break
				}
			}
		}
	}
}

// testGemmSpecial puts NaN, infinities and denormals into single elements: they
// must reach what they multiply, and nothing else.
func testGemmSpecial(t *testing.T) {
	for _, v := range []float32{float32(math.NaN()), float32(math.Inf(1)), 0x1p-140, math.MaxFloat32} {
		for flags := range 4 {
			for _, m := range []int{5, 40} {
				c := newCase(7, m, 37, 70, flags, 1, 0)
				c.a.Data[0], c.b.Data[3] = v, v
				for _, x := range []kernel.Matrix{c.a, c.b} {
					for i := range x.Data {
						if v == math.MaxFloat32 && x.Data[i] != v {
							x.Data[i] *= 0x1p-30
						}
					}
				}
				kernel.Gemm(1, c.transA, c.transB, 1, c.a, c.b, 0, c.c)
				for i := range c.m {
					for j := range c.n {
						var sum, abs float64
						bad := false
						for k := range c.k {
							x, y := element32(c.a, c.transA, i, k), element32(c.b, c.transB, k, j)
							bad = bad || x != x || y != y || math.IsInf(x, 0) || math.IsInf(y, 0)
							sum, abs = sum+x*y, abs+math.Abs(x*y)
						}
						got := float64(c.c.At(i, j))
						finite := got == got && !math.IsInf(got, 0)
						if abs > math.MaxFloat32 {
							continue
						}
						if bad == finite || (!bad && !near(got, sum, float64(c.k+4)*epsilon*abs+0x1p-149)) {
							t.Fatalf("Gemm with %v, %v: c[%d,%d] = %v, want %v", v, c, i, j, got, sum)
						}
					}
				}
			}
		}
	}
}

// testGemmWorkers wants the same bits from any number of workers.
func testGemmWorkers(t *testing.T) {
	for _, s := range [][3]int{{200, 100, 900}, {64, 700, 300}, {1000, 24, 500}, {17, 33, 2000}} {
		for flags := range 4 {
			var want []float32
			for _, workers := range []int{1, 2, 3, 8} {
				c := newCase(11, s[0], s[1], s[2], flags, 1, 0.5)
				kernel.Gemm(workers, c.transA, c.transB, c.alpha, c.a, c.b, c.beta, c.c)
				if want == nil {
					want = c.c.Data
				}
				for i, v := range c.c.Data {
					if math.Float32bits(v) != math.Float32bits(want[i]) {
						t.Fatalf("Gemm %v: element %d is %v by %d workers, %v by one", c, i, v, workers, want[i])
					}
				}
			}
		}
	}
}

func testGemm64(t *testing.T) {
	r := source(12)
	element := func(m kernel.Matrix64, trans bool, i, j int) float64 {
		if trans {
			i, j = j, i
		}
		return m.At(i, j)
	}
	for _, s := range [][3]int{
		{0, 1, 1}, {1, 0, 1}, {2, 3, 0}, {1, 1, 1}, {5, 7, 3}, {13, 15, 17}, {14, 16, 8}, {15, 17, 9}, {33, 31, 70}, {100, 20, 400}, {20, 100, 400}, {60, 130, 33}, {130, 60, 391},
	} {
		for flags := range 8 {
			transA, transB, beta := flags&1 != 0, flags&2 != 0, float64(flags/4)*0.5
			m, n, k := s[0], s[1], s[2]
			matrix := func(rows, cols int, trans bool) kernel.Matrix64 {
				if trans {
					rows, cols = cols, rows
				}
				x := kernel.Matrix64{Rows: rows, Cols: cols, Stride: cols + flags, Data: make([]float64, rows*(cols+flags))}
				fill(r, x.Data)
				return x
			}
			a, b := matrix(m, k, transA), matrix(k, n, transB)
			g := guard[float64](m*(n+1), flags)
			c := kernel.Matrix64{Rows: m, Cols: n, Stride: n + 1, Data: g.x}
			old := kernel.New64(m, n)
			fill(r, old.Data)
			for i := range m {
				copy(c.Row(i), old.Row(i))
			}
			kernel.Gemm64(2, transA, transB, -2, a, b, beta, c)
			g.check(t, "Gemm64")
			for i := range m {
				for j := range n {
					var sum, abs float64
					for l := range k {
						p := element(a, transA, i, l) * element(b, transB, l, j)
						sum, abs = sum+p, abs+math.Abs(p)
					}
					want := beta*old.At(i, j) - 2*sum
					tol := 4 * epsilon64 * (float64(k+2)*abs + math.Abs(old.At(i, j)))
					if got := c.At(i, j); !near(got, want, tol) {
						t.Fatalf("Gemm64 %v, flags %d: c[%d,%d] = %v, want %v", s, flags, i, j, got, want)
					}
				}
				if v := c.Data[i*c.Stride+n]; v != canary {
					t.Fatalf("Gemm64 %v: wrote beyond row %d", s, i)
				}
			}
		}
	}
}

// weight returns a random stored weight at an odd address, and its values.
func weight(seed uint64, rows, cols int, d dtype.DType) (kernel.Weight, kernel.Matrix) {
	m := kernel.New(rows, cols)
	fill(source(seed), m.Data)
	s := stored(m.Data, d, 1)
	dtype.ToFloat32(m.Data, s.Data, d)
	return kernel.Weight{Rows: rows, Cols: cols, DType: d, Data: s.Data}, m
}

// checkWeight holds c [N,out] against x·wᵀ + beta·old, extra being the error
// allowed on every product beyond float32's.
func checkWeight(t *testing.T, what string, c, x, w, old kernel.Matrix, beta float32, extra float64) {
	t.Helper()
	for i := range c.Rows {
		for j := range c.Cols {
			var sum, abs float64
			for k := range x.Cols {
				p := float64(x.At(i, k)) * float64(w.At(j, k))
				sum, abs = sum+p, abs+math.Abs(p)
			}
			want := sum
			tol := (float64(x.Cols+4)*epsilon + extra) * abs
			if beta != 0 {
				want += float64(beta) * float64(old.At(i, j))
				tol += 4 * epsilon * math.Abs(float64(old.At(i, j)))
			}
			if got := float64(c.At(i, j)); !near(got, want, tol) {
				t.Fatalf("%s: c[%d,%d] = %v, want %v ± %v", what, i, j, got, want, tol)
			}
		}
	}
}

func testGemmWeight(t *testing.T) {
	for _, d := range []dtype.DType{dtype.F32, dtype.BF16, dtype.F16} {
		for _, cols := range []int{0, 1, 31, 64, 65, 96, 127, 130, 400} {
			for _, rows := range []int{0, 1, 3, 4, 7, 40, 65} {
				w, wf := weight(uint64(cols+rows), rows, cols, d)
				for _, n := range []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 16, 17, 40} {
					if n > 13 && rows*cols > 100*130 {
						continue
					}
					x := kernel.New(n, cols+3).Slice(0, n, 0, cols)
					fill(source(uint64(n)), x.Data)
					g := guard[float32](n*(rows+2), 1)
					c := kernel.Matrix{Rows: n, Cols: rows, Stride: rows + 2, Data: g.x}
					old := kernel.New(n, rows)
					fill(source(3), old.Data)
					beta := float32(n%2) * 0.5
					for i := range n {
						copy(c.Row(i), old.Row(i))
					}
					kernel.GemmWeight(2, c, x, w, beta)
					what := fmt.Sprintf("GemmWeight %v, w %d×%d, x %d rows, beta %v", d, rows, cols, n, beta)
					g.check(t, what)
					for i := range n {
						if v := c.Data[i*c.Stride+rows]; v != canary {
							t.Fatalf("%s: wrote beyond row %d", what, i)
						}
					}
					checkWeight(t, what, c, x, wf, old, beta, 0)
				}
			}
		}
	}
}

// testGemmWeightLong has rows that several of x pass in blocks.
func testGemmWeightLong(t *testing.T) {
	for _, d := range []dtype.DType{dtype.F32, dtype.BF16, dtype.F16} {
		for _, rows := range []int{1, 31, 113} {
			w, wf := weight(uint64(rows), rows, 5003, d)
			for _, n := range []int{1, 2, 4, 5, 6, 7, 8, 13} {
				x, c := kernel.New(n, w.Cols), kernel.New(n, rows)
				fill(source(uint64(n)), x.Data)
				kernel.GemmWeight(2, c, x, w, 0)
				checkWeight(t, fmt.Sprintf("GemmWeight %v, w %d×%d, x %d rows", d, rows, w.Cols, n), c, x, wf, c, 0, 0)
			}
		}
	}
}

// testGemmWeightWorkers wants the same bits from any number of workers, on
// weights that are large enough to be shared.
func testGemmWeightWorkers(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(8))
	for _, d := range []dtype.DType{dtype.F32, dtype.BF16, dtype.F16} {
		w, _ := weight(7, 1603, 300, d)
		for _, n := range []int{1, 3, 9} {
			x := kernel.New(n, w.Cols)
			fill(source(uint64(n)), x.Data)
			var want []float32
			for _, workers := range []int{1, 2, 3, 8} {
				c := kernel.New(n, w.Rows)
				kernel.GemmWeight(workers, c, x, w, 0)
				if want == nil {
					want = c.Data
				}
				for i, v := range c.Data {
					if math.Float32bits(v) != math.Float32bits(want[i]) {
						t.Fatalf("GemmWeight %v, x %d rows: element %d is %v by %d workers, %v by one", d, n, i, v, workers, want[i])
					}
				}
			}
		}
	}
}

func testGemmGroup(t *testing.T) {
	for _, d := range []dtype.DType{dtype.F32, dtype.BF16} {
		var problems []kernel.Problem
		var want []kernel.Matrix
		for i, n := range []int{3, 0, 40, 1, 17, 100} {
			w, _ := weight(uint64(i), 20+i, 70+i, d)
			x := kernel.New(n, 70+i)
			fill(source(uint64(n)), x.Data)
			p := kernel.Problem{C: kernel.New(n, 20+i), X: x, W: w}
			single := kernel.New(n, 20+i)
			kernel.GemmWeight(1, single, x, w, 0)
			problems, want = append(problems, p), append(want, single)
		}
		for _, workers := range []int{1, 2, 5} {
			kernel.GemmGroup(workers, problems)
			for i, p := range problems {
				for j, v := range p.C.Data {
					if math.Float32bits(v) != math.Float32bits(want[i].Data[j]) {
						t.Fatalf("GemmGroup %v by %d workers: problem %d, element %d is %v, by GemmWeight %v", d, workers, i, j, v, want[i].Data[j])
					}
				}
			}
		}
	}
}

func testGemmBF16(t *testing.T) {
	for _, d := range []dtype.DType{dtype.BF16, dtype.F32, dtype.F16} {
		for _, s := range [][3]int{{1, 1, 1}, {5, 9, 3}, {40, 33, 64}, {17, 50, 65}, {100, 64, 801}, {0, 3, 3}, {3, 0, 3}, {3, 3, 0}} {
			n, rows, cols := s[0], s[1], s[2]
			w, wf := weight(5, rows, cols, d)
			x := kernel.New(n, cols)
			fill(source(6), x.Data)
			old := kernel.New(n, rows)
			fill(source(8), old.Data)
			for _, beta := range []float32{0, 0.5} {
				c := kernel.New(n, rows)
				copy(c.Data, old.Data)
				kernel.GemmBF16(2, c, x, w, beta)
				extra := 0x1p-8
				if d != dtype.BF16 {
					extra = 0x1p-7
				}
				checkWeight(t, fmt.Sprintf("GemmBF16 %v %v", d, s), c, x, wf, old, beta, extra)
			}
		}
	}
}

func testTranspose(t *testing.T) {
	for _, sh := range [][2]int{{0, 5}, {5, 0}, {1, 1}, {3, 40}, {16, 16}, {17, 15}, {33, 70}, {48, 129}} {
		for gap := range 2 {
			r := source(uint64(sh[0]))
			m, n := sh[0], sh[1]
			a := kernel.Matrix{Rows: m, Cols: n, Stride: n + gap, Data: randoms(r, m*(n+gap), gap)}
			out := guard[float32](n*(m+gap), gap)
			dst := kernel.Matrix{Rows: n, Cols: m, Stride: m + gap, Data: out.x}
			kernel.Transpose(dst, a)
			for i := range n {
				for j := range m + gap {
					want := float32(canary)
					if j < m {
						want = a.At(j, i)
					}
					if got := out.x[i*dst.Stride+j]; got != want {
						t.Fatalf("%d × %d, gap %d: [%d,%d] is %v, want %v", m, n, gap, i, j, got, want)
					}
				}
			}
			out.check(t, "Transpose")
		}
	}
}
