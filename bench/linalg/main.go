// Command linalg decomposes one matrix and says how long that took and how
// good the result is, as JSON: the side of run.py that is ours.
//
//	linalg -m 4096 -n 4096 -rank 32 -in a.f32 -vt vt.f32
package main

import (
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"syscall"
	"time"

	"smelt/internal/kernel"
	"smelt/linalg"
)

type result struct {
	Wall        []float64          `json:"wall"` // seconds, one a repetition
	CPU         []float64          `json:"cpu"`
	Energy      float64            `json:"energy"`
	Captured    float64            `json:"captured"`
	S           []float64          `json:"s"`
	Certificate linalg.Certificate `json:"certificate"`
}

func main() {
	var opt linalg.Options
	m := flag.Int("m", 0, "rows")
	n := flag.Int("n", 0, "columns")
	in := flag.String("in", "", "file of m·n float32, little-endian")
	vt := flag.String("vt", "", "file for the right singular vectors, float32")
	reps := flag.Int("reps", 3, "repetitions after one that warms up")
	exact := flag.Bool("exact", false, "the full decomposition in float64")
	flag.IntVar(&opt.Rank, "rank", 32, "rank")
	flag.IntVar(&opt.RouterRank, "router", 16, "router rank")
	flag.IntVar(&opt.Workers, "workers", 0, "goroutines, 0 means all cores")
	flag.Parse()
	if err := run(*m, *n, *in, *vt, *reps, *exact, opt); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(m, n int, in, vt string, reps int, exact bool, opt linalg.Options) error {
	raw, err := os.ReadFile(in)
	if err != nil {
		return err
	}
	if len(raw) != 4*m*n {
		return fmt.Errorf("linalg: %s has %d bytes, want %d for %d × %d", in, len(raw), 4*m*n, m, n)
	}
	a := kernel.New(m, n)
	for i := range a.Data {
		a.Data[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	raw = nil
	var out result
	var d linalg.SVD
	for i := range reps + 1 {
		wall, cpu := time.Now(), cpuTime()
		if exact {
			d, err = linalg.Exact(a, opt.Workers)
		} else {
			d, err = linalg.Truncate(a, opt)
		}
		if err != nil {
			return err
		}
		if i > 0 || reps == 0 {
			out.Wall = append(out.Wall, time.Since(wall).Seconds())
			out.CPU = append(out.CPU, (cpuTime() - cpu).Seconds())
		}
	}
	out.Energy, out.Captured, out.S, out.Certificate = d.Energy, d.Captured, d.S, d.Certificate
	if vt != "" {
		buf := make([]byte, 0, 4*len(d.Vt.Data))
		for i := range d.Vt.Rows {
			for _, v := range d.Vt.Row(i) {
				buf = binary.LittleEndian.AppendUint32(buf, math.Float32bits(v))
			}
		}
		if err := os.WriteFile(vt, buf, 0o600); err != nil {
			return err
		}
	}
	return json.NewEncoder(os.Stdout).Encode(out)
}

// cpuTime returns what this process has used of all cores.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
