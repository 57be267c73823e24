package analysis

import (
	"fmt"
	"slices"
	"strings"
)

// Assemble makes the report of all layers: sums over the model, groups, pairs
// and advice. r brings Base, Experts (name, kind, rank, parameters), Settings,
// and Others with their energies and relative changes.
func Assemble(r *Report, layers []*Measured) error {
	e := len(r.Experts)
	r.Format = Format
	r.PairNames = [][2]int{}
	for i := range e {
		for j := i + 1; j < e; j++ {
			r.PairNames = append(r.PairNames, [2]int{i, j})
		}
	}
	r.sums(layers)
	r.others()
	r.groups(layers)
	r.pairs(layers)
	r.confusion()
	r.note(layers)
	return r.advise(layers)
}

// sums adds the layers up by expert.
func (r *Report) sums(layers []*Measured) {
	r.Layers = []Layer{}
	for i := range r.Experts {
		x := &r.Experts[i]
		for _, m := range layers {
			if d := m.Layer.Experts[i]; d != nil {
				x.Energy += d.Energy
				x.Touched++
			}
		}
		for _, m := range layers {
			if d := m.Layer.Experts[i]; d != nil {
				d.Share = float64(ratio(d.Energy, x.Energy))
			}
		}
	}
	for _, m := range layers {
		r.Base.Linear += int64(m.Layer.In) * int64(m.Layer.Out)
		r.Layers = append(r.Layers, m.Layer)
	}
	all := sum("all", "all", layers, len(r.Experts))
	for i, d := range all.Experts {
		x := &r.Experts[i]
		x.Relative, x.EffectiveRank, x.StableRank, x.Rank90, x.Rank95, x.Rank99 = None, None, None, None, None, None
		if d == nil {
			continue
		}
		x.Relative, x.Zones = d.Relative, &d.Zones
		x.EffectiveRank, x.StableRank = Figure(d.EffectiveRank), Figure(d.StableRank)
		x.Rank90, x.Rank95, x.Rank99 = Figure(d.Rank90), Figure(d.Rank95), Figure(d.Rank99)
	}
}

// others finishes the tensors that are no linear layer.
func (r *Report) others() {
	if r.Others == nil {
		r.Others = []Other{}
	}
	for i := range r.Experts {
		x := &r.Experts[i]
		for _, o := range r.Others {
			x.Others += o.Energy[i]
		}
		x.Equal = x.Energy == 0 && x.Others == 0 && x.Touched == 0
	}
	top := func(o Other) float64 { return slices.Max(o.Share) }
	for k := range r.Others {
		o := &r.Others[k]
		o.Share = make([]float64, len(r.Experts))
		for i, x := range r.Experts {
			if whole := x.Energy + x.Others; whole > 0 {
				o.Share[i] = o.Energy[i] / whole
			}
		}
	}
	slices.SortStableFunc(r.Others, func(a, b Other) int {
		switch x, y := top(a), top(b); {
		case x > y:
			return -1
		case x < y:
			return 1
		}
		return strings.Compare(a.Name, b.Name)
	})
}

// groups adds layers up by kind, by block, and all together.
func (r *Report) groups(layers []*Measured) {
	r.Groups = []Group{sum("all", "all", layers, len(r.Experts))}
	by := func(what string, key func(l *Layer) string) {
		members, order := map[string][]*Measured{}, []string{}
		for _, m := range layers {
			k := key(&m.Layer)
			if members[k] == nil {
				order = append(order, k)
			}
			members[k] = append(members[k], m)
		}
		for _, k := range order {
			g := sum(what, k, members[k], len(r.Experts))
			if what == "depth" {
				g.Tower, g.Depth = members[k][0].Layer.Tower, members[k][0].Layer.Depth
			}
			r.Groups = append(r.Groups, g)
		}
	}
	by("kind", func(l *Layer) string { return l.Kind })
	by("depth", func(l *Layer) string {
		if l.Depth < 0 {
			return l.Name
		}
		return fmt.Sprintf("%s.%d", l.Tower, l.Depth)
	})
}

// sum adds the deltas of some layers up.
func sum(by, name string, layers []*Measured, experts int) Group {
	g := Group{By: by, Name: name, Depth: -1, Layers: len(layers), Experts: make([]*GroupDelta, experts)}
	for i := range experts {
		var d GroupDelta
		var blocks [3][3]float64
		var even [5]float64
		base := 0.0
		for _, m := range layers {
			base += m.Layer.Base.Energy
			x := m.Layer.Experts[i]
			if x == nil {
				continue
			}
			d.Touched++
			d.Energy += x.Energy
			d.Share += x.Share
			for y := range 3 {
				for z := range 3 {
					blocks[y][z] += x.Energy * x.Zones.Blocks[y][z]
				}
			}
			for k, v := range x.Zones.Even {
				even[k] += x.Energy * v
			}
			d.EffectiveRank += x.EffectiveRank
			d.StableRank += x.StableRank
			d.Rank90 += float64(x.Rank90)
			d.Rank95 += float64(x.Rank95)
			d.Rank99 += float64(x.Rank99)
		}
		if d.Touched == 0 {
			continue
		}
		d.Relative = root(ratio(d.Energy, base))
		d.Zones = zonesOf(blocks)
		for k := range even {
			d.Zones.Even[k] = even[k] / d.Energy
		}
		for _, v := range []*float64{&d.EffectiveRank, &d.StableRank, &d.Rank90, &d.Rank95, &d.Rank99} {
			*v /= float64(d.Touched)
		}
		g.Experts[i] = &d
	}
	return g
}

// pairs compares the experts over all layers.
func (r *Report) pairs(layers []*Measured) {
	e := len(r.Experts)
	total := NewInner(e)
	beyond := make([]float64, e)
	for _, m := range layers {
		total.AddAll(m.Inner)
		for i, v := range m.beyond {
			beyond[i] += v
		}
	}
	r.Pairs = []Pair{}
	for at, ij := range r.PairNames {
		p := Pair{A: ij[0], B: ij[1]}
		p.Cosine, p.SignConflict, _ = total.figures(p.A, p.B)
		p.Distance = total.distance(p.A, p.B)
		var left, right, leftBase, rightBase mean
		for _, m := range layers {
			if x := m.Layer.Pairs[at]; x != nil {
				left.add(Figure(x.LeftOverlap))
				right.add(Figure(x.RightOverlap))
				leftBase.add(Figure(m.Layer.Baseline.Left))
				rightBase.add(Figure(m.Layer.Baseline.Right))
			}
		}
		p.LeftOverlap, p.RightOverlap = left.figure(), right.figure()
		p.LeftBaseline, p.RightBaseline = leftBase.figure(), rightBase.figure()
		r.Pairs = append(r.Pairs, p)
	}
	r.Losses = losses(total, beyond, r.Settings.ScalingFactor)
}

// confusion averages what weights tell of the routers.
func (r *Report) confusion() {
	e := len(r.Experts)
	best, signal, astray := make([]mean, e), make([]mean, e), make([]mean, e*e)
	for _, l := range r.Layers {
		if l.Confusion == nil {
			continue
		}
		r.Confusion = newRouterForecast(e)
		for i := range e {
			best[i].add(l.Confusion.AtBest[i])
			signal[i].add(l.Confusion.Signal[i])
			for j, v := range l.Confusion.Astray[i] {
				astray[i*e+j].add(v)
			}
		}
	}
	if r.Confusion == nil {
		return
	}
	for i := range e {
		r.Confusion.AtBest[i], r.Confusion.Signal[i] = best[i].figure(), signal[i].figure()
		for j := range e {
			r.Confusion.Astray[i][j] = astray[i*e+j].figure()
		}
	}
}

// same lists the names of experts whose linear layers are equal, and not the
// base's.
func (r *Report) same() (groups [][]string) {
	first := make([]int, len(r.Experts)) // the first expert that one equals
	for i := range first {
		first[i] = i
	}
	for _, p := range r.Pairs { // in order of A
		if p.Distance == 0 && r.Experts[p.A].Touched > 0 {
			first[p.B] = min(first[p.B], first[p.A])
		}
	}
	for i := range first {
		var names []string
		for j := range first {
			if first[j] == i {
				names = append(names, r.Experts[j].Name)
			}
		}
		if len(names) > 1 {
			groups = append(groups, names)
		}
	}
	return groups
}

// and joins names.
func and(names []string) string {
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}

// note says what is special.
func (r *Report) note(layers []*Measured) {
	say := func(format string, args ...any) { r.Notes = append(r.Notes, fmt.Sprintf(format, args...)) }
	if r.Notes == nil {
		r.Notes = []string{}
	}
	var equal []string
	for _, x := range r.Experts {
		if x.Equal {
			equal = append(equal, x.Name)
		}
	}
	if len(equal) > 0 {
		say("Equal to the base in every tensor: %s. Their figures are empty, and an average counts them as experts that change nothing.", strings.Join(equal, ", "))
	}
	if len(r.Experts) == 1 {
		say("There is one expert: nothing to compare it with, and nothing for a router to decide.")
	}
	for _, same := range r.same() {
		say("%s are the same in every linear layer.", and(same))
	}
	untouched, mixed, cut, zero := 0, 0, 0, 0
	for _, m := range layers {
		n := 0
		for _, d := range m.Layer.Experts {
			if d != nil {
				n++
				if !d.Complete {
					cut++
				}
			}
		}
		if m.Layer.Base.Energy == 0 {
			zero++
		}
		switch {
		case n == 0:
			untouched++
		case n < len(r.Experts):
			mixed++
		}
	}
	if untouched > 0 {
		say("%d of %d linear layers were touched by no expert.", untouched, len(layers))
	}
	if mixed > 0 {
		say("%d linear layers were touched by some experts only: there a router gives every token to one of those.", mixed)
	}
	if zero > 0 {
		say("%d weights of the base are all zeros: everything lies in zone III there.", zero)
	}
	if cut > 0 {
		say("%d deltas of layers with more than %d singular values were decomposed to their leading %d: ranks for 90, 95 and 99 %% are lower bounds there, and effective ranks estimates from below.",
			cut, r.Settings.ExactSize, r.Settings.Depth)
	}
}
