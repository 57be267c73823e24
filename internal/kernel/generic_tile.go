package kernel

import "unsafe"

var generic = variant{
	name: "generic",
	f32:  genericEngine[float32](),
	f64:  genericEngine[float64](),

	vectors: genericVectors,
}

// genericEngine has tiles of up to 4 rows and 2 "vectors" of 4 columns.
func genericEngine[T float]() *engine[T] {
	e := &engine[T]{lanes: 4, mr: 4, direct: 4, nr: 8, across: 4, packers: genericPackers[T](4)}
	for nv := 1; nv <= 2; nv++ {
		e.tiles[nv] = make([]func(*tile), e.mr+1)
		for m := 1; m <= e.mr; m++ {
			e.tiles[nv][m] = func(t *tile) { genericTile[T](t, m, (nv-1)*4+t.lanes) }
		}
	}
	return e
}

// genericTile is the tile kernel in Go, two rows and four columns at a time.
func genericTile[T float](t *tile, m, n int) {
	var z T
	size := int(unsafe.Sizeof(z))
	aRow, aStep, bStep, cRow := t.aRow/size, t.aStep/size, t.bStep/size, t.cRow/size
	a := unsafe.Slice((*T)(t.a), (m-1)*aRow+(t.k-1)*aStep+1)
	b := unsafe.Slice((*T)(t.b), (t.k-1)*bStep+n)
	c := unsafe.Slice((*T)(t.c), (m-1)*cRow+n)
	alpha, beta := fromBits[T](t.alpha), fromBits[T](t.beta)
	for i := 0; i < m; i++ {
		row := a[i*aRow:]
		for j := 0; j < n; {
			var sum [4]T
			w := min(4, n-j)
			if w == 4 {
				var s0, s1, s2, s3 T
				for k := range t.k {
					v, r := row[k*aStep], b[k*bStep+j:]
					r = r[:4:4]
					s0 += v * r[0]
					s1 += v * r[1]
					s2 += v * r[2]
					s3 += v * r[3]
				}
				sum = [4]T{s0, s1, s2, s3}
			} else {
				for k := range t.k {
					v := row[k*aStep]
					for x, y := range b[k*bStep+j:][:w] {
						sum[x] += v * y
					}
				}
			}
			for x, s := range sum[:w] {
				d := &c[i*cRow+j+x]
				if t.beta == 0 {
					*d = alpha * s
				} else {
					*d = alpha*s + beta**d
				}
			}
			j += w
		}
	}
}
