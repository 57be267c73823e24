//go:build !unix

package main

import "time"

var start = time.Now()

// cpuTime stands for CPU time where there is no way to ask for it.
func cpuTime() time.Duration { return time.Since(start) }
