package analysis

import (
	"math"
	"math/rand/v2"

	"smelt/internal/kernel"
	"smelt/linalg"
)

// leastSignal is where the search for a signal begins.
const leastSignal = 1e-4

// Forecast says of e experts what weights tell of a router of rank g. ΔW is a
// sum of gradients g·xᵀ over the task's tokens, so that ΔWᵀΔW estimates their
// second moment: a token of expert i's task is taken as √τ·t + √(1−τ)·r, t
// Gaussian with covariance V·diag(σ²/Σσ²)·Vᵀ and r without direction, and given to the router
// ‖V_gᵀx‖. What τ real tokens have, weights do not tell. Random numbers are the
// same for every expert and every τ.
func (f *Frames) Forecast(e, g, samples int, seed uint64, workers int) *RouterForecast {
	out := newRouterForecast(e)
	rng := rand.New(rand.NewPCG(seed, 41))
	n := f.vt.Cols
	count := len(f.experts)
	rows := kernel.New(count*g, n)
	widest := 0
	for k, x := range f.experts {
		for r := range g {
			copy(rows.Row(k*g+r), f.vt.Row(f.at[k]+r))
		}
		widest = max(widest, len(x.S))
	}
	rest := kernel.New(samples, count*g)
	kernel.Gemm(workers, false, true, float32(1/math.Sqrt(float64(n))), normal(rng, samples, n), rows, 0, rest)
	coefficients := normal(rng, samples, widest)
	for k, x := range f.experts {
		total := 0.0
		for _, s := range x.S {
			total += s * s
		}
		scaled, cross := kernel.New(samples, len(x.S)), kernel.New(len(x.S), count*g)
		for s := range samples {
			for i, v := range x.S {
				scaled.Set(s, i, coefficients.At(s, i)*float32(v/math.Sqrt(total)))
			}
		}
		for i := range x.S {
			from := f.v.Row(f.at[k] + i)
			for l := range count {
				kernel.F64ToF32(cross.Row(i)[l*g:(l+1)*g], from[f.at[l]:f.at[l]+g])
			}
		}
		task := kernel.New(samples, count*g)
		kernel.Gemm(workers, false, false, 1, scaled, cross, 0, task)
		t := newTrial(task, rest, count, k)
		right, taken := t.at(1)
		out.AtBest[x.Expert] = Figure(right)
		if right >= 0.5 {
			low, high := math.Log(leastSignal), 0.0
			for range 12 {
				middle := (low + high) / 2
				if r, _ := t.at(math.Exp(middle)); r >= 0.5 {
					high = middle
				} else {
					low = middle
				}
			}
			out.Signal[x.Expert] = Figure(math.Exp(high))
			right, taken = t.at(math.Exp(high))
		}
		for l, y := range f.experts {
			if l != k && right < 1 {
				out.Astray[x.Expert][y.Expert] = Figure(float64(taken[l]) / (float64(samples) * (1 - right)))
			}
		}
	}
	return out
}

func newRouterForecast(e int) *RouterForecast {
	none := func() []Figure {
		x := make([]Figure, e)
		for i := range x {
			x[i] = None
		}
		return x
	}
	f := &RouterForecast{AtBest: none(), Signal: none(), Astray: make([][]Figure, e)}
	for i := range f.Astray {
		f.Astray[i] = none()
	}
	return f
}

// trial holds what the squared scores of tokens are made of, by token and
// expert: τ·task + (1−τ)·rest + 2·√(τ(1−τ))·mixed.
type trial struct {
	experts, own      int
	task, rest, mixed []float64
}

func newTrial(task, rest linalg.Matrix, experts, own int) *trial {
	t := &trial{experts: experts, own: own}
	g := task.Cols / experts
	for s := range task.Rows {
		for k := range experts {
			x, y := task.Row(s)[k*g:(k+1)*g], rest.Row(s)[k*g:(k+1)*g]
			t.task, t.rest, t.mixed = append(t.task, kernel.SumSquares(x)), append(t.rest, kernel.SumSquares(y)), append(t.mixed, kernel.DotAcc64(x, y))
		}
	}
	return t
}

// at routes the tokens with a signal of τ: the share that is right, and how many
// each expert takes. Equal scores go to the first, as in a router.
func (t *trial) at(signal float64) (right float64, taken []int) {
	taken = make([]int, t.experts)
	mixed := 2 * math.Sqrt(signal*(1-signal))
	tokens := len(t.task) / t.experts
	for s := range tokens {
		best, at := 0.0, 0
		for k := range t.experts {
			i := s*t.experts + k
			if v := signal*t.task[i] + (1-signal)*t.rest[i] + mixed*t.mixed[i]; k == 0 || v > best {
				best, at = v, k
			}
		}
		taken[at]++
	}
	return float64(taken[t.own]) / float64(tokens), taken
}

func normal(rng *rand.Rand, rows, cols int) linalg.Matrix {
	m := kernel.New(rows, cols)
	for i := range m.Data {
		m.Data[i] = float32(rng.NormFloat64())
	}
	return m
}
