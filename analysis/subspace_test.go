package analysis

import (
	"strings"
	"testing"
)

func TestPreference(t *testing.T) {
	for _, x := range []struct {
		share, chance [3]float64
		choice        string
		why           []string
	}{
		// The real vision pool: more in zone I than by chance, though most lies elsewhere.
		{[3]float64{0.36, 0.5, 0.14}, [3]float64{0.2, 0.6, 0.2}, "principal", []string{"zone I (principal) holds 36 % of the changes, 1.8 × chance (20 %)", "do not support minor"}},
		{[3]float64{0.1, 0.9, 0}, [3]float64{0.25, 0.75, 0}, "minor", []string{"zone II (minor) 90 % of the changes, 1.2 × chance (75 %)", "keep to what the base reads least"}},
		{[3]float64{0.1, 0.3, 0.6}, [3]float64{0.2, 0.4, 0.4}, "null", []string{"zone III (null) 60 % of the changes, 1.5 × chance (40 %)"}},
		// Densest, not largest, and two above chance: the denser one.
		{[3]float64{0.3, 0.56, 0.14}, [3]float64{0.2, 0.5, 0.3}, "principal", nil},
		{[3]float64{0.26, 0.74, 0}, [3]float64{0.25, 0.75, 0}, "", []string{"None holds 1.1 × chance", "prefer no subspace"}},
		// A few leftover directions are no subspace, however dense.
		{[3]float64{0.25, 0.74, 0.01}, [3]float64{0.25, 0.7495, 0.0005}, "", nil},
	} {
		s := preference(x.share, x.chance)
		if s.Choice != x.choice {
			t.Errorf("%v of %v: %q, want %q", x.share, x.chance, s.Choice, x.choice)
		}
		for _, want := range append(x.why, "not a measurement") {
			if !strings.Contains(s.Why, want) {
				t.Errorf("%q does not say %q", s.Why, want)
			}
		}
		if strings.Contains(s.Why, "null") && x.chance[2] < 1e-3 {
			t.Errorf("%q speaks of a null space that there is not", s.Why)
		}
	}
}

// The advice reads the side of the inputs, and weighs layers by their share.
func TestSubspace(t *testing.T) {
	r := &Report{}
	if r.subspace() != nil {
		t.Error("advice on nothing")
	}
	r.Layers = []Layer{
		{In: 100, Base: BaseLayer{HalfRank: 20, Rank: 100}, Experts: []*Delta{nil, {Share: 0.9, Zones: Zones{I: 0.01, Right: [3]float64{0.4, 0.6, 0}}}}},
		{In: 200, Base: BaseLayer{HalfRank: 20, Rank: 100}, Experts: []*Delta{nil, {Share: 0.1, Zones: Zones{I: 0.9, Right: [3]float64{0, 0, 1}}}}},
	}
	s := r.subspace()
	if s.Choice != "null" || !strings.Contains(s.Why, "zone I (principal) holds 36 % of the changes, 1.9 × chance (19 %)") {
		t.Errorf("%+v", s)
	}
}

// Many equal experts make one sentence, and many near copies a few.
func TestSame(t *testing.T) {
	r := &Report{}
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		r.Experts = append(r.Experts, Expert{Name: name, Touched: 1})
	}
	for i := range 5 {
		for j := i + 1; j < 5; j++ {
			p := Pair{A: i, B: j, Distance: 0.5}
			if i%2 == j%2 {
				p.Distance = 0
			}
			r.Pairs = append(r.Pairs, p)
		}
	}
	groups := r.same()
	if len(groups) != 2 || and(groups[0]) != "a, c and e" || and(groups[1]) != "b and d" {
		t.Errorf("%v", groups)
	}
}
