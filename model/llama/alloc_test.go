//go:build !race

// The race detector makes sync.Pool forget.

package llama

import (
	"runtime"
	"testing"

	"smelt/nn"
)

// A decoding step allocates no activations: what is left are the kernels' small
// arguments.
func TestStepAllocates(t *testing.T) {
	m, _ := load(t, "qwen3")
	s := m.NewSession(&nn.Pass{Workers: 1})
	if err := s.Reserve(100); err != nil {
		t.Fatal(err)
	}
	id := []int{3}
	step := func() {
		if _, err := s.Step(id); err != nil {
			t.Fatal(err)
		}
	}
	step()
	const steps = 50
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range steps {
		step()
	}
	runtime.ReadMemStats(&after)
	if bytes := (after.TotalAlloc - before.TotalAlloc) / steps; bytes > 32<<10 {
		t.Errorf("%d bytes allocated a step", bytes)
	}
}
