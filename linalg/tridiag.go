package linalg

import "smelt/internal/kernel"

// narrowPanel is the number of columns that are reduced between updates of a
// matrix that the nearest caches hold: what they cost each other grows with it.
const narrowPanel = 8

// tridiagonalise reduces the symmetric g [n,n], which it overwrites and of
// which it reads the upper triangle, to H·T·Hᵀ with T tridiagonal: diagonal d
// [n], off-diagonal e [n−1] (Dongarra, Sorensen and Hammarling 1989). Half of
// the work is one product with the trailing matrix per column, half a blocked
// update.
func tridiagonalise(ws *workspace, workers int, g Matrix64) (d, e []float64, h reflectors) {
	n := g.Rows
	d, e = make([]float64, n), make([]float64, max(n-1, 0))
	h = reflectors{vt: ws.zeros64(max(n-1, 0), n), tau: make([]float64, max(n-1, 0)), shift: 1}
	panel := panelWidth
	if n <= updateBand {
		panel = narrowPanel
	}
	// Reflectors and their companions of one panel, and the same swapped:
	// the trailing update is g −= [V;W]ᵀ·[W;V].
	vw, wv := ws.zeros64(2*panel, n), ws.zeros64(2*panel, n)
	coef, coef2 := make([]float64, panel), make([]float64, panel)
	for start := 0; start < n; start += panel {
		end := min(start+panel, n)
		width := end - start
		for i := start; i < end; i++ {
			k := i - start
			row := g.Row(i)[i:]
			if k > 0 {
				for l := range k {
					coef[l], coef2[l] = wv.At(l, i), vw.At(l, i)
				}
				subtractRows(vw.Slice(0, k, i, n), coef[:k], row)
				subtractRows(wv.Slice(0, k, i, n), coef2[:k], row)
			}
			d[i] = row[0]
			if i == n-1 {
				break
			}
			v := vw.Row(k)[i+1:]
			copy(v, row[1:])
			var tau float64
			e[i], tau = reflect(v)
			h.tau[i] = tau
			copy(h.vt.Row(i)[i+1:], v)
			w := wv.Row(k)[i+1:]
			if rest := g.Slice(i+1, n, i+1, n); n <= updateBand {
				kernel.Gemv64(1, false, 1, rest, v, 0, w) // both triangles are up to date
			} else {
				symv(workers, rest, v, w)
			}
			if k > 0 {
				vs, ws := vw.Slice(0, k, i+1, n), wv.Slice(0, k, i+1, n)
				gemv(1, ws, v, coef[:k])
				gemv(1, vs, v, coef2[:k])
				subtractRows(vs, coef[:k], w)
				subtractRows(ws, coef2[:k], w)
			}
			kernel.Scale64(tau, w)
			kernel.Axpy64(-tau/2*kernel.Dot64(w, v), v, w)
		}
		if end < n {
			for l := range width {
				copy(vw.Row(width + l)[end:], wv.Row(l)[end:])
				copy(wv.Row(width + l)[end:], vw.Row(l)[end:])
			}
			updateUpper(workers, vw.Slice(0, 2*width, end, n), wv.Slice(0, 2*width, end, n), g.Slice(end, n, end, n))
			clear(vw.Data)
			clear(wv.Data)
		}
	}
	return d, e, h
}
