package kernel

import (
	"math/bits"
	"unsafe"

	"smelt/internal/parallel"
)

// strip is a run of columns whose panels of the right operand are packed
// together, and how the product's rows and its panels are shared out.
type strip struct {
	j0, n, panels    int
	rowParts, rowLen int
	colParts, colLen int
}

// run computes the product strip by strip.
func (p *product[T]) run(workers int) {
	nLen := p.n
	if !p.once {
		_, nLen = blocks(p.n, max(p.nr, packR/(p.k*elemSize[T]())/p.nr*p.nr), p.nr)
	}
	p.arrange((nLen + p.nr - 1) / p.nr)
	var strips []strip
	var counts []int
	for j := 0; j < p.n; j += nLen {
		c := p.strip(parallel.Workers(workers), j, min(nLen, p.n-j))
		if p.once {
			counts = append(counts, 0)
		} else {
			counts = append(counts, c.panels)
		}
		strips, counts = append(strips, c), append(counts, c.rowParts*c.colParts)
	}
	var packed []T
	if !p.once {
		buf := buffer[T](&p.engine.right, strips[0].panels*p.nr*p.k)
		defer p.engine.right.Put(buf)
		packed = *buf
	}
	parallel.Stages(workers, func(stage, t int) {
		c := strips[stage/2]
		if stage%2 == 0 {
			col := t * p.nr
			for k := 0; k < p.k; k += p.kLen {
				kn := min(p.kLen, p.k-k)
				p.packRight(packed[(k*c.panels+t*kn)*p.nr:], k, kn, c.j0+col, min(p.nr, c.n-col))
			}
			return
		}
		i, j := t/c.colParts*c.rowLen, t%c.colParts*c.colLen
		p.block(packed, c.panels, i, min(c.rowLen, p.m-i), c.j0, j, min(c.colLen, c.panels-j), c.n)
	}, counts...)
}

// arrange decides how the left operand is read, beside so many panels.
func (p *product[T]) arrange(panels int) {
	p.pack = p.left.trans || p.left.kind != native || panels > fewCols
	p.sub = blockM
	if !p.pack && panels > 1 {
		p.sub = p.conflictFree()
		if p.once && p.sub < p.m {
			p.pack, p.sub = true, blockM
		}
	}
}

// strip shares out the columns [j0, j0+n): as many tasks for each of w workers,
// and several, to even out their speeds.
func (p *product[T]) strip(w, j0, n int) strip {
	panels := (n + p.nr - 1) / p.nr
	c := strip{j0: j0, n: n, panels: panels, rowParts: 1, rowLen: p.m, colParts: 1, colLen: panels}
	most, unit := p.m, 1
	if w > 1 && !p.once {
		most = max(4*p.mr, min(p.sub, (p.m+8*w-1)/(8*w)))
		each := (p.m + w*most - 1) / (w * most)
		most = max(p.mr, (p.m+w*each-1)/(w*each))
	}
	if p.flip {
		most, unit = min(most, flipRows), p.lanes
	}
	c.rowParts, c.rowLen = blocks(p.m, most, unit)
	if w > 1 && c.rowParts < 2*w {
		c.colParts, c.colLen = blocks(panels, max(1, panels*c.rowParts/(4*w)), 1)
	}
	if p.flip {
		c.colParts, c.colLen = blocks(panels, max(1, min(c.colLen, flipSums/c.rowLen/p.nr)), 1)
	}
	return c
}

// conflictFree returns how many rows of the left operand, read where they lie,
// stay together in a second-level cache of 16 ways of 64 KiB.
func (p *product[T]) conflictFree() int {
	const way = 1 << 16
	groups := way / max(1<<bits.TrailingZeros(uint(p.left.stride|way)), p.kLen*p.left.size)
	return min(2*blockM, max(p.direct, 12*max(1, groups)/p.direct*p.direct))
}

// block computes rows [i0, i0+m) of the product, and of the columns [j0, j0+n)
// the panels [first, first+count).
func (p *product[T]) block(packed []T, panels, i0, m, j0, first, count, n int) {
	size := elemSize[T]()
	_, sub := blocks(m, p.sub, 1)
	b := blockOf[T]{product: p, packed: packed, first: first, count: count, j0: j0, n: n}
	if p.pack {
		buf := buffer[T](&p.engine.left, (sub+p.mr)*(p.kLen+padPanel))
		defer p.engine.left.Put(buf)
		b.left = *buf
	}
	if p.once {
		buf := buffer[T](&p.panels, p.kLen*p.nr)
		defer p.panels.Put(buf)
		b.packed = *buf
	}
	beta := p.beta
	if p.flip {
		buf := buffer[T](&p.sums, m*count*p.nr)
		defer p.sums.Put(buf)
		b.c, b.cStride, beta = *buf, count*p.nr, 0
	} else {
		b.c, b.cStride = p.c[i0*p.cStride+j0+first*p.nr:], p.cStride
	}
	t := tileArgs.Get().(*tile)
	defer func() {
		*t = tile{}
		tileArgs.Put(t)
	}()
	*t = tile{alpha: toBits(p.alpha), cRow: b.cStride * size}
	c := b.c
	for k := 0; k < p.k; k += p.kLen {
		t.k = min(p.kLen, p.k-k)
		t.beta = toBits(T(1))
		if k == 0 {
			t.beta = toBits(beta)
		}
		if !p.once {
			b.packed = packed[k*panels*p.nr:]
		}
		for s := 0; s < m; s += sub {
			b.c = c[s*b.cStride:]
			b.rows(t, i0+s, min(sub, m-s), k)
		}
	}
	if p.flip {
		p.unflip(c, b.cStride, i0, m, j0+first*p.nr, min(count*p.nr, n-first*p.nr))
	}
}

// blockOf is what a task works on: the panels [first, first+count) of the
// columns [j0, j0+n).
type blockOf[T float] struct {
	*product[T]
	left    []T // room for a packed block of the left operand
	packed  []T // panels of the right operand, of one block of k; room for one where they are packed once
	c       []T // the result, from the block's first row and column on
	cStride int

	first, count int
	j0, n        int
}

// rows adds the products of the block of k that starts at k to rows [i0, i0+m).
func (b *blockOf[T]) rows(t *tile, i0, m, k int) {
	p, kn, size := b.product, t.k, elemSize[T]()
	most := p.mr
	switch {
	case !p.pack:
		most = p.direct
	case p.left.trans:
		most = p.across
	}
	parts, height := blocks(m, most, 1)
	if p.pack {
		p.packLeft(b.left, height, i0, m, k, kn)
	}
	for j := range b.count {
		col := (b.first + j) * p.nr
		cols := min(p.nr, b.n-col)
		t.bStep = p.nr * size
		switch {
		case p.lies && cols%p.lanes == 0:
			t.b, t.bStep = p.right.at(k, b.j0+col), p.right.stride
		case p.once:
			p.packRight(b.packed, k, kn, b.j0+col, cols)
			t.b = unsafe.Pointer(&b.packed[0])
		default:
			t.b = unsafe.Pointer(&b.packed[(b.first+j)*kn*p.nr])
		}
		t.lanes, t.mask = (cols-1)%p.lanes+1, lastMask(cols, p.lanes)
		tiles := p.tiles[(cols+p.lanes-1)/p.lanes]
		for i := range parts {
			r := i * height
			h := min(height, m-r)
			switch {
			case !p.pack:
				next := r + height
				if next >= m {
					next = 0
				}
				t.aRow, t.aStep = p.left.stride, size
				t.a, t.next, t.nextStep = p.left.at(i0+r, k), p.left.at(i0+next, k), -1
				if next == 0 && j == b.count-1 && i0+m < p.m {
					t.next = p.left.at(i0+m, k)
				}
			case p.left.trans:
				t.aRow, t.aStep = size, height*size
				t.a = unsafe.Pointer(&b.left[r*kn])
				b.ahead(t, i, j, k)
			default:
				t.aRow, t.aStep = (kn+padPanel)*size, size
				t.a = unsafe.Pointer(&b.left[r*(kn+padPanel)])
				b.ahead(t, i, j, k)
			}
			t.c = unsafe.Pointer(&b.c[r*b.cStride+j*p.nr])
			tiles[h](t)
		}
	}
}

// ahead has the i-th tile on panel j prefetch the i-th quarter of what follows
// of the right operand.
func (b *blockOf[T]) ahead(t *tile, i, j, k int) {
	p, size := b.product, elemSize[T]()
	t.next, t.nextStep = t.c, 0
	if i >= 4 {
		return
	}
	j++
	if j == b.count {
		j = 0
	}
	row := i * (t.k / 4)
	switch {
	case !p.once:
		t.next, t.nextStep = unsafe.Pointer(&b.packed[((b.first+j)*t.k+row)*p.nr]), p.nr*size
	case j == 0:
	case !p.right.trans:
		t.next, t.nextStep = p.right.at(k+row, b.j0+(b.first+j)*p.nr), p.right.stride
	case p.right.stride == t.k*p.right.size && b.n-(b.first+j)*p.nr >= p.nr:
		t.next = unsafe.Add(p.right.at(k, b.j0+(b.first+j)*p.nr), row*p.nr*p.right.size)
		t.nextStep = p.nr * p.right.size
	}
}

// unflip adds the sums [m,n] to rows [j0, j0+n) and columns [i0, i0+m) of c.
func (p *product[T]) unflip(sums []T, stride, i0, m, j0, n int) {
	done := 0
	if p.beta == 0 {
		size := elemSize[T]()
		for ; done+p.lanes <= m; done += p.lanes {
			call(p.transpose[native], packing{
				dst: unsafe.Pointer(&p.c[j0*p.cStride+i0+done]), dstStride: p.cStride * size,
				src: unsafe.Pointer(&sums[done*stride]), srcStride: stride * size,
				rows: p.lanes, vecs: (n + p.lanes - 1) / p.lanes, mask: lastMask(n, p.lanes),
			})
		}
	}
	for j := range n {
		row := p.c[(j0+j)*p.cStride+i0:][:m]
		if p.beta == 0 {
			for i := done; i < m; i++ {
				row[i] = sums[i*stride+j]
			}
			continue
		}
		for i := range row {
			row[i] = sums[i*stride+j] + p.beta*row[i]
		}
	}
}
