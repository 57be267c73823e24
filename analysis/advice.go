package analysis

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"smelt/smile"
)

// Thresholds of [Advice].
const (
	leaveOutShare = 0.01 // of every expert's energy, in all layers left out together
	othersShare   = 0.01 // of an expert's whole change, in one tensor
	copyCosine    = 0.95
	saidCopies    = 5 // pairs, in sentences
)

// budgets are those that advice is given for, relative to the base.
var budgets = []float64{1.05, 1.1, 1.25, 1.5, 2}

func (r *Report) advise(layers []*Measured) error {
	a := &r.Advice
	*a = Advice{
		LeaveOutShare: leaveOutShare, OthersShare: othersShare,
		Budgets: []Budget{}, LeaveOut: []LeaveOut{}, Copies: []Copy{}, Others: []string{}, Say: []string{},
	}
	say := func(format string, args ...any) { a.Say = append(a.Say, fmt.Sprintf(format, args...)) }
	for _, b := range budgets {
		x, err := r.budget(layers, b)
		if err != nil {
			return err
		}
		a.Budgets = append(a.Budgets, x)
	}
	r.leaveOut(layers)
	for _, p := range r.Pairs {
		if p.Cosine >= copyCosine {
			a.Copies = append(a.Copies, Copy{A: p.A, B: p.B, Cosine: float64(p.Cosine), Distance: float64(p.Distance), Equal: p.Distance == 0})
		}
	}
	for _, o := range r.Others {
		worth := false
		if o.Fused {
			continue
		}
		for i, x := range r.Experts {
			worth = worth || o.Share[i] >= othersShare || x.Relative > 0 && o.Relative[i] > x.Relative
		}
		if worth {
			a.Others = append(a.Others, o.Name)
		}
	}
	a.Subspace = r.subspace()

	for _, same := range r.same() {
		say("%s are equal: fuse one of them.", and(same))
	}
	near := 0
	for _, c := range a.Copies {
		if c.Equal {
			continue
		}
		if near++; near <= saidCopies {
			say("%s and %s are near copies (cosine %.3f): one of them, or their average, may serve both tasks.", r.Experts[c.A].Name, r.Experts[c.B].Name, c.Cosine)
		}
	}
	if near > saidCopies {
		say("%d further pairs are near copies: near_copies in analysis.json lists them.", near-saidCopies)
	}
	if best := slices.IndexFunc(a.Budgets, func(b Budget) bool { return b.Feasible && b.Mean >= 0.95 }); best >= 0 {
		b := a.Budgets[best]
		say("A budget of %g × the base keeps %.1f %% of the experts' changes in linear layers (a uniform rank of that size, %d, %.1f %%).", b.Budget, 100*b.Mean, b.Uniform, 100*b.UniformMean)
	} else if k := len(a.Budgets) - 1; a.Budgets[k].Feasible {
		b := a.Budgets[k]
		say("Even %g × the base keeps no more than %.1f %% of the experts' changes in linear layers. Energy is not accuracy: measure ranks on the tasks.", b.Budget, 100*b.Mean)
	}
	if n := len(a.LeaveOut); n > 0 {
		say("%d of %d layers together hold less than %.0f %% of every expert's change: leaving them out (--exclude) saves %d parameters at rank %d.",
			n, len(r.Layers), 100*leaveOutShare, saved(a.LeaveOut), r.Settings.Rank)
	}
	if len(a.Others) > 0 {
		names := a.Others
		more := ""
		if len(names) > 3 {
			names, more = names[:3], fmt.Sprintf(" and %d more", len(a.Others)-3)
		}
		say("Much changed in tensors that are not fused: %s%s. A fusion keeps the base's unless --others average says otherwise.", strings.Join(names, ", "), more)
	}
	if a.Subspace != nil {
		say("A further fine-tune: %s", a.Subspace.Why)
	}
	return nil
}

// budget allocates ranks for one budget, as smelt fuse --budget does.
func (r *Report) budget(layers []*Measured, times float64) (Budget, error) {
	e := len(r.Experts)
	b := Budget{Budget: times, Energy: make([]Figure, e), Ranks: make([][]int, len(layers))}
	var candidates []smile.Candidate
	var where [][2]int
	floor := int64(0)
	for k, m := range layers {
		l := &m.Layer
		b.Ranks[k] = make([]int, e)
		for i := range e {
			b.Ranks[k][i] = int(smile.Untouched)
			if l.Experts[i] == nil {
				continue
			}
			b.Ranks[k][i] = 0
			floor += int64(l.RouterRank) * int64(l.In)
			candidates = append(candidates, smile.Candidate{
				In: l.In, Out: l.Out, RouterRank: l.RouterRank, Expert: i, Spectrum: m.Spectra[i], Total: r.Experts[i].Energy,
			})
			where = append(where, [2]int{k, i})
		}
		if m.biased && (l.RouterRank > 0 || e == 1) {
			floor += int64(e) * int64(l.Out)
		}
	}
	spend := int64(math.Floor(times*float64(r.Base.Parameters))) - r.Base.Parameters - floor
	if spend < 0 || len(candidates) == 0 {
		for i := range b.Energy {
			b.Energy[i] = None
		}
		return b, nil
	}
	b.Feasible = true
	a, err := smile.Allocate(candidates, spend)
	if err != nil {
		return b, err
	}
	kept := make([]float64, e)
	for j, c := range candidates {
		b.Ranks[where[j][0]][where[j][1]] = int(a.Ranks[j])
		kept[c.Expert] += c.Captured(a.Ranks[j])
	}
	b.Bound = len(a.Short) > 0
	b.Ratio = float64(r.Base.Parameters+floor+a.Used) / float64(r.Base.Parameters)
	b.Energy, b.Mean = r.keptShares(kept)
	b.Uniform = uniform(candidates, spend)
	kept = make([]float64, e)
	for _, c := range candidates {
		kept[c.Expert] += c.Captured(smile.Rank(b.Uniform))
	}
	_, b.UniformMean = r.keptShares(kept)
	return b, nil
}

// keptShares divides energies by those of the experts, and takes their mean over
// the experts that changed something.
func (r *Report) keptShares(kept []float64) (shares []Figure, average float64) {
	var m mean
	for i, x := range r.Experts {
		f := ratio(kept[i], x.Energy)
		shares = append(shares, f)
		m.add(f)
	}
	if m.n > 0 {
		average = float64(m.figure())
	}
	return shares, average
}

// uniform is the largest rank that all candidates can have for at most spend
// parameters beyond the router's.
func uniform(candidates []smile.Candidate, spend int64) int {
	cost := func(rank int) (n int64) {
		for _, c := range candidates {
			k := min(rank, c.In, c.Out)
			n += min(int64(k)*int64(c.Out)+int64(max(0, k-c.RouterRank))*int64(c.In), int64(c.In)*int64(c.Out))
		}
		return n
	}
	lo, hi := 0, 0
	for _, c := range candidates {
		hi = max(hi, min(c.In, c.Out))
	}
	for lo < hi { // cost(lo) fits
		mid := (lo + hi + 1) / 2
		if cost(mid) <= spend {
			lo = mid
		} else {
			hi = mid - 1
		}
	}
	return lo
}

// leaveOut finds the layers that matter least, the smallest share first.
func (r *Report) leaveOut(layers []*Measured) {
	type candidate struct {
		m     *Measured
		share float64
	}
	var order []candidate
	for _, m := range layers {
		c := candidate{m: m}
		touched := false
		for _, d := range m.Layer.Experts {
			if d != nil {
				touched = true
				c.share = max(c.share, d.Share)
			}
		}
		if touched {
			order = append(order, c)
		}
	}
	slices.SortStableFunc(order, func(a, b candidate) int {
		switch {
		case a.share < b.share:
			return -1
		case a.share > b.share:
			return 1
		}
		return 0
	})
	together := make([]float64, len(r.Experts))
	for _, c := range order {
		worst := 0.0
		parameters := int64(0)
		for i, d := range c.m.Layer.Experts {
			if d == nil {
				worst = max(worst, together[i])
				continue
			}
			together[i] += d.Share
			worst = max(worst, together[i])
			l := &c.m.Layer
			k := min(r.Settings.Rank, l.In, l.Out)
			parameters += int64(k)*int64(l.Out) + int64(max(k, l.RouterRank))*int64(l.In)
		}
		if worst > leaveOutShare {
			return
		}
		r.Advice.LeaveOut = append(r.Advice.LeaveOut, LeaveOut{Layer: c.m.Layer.Name, Share: c.share, Together: worst, Parameters: parameters})
	}
}

func saved(list []LeaveOut) (n int64) {
	for _, l := range list {
		n += l.Parameters
	}
	return n
}
