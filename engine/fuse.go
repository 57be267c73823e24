package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"smelt/dtype"
	"smelt/internal/parallel"
	"smelt/internal/vfs"
	"smelt/safetensors"
	"smelt/smile"
)

// memoryLimit is what the units in flight may take together, unless one alone
// takes more.
const memoryLimit = 1 << 30

// concurrency splits workers into units at a time and workers in each, so that
// memory stays bounded by the larger of memoryLimit and one unit.
func (p *Plan) concurrency(workers int) (units, inner int) {
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	units = workers
	if m := p.Totals().Memory; m > 0 {
		units = int(min(int64(workers), max(1, memoryLimit/m)))
	}
	return units, (workers + units - 1) / units
}

// garbage is the room for memory that waits to be collected, in percent of what
// is in use.
const garbage = 25

// PeakMemory bounds the memory of a run beyond mapped files: the limit to set
// with runtime/debug.SetMemoryLimit in a program that does nothing else.
func (p *Plan) PeakMemory(workers int) int64 {
	n, _ := p.concurrency(workers)
	return int64(n)*p.Totals().Memory*(100+garbage)/100 + 64<<20
}

// Result says what a run made.
type Result struct {
	Out        string             `json:"out"`
	Parameters Parameters         `json:"parameters"`
	Bytes      int64              `json:"bytes"`
	Modules    int                `json:"modules"`
	Captured   map[string]float64 `json:"captured"` // per expert: share of ‖ΔW‖² kept
	Warnings   []string           `json:"warnings,omitempty"`
	Resumed    int                `json:"resumed"` // units found done
	Timing     Timing             `json:"timing"`
}

// Part names one of n parts of a fusion, from 1; the zero Part is the whole.
type Part struct{ I, N int }

// Fuse carries a plan out into the directory out, which must not exist. After
// an error nothing is left behind; a run that is killed, or whose context is
// cancelled, leaves its work folder, and the next run with the same plan goes
// on where it was.
func Fuse(ctx context.Context, in *Inputs, p *Plan, part Part, out string, workers int, progress Progress) (*Result, error) {
	if (p.Options.Energy > 0 || p.Options.Budget > 0) && p.Options.Ranks == nil {
		return nil, errors.New("engine: --energy and --budget need a survey first")
	}
	lo, hi := 0, len(p.Units)
	if part.N > 0 {
		lo, hi = p.Range(part.I, part.N)
	}
	key, err := p.Key()
	if err != nil {
		return nil, err
	}
	n, inner := p.concurrency(workers)
	w := worker{plan: p, in: in, workers: inner, ahead: newAhead(in, p.Units[:hi]), crew: &crew{workers: parallel.Workers(workers)}}
	defer w.ahead.stop()
	j := job{
		fs: in.FS, plan: p, out: out, key: fmt.Sprintf("%s %d/%d", key, part.I, part.N), lo: lo, hi: hi, workers: n,
		carry: in.Base.Dir, form: fusedForm{}, reserved: p.reserve(),
		produce: func(i int) ([]output, report, error) {
			w.ahead.begin(i)
			w.crew.units.Add(1)
			defer func() {
				w.crew.units.Add(-1)
				w.ahead.end(i)
			}()
			return w.run(&p.Units[i])
		},
		release: w.release,
	}
	if part.N > 0 {
		j.form = partForm{part}
	}
	return j.run(ctx, progress)
}

// job makes one output from units, whoever produces them: a fusion computes
// them, a join takes them from parts, an edit from another output.
type job struct {
	fs      vfs.FS
	plan    *Plan
	out     string
	key     string
	form    form
	lo, hi  int
	workers int
	carry   string // folder of the files to take over
	produce func(i int) ([]output, report, error)
	release func(i int)
	what    string                          // what progress calls it; "" is fuse
	begin   func(ctx context.Context) error // before the first unit that is not done; may be nil
	// reserved is how many bytes each shard of a stream keeps free for its
	// header.
	reserved [2]int
}

// form is what a job makes of the tensors: a fused model, a part of one, a
// plain checkpoint, an adapter.
type form interface {
	// shards names the shards of both streams, from their counts.
	shards(counts [2]int) [2][]string
	// result sums up what the units found out.
	result(j *job, records []record) (*Result, error)
	// files makes the files beside the shards, from the shards as a manifest
	// lists them and the shard of each tensor.
	files(j *job, records []record, shards map[string]manifestShard, index map[string]string) ([]namedFile, error)
}

// lockName is the file in a work folder that a run holds locked.
const lockName = "lock"

// workFolder is where an output is made: beside it, so that a rename commits.
func workFolder(out string) string {
	out = filepath.Clean(out)
	return filepath.Join(filepath.Dir(out), "."+filepath.Base(out)+".smelt")
}

func (j *job) run(ctx context.Context, progress Progress) (res *Result, err error) {
	began := time.Now()
	work := workFolder(j.out)
	if err := j.prepare(work); err != nil {
		return nil, err
	}
	lock, err := j.fs.Lock(filepath.Join(work, lockName))
	if errors.Is(err, vfs.ErrLocked) {
		return nil, fmt.Errorf("%s: another run is making it at this moment: wait for it, or choose another output", j.out)
	} else if err != nil {
		return nil, err
	}
	defer func() {
		// Nothing is left behind, after success nor after an error; only what
		// was interrupted, and an output whose last sync failed, is gone on
		// with by the next run.
		if err == nil || ctx.Err() == nil && !exists(j.fs, j.out) {
			if e := tidy(j.fs, work); e != nil && res != nil {
				res.Warnings = append(res.Warnings, fmt.Sprintf("the output is whole, but the work folder could not be removed: %v", e))
			}
		}
		lock.Close()
	}()
	if exists(j.fs, j.out) {
		// A run that was killed between its commit and its end leaves the
		// whole output beside a whole journal.
		records, err := readJournal(j.fs, work, j.key, j.lo)
		if err != nil {
			return nil, err
		}
		if !exists(j.fs, filepath.Join(work, journalName)) {
			// It was killed while it tidied up: its output is whole.
			if err := tidy(j.fs, work); err != nil {
				return nil, err
			}
		}
		if len(records) < j.hi-j.lo {
			return nil, fmt.Errorf("%s: exists already: remove it, or choose another output", j.out)
		}
		if res, err = j.form.result(j, records); err != nil {
			return nil, err
		}
		return res, j.fs.SyncDir(filepath.Dir(j.out))
	}
	s, err := openStore(j.fs, work, j.key, j.lo, j.hi-j.lo, j.reserved, j.plan.Options.MaxShardSize, j.form.shards)
	if err != nil {
		return nil, err
	}
	defer s.close()
	resumed := len(s.records)
	if j.begin != nil && s.next() < j.hi {
		if err := j.begin(ctx); err != nil {
			return nil, interrupted(ctx, err)
		}
	}
	progress.start(cmp.Or(j.what, "fuse"), j.read(j.lo, j.hi))
	progress.add(j.read(j.lo, s.next()))
	type produced struct {
		tensors []output
		rep     report
	}
	err = ordered(ctx, s.next(), j.hi, j.workers, func(i int) (produced, error) {
		t, r, err := j.produce(i)
		return produced{t, r}, err
	}, func(i int, v produced) error {
		err := s.add(v.tensors, v.rep)
		if j.release != nil {
			j.release(i)
		}
		progress.add(j.plan.Units[i].Read)
		return err
	})
	if err != nil {
		if ctx.Err() != nil {
			err = errors.Join(s.sync(), interrupted(ctx, err))
		}
		return nil, err
	}
	if res, err = j.commit(s); err != nil {
		return nil, err
	}
	progress.done()
	res.Resumed = resumed
	res.Timing = Timing{Total: time.Since(began), Sync: s.syncTook}
	return res, nil
}

// interrupted says what comes next where work was cancelled.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return fmt.Errorf("interrupted; the same command goes on where it was: %w", context.Cause(ctx))
}

// tidy removes a work folder, the journal after what it speaks of.
func tidy(fsys vfs.FS, work string) error {
	entries, err := fsys.ReadDir(work)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if name := e.Name(); name != journalName && name != lockName {
			if err := fsys.RemoveAll(filepath.Join(work, name)); err != nil {
				return err
			}
		}
	}
	return fsys.RemoveAll(work)
}

// prepare makes the work folder, unless an earlier run left it.
func (j *job) prepare(work string) error {
	parent := filepath.Dir(work)
	if info, err := j.fs.Stat(parent); err != nil || !info.IsDir() {
		return fmt.Errorf("%s: the folder %s does not exist: make it first", j.out, parent)
	}
	switch {
	case exists(j.fs, work):
		return nil
	case exists(j.fs, j.out):
		return fmt.Errorf("%s: exists already: remove it, or choose another output", j.out)
	}
	return j.fs.Mkdir(work)
}

func exists(fsys vfs.FS, path string) bool {
	_, err := fsys.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

func (j *job) read(lo, hi int) (n int64) {
	for _, u := range j.plan.Units[lo:hi] {
		n += u.Read
	}
	return n
}

// reserve bounds the headers of a fused model's shards.
func (p *Plan) reserve() (n [2]int) {
	var infos [2][]safetensors.Info
	add := func(stream int, name string, shape ...int) {
		infos[stream] = append(infos[stream], safetensors.Info{Name: name, DType: dtype.BF16, Shape: shape})
	}
	const wide = 1 << 40 // more digits than any dimension has
	for i := range p.Units {
		u := &p.Units[i]
		for _, name := range u.Tensors {
			add(streamBase, name, wide, wide, wide, wide, wide)
		}
		switch u.Action {
		case ActionOwn:
			add(streamExperts, smile.OwnName(u.Expert, u.Name), wide, wide, wide, wide, wide)
		case ActionFuse:
			add(streamExperts, smile.VtName(u.Name), wide, u.In)
			add(streamExperts, smile.USName(u.Name), u.Out, wide)
			add(streamExperts, smile.BiasName(u.Name), wide, u.Out)
			for e, r := range u.Ranks {
				if r == smile.Dense {
					add(streamExperts, smile.DenseName(u.Name, e), u.Out, u.In)
				}
			}
		}
	}
	for i := range n {
		n[i] = safetensors.HeaderBound(infos[i], metadata)
	}
	return n
}

// modelShards names the shards of a model.
func modelShards(counts [2]int) (names [2][]string) {
	total, k := counts[0]+counts[1], 0
	for i := range names {
		for range counts[i] {
			if k++; total == 1 {
				names[i] = append(names[i], "model.safetensors")
			} else {
				names[i] = append(names[i], fmt.Sprintf("model-%05d-of-%05d.safetensors", k, total))
			}
		}
	}
	return names
}

// commit finishes the shards, writes the files beside them and renames the
// whole to its place.
func (j *job) commit(s *store) (*Result, error) {
	if err := s.sync(); err != nil {
		return nil, err
	}
	start := time.Now()
	dir := s.dir
	res, err := j.form.result(j, s.records)
	if err != nil {
		return nil, err
	}
	shards, index, err := s.finish()
	if err != nil {
		return nil, err
	}
	files, err := j.form.files(j, s.records, shards, index)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if err := write(j.fs, dir, f); err != nil {
			return nil, err
		}
	}
	for _, info := range shards {
		res.Bytes += info.Bytes
	}
	if err := vfs.Commit(j.fs, dir, j.out); err != nil {
		return nil, err
	}
	s.syncTook += time.Since(start)
	return res, nil
}

// namedFile is a file beside the shards.
type namedFile struct {
	name string
	data []byte
}

// write puts a small file into dir; names may have one folder.
func write(fsys vfs.FS, dir string, f namedFile) error {
	path := filepath.Join(dir, filepath.FromSlash(f.name))
	if strings.Contains(f.name, "/") {
		if err := fsys.MkdirAll(filepath.Dir(path)); err != nil {
			return err
		}
	}
	return vfs.WriteFile(fsys, path, f.data)
}
