package analysis

import (
	"cmp"
	"math"
	"slices"
)

// Agreement holds what weights told of the routers against what was measured.
// The last three are rank correlations (Spearman).
type Agreement struct {
	Right  Figure `json:"right"`   // measured share of tokens that went to the task's own expert, mean of modules and experts
	AtBest Figure `json:"at_best"` // RouterForecast.AtBest, mean of the same
	// Astray compares, over all pairs of experts, who takes the other's stray tokens, mean of the modules.
	Astray Figure `json:"astray"`
	// Experts compares, over experts, little Signal with much Right, mean of the modules; Layers the
	// same over modules, mean of the experts.
	Experts Figure `json:"experts"`
	Layers  Figure `json:"layers"`
}

// Agree fills Tasks.Agreement from Tasks.Routing.
func (r *Report) Agree() {
	r.Tasks.Agreement = nil
	layers := map[string]*RouterForecast{}
	for _, l := range r.Layers {
		if l.Confusion != nil {
			layers[l.Name] = l.Confusion
		}
	}
	e := len(r.Experts)
	var right, best mean
	byExpert, bySignal := make([]mean, e), make([]mean, e)
	strays, predicted := make([]mean, e*e), make([]mean, e*e)
	byLayer, layerSignal := map[string]*mean{}, map[string]*mean{}
	var names []string
	for _, m := range r.Tasks.Routing {
		f := layers[m.Module]
		if f == nil {
			continue
		}
		right.add(Figure(m.Right))
		best.add(f.AtBest[m.Expert])
		if byLayer[m.Module] == nil {
			byLayer[m.Module], layerSignal[m.Module] = &mean{}, &mean{}
			names = append(names, m.Module)
		}
		if s := f.Signal[m.Expert]; s.Known() {
			byExpert[m.Expert].add(Figure(m.Right))
			bySignal[m.Expert].add(-s)
			byLayer[m.Module].add(Figure(m.Right))
			layerSignal[m.Module].add(-s)
		}
		for k, share := range m.Taken {
			if k != m.Expert {
				strays[m.Expert*e+k].add(Figure(share))
				predicted[m.Expert*e+k].add(f.Astray[m.Expert][k])
			}
		}
	}
	if right.n == 0 {
		return
	}
	a := &Agreement{Right: right.figure(), AtBest: best.figure()}
	var x, y []Figure
	for i := range e { // of an expert's strays, as Astray is
		total := 0.0
		for k := range e {
			total += max(0, strays[i*e+k].sum)
		}
		for k := range e {
			if m := strays[i*e+k]; m.n > 0 && total > 0 {
				x, y = append(x, Figure(m.sum/total)), append(y, predicted[i*e+k].figure())
			}
		}
	}
	a.Astray = spearman(x, y)
	x, y = nil, nil
	for i := range e {
		x, y = append(x, byExpert[i].figure()), append(y, bySignal[i].figure())
	}
	a.Experts = spearman(x, y)
	x, y = nil, nil
	for _, name := range names {
		x, y = append(x, byLayer[name].figure()), append(y, layerSignal[name].figure())
	}
	a.Layers = spearman(x, y)
	r.Tasks.Agreement = a
}

// spearman is the rank correlation of the pairs of figures that both exist:
// None below three, or where one side is constant.
func spearman(x, y []Figure) Figure {
	var a, b []float64
	for i := range x {
		if x[i].Known() && y[i].Known() {
			a, b = append(a, float64(x[i])), append(b, float64(y[i]))
		}
	}
	if len(a) < 3 {
		return None
	}
	a, b = ranks(a), ranks(b)
	middle := float64(len(a)-1) / 2
	var xy, xx, yy float64
	for i := range a {
		u, v := a[i]-middle, b[i]-middle
		xy, xx, yy = xy+u*v, xx+u*u, yy+v*v
	}
	return ratio(xy, math.Sqrt(xx*yy))
}

// ranks replaces values by their places in order; equals share the mean of theirs.
func ranks(v []float64) []float64 {
	order := make([]int, len(v))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(v[i], v[j]) })
	out := make([]float64, len(v))
	for i := 0; i < len(order); {
		j := i
		for j < len(order) && v[order[j]] == v[order[i]] {
			j++
		}
		for _, k := range order[i:j] {
			out[k] = float64(i+j-1) / 2
		}
		i = j
	}
	return out
}
