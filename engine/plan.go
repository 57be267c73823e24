package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"smelt/checkpoint"
	"smelt/dtype"
	"smelt/internal/vfs"
	"smelt/linalg"
	"smelt/smile"
	"smelt/taskvector"
)

// What becomes of tensors that differ from the base but are not fused.
const (
	OthersBase    = "base"    // the base's is kept
	OthersAverage = "average" // the mean over all experts is stored
)

// Defaults of Options.
const (
	DefaultExpertRank   = 32
	DefaultRouterRank   = 16
	DefaultMaxShardSize = 5e9
)

// Options says how to fuse. Exactly one of ExpertRank, Dense, Energy, Budget
// and Ranks decides the ranks; none of them means ExpertRank 32.
type Options struct {
	ExpertRank int     `json:"expert_rank,omitempty"` // of every expert in every module
	Dense      bool    `json:"dense,omitempty"`       // keep every delta whole
	Energy     float64 `json:"energy,omitempty"`      // share of ‖ΔW‖² to keep, per matrix and expert
	Budget     float64 `json:"budget,omitempty"`      // parameters of the output relative to the base

	RouterRank   int      `json:"router_rank"`
	TopK         int      `json:"top_k"`
	Others       string   `json:"others"`
	DType        string   `json:"dtype,omitempty"` // of the output's floating-point tensors; "" keeps the base's
	Include      []string `json:"include,omitempty"`
	Exclude      []string `json:"exclude,omitempty"`
	MaxShardSize int64    `json:"max_shard_size"`
	Ranks        *Ranks   `json:"ranks,omitempty"` // a rank plan made by Survey
}

// normalise fills the defaults and checks each option by itself.
func (o Options) normalise() (Options, error) {
	modes := 0
	for _, set := range []bool{o.ExpertRank != 0, o.Dense, o.Energy != 0, o.Budget != 0, o.Ranks != nil} {
		if set {
			modes++
		}
	}
	if modes > 1 {
		return o, errors.New("give only one of --expert-rank, --energy, --budget and --ranks")
	}
	if modes == 0 {
		o.ExpertRank = DefaultExpertRank
	}
	if o.RouterRank == 0 {
		o.RouterRank = DefaultRouterRank
		if o.Ranks != nil {
			o.RouterRank = o.Ranks.RouterRank
		}
	}
	if o.TopK == 0 {
		o.TopK = 1
	}
	if o.Others == "" {
		o.Others = OthersBase
	}
	if o.MaxShardSize == 0 {
		o.MaxShardSize = DefaultMaxShardSize
	}
	switch {
	case o.ExpertRank < 0:
		return o, fmt.Errorf("--expert-rank is %d, want at least 1, or dense", o.ExpertRank)
	case o.Energy < 0 || o.Energy > 1 || o.Energy != o.Energy:
		return o, fmt.Errorf("--energy is %v, want a share between 0 and 1", o.Energy)
	case o.Budget < 0 || o.Budget > 0 && o.Budget <= 1 || o.Budget > 1e6 || o.Budget != o.Budget:
		return o, fmt.Errorf("--budget is %v, want parameters relative to the base, above 1: 1.25x", o.Budget)
	case o.RouterRank < 1:
		return o, fmt.Errorf("--router-rank is %d, want at least 1", o.RouterRank)
	case o.TopK < 1:
		return o, fmt.Errorf("--top-k is %d, want at least 1", o.TopK)
	case o.MaxShardSize < 1<<20:
		return o, fmt.Errorf("--max-shard-size is %d bytes, want at least 1 MiB", o.MaxShardSize)
	case o.Others != OthersBase && o.Others != OthersAverage:
		return o, fmt.Errorf("--others is %q, want %s or %s", o.Others, OthersBase, OthersAverage)
	case o.Ranks != nil && o.Ranks.RouterRank != o.RouterRank:
		return o, fmt.Errorf("--router-rank is %d, but the rank plan was made for %d", o.RouterRank, o.Ranks.RouterRank)
	}
	if o.DType != "" {
		d, err := ParseDType(o.DType)
		if err != nil {
			return o, err
		}
		o.DType = d.String()
	}
	for _, p := range slices.Concat(o.Include, o.Exclude) {
		if _, err := path.Match(p, ""); err != nil {
			return o, fmt.Errorf("pattern %q: %w", p, err)
		}
	}
	return o, nil
}

// ParseDType reads the type of an output: F32, float32, BF16, …
func ParseDType(s string) (dtype.DType, error) {
	d, err := dtype.Parse(strings.ToUpper(s))
	if err != nil {
		d, err = dtype.FromTorch(s)
	}
	switch d {
	case dtype.F64, dtype.F32, dtype.F16, dtype.BF16:
		if err == nil {
			return d, nil
		}
	}
	return 0, fmt.Errorf("--dtype is %q, want one of F32, F16, BF16, F64", s)
}

// Source names an expert and says where it is.
type Source struct{ Name, Path string }

// Action is what a unit of a plan does.
type Action string

// The actions.
const (
	ActionCopy Action = "copy" // a tensor of the base that is not fused
	ActionFuse Action = "fuse" // a linear layer: weight, bias and experts
	ActionOwn  Action = "own"  // a tensor that stays one expert's
)

// Unit is one step of a plan: what must be looked at together. Ranks and
// sizes are bounds until the weights have been read.
type Unit struct {
	Action     Action       `json:"action"`
	Name       string       `json:"name"` // of the tensor or the module
	Tensors    []string     `json:"tensors,omitempty"`
	Kind       string       `json:"kind"`
	In         int          `json:"in,omitempty"`
	Out        int          `json:"out,omitempty"`
	Transposed bool         `json:"transposed,omitempty"`
	RouterRank int          `json:"rank_of_router,omitempty"`
	Ranks      []smile.Rank `json:"rank_of_expert,omitempty"`
	Expert     int          `json:"expert,omitempty"` // of an own tensor
	Read       int64        `json:"read"`             // bytes
	Write      int64        `json:"write"`            // bytes, at most
	Memory     int64        `json:"memory"`           // bytes, beyond mapped files
}

// Plan is everything that is known from headers and configs alone, in a form
// that can be stored: parts of one fusion are joined under one plan.
type Plan struct {
	Options    Options        `json:"options"`
	Base       string         `json:"base"`        // the folder's name
	BaseConfig string         `json:"base_config"` // the text of its config.json
	ModelType  string         `json:"model_type"`
	Experts    []smile.Expert `json:"experts"`
	Inputs     []string       `json:"inputs"` // fingerprints of base and experts
	Units      []Unit         `json:"units"`
	Carry      []string       `json:"carry"` // files of the base that the output takes over
	Parameters int64          `json:"parameters"`
	Sources    []int64        `json:"sources"`          // parameters of each expert as it is given
	Edited     string         `json:"edited,omitempty"` // of an edit: what decided the ranks
	Warnings   []string       `json:"warnings,omitempty"`
	Notes      []string       `json:"notes,omitempty"`
}

// Inputs are the open base and experts of a fusion.
type Inputs struct {
	FS      vfs.FS
	Base    *checkpoint.Checkpoint
	Experts []*taskvector.Expert // sorted by name
}

// Close unmaps all files.
func (in *Inputs) Close() error {
	var errs []error
	if in.Base != nil {
		errs = append(errs, in.Base.Close())
	}
	for _, e := range in.Experts {
		errs = append(errs, e.Close())
	}
	return errors.Join(errs...)
}

// OpenInputs opens base and experts and reports all that keeps them from being
// fused in one error of at most six lines.
func OpenInputs(fsys vfs.FS, base string, experts []Source) (_ *Inputs, err error) {
	if len(experts) == 0 {
		return nil, errors.New("no experts: name at least one fine-tuned checkpoint or adapter")
	}
	in := &Inputs{FS: fsys}
	defer func() {
		if err != nil {
			in.Close()
		}
	}()
	if in.Base, err = checkpoint.Open(fsys, base); err != nil {
		return nil, err
	}
	if in.Base.Config.ModelType() == modelType {
		return nil, fmt.Errorf("checkpoint %s: is a fused model already: use smelt edit --add to add an expert", base)
	}
	sorted := slices.Clone(experts)
	slices.SortFunc(sorted, func(a, b Source) int { return strings.Compare(a.Name, b.Name) })
	var problems []string
	for i, s := range sorted {
		if err := checkName(s.Name); err != nil {
			return nil, err
		}
		if i > 0 && s.Name == sorted[i-1].Name {
			return nil, fmt.Errorf("two experts are called %q (%s and %s): name them apart, name=path", s.Name, sorted[i-1].Path, s.Path)
		}
		e, found, err := taskvector.Open(fsys, in.Base, s.Name, s.Path)
		if err != nil {
			problems = append(problems, fmt.Sprintf("expert %s: %v", s.Name, err))
			continue
		}
		problems = append(problems, found...)
		in.Experts = append(in.Experts, e)
	}
	return in, group(problems)
}

func checkName(name string) error {
	if name == "" || len(name) > 100 || strings.ContainsAny(name, "/\\\n\r\t|`\"") {
		return fmt.Errorf("expert name %.120q: want 1 to 100 characters without slashes, quotes and control characters: name=path gives another", name)
	}
	return nil
}

// group makes one error of at most six lines of many problems.
func group(problems []string) error {
	const most = 6
	if n := len(problems); n > most {
		problems = append(slices.Clone(problems[:most-1]), fmt.Sprintf("and %d more", n-most+1))
	}
	if len(problems) == 0 {
		return nil
	}
	return errors.New(strings.Join(problems, "\n"))
}

// NewPlan plans a fusion from headers and configs alone.
func NewPlan(in *Inputs, opt Options) (*Plan, error) {
	opt, err := opt.normalise()
	if err != nil {
		return nil, err
	}
	if n := len(in.Experts); n > 0 && opt.TopK > n {
		return nil, fmt.Errorf("--top-k is %d, but there are %d experts", opt.TopK, len(in.Experts))
	}
	extras, err := in.Base.Extras()
	if err != nil {
		return nil, err
	}
	p := &Plan{
		Options: opt, Base: filepath.Base(filepath.Clean(in.Base.Dir)), BaseConfig: string(in.Base.Config.Text),
		ModelType: in.Base.Config.ModelType(), Carry: extras.Files, Parameters: in.Base.Parameters(),
	}
	if len(extras.Code) > 0 {
		p.Warnings = append(p.Warnings, fmt.Sprintf("the base brings its own code (%s), which is not carried over: transformers must know the architecture itself", strings.Join(extras.Code, ", ")))
	}
	if err := p.addInputs(in); err != nil {
		return nil, err
	}
	if err := p.addUnits(in); err != nil {
		return nil, err
	}
	p.warn(in)
	return p, nil
}

func (p *Plan) addInputs(in *Inputs) error {
	print, err := in.Base.Fingerprint()
	if err != nil {
		return err
	}
	p.Inputs = []string{print}
	said, order := map[string][]string{}, []string{}
	for _, e := range in.Experts {
		p.Experts = append(p.Experts, smile.Expert{Name: e.Name, Kind: e.Kind, Source: e.Source, DType: e.DType.String()})
		for _, note := range e.Notes {
			if said[note] == nil {
				order = append(order, note)
			}
			said[note] = append(said[note], e.Name)
		}
		p.Sources = append(p.Sources, e.Parameters())
		if print, err = e.Fingerprint(); err != nil {
			return err
		}
		p.Inputs = append(p.Inputs, print)
	}
	for _, note := range order {
		p.Notes = append(p.Notes, fmt.Sprintf("expert %s: %s", strings.Join(said[note], ", "), note))
	}
	return nil
}

// addUnits goes through the base's tensors in file order. The bias of a linear
// layer is written beside its weight.
func (p *Plan) addUnits(in *Inputs) error {
	done := map[string]bool{}
	for _, t := range in.Base.Tensors() {
		if done[t.Name] {
			continue
		}
		u, err := p.unit(in, t.Name)
		if err != nil {
			return err
		}
		if m, ok := strings.CutSuffix(t.Name, ".bias"); ok {
			if w, found := in.Base.Lookup(m + ".weight"); found {
				layer, err := p.unit(in, w.Name)
				if err != nil {
					return err
				}
				if layer.Action == ActionFuse {
					u = layer // which writes the bias too
				}
			}
		}
		for _, t := range u.Tensors {
			done[t] = true
		}
		p.Units = append(p.Units, u)
	}
	for i, e := range in.Experts {
		for _, name := range e.Own() {
			info, _ := e.Lookup(name)
			p.Units = append(p.Units, Unit{
				Action: ActionOwn, Name: name, Kind: "head", Expert: i,
				Read: info.Bytes(), Write: p.size(info.DType, info.Elements()),
			})
		}
	}
	return nil
}

// unit plans one tensor of the base, with its bias where it is a linear layer.
func (p *Plan) unit(in *Inputs, name string) (Unit, error) {
	t, _ := in.Base.Lookup(name)
	kind := in.Base.Kind(name)
	u := Unit{Action: ActionCopy, Name: name, Kind: kind.String(), Tensors: []string{name}, Read: t.Bytes(), Write: p.size(t.DType, t.Elements())}
	module, isWeight := strings.CutSuffix(name, ".weight")
	if _, joined := in.Base.Lookup(strings.TrimSuffix(module, "out_proj") + "in_proj_weight"); joined && strings.HasSuffix(module, "out_proj") {
		kind = checkpoint.Other // of nn.MultiheadAttention, which reads the weight and never calls the layer
	}
	linear, err := p.fusable(kind, module, isWeight, len(t.Shape), t.DType)
	if err != nil {
		return u, err
	}
	if !linear {
		for _, e := range in.Experts {
			if info, ok := e.Lookup(name); ok {
				u.Read += info.Bytes()
			}
		}
		return u, nil
	}
	u.Action, u.Name = ActionFuse, module
	u.Out, u.In = t.Shape[0], t.Shape[1]
	if u.Transposed = in.Base.Transposed(name); u.Transposed {
		u.Out, u.In = u.In, u.Out
	}
	if b, ok := in.Base.Lookup(module + ".bias"); ok {
		u.Tensors = append(u.Tensors, b.Name)
		u.Read += b.Bytes()
		u.Write += p.size(b.DType, b.Elements())
	}
	least := min(u.In, u.Out)
	u.RouterRank = min(p.Options.RouterRank, least)
	var planned *RankedModule
	if p.Options.Ranks != nil {
		if planned, err = p.Options.Ranks.module(u, p.Experts); err != nil {
			return u, err
		}
		u.RouterRank = planned.RouterRank
	}
	covered := false
	for i, e := range in.Experts {
		n, ok := e.Covers(module)
		u.Read += n
		covered = covered || ok
		r := smile.Untouched
		switch {
		case !ok:
		case planned != nil:
			r = planned.Ranks[i]
		case p.Options.Dense:
			r = smile.Dense
		case p.Options.ExpertRank > 0:
			r = smile.Rank(min(p.Options.ExpertRank, least))
		default: // a survey decides: at most all of it
			r = smile.Rank(least)
		}
		u.Ranks = append(u.Ranks, r)
		if r != smile.Untouched {
			u.Memory = max(u.Memory, deltaBytes(in, e, module, u, r))
		}
	}
	m := smile.Module{In: u.In, Out: u.Out, RouterRank: u.RouterRank, Ranks: u.Ranks}
	if covered {
		u.Write += p.size(t.DType, m.Parameters())
		u.Memory += 2 * p.size(dtype.F32, m.Parameters())
	}
	return u, nil
}

// deltaBytes bounds the memory that decomposing one delta takes.
func deltaBytes(in *Inputs, e *taskvector.Expert, module string, u Unit, r smile.Rank) int64 {
	k := max(int(r), u.RouterRank)
	if n := e.AdapterRank(module); n > 0 {
		return 16 * int64(n) * int64(u.In+u.Out)
	}
	dense := int64(u.In) * int64(u.Out) * 4
	if w, _ := in.Base.Lookup(module + ".weight"); w.DType == dtype.F64 {
		return 6 * 2 * dense
	}
	if u.Transposed || r == smile.Dense {
		dense *= 2
	}
	return dense + linalg.WorkingBytes(u.Out, u.In, linalg.Options{Rank: k, RouterRank: u.RouterRank})
}

// fusable decides whether a tensor is the weight of a linear layer, by its
// kind, unless a pattern decides otherwise.
func (p *Plan) fusable(kind checkpoint.Kind, module string, isWeight bool, dims int, d dtype.DType) (bool, error) {
	matches := func(patterns []string) bool {
		return slices.ContainsFunc(patterns, func(q string) bool {
			ok, _ := path.Match(q, module)
			return ok
		})
	}
	matrix := isWeight && dims == 2 && d.IsFloat()
	if !matrix || matches(p.Options.Exclude) {
		return false, nil
	}
	if kind == checkpoint.Linear {
		return true, nil
	}
	if !matches(p.Options.Include) {
		return false, nil
	}
	if kind == checkpoint.Embedding || kind == checkpoint.Norm {
		return false, fmt.Errorf("--include matches %q, which is no linear layer (%s): only linear layers can be fused", module, kind)
	}
	return true, nil
}

// target is the type in which a tensor of type d is stored.
func (p *Plan) target(d dtype.DType) dtype.DType {
	if p.Options.DType == "" || !d.IsFloat() {
		return d
	}
	t, err := dtype.Parse(p.Options.DType)
	if err != nil {
		return d // normalise has checked it
	}
	return t
}

func (p *Plan) size(d dtype.DType, elements int64) int64 {
	return elements * int64(p.target(d).Size())
}

// warn adds what a user should know before any work is done.
func (p *Plan) warn(in *Inputs) {
	mixed, low := 0, map[string]int{}
	for _, u := range p.Units {
		if u.Action != ActionFuse {
			continue
		}
		touched := 0
		for i, e := range in.Experts {
			if u.Ranks[i] != smile.Untouched {
				touched++
			}
			if n := e.AdapterRank(u.Name); n > 0 && p.Options.ExpertRank > 0 && int(u.Ranks[i]) > n {
				low[e.Name] = max(low[e.Name], n)
			}
		}
		if touched > 0 && touched < len(in.Experts) {
			mixed++
		}
	}
	if mixed > 0 {
		p.Warnings = append(p.Warnings, fmt.Sprintf("%d modules are covered by some experts only: there every token takes one of their deltas", mixed))
	}
	for _, e := range in.Experts {
		if n := low[e.Name]; n > 0 {
			p.Warnings = append(p.Warnings, fmt.Sprintf("expert %s is an adapter of rank %d: rank %d stores zeros beyond it; --expert-rank %d or --energy 1 saves them",
				e.Name, n, p.Options.ExpertRank, n))
		}
		for _, name := range e.Resized() {
			info, _ := e.Lookup(name)
			base, _ := in.Base.Lookup(name)
			p.Warnings = append(p.Warnings, fmt.Sprintf("expert %s has %d rows in %q, the base %d: the base's vocabulary is kept", e.Name, info.Shape[0], name, base.Shape[0]))
		}
	}
}

// Totals sums a plan up. Written bytes and parameters are bounds.
type Totals struct {
	Read, Write int64
	Memory      int64 // of the largest unit
	Modules     int
	Parameters  int64 // of the output
}

// Totals sums the units up.
func (p *Plan) Totals() Totals {
	t := Totals{Parameters: p.Parameters}
	for _, u := range p.Units {
		t.Read += u.Read
		t.Write += u.Write
		t.Memory = max(t.Memory, u.Memory)
		switch u.Action {
		case ActionFuse:
			t.Modules++
			m := smile.Module{In: u.In, Out: u.Out, RouterRank: u.RouterRank, Ranks: u.Ranks}
			t.Parameters += m.Parameters()
		case ActionOwn:
			t.Parameters += u.Write / int64(max(p.target(dtype.F32).Size(), 1))
		}
	}
	return t
}

// Key identifies a plan and its inputs: work is resumed only under the same.
func (p *Plan) Key() (string, error) {
	text, err := json.Marshal(p)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(append(text, Version...))
	return hex.EncodeToString(sum[:]), nil
}

// Range is the units of part i of n (from 1): contiguous, and about equal in
// bytes read and written.
func (p *Plan) Range(i, n int) (lo, hi int) {
	total := int64(0)
	for _, u := range p.Units {
		total += u.Read + u.Write
	}
	bound := func(part int) int {
		sum, want := int64(0), total*int64(part)/int64(n)
		for k, u := range p.Units {
			if sum >= want {
				return k
			}
			sum += u.Read + u.Write
		}
		return len(p.Units)
	}
	lo, hi = bound(i-1), bound(i)
	if i == n {
		hi = len(p.Units)
	}
	return lo, hi
}
