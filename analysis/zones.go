package analysis

import (
	"math"

	"smelt/internal/kernel"
	"smelt/linalg"
)

// Subspaces are the singular subspaces of a weight of the base, W0 = U·Σ·Vᵀ.
type Subspaces struct {
	Out, In int
	Energy  float64   // ‖W0‖²
	Sigma   []float64 // [p]
	Half    int       // r_half: directions of zone I
	Rank    int       // numerical: directions of zones I and II

	u  linalg.Matrix // [m, p]
	vt linalg.Matrix // [p, n]
}

// exactBase is the largest p up to which a base's weight is decomposed in
// float64 throughout; beyond it the Gram matrix of the shorter side is, whose
// singular values are exact to gramNoise·σ₁.
const (
	exactBase = 1024
	gramNoise = 1e-6
)

// NewSubspaces decomposes w [m,n], which is only read.
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
	s.Rank = linalg.NumericalRank(d.S, w.Rows, w.Cols, eps)
	s.Half = halfRank(d.S)
	return s, nil
}

// Memory bounds the bytes that NewSubspaces and Zones of a dense delta take
// beyond the weight and the delta.
func Memory(m, n int) int64 {
	p, q := int64(min(m, n)), int64(max(m, n))
	factors := 4 * p * (p + q)
	if p <= exactBase {
		return factors + 8*4*p*(p+q)
	}
	return factors + linalg.WorkingBytes(m, n, linalg.Options{Rank: int(p)})
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
func (s *Subspaces) Zones(d linalg.Matrix, workers int) Zones {
	p := len(s.Sigma)
	if s.Rank == 0 {
		return s.shares([3][3]float64{2: {2: 1}})
	}
	core := kernel.New(p, p) // Uᵀ·Δ·V
	var sides [3]float64     // by zone: energy of Δ·V (or Uᵀ·Δ) on the whole of the longer side
	if s.Out >= s.In {
		for lo := 0; lo < s.Out; lo += panel {
			hi := min(s.Out, lo+panel)
			x := kernel.New(hi-lo, p) // Δ·V
			kernel.Gemm(workers, false, true, 1, d.Slice(lo, hi, 0, s.In), s.vt, 0, x)
			kernel.Gemm(workers, true, false, 1, s.u.Slice(lo, hi, 0, p), x, 1, core)
			for i := range x.Rows {
				row := x.Row(i)
				sides[0] += kernel.SumSquares(row[:s.Half])
				sides[1] += kernel.SumSquares(row[s.Half:max(s.Half, s.Rank)])
				sides[2] += kernel.SumSquares(row[max(s.Half, s.Rank):])
			}
		}
	} else {
		for lo := 0; lo < s.In; lo += panel {
			hi := min(s.In, lo+panel)
			x := kernel.New(p, hi-lo) // Uᵀ·Δ
			kernel.Gemm(workers, true, false, 1, s.u, d.Slice(0, s.Out, lo, hi), 0, x)
			kernel.Gemm(workers, false, true, 1, x, s.vt.Slice(0, p, lo, hi), 1, core)
			for i := range x.Rows {
				sides[s.zone(i)] += kernel.SumSquares(x.Row(i))
			}
		}
	}
	var b [3][3]float64
	for i := range p {
		row := core.Row(i)
		for z, cut := range [][2]int{{0, s.Half}, {s.Half, max(s.Half, s.Rank)}, {max(s.Half, s.Rank), p}} {
			b[s.zone(i)][z] += kernel.SumSquares(row[cut[0]:cut[1]])
		}
	}
	// What lies on the longer side outside W0's columns (or rows) is the null
	// space's.
	for z := range 3 {
		switch {
		case s.Out > s.In:
			b[2][z] += math.Max(0, sides[z]-b[0][z]-b[1][z]-b[2][z])
		case s.Out < s.In:
			b[z][2] += math.Max(0, sides[z]-b[z][0]-b[z][1]-b[z][2])
		}
	}
	return s.shares(b)
}

// ZonesOfFactors is [Subspaces.Zones] of a delta U·diag(S)·Vt of low rank, which
// is never formed.
func (s *Subspaces) ZonesOfFactors(d linalg.SVD, workers int) Zones {
	r, p := len(d.S), len(s.Sigma)
	if s.Rank == 0 {
		return s.shares([3][3]float64{2: {2: 1}})
	}
	left := kernel.New(p, r) // U0ᵀ·U
	kernel.Gemm(workers, true, false, 1, s.u, d.U, 0, left)
	right := kernel.New(p, r) // V0ᵀ·V
	kernel.Gemm(workers, false, true, 1, s.vt, d.Vt, 0, right)
	gram := func(x linalg.Matrix, whole bool) (g [3]linalg.Matrix64) {
		rest := kernel.New64(r, r)
		for i := range r {
			rest.Set(i, i, 1)
		}
		for z, cut := range [][2]int{{0, s.Half}, {s.Half, max(s.Half, s.Rank)}, {max(s.Half, s.Rank), p}} {
			g[z] = kernel.New64(r, r)
			part := kernel.New64(cut[1]-cut[0], r)
			for i := range part.Rows {
				kernel.F32ToF64(part.Row(i), x.Row(cut[0]+i))
			}
			kernel.Gemm64(workers, true, false, 1, part, part, 0, g[z])
			kernel.Axpy64(-1, g[z].Data, rest.Data)
		}
		if !whole {
			kernel.Axpy64(1, rest.Data, g[2].Data)
		}
		return g
	}
	g, h := gram(left, s.Out <= s.In), gram(right, s.In <= s.Out)
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
	return s.shares(b)
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
