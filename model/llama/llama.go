// Package llama runs the Llama family of decoders: Llama 2 and 3
// (arXiv:2302.13971, 2407.21783), Mistral (2310.06825), Qwen2 and 2.5
// (2407.10671, 2412.15115) and Qwen3 (2505.09388), with grouped-query
// attention, rotary positions and a key–value cache.
package llama

import (
	"fmt"
	"math"
	"strconv"

	"smelt/internal/kernel"
	"smelt/model"
	"smelt/nn"
)

// Attention is a layer's self-attention.
type Attention struct {
	QProj, KProj, VProj, OProj nn.Linear   // [H·Dh, D], [Hkv·Dh, D] twice, [D, H·Dh]
	QNorm, KNorm               *nn.RMSNorm // over a head, Qwen3's alone; else nil
	attention                  nn.Attention
	rope                       *nn.RoPE
	layer                      int
}

func newAttention(l model.Loader, c *Config, v *variant, layer int) *Attention {
	d, q, kv := c.HiddenSize, c.NumAttentionHeads*c.HeadDim, c.NumKeyValueHeads*c.HeadDim
	bias := v.oneBias && c.AttentionBias
	a := &Attention{
		QProj: l.Linear("q_proj", q, d, bias || v.qkvBias),
		KProj: l.Linear("k_proj", kv, d, bias || v.qkvBias),
		VProj: l.Linear("v_proj", kv, d, bias || v.qkvBias),
		OProj: l.Linear("o_proj", d, q, bias),
		attention: nn.Attention{
			Heads: c.NumAttentionHeads, KVHeads: c.NumKeyValueHeads, HeadDim: c.HeadDim,
			Scale: float32(1 / math.Sqrt(float64(c.HeadDim))), Causal: true, Window: v.window(c, layer),
		},
		rope:  c.rope,
		layer: layer,
	}
	if v.qkNorm {
		a.QNorm = l.RMSNorm("q_norm", c.HeadDim, c.RMSNormEps)
		a.KNorm = l.RMSNorm("k_norm", c.HeadDim, c.RMSNormEps)
	}
	return a
}

// forward writes y [N, D] for x [N, D] and adds keys and values to the caches.
func (a *Attention) forward(p *nn.Pass, y, x kernel.Matrix, b *batch) {
	m := p.Mark()
	q := p.Matrix(x.Rows, a.QProj.Out())
	k, v := p.Matrix(x.Rows, a.KProj.Out()), p.Matrix(x.Rows, a.VProj.Out())
	nn.ForwardAll(p, x, nn.Job{Layer: a.QProj, Y: q}, nn.Job{Layer: a.KProj, Y: k}, nn.Job{Layer: a.VProj, Y: v})
	if a.QNorm != nil {
		normHeads(p, a.QNorm, q)
		normHeads(p, a.KNorm, k)
	}
	a.rope.Rotate(p, q, b.cos, b.sin)
	a.rope.Rotate(p, k, b.cos, b.sin)
	for i := range b.segments {
		s := &b.segments[i]
		cache := b.inputs[i].Cache
		cache.Put(a.layer, k.Slice(s.Lo, s.Hi, 0, k.Cols), v.Slice(s.Lo, s.Hi, 0, v.Cols))
		s.K, s.V = cache.View(a.layer, cache.Len()+s.Hi-s.Lo)
	}
	heads := p.Matrix(x.Rows, q.Cols)
	a.attention.Forward(p, heads, q, b.segments)
	a.OProj.Forward(p, y, heads)
	p.Release(m)
}

// normHeads normalises every head of x [N, heads·Dh] by itself.
func normHeads(p *nn.Pass, norm *nn.RMSNorm, x kernel.Matrix) {
	d := len(norm.Weight)
	heads := kernel.Of(x.Rows*x.Cols/d, d, x.Data)
	norm.Forward(p, heads, heads)
}

// MLP is down(act(gate(x))·up(x)).
type MLP struct {
	GateProj, UpProj, DownProj nn.Linear // [F, D], [F, D], [D, F]
	act                        nn.Activation
}

func newMLP(l model.Loader, c *Config) *MLP {
	act, _ := nn.ActivationByName(c.HiddenAct) // validated
	d, f := c.HiddenSize, c.IntermediateSize
	return &MLP{
		GateProj: l.Linear("gate_proj", f, d, c.MLPBias),
		UpProj:   l.Linear("up_proj", f, d, c.MLPBias),
		DownProj: l.Linear("down_proj", d, f, c.MLPBias),
		act:      act,
	}
}

func (f *MLP) forward(p *nn.Pass, y, x kernel.Matrix) {
	m := p.Mark()
	gate, up := p.Matrix(x.Rows, f.GateProj.Out()), p.Matrix(x.Rows, f.UpProj.Out())
	nn.ForwardAll(p, x, nn.Job{Layer: f.GateProj, Y: gate}, nn.Job{Layer: f.UpProj, Y: up})
	f.act.Gate(p, gate, up)
	f.DownProj.Forward(p, y, gate)
	p.Release(m)
}

// Layer is one block of the decoder.
type Layer struct {
	name                   string
	InputLayernorm         *nn.RMSNorm
	SelfAttn               *Attention
	PostAttentionLayernorm *nn.RMSNorm
	MLP                    *MLP
}

func newLayer(l model.Loader, c *Config, v *variant, i int) *Layer {
	name := "layers." + strconv.Itoa(i)
	l = l.In(name + ".")
	return &Layer{
		name:                   name,
		InputLayernorm:         l.RMSNorm("input_layernorm", c.HiddenSize, c.RMSNormEps),
		SelfAttn:               newAttention(l.In("self_attn."), c, v, i),
		PostAttentionLayernorm: l.RMSNorm("post_attention_layernorm", c.HiddenSize, c.RMSNormEps),
		MLP:                    newMLP(l.In("mlp."), c),
	}
}

// forward updates x [N, D] in place.
func (b *Layer) forward(p *nn.Pass, x kernel.Matrix, in *batch) {
	m := p.Mark()
	h, y := p.Matrix(x.Rows, x.Cols), p.Matrix(x.Rows, x.Cols)
	b.InputLayernorm.Forward(p, h, x)
	b.SelfAttn.forward(p, y, h, in)
	p.Stage(b.name, ".self_attn", y)
	nn.Add(p, x, y)
	b.PostAttentionLayernorm.Forward(p, h, x)
	b.MLP.forward(p, y, h)
	p.Stage(b.name, ".mlp", y)
	nn.Add(p, x, y)
	p.Stage(b.name, "", x)
	p.Release(m)
}

// Model is a decoder with its head.
type Model struct {
	Config      *Config
	EmbedTokens *nn.Embedding // [V, D]
	Layers      []*Layer
	Norm        *nn.RMSNorm
	LMHead      nn.Linear // [V, D]; the embedding itself where they are tied
}

// Load builds the model that the source's config describes.
func Load(s model.Source) (*Model, error) {
	kind, err := model.Type(s.Config())
	if err != nil {
		return nil, err
	}
	c, v, err := readConfig(kind, s.Config())
	if err != nil {
		return nil, err
	}
	top := model.NewLoader(s)
	l := top.In("model.")
	if top.Has("embed_tokens.weight") { // a bare decoder
		l = top
	}
	m := &Model{
		Config:      c,
		EmbedTokens: l.Embedding("embed_tokens", c.VocabSize, c.HiddenSize),
		Norm:        l.RMSNorm("norm", c.HiddenSize, c.RMSNormEps),
	}
	for i := 0; i < c.NumHiddenLayers && l.Err() == nil; i++ {
		m.Layers = append(m.Layers, newLayer(l, c, v, i))
	}
	switch {
	case top.Has("lm_head.weight"):
		m.LMHead = top.Linear("lm_head", c.VocabSize, c.HiddenSize, false)
	case c.TieWordEmbeddings && m.EmbedTokens != nil:
		m.LMHead = &nn.Dense{Weight: m.EmbedTokens.Weight}
	}
	if err := l.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", kind, err)
	}
	return m, nil
}

// Input is one sequence of a pass: the tokens that follow those in its cache.
type Input struct {
	Cache *nn.Cache
	IDs   []int
}

// batch is what the layers of one pass share.
type batch struct {
	inputs   []Input
	segments []nn.Segment
	cos, sin kernel.Matrix // [N, Dh/2]
	total    int           // tokens of the sequence when its prompt is read; 0: after this pass
}

// NewCache returns an empty cache for one sequence, with the model's context
// as its limit.
func (m *Model) NewCache() *nn.Cache {
	c := m.Config
	return nn.NewCache(c.NumHiddenLayers, c.NumKeyValueHeads*c.HeadDim, c.rope.Context())
}

// Forward runs the tokens of several sequences, which need no padding, and
// returns their hidden states [N, D] after the final norm, in scratch memory of
// p. The caches hold the tokens afterwards; on an error they are as before.
func (m *Model) Forward(p *nn.Pass, inputs []Input) (kernel.Matrix, error) {
	return m.run(p, &batch{inputs: inputs, segments: make([]nn.Segment, len(inputs))})
}

func (m *Model) run(p *nn.Pass, b *batch) (kernel.Matrix, error) {
	n := 0
	for i, in := range b.inputs {
		if len(in.IDs) == 0 {
			return kernel.Matrix{}, fmt.Errorf("sequence %d has no tokens", i)
		}
		if err := in.Cache.Reserve(in.Cache.Len() + len(in.IDs)); err != nil {
			return kernel.Matrix{}, err
		}
		b.segments[i] = nn.Segment{Lo: n, Hi: n + len(in.IDs)}
		n += len(in.IDs)
	}
	x := p.Matrix(n, m.Config.HiddenSize) // [N, D]
	b.cos, b.sin = p.Matrix(n, m.Config.HeadDim/2), p.Matrix(n, m.Config.HeadDim/2)
	for i, in := range b.inputs {
		lo, hi := b.segments[i].Lo, b.segments[i].Hi
		if err := m.EmbedTokens.Forward(x.Slice(lo, hi, 0, x.Cols), in.IDs); err != nil {
			return kernel.Matrix{}, err
		}
		m.Config.rope.Tables(b.cos.Slice(lo, hi, 0, b.cos.Cols), b.sin.Slice(lo, hi, 0, b.sin.Cols),
			in.Cache.Len(), max(b.total, in.Cache.Len()+len(in.IDs)))
	}
	p.Stage("embed_tokens", "", x)
	for _, l := range m.Layers {
		l.forward(p, x, b)
	}
	for _, in := range b.inputs {
		in.Cache.Advance(len(in.IDs))
	}
	m.Norm.Forward(p, x, x)
	p.Stage("norm", "", x)
	return x, nil
}

// Logits writes the head's output [N, V] for hidden states [N, D].
func (m *Model) Logits(p *nn.Pass, logits, hidden kernel.Matrix) error {
	if m.LMHead == nil {
		return fmt.Errorf("%s: the checkpoint has no lm_head and does not tie its embeddings: it gives hidden states alone", m.Config.ModelType)
	}
	m.LMHead.Forward(p, logits, hidden)
	return nil
}

// Embed returns the hidden state of each text's last token [B, D], after the
// final norm.
func (m *Model) Embed(p *nn.Pass, ids [][]int) (kernel.Matrix, error) {
	mark := p.Mark()
	defer p.Release(mark)
	b := &batch{inputs: make([]Input, len(ids)), segments: make([]nn.Segment, len(ids))}
	for i := range ids {
		b.inputs[i] = Input{m.NewCache(), ids[i]}
	}
	h, err := m.run(p, b)
	if err != nil {
		return kernel.Matrix{}, err
	}
	y := kernel.New(len(ids), h.Cols)
	for i, s := range b.segments {
		copy(y.Row(i), h.Row(s.Hi-1))
	}
	return y, nil
}

// VocabSize returns V.
func (m *Model) VocabSize() int { return m.Config.VocabSize }

// Session decodes one sequence. It belongs to one goroutine.
type Session struct {
	model  *Model
	pass   *nn.Pass
	cache  *nn.Cache
	in     [1]Input
	batch  batch
	logits kernel.Matrix // [1, V]
}

// NewSession returns a session without tokens that computes with p.
func (m *Model) NewSession(p *nn.Pass) *Session {
	s := &Session{model: m, pass: p, cache: m.NewCache(), logits: kernel.New(1, m.Config.VocabSize)}
	s.batch = batch{inputs: s.in[:], segments: make([]nn.Segment, 1)}
	return s
}

// Context returns the most tokens that the session takes, 0 for no limit.
func (s *Session) Context() int { return s.cache.Limit() }

// Len returns the number of tokens so far.
func (s *Session) Len() int { return s.cache.Len() }

// Cache holds the session's tokens; it is the session's own.
func (s *Session) Cache() *nn.Cache { return s.cache }

// Reserve makes room for n tokens in all.
func (s *Session) Reserve(n int) error { return s.cache.Reserve(n) }

// promptChunk is how many tokens of a prompt a pass takes: enough to be bound by
// arithmetic, few enough that scratch memory stays small.
const promptChunk = 512

// Step adds tokens and returns the logits [V] after the last one, which are
// valid until the next step. On an error the session is as before.
func (s *Session) Step(ids []int) ([]float32, error) {
	mark, before := s.pass.Mark(), s.cache.Len()
	defer s.pass.Release(mark)
	if err := s.cache.Reserve(before + len(ids)); err != nil {
		return nil, err
	}
	s.batch.total = before + len(ids)
	for ; len(ids) > promptChunk; ids = ids[promptChunk:] {
		s.in[0] = Input{s.cache, ids[:promptChunk]}
		if _, err := s.model.run(s.pass, &s.batch); err != nil {
			s.cache.Truncate(before)
			return nil, err
		}
		s.pass.Release(mark)
	}
	s.in[0] = Input{s.cache, ids}
	h, err := s.model.run(s.pass, &s.batch)
	if err == nil {
		err = s.model.Logits(s.pass, s.logits, h.Slice(h.Rows-1, h.Rows, 0, h.Cols))
	}
	if err != nil {
		s.cache.Truncate(before)
		return nil, err
	}
	return s.logits.Data, nil
}

// StepAll adds one token to each of several sessions of the model, ids[i] to
// sessions[i], in one pass that reads the weights once. It returns their logits
// [V], each valid until its session's next step: what Step would return, but
// for the rounding of float32. On an error the sessions are as before.
func (m *Model) StepAll(p *nn.Pass, sessions []*Session, ids []int) ([][]float32, error) {
	mark := p.Mark()
	defer p.Release(mark)
	b := &batch{inputs: make([]Input, len(sessions)), segments: make([]nn.Segment, len(sessions))}
	for i, s := range sessions {
		b.inputs[i] = Input{s.cache, ids[i : i+1]}
	}
	h, err := m.run(p, b)
	if err != nil {
		return nil, err
	}
	y := p.Matrix(h.Rows, m.VocabSize())
	if err := m.Logits(p, y, h); err != nil {
		for _, s := range sessions {
			s.cache.Truncate(s.cache.Len() - 1)
		}
		return nil, err
	}
	logits := make([][]float32, len(sessions))
	for i, s := range sessions {
		copy(s.logits.Data, y.Row(i))
		logits[i] = s.logits.Data
	}
	return logits, nil
}
