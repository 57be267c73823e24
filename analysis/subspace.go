package analysis

import "fmt"

// preferred is how many times as much as by chance a zone must hold to be
// advised.
const preferred = 1.1

// subspace says in which zone of the inputs, where an adapter begins, the
// changes so far are densest.
func (r *Report) subspace() *Subspace {
	var share, chance [3]float64 // of the experts' changes; of directions without preference
	total := 0.0
	for _, l := range r.Layers {
		n, half := float64(l.In), float64(l.Base.HalfRank)
		rank := max(half, float64(l.Base.Rank))
		for _, d := range l.Experts {
			if d == nil {
				continue
			}
			total += d.Share
			for z, even := range [3]float64{half / n, (rank - half) / n, (n - rank) / n} {
				share[z] += d.Share * d.Zones.Right[z]
				chance[z] += d.Share * even
			}
		}
	}
	if total == 0 {
		return nil
	}
	for z := range 3 {
		share[z] /= total
		chance[z] /= total
	}
	return preference(share, chance)
}

// preference advises on shares of the zones and on what chance gives them.
func preference(share, chance [3]float64) *Subspace {
	const least = 1e-3 // of the directions: fewer are no subspace
	best, most := -1, preferred
	text := "on the side of the inputs,"
	for z, name := range []string{"zone I (principal) holds", "zone II (minor)", "zone III (null)"} {
		if chance[z] < least {
			continue
		}
		times := share[z] / chance[z]
		if times >= most {
			best, most = z, times
		}
		text += fmt.Sprintf(" %s %.0f %% of the changes, %.1f × chance (%.0f %%),", name, 100*share[z], times, 100*chance[z])
	}
	text = text[:len(text)-1] + ". "
	s := &Subspace{}
	switch best {
	case 0:
		s.Choice = "principal"
		text += "They reuse what the base reads most, more than by chance: principal goes on there, and the figures do not support minor."
	case 1:
		s.Choice = "minor"
		text += "They keep to what the base reads least, more than by chance: minor goes on there."
	case 2:
		s.Choice = "null"
		text += "They listen to what the base does not read at all, more than by chance: null goes on there."
	default:
		text += fmt.Sprintf("None holds %g × chance: the figures prefer no subspace.", preferred)
	}
	s.Why = text + " That is where changes were, not a measurement of what a further fine-tune gains."
	return s
}
