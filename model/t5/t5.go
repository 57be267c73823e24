// Package t5 runs T5 (arXiv:1910.10683), T5 v1.1 and Flan-T5 (2210.11416): an
// encoder and a decoder with relative position biases.
package t5

import (
	"fmt"
	"math"
	"strconv"

	"smelt/internal/kernel"
	"smelt/model"
	"smelt/nn"
)

// Attention is a self-attention or a cross-attention; the dot product is not
// scaled.
type Attention struct {
	Q, K, V, O nn.Linear // [H·Dkv, D] three times, [D, H·Dkv]
}

func newAttention(l model.Loader, c *Config) *Attention {
	inner := c.NumHeads * c.DKV
	return &Attention{
		Q: l.Linear("q", inner, c.DModel, false),
		K: l.Linear("k", inner, c.DModel, false),
		V: l.Linear("v", inner, c.DModel, false),
		O: l.Linear("o", c.DModel, inner, false),
	}
}

// attend writes y [N, D]: queries of x over the segments' keys and values.
func (a *Attention) attend(p *nn.Pass, y, q kernel.Matrix, form *nn.Attention, segments []nn.Segment) {
	m := p.Mark()
	heads := p.Matrix(q.Rows, q.Cols)
	form.Forward(p, heads, q, segments)
	a.O.Forward(p, y, heads)
	p.Release(m)
}

// FeedForward is wo(act(wi(x))), or wo(act(wi_0(x))·wi_1(x)).
type FeedForward struct {
	WI, WI1, WO nn.Linear // [F, D], [F, D] or nil, [D, F]
	act         nn.Activation
}

func newFeedForward(l model.Loader, c *Config) *FeedForward {
	f := &FeedForward{act: c.act}
	if c.gated {
		f.WI, f.WI1 = l.Linear("wi_0", c.DFF, c.DModel, false), l.Linear("wi_1", c.DFF, c.DModel, false)
	} else {
		f.WI = l.Linear("wi", c.DFF, c.DModel, false)
	}
	f.WO = l.Linear("wo", c.DModel, c.DFF, false)
	return f
}

func (f *FeedForward) forward(p *nn.Pass, y, x kernel.Matrix) {
	m := p.Mark()
	h := p.Matrix(x.Rows, f.WI.Out())
	f.WI.Forward(p, h, x)
	if f.WI1 != nil {
		linear := p.Matrix(x.Rows, f.WI1.Out())
		f.WI1.Forward(p, linear, x)
		f.act.Gate(p, h, linear)
	} else {
		f.act.Forward(p, h)
	}
	f.WO.Forward(p, y, h)
	p.Release(m)
}

// Block is one block of a stack; EncDecAttention is nil in the encoder.
type Block struct {
	name            string
	norms           []*nn.RMSNorm // before each of the two or three layers
	SelfAttention   *Attention
	EncDecAttention *Attention
	DenseReluDense  *FeedForward
	layer           int
}

func newBlock(l model.Loader, c *Config, i int, decoder bool, stack string) *Block {
	n := strconv.Itoa(i)
	l = l.In("block." + n + ".")
	b := &Block{name: stack + ".block." + n, layer: i}
	layer := func(j int) model.Loader {
		s := l.In("layer." + strconv.Itoa(j) + ".")
		b.norms = append(b.norms, s.RMSNorm("layer_norm", c.DModel, c.LayerNormEpsilon))
		return s
	}
	b.SelfAttention = newAttention(layer(0).In("SelfAttention."), c)
	if decoder {
		b.EncDecAttention = newAttention(layer(1).In("EncDecAttention."), c)
	}
	b.DenseReluDense = newFeedForward(layer(len(b.norms)).In("DenseReluDense."), c)
	return b
}

// encode updates x [N, D] in place.
func (b *Block) encode(p *nn.Pass, x kernel.Matrix, form *nn.Attention, segments []nn.Segment) {
	m := p.Mark()
	a := b.SelfAttention
	h, y := p.Matrix(x.Rows, x.Cols), p.Matrix(x.Rows, x.Cols)
	b.norms[0].Forward(p, h, x)
	q, k, v := p.Matrix(x.Rows, a.Q.Out()), p.Matrix(x.Rows, a.K.Out()), p.Matrix(x.Rows, a.V.Out())
	nn.ForwardAll(p, h, nn.Job{Layer: a.Q, Y: q}, nn.Job{Layer: a.K, Y: k}, nn.Job{Layer: a.V, Y: v})
	for i := range segments {
		s := &segments[i]
		s.K, s.V = k.Slice(s.Lo, s.Hi, 0, k.Cols), v.Slice(s.Lo, s.Hi, 0, v.Cols)
	}
	a.attend(p, y, q, form, segments)
	p.Stage(b.name, ".SelfAttention", y)
	nn.Add(p, x, y)
	b.feed(p, x, y, h)
	p.Release(m)
}

// decode updates x [N, D], the rows of several sequences, in place.
func (b *Block) decode(p *nn.Pass, x kernel.Matrix, in *batch) {
	m := p.Mark()
	a := b.SelfAttention
	h, y := p.Matrix(x.Rows, x.Cols), p.Matrix(x.Rows, x.Cols)
	b.norms[0].Forward(p, h, x)
	q, k, v := p.Matrix(x.Rows, a.Q.Out()), p.Matrix(x.Rows, a.K.Out()), p.Matrix(x.Rows, a.V.Out())
	nn.ForwardAll(p, h, nn.Job{Layer: a.Q, Y: q}, nn.Job{Layer: a.K, Y: k}, nn.Job{Layer: a.V, Y: v})
	for i, s := range in.sessions {
		g := &in.segments[i]
		s.cache.Put(b.layer, k.Slice(g.Lo, g.Hi, 0, k.Cols), v.Slice(g.Lo, g.Hi, 0, v.Cols))
		g.K, g.V = s.cache.View(b.layer, s.cache.Len()+g.Hi-g.Lo)
	}
	a.attend(p, y, q, &in.self, in.segments)
	p.Stage(b.name, ".SelfAttention", y)
	nn.Add(p, x, y)

	b.norms[1].Forward(p, h, x)
	b.EncDecAttention.Q.Forward(p, q, h)
	for i, s := range in.sessions {
		in.segments[i].K, in.segments[i].V = s.keys[b.layer], s.values[b.layer]
	}
	b.EncDecAttention.attend(p, y, q, &in.cross, in.segments)
	p.Stage(b.name, ".EncDecAttention", y)
	nn.Add(p, x, y)
	b.feed(p, x, y, h)
	p.Release(m)
}

// feed adds the feed-forward layer's output to x; y and h are scratch.
func (b *Block) feed(p *nn.Pass, x, y, h kernel.Matrix) {
	b.norms[len(b.norms)-1].Forward(p, h, x)
	b.DenseReluDense.forward(p, y, h)
	p.Stage(b.name, ".DenseReluDense", y)
	nn.Add(p, x, y)
	p.Stage(b.name, "", x)
}

// Stack is the encoder or the decoder.
type Stack struct {
	name                  string
	Blocks                []*Block
	RelativeAttentionBias kernel.Matrix // [buckets, H], of the first block, for all
	FinalLayerNorm        *nn.RMSNorm
}

func newStack(l model.Loader, c *Config, layers int, decoder bool, name string) *Stack {
	l = l.In(name + ".")
	s := &Stack{name: name, FinalLayerNorm: l.RMSNorm("final_layer_norm", c.DModel, c.LayerNormEpsilon)}
	if v := l.Values("block.0.layer.0.SelfAttention.relative_attention_bias.weight", c.RelativeAttentionNumBuckets, c.NumHeads); v != nil {
		s.RelativeAttentionBias = kernel.Of(c.RelativeAttentionNumBuckets, c.NumHeads, v)
	}
	for i := 0; i < layers && l.Err() == nil; i++ {
		s.Blocks = append(s.Blocks, newBlock(l, c, i, decoder, name))
	}
	return s
}

// Model is an encoder with, unless the checkpoint is an encoder alone, a
// decoder and its head.
type Model struct {
	Config  *Config
	Shared  *nn.Embedding // [V, D]
	Encoder *Stack
	Decoder *Stack    // nil in an encoder alone
	LMHead  nn.Linear // [V, D]; the embedding itself where they are tied
	scale   float32   // of hidden states before the head
}

// Load builds the model that the source's config describes.
func Load(s model.Source) (*Model, error) {
	kind, err := model.Type(s.Config())
	if err != nil {
		return nil, err
	}
	if kind != "t5" {
		return nil, fmt.Errorf("config.json: model_type %q is no T5", kind)
	}
	c, err := readConfig(s.Config())
	if err != nil {
		return nil, err
	}
	l := model.NewLoader(s)
	m := &Model{Config: c, scale: 1}
	if c.scaled() {
		m.scale = float32(1 / math.Sqrt(float64(c.DModel)))
	}
	shared := "shared"
	for _, name := range []string{"encoder.embed_tokens", "decoder.embed_tokens"} {
		if !l.Has(shared+".weight") && l.Has(name+".weight") {
			shared = name
		}
	}
	m.Shared = l.Embedding(shared, c.VocabSize, c.DModel)
	m.Encoder = newStack(l, c, c.NumLayers, false, "encoder")
	if l.Has("decoder.final_layer_norm.weight") && l.Err() == nil {
		m.Decoder = newStack(l, c, *c.NumDecoderLayers, true, "decoder")
	}
	switch {
	case l.Has("lm_head.weight"):
		m.LMHead = l.Linear("lm_head", c.VocabSize, c.DModel, false)
	case m.Shared != nil:
		m.LMHead = &nn.Dense{Weight: m.Shared.Weight}
	}
	if err := l.Err(); err != nil {
		return nil, fmt.Errorf("t5: %w", err)
	}
	return m, nil
}

// Encode returns the encoder's hidden states [N, D] of several sequences, which
// need no padding, rows one sequence after the other.
func (m *Model) Encode(p *nn.Pass, ids [][]int) (kernel.Matrix, error) {
	n, longest := 0, 0
	segments := make([]nn.Segment, len(ids))
	for i, s := range ids {
		if len(s) == 0 {
			return kernel.Matrix{}, fmt.Errorf("t5: text %d has no tokens", i)
		}
		segments[i] = nn.Segment{Lo: n, Hi: n + len(s)}
		n, longest = n+len(s), max(longest, len(s))
	}
	x := kernel.New(n, m.Config.DModel) // [N, D]
	for i, s := range segments {
		if err := m.Shared.Forward(x.Slice(s.Lo, s.Hi, 0, x.Cols), ids[i]); err != nil {
			return kernel.Matrix{}, fmt.Errorf("t5: text %d: %w", i, err)
		}
	}
	p.Stage("encoder", ".embed_tokens", x)
	form := m.form()
	form.Zero = max(longest-1, 0)
	form.Bias = m.Config.bias(m.Encoder.RelativeAttentionBias, form.Zero, form.Zero, true)
	for _, b := range m.Encoder.Blocks {
		b.encode(p, x, &form, segments)
	}
	m.Encoder.FinalLayerNorm.Forward(p, x, x)
	p.Stage("encoder", ".final_layer_norm", x)
	return x, nil
}

// Embed returns the mean of the encoder's hidden states of each text [B, D].
func (m *Model) Embed(p *nn.Pass, ids [][]int) (kernel.Matrix, error) {
	x, err := m.Encode(p, ids)
	if err != nil {
		return kernel.Matrix{}, err
	}
	y, at := kernel.New(len(ids), x.Cols), 0
	for i, s := range ids {
		for range s {
			kernel.Axpy(1/float32(len(s)), x.Row(at), y.Row(i))
			at++
		}
	}
	return y, nil
}

func (m *Model) form() nn.Attention {
	c := m.Config
	return nn.Attention{Heads: c.NumHeads, KVHeads: c.NumHeads, HeadDim: c.DKV, Scale: 1}
}

// VocabSize returns V.
func (m *Model) VocabSize() int { return m.Config.VocabSize }

// Session decodes one sequence over one encoded input. It belongs to one
// goroutine.
type Session struct {
	model        *Model
	pass         *nn.Pass
	cache        *nn.Cache
	bias         kernel.Matrix   // of the self-attention, for as many tokens as there is room for
	keys, values []kernel.Matrix // of the cross-attention, by layer, [S, H·Dkv]
	own          batch           // of this session alone
	logits       kernel.Matrix   // [1, V]
}

// batch is what the blocks of one decoding pass share.
type batch struct {
	sessions    []*Session
	segments    []nn.Segment // of each session's rows
	self, cross nn.Attention
}

func (m *Model) newBatch(sessions ...*Session) batch {
	b := batch{sessions: sessions, segments: make([]nn.Segment, len(sessions)), self: m.form(), cross: m.form()}
	b.self.Causal = true
	return b
}

// NewSession encodes ids and returns a decoder without tokens, which computes
// with p. Its first token is the config's decoder_start_token_id.
func (m *Model) NewSession(p *nn.Pass, ids []int) (*Session, error) {
	if m.Decoder == nil {
		return nil, fmt.Errorf("t5: the checkpoint is an encoder alone: it embeds text and does not generate")
	}
	encoded, err := m.Encode(p, [][]int{ids})
	if err != nil {
		return nil, err
	}
	inner := m.Config.NumHeads * m.Config.DKV
	s := &Session{model: m, pass: p, cache: nn.NewCache(len(m.Decoder.Blocks), inner, 0), logits: kernel.New(1, m.Config.VocabSize)}
	s.own = m.newBatch(s)
	for _, b := range m.Decoder.Blocks {
		k, v := kernel.New(encoded.Rows, inner), kernel.New(encoded.Rows, inner)
		b.EncDecAttention.K.Forward(p, k, encoded)
		b.EncDecAttention.V.Forward(p, v, encoded)
		s.keys, s.values = append(s.keys, k), append(s.values, v)
	}
	return s, nil
}

// Start returns the token that decoding starts with: decoder_start_token_id,
// without one pad_token_id, without that 0.
func (m *Model) Start() int {
	switch c := m.Config; {
	case c.DecoderStartTokenID != nil:
		return *c.DecoderStartTokenID
	case c.PadTokenID != nil:
		return *c.PadTokenID
	}
	return 0
}

// Context returns 0: relative positions know no limit.
func (s *Session) Context() int { return 0 }

// Len returns the number of the decoder's tokens so far.
func (s *Session) Len() int { return s.cache.Len() }

// Truncate forgets all but the first n of the decoder's tokens.
func (s *Session) Truncate(n int) { s.cache.Truncate(n) }

// Reserve makes room for n tokens in all.
func (s *Session) Reserve(n int) error {
	if err := s.cache.Reserve(n); err != nil {
		return err
	}
	if n > s.bias.Cols {
		s.bias = s.model.Config.bias(s.model.Decoder.RelativeAttentionBias, max(n, 2*s.bias.Cols)-1, 0, false)
	}
	return nil
}

// Step adds tokens and returns the logits [V] after the last one, which are
// valid until the next step.
func (s *Session) Step(ids []int) ([]float32, error) {
	mark := s.pass.Mark()
	defer s.pass.Release(mark)
	h, err := s.model.decode(s.pass, &s.own, ids)
	if err != nil {
		return nil, err
	}
	s.model.head(s.pass, s.logits, h.Slice(h.Rows-1, h.Rows, 0, h.Cols))
	return s.logits.Data, nil
}

// Logits adds tokens and returns the logits [T, V] after each of them.
func (s *Session) Logits(ids []int) (kernel.Matrix, error) {
	mark := s.pass.Mark()
	defer s.pass.Release(mark)
	h, err := s.model.decode(s.pass, &s.own, ids)
	if err != nil {
		return kernel.Matrix{}, err
	}
	y := kernel.New(h.Rows, s.model.Config.VocabSize)
	s.model.head(s.pass, y, h)
	return y, nil
}

// StepAll adds one token to each of several sessions of the model, ids[i] to
// sessions[i], in one pass that reads the weights once. It returns their logits
// [V], each valid until its session's next step: what Step would return, but
// for the rounding of float32. On an error the sessions are as before.
func (m *Model) StepAll(p *nn.Pass, sessions []*Session, ids []int) ([][]float32, error) {
	mark := p.Mark()
	defer p.Release(mark)
	b := m.newBatch(sessions...)
	h, err := m.decode(p, &b, ids)
	if err != nil {
		return nil, err
	}
	y := p.Matrix(h.Rows, m.VocabSize())
	m.head(p, y, h)
	logits := make([][]float32, len(sessions))
	for i, s := range sessions {
		copy(s.logits.Data, y.Row(i))
		logits[i] = s.logits.Data
	}
	return logits, nil
}

// decode adds ids, equally many to each session of b, and returns the decoder's
// hidden states [N, D] in scratch memory.
func (m *Model) decode(p *nn.Pass, b *batch, ids []int) (kernel.Matrix, error) {
	each := len(ids) / len(b.sessions)
	if each == 0 {
		return kernel.Matrix{}, fmt.Errorf("t5: a decoding step without tokens")
	}
	for i, s := range b.sessions {
		if err := s.Reserve(s.cache.Len() + each); err != nil {
			return kernel.Matrix{}, err
		}
		b.segments[i] = nn.Segment{Lo: i * each, Hi: (i + 1) * each}
		if s.bias.Cols > b.self.Bias.Cols { // one table, of the longest, serves all
			b.self.Bias, b.self.Zero = s.bias, s.bias.Cols-1
		}
	}
	x := p.Matrix(len(ids), m.Config.DModel)
	if err := m.Shared.Forward(x, ids); err != nil {
		return kernel.Matrix{}, fmt.Errorf("t5: decoder: %w", err)
	}
	p.Stage("decoder", ".embed_tokens", x)
	for _, k := range m.Decoder.Blocks {
		k.decode(p, x, b)
	}
	for _, s := range b.sessions {
		s.cache.Advance(each)
	}
	m.Decoder.FinalLayerNorm.Forward(p, x, x)
	p.Stage("decoder", ".final_layer_norm", x)
	return x, nil
}

// head writes logits [N, V] for hidden states x [N, D], which it scales.
func (m *Model) head(p *nn.Pass, y, x kernel.Matrix) {
	if m.scale != 1 {
		for i := range x.Rows {
			kernel.Scale(m.scale, x.Row(i))
		}
	}
	m.LMHead.Forward(p, y, x)
}
