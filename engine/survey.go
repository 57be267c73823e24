package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"time"

	"smelt/dtype"
	"smelt/internal/vfs"
	"smelt/linalg"
	"smelt/smile"
)

// Ranks is a rank plan: what `smelt survey` writes, and what parts and reruns
// share.
type Ranks struct {
	Format     int                     `json:"format"`
	RouterRank int                     `json:"rank_of_router"`
	Experts    []string                `json:"experts"`
	Asked      string                  `json:"asked"` // energy 0.95, budget 1.25x, …
	Parameters Parameters              `json:"parameters"`
	Captured   []float64               `json:"captured"` // per expert: share of ‖Δ‖² over all modules
	Modules    map[string]RankedModule `json:"modules"`
}

// RankedModule is the plan of one module.
type RankedModule struct {
	RouterRank int          `json:"rank_of_router"`
	Ranks      []smile.Rank `json:"rank_of_expert"`
	Energy     []float64    `json:"energy"` // ‖ΔW‖² per expert
	Sigma      [][]float64  `json:"sigma"`  // leading singular values per expert
}

const ranksFormat = 1

// ReadRanks reads a rank plan.
func ReadRanks(fsys vfs.FS, path string) (*Ranks, error) {
	data, err := vfs.ReadFile(fsys, path, 1<<30)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var r Ranks
	if err := dec.Decode(&r); err != nil {
		return nil, fmt.Errorf("rank plan %s: %w", path, err)
	}
	if r.Format != ranksFormat {
		return nil, fmt.Errorf("rank plan %s: format %d, this version reads %d", path, r.Format, ranksFormat)
	}
	return &r, nil
}

// Write writes the rank plan to a file that must not exist yet.
func (r *Ranks) Write(fsys vfs.FS, path string) error {
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	tmp := path + ".partial"
	if err := vfs.WriteFile(fsys, tmp, append(text, '\n')); err != nil {
		return errors.Join(err, fsys.RemoveAll(tmp))
	}
	if err := fsys.RenameNew(tmp, path); err != nil {
		return errors.Join(err, fsys.RemoveAll(tmp))
	}
	return fsys.SyncDir(filepath.Dir(path))
}

// module finds the plan of a unit and checks that it fits.
func (r *Ranks) module(u Unit, experts []smile.Expert) (*RankedModule, error) {
	if len(r.Experts) != len(experts) {
		return nil, fmt.Errorf("the rank plan was made for %d experts, there are %d", len(r.Experts), len(experts))
	}
	for i, e := range experts {
		if r.Experts[i] != e.Name {
			return nil, fmt.Errorf("the rank plan was made for experts %q, expert %d is %q", r.Experts, i, e.Name)
		}
	}
	m, ok := r.Modules[u.Name]
	if !ok {
		return nil, fmt.Errorf("the rank plan lacks module %q: survey again with the same inputs and patterns", u.Name)
	}
	c := smile.Config{Experts: experts, TopK: 1, RouterRank: r.RouterRank, Modules: []smile.Module{
		{Name: u.Name, In: u.In, Out: u.Out, RouterRank: m.RouterRank, Ranks: m.Ranks},
	}}
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("rank plan: %w", err)
	}
	return &m, nil
}

// surveyed is what a survey knows of one linear layer.
type surveyed struct {
	unit     *Unit
	spectra  []smile.Spectrum // per expert; zero where untouched
	touched  []bool
	router   int
	biasRows int // rows of smile.bias: E where some expert changed the bias
}

// Survey measures the spectra of all deltas and chooses ranks: for
// Options.Energy the smallest rank that keeps the share, for Options.Budget
// one global water-filling, otherwise the rank that is asked for. Progress is
// told in bytes of input.
func Survey(ctx context.Context, in *Inputs, p *Plan, workers int, progress Progress) (*Ranks, error) {
	return survey(ctx, in, p, workers, progress, nil, func(measured) error { return nil })
}

// measured is one line of a survey's journal: the spectra of one unit.
type measured struct {
	Unit    int              `json:"unit"`
	Depth   int              `json:"depth"`
	Router  int              `json:"router"`
	Bias    int              `json:"bias"`
	Touched []bool           `json:"touched"`
	Spectra []smile.Spectrum `json:"spectra"`
}

// survey is Survey that takes over what an earlier run has measured, and hands
// each new measurement to keep.
func survey(ctx context.Context, in *Inputs, p *Plan, workers int, progress Progress, earlier []measured, keep func(measured) error) (*Ranks, error) {
	progress.start("survey", p.Totals().Read)
	defer progress.done()
	var units []*Unit
	for i := range p.Units {
		if p.Units[i].Action == ActionFuse {
			units = append(units, &p.Units[i])
		}
	}
	found := make([]*surveyed, len(units))
	measure := func(depth func(k int) int, which []int) error {
		n, inner := p.concurrency(workers)
		return ordered(ctx, 0, len(which), n, func(i int) (*surveyed, error) {
			k := which[i]
			w := worker{plan: p, in: in, workers: inner}
			return w.survey(units[k], depth(k))
		}, func(i int, s *surveyed) error {
			k := which[i]
			found[k] = s
			progress.add(s.unit.Read)
			return keep(measured{k, depth(k), s.router, s.biasRows, s.touched, s.spectra})
		})
	}
	depths := make([]int, len(units))
	for k, u := range units {
		depths[k] = p.firstDepth(u)
	}
	for _, m := range earlier {
		if k := m.Unit; k >= 0 && k < len(units) && len(m.Spectra) == len(in.Experts) && len(m.Touched) == len(in.Experts) {
			found[k] = &surveyed{unit: units[k], router: m.Router, biasRows: m.Bias, touched: m.Touched, spectra: m.Spectra}
			depths[k] = max(depths[k], m.Depth)
		}
	}
	var all []int
	for k := range units {
		if found[k] == nil {
			all = append(all, k)
		}
	}
	depth := func(k int) int { return depths[k] }
	if err := measure(depth, all); err != nil {
		return nil, err
	}
	for {
		r, short, err := p.allocate(found)
		if err != nil || len(short) == 0 {
			return r, err
		}
		for _, k := range short {
			depths[k] = min(2*depths[k], min(units[k].In, units[k].Out))
		}
		if err := measure(depth, short); err != nil {
			return nil, err
		}
	}
}

// firstDepth guesses how many singular values the choice of ranks will need.
func (p *Plan) firstDepth(u *Unit) int {
	least := min(u.In, u.Out)
	guess := p.Options.ExpertRank
	switch {
	case p.Options.Budget > 0:
		uniform := (p.Options.Budget - 1) * float64(u.In) * float64(u.Out) / float64(max(len(p.Experts), 1)) / float64(u.In+u.Out)
		guess = int(math.Ceil(2 * uniform))
	case p.Options.Energy > 0:
		guess = 64
	}
	guess = max(guess, u.RouterRank, 32)
	if least <= 4*guess {
		return least // all of it costs little more
	}
	return guess
}

// survey measures one linear layer to the given depth.
func (w *worker) survey(u *Unit, depth int) (*surveyed, error) {
	s := &surveyed{
		unit: u, router: u.RouterRank,
		spectra: make([]smile.Spectrum, len(w.in.Experts)), touched: make([]bool, len(w.in.Experts)),
	}
	for i, e := range w.in.Experts {
		d, err := e.Delta(u.Name, u.Transposed, w.workers)
		if err != nil {
			return nil, err
		}
		if d.Bias != nil {
			s.biasRows = len(w.in.Experts)
		}
		if !d.Touched() {
			e.Release(u.Tensors[0])
			continue
		}
		s.touched[i] = true
		var sigma []float64
		var energy float64
		eps := linalg.EpsF32
		switch {
		case d.Dense64 != nil:
			svd, err := linalg.Exact64(*d.Dense64, w.workers)
			if err != nil {
				return nil, fmt.Errorf("expert %s: module %q: %w", e.Name, u.Name, err)
			}
			sigma, energy, eps = svd.S, svd.Energy, linalg.EpsF64
		case d.LowRank != nil:
			svd, err := linalg.LowRank(d.LowRank.B, d.LowRank.A, d.LowRank.Scale, w.workers)
			if err != nil {
				return nil, fmt.Errorf("expert %s: module %q: %w", e.Name, u.Name, err)
			}
			sigma, energy = svd.S, svd.Energy
		default:
			sp, err := linalg.Spectrum(*d.Dense, linalg.Options{Rank: depth, RouterRank: u.RouterRank, Seed: seed(u.Name), Workers: w.workers})
			if err != nil {
				return nil, fmt.Errorf("expert %s: module %q: %w", e.Name, u.Name, err)
			}
			sigma, energy = sp.S, sp.Energy
		}
		n := linalg.NumericalRank(sigma, u.Out, u.In, eps)
		complete := n < len(sigma) || len(sigma) == min(u.In, u.Out) || d.LowRank != nil
		s.spectra[i] = smile.Spectrum{Sigma: sigma[:n], Energy: energy, Complete: complete}
		s.router = min(s.router, n)
		e.Release(u.Tensors[0])
	}
	w.in.Base.Release(u.Tensors[0])
	return s, nil
}

// allocate chooses ranks from spectra. short lists the modules that must be
// surveyed deeper first.
func (p *Plan) allocate(found []*surveyed) (r *Ranks, short []int, err error) {
	r = &Ranks{
		Format: ranksFormat, RouterRank: p.Options.RouterRank, Asked: p.asked(),
		Captured: make([]float64, len(p.Experts)), Modules: map[string]RankedModule{},
	}
	for _, e := range p.Experts {
		r.Experts = append(r.Experts, e.Name)
	}
	totals := make([]float64, len(p.Experts))
	for _, s := range found {
		for i := range s.spectra {
			totals[i] += s.spectra[i].Energy
		}
	}
	ranks := make([][]smile.Rank, len(found))
	for k, s := range found {
		ranks[k] = make([]smile.Rank, len(p.Experts))
		for i := range ranks[k] {
			ranks[k][i] = smile.Untouched
		}
		if !s.any() && len(p.Experts) > 1 {
			continue
		}
		for i, touched := range s.touched {
			if !touched {
				continue
			}
			switch {
			case p.Options.Dense:
				ranks[k][i] = smile.Dense
			case p.Options.Energy > 0:
				n, ok := s.spectra[i].RankForEnergy(p.Options.Energy)
				if !ok {
					short = append(short, k)
				}
				if ranks[k][i] = smile.Rank(n); n >= smile.DenseRank(s.unit.In, s.unit.Out, s.router) {
					ranks[k][i] = smile.Dense
				}
			case p.Options.ExpertRank > 0:
				ranks[k][i] = smile.Rank(min(p.Options.ExpertRank, s.unit.In, s.unit.Out))
			}
		}
	}
	if p.Options.Budget > 0 {
		if short, err = p.fill(found, totals, ranks); err != nil {
			return nil, nil, err
		}
	}
	if len(short) > 0 {
		return nil, unique(short), nil
	}
	r.Parameters = Parameters{Base: p.Parameters, Output: p.Parameters + p.fixed(found)}
	for k, s := range found {
		m := smile.Module{In: s.unit.In, Out: s.unit.Out, RouterRank: s.router, Ranks: ranks[k]}
		if !s.any() {
			m.RouterRank = 0
		}
		rm := RankedModule{RouterRank: m.RouterRank, Ranks: ranks[k], Energy: make([]float64, len(p.Experts)), Sigma: make([][]float64, len(p.Experts))}
		for i, sp := range s.spectra {
			rm.Energy[i] = sp.Energy
			rm.Sigma[i] = append([]float64{}, sp.Sigma...)
			if ranks[k][i] != smile.Untouched && totals[i] > 0 {
				r.Captured[i] += sp.Captured(ranks[k][i]) / totals[i]
			}
		}
		r.Parameters.Output += m.Parameters()
		r.Modules[s.unit.Name] = rm
	}
	return r, nil, nil
}

// fixed counts what the output holds beyond the base whatever the ranks are,
// the router apart: rows of changed biases, and tensors of experts' own.
func (p *Plan) fixed(found []*surveyed) int64 {
	n := int64(0)
	for _, s := range found {
		if s.any() || len(p.Experts) == 1 {
			n += int64(s.biasRows) * int64(s.unit.Out)
		}
	}
	for _, u := range p.Units {
		if u.Action == ActionOwn {
			n += u.Write / int64(p.target(dtype.F32).Size())
		}
	}
	return n
}

func (s *surveyed) any() bool {
	for _, t := range s.touched {
		if t {
			return true
		}
	}
	return false
}

// fill is the water-filling of --budget.
func (p *Plan) fill(found []*surveyed, totals []float64, ranks [][]smile.Rank) (short []int, err error) {
	var candidates []smile.Candidate
	var place [][2]int
	floor := p.fixed(found)
	for k, s := range found {
		for i, touched := range s.touched {
			if !touched {
				continue
			}
			floor += int64(s.router) * int64(s.unit.In)
			candidates = append(candidates, smile.Candidate{
				In: s.unit.In, Out: s.unit.Out, RouterRank: s.router, Expert: i, Spectrum: s.spectra[i], Total: totals[i],
			})
			place = append(place, [2]int{k, i})
		}
	}
	budget := int64(math.Floor(p.Options.Budget*float64(p.Parameters))) - p.Parameters - floor
	if budget < 0 {
		least := float64(p.Parameters+floor) / float64(p.Parameters)
		return nil, fmt.Errorf("--budget %gx is below what the router of rank %d takes: at least %.4gx, or a lower --router-rank",
			p.Options.Budget, p.Options.RouterRank, math.Ceil(least*1e4)/1e4)
	}
	a, err := smile.Allocate(candidates, budget)
	if err != nil {
		return nil, err
	}
	for j, r := range a.Ranks {
		ranks[place[j][0]][place[j][1]] = r
	}
	for _, j := range a.Short {
		short = append(short, place[j][0])
	}
	return short, nil
}

// asked says in words what decides the ranks.
func (p *Plan) asked() string {
	o := p.Options
	switch {
	case p.Edited != "":
		return p.Edited
	case o.Ranks != nil:
		return o.Ranks.Asked
	case o.Dense:
		return "dense"
	case o.Energy > 0:
		return fmt.Sprintf("energy %g", o.Energy)
	case o.Budget > 0:
		return fmt.Sprintf("budget %gx", o.Budget)
	}
	return fmt.Sprintf("rank %d", o.ExpertRank)
}

func unique(v []int) []int {
	seen := map[int]bool{}
	var out []int
	for _, x := range v {
		if !seen[x] {
			seen[x] = true
			out = append(out, x)
		}
	}
	return out
}

// Run is Fuse, with the survey that --energy and --budget ask for before it.
// What the survey measured is kept beside the output until that stands, so that
// a run that is killed does not repeat it.
func Run(ctx context.Context, in *Inputs, p *Plan, part Part, out string, workers int, progress Progress) (_ *Result, err error) {
	if p.Options.Ranks != nil || p.Options.Energy == 0 && p.Options.Budget == 0 {
		return Fuse(ctx, in, p, part, out, workers, progress)
	}
	if part.N > 0 {
		return nil, errors.New("parts must share their ranks: make them with smelt survey, then give each part --ranks")
	}
	j := job{fs: in.FS, out: out}
	work := workFolder(out)
	if err := j.prepare(work); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil && ctx.Err() == nil && !exists(in.FS, out) {
			err = errors.Join(err, in.FS.RemoveAll(work))
		}
	}()
	r, err := keptSurvey(ctx, in, p, filepath.Join(work, "survey.jsonl"), workers, progress)
	if err != nil {
		return nil, err
	}
	opt := p.Options
	opt.Energy, opt.Budget, opt.Ranks = 0, 0, r
	ranked, err := NewPlan(in, opt)
	if err != nil {
		return nil, err
	}
	return Fuse(ctx, in, ranked, part, out, workers, progress)
}

// keptSurvey is Survey with a journal: a run that is killed goes on with what it
// has measured, and one that finished it does not measure again.
func keptSurvey(ctx context.Context, in *Inputs, p *Plan, path string, workers int, progress Progress) (_ *Ranks, err error) {
	key, err := p.Key()
	if err != nil {
		return nil, err
	}
	head, err := journalHead(key)
	if err != nil {
		return nil, err
	}
	old, err := vfs.ReadFile(in.FS, path, 4<<30)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var earlier []measured
	at := int64(len(head))
	lines, ok := bytes.CutPrefix(old, head)
	for ok {
		var line []byte
		if line, lines, ok = bytes.Cut(lines, []byte{'\n'}); !ok {
			break
		}
		var m measured
		if json.Unmarshal(line, &m) != nil {
			break
		}
		earlier = append(earlier, m)
		at += int64(len(line)) + 1
	}
	file, err := in.FS.OpenWrite(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if _, err := file.WriteAt(head, 0); err != nil {
		return nil, err
	}
	if err := file.Truncate(at); err != nil {
		return nil, err
	}
	synced := time.Now()
	return survey(ctx, in, p, workers, progress, earlier, func(m measured) error {
		line, err := json.Marshal(m)
		if err != nil {
			return err
		}
		if _, err := file.WriteAt(append(line, '\n'), at); err != nil {
			return err
		}
		at += int64(len(line)) + 1
		if time.Since(synced) < syncTime {
			return nil
		}
		synced = time.Now()
		return file.Sync()
	})
}
