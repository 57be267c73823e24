// Command kernel measures smelt's arithmetic beside the machine's floor and
// beside OpenBLAS and oneDNN (through numpy and torch), turn by turn in the same
// run, and prints a Markdown fragment; -json writes the figures as well.
//
//	go run ./bench/kernel -python PYTHON [-json FILE] [-rounds 15] [-only 'GEMM 1024']
//
// Our and the peer's figures are medians over the rounds; their ratio is the
// median of the rounds' ratios, so that a slow moment of the machine touches both
// sides. The floor is the best of its rounds: it says what the machine can do,
// and a slow moment says nothing of that. Memory is shared with other machines,
// and few rounds reach its best: matrix–vector products stand beside the floor's
// median as well. For products of bfloat16 pairs the floor is twice that of
// float32, two products to a lane.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"sort"
	"strings"
	"time"

	"smelt/dtype"
	"smelt/internal/kernel"
	"smelt/internal/kernel/floor"
)

func main() {
	python := flag.String("python", os.Getenv("SMELT_PYTHON"), "Python with numpy and torch; none: no peer")
	script := flag.String("peer", filepath.Join("bench", "kernel", "peer.py"), "the peer's script")
	out := flag.String("json", "", "write the figures to this file")
	rounds := flag.Int("rounds", 15, "rounds per figure")
	only := flag.String("only", "", "measure only what this regular expression matches")
	byCPU := flag.Bool("cpu", false, "one thread, by its CPU seconds instead of the wall clock, for a machine that others share")
	flag.Parse()
	match, err := regexp.Compile(*only)
	if err == nil {
		err = run(*python, *script, *out, match, *rounds, *byCPU)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench/kernel:", err)
		os.Exit(1)
	}
}

// Row is one figure: ours, the floor's and the peer's rate, in Unit.
type Row struct {
	What    string  `json:"what"`
	Threads int     `json:"threads"`
	Unit    string  `json:"unit"`
	Floor   float64 `json:"floor"`
	Ours    float64 `json:"ours"`
	OfFloor float64 `json:"of_floor"`
	Peer    string  `json:"peer,omitempty"`
	Theirs  float64 `json:"theirs,omitempty"`
	OfPeer  float64 `json:"of_peer,omitempty"`
}

// Report is all that one run says.
type Report struct {
	Machine  string            `json:"machine"`
	Go       string            `json:"go"`
	Variant  string            `json:"variant"`
	Clock    string            `json:"clock"`
	Versions map[string]string `json:"versions,omitempty"`
	Rows     []Row             `json:"rows"`
}

func run(python, script, out string, only *regexp.Regexp, rounds int, byCPU bool) error {
	r := Report{Machine: machine(), Go: runtime.Version(), Variant: kernel.Variant(), Clock: "wall"}
	start := time.Now()
	clock, most := func() time.Duration { return time.Since(start) }, 2
	if byCPU {
		r.Clock, clock, most = "CPU", cpuTime, 1
	}
	for threads := 1; threads <= most; threads++ {
		if threads > runtime.GOMAXPROCS(0) {
			break
		}
		p, err := startPeer(python, script, threads)
		if err != nil {
			return err
		}
		if p != nil {
			if r.Versions, err = ask[map[string]string](p, "versions"); err != nil {
				return err
			}
		}
		b := bench{threads: threads, only: only, rounds: rounds, peer: p, clock: clock, byCPU: byCPU}
		if err := b.all(); err != nil {
			return err
		}
		r.Rows = append(r.Rows, b.rows...)
		if err := p.stop(); err != nil {
			return err
		}
	}
	if out != "" {
		data, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(out, append(data, '\n'), 0o644); err != nil {
			return err
		}
	}
	r.markdown(os.Stdout)
	return nil
}

// markdown prints the report as a fragment of a page.
func (r Report) markdown(w io.Writer) {
	fmt.Fprintf(w, "Machine: %s; %s; kernels %s; by the %s clock", r.Machine, r.Go, r.Variant, r.Clock)
	for _, k := range []string{"blas", "coretype", "numpy", "torch"} {
		if v := r.Versions[k]; v != "" {
			fmt.Fprintf(w, "; %s %s", k, v)
		}
	}
	fmt.Fprintf(w, ".\n\n| what | threads | floor | smelt | of floor | peer | peer's | smelt / peer |\n|---|---|---|---|---|---|---|---|\n")
	for _, x := range r.Rows {
		theirs, ratio := "", ""
		if x.Theirs > 0 {
			theirs, ratio = fmt.Sprintf("%.0f", x.Theirs), fmt.Sprintf("%.2f", x.OfPeer)
		}
		fmt.Fprintf(w, "| %s | %d | %.0f %s | %.0f | %.0f %% | %s | %s | %s |\n",
			x.What, x.Threads, x.Floor, x.Unit, x.Ours, 100*x.OfFloor, x.Peer, theirs, ratio)
	}
}

// bench measures with one number of threads.
type bench struct {
	threads, rounds int
	only            *regexp.Regexp
	peer            *peer
	clock           func() time.Duration
	byCPU           bool
	rows            []Row
}

// seconds returns what f takes.
func (b *bench) seconds(f func()) float64 {
	start := b.clock()
	f()
	return (b.clock() - start).Seconds()
}

// floorRate returns the rate in 10⁹ a second of a floor, which returns its work.
func (b *bench) floorRate(floor func() float64) float64 {
	var work float64
	s := b.seconds(func() { work = floor() })
	return work / s / 1e9
}

func (b *bench) all() error {
	for _, s := range []struct {
		m, n, k        int
		transA, transB bool
	}{
		{1024, 1024, 1024, false, false},
		{4096, 32, 4096, false, false},
		{4096, 144, 14336, false, false},
		{3200, 768, 3072, false, false},
		{3200, 768, 3072, false, true},
		{48, 768, 768, false, false},
		{768, 48, 768, false, true},
		{768, 48, 768, true, false},
		{3072, 48, 768, false, true},
		{48, 3072, 768, false, false},
	} {
		if err := b.gemm(s.m, s.n, s.k, s.transA, s.transB); err != nil {
			return err
		}
	}
	for _, s := range [][3]int{{3200, 768, 3072}, {512, 4096, 4096}} {
		for _, class := range []bool{false, true} {
			if err := b.bf16(s[0], s[1], s[2], class); err != nil {
				return err
			}
		}
	}
	for _, d := range []dtype.DType{dtype.F32, dtype.BF16, dtype.F16} {
		if err := b.matvec(14336, 4096, d); err != nil {
			return err
		}
	}
	return nil
}

// settle is how long the peer is left alone after its turn: the threads of
// OpenBLAS and oneDNN spin for a while before they sleep, and would share a
// core with our next turn.
const settle = 300 * time.Millisecond

// measure adds a row: work is done by each call of ours, per second of which
// the rate is counted; floor returns its work; request asks the peer. Without a
// request the peer is the floor itself, turn by turn.
func (b *bench) measure(row Row, work float64, ours func(), floor func() float64, request string) error {
	if !b.only.MatchString(row.What) {
		return nil
	}
	row.Threads = b.threads
	var rates, floors, theirs, ofPeer []float64
	ours()
	for range b.rounds {
		f := b.floorRate(floor)
		rate := work / b.seconds(ours) / 1e9
		rates, floors = append(rates, rate), append(floors, f)
		if request == "" {
			theirs, ofPeer = append(theirs, f), append(ofPeer, rate/f)
		}
		if b.peer == nil || request == "" {
			continue
		}
		both, err := ask[[2]float64](b.peer, request)
		if err != nil {
			return err
		}
		seconds := both[0]
		if b.byCPU {
			seconds = both[1]
		}
		time.Sleep(settle)
		theirs, ofPeer = append(theirs, work/seconds/1e9), append(ofPeer, rate*seconds*1e9/work)
	}
	row.Ours, row.Floor = median(rates), slices.Max(floors)
	row.OfFloor = row.Ours / row.Floor
	if len(theirs) > 1 {
		row.Theirs, row.OfPeer = median(theirs[1:]), median(ofPeer[1:])
	}
	b.rows = append(b.rows, row)
	fmt.Fprintf(os.Stderr, "%+v\n", row)
	return nil
}

func (b *bench) fma() float64 { return floor.FMA(b.threads) }

// gemm measures a product in float32; a small one is repeated.
func (b *bench) gemm(m, n, k int, transA, transB bool) error {
	what := fmt.Sprintf("GEMM %d×%d×%d", m, n, k)
	x, y, c := random(m, k), random(k, n), kernel.New(m, n)
	if transA {
		x, what = random(k, m), what+", a transposed"
	}
	if transB {
		y, what = random(n, k), what+", b transposed"
	}
	work := 2 * float64(m) * float64(n) * float64(k)
	times := max(1, int(1e10/work))
	return b.measure(Row{What: what, Unit: "GFLOP/s", Peer: "OpenBLAS"}, float64(times)*work, func() {
		for range times {
			kernel.Gemm(b.threads, transA, transB, 1, x, y, 0, c)
		}
	}, b.fma, fmt.Sprintf("openblas %d %d %d %d %d %d", m, n, k, digit(transA), digit(transB), times))
}

func digit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// bf16 measures x·wᵀ with a bfloat16 weight: in float32, or by pairs.
func (b *bench) bf16(m, n, k int, pairs bool) error {
	x, c, w := random(m, k), kernel.New(m, n), stored(n, k, dtype.BF16)
	row := Row{What: fmt.Sprintf("bf16 weight, float32 sums %d×%d×%d", m, n, k), Unit: "GFLOP/s"}
	if !pairs {
		wide, cw := stored(n, k, dtype.F32), kernel.New(m, n)
		row.Peer = "same with float32 weight"
		return b.measureBoth(row, 2*float64(m)*float64(n)*float64(k),
			func() { kernel.GemmWeight(b.threads, c, x, w, 0) },
			func() { kernel.GemmWeight(b.threads, cw, x, wide, 0) })
	}
	row.What, row.Peer = fmt.Sprintf("bf16 × bf16 %d×%d×%d", m, n, k), "oneDNN"
	return b.measure(row, 2*float64(m)*float64(n)*float64(k),
		func() { kernel.GemmBF16(b.threads, c, x, w, 0) }, func() float64 { return 2 * b.fma() }, fmt.Sprintf("bf16 %d %d %d", m, n, k))
}

// measureBoth is measure with a peer of our own.
func (b *bench) measureBoth(row Row, work float64, ours, peer func()) error {
	if !b.only.MatchString(row.What) {
		return nil
	}
	row.Threads = b.threads
	var rates, floors, theirs, ofPeer []float64
	ours()
	peer()
	for range b.rounds {
		f := b.floorRate(b.fma)
		rate, other := work/b.seconds(ours)/1e9, work/b.seconds(peer)/1e9
		rates, floors = append(rates, rate), append(floors, f)
		time.Sleep(settle)
		theirs, ofPeer = append(theirs, other), append(ofPeer, rate/other)
	}
	row.Ours, row.Floor = median(rates), slices.Max(floors)
	row.OfFloor = row.Ours / row.Floor
	row.Theirs, row.OfPeer = median(theirs), median(ofPeer)
	b.rows = append(b.rows, row)
	return nil
}

func (b *bench) matvec(rows, cols int, d dtype.DType) error {
	w, x, c := stored(rows, cols, d), random(1, cols), kernel.New(1, rows)
	return b.measure(Row{What: fmt.Sprintf("matrix–vector %d×%d %v", rows, cols, d), Unit: "GB/s", Peer: "the floor, turn by turn"}, float64(len(w.Data)),
		func() { kernel.GemmWeight(b.threads, c, x, w, 0) },
		func() float64 { return floor.Read(b.threads, w.Data) }, "")
}

func random(rows, cols int) kernel.Matrix {
	m := kernel.New(rows, cols)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range m.Data {
		m.Data[i] = r.Float32()*2 - 1
	}
	return m
}

func stored(rows, cols int, d dtype.DType) kernel.Weight {
	m := random(rows, cols)
	w := kernel.Weight{Rows: rows, Cols: cols, DType: d, Data: make([]byte, rows*cols*d.Size())}
	kernel.Narrow(0, w.Data, d, m.Data)
	return w
}

func median(x []float64) float64 {
	sort.Float64s(x)
	return x[len(x)/2]
}

// machine returns the CPU's name and the number of cores in use.
func machine() string {
	name := runtime.GOARCH
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
				name = strings.TrimSpace(value)
				break
			}
		}
	}
	return fmt.Sprintf("%s, %d cores", name, runtime.GOMAXPROCS(0))
}

// peer is a running peer process.
type peer struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startPeer(python, script string, threads int) (*peer, error) {
	if python == "" {
		return nil, nil
	}
	cmd := exec.Command(python, script)
	// SkylakeX is OpenBLAS's AVX-512 core type; it does not choose it by itself
	// on CPUs that it does not know.
	cmd.Env = append(os.Environ(), "OPENBLAS_CORETYPE=SkylakeX", fmt.Sprintf("OPENBLAS_NUM_THREADS=%d", threads), fmt.Sprintf("OMP_NUM_THREADS=%d", threads))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return &peer{cmd, in, bufio.NewReader(out)}, cmd.Start()
}

func (p *peer) stop() error {
	if p == nil {
		return nil
	}
	p.in.Close()
	return p.cmd.Wait()
}

func ask[T any](p *peer, request string) (answer T, err error) {
	if _, err := fmt.Fprintln(p.in, request); err != nil {
		return answer, fmt.Errorf("peer: %q: %w", request, err)
	}
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		return answer, fmt.Errorf("peer: %q: %w", request, err)
	}
	return answer, json.Unmarshal(line, &answer)
}
