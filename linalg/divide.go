package linalg

import (
	"cmp"
	"math"
	"slices"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/lapack/gonum"

	"smelt/internal/kernel"
	"smelt/internal/parallel"
)

// leafSize is the order below which a bidiagonal matrix is solved by implicit
// QR instead of being divided.
const leafSize = 16

// bidiagonalSVD decomposes the upper bidiagonal B (diagonal d [n],
// superdiagonal e [n−1], both overwritten) by divide and conquer (Gu and
// Eisenstat 1995): almost all of the work is matrix products. It returns all
// singular values, descending, and the leading keep singular vectors as rows:
// vt always, ut where left is set.
func bidiagonalSVD(ws *workspace, workers int, d, e []float64, left bool, keep int) (s []float64, ut, vt Matrix64) {
	n := len(d)
	keep = min(keep, n)
	if n == 0 {
		return nil, kernel.New64(0, 0), kernel.New64(0, 0)
	}
	if !slices.ContainsFunc(d, isNotZero) && !slices.ContainsFunc(e, isNotZero) {
		// A merge scales by the largest element: here there is none.
		vt = identity(keep, n)
		if left {
			ut = identity(keep, n)
		}
		return make([]float64, n), ut, vt
	}
	t := divider{
		d: d, e: e, left: left, keep: keep, s: make([]float64, n),
		vt: ws.zeros64(n, n), wv: ws.zeros64(n, n), q: ws.zeros64(n, n),
	}
	if left {
		t.ut, t.wu = ws.zeros64(n, n), ws.zeros64(n, n)
	}
	levels := t.plan(nil, node{n: n}, 0)
	for i := len(levels) - 1; i >= 0; i-- {
		level := levels[i]
		if inner := parallel.Workers(workers); len(level) >= inner {
			parallel.For(workers, len(level), func(j int) { t.solve(level[j], 1) })
		} else {
			for _, nd := range level {
				t.solve(nd, workers)
			}
		}
	}
	return t.pick()
}

func isNotZero(v float64) bool { return v != 0 }

// identity returns the first k rows of the identity of order n.
func identity(k, n int) Matrix64 {
	a := kernel.New64(k, n)
	for i := range k {
		a.Set(i, i, 1)
	}
	return a
}

// node is a block of n rows and n+extra columns of the bidiagonal matrix,
// beginning at row and column lo; rows up to nl belong to its first child, row
// nl couples the children. A leaf has no nl.
type node struct{ lo, n, extra, nl int }

type divider struct {
	d, e   []float64
	left   bool
	keep   int
	s      []float64 // values of a node at its rows
	ut, vt Matrix64  // vectors of a node as rows of its diagonal block
	wu, wv Matrix64  // permuted copies of them during a merge
	q      Matrix64  // vectors of the secular problem
}

// plan lists the nodes of the tree by level, the root first.
func (t *divider) plan(levels [][]node, nd node, depth int) [][]node {
	if len(levels) == depth {
		levels = append(levels, nil)
	}
	if nd.n > leafSize {
		nd.nl = (nd.n - 1) / 2
	}
	levels[depth] = append(levels[depth], nd)
	if nd.nl > 0 {
		levels = t.plan(levels, node{lo: nd.lo, n: nd.nl, extra: 1}, depth+1)
		levels = t.plan(levels, node{lo: nd.lo + nd.nl + 1, n: nd.n - nd.nl - 1, extra: nd.extra}, depth+1)
	}
	return levels
}

func (t *divider) solve(nd node, workers int) {
	if nd.nl == 0 {
		t.leaf(nd)
	} else {
		t.merge(nd, workers)
	}
}

// leaf solves a small block by implicit QR. Its extra column is rotated away
// first, which leaves a lower bidiagonal matrix.
func (t *divider) leaf(nd node) {
	n, lo := nd.n, nd.lo
	vt := t.vt.Slice(lo, lo+n+nd.extra, lo, lo+n+nd.extra)
	for i := range vt.Rows {
		vt.Set(i, i, 1)
	}
	d, e := t.d[lo:lo+n], t.e[lo:lo+n-1+nd.extra]
	uplo := blas.Upper
	if nd.extra == 1 {
		uplo = blas.Lower
		for i := range n {
			r := math.Hypot(d[i], e[i])
			if r == 0 {
				continue
			}
			c, s := d[i]/r, e[i]/r
			d[i], e[i] = r, 0
			if i+1 < n {
				e[i], d[i+1] = s*d[i+1], c*d[i+1]
			}
			rotate(vt.Row(i), vt.Row(i+1), c, s)
		}
	}
	var ut Matrix64
	ncc, ldc := 0, 1
	if t.left {
		ut = t.ut.Slice(lo, lo+n, lo, lo+n)
		for i := range n {
			ut.Set(i, i, 1)
		}
		ncc, ldc = n, ut.Stride
	}
	work := make([]float64, 4*n)
	if !(gonum.Implementation{}).Dbdsqr(uplo, n, vt.Cols, 0, ncc, d, e, vt.Data, vt.Stride, nil, 1, ut.Data, ldc, work) {
		panic("linalg: implicit QR of a finite bidiagonal matrix did not converge")
	}
	copy(t.s[lo:], d)
}

// rotate computes x, y = c·x + s·y, c·y − s·x.
func rotate(x, y []float64, c, s float64) {
	y = y[:len(x)]
	for i, v := range x {
		w := y[i]
		x[i], y[i] = c*v+s*w, c*w-s*v
	}
}

// entry is one diagonal element of a merge's middle matrix: its value d, its
// component z of the coupling row, the row of vt that it stands for, and the
// children that this vector touches (1, 2, or 3 for both).
type entry struct {
	d, z  float64
	row   int
	child int
}

const bothChildren = 3

// merge solves a node from its children: B = diag(Q₁,1,Q₂)·M·diag(W₁,W₂)ᵀ with
// M a diagonal matrix whose first row is full.
func (t *divider) merge(nd node, workers int) {
	lo, n, m, mid := nd.lo, nd.n, nd.n+nd.extra, nd.lo+nd.nl
	alpha, beta := t.d[mid], t.e[mid]

	// The first entry is the children's null vectors, turned so that one of
	// them couples and the other is the null vector of this node.
	first := entry{z: alpha * t.vt.At(mid, mid), row: mid, child: 1}
	top := max(math.Abs(alpha), math.Abs(beta))
	rest := make([]entry, 0, n-1)
	for i := lo; i < lo+n; i++ {
		if i == mid {
			continue
		}
		en := entry{d: t.s[i], z: alpha * t.vt.At(i, mid), row: i, child: 1}
		if i > mid {
			en.z, en.child = beta*t.vt.At(i, mid+1), 2
		}
		top = max(top, en.d)
		rest = append(rest, en)
	}
	slices.SortStableFunc(rest, func(a, b entry) int { return cmp.Compare(a.d, b.d) })
	scale := 1.0
	if top > 0 {
		scale = 1 / top
	}
	const tol = 64 * roundoff
	if nd.extra == 1 {
		z2 := beta * t.vt.At(lo+n, mid+1)
		if r := math.Hypot(first.z, z2); r*scale > tol {
			rotate(t.vt.Row(mid)[lo:lo+m], t.vt.Row(lo + n)[lo:lo+m], first.z/r, z2/r)
			first.z, first.child = r, bothChildren
		}
	}
	first.z *= scale
	if math.Abs(first.z) <= tol {
		first.z = tol
	}
	for i := range rest {
		rest[i].d *= scale
		rest[i].z *= scale
	}
	kept, deflated := t.deflate(first, rest, nd, tol)

	k := len(kept)
	perm := make([]int, 0, k) // kept entries: first child's, both's, second's
	var only [4]int
	for _, c := range []int{1, bothChildren, 2} {
		for i, en := range kept {
			if en.child == c {
				perm = append(perm, i)
				only[c]++
			}
		}
	}
	t.gather(nd, kept, perm, deflated)
	roots := 0 // of the secular equation: the first whose vectors are wanted
	if n == t.vt.Rows {
		roots = max(0, k-t.keep)
	}
	norms, omega := t.secular(workers, nd, kept, perm, roots)

	q := t.q.Slice(lo+roots, lo+k, lo, lo+k)
	a, b := only[1]+only[bothChildren], only[1]
	product := func(dst, src Matrix64, c0, c1, r0, r1 int) {
		kernel.Gemm64(workers, false, false, 1, q.Slice(0, q.Rows, r0, r1), src.Slice(lo+r0, lo+r1, c0, c1), 0, dst.Slice(lo+roots, lo+k, c0, c1))
	}
	product(t.vt, t.wv, lo, mid+1, 0, a)
	product(t.vt, t.wv, mid+1, lo+m, b, k)
	for i := range deflated {
		copy(t.vt.Row(lo + k + i)[lo:lo+m], t.wv.Row(lo + k + i)[lo:lo+m])
	}
	if t.left {
		// u = (−1, dⱼ·zⱼ/(dⱼ²−ω²)) normalised, from v = zⱼ/(dⱼ²−ω²)/norm.
		for i := range q.Rows {
			row := q.Row(i)
			for p, j := range perm {
				row[p] *= kept[j].d
				if j == 0 {
					row[p] = -1 / norms[roots+i]
				}
			}
			kernel.Scale64(1/kernel.Nrm264(row), row)
		}
		product(t.ut, t.wu, lo, mid, 0, a)
		product(t.ut, t.wu, mid+1, lo+n, b, k)
		at := slices.Index(perm, 0)
		for i := range q.Rows {
			t.ut.Set(lo+roots+i, mid, q.At(i, at))
		}
		for i := range deflated {
			copy(t.ut.Row(lo + k + i)[lo:lo+n], t.wu.Row(lo + k + i)[lo:lo+n])
		}
	}
	for i, w := range omega {
		t.s[lo+i] = w / scale
	}
	for i, en := range deflated {
		t.s[lo+k+i] = en.d / scale
	}
}

// deflate tells the entries that the merge leaves as they are from those that
// it couples: a vanishing z decouples one; of two equal d, a rotation makes one
// z vanish. rest is sorted by d.
func (t *divider) deflate(first entry, rest []entry, nd node, tol float64) (kept, deflated []entry) {
	kept = append(make([]entry, 0, len(rest)+1), first)
	lo, m := nd.lo, nd.n+nd.extra
	prev := -1
	for j := range rest {
		en := &rest[j]
		if math.Abs(en.z) <= tol {
			deflated = append(deflated, *en)
			continue
		}
		if prev >= 0 {
			p := &rest[prev]
			if en.d-p.d <= tol {
				r := math.Hypot(en.z, p.z)
				c, s := en.z/r, -p.z/r
				en.z, p.z = r, 0
				rotate(t.vt.Row(p.row)[lo:lo+m], t.vt.Row(en.row)[lo:lo+m], c, s)
				if t.left {
					rotate(t.ut.Row(p.row)[lo:lo+nd.n], t.ut.Row(en.row)[lo:lo+nd.n], c, s)
				}
				if p.child != en.child {
					p.child, en.child = bothChildren, bothChildren
				}
				deflated = append(deflated, *p)
			} else {
				kept = append(kept, *p)
			}
		}
		prev = j
	}
	if prev >= 0 {
		kept = append(kept, rest[prev])
	}
	if len(kept) > 1 {
		kept[1].d = max(kept[1].d, tol/2)
	}
	return kept, deflated
}

// gather copies a node's vectors in the order in which the products want them,
// the deflated ones last.
func (t *divider) gather(nd node, kept []entry, perm []int, deflated []entry) {
	lo, m, mid := nd.lo, nd.n+nd.extra, nd.lo+nd.nl
	take := func(at int, en entry) {
		copy(t.wv.Row(at)[lo:lo+m], t.vt.Row(en.row)[lo:lo+m])
		if !t.left {
			return
		}
		if en.row == mid { // its left vector is the unit vector of row mid
			clear(t.wu.Row(at)[lo : lo+nd.n])
			return
		}
		copy(t.wu.Row(at)[lo:lo+nd.n], t.ut.Row(en.row)[lo:lo+nd.n])
	}
	for p, j := range perm {
		take(lo+p, kept[j])
	}
	for i, en := range deflated {
		take(lo+len(perm)+i, en)
	}
}

// secular solves the middle matrix: it returns the roots, ascending, and fills
// q with the right vectors of those from the given one on, as rows in the order
// of perm, and norms with what they were divided by. The vectors are those of
// a nearby matrix whose roots are exactly the computed ones, which is what
// makes them orthogonal (Gu and Eisenstat 1995).
func (t *divider) secular(workers int, nd node, kept []entry, perm []int, from int) (norms, omega []float64) {
	k := len(kept)
	norms, omega = make([]float64, k), make([]float64, k)
	q := t.q.Slice(nd.lo, nd.lo+k, nd.lo, nd.lo+k)
	if k == 1 {
		omega[0], norms[0] = math.Abs(kept[0].z), 1
		q.Set(0, 0, -math.Copysign(1, kept[0].z))
		return norms, omega
	}
	d, z := make([]float64, k), make([]float64, k)
	for i, en := range kept {
		d[i], z[i] = en.d, en.z
	}
	const chunk = 16
	chunks := (k + chunk - 1) / chunk
	parallel.For(workers, chunks, func(c int) {
		for i := c * chunk; i < min((c+1)*chunk, k); i++ {
			omega[i] = secularRoot(d, z, i, q.Row(i))
		}
	})
	zhat := make([]float64, k)
	for j := range zhat {
		zhat[j] = -q.At(k-1, j)
	}
	parallel.For(workers, chunks, func(c int) {
		j0, j1 := c*chunk, min((c+1)*chunk, k)
		for i := range k - 1 {
			row := q.Row(i)
			for j := j0; j < j1; j++ {
				p := d[i]
				if i >= j {
					p = d[i+1]
				}
				zhat[j] *= row[j] / ((d[j] - p) * (d[j] + p))
			}
		}
	})
	for j, v := range zhat {
		zhat[j] = math.Copysign(math.Sqrt(math.Abs(v)), z[j])
	}
	parallel.For(workers, chunks, func(c int) {
		v := make([]float64, k)
		for i := max(from, c*chunk); i < min((c+1)*chunk, k); i++ {
			row := q.Row(i)
			for j, diff := range row {
				v[j] = zhat[j] / diff
			}
			norms[i] = kernel.Nrm264(v)
			for p, j := range perm {
				row[p] = v[j] / norms[i]
			}
		}
	})
	return norms, omega
}

// pick sorts the root's values and returns the leading vectors.
func (t *divider) pick() (s []float64, ut, vt Matrix64) {
	order := make([]int, len(t.s))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(t.s[b], t.s[a]), cmp.Compare(b, a))
	})
	s = make([]float64, len(order))
	for i, o := range order {
		s[i] = math.Abs(t.s[o]) // 0 has no sign
	}
	vt = t.wv.Slice(0, t.keep, 0, t.wv.Cols)
	if t.left {
		ut = t.wu.Slice(0, t.keep, 0, t.wu.Cols)
	}
	for i, o := range order[:t.keep] {
		copy(vt.Row(i), t.vt.Row(o))
		if t.left {
			copy(ut.Row(i), t.ut.Row(o))
		}
	}
	return s, ut, vt
}
