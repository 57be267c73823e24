package analysis

import (
	"math"

	"smelt/internal/kernel"
	"smelt/linalg"
)

// Subspaces are the singular subspaces of a weight of the base, W0 = U·Σ·Vᵀ:
// those of both sides, or of the shorter side alone with the weight itself,
// from which the other side follows, v = W0ᵀ·u/σ.
type Subspaces struct {
	Out, In int
	Energy  float64   // ‖W0‖²
	Sigma   []float64 // [p]
	Half    int       // r_half: directions of zone I
	Rank    int       // numerical: directions of zones I and II

	u     linalg.Matrix // [m, p]; empty with short
	vt    linalg.Matrix // [p, n]; empty with short
	short linalg.Matrix // [p, p]: the singular vectors of the shorter side as rows
	w     linalg.Matrix // [m, n]: with short
}

// exactBase is the largest p up to which a base's weight is decomposed in
// float64 throughout; beyond it the Gram matrix of the shorter side is, whose
// singular values are exact to gramNoise·σ₁.
const (
	exactBase = 1024
	gramNoise = 1e-6
)

// NewSubspaces decomposes w [m,n], which is only read, on both sides.
func NewSubspaces(w linalg.Matrix, workers int) (*Subspaces, error) {
	p := min(w.Rows, w.Cols)
	eps := linalg.EpsF64
	var d linalg.SVD
	var err error
	if p <= exactBase {
		d, err = linalg.Exact(w, workers)
	} else {
		d, err = linalg.Truncate(w, linalg.Options{Rank: p, Workers: workers})
		eps = gramNoise / float64(max(w.Rows, w.Cols))
	}
	if err != nil {
		return nil, err
	}
	s := &Subspaces{Out: w.Rows, In: w.Cols, Energy: d.Energy, Sigma: d.S, u: d.U, vt: d.Vt}
	s.cut(eps)
	return s, nil
}

// zonesOnly decomposes w [m,n], which must stay as it is, as far as [Subspaces.Zones]
// wants: large ones on the shorter side only.
func zonesOnly(w linalg.Matrix, workers int) (*Subspaces, error) {
	if min(w.Rows, w.Cols) <= exactBase {
		return NewSubspaces(w, workers)
	}
	return shortSide(w, workers)
}

func shortSide(w linalg.Matrix, workers int) (*Subspaces, error) {
	short, sigma, energy, err := linalg.ShortSide(w, workers)
	if err != nil {
		return nil, err
	}
	s := &Subspaces{Out: w.Rows, In: w.Cols, Energy: energy, Sigma: sigma, short: short, w: w}
	s.cut(gramNoise / float64(max(w.Rows, w.Cols)))
	return s, nil
}

// cut finds where the zones end, for singular values known to the precision eps.
func (s *Subspaces) cut(eps float64) {
	s.Rank = linalg.NumericalRank(s.Sigma, s.Out, s.In, eps)
	s.Half = halfRank(s.Sigma)
}

// Memory bounds the bytes that the zones of a base's weight [m,n] and of a dense
// delta take beyond the two; or, with both, its [NewSubspaces].
func Memory(m, n int, both bool) int64 {
	p, q := int64(min(m, n)), int64(max(m, n))
	switch {
	case p <= exactBase:
		return 4*p*(p+q) + 8*4*p*(p+q)
	case both:
		return 4*p*(p+q) + linalg.WorkingBytes(m, n, linalg.Options{Rank: int(p)})
	}
	return 4*p*p + linalg.GramBytes(m, n) + 4*panel*(p+q)
}

// halfRank is the first rank at which the sum of singular values reaches half of
// all: 0 where there is nothing to sum.
func halfRank(s []float64) int {
	total := 0.0
	for _, v := range s {
		total += v
	}
	sum := 0.0
	for i, v := range s {
		if sum += v; sum >= total/2 && total > 0 {
			return i + 1
		}
	}
	return 0
}

// zone of a direction, counted from 0; directions from p on are the null space's.
func (s *Subspaces) zone(i int) int {
	switch {
	case i < s.Half:
		return 0
	case i < s.Rank:
		return 1
	}
	return 2
}

// panel is how many rows (or columns) of a delta are carried into the base's
// directions at a time.
const panel = 1024

// Zones splits the energy of a dense delta [m,n] by the subspaces: products in
// float32, sums of squares in float64.
func (s *Subspaces) Zones(d linalg.Matrix, workers int) (Zones, error) {
	if s.Rank == 0 {
		return s.shares([3][3]float64{2: {2: 1}}), nil
	}
	total := 0.0
	for i := range d.Rows {
		total += kernel.SumSquares(d.Row(i))
	}
	if s.short.Rows > 0 && !(ordinary(s.Energy) && ordinary(total)) {
		both, err := NewSubspaces(s.w, workers) // Δ·W0ᵀ is no float32
		if err != nil {
			return Zones{}, err
		}
		s = both
	}
	p := len(s.Sigma)
	core := kernel.New(p, p) // Δ between the singular vectors: the shorter side's as rows, the longer side's as columns
	var whole [3]float64     // by zone of the shorter side: energy on the whole of the longer one
	switch tall := s.Out > s.In; {
	case s.short.Rows > 0:
		x := kernel.New(p, p) // Δ·W0ᵀ, on the shorter side
		if tall {
			kernel.Gemm(workers, true, false, 1, d, s.w, 0, x)
		} else {
			kernel.Gemm(workers, false, true, 1, d, s.w, 0, x)
		}
		half := kernel.New(p, p)
		kernel.Gemm(workers, false, false, 1, s.short, x, 0, half)
		kernel.Gemm(workers, false, true, 1, half, s.short, 0, core)
		for i := range p {
			row := core.Row(i)
			for j := range row[:s.Rank] {
				row[j] = float32(float64(row[j]) / s.Sigma[j])
			}
		}
		whole[0] = s.energy(d, 0, s.Half, workers)
		whole[2] = s.energy(d, max(s.Half, s.Rank), p, workers)
		whole[1] = math.Max(0, total-whole[0]-whole[2])
	case tall:
		for lo := 0; lo < s.Out; lo += panel {
			hi := min(s.Out, lo+panel)
			x := kernel.New(p, hi-lo) // Vᵀ·Δᵀ
			kernel.Gemm(workers, false, true, 1, s.vt, d.Slice(lo, hi, 0, s.In), 0, x)
			kernel.Gemm(workers, false, false, 1, x, s.u.Slice(lo, hi, 0, p), 1, core)
			for i := range p {
				whole[s.zone(i)] += kernel.SumSquares(x.Row(i))
			}
		}
	default:
		for lo := 0; lo < s.In; lo += panel {
			hi := min(s.In, lo+panel)
			x := kernel.New(p, hi-lo) // Uᵀ·Δ
			kernel.Gemm(workers, true, false, 1, s.u, d.Slice(0, s.Out, lo, hi), 0, x)
			kernel.Gemm(workers, false, true, 1, x, s.vt.Slice(0, p, lo, hi), 1, core)
			for i := range p {
				whole[s.zone(i)] += kernel.SumSquares(x.Row(i))
			}
		}
	}
	return s.shares(s.blocks(core, whole)), nil
}

// ordinary says that products of elements of two matrices of such energies stay
// within float32.
func ordinary(energy float64) bool { return energy == 0 || energy > 0x1p-80 && energy < 0x1p80 }

// energy of a delta in directions lo to hi of the shorter side.
func (s *Subspaces) energy(d linalg.Matrix, lo, hi, workers int) (sum float64) {
	if lo >= hi {
		return 0
	}
	q := s.short.Slice(lo, hi, 0, s.short.Cols)
	for at := 0; at < max(s.Out, s.In); at += panel {
		end := min(at+panel, max(s.Out, s.In))
		x := kernel.New(hi-lo, end-at)
		if s.Out > s.In {
			kernel.Gemm(workers, false, true, 1, q, d.Slice(at, end, 0, s.In), 0, x)
		} else {
			kernel.Gemm(workers, false, false, 1, q, d.Slice(0, s.Out, at, end), 0, x)
		}
		sum += kernel.SumSquares(x.Data)
	}
	return sum
}

// blocks are the energies of the nine blocks from a delta between the singular
// vectors. What the longer side has outside W0's columns (or rows) is the null
// space's; a square weight of full rank has none, and what is not in zone I is
// in zone II.
func (s *Subspaces) blocks(core linalg.Matrix, whole [3]float64) (b [3][3]float64) {
	square := s.Out == s.In && s.Rank == s.Out
	var c [3][3]float64
	for i := range core.Rows {
		row := core.Row(i)
		c[s.zone(i)][0] += kernel.SumSquares(row[:s.Half])
		c[s.zone(i)][1] += kernel.SumSquares(row[s.Half:max(s.Half, s.Rank)])
	}
	for z := range 3 {
		if c[z][2] = math.Max(0, whole[z]-c[z][0]-c[z][1]); square {
			c[z][1], c[z][2] = math.Max(0, whole[z]-c[z][0]), 0
		}
	}
	if s.Out <= s.In {
		return c
	}
	for y := range 3 {
		for z := range 3 {
			b[z][y] = c[y][z]
		}
	}
	return b
}

// between is what vectors of the outputs (rows of length m), or of the inputs, are
// in the base's directions of that side: [p, r].
func (s *Subspaces) between(outputs bool, x linalg.Matrix, workers int) linalg.Matrix {
	p := len(s.Sigma)
	c := kernel.New(p, x.Rows)
	switch {
	case s.short.Rows == 0 && outputs:
		kernel.Gemm(workers, true, true, 1, s.u, x, 0, c)
	case s.short.Rows == 0:
		kernel.Gemm(workers, false, true, 1, s.vt, x, 0, c)
	case outputs == (s.Out <= s.In): // the shorter side
		kernel.Gemm(workers, false, true, 1, s.short, x, 0, c)
	default:
		y := kernel.New(p, x.Rows)
		kernel.Gemm(workers, outputs, true, 1, s.w, x, 0, y)
		kernel.Gemm(workers, false, false, 1, s.short, y, 0, c)
		for i := range p {
			row := c.Row(i)
			if i >= s.Rank {
				clear(row)
				continue
			}
			for j := range row {
				row[j] = float32(float64(row[j]) / s.Sigma[i])
			}
		}
	}
	return c
}

// ZonesOfFactors is [Subspaces.Zones] of a delta U·diag(S)·Vt of low rank, which
// is never formed.
func (s *Subspaces) ZonesOfFactors(d linalg.SVD, workers int) (Zones, error) {
	r, p := len(d.S), len(s.Sigma)
	if s.Rank == 0 {
		return s.shares([3][3]float64{2: {2: 1}}), nil
	}
	if s.short.Rows > 0 && !ordinary(s.Energy) {
		both, err := NewSubspaces(s.w, workers)
		if err != nil {
			return Zones{}, err
		}
		s = both
	}
	ut := kernel.New(r, s.Out)
	for i := range s.Out {
		for j, v := range d.U.Row(i) {
			ut.Set(j, i, v)
		}
	}
	square := s.Out == s.In && s.Rank == s.Out
	gram := func(x linalg.Matrix, whole bool) (g [3]linalg.Matrix64) {
		rest := kernel.New64(r, r)
		for i := range r {
			rest.Set(i, i, 1)
		}
		for z, cut := range [][2]int{{0, s.Half}, {s.Half, max(s.Half, s.Rank)}, {max(s.Half, s.Rank), p}} {
			g[z] = kernel.New64(r, r)
			if square && z > 0 {
				continue // what is not in zone I is in zone II
			}
			part := kernel.New64(cut[1]-cut[0], r)
			for i := range part.Rows {
				kernel.F32ToF64(part.Row(i), x.Row(cut[0]+i))
			}
			kernel.Gemm64(workers, true, false, 1, part, part, 0, g[z])
			kernel.Axpy64(-1, g[z].Data, rest.Data)
		}
		switch {
		case square:
			g[1] = rest
		case !whole:
			kernel.Axpy64(1, rest.Data, g[2].Data)
		}
		return g
	}
	g, h := gram(s.between(true, ut, workers), s.Out < s.In), gram(s.between(false, d.Vt, workers), s.In < s.Out)
	var b [3][3]float64
	for y := range 3 {
		for z := range 3 {
			sum := 0.0
			for i := range r {
				for j := range r {
					sum += d.S[i] * d.S[j] * g[y].At(i, j) * h[z].At(i, j)
				}
			}
			b[y][z] = math.Max(0, sum)
		}
	}
	return s.shares(b), nil
}

// shares makes Zones of the energies of the nine blocks.
func (s *Subspaces) shares(b [3][3]float64) Zones {
	z := zonesOf(b)
	mn := float64(s.Out) * float64(s.In)
	half, two := float64(s.Half), float64(max(0, s.Rank-s.Half))
	z.Even[0] = half * half / mn
	z.Even[1] = two * two / mn
	z.Even[2] = float64(s.Out-max(s.Half, s.Rank)) * float64(s.In-max(s.Half, s.Rank)) / mn
	z.Even[3] = (float64(s.Out) - half) * (float64(s.In) - half) / mn
	z.Even[4] = 1 - z.Even[0] - z.Even[3]
	return z
}

// zonesOf normalises the energies of the nine blocks; all of them zero give
// zeros.
func zonesOf(b [3][3]float64) (z Zones) {
	total := 0.0
	for _, row := range b {
		for _, v := range row {
			total += v
		}
	}
	if total == 0 {
		return z
	}
	for i := range 3 {
		for j := range 3 {
			v := b[i][j] / total
			z.Blocks[i][j] = v
			z.Left[i] += v
			z.Right[j] += v
		}
	}
	b = z.Blocks
	z.I, z.II, z.III = b[0][0], b[1][1], b[2][2]
	z.IIIII = b[1][1] + b[1][2] + b[2][1] + b[2][2]
	z.Cross = b[0][1] + b[0][2] + b[1][0] + b[2][0]
	return z
}

// Project returns the part of a dense delta that lies in a zone on both sides:
// U_z·U_zᵀ·Δ·V_z·V_zᵀ.
func (s *Subspaces) Project(d linalg.Matrix, zone Zone, workers int) linalg.Matrix {
	lo, hi := 0, s.Half
	if zone == ZoneII {
		lo, hi = s.Half, max(s.Half, s.Rank)
	}
	out := kernel.New(s.Out, s.In)
	if zone == ZoneIIIII {
		// (I − U₁U₁ᵀ)·Δ·(I − V₁V₁ᵀ)
		for i := range d.Rows {
			copy(out.Row(i), d.Row(i))
		}
		u, vt := s.u.Slice(0, s.Out, 0, s.Half), s.vt.Slice(0, s.Half, 0, s.In)
		x := kernel.New(s.Half, s.In)
		kernel.Gemm(workers, true, false, 1, u, out, 0, x)
		kernel.Gemm(workers, false, false, -1, u, x, 1, out)
		y := kernel.New(s.Out, s.Half)
		kernel.Gemm(workers, false, true, 1, out, vt, 0, y)
		kernel.Gemm(workers, false, false, -1, y, vt, 1, out)
		return out
	}
	u, vt := s.u.Slice(0, s.Out, lo, hi), s.vt.Slice(lo, hi, 0, s.In)
	x := kernel.New(hi-lo, s.In)
	kernel.Gemm(workers, true, false, 1, u, d, 0, x)
	core := kernel.New(hi-lo, hi-lo)
	kernel.Gemm(workers, false, true, 1, x, vt, 0, core)
	y := kernel.New(s.Out, hi-lo)
	kernel.Gemm(workers, false, false, 1, u, core, 0, y)
	kernel.Gemm(workers, false, false, 1, y, vt, 0, out)
	return out
}

// Zone names what Project keeps.
type Zone string

// The zones of the paper's experiment.
const (
	ZoneI     Zone = "I"
	ZoneII    Zone = "II"
	ZoneIIIII Zone = "II+III"
)
