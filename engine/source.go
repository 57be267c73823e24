package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"smelt/checkpoint"
	"smelt/dtype"
	"smelt/generate"
	"smelt/internal/kernel"
	"smelt/internal/vfs"
	"smelt/model"
	"smelt/model/clip"
	"smelt/model/llama"
	"smelt/model/t5"
	"smelt/nn"
	"smelt/smile"
	"smelt/tensor"
)

// Weights answers a model's requests for weights from a checkpoint directory,
// dense or fused: a [model.Source]. Weights are the mapped files; whoever
// computes with them does so under vfs.Guard.
type Weights struct {
	// Fused is the smile block of a fused model, nil for a dense one.
	Fused *smile.Config

	checkpoint *checkpoint.Checkpoint
	config     []byte // with the base's model_type
	modules    map[string]*smile.Module
}

// OpenSource opens the checkpoint of dir to run it.
func OpenSource(fsys vfs.FS, dir string) (*Weights, error) {
	c, err := checkpoint.Open(fsys, dir)
	if err != nil {
		return nil, err
	}
	w := &Weights{checkpoint: c, config: c.Config.Text, modules: map[string]*smile.Module{}}
	if c.Config.ModelType() == modelType {
		if err := w.fuse(); err != nil {
			_ = c.Close()
			return nil, err
		}
	}
	return w, nil
}

// fuse reads the smile block and restores the base's config.
func (w *Weights) fuse() (err error) {
	if w.Fused, err = readBlock(w.checkpoint); err != nil {
		return err
	}
	base, err := baseConfig(w.checkpoint.Config, w.Fused)
	if err != nil {
		return err
	}
	w.config = base.Text
	for i := range w.Fused.Modules {
		m := &w.Fused.Modules[i]
		w.modules[m.Name] = m
	}
	return nil
}

// Config returns config.json with the architecture's own model_type.
func (w *Weights) Config() []byte { return w.config }

// Has reports whether the checkpoint stores a tensor of this name.
func (w *Weights) Has(name string) bool {
	_, ok := w.checkpoint.Lookup(name)
	return ok
}

// Tensor returns a tensor of exactly this shape: the mapped file.
func (w *Weights) Tensor(name string, shape ...int) (tensor.Tensor, error) {
	t, err := w.checkpoint.Tensor(name)
	if err != nil {
		return t, err
	}
	return t, model.CheckShape(name, t.Shape, shape)
}

// Linear returns the linear layer of a module, dense or fused.
func (w *Weights) Linear(module string, out, in int, bias bool) (nn.Linear, error) {
	m := w.modules[module]
	if m == nil {
		return model.Dense(w, module, out, in, bias)
	}
	var base *nn.Dense
	var err error
	if m.Transposed {
		base, err = w.transposed(module, out, in)
	} else {
		base, err = model.Dense(w, module, out, in, bias)
	}
	if err != nil {
		return nil, err
	}
	return smile.NewLinear(m, w.Fused.TopK, base, w.get)
}

// transposed returns the dense layer of a weight that is stored [in, out], as
// a copy in its dtype.
func (w *Weights) transposed(module string, out, in int) (*nn.Dense, error) {
	t, err := w.Tensor(module+".weight", in, out)
	if err != nil {
		return nil, err
	}
	stored, err := nn.Weight(t)
	if err != nil {
		return nil, fmt.Errorf("tensor %q: %w", module+".weight", err)
	}
	d := &nn.Dense{Weight: nn.Transposed(stored)}
	if !w.Has(module + ".bias") {
		return d, nil
	}
	b, err := w.Tensor(module+".bias", out)
	if err != nil {
		return nil, err
	}
	d.Bias, err = b.Float32()
	return d, err
}

func (w *Weights) get(name string) (t tensor.Tensor, ok bool, err error) {
	if !w.Has(name) {
		return t, false, nil
	}
	t, err = w.checkpoint.Tensor(name)
	return t, true, err
}

// Bytes returns the size of all tensors as stored: what is mapped, and never
// copied to another type.
func (w *Weights) Bytes() int64 { return w.checkpoint.Bytes() }

// DType returns the type of the largest part of the weights.
func (w *Weights) DType() dtype.DType {
	var bytes [256]int64
	var most dtype.DType
	for _, t := range w.checkpoint.Tensors() {
		if bytes[t.DType] += t.Bytes(); bytes[t.DType] > bytes[most] {
			most = t.DType
		}
	}
	return most
}

// Dir returns the directory.
func (w *Weights) Dir() string { return w.checkpoint.Dir }

// Close unmaps the files; models built from them must not run again.
func (w *Weights) Close() error { return w.checkpoint.Close() }

// Model is a checkpoint, ready to run: exactly one of CLIP, T5 and Llama is
// set.
type Model struct {
	*Weights
	Type  string // model_type of the architecture
	CLIP  *clip.Model
	T5    *t5.Model
	Llama *llama.Model // of any decoder of its family

	fs vfs.FS
}

// OpenModel opens the checkpoint of dir, dense or fused, and builds its model.
func OpenModel(fsys vfs.FS, dir string) (m *Model, err error) {
	w, err := OpenSource(fsys, dir)
	if err != nil {
		return nil, err
	}
	m = &Model{Weights: w, fs: fsys}
	err = vfs.Guard(m.build)
	if err != nil {
		_ = w.Close()
		return nil, fmt.Errorf("checkpoint %s: %w", dir, err)
	}
	return m, nil
}

func (m *Model) build() (err error) {
	if m.Type, err = model.Type(m.Config()); err != nil {
		return err
	}
	switch m.Type {
	case "t5":
		m.T5, err = t5.Load(m.Weights)
	case "clip", "clip_vision_model", "clip_text_model":
		m.CLIP, err = clip.Load(m.Weights)
	default:
		m.Llama, err = llama.Load(m.Weights)
	}
	return err
}

// NewSession returns a session that computes with p, and the tokens to begin
// with: ids themselves for a decoder, the start token for an encoder–decoder,
// which encodes ids.
func (m *Model) NewSession(p *nn.Pass, ids []int) (s generate.Session, prompt []int, err error) {
	switch {
	case m.Llama != nil:
		return m.Llama.NewSession(p), ids, nil
	case m.T5 != nil:
		if s, err = m.T5.NewSession(p, ids); err != nil {
			return nil, nil, err
		}
		return s, []int{m.T5.Start()}, nil
	}
	return nil, nil, fmt.Errorf("a %s model does not generate text: use classify or embed", m.Type)
}

// maxGenerationConfig bounds generation_config.json.
const maxGenerationConfig = 1 << 20

// GenerationOptions reads the checkpoint's generation_config.json, or where it
// has none the end tokens of its config.json.
func (m *Model) GenerationOptions() (generate.Options, error) {
	o := generate.Options{EOS: generate.EOSFromConfig(m.Config())}
	text, err := vfs.ReadFile(m.fs, filepath.Join(m.Dir(), "generation_config.json"), maxGenerationConfig)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return o, nil
	case err != nil:
		return o, err
	}
	if o, err = o.ReadConfig(text); err != nil {
		return o, fmt.Errorf("checkpoint %s: %w", m.Dir(), err)
	}
	return o, nil
}

// EmbedTexts returns one row a text: CLIP's projected embedding, the mean of
// T5's encoder states, or a decoder's state at the last token, after its final
// norm.
func (m *Model) EmbedTexts(p *nn.Pass, ids [][]int) (kernel.Matrix, error) {
	switch {
	case m.CLIP != nil && m.CLIP.Text != nil:
		return m.CLIP.Text.Forward(p, ids)
	case m.CLIP != nil:
		return kernel.Matrix{}, fmt.Errorf("checkpoint %s: the model has no text tower", m.Dir())
	case m.T5 != nil:
		return m.T5.Embed(p, ids)
	}
	return m.Llama.Embed(p, ids)
}

// EmbedImages returns CLIP's embeddings of normalised images [B, C·H·W].
func (m *Model) EmbedImages(p *nn.Pass, pixels kernel.Matrix) (kernel.Matrix, error) {
	if m.CLIP == nil || m.CLIP.Vision == nil {
		return kernel.Matrix{}, fmt.Errorf("checkpoint %s: the model has no vision tower", m.Dir())
	}
	return m.CLIP.Vision.Forward(p, pixels)
}
