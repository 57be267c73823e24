package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"smelt/dtype"
	"smelt/internal/kernel"
	"smelt/internal/vfs"
	"smelt/linalg"
	"smelt/safetensors"
	"smelt/smile"
	"smelt/taskvector"
	"smelt/tensor"
)

// Fidelity is how well a module keeps an expert, measured on the stored
// factors. Errors are relative: ‖ΔW − US·Vt‖/‖ΔW‖.
type Fidelity struct {
	Module  string     `json:"module"`
	Expert  string     `json:"expert"`
	Rank    smile.Rank `json:"rank"`
	Error   float64    `json:"error"`   // measured
	Optimum float64    `json:"optimum"` // no matrix of that rank has a lower one, as certified
	Allowed float64    `json:"allowed"` // certified, plus one rounding of the factors
	OK      bool       `json:"ok"`
}

// Verification is the result of Verify.
type Verification struct {
	Files    int        `json:"files"`
	Tensors  int        `json:"tensors"`
	Bytes    int64      `json:"bytes"`
	Fidelity []Fidelity `json:"fidelity,omitempty"`
}

// Worst is the entry with the largest error beyond its optimum.
func (v *Verification) Worst() (worst Fidelity) {
	for _, f := range v.Fidelity {
		if f.Error-f.Optimum >= worst.Error-worst.Optimum {
			worst = f
		}
	}
	return worst
}

// Verify checks a fused model: every file against its checksum, no file more
// and none less, the tensors against the config. With sources it also measures
// each expert of each layer against the expert's own delta, and fails where a
// layer is worse than its certificate.
func Verify(ctx context.Context, fsys vfs.FS, dir string, sources *Inputs, workers int, progress Progress) (*Verification, error) {
	f, err := OpenFused(fsys, dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	v := &Verification{}
	total := f.whole.Bytes()
	if sources != nil {
		for _, m := range f.Config.Modules {
			total += f.deltaBytes(&m, len(sources.Experts))
		}
	}
	progress.start("verify", total)
	defer progress.done()
	if err := f.verifyFiles(ctx, fsys, v, progress); err != nil {
		return v, err
	}
	if sources == nil {
		return v, nil
	}
	if err := f.verifySources(ctx, sources, v, workers, progress); err != nil {
		return v, err
	}
	var problems []string
	for _, x := range v.Fidelity {
		if !x.OK {
			problems = append(problems, fmt.Sprintf("module %q, expert %s: relative error %.6f, certified %.6f", x.Module, x.Expert, x.Error, x.Allowed))
		}
	}
	if err := group(problems); err != nil {
		return v, fmt.Errorf("fused model %s: worse than certified: fuse it again, or name the sources that it was made from:\n%w", dir, err)
	}
	return v, nil
}

// verifyFiles checks sizes and checksums.
func (f *Fused) verifyFiles(ctx context.Context, fsys vfs.FS, v *Verification, progress Progress) error {
	var problems []string
	bad := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	listed := map[string]bool{manifestName: true}
	for name, want := range f.Manifest.Files {
		listed[name] = true
		if !filepath.IsLocal(filepath.FromSlash(name)) {
			bad("file %q lies outside the folder", name)
			continue
		}
		got, size, err := fileSum(fsys, filepath.Join(f.Dir, filepath.FromSlash(name)))
		switch {
		case err != nil:
			bad("file %q: %v", name, err)
		case size != want.Bytes || got != want.SHA256:
			bad("file %q: %d bytes with another checksum than smelt.json has for its %d", name, size, want.Bytes)
		}
		v.Files++
		v.Bytes += size
	}
	for name, want := range f.Manifest.Shards {
		listed[name] = true
		if name != filepath.Base(name) {
			bad("shard %q lies outside the folder", name)
			continue
		}
		s, err := safetensors.Open(fsys, filepath.Join(f.Dir, name))
		if err != nil {
			bad("%v", err)
			continue
		}
		err = f.verifyShard(ctx, s, name, want, v, progress, bad)
		s.Close()
		if err != nil {
			return err
		}
		v.Files++
		v.Bytes += want.Bytes
	}
	found, err := listFiles(fsys, f.Dir, "")
	if err != nil {
		return err
	}
	for _, name := range found {
		if !listed[name] {
			bad("file %q is not in smelt.json: it was added later", name)
		}
	}
	slices.Sort(problems)
	if err := group(problems); err != nil {
		return fmt.Errorf("fused model %s: damaged: make it again, or fetch it again:\n%w", f.Dir, err)
	}
	return nil
}

func (f *Fused) verifyShard(ctx context.Context, s *safetensors.File, name string, want manifestShard, v *Verification, progress Progress, bad func(string, ...any)) error {
	if s.Size() != want.Bytes {
		bad("shard %q has %d bytes, smelt.json says %d", name, s.Size(), want.Bytes)
	}
	if head := sha256.Sum256(s.Header()); hex.EncodeToString(head[:]) != want.HeaderSHA256 {
		bad("shard %q: the header has another checksum", name)
	}
	infos := s.Tensors()
	if len(infos) != len(want.Tensors) {
		bad("shard %q has %d tensors, smelt.json lists %d", name, len(infos), len(want.Tensors))
	}
	return ordered(ctx, 0, len(infos), 0, func(i int) (string, error) {
		t, err := s.Tensor(infos[i].Name)
		if err != nil {
			return "", err
		}
		return checksum(t.Data), nil
	}, func(i int, sum string) error {
		t := infos[i]
		if want.Tensors[t.Name] != sum {
			bad("shard %q: tensor %q has another checksum", name, t.Name)
		}
		s.Release(t.Name)
		v.Tensors++
		progress.add(t.Bytes())
		return nil
	})
}

// fileSum reads a file once.
func fileSum(fsys vfs.FS, path string) (sum string, size int64, err error) {
	file, err := fsys.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer file.Close()
	if size, err = file.Size(); err != nil {
		return "", 0, err
	}
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(file, 0, size)); err != nil {
		return "", size, err
	}
	return hex.EncodeToString(h.Sum(nil)), size, nil
}

func listFiles(fsys vfs.FS, dir, prefix string) (names []string, err error) {
	entries, err := fsys.ReadDir(filepath.Join(dir, filepath.FromSlash(prefix)))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		name := prefix + e.Name()
		if e.IsDir() {
			below, err := listFiles(fsys, dir, name+"/")
			if err != nil {
				return nil, err
			}
			names = append(names, below...)
			continue
		}
		names = append(names, name)
	}
	return names, nil
}

// verifySources measures every expert of every fused module.
func (f *Fused) verifySources(ctx context.Context, in *Inputs, v *Verification, workers int, progress Progress) error {
	var names []string
	for _, e := range in.Experts {
		names = append(names, e.Name)
	}
	if want := f.Config.ExpertNames(); !slices.Equal(names, want) {
		return fmt.Errorf("fused model %s holds the experts %s, the sources are %s", f.Dir, strings.Join(want, ", "), strings.Join(names, ", "))
	}
	return ordered(ctx, 0, len(f.Config.Modules), workers, func(i int) ([]Fidelity, error) {
		return f.measure(&f.Config.Modules[i], in)
	}, func(i int, found []Fidelity) error {
		v.Fidelity = append(v.Fidelity, found...)
		progress.add(f.deltaBytes(&f.Config.Modules[i], len(in.Experts)))
		return nil
	})
}

// deltaBytes is about what must be read to measure one module.
func (f *Fused) deltaBytes(m *smile.Module, experts int) int64 {
	w, _ := f.Base.Lookup(m.Name + ".weight")
	return w.Bytes() * int64(experts)
}

// measure compares the stored factors of one module with the experts' deltas.
func (f *Fused) measure(m *smile.Module, in *Inputs) ([]Fidelity, error) {
	parts, err := f.Parts(m)
	if err != nil {
		return nil, err
	}
	var found []Fidelity
	for i, e := range in.Experts {
		d, err := e.Delta(m.Name, m.Transposed, 1)
		if err != nil {
			return nil, err
		}
		p := parts[i]
		x := Fidelity{Module: m.Name, Expert: e.Name, Rank: p.Rank}
		if d.Touched() != (p.Rank != smile.Untouched) {
			x.Error, x.Rank = 1, p.Rank
			found = append(found, x)
			continue
		}
		if p.Rank == smile.Untouched {
			continue
		}
		delta := denseDelta(d)
		energy := sumSquares(delta)
		approximate, kept, unit, err := reconstruct(p, m)
		if err != nil {
			return nil, fmt.Errorf("module %q, expert %s: %w", m.Name, e.Name, err)
		}
		for i := range delta.Rows {
			kernel.Axpy(-1, approximate.Row(i), delta.Row(i))
		}
		x.Error = math.Sqrt(sumSquares(delta) / energy)
		c, ok := f.fidelity(m.Name, e.Name)
		if ok {
			x.Optimum = math.Sqrt(math.Max(0, c.Energy-c.Bound) / c.Energy)
			// One rounding of US and of Vt moves the product by at most
			// 2u·‖US‖; float32 arithmetic here and there adds a little.
			rounding := 2*unit*math.Sqrt(kept/energy) + 2e-4
			x.Allowed = math.Sqrt(math.Max(0, c.Energy-c.Captured)/c.Energy) + rounding
			x.OK = x.Error <= x.Allowed && math.Abs(c.Energy-energy) <= 1e-3*energy
		}
		found = append(found, x)
		e.Release(m.Name + ".weight")
	}
	in.Base.Release(m.Name + ".weight")
	return found, nil
}

// denseDelta is the delta as one float32 matrix.
func denseDelta(d *taskvector.Delta) linalg.Matrix {
	switch {
	case d.LowRank != nil:
		return d.LowRank.Product()
	case d.Dense64 != nil:
		m := kernel.New(d.Dense64.Rows, d.Dense64.Cols)
		kernel.F64ToF32(m.Data, d.Dense64.Data)
		return m
	}
	return *d.Dense
}

func sumSquares(m linalg.Matrix) (sum float64) {
	for i := range m.Rows {
		sum += kernel.SumSquares(m.Row(i))
	}
	return sum
}

// reconstruct multiplies the stored factors of a part: the matrix [out, in],
// its energy, and the unit roundoff of the stored type.
func reconstruct(p smile.Part, m *smile.Module) (out linalg.Matrix, energy, unit float64, err error) {
	if p.Rank == smile.Dense {
		v, err := p.Dense.Float32()
		return kernel.Of(m.Out, m.In, v), kernel.SumSquares(v), roundoff(p.Dense), err
	}
	out = kernel.New(m.Out, m.In)
	if p.Rank == 0 {
		return out, 0, 0, nil
	}
	us, err := p.US.Float32()
	if err != nil {
		return out, 0, 0, err
	}
	vt, err := p.Vt.Float32()
	if err != nil {
		return out, 0, 0, err
	}
	r := int(p.Rank)
	kernel.Gemm(1, false, false, 1, kernel.Of(m.Out, r, us), kernel.Of(r, m.In, vt[:r*m.In]), 0, out)
	return out, kernel.SumSquares(us), roundoff(p.US), nil
}

func roundoff(t tensor.Tensor) float64 {
	switch t.DType {
	case dtype.BF16:
		return linalg.EpsBF16 / 2
	case dtype.F16:
		return linalg.EpsF16 / 2
	case dtype.F64:
		return linalg.EpsF64 / 2
	}
	return linalg.EpsF32 / 2
}
