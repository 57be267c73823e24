// Package floor measures what the machine itself allows: the rate of fused
// multiply-adds and the bandwidth of reading memory, which benchmarks hold
// their own figures against.
package floor

import "sync"

// FMA returns the float32 operations that the workers do together, over some
// milliseconds, in chains of fused multiply-adds that touch no memory. The
// caller takes the time.
func FMA(workers int) float64 {
	const n = 1_000_000
	flop := make([]float64, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			flop[w] = fmaLoop(n)
		}()
	}
	wg.Wait()
	var sum float64
	for _, f := range flop {
		sum += f
	}
	return sum
}

// Read loads all of p, split among the workers, and returns the bytes read. The
// caller takes the time.
func Read(workers int, p []byte) float64 {
	const unit = 4096
	part := len(p) / workers / unit * unit
	if part == 0 {
		return 0
	}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			readLoop(p[w*part : (w+1)*part])
		}()
	}
	wg.Wait()
	return float64(part * workers)
}
