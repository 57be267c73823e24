package floor

import "testing"

func TestFloors(t *testing.T) {
	if got := FMA(2); !(got > 1e6) {
		t.Errorf("FMA(2) = %v operations", got)
	}
	if got := Read(2, make([]byte, 1<<20)); got != 1<<20 {
		t.Errorf("Read(2, 1 MiB) = %v bytes", got)
	}
	if got := Read(2, nil); got != 0 {
		t.Errorf("Read(2, nothing) = %v, want 0", got)
	}
}

func BenchmarkFMA(b *testing.B) {
	var flop float64
	for b.Loop() {
		flop += FMA(1)
	}
	b.ReportMetric(flop/float64(b.Elapsed().Nanoseconds()), "GFLOP/s")
}
