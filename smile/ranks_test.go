package smile_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"smelt/smile"
)

// candidates makes deltas of random spectra.
func candidates(r *rand.Rand, n int) []smile.Candidate {
	cs := make([]smile.Candidate, n)
	for i := range cs {
		in, out := 4+r.IntN(5), 4+r.IntN(5)
		g := 1 + r.IntN(3)
		sigma := make([]float64, min(in, out))
		energy := 0.0
		for k := range sigma {
			sigma[k] = r.Float64()
			energy += sigma[k] * sigma[k]
		}
		slices.Sort(sigma)
		slices.Reverse(sigma)
		cs[i] = smile.Candidate{
			In: in, Out: out, RouterRank: g, Expert: i,
			Spectrum: smile.Spectrum{Sigma: sigma, Energy: energy, Complete: true}, Total: energy * (1 + r.Float64()),
		}
	}
	return cs
}

func cost(c smile.Candidate, r smile.Rank) int64 {
	if r == smile.Dense {
		return int64(c.In * c.Out)
	}
	return int64(int(r)*c.Out + max(int(r)-c.RouterRank, 0)*c.In)
}

func value(cs []smile.Candidate, ranks []smile.Rank) (v float64, spent int64) {
	for i, c := range cs {
		v += c.Captured(ranks[i]) / c.Total
		spent += cost(c, ranks[i])
	}
	return v, spent
}

// TestAllocate compares the water-filling with all choices of ranks: it is
// never over the budget, never worse than the best uniform rank, and behind the
// best choice by less than the one triplet that did not fit.
func TestAllocate(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 60 {
		cs := candidates(r, 3)
		budget := int64(r.IntN(120))
		a, err := smile.Allocate(cs, budget)
		if err != nil {
			t.Fatal(err)
		}
		got, spent := value(cs, a.Ranks)
		if spent != a.Used || spent > budget {
			t.Fatalf("spent %d, says %d, of %d", spent, a.Used, budget)
		}
		best := 0.0
		var try func(i int, ranks []smile.Rank)
		try = func(i int, ranks []smile.Rank) {
			if i == len(cs) {
				if v, s := value(cs, ranks); s <= budget {
					best = math.Max(best, v)
				}
				return
			}
			for k := smile.Dense; int(k) <= len(cs[i].Sigma); k++ {
				if k != smile.Untouched {
					try(i+1, append(ranks, k))
				}
			}
		}
		try(0, nil)
		step := 0.0
		for _, c := range cs {
			step = math.Max(step, c.Sigma[0]*c.Sigma[0]/c.Total)
		}
		if got < best-step-1e-12 {
			t.Errorf("budget %d: value %.4f, the best is %.4f", budget, got, best)
		}
		uniform := 0.0
		for k := range smile.Rank(9) {
			ranks := []smile.Rank{k, k, k}
			for i := range ranks {
				ranks[i] = min(k, smile.Rank(len(cs[i].Sigma)))
			}
			if v, s := value(cs, ranks); s <= budget {
				uniform = math.Max(uniform, v)
			}
		}
		if got < uniform-step/2 {
			t.Errorf("budget %d: value %.4f, a uniform rank gives %.4f", budget, got, uniform)
		}
	}
}

// TestAllocateShort: known singular values that run out are reported.
func TestAllocateShort(t *testing.T) {
	c := smile.Candidate{In: 100, Out: 100, RouterRank: 1, Total: 10, Spectrum: smile.Spectrum{Sigma: []float64{2, 1}, Energy: 10}}
	a, err := smile.Allocate([]smile.Candidate{c}, 5000)
	if err != nil || !slices.Equal(a.Short, []int{0}) {
		t.Errorf("short is %v, %v, want the candidate", a.Short, err)
	}
	c.Complete = true
	if a, err = smile.Allocate([]smile.Candidate{c}, 5000); err != nil || len(a.Short) > 0 || a.Ranks[0] != 2 {
		t.Errorf("a complete spectrum: %+v, %v", a, err)
	}
	if _, err := smile.Allocate(nil, -1); err == nil {
		t.Error("a negative budget is no error")
	}
}

func TestRankForEnergy(t *testing.T) {
	s := smile.Spectrum{Sigma: []float64{3, 2, 1}, Energy: 15}
	for _, c := range []struct {
		share float64
		rank  int
		ok    bool
	}{{0, 0, true}, {0.5, 1, true}, {0.6, 1, true}, {0.61, 2, true}, {0.9, 3, true}, {0.95, 3, false}} {
		if rank, ok := s.RankForEnergy(c.share); rank != c.rank || ok != c.ok {
			t.Errorf("share %v: rank %d %v, want %d %v", c.share, rank, ok, c.rank, c.ok)
		}
	}
	if got := smile.DenseRank(10, 10, 2); got != 6 {
		t.Errorf("dense from rank %d, want 6", got) // 6·10 + 4·10 = 100
	}
}
