package analysis

import (
	"math"
	"testing"

	"smelt/internal/kernel"
	"smelt/linalg"
)

// along is an expert whose change listens to the given directions of n, the
// first the most.
func along(expert, n int, directions ...int) Factored {
	r := len(directions)
	f := Factored{Expert: expert, SVD: linalg.SVD{U: kernel.New(n, r), S: make([]float64, r), Vt: kernel.New(r, n)}}
	for i, d := range directions {
		f.U.Set(d, i, 1)
		f.Vt.Set(i, d, 1)
		f.S[i] = 1 / float64(i+1)
	}
	return f
}

func TestForecast(t *testing.T) {
	const n = 64
	forecast := func(e int, x ...Factored) *RouterForecast {
		return NewFrames(x, n, n, 1).Forecast(e, len(x[0].S), 512, 1, 1)
	}
	// Nothing in common: right at best, half of them from a little signal on; who
	// shares a direction is who tokens are taken for.
	f := forecast(4, along(0, n, 0, 1, 2), along(1, n, 3, 4, 5), along(3, n, 3, 6, 7))
	for _, i := range []int{0, 1, 3} {
		if !(f.AtBest[i] > 0.8) || !(f.Signal[i] > 0.005 && f.Signal[i] < 0.3) {
			t.Errorf("expert %d: at best %v, signal %v", i, f.AtBest[i], f.Signal[i])
		}
		sum := 0.0
		for _, v := range f.Astray[i] {
			if v.Known() {
				sum += float64(v)
			}
		}
		if !(math.Abs(sum-1) < 1e-12) {
			t.Errorf("expert %d: shares of stray tokens sum to %v", i, sum)
		}
	}
	if f.AtBest[0] != 1 || !(f.Astray[1][3] > 1.2*f.Astray[1][0]) || f.AtBest[2].Known() || f.Astray[0][2].Known() || f.Astray[0][0].Known() {
		t.Errorf("%+v", f)
	}
	// The same subspace twice: the first takes all, whatever the signal.
	f = forecast(2, along(0, n, 0, 1), along(1, n, 0, 1))
	if f.AtBest[0] != 1 || f.AtBest[1] != 0 || f.Signal[1].Known() || f.Astray[1][0] != 1 {
		t.Errorf("twins: %+v", f)
	}
}

func TestSpearman(t *testing.T) {
	for _, x := range []struct {
		a, b []Figure
		want Figure
	}{
		{[]Figure{1, 2, 3, 4}, []Figure{10, 20, 25, 99}, 1},
		{[]Figure{1, 2, 3, 4}, []Figure{4, 3, 2, 1}, -1},
		{[]Figure{1, 2, None, 3, 4}, []Figure{1, 3, 9, 2, 4}, 0.8},
		{[]Figure{1, 1, 2, 3}, []Figure{1, 2, 3, 4}, 0.9486832980505138}, // scipy.stats.spearmanr
	} {
		if got := spearman(x.a, x.b); !(math.Abs(float64(got-x.want)) < 1e-12) {
			t.Errorf("%v, %v: %v, want %v", x.a, x.b, got, x.want)
		}
	}
	if spearman([]Figure{1, 2}, []Figure{1, 2}).Known() || spearman([]Figure{1, 1, 1}, []Figure{1, 2, 3}).Known() {
		t.Error("a correlation of nothing")
	}
}

// What was measured is held against the forecast by expert, pair and layer.
func TestAgree(t *testing.T) {
	r := &Report{Experts: make([]Expert, 3), Tasks: &Tasks{}}
	for l := range 3 {
		f := newRouterForecast(3)
		for i := range 3 {
			f.AtBest[i], f.Signal[i] = 1, Figure(0.1*float64(i+1)+0.01*float64(l))
			f.Astray[i][(i+1)%3], f.Astray[i][(i+2)%3] = 0.75, 0.25
		}
		name := string(rune('a' + l))
		r.Layers = append(r.Layers, Layer{Name: name, Confusion: f})
		for i := range 3 {
			right := 0.9 - 0.1*float64(i) + 0.01*float64(l)
			m := ModuleRouting{Module: name, Expert: i, Right: right, Taken: make([]float64, 3)}
			m.Taken[i], m.Taken[(i+1)%3], m.Taken[(i+2)%3] = right, 0.75*(1-right), 0.25*(1-right)
			r.Tasks.Routing = append(r.Tasks.Routing, m)
		}
	}
	r.Agree()
	a := r.Tasks.Agreement
	if a == nil || math.Abs(float64(a.Right)-0.81) > 1e-12 || a.AtBest != 1 || a.Astray < 0.9 || math.Abs(float64(a.Experts)-1) > 1e-12 || math.Abs(float64(a.Layers)+1) > 1e-12 {
		t.Errorf("%+v", a)
	}
	r.Layers[0].Confusion, r.Layers[1].Confusion, r.Layers[2].Confusion = nil, nil, nil
	if r.Agree(); r.Tasks.Agreement != nil {
		t.Error("agreement with nothing")
	}
}
