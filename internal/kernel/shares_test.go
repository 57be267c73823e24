package kernel

import (
	"runtime"
	"testing"
)

// TestShares wants every row once, and all calls but the last to end with a
// whole unit.
func TestShares(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(8))
	for _, workers := range []int{1, 2, 3, 8} {
		for _, rows := range []int{0, 1, 5, 63, 64, 1000, 4097} {
			for _, bytes := range []int{0, 1, 300, 8192, 1 << 20} {
				s, end := newShares(workers, rows, bytes), 0
				for i := range s.tasks() {
					s.task(i, func(lo, hi int) {
						if lo != end || hi <= lo || hi > rows || (hi < rows && hi%s.unit != 0) {
							t.Fatalf("%d workers, %d rows of %d bytes: task %d of %d has [%d,%d), want it to begin at %d and to end at a multiple of %d",
								workers, rows, bytes, i, s.tasks(), lo, hi, end, s.unit)
						}
						end = hi
					})
				}
				if end != rows || s.workers > workers {
					t.Fatalf("%d workers, %d rows of %d bytes: %d workers do %d rows", workers, rows, bytes, s.workers, end)
				}
			}
		}
	}
}
