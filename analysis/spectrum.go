package analysis

import (
	"math"

	"smelt/linalg"
	"smelt/smile"
)

// Grid returns the ranks at which spectra of a layer with p singular values are
// given: every one up to 8, four to the octave beyond, and p.
func Grid(p int) []int {
	var ranks []int
	for r, step := 1, 1; r < p; r += step {
		ranks = append(ranks, r)
		if r >= 8 && r&(r-1) == 0 {
			step = r / 4
		}
	}
	if p > 0 {
		ranks = append(ranks, p)
	}
	return ranks
}

// EffectiveRank is exp of the entropy of σ/Σσ (Roy and Vetterli, 2007): n for n
// equal values. Zeros do not count.
func EffectiveRank(sigma []float64) float64 {
	total := 0.0
	for _, v := range sigma {
		total += v
	}
	if total == 0 {
		return 0
	}
	h := 0.0
	for _, v := range sigma {
		if v > 0 {
			h -= v / total * math.Log(v/total)
		}
	}
	return math.Exp(h)
}

// Describe fills the figures of d that follow from its spectrum, for a layer of
// p singular values. The spectrum's values must stop at the numerical rank.
// Where it is not complete the energy that is missing is taken to sit in as few
// further values as it can, each as large as the last known: what follows from
// it is a lower bound of every rank, and no more than an estimate from below of
// the effective rank.
func (d *Delta) Describe(s smile.Spectrum, p int) {
	d.Energy, d.Complete, d.NumericalRank = s.Energy, s.Complete, len(s.Sigma)
	for _, r := range Grid(p) {
		if !s.Complete && r > len(s.Sigma) {
			break
		}
		v := 0.0
		if r <= len(s.Sigma) {
			v = s.Sigma[r-1]
		}
		d.Sigma = append(d.Sigma, v)
		share := 1.0
		if !s.Complete || r < len(s.Sigma) {
			share = s.Captured(smile.Rank(r)) / s.Energy
		}
		d.Cumulative = append(d.Cumulative, share)
	}
	sigma := s.Sigma
	if last := len(sigma) - 1; !s.Complete && last >= 0 {
		beyond := s.Energy - s.Captured(smile.Rank(len(sigma)))
		for v := sigma[last]; beyond > 0 && v > 0 && len(sigma) < p; beyond -= v * v {
			sigma = append(sigma[:len(sigma):len(sigma)], math.Sqrt(min(beyond, v*v)))
		}
	}
	d.EffectiveRank = EffectiveRank(sigma)
	if len(sigma) > 0 {
		d.StableRank = s.Energy / (sigma[0] * sigma[0])
	}
	full := smile.Spectrum{Sigma: sigma, Energy: s.Energy, Complete: true}
	d.Rank90, _ = full.RankForEnergy(0.90)
	d.Rank95, _ = full.RankForEnergy(0.95)
	d.Rank99, _ = full.RankForEnergy(0.99)
}

// describe is what a base's weight looks like.
func (s *Subspaces) describe(ranks []int) BaseLayer {
	b := BaseLayer{Energy: s.Energy, HalfRank: s.Half, Rank: s.Rank, EffectiveRank: EffectiveRank(s.Sigma)}
	for _, r := range ranks {
		b.Sigma = append(b.Sigma, s.Sigma[r-1])
	}
	return b
}

// SpectrumOf cuts singular values at the numerical rank that the precision eps
// of the delta's elements allows in a layer [m,n]. whole says that sigma holds
// all that there are.
func SpectrumOf(sigma []float64, energy float64, m, n int, eps float64, whole bool) smile.Spectrum {
	k := linalg.NumericalRank(sigma, m, n, eps)
	return smile.Spectrum{Sigma: sigma[:k], Energy: energy, Complete: whole || k < len(sigma)}
}
