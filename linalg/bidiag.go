package linalg

import "smelt/internal/kernel"

// bidiagonalise reduces the square a [n,n], which it overwrites, to
// H·B·Kᵀ with B upper bidiagonal: diagonal d [n], superdiagonal e [n−1]
// (Dongarra, Sorensen and Hammarling 1989).
func bidiagonalise(workers int, a Matrix64) (d, e []float64, left, right reflectors) {
	n := a.Rows
	d, e = make([]float64, n), make([]float64, max(n-1, 0))
	left = reflectors{vt: kernel.New64(n, n), tau: make([]float64, n)}
	right = reflectors{vt: kernel.New64(max(n-1, 0), n), tau: make([]float64, max(n-1, 0)), shift: 1}
	// The panel's update is a −= [V;X]ᵀ·[Y;U]: V and U are its left and right
	// reflectors, Y and X their companions, interleaved as they arise.
	vx, yu := kernel.New64(2*panelWidth, n), kernel.New64(2*panelWidth, n)
	coef := make([]float64, 2*panelWidth)
	for start := 0; start < n; start += panelWidth {
		end := min(start+panelWidth, n)
		for i := start; i < end; i++ {
			k := 2 * (i - start)
			// Column i, brought up to date, gives the left reflector.
			v := vx.Row(k)[i:]
			for r := range v {
				v[r] = a.Data[(i+r)*a.Stride+i]
			}
			if k > 0 {
				for l := range k {
					coef[l] = yu.At(l, i)
				}
				subtractRows(vx.Slice(0, k, i, n), coef[:k], v)
			}
			d[i], left.tau[i] = reflect(v)
			copy(left.vt.Row(i)[i:], v)
			if i == n-1 {
				break
			}
			// y = τ·(Aᵀ·v − [Y;U]ᵀ·[V;X]·v)
			y := yu.Row(k)[i+1:]
			gemvTrans(workers, a.Slice(i, n, i+1, n), v, y)
			if k > 0 {
				gemv(1, vx.Slice(0, k, i, n), v, coef[:k])
				subtractRows(yu.Slice(0, k, i+1, n), coef[:k], y)
			}
			kernel.Scale64(left.tau[i], y)
			// Row i, brought up to date, gives the right reflector.
			u := yu.Row(k + 1)[i+1:]
			copy(u, a.Row(i)[i+1:])
			for l := range k + 1 {
				coef[l] = vx.At(l, i)
			}
			subtractRows(yu.Slice(0, k+1, i+1, n), coef[:k+1], u)
			e[i], right.tau[i] = reflect(u)
			copy(right.vt.Row(i)[i+1:], u)
			// x = τ·(A·u − [V;X]ᵀ·[Y;U]·u)
			x := vx.Row(k + 1)[i+1:]
			gemv(workers, a.Slice(i+1, n, i+1, n), u, x)
			gemv(1, yu.Slice(0, k+1, i+1, n), u, coef[:k+1])
			subtractRows(vx.Slice(0, k+1, i+1, n), coef[:k+1], x)
			kernel.Scale64(right.tau[i], x)
		}
		if end < n {
			k := 2 * (end - start)
			kernel.Gemm64(workers, true, false, -1, vx.Slice(0, k, end, n), yu.Slice(0, k, end, n), 1, a.Slice(end, n, end, n))
			clear(vx.Data)
			clear(yu.Data)
		}
	}
	return d, e, left, right
}
