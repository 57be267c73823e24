package linalg

import (
	"math"
	"slices"

	"smelt/internal/kernel"
)

// operator is a matrix seen from one of its sides: W [p,n].
type operator struct {
	a       Matrix
	trans   bool // W = aᵀ
	flip    bool // W is the transpose of the matrix decomposed
	p, n    int
	workers int
	ws      *workspace
	columns *int // vectors multiplied so far
}

// newOperator returns the operator of a, seen from its shorter side: p ≤ n. Rows
// too long to lie side by side in the caches' sets and pages make products slow:
// where the caches hold the matrix, such a one is turned once.
func newOperator(ws *workspace, a Matrix, workers int) operator {
	o := operator{a: a, p: min(a.Rows, a.Cols), n: max(a.Rows, a.Cols), workers: workers, ws: ws, columns: new(int)}
	o.flip = a.Rows > a.Cols
	o.trans = o.flip
	if turned(a.Rows, a.Cols) {
		o.a, o.trans = ws.matrix(a.Cols, a.Rows), true
		kernel.Transpose(o.a, a)
	}
	return o
}

// side is the shorter side of the matrix.
func (o operator) side() int { return min(o.p, o.n) }

// streamed is o seen from the side of a's columns where the caches do not hold
// a: there, one reading of it serves both of a step's products.
func (o operator) streamed() operator {
	if o.side() > cachedSide && !o.trans {
		o.trans, o.flip, o.p, o.n = true, !o.flip, o.n, o.p
	}
	return o
}

// cachedElements is up to how many elements of a matrix stay in the third-level
// cache, where workers share out two products better than one that reads once.
const cachedElements = 6 << 20

// fewRows is up to how many rows of x the product x·aᵀ streams a past them, where
// the caches may hold a, and half of it up to how many both products do together.
const fewRows = 16

// both computes t [b,n] = q [b,p]·W + beta·t and w [b,p] = t·Wᵀ.
func (o operator) both(t, w, q Matrix, beta float32) {
	large := o.side() > cachedSide && o.p*o.n > cachedElements
	if o.trans && (large || q.Rows <= fewRows/2 && o.side() <= cachedSide) {
		*o.columns += 2 * q.Rows
		kernel.GemmGram(o.workers, q, o.a, beta, t, w)
		return
	}
	if beta == 0 {
		o.forward(t, q)
	} else {
		at := o.ws.level()
		sum := o.ws.matrix(t.Rows, t.Cols)
		o.forward(sum, q)
		for i := range t.Rows {
			kernel.Scale(beta, t.Row(i))
			kernel.Axpy(1, sum.Row(i), t.Row(i))
		}
		o.ws.back(at)
	}
	o.backward(w, t)
}

// turned says whether products with an m × n matrix use a transposed copy.
func turned(m, n int) bool { return m < n && m <= cachedSide }

// forward computes dst [b,n] = q [b,p]·W.
func (o operator) forward(dst, q Matrix) { o.product(dst, q, o.trans) }

// backward computes dst [b,p] = t [b,n]·Wᵀ.
func (o operator) backward(dst, t Matrix) { o.product(dst, t, !o.trans) }

// product computes dst = x·a, or x·aᵀ; that, for more than a few rows, as
// (a·xᵀ)ᵀ, with the large matrix as the operand that is read by rows.
func (o operator) product(dst, x Matrix, trans bool) {
	*o.columns += x.Rows
	if !trans {
		kernel.Gemm(o.workers, false, false, 1, x, o.a, 0, dst)
		return
	}
	if x.Rows <= fewRows && o.side() <= cachedSide && o.a.Stride == o.a.Cols {
		kernel.GemmWeight(o.workers, dst, x, kernel.WeightOf(o.a), 0)
		return
	}
	at := o.ws.level()
	y := o.ws.matrix(o.a.Rows, x.Rows)
	kernel.Gemm(o.workers, false, true, 1, o.a, x, 0, y)
	kernel.Transpose(dst, y)
	o.ws.back(at)
}

// project removes from the rows of y their parts along the orthonormal rows of
// q, once: twice is enough (Giraud, Langou and Rozložník 2005).
func (o operator) project(y, q Matrix) {
	if q.Rows == 0 || y.Rows == 0 {
		return
	}
	at := o.ws.level()
	c := o.ws.matrix(y.Rows, q.Rows)
	if y.Rows <= fewRows && q.Stride == q.Cols {
		kernel.GemmWeight(o.workers, c, y, kernel.WeightOf(q), 0)
	} else {
		kernel.Gemm(o.workers, false, true, 1, y, q, 0, c)
	}
	kernel.Gemm(o.workers, false, false, -1, c, q, 1, y)
	o.ws.back(at)
}

// orthonormalise writes to dst an orthonormal basis of the rows of w, which
// were projected once on the complement of q's span and whose Gram matrix is
// ww, leaving out what is below floor, the noise of w's elements, and returns
// the number of rows written. The Gram matrices and the triangular solves are
// float64: with them one Cholesky QR reaches float32's accuracy for any
// condition number that float32 can express, and a second one cleans up what
// rounding brought back (Yamamoto et al. 2015).
func (o operator) orthonormalise(dst Matrix, w, ww Matrix64, q Matrix, floor float64) int {
	rows := o.choleskyRows(dst, w, ww, floor*floor)
	dst = dst.Slice(0, rows, 0, dst.Cols)
	o.project(dst, q)
	at := o.ws.level()
	wide := o.ws.widen(dst)
	gram := o.ws.matrix64(rows, rows)
	kernel.Syrk64(o.workers, false, 1, wide, 0, gram)
	rows = o.choleskyRows(dst, wide, gram, 1e-4)
	o.ws.back(at)
	return rows
}

// choleskyRows writes L⁻¹·w to dst, for the pivoted Cholesky factor L of gram =
// w·wᵀ, leaving out rows whose remaining square norm is at most floor, and
// returns how many rows remain.
func (o operator) choleskyRows(dst Matrix, w, gram Matrix64, floor float64) int {
	inv, order := choleskyInverse(gram, floor)
	k := len(order)
	if k == 0 {
		return 0
	}
	at := o.ws.level()
	out := o.ws.matrix64(k, w.Cols)
	kernel.Gemm64(o.workers, false, false, 1, inv, permuteRows(w, order), 0, out)
	for i := range k {
		kernel.F64ToF32(dst.Row(i), out.Row(i))
	}
	o.ws.back(at)
	return k
}

// permuteRows returns the rows of w in the given order; w itself where that
// changes nothing.
func permuteRows(w Matrix64, order []int) Matrix64 {
	same := true
	for i, o := range order {
		same = same && i == o
	}
	if same {
		return w.Slice(0, len(order), 0, w.Cols)
	}
	p := kernel.New64(len(order), w.Cols)
	for i, o := range order {
		copy(p.Row(i), w.Row(o))
	}
	return p
}

// choleskyInverse factors the symmetric g with pivoting on the largest
// remaining diagonal element until that is at most floor: g of the rows in
// order is L·Lᵀ. It returns L⁻¹ [k,k] and the order [k].
func choleskyInverse(g Matrix64, floor float64) (inv Matrix64, order []int) {
	n := g.Rows
	rest := make([]int, n)
	for i := range rest {
		rest[i] = i
	}
	left := make([]float64, n) // remaining diagonal, by original index
	for i := range n {
		left[i] = g.At(i, i)
	}
	l := kernel.New64(n, n) // row i: L of the i-th pivot
	cols := kernel.New64(n, n)
	for len(rest) > 0 {
		var top float64
		for _, r := range rest {
			top = max(top, left[r])
		}
		if !(top > floor) {
			break
		}
		// The first of like size: rows that need no exchange keep their order.
		best := slices.IndexFunc(rest, func(r int) bool { return left[r] > floor && left[r] >= top/2 })
		p, k := rest[best], len(order)
		rest = slices.Delete(rest, best, best+1)
		order = append(order, p)
		// Column k of L, held as row k of cols over the original indices.
		pivot := math.Sqrt(left[p])
		col := cols.Row(k)
		copy(col, g.Row(p))
		for j := range k {
			kernel.Axpy64(-cols.At(j, p), cols.Row(j), col)
		}
		kernel.Scale64(1/pivot, col)
		for j := range k {
			l.Set(k, j, cols.At(j, p))
		}
		l.Set(k, k, pivot)
		for _, r := range rest {
			left[r] -= col[r] * col[r]
		}
	}
	k := len(order)
	inv = kernel.New64(k, k)
	for i := range k {
		row := inv.Row(i)
		for j := range i {
			kernel.Axpy64(-l.At(i, j), inv.Row(j)[:j+1], row[:j+1])
		}
		row[i] = 1
		kernel.Scale64(1/l.At(i, i), row[:i+1])
	}
	return inv, order
}

// columnChunk is how many columns of a float32 matrix are widened at once.
const columnChunk = 2048

// widenColumns calls f with float64 copies of successive column ranges of a.
func (ws *workspace) widenColumns(a Matrix, f func(c0, c1 int, w Matrix64)) {
	at := ws.level()
	defer ws.back(at)
	buf := ws.matrix64(a.Rows, min(columnChunk, a.Cols))
	for c0 := 0; c0 < a.Cols; c0 += columnChunk {
		c1 := min(c0+columnChunk, a.Cols)
		w := buf.Slice(0, a.Rows, 0, c1-c0)
		for i := range a.Rows {
			kernel.F32ToF64(w.Row(i), a.Row(i)[c0:c1])
		}
		f(c0, c1, w)
	}
}

// widened returns c·a with a widened, in float64: c is [r,d], a [d,n].
func (o operator) widened(c Matrix64, a Matrix) Matrix64 {
	out := o.ws.matrix64(c.Rows, a.Cols)
	o.ws.widenColumns(a, func(c0, c1 int, w Matrix64) {
		kernel.Gemm64(o.workers, false, false, 1, c, w, 0, out.Slice(0, out.Rows, c0, c1))
	})
	return out
}

// orthonormalRows makes the rows of v orthonormal, in order, for singular
// vectors that came out of a division by their singular values s: those down
// to 1e-4·s[0] are orthonormal to float32's accuracy already, the others are
// orthogonalised against all before them, and what vanishes is replaced by
// arbitrary directions (fixed ones: the result depends on nothing else).
func orthonormalRows(v Matrix64, s []float64) {
	state := uint64(0x9e3779b97f4a7c15)
	for i := range v.Rows {
		row := v.Row(i)
		if i < len(s) && s[i] > 1e-4*s[0] {
			kernel.Scale64(1/kernel.Nrm264(row), row)
			continue
		}
		prior := v.Slice(0, i, 0, v.Cols)
		coef := make([]float64, i)
		for attempt := 0; ; attempt++ {
			norm := kernel.Nrm264(row)
			if attempt > 0 || !(norm > 0) || norm-norm != 0 {
				for j := range row {
					state = state*6364136223846793005 + 1442695040888963407
					row[j] = float64(int64(state)>>11) * 0x1p-52
				}
				norm = kernel.Nrm264(row)
			}
			kernel.Scale64(1/norm, row)
			for range 2 {
				kernel.Gemv64(1, false, 1, prior, row, 0, coef)
				kernel.Gemv64(1, true, -1, prior, coef, 1, row)
			}
			if norm = kernel.Nrm264(row); norm > 1e-3 {
				kernel.Scale64(1/norm, row)
				break
			}
		}
	}
}

// gram returns W·Wᵀ [p,p] in float64.
func (o operator) gram() Matrix64 {
	g := kernel.New64(o.p, o.p)
	beta := 0.0
	if !o.trans {
		o.ws.widenColumns(o.a, func(_, _ int, w Matrix64) {
			kernel.Syrk64(o.workers, false, 1, w, beta, g)
			beta = 1
		})
		return g
	}
	o.ws.widenRows(o.a, func(_, _ int, w Matrix64) {
		kernel.Syrk64(o.workers, true, 1, w, beta, g)
		beta = 1
	})
	return g
}

// product64 returns c·W in float64, c being [r,p].
func (o operator) product64(c Matrix64) Matrix64 {
	if !o.trans {
		return o.widened(c, o.a)
	}
	out := kernel.New64(c.Rows, o.n)
	o.ws.widenRows(o.a, func(r0, r1 int, w Matrix64) {
		kernel.Gemm64(o.workers, false, true, 1, c, w, 0, out.Slice(0, out.Rows, r0, r1))
	})
	return out
}

// widenRows calls f with float64 copies of successive row ranges of a.
func (ws *workspace) widenRows(a Matrix, f func(r0, r1 int, w Matrix64)) {
	at := ws.level()
	defer ws.back(at)
	buf := ws.matrix64(min(columnChunk, a.Rows), a.Cols)
	for r0 := 0; r0 < a.Rows; r0 += columnChunk {
		r1 := min(r0+columnChunk, a.Rows)
		w := buf.Slice(0, r1-r0, 0, a.Cols)
		for i := range w.Rows {
			kernel.F32ToF64(w.Row(i), a.Row(r0+i))
		}
		f(r0, r1, w)
	}
}
