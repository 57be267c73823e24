package floor

import "testing"

func TestFloors(t *testing.T) {
	if got := FMA(2); !(got > 0.01) {
		t.Errorf("FMA(2) = %v GFLOP/s", got)
	}
	if got := Read(2, make([]byte, 1<<20)); !(got > 0.01) {
		t.Errorf("Read(2, 1 MiB) = %v GB/s", got)
	}
	if got := Read(2, nil); got != 0 {
		t.Errorf("Read(2, nothing) = %v, want 0", got)
	}
}

func BenchmarkFMA(b *testing.B) {
	var best float64
	for b.Loop() {
		best = max(best, FMA(1))
	}
	b.ReportMetric(best, "GFLOP/s")
}
