// Command kernel measures smelt's arithmetic beside the machine's floor and
// beside OpenBLAS and oneDNN (through numpy and torch), turn by turn in the same
// run, and prints a table in Markdown and whether targets are met.
//
//	go run ./bench/kernel -python PYTHON [-threads 2] [-rounds 11] [-only 'GEMM 1024']
//
// Our and the peer's figures are medians over the rounds; their ratio is the
// median of the rounds' ratios, so that a slow moment of the machine touches both
// sides. The floor is the best of its rounds: it says what the machine can do,
// and a slow moment says nothing of that. Memory is shared with other machines,
// and few rounds reach its best: of matrix–vector products the median of the
// rounds' shares is told as well, and held against the target. For products of bfloat16 pairs the floor is twice that of
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
	rounds := flag.Int("rounds", 11, "rounds per figure")
	only := flag.String("only", "", "measure only what this regular expression matches")
	threads := flag.Int("threads", runtime.GOMAXPROCS(0), "threads of both sides")
	flag.Parse()
	match, err := regexp.Compile(*only)
	if err == nil {
		err = run(*python, match, *rounds, *threads)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench/kernel:", err)
		os.Exit(1)
	}
}

// Row is one figure: ours, the floor's and the peer's rate, in Unit.
type Row struct {
	What        string
	Threads     int
	Unit        string
	Floor, Ours float64
	OfFloor     float64
	Peer        string
	Theirs      float64
	OfPeer      float64
	Want        float64 // of the floor; 0: no target
	WantOfPeer  float64
	InTurns     float64 // median of the rounds' shares of the floor
	Memory      bool    // the floor is memory's: InTurns counts
}

func run(python string, only *regexp.Regexp, rounds, threads int) error {
	p, err := startPeer(python, threads)
	if err != nil {
		return err
	}
	about := "Kernels " + kernel.Variant()
	if p != nil {
		versions, err := ask[map[string]string](p, "versions")
		if err != nil {
			return err
		}
		about += fmt.Sprintf("; numpy with %s, core type %s", versions["blas"], versions["coretype"])
	}
	b := bench{threads: threads, only: only, rounds: rounds, peer: p}
	if err := b.all(); err != nil {
		return err
	}
	if err := p.stop(); err != nil {
		return err
	}
	markdown(os.Stdout, b.rows)
	fmt.Println(about + ".")
	targets(os.Stdout, threads, b.rows)
	return nil
}

// markdown prints rows as a table.
func markdown(w io.Writer, rows []Row) {
	fmt.Fprintf(w, "| what | threads | floor | smelt | of floor | peer | peer's | smelt / peer |\n|---|---|---|---|---|---|---|---|\n")
	for _, x := range rows {
		theirs, ratio, turns := "", "", ""
		if x.Memory {
			turns = fmt.Sprintf(" (turn by turn %.0f %%)", 100*x.InTurns)
		}
		if x.Theirs > 0 {
			theirs, ratio = fmt.Sprintf("%.0f", x.Theirs), fmt.Sprintf("%.2f", x.OfPeer)
		}
		fmt.Fprintf(w, "| %s | %d | %.0f %s | %.0f | %.0f %%%s | %s | %s | %s |\n",
			x.What, x.Threads, x.Floor, x.Unit, x.Ours, 100*x.OfFloor, turns, x.Peer, theirs, ratio)
	}
}

// targets prints whether the rows meet each target that some of them have, and
// which do not.
func targets(w io.Writer, threads int, rows []Row) {
	var order []string
	all, missed := map[string]int{}, map[string][]string{}
	judge := func(want, what, got string, met bool) {
		if all[want] == 0 {
			order = append(order, want)
		}
		all[want]++
		if !met {
			missed[want] = append(missed[want], what+": "+got)
		}
	}
	for _, x := range rows {
		if x.Want > 0 {
			share, what := x.OfFloor, "the floor"
			if x.Memory {
				share, what = x.InTurns, "the bandwidth, turn by turn"
			}
			judge(fmt.Sprintf("%.0f %% of %s", 100*x.Want, what), x.What, fmt.Sprintf("%.1f %%", 100*share), share >= x.Want)
		}
		if x.WantOfPeer > 0 && x.Theirs > 0 {
			judge(fmt.Sprintf("%.2f × %s", x.WantOfPeer, x.Peer), x.What, fmt.Sprintf("%.2f ×", x.OfPeer), x.OfPeer >= x.WantOfPeer)
		}
	}
	for _, want := range order {
		verdict := "met"
		if m := missed[want]; m != nil {
			verdict = "but " + strings.Join(m, "; ") + ", **not met**"
		}
		fmt.Fprintf(w, "- threads %d, %d figures ≥ %s: %s\n", threads, all[want], want, verdict)
	}
}

// bench measures with one number of threads.
type bench struct {
	threads, rounds int
	only            *regexp.Regexp
	peer            *peer
	rows            []Row
}

// seconds returns what f takes.
func seconds(f func()) float64 {
	start := time.Now()
	f()
	return time.Since(start).Seconds()
}

// warm returns what f takes when it has just run: the first product after a
// pause waits, a millisecond on two threads, until the system has given
// the second thread a core. The peer warms up likewise.
func warm(f func()) float64 {
	f()
	return seconds(f)
}

// floorRate returns the rate in 10⁹ a second of a floor, which returns its work.
func floorRate(floor func() float64) float64 {
	var work float64
	s := warm(func() { work = floor() })
	return work / s / 1e9
}

func (b *bench) all() error {
	for _, s := range []struct {
		m, n, k        int
		transA, transB bool
		want           float64 // of the floor
	}{
		{1024, 1024, 1024, false, false, 0.85},
		{4096, 32, 4096, false, false, 0.75},
		{4096, 144, 14336, false, false, 0.75},
		{3200, 768, 3072, false, false, 0.85},
		{3200, 768, 3072, false, true, 0.85},
		{48, 768, 768, false, false, 0},
		{768, 48, 768, false, true, 0},
		{768, 48, 768, true, false, 0},
		{3072, 48, 768, false, true, 0},
		{48, 3072, 768, false, false, 0},
	} {
		if err := b.gemm(s.m, s.n, s.k, s.transA, s.transB, s.want); err != nil {
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
// the rate is counted; floor returns its work; request asks the peer, if there is one.
func (b *bench) measure(row Row, work float64, ours func(), floor func() float64, request string) error {
	if !b.only.MatchString(row.What) {
		return nil
	}
	row.Threads = b.threads
	var rates, floors, ofFloor, theirs, ofPeer []float64
	ours()
	for range b.rounds {
		f := floorRate(floor)
		rate := work / warm(ours) / 1e9
		rates, floors = append(rates, rate), append(floors, f)
		ofFloor = append(ofFloor, rate/f)
		if b.peer == nil || request == "" {
			continue
		}
		took, err := ask[float64](b.peer, request)
		if err != nil {
			return err
		}
		time.Sleep(settle)
		theirs, ofPeer = append(theirs, work/took/1e9), append(ofPeer, rate*took*1e9/work)
	}
	row.Ours, row.Floor = median(rates), slices.Max(floors)
	row.OfFloor = row.Ours / row.Floor
	row.InTurns = median(ofFloor)
	if len(theirs) > 1 {
		row.Theirs, row.OfPeer = median(theirs[1:]), median(ofPeer[1:])
	}
	b.rows = append(b.rows, row)
	fmt.Fprintf(os.Stderr, "%+v\n", row)
	return nil
}

func (b *bench) fma() float64 { return floor.FMA(b.threads) }

// gemm measures a product in float32, repeated if it is small; want is a share of the
// floor.
func (b *bench) gemm(m, n, k int, transA, transB bool, want float64) error {
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
	row := Row{What: what, Unit: "GFLOP/s", Peer: "OpenBLAS", Want: want}
	if want > 0 {
		row.WantOfPeer = 0.95
	}
	return b.measure(row, float64(times)*work, func() {
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
		row.Peer, row.WantOfPeer = "same with float32 weight", 0.99
		return b.measureBoth(row, 2*float64(m)*float64(n)*float64(k),
			func() { kernel.GemmWeight(b.threads, c, x, w, 0) },
			func() { kernel.GemmWeight(b.threads, cw, x, wide, 0) })
	}
	row.What, row.Peer = fmt.Sprintf("bf16 × bf16 %d×%d×%d", m, n, k), "oneDNN"
	return b.measure(row, 2*float64(m)*float64(n)*float64(k),
		func() { kernel.GemmBF16(b.threads, c, x, w, 0) }, func() float64 { return 2 * b.fma() }, fmt.Sprintf("bf16 %d %d %d", m, n, k))
}

// measureBoth is measure with a peer of our own. Who comes first changes from
// round to round.
func (b *bench) measureBoth(row Row, work float64, ours, peer func()) error {
	if !b.only.MatchString(row.What) {
		return nil
	}
	row.Threads = b.threads
	var rates, floors, theirs, ofPeer []float64
	ours()
	peer()
	for i := range b.rounds {
		f := floorRate(b.fma)
		first, second := ours, peer
		if i%2 == 1 {
			first, second = peer, ours
		}
		rate, other := work/warm(first)/1e9, work/warm(second)/1e9
		if i%2 == 1 {
			rate, other = other, rate
		}
		rates, floors = append(rates, rate), append(floors, f)
		time.Sleep(settle)
		theirs, ofPeer = append(theirs, other), append(ofPeer, rate/other)
	}
	row.Ours, row.Floor = median(rates), slices.Max(floors)
	row.OfFloor = row.Ours / row.Floor
	row.Theirs, row.OfPeer = median(theirs), median(ofPeer)
	b.rows = append(b.rows, row)
	fmt.Fprintf(os.Stderr, "%+v\n", row)
	return nil
}

func (b *bench) matvec(rows, cols int, d dtype.DType) error {
	w, x, c := stored(rows, cols, d), random(1, cols), kernel.New(1, rows)
	row := Row{What: fmt.Sprintf("matrix–vector %d×%d %v", rows, cols, d), Unit: "GB/s", Want: 0.85, Memory: true}
	request := ""
	switch d {
	case dtype.F32:
		row.Peer, request = "OpenBLAS", fmt.Sprintf("openblas %d 1 %d 0 0 1", rows, cols)
	case dtype.BF16:
		row.Peer, request = "oneDNN", fmt.Sprintf("bf16 1 %d %d", rows, cols)
	}
	return b.measure(row, float64(len(w.Data)),
		func() { kernel.GemmWeight(b.threads, c, x, w, 0) },
		func() float64 { return floor.Read(b.threads, w.Data) }, request)
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

// peer is a running peer process.
type peer struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startPeer(python string, threads int) (*peer, error) {
	if python == "" {
		return nil, nil
	}
	cmd := exec.Command(python, filepath.Join("bench", "kernel", "peer.py"))
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
