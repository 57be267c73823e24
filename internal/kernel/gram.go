package kernel

import (
	"fmt"
	"unsafe"

	"smelt/internal/parallel"
)

// GemmGram multiplies x [b,n] by aᵀ, for an a [m,n], and the product t [b,m] by a
// again, reading a once: w [b,n] is x·(aᵀ·a).
//
//	for i, r { t[i,r] = Σ_k x[i,k]*a[r,k] + beta*t[i,r] }
//	for i, k { w[i,k] = Σ_r t[i,r]*a[r,k] }
//
// With beta 0, t is written without being read. t and w must not overlap each
// other, a or x. As in [Gemm] the order of summation depends on the shape alone.
func GemmGram(workers int, x, a Matrix, beta float32, t, w Matrix) {
	x.check("GemmGram: x")
	a.check("GemmGram: a")
	t.check("GemmGram: t")
	w.check("GemmGram: w")
	if x.Cols != a.Cols || t.Rows != x.Rows || t.Cols != a.Rows || w.Rows != x.Rows || w.Cols != a.Cols {
		panic(fmt.Sprintf("kernel: GemmGram: t [%d,%d] = x [%d,%d] · aᵀ, a [%d,%d], w [%d,%d] = t · a",
			t.Rows, t.Cols, x.Rows, x.Cols, a.Rows, a.Cols, w.Rows, w.Cols))
	}
	if x.Rows == 0 || a.Rows == 0 || a.Cols == 0 {
		scaleRows(t.Data, t.Stride, t.Rows, t.Cols, beta)
		scaleRows(w.Data, w.Stride, w.Rows, w.Cols, 0)
		return
	}
	if x.Rows < active.f32.lanes && a.Stride == a.Cols {
		if p := (Problem{C: t, X: x, W: WeightOf(a), Beta: beta}); p.streams() {
			p.gram(workers, a, w)
			return
		}
	}
	newGram(active.f32, x, a, beta, t, w).run(workers)
}

// gram is GemmGram for an x of fewer rows than a vector has lanes: parts of a
// stream past them and, while the caches hold them, go into the second product.
func (p Problem) gram(workers int, a, w Matrix) {
	b := p.X.Rows
	rows := max(1, gramBytes/(4*a.Cols)/active.streams.rows) * active.streams.rows
	parts, length := blocks(a.Rows, max(rows, (a.Rows+gramParts-1)/gramParts), rows)
	sums := buffer[float32](&active.f32.sums, parts*b*a.Cols)
	defer active.f32.sums.Put(sums)
	parallel.Stages(workers, func(stage, i int) {
		if stage == 1 {
			row := w.Row(i)
			copy(row, (*sums)[i*a.Cols:])
			for part := 1; part < parts; part++ {
				Axpy(1, (*sums)[(part*b+i)*a.Cols:][:a.Cols], row)
			}
			return
		}
		sum := Of(b, a.Cols, (*sums)[i*b*a.Cols:(i+1)*b*a.Cols])
		beta := float32(0)
		for lo, end := i*length, min((i+1)*length, a.Rows); lo < end; lo += rows {
			hi := min(lo+rows, end)
			p.columns(lo, hi)
			Gemm(1, false, false, 1, p.C.Slice(0, b, lo, hi), a.Slice(lo, hi, 0, a.Cols), beta, sum)
			beta = 1
		}
	}, parts, b)
}

const (
	gramBytes = 576 << 10 // of a, about, that are multiplied again while the caches hold them
	gramK     = 512       // most k of a tile of the first product: a panel of xᵀ stays in the nearest cache
	gramPart  = 2048      // rows of a whose share of w is summed on its own
	gramParts = 16        // most shares of w, where x has few rows
)

// gram is one [GemmGram]. Rows of a are taken in blocks: a block is read for
// the first product, whose result is packed as the second one's left operand,
// and read again, from the caches, as that one's right operand.
type gram struct {
	*engine[float32]
	x, a  Matrix
	beta  float32
	t, w  Matrix
	width int // columns of xᵀ, and of a block of tᵀ, in whole vectors
	rows  int // of a block
	kLen  int // k of all tiles of the first product but the last

	right []float32   // xᵀ [n,width], panel by panel
	sums  [][]float32 // w by parts, each in panels [b,nr]
}

func newGram(e *engine[float32], x, a Matrix, beta float32, t, w Matrix) *gram {
	g := &gram{engine: e, x: x, a: a, beta: beta, t: t, w: w}
	g.width = (x.Rows + e.lanes - 1) / e.lanes * e.lanes
	g.rows = min(max(gramBytes/(4*a.Cols)/e.direct, 4), 8) * e.direct
	_, g.kLen = blocks(a.Cols, gramK, 4)
	return g
}

func (g *gram) run(workers int) {
	if g.x.Rows*g.a.Rows*g.a.Cols < 1<<18 {
		workers = 1
	}
	right := buffer[float32](&g.engine.right, g.width*g.a.Cols)
	defer g.engine.right.Put(right)
	g.right = *right
	parts, length := blocks(g.a.Rows, gramPart, g.rows)
	panels := (g.a.Cols + g.nr - 1) / g.nr
	sums := buffer[float32](&g.engine.sums, parts*panels*g.x.Rows*g.nr)
	defer g.engine.sums.Put(sums)
	for p := range parts {
		n := panels * g.x.Rows * g.nr
		g.sums = append(g.sums, (*sums)[p*n:(p+1)*n])
	}
	parallel.Stages(workers, func(stage, i int) {
		switch stage {
		case 0:
			g.pack(i * g.nr)
		case 1:
			g.part(i, i*length, min((i+1)*length, g.a.Rows))
		case 2:
			g.add(i)
		}
	}, (g.x.Rows+g.nr-1)/g.nr, parts, panels)
}

// panel returns xᵀ's panel from column c on, and how many vectors it has.
func (g *gram) panel(c int) (panel []float32, vecs int) {
	vecs = (min(g.nr, g.width-c) + g.lanes - 1) / g.lanes
	return g.right[c*g.a.Cols:], vecs
}

// pack packs a panel of xᵀ.
func (g *gram) pack(c int) {
	panel, vecs := g.panel(c)
	for v := range vecs {
		i := c + v*g.lanes
		call(g.transpose[native], packing{
			dst: unsafe.Pointer(&panel[v*g.lanes]), dstStride: 4 * vecs * g.lanes,
			src: unsafe.Pointer(&g.x.Data[i*g.x.Stride]), srcStride: 4 * g.x.Stride,
			rows: min(g.lanes, g.x.Rows-i), vecs: (g.a.Cols + g.lanes - 1) / g.lanes, mask: lastMask(g.a.Cols, g.lanes),
		})
	}
}

// part computes rows [lo, hi) of tᵀ and what they contribute to w.
func (g *gram) part(part, lo, hi int) {
	buf := buffer[float32](&g.engine.left, g.rows*(g.width+g.nr))
	defer g.engine.left.Put(buf)
	block, edge := (*buf)[:g.rows*g.width], (*buf)[g.rows*g.width:]
	arg := tileArgs.Get().(*tile)
	defer func() {
		*arg = tile{}
		tileArgs.Put(arg)
	}()
	for r := lo; r < hi; r += g.rows {
		n := min(g.rows, hi-r)
		g.forward(arg, block, r, n)
		g.back(arg, block, edge, g.sums[part], r, n, r > lo)
	}
}

// forward computes rows [r0, r0+n) of tᵀ, into block too.
func (g *gram) forward(arg *tile, block []float32, r0, n int) {
	stride := 4 * g.a.Stride
	*arg = tile{alpha: toBits[float32](1), aRow: stride, aStep: 4, cRow: 4 * g.width, nextStep: -1}
	for k := 0; k < g.a.Cols; k += g.kLen {
		arg.k = min(g.kLen, g.a.Cols-k)
		if k > 0 {
			arg.beta = toBits[float32](1)
		}
		for c := 0; c < g.x.Rows; c += g.nr {
			panel, vecs := g.panel(c)
			arg.bStep = 4 * vecs * g.lanes
			arg.b = unsafe.Pointer(&panel[k*vecs*g.lanes])
			arg.lanes, arg.mask = g.lanes, lastMask(g.lanes, g.lanes)
			for i := 0; i < n; i += g.direct {
				h := min(g.direct, n-i)
				arg.a = unsafe.Pointer(&g.a.Data[(r0+i)*g.a.Stride+k])
				arg.next = arg.a
				if next := r0 + i + h; next+h <= g.a.Rows {
					arg.next = unsafe.Pointer(&g.a.Data[next*g.a.Stride+k])
				}
				arg.c = unsafe.Pointer(&block[i*g.width+c])
				g.tiles[vecs][h](arg)
			}
		}
	}
	if g.beta != 0 {
		for i := range g.x.Rows {
			for r, v := range g.t.Row(i)[r0 : r0+n] {
				block[r*g.width+i] += g.beta * v
			}
		}
	}
	done := 0
	for ; done+g.lanes <= n; done += g.lanes {
		call(g.transpose[native], packing{
			dst: unsafe.Pointer(&g.t.Data[r0+done]), dstStride: 4 * g.t.Stride,
			src: unsafe.Pointer(&block[done*g.width]), srcStride: 4 * g.width,
			rows: g.lanes, vecs: g.width / g.lanes, mask: lastMask(g.x.Rows, g.lanes),
		})
	}
	for i := range g.x.Rows {
		for r := done; r < n; r++ {
			g.t.Data[i*g.t.Stride+r0+r] = block[r*g.width+i]
		}
	}
}

// back adds the block, rows [r0, r0+n) of tᵀ, times the same rows of a to sums,
// or begins them.
func (g *gram) back(arg *tile, block, edge, sums []float32, r0, n int, add bool) {
	parts, height := blocks(g.x.Rows, g.mr, 1)
	*arg = tile{alpha: toBits[float32](1), k: n, aRow: 4, aStep: 4 * g.width, cRow: 4 * g.nr}
	if add {
		arg.beta = toBits[float32](1)
	}
	for j := 0; j < g.a.Cols; j += g.nr {
		cols := min(g.nr, g.a.Cols-j)
		vecs := (cols + g.lanes - 1) / g.lanes
		arg.b, arg.bStep = unsafe.Pointer(&g.a.Data[r0*g.a.Stride+j]), 4*g.a.Stride
		if cols%g.lanes != 0 { // whole vectors would reach beyond the row
			call(g.copyRows[native], packing{
				dst: unsafe.Pointer(&edge[0]), dstStride: 4 * g.nr, src: arg.b, srcStride: arg.bStep,
				rows: n, vecs: vecs, mask: lastMask(cols, g.lanes),
			})
			arg.b, arg.bStep = unsafe.Pointer(&edge[0]), 4*g.nr
		}
		arg.lanes, arg.mask = g.lanes, lastMask(g.lanes, g.lanes)
		for p := range parts {
			i := p * height
			arg.a = unsafe.Pointer(&block[i])
			arg.c = unsafe.Pointer(&sums[(j*g.x.Rows)+i*g.nr])
			arg.next = arg.c
			g.tiles[vecs][min(height, g.x.Rows-i)](arg)
		}
	}
}

// add adds up a panel of the parts of w.
func (g *gram) add(panel int) {
	j, b := panel*g.nr, g.x.Rows
	total := g.sums[0][j*b : (j+g.nr)*b]
	for _, s := range g.sums[1:] {
		Axpy(1, s[j*b:(j+g.nr)*b], total)
	}
	for i := range b {
		copy(g.w.Row(i)[j:min(j+g.nr, g.w.Cols)], total[i*g.nr:])
	}
}
