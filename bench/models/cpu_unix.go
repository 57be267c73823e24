//go:build unix

package main

import "golang.org/x/sys/unix"

// cpuSeconds returns the processor time that the process has used, which a
// busy machine stretches less than the wall's.
func cpuSeconds() float64 {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	seconds := func(t unix.Timeval) float64 { return float64(t.Nano()) / 1e9 }
	return seconds(u.Utime) + seconds(u.Stime)
}
