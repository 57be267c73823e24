package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"path/filepath"
	"strings"

	"smelt/checkpoint"
	"smelt/internal/kernel"
	"smelt/internal/vfs"
	"smelt/model"
	"smelt/model/clip"
	"smelt/model/llama"
	"smelt/model/t5"
	"smelt/nn"
	"smelt/smile"
	"smelt/taskvector"
	"smelt/tensor"
)

// subject is a model under evaluation.
type subject struct {
	*Model
	kind       string // eval.KindDense, …
	key        string // identifies what decides its answers
	parameters int64  // of the whole model
	bytes      int64
	tower      int64 // parameters of the vision tower
	head       string
	expert     *taskvector.Expert
}

func (s *subject) Close() error {
	var err error
	if s.expert != nil {
		err = s.expert.Close()
	}
	if s.Model != nil {
		err = errors.Join(err, s.Model.Close())
	}
	return err
}

// visionPrefix begins the names of a CLIP model's vision tower.
const visionPrefix = "vision_model."

// contentLimit is how large weights may be to be identified by what they hold;
// larger ones are by headers, sizes and times.
const contentLimit = 256 << 20

// openSubject opens what a model argument names: a checkpoint, dense or fused,
// or an adapter or a part of a model, which base completes.
func (e *evaluation) openSubject(m EvalModel) (*subject, error) {
	if checkpoint.IsAdapter(e.fs, m.Path) {
		return e.openExpert(m.Path)
	}
	c, err := checkpoint.Open(e.fs, m.Path)
	if err != nil {
		return nil, err
	}
	kind := c.Config.ModelType()
	_ = c.Close()
	switch {
	case kind == "clip_vision_model" && e.base != "":
		return e.openExpert(m.Path)
	case kind == modelType && (m.ExpertRank > 0 || m.RouterRank > 0):
		return e.openCut(m)
	case m.ExpertRank > 0 || m.RouterRank > 0:
		return nil, fmt.Errorf("checkpoint %s: is no fused model, whose ranks could be cut", m.Path)
	}
	opened, err := OpenModel(e.fs, m.Path)
	if err != nil {
		return nil, err
	}
	s := &subject{Model: opened, kind: "dense"}
	if opened.Fused != nil {
		s.kind = "fused"
	}
	s.measure(opened.checkpoint)
	return e.finish(s, opened.checkpoint, "")
}

// measure counts what a checkpoint stores.
func (s *subject) measure(c *checkpoint.Checkpoint) {
	s.parameters, s.bytes, s.tower = c.Parameters(), c.Bytes(), 0
	for _, t := range c.Tensors() {
		if strings.HasPrefix(t.Name, visionPrefix) || s.Type == "clip_vision_model" {
			s.tower += t.Elements()
		}
	}
}

// finish sets the keys of a subject made of checkpoint c and more.
func (e *evaluation) finish(s *subject, c *checkpoint.Checkpoint, more string) (_ *subject, err error) {
	if s.key, err = contentKey(e.fs, c); err == nil && s.CLIP != nil && s.CLIP.Text != nil {
		s.head, err = s.textKey()
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	s.key += more
	return s, nil
}

// contentKey identifies a checkpoint: by its content where that is small, a
// fused model by the checksums in its manifest, else by headers, sizes and
// times.
func contentKey(fsys vfs.FS, c *checkpoint.Checkpoint) (string, error) {
	h := sha256.New()
	h.Write(c.Config.Text)
	manifest, err := vfs.ReadFile(fsys, filepath.Join(c.Dir, manifestName), 1<<30)
	switch {
	case err == nil && c.Config.ModelType() == modelType:
		h.Write(manifest)
		for _, name := range c.Files() {
			info, err := fsys.Stat(filepath.Join(c.Dir, name))
			if err != nil {
				return "", err
			}
			fmt.Fprintf(h, "%s %d\n", name, info.Size())
		}
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return "", err
	case c.Bytes() > contentLimit:
		return c.Fingerprint()
	default:
		if err := hashTensors(h, c, func(string) bool { return true }); err != nil {
			return "", err
		}
	}
	for _, name := range []string{"tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json", "preprocessor_config.json", "generation_config.json"} {
		if err := hashFile(fsys, h, filepath.Join(c.Dir, name)); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func hashTensors(h hash.Hash, c *checkpoint.Checkpoint, keep func(name string) bool) error {
	return vfs.Guard(func() error {
		for _, info := range c.Tensors() {
			if !keep(info.Name) {
				continue
			}
			t, err := c.Tensor(info.Name)
			if err != nil {
				return err
			}
			fmt.Fprintf(h, "tensor %q %v %v\n", info.Name, t.DType, t.Shape)
			h.Write(t.Data)
		}
		return nil
	})
}

// hashFile adds a small file, which may be missing.
func hashFile(fsys vfs.FS, h hash.Hash, path string) error {
	data, err := vfs.ReadFile(fsys, path, 1<<30)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	fmt.Fprintf(h, "file %q %d\n", filepath.Base(path), len(data))
	h.Write(data)
	return err
}

// textKey identifies the text tower: models that share it share heads.
func (s *subject) textKey() (string, error) {
	h := sha256.New()
	cfg, err := checkpoint.ParseConfig(s.Config())
	if err != nil {
		return "", err
	}
	h.Write(cfg.Nested("text_config").JSON())
	err = hashTensors(h, s.checkpoint, func(name string) bool {
		return strings.HasPrefix(name, "text_model.") || strings.HasPrefix(name, "text_projection.")
	})
	for _, name := range []string{"tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json"} {
		err = errors.Join(err, hashFile(s.fs, h, filepath.Join(s.Dir(), name)))
	}
	return hex.EncodeToString(h.Sum(nil)), err
}

// openExpert opens an adapter or a part of a model on the base.
func (e *evaluation) openExpert(path string) (*subject, error) {
	if e.base == "" {
		return nil, fmt.Errorf("%s: is an adapter, which runs on its base: name that with --base, or as base in the task file", path)
	}
	w, err := OpenSource(e.fs, e.base)
	if err != nil {
		return nil, err
	}
	s := &subject{Model: &Model{Weights: w, fs: e.fs}, kind: "expert"}
	if w.Fused != nil {
		s.Close()
		return nil, fmt.Errorf("base %s: is a fused model: want the base that experts were fine-tuned from", e.base)
	}
	x, problems, err := taskvector.Open(e.fs, w.checkpoint, filepath.Base(path), path)
	if err == nil {
		s.expert = x
		err = group(problems)
	}
	if err == nil {
		err = vfs.Guard(func() error { return s.build(expertSource{w, x}) })
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	s.measure(w.checkpoint)
	more, err := s.replaced(path)
	if err != nil {
		s.Close()
		return nil, err
	}
	return e.finish(s, w.checkpoint, more)
}

// replaced corrects the size for what the expert brings in place of the
// base's, and returns its key.
func (s *subject) replaced(path string) (string, error) {
	if s.expert.Kind == taskvector.LoRA {
		a, err := checkpoint.OpenAdapter(s.fs, path)
		if err != nil {
			return "", err
		}
		defer a.Close()
		h := sha256.New()
		h.Write(a.Config.Text)
		if err := hashFile(s.fs, h, filepath.Join(path, "adapter_model.safetensors")); err != nil {
			return "", err
		}
		s.parameters += s.expert.Parameters()
		s.tower += s.expert.Parameters()
		s.bytes += s.expert.Parameters() * int64(s.expert.DType.Size())
		return " adapter " + hex.EncodeToString(h.Sum(nil)), nil
	}
	c, err := checkpoint.Open(s.fs, path)
	if err != nil {
		return "", err
	}
	defer c.Close()
	for _, t := range s.checkpoint.Tensors() {
		if x, ok := s.expert.Lookup(t.Name); ok {
			s.parameters += x.Elements() - t.Elements()
			s.bytes += x.Bytes() - t.Bytes()
		}
	}
	key, err := contentKey(s.fs, c)
	return " part " + key, err
}

// build makes the model of a source other than the model's own weights.
func (s *subject) build(from model.Source) (err error) {
	if s.Type, err = model.Type(from.Config()); err != nil {
		return err
	}
	switch s.Type {
	case "t5":
		s.T5, err = t5.Load(from)
	case "clip", "clip_vision_model", "clip_text_model":
		s.CLIP, err = clip.Load(from)
	default:
		s.Llama, err = llama.Load(from)
	}
	return err
}

// expertSource answers with the base's weights as the expert changed them.
type expertSource struct {
	*Weights
	expert *taskvector.Expert
}

// Has reports whether base or expert has a tensor.
func (x expertSource) Has(name string) bool {
	_, ok := x.expert.Lookup(name)
	return ok || x.Weights.Has(name)
}

// Tensor returns the expert's tensor, or the base's where it has none.
func (x expertSource) Tensor(name string, shape ...int) (tensor.Tensor, error) {
	t, ok, err := x.expert.Tensor(name)
	if err != nil {
		return t, err
	}
	if !ok {
		return x.Weights.Tensor(name, shape...)
	}
	return t, model.CheckShape(name, t.Shape, shape)
}

// Linear returns a layer of the base with the expert's weights, or with an
// adapter's factors beside it.
func (x expertSource) Linear(module string, out, in int, bias bool) (nn.Linear, error) {
	if x.expert.AdapterRank(module) == 0 {
		return model.Dense(x, module, out, in, bias)
	}
	dense, err := model.Dense(x.Weights, module, out, in, bias)
	if err != nil {
		return nil, err
	}
	delta, err := x.expert.Delta(module, false, 0)
	if err != nil {
		return nil, err
	}
	if delta.Bias != nil {
		sum := make([]float32, out)
		copy(sum, dense.Bias)
		for i, v := range delta.Bias {
			sum[i] += float32(v)
		}
		dense.Bias = sum
	}
	if delta.LowRank == nil {
		return dense, nil
	}
	return &adapted{dense, delta.LowRank}, nil
}

// adapted is y = x·Wᵀ + b + s·(x·Aᵀ)·Bᵀ.
type adapted struct {
	*nn.Dense
	delta *taskvector.LowRank
}

// Forward writes y [N, out] for x [N, in].
func (a *adapted) Forward(p *nn.Pass, y, x kernel.Matrix) {
	a.Dense.Forward(p, y, x)
	m := p.Mark()
	down := p.Matrix(x.Rows, a.delta.A.Rows)
	kernel.Gemm(p.Workers, false, true, 1, x, a.delta.A, 0, down)
	kernel.Gemm(p.Workers, false, true, float32(a.delta.Scale), down, a.delta.B, 1, y)
	p.Release(m)
}

// openCut opens a fused model with its experts and routers cut to lower ranks.
func (e *evaluation) openCut(m EvalModel) (*subject, error) {
	w, err := OpenSource(e.fs, m.Path)
	if err != nil {
		return nil, err
	}
	stored := *w
	c := &cutSource{Weights: &stored, stored: map[string]*smile.Module{}}
	s := &subject{Model: &Model{Weights: w, fs: e.fs}, kind: "fused"}
	cfg := *w.Fused
	cfg.Modules = append([]smile.Module(nil), cfg.Modules...)
	w.modules = map[string]*smile.Module{}
	s.measure(w.checkpoint)
	for i := range cfg.Modules {
		cut := &cfg.Modules[i]
		was := *cut
		cut.Ranks = append([]smile.Rank(nil), cut.Ranks...)
		for k, r := range cut.Ranks {
			if r >= 0 && m.ExpertRank > 0 {
				cut.Ranks[k] = min(r, smile.Rank(m.ExpertRank))
			}
		}
		if m.RouterRank > 0 {
			cut.RouterRank = min(cut.RouterRank, m.RouterRank)
		}
		c.stored[cut.Name] = &was
		w.modules[cut.Name] = cut
		less := int64(was.TotalRows()-cut.TotalRows())*int64(was.In) + int64(was.TotalRank()-cut.TotalRank())*int64(was.Out)
		s.parameters -= less
		if strings.HasPrefix(cut.Name, visionPrefix) {
			s.tower -= less
		}
		if t, ok := w.checkpoint.Lookup(smile.VtName(cut.Name)); ok {
			s.bytes -= less * int64(t.DType.Size())
		}
	}
	w.Fused = &cfg
	c.cut = w
	if err := vfs.Guard(func() error { return s.build(c) }); err != nil {
		s.Close()
		return nil, fmt.Errorf("checkpoint %s: %w", m.Path, err)
	}
	return e.finish(s, w.checkpoint, fmt.Sprintf(" cut to expert rank %d, router rank %d", m.ExpertRank, m.RouterRank))
}

// cutSource answers with the layers of a fused model cut to lower ranks: the
// leading rows of each expert's vt and columns of its us.
type cutSource struct {
	*Weights // as stored
	stored   map[string]*smile.Module
	cut      *Weights
}

// Linear returns the linear layer of a module, cut where it is fused.
func (c *cutSource) Linear(module string, out, in int, bias bool) (nn.Linear, error) {
	was := c.stored[module]
	if was == nil {
		return c.Weights.Linear(module, out, in, bias)
	}
	to := c.cut.modules[module]
	parts, err := was.Split(c.get)
	if err != nil {
		return nil, err
	}
	for i, p := range parts {
		parts[i] = p.Truncate(max(to.Ranks[i], 0), to.RouterRank)
	}
	tensors, err := to.Join(parts)
	if err != nil {
		return nil, err
	}
	var base *nn.Dense
	if to.Transposed {
		base, err = c.transposed(module, out, in)
	} else {
		base, err = model.Dense(c.Weights, module, out, in, bias)
	}
	if err != nil {
		return nil, err
	}
	return smile.NewLinear(to, c.cut.Fused.TopK, base, func(name string) (tensor.Tensor, bool, error) {
		for _, t := range tensors {
			if t.Name == name {
				return t.Tensor, true, nil
			}
		}
		return tensor.Tensor{}, false, nil
	})
}
