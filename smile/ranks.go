package smile

import (
	"container/heap"
	"fmt"
	"math"
)

// Spectrum is what rank planning knows of one expert's delta in one module.
type Spectrum struct {
	Sigma  []float64 `json:"sigma"`  // leading singular values, descending
	Energy float64   `json:"energy"` // ‖ΔW‖²_F, all of it
	// Complete: Sigma goes as far as the numerical rank; otherwise there is
	// more beyond its end.
	Complete bool `json:"complete"`
}

// RankForEnergy returns the smallest rank that keeps share of the energy, and
// false where the known singular values do not reach it.
func (s Spectrum) RankForEnergy(share float64) (rank int, ok bool) {
	want := share * s.Energy
	kept := 0.0
	for i, v := range s.Sigma {
		if kept >= want {
			return i, true
		}
		kept += v * v
	}
	return len(s.Sigma), kept >= want || s.Complete
}

// Candidate is one expert's delta in one module, waiting for its rank.
type Candidate struct {
	In, Out    int
	RouterRank int     // g of the module: rows of V that are paid for already
	Expert     int     // index of the expert
	Spectrum           // what may be kept
	Total      float64 // ‖Δ‖² of the expert over all modules: its unit of value
}

// cost is the number of parameters of triplet i (counted from 0): a column of
// us, and beyond the router's rows a row of vt.
func (c *Candidate) cost(i int) int64 {
	if i < c.RouterRank {
		return int64(c.Out)
	}
	return int64(c.Out) + int64(c.In)
}

// value is what triplet i adds to Σ_e captured_e/‖Δ_e‖².
func (c *Candidate) value(i int) float64 {
	if i >= len(c.Sigma) || c.Total == 0 {
		return 0
	}
	return c.Sigma[i] * c.Sigma[i] / c.Total
}

// DenseRank is the rank from which keeping the delta whole costs no more
// parameters than its factors.
func DenseRank(in, out, routerRank int) int {
	for r := 0; r <= min(in, out); r++ {
		if int64(r)*int64(out)+int64(max(r-routerRank, 0))*int64(in) >= int64(in)*int64(out) {
			return r
		}
	}
	return min(in, out) + 1
}

// Allocation is the result of Allocate.
type Allocation struct {
	Ranks []Rank // one per candidate
	Used  int64  // parameters spent, at most the budget
	// Short lists the candidates whose known singular values ran out while
	// more were wanted: survey them deeper and allocate again.
	Short []int
}

// Allocate spends at most budget parameters on singular triplets so that
// Σ_e captured_e/‖Δ_e‖² is as large as possible: one global water-filling, in
// which an expert with a small delta counts as much as one with a large delta.
//
// Along one candidate the value of a triplet falls and its cost never does, so
// that taking the best ratio first is optimal up to the last triplet that does
// not fit. A candidate that reaches break-even is kept whole.
func Allocate(candidates []Candidate, budget int64) (Allocation, error) {
	if budget < 0 {
		return Allocation{}, fmt.Errorf("smile: a budget of %d parameters cannot be met", budget)
	}
	a := Allocation{Ranks: make([]Rank, len(candidates))}
	breakEven := make([]int, len(candidates))
	q := make(queue, 0, len(candidates))
	for i := range candidates {
		c := &candidates[i]
		breakEven[i] = DenseRank(c.In, c.Out, c.RouterRank)
		if v := c.value(0); v > 0 {
			q = append(q, offer{i, v / float64(c.cost(0))})
		}
	}
	heap.Init(&q)
	for len(q) > 0 {
		i := q[0].candidate
		c := &candidates[i]
		r := int(a.Ranks[i])
		next, cost := Rank(r+1), c.cost(r)
		if r+1 >= breakEven[i] {
			// Whole costs in·out: never more than the factors would.
			next = Dense
			cost = int64(c.In)*int64(c.Out) - int64(r)*int64(c.Out) - int64(max(r-c.RouterRank, 0))*int64(c.In)
		}
		if a.Used+cost > budget {
			heap.Pop(&q) // what follows of this candidate costs no less
			continue
		}
		a.Used += cost
		a.Ranks[i] = next
		switch v := c.value(r + 1); {
		case next == Dense:
			heap.Pop(&q)
		case v > 0:
			q[0].ratio = v / float64(c.cost(r+1))
			heap.Fix(&q, 0)
		default:
			if r+1 == len(c.Sigma) && !c.Complete {
				a.Short = append(a.Short, i)
			}
			heap.Pop(&q)
		}
	}
	return a, nil
}

// Captured is the energy that rank r keeps.
func (s Spectrum) Captured(r Rank) float64 {
	if r == Dense {
		return s.Energy
	}
	sum := 0.0
	for i := 0; i < min(int(r), len(s.Sigma)); i++ {
		sum += s.Sigma[i] * s.Sigma[i]
	}
	return math.Min(sum, s.Energy)
}

// offer is the next triplet of a candidate and its value per parameter.
type offer struct {
	candidate int
	ratio     float64
}

// queue is a heap of offers, best ratio first, lower candidate on a tie.
type queue []offer

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	if q[i].ratio != q[j].ratio {
		return q[i].ratio > q[j].ratio
	}
	return q[i].candidate < q[j].candidate
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(offer)) }
func (q *queue) Pop() any {
	old := *q
	x := old[len(old)-1]
	*q = old[:len(old)-1]
	return x
}
