package eval

// Routing counts which experts the tokens of a task took, module by module.
type Routing struct {
	Experts []string  `json:"experts"`
	Modules []string  `json:"modules"`
	Counts  [][]int64 `json:"counts"` // [module][expert] tokens
}

// Add adds the counts of another part of the task, of the same model.
func (r *Routing) Add(o *Routing) {
	if len(r.Modules) == 0 {
		*r = Routing{Experts: o.Experts, Modules: o.Modules, Counts: make([][]int64, len(o.Counts))}
		for i, c := range o.Counts {
			r.Counts[i] = append([]int64(nil), c...)
		}
		return
	}
	at := map[string]int{}
	for i, m := range r.Modules {
		at[m] = i
	}
	for i, m := range o.Modules {
		j, ok := at[m]
		if !ok {
			j = len(r.Modules)
			r.Modules = append(r.Modules, m)
			r.Counts = append(r.Counts, make([]int64, len(r.Experts)))
		}
		for e, n := range o.Counts[i] {
			r.Counts[j][e] += n
		}
	}
}

// Share returns the share of tokens, over all modules, that took an expert.
func (r *Routing) Share(expert string) (float64, bool) {
	var took, all int64
	known := false
	for e, name := range r.Experts {
		known = known || name == expert
		for _, c := range r.Counts {
			all += c[e]
			if name == expert {
				took += c[e]
			}
		}
	}
	return float64(took) / float64(max(all, 1)), known
}

// ModuleShare returns the share of the tokens of module i that took an expert.
func (r *Routing) ModuleShare(i int, expert string) float64 {
	var took, all int64
	for e, n := range r.Counts[i] {
		all += n
		if r.Experts[e] == expert {
			took += n
		}
	}
	return float64(took) / float64(max(all, 1))
}
