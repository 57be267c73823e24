package analysis

import (
	"smelt/internal/kernel"
	"smelt/internal/parallel"
	"smelt/linalg"
)

// Factored is the leading part of one expert's delta, U·diag(S)·Vt, with at
// least as many triplets as the router's rank; all of it where Whole is set, as
// it is for a LoRA adapter.
type Factored struct {
	Expert int
	linalg.SVD
	Whole bool
}

// Frames are the singular vectors of the experts that touched a layer, with
// their inner products: whatever compares their subspaces is read from these.
type Frames struct {
	experts []Factored
	at      []int           // first row of each expert
	vt      linalg.Matrix   // [ΣR, n]
	u, v    linalg.Matrix64 // [ΣR, ΣR]: inner products of left and of right vectors
}

// NewFrames stacks the factors of one layer.
func NewFrames(experts []Factored, m, n, workers int) *Frames {
	f := &Frames{experts: experts}
	rows := 0
	for _, x := range experts {
		f.at = append(f.at, rows)
		rows += len(x.S)
	}
	f.vt = kernel.New(rows, n)
	left := kernel.New64(rows, m)
	for k, x := range experts {
		for r := range x.S {
			copy(f.vt.Row(f.at[k]+r), x.Vt.Row(r))
			to := left.Row(f.at[k] + r)
			for i := range m {
				to[i] = float64(x.U.At(i, r))
			}
		}
	}
	f.u = kernel.New64(rows, rows)
	kernel.Syrk64(workers, false, 1, left, 0, f.u)
	right := kernel.New64(rows, n)
	for i := range rows {
		kernel.F32ToF64(right.Row(i), f.vt.Row(i))
	}
	f.v = kernel.New64(rows, rows)
	kernel.Syrk64(workers, false, 1, right, 0, f.v)
	return f
}

// Inner gives c the inner products of deltas that are whole:
// Σ σₐ·σ_b·(UᵢᵀUⱼ)ₐ_b·(VᵢᵀVⱼ)ₐ_b.
func (f *Frames) Inner(c *Inner) {
	for k, a := range f.experts {
		for l, b := range f.experts[:k+1] {
			if !a.Whole || !b.Whole {
				continue
			}
			sum := 0.0
			for i, s := range a.S {
				u, v := f.u.Row(f.at[k] + i)[f.at[l]:], f.v.Row(f.at[k] + i)[f.at[l]:]
				for j, t := range b.S {
					sum += s * t * u[j] * v[j]
				}
			}
			c.Set(a.Expert, b.Expert, sum)
		}
	}
}

// overlap compares the spans of the leading g vectors of the k-th and the l-th
// expert of the frames: the mean squared cosine of the principal angles and the
// largest cosine.
func (f *Frames) overlap(gram linalg.Matrix64, k, l, g int) (mean, largest float64, err error) {
	d, err := linalg.Exact64(gram.Slice(f.at[k], f.at[k]+g, f.at[l], f.at[l]+g), 1)
	if err != nil || g == 0 {
		return 0, 0, err
	}
	return min(1, d.Energy/float64(g)), min(1, d.S[0]), nil
}

// Pairs fills the figures of the pairs of e experts: cosines and signs from c,
// overlaps of the leading g directions from the frames.
func (f *Frames) Pairs(c *Inner, e, g, workers int) ([]*LayerPair, error) {
	out := make([]*LayerPair, Pairs(e))
	errs := make([]error, len(f.experts))
	parallel.For(workers, len(f.experts), func(k int) {
		for l := k + 1; l < len(f.experts); l++ {
			i, j := f.experts[k].Expert, f.experts[l].Expert
			cosine, conflict, changed := c.figures(i, j)
			p := &LayerPair{Cosine: float64(cosine), SignConflict: conflict, SignChanged: float64(changed)}
			var err error
			if p.LeftOverlap, p.LeftCosine, err = f.overlap(f.u, k, l, g); err != nil {
				errs[k] = err
				return
			}
			if p.RightOverlap, p.RightCosine, err = f.overlap(f.v, k, l, g); err != nil {
				errs[k] = err
				return
			}
			out[PairIndex(e, i, j)] = p
		}
	})
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}
