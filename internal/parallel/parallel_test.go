package parallel

import (
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
)

func TestForVisitsEveryIndexOnce(t *testing.T) {
	for _, workers := range []int{-1, 0, 1, 2, 3, 64} {
		for _, n := range []int{-1, 0, 1, 2, 3, 7, 1000} {
			seen := make([]atomic.Int32, max(n, 0))
			For(workers, n, func(i int) { seen[i].Add(1) })
			for i := range seen {
				if got := seen[i].Load(); got != 1 {
					t.Fatalf("workers %d, n %d: index %d visited %d times, want 1", workers, n, i, got)
				}
			}
		}
	}
}

func TestForBoundsWorkers(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	for _, workers := range []int{1, 2, 3, 100} {
		var running, most atomic.Int64
		For(workers, 200, func(int) {
			now := running.Add(1)
			for {
				m := most.Load()
				if now <= m || most.CompareAndSwap(m, now) {
					break
				}
			}
			runtime.Gosched()
			running.Add(-1)
		})
		if got, want := most.Load(), int64(min(workers, 4)); got > want {
			t.Errorf("workers %d: %d calls ran at once, want at most %d", workers, got, want)
		}
	}
}

func TestStagesInOrder(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	counts := []int{5, 0, 1, 300, -2, 17}
	for _, workers := range []int{1, 2, 4} {
		var calls [6]atomic.Int64
		Stages(workers, func(stage, _ int) {
			for before, n := range counts[:stage] {
				if got := calls[before].Load(); got != int64(max(0, n)) {
					t.Errorf("workers %d: stage %d runs when %d of %d calls of stage %d have returned", workers, stage, got, n, before)
				}
			}
			calls[stage].Add(1)
		}, counts...)
		for stage, n := range counts {
			if got := calls[stage].Load(); got != int64(max(0, n)) {
				t.Errorf("workers %d: %d calls of stage %d, want %d", workers, got, stage, max(0, n))
			}
		}
	}
}

func TestForNests(t *testing.T) {
	var calls atomic.Int64
	For(0, 8, func(int) { For(0, 8, func(int) { calls.Add(1) }) })
	if got := calls.Load(); got != 64 {
		t.Fatalf("nested loops made %d calls, want 64", got)
	}
}

func TestForRaisesPanic(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	boom := errors.New("boom")
	for _, nested := range []bool{false, true} {
		func() {
			defer func() {
				err, _ := recover().(error)
				if !errors.Is(err, boom) {
					t.Errorf("nested %v: recovered %v, want a panic that wraps %v", nested, err, boom)
				}
			}()
			For(4, 100, func(i int) {
				if !nested && i == 17 {
					panic(boom)
				}
				For(2, 4, func(j int) {
					if nested && i == 17 && j == 2 {
						panic(boom)
					}
				})
			})
		}()
	}
}

func TestWorkers(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	for _, c := range []struct{ n, want int }{{-3, 4}, {0, 4}, {1, 1}, {4, 4}, {5, 4}} {
		if got := Workers(c.n); got != c.want {
			t.Errorf("Workers(%d) = %d, want %d", c.n, got, c.want)
		}
	}
}
