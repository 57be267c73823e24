// Command linalg decomposes one matrix and says as JSON how long that took, how
// good the result is, and what the machine's floors are: the side of run.py that
// is ours. Without a matrix it says the floors alone.
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
	"runtime"
	"time"

	"smelt/internal/kernel"
	"smelt/internal/kernel/floor"
	"smelt/linalg"
)

type result struct {
	Wall        []float64          `json:"wall"` // seconds, one a repetition
	Captured    float64            `json:"captured"`
	Certificate linalg.Certificate `json:"certificate"`
	Operations  float64            `json:"operations"` // of a truncation, one in float64 counted as two
	floors
}

// floors are the best of some moments, taken between the repetitions.
type floors struct {
	FMA  float64 `json:"fma"`  // float32 operations a second
	Read float64 `json:"read"` // bytes a second, from where the matrix lies
}

func main() {
	var opt linalg.Options
	m := flag.Int("m", 0, "rows")
	n := flag.Int("n", 0, "columns")
	in := flag.String("in", "", "file of m·n float32, little-endian")
	vt := flag.String("vt", "", "file for the right singular vectors, float32")
	reps := flag.Int("reps", 3, "repetitions after one that warms up; 0: that one alone")
	exact := flag.Bool("exact", false, "the full decomposition in float64")
	flag.IntVar(&opt.Rank, "rank", 32, "rank")
	flag.IntVar(&opt.RouterRank, "router", 16, "router rank")
	flag.IntVar(&opt.Workers, "workers", runtime.GOMAXPROCS(0), "goroutines")
	flag.Parse()
	var out result
	var err error
	if *in == "" {
		out.measure(opt.Workers, make([]byte, 256<<20))
	} else {
		out, err = run(*m, *n, *in, *vt, *reps, *exact, opt)
	}
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(out)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(m, n int, in, vt string, reps int, exact bool, opt linalg.Options) (out result, err error) {
	raw, err := os.ReadFile(in)
	if err != nil {
		return out, err
	}
	if len(raw) != 4*m*n {
		return out, fmt.Errorf("linalg: %s has %d bytes, want %d for %d × %d", in, len(raw), 4*m*n, m, n)
	}
	a := kernel.New(m, n)
	for i := range a.Data {
		a.Data[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	var d linalg.SVD
	for i := range reps + 1 {
		out.measure(opt.Workers, raw)
		start := time.Now()
		if exact {
			d, err = linalg.Exact(a, opt.Workers)
		} else {
			d, err = linalg.Truncate(a, opt)
		}
		if err != nil {
			return out, err
		}
		if i > 0 || reps == 0 {
			out.Wall = append(out.Wall, time.Since(start).Seconds())
		}
	}
	out.Captured, out.Certificate = d.Captured, d.Certificate
	out.Operations = operations(m, n, d.Certificate)
	if vt == "" {
		return out, nil
	}
	buf := make([]byte, 0, 4*len(d.Vt.Data))
	for i := range d.Vt.Rows {
		for _, v := range d.Vt.Row(i) {
			buf = binary.LittleEndian.AppendUint32(buf, math.Float32bits(v))
		}
	}
	return out, os.WriteFile(vt, buf, 0o600)
}

// operations returns what the products of a truncation take and, on the
// deterministic path, the Gram matrix (one triangle of it) and its reduction to
// tridiagonal form, in float64, whose operations take twice as long.
func operations(m, n int, c linalg.Certificate) float64 {
	p, q := float64(min(m, n)), float64(max(m, n))
	flop := 2 * p * q * float64(c.Products)
	if c.Iterations == 0 {
		flop += 2 * (p*p*q + 4*p*p*p/3)
	}
	return flop
}

// measure looks again at what the machine can do.
func (f *floors) measure(workers int, memory []byte) {
	const moments = 8
	for range moments {
		start := time.Now()
		flop := floor.FMA(workers)
		f.FMA = max(f.FMA, flop/time.Since(start).Seconds())
		start = time.Now()
		read := floor.Read(workers, memory)
		f.Read = max(f.Read, read/time.Since(start).Seconds())
	}
}
