package analysis

import (
	"math"
	"math/rand/v2"

	"smelt/internal/kernel"
	"smelt/linalg"
)

// signal is the share of a token's energy that lies in the span of its task's
// right singular vectors, in the model of [Frames.Forecast].
const signal = 0.5

// Forecast predicts for e experts what a router of rank g does, without data.
// ΔW is a sum of gradients g·xᵀ over the task's tokens, so that ΔWᵀΔW estimates
// their second moment: a token of expert i's task is taken as a Gaussian with
// covariance (1−τ)/n·I + τ·V·diag(σ²/Σσ²)·Vᵀ, τ = ½. Samples of it, the same
// random numbers for every expert, are given to the router ‖V_gᵀx‖.
func (f *Frames) Forecast(e, g, samples int, seed uint64, workers int) *RouterForecast {
	experts, n := f.experts, f.vt.Cols
	out := &RouterForecast{Taken: make([][]Figure, e), Margin: make([]Figure, e)}
	for i := range e {
		out.Margin[i] = None
		out.Taken[i] = make([]Figure, e)
		for j := range out.Taken[i] {
			out.Taken[i][j] = None
		}
	}
	rng := rand.New(rand.NewPCG(seed, 41))
	widest := 0
	for _, x := range experts {
		widest = max(widest, len(x.S))
	}
	rows := f.vt.Rows
	background := kernel.New(samples, rows)
	kernel.Gemm(workers, false, true, float32(math.Sqrt((1-signal)/float64(n))), normal(rng, samples, n), f.vt, 0, background)
	coefficients := normal(rng, samples, widest)
	for k, x := range experts {
		total := 0.0
		for _, s := range x.S {
			total += s * s
		}
		scaled := kernel.New(samples, len(x.S))
		for s := range samples {
			row, from := scaled.Row(s), coefficients.Row(s)
			for i, v := range x.S {
				row[i] = from[i] * float32(math.Sqrt(signal/total)*v)
			}
		}
		cross := kernel.New(len(x.S), rows)
		for i := range cross.Rows {
			kernel.F64ToF32(cross.Row(i), f.v.Row(f.at[k]+i))
		}
		z := kernel.New(samples, rows)
		copy(z.Data, background.Data)
		kernel.Gemm(workers, false, false, 1, scaled, cross, 1, z)
		counts := make([]int, len(experts))
		margin := 0.0
		for s := range samples {
			row := z.Row(s)
			best, second, at := 0.0, 0.0, 0
			for k := range experts {
				switch v := kernel.SumSquares(row[f.at[k] : f.at[k]+g]); {
				case k == 0 || v > best:
					best, second, at = v, best, k
				case v > second:
					second = v
				}
			}
			counts[at]++
			if best > 0 {
				margin += 1 - math.Sqrt(second/best)
			}
		}
		for k, y := range experts {
			out.Taken[x.Expert][y.Expert] = Figure(float64(counts[k]) / float64(samples))
		}
		out.Margin[x.Expert] = Figure(margin / float64(samples))
	}
	return out
}

func normal(rng *rand.Rand, rows, cols int) linalg.Matrix {
	m := kernel.New(rows, cols)
	for i := range m.Data {
		m.Data[i] = float32(rng.NormFloat64())
	}
	return m
}
