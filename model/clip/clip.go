// Package clip runs CLIP (arXiv:2103.00020): the vision tower, the text tower,
// their projections and the logit scale, of CLIPModel, CLIPVisionModel,
// CLIPTextModel and the two with a projection.
package clip

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"

	"smelt/internal/kernel"
	"smelt/model"
	"smelt/nn"
)

// Attention is a layer's self-attention.
type Attention struct {
	QProj, KProj, VProj, OutProj nn.Linear // [D, D]
	attention                    nn.Attention
}

func newAttention(l model.Loader, c Config, causal bool) *Attention {
	d := c.HiddenSize
	return &Attention{
		QProj:   l.Linear("q_proj", d, d, true),
		KProj:   l.Linear("k_proj", d, d, true),
		VProj:   l.Linear("v_proj", d, d, true),
		OutProj: l.Linear("out_proj", d, d, true),
		attention: nn.Attention{
			Heads: c.NumAttentionHeads, KVHeads: c.NumAttentionHeads, HeadDim: d / c.NumAttentionHeads,
			Scale: float32(1 / math.Sqrt(float64(d/c.NumAttentionHeads))), Causal: causal,
		},
	}
}

// forward writes y [N, D] for x [N, D]; segments are the sequences' rows.
func (a *Attention) forward(p *nn.Pass, y, x kernel.Matrix, segments []nn.Segment) {
	m := p.Mark()
	q, k, v := p.Matrix(x.Rows, x.Cols), p.Matrix(x.Rows, x.Cols), p.Matrix(x.Rows, x.Cols)
	a.QProj.Forward(p, q, x)
	a.KProj.Forward(p, k, x)
	a.VProj.Forward(p, v, x)
	for i := range segments {
		s := &segments[i]
		s.K, s.V = k.Slice(s.Lo, s.Hi, 0, k.Cols), v.Slice(s.Lo, s.Hi, 0, v.Cols)
	}
	heads := p.Matrix(x.Rows, x.Cols)
	a.attention.Forward(p, heads, q, segments)
	a.OutProj.Forward(p, y, heads)
	p.Release(m)
}

// MLP is fc2(act(fc1(x))).
type MLP struct {
	FC1, FC2 nn.Linear // [F, D], [D, F]
	act      nn.Activation
}

func newMLP(l model.Loader, c Config) *MLP {
	act, _ := nn.ActivationByName(c.HiddenAct) // validated
	return &MLP{
		FC1: l.Linear("fc1", c.IntermediateSize, c.HiddenSize, true),
		FC2: l.Linear("fc2", c.HiddenSize, c.IntermediateSize, true),
		act: act,
	}
}

func (f *MLP) forward(p *nn.Pass, y, x kernel.Matrix) {
	m := p.Mark()
	h := p.Matrix(x.Rows, f.FC1.Out()) // [N, F]
	f.FC1.Forward(p, h, x)
	f.act.Forward(p, h)
	f.FC2.Forward(p, y, h)
	p.Release(m)
}

// Layer is one block of a tower.
type Layer struct {
	name       string
	LayerNorm1 *nn.LayerNorm
	SelfAttn   *Attention
	LayerNorm2 *nn.LayerNorm
	MLP        *MLP
}

func newLayer(l model.Loader, c Config, causal bool, name string) *Layer {
	return &Layer{
		name:       name,
		LayerNorm1: l.LayerNorm("layer_norm1", c.HiddenSize, c.LayerNormEps),
		SelfAttn:   newAttention(l.In("self_attn."), c, causal),
		LayerNorm2: l.LayerNorm("layer_norm2", c.HiddenSize, c.LayerNormEps),
		MLP:        newMLP(l.In("mlp."), c),
	}
}

// forward updates x [N, D] in place.
func (b *Layer) forward(p *nn.Pass, x kernel.Matrix, segments []nn.Segment) {
	m := p.Mark()
	h, y := p.Matrix(x.Rows, x.Cols), p.Matrix(x.Rows, x.Cols)
	b.LayerNorm1.Forward(p, h, x)
	b.SelfAttn.forward(p, y, h, segments)
	p.Stage(b.name, ".self_attn", y)
	nn.Add(p, x, y)
	b.LayerNorm2.Forward(p, h, x)
	b.MLP.forward(p, y, h)
	p.Stage(b.name, ".mlp", y)
	nn.Add(p, x, y)
	p.Stage(b.name, "", x)
	p.Release(m)
}

func newLayers(l model.Loader, c Config, causal bool, tower string) []*Layer {
	layers := make([]*Layer, c.NumHiddenLayers)
	for i := range layers {
		n := strconv.Itoa(i)
		layers[i] = newLayer(l.In("encoder.layers."+n+"."), c, causal, tower+".layers."+n)
		if l.Err() != nil {
			return nil
		}
	}
	return layers
}

// VisionModel is the vision tower.
type VisionModel struct {
	Config            Config
	ClassEmbedding    []float32     // [D]
	PatchEmbedding    nn.Linear     // [D, C·P·P]
	PositionEmbedding kernel.Matrix // [1+patches, D]
	PreLayrnorm       *nn.LayerNorm // the checkpoint's spelling
	Layers            []*Layer
	PostLayernorm     *nn.LayerNorm
	VisualProjection  nn.Linear // [projection, D], or nil
}

func newVisionModel(l, projection model.Loader, c Config) *VisionModel {
	d, patch, grid := c.HiddenSize, int(c.PatchSize), int(c.ImageSize/c.PatchSize)
	t := 1 + grid*grid
	e := l.In("embeddings.")
	v := &VisionModel{
		Config:         c,
		ClassEmbedding: e.Vector("class_embedding", d),
		PatchEmbedding: e.Convolution("patch_embedding", d, c.NumChannels, patch, patch),
		PreLayrnorm:    l.LayerNorm("pre_layrnorm", d, c.LayerNormEps),
		PostLayernorm:  l.LayerNorm("post_layernorm", d, c.LayerNormEps),
	}
	if pos := e.Values("position_embedding.weight", t, d); pos != nil {
		v.PositionEmbedding = kernel.Of(t, d, pos)
	}
	if projection.Has("visual_projection.weight") {
		v.VisualProjection = projection.Linear("visual_projection", c.ProjectionDim, d, false)
	}
	v.Layers = newLayers(l, c, false, "vision")
	return v
}

// Width is the size of an embedding that Forward returns.
func (v *VisionModel) Width() int { return width(v.VisualProjection, v.Config) }

func width(projection nn.Linear, c Config) int {
	if projection != nil {
		return projection.Out()
	}
	return c.HiddenSize
}

// Forward returns the images' embeddings [B, Width]: projected where the model
// has a projection, else the pooled hidden states. pixels is [B, C·H·W], one
// normalised image a row, channel by channel.
func (v *VisionModel) Forward(p *nn.Pass, pixels kernel.Matrix) (kernel.Matrix, error) {
	c := v.Config
	if want := c.NumChannels * int(c.ImageSize) * int(c.ImageSize); pixels.Cols != want {
		return kernel.Matrix{}, fmt.Errorf("clip: images of %d values, want %d (%d × %d × %d)", pixels.Cols, want, c.NumChannels, c.ImageSize, c.ImageSize)
	}
	m := p.Mark()
	defer p.Release(m)
	t := v.PositionEmbedding.Rows
	x := p.Matrix(pixels.Rows*t, c.HiddenSize) // [B·T, D]
	v.embed(p, x, pixels)
	p.Stage("vision", ".embeddings", x)
	v.PreLayrnorm.Forward(p, x, x)
	p.Stage("vision", ".pre_layrnorm", x)
	segments := make([]nn.Segment, pixels.Rows)
	for i := range segments {
		segments[i] = nn.Segment{Lo: i * t, Hi: (i + 1) * t}
	}
	for _, b := range v.Layers {
		b.forward(p, x, segments)
	}
	pooled := p.Matrix(pixels.Rows, c.HiddenSize)
	for i := range pixels.Rows {
		copy(pooled.Row(i), x.Row(i*t))
	}
	v.PostLayernorm.Forward(p, pooled, pooled)
	p.Stage("vision", ".pooled", pooled)
	return project(p, v.VisualProjection, pooled, "vision"), nil
}

// embed writes the class token and the patches, positions added.
func (v *VisionModel) embed(p *nn.Pass, x, pixels kernel.Matrix) {
	m := p.Mark()
	size, side := int(v.Config.PatchSize), int(v.Config.ImageSize)
	grid := side / size
	patches := p.Matrix(pixels.Rows*grid*grid, v.PatchEmbedding.In())
	p.ForRows(patches.Rows, patches.Cols, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			image, at := pixels.Row(i/(grid*grid)), i%(grid*grid)
			row := patches.Row(i)
			for ch := range v.Config.NumChannels {
				for y := range size {
					from := (ch*side+at/grid*size+y)*side + at%grid*size
					row = row[copy(row[:size], image[from:]):]
				}
			}
		}
	})
	embedded := p.Matrix(patches.Rows, x.Cols)
	v.PatchEmbedding.Forward(p, embedded, patches)
	t := v.PositionEmbedding.Rows
	for i := range x.Rows {
		token := v.ClassEmbedding
		if i%t > 0 {
			token = embedded.Row(i/t*(t-1) + i%t - 1)
		}
		kernel.Add(x.Row(i), token, v.PositionEmbedding.Row(i%t))
	}
	p.Release(m)
}

// project returns a fresh matrix: x through the projection, if there is one.
func project(p *nn.Pass, projection nn.Linear, x kernel.Matrix, tower string) kernel.Matrix {
	if projection == nil {
		y := kernel.New(x.Rows, x.Cols)
		copy(y.Data, x.Data)
		return y
	}
	y := kernel.New(x.Rows, projection.Out())
	projection.Forward(p, y, x)
	p.Stage(tower, ".projected", y)
	return y
}

// TextModel is the text tower.
type TextModel struct {
	Config            Config
	TokenEmbedding    *nn.Embedding // [V, D]
	PositionEmbedding *nn.Embedding // [positions, D]
	Layers            []*Layer
	FinalLayerNorm    *nn.LayerNorm
	TextProjection    nn.Linear // [projection, D], or nil
}

func newTextModel(l, projection model.Loader, c Config) *TextModel {
	e := l.In("embeddings.")
	t := &TextModel{
		Config:            c,
		TokenEmbedding:    e.Embedding("token_embedding", c.VocabSize, c.HiddenSize),
		PositionEmbedding: e.Embedding("position_embedding", c.MaxPositionEmbeddings, c.HiddenSize),
		FinalLayerNorm:    l.LayerNorm("final_layer_norm", c.HiddenSize, c.LayerNormEps),
	}
	if projection.Has("text_projection.weight") {
		t.TextProjection = projection.Linear("text_projection", c.ProjectionDim, c.HiddenSize, false)
	}
	t.Layers = newLayers(l, c, true, "text")
	return t
}

// Width is the size of an embedding that Forward returns.
func (t *TextModel) Width() int { return width(t.TextProjection, t.Config) }

// Forward returns the texts' embeddings [B, Width]: the hidden state at the end
// token, projected where the model has a projection. Sequences need no padding;
// what stands after the end token changes nothing.
func (t *TextModel) Forward(p *nn.Pass, ids [][]int) (kernel.Matrix, error) {
	n := 0
	for i, s := range ids {
		if len(s) == 0 {
			return kernel.Matrix{}, fmt.Errorf("clip: text %d has no tokens", i)
		}
		if most := t.Config.MaxPositionEmbeddings; len(s) > most {
			return kernel.Matrix{}, fmt.Errorf("clip: text %d has %d tokens, the model's context is %d: shorten or truncate it", i, len(s), most)
		}
		n += len(s)
	}
	m := p.Mark()
	defer p.Release(m)
	x := p.Matrix(n, t.Config.HiddenSize) // [N, D]
	segments := make([]nn.Segment, len(ids))
	at := 0
	for i, s := range ids {
		rows := x.Slice(at, at+len(s), 0, x.Cols)
		if err := t.TokenEmbedding.Forward(rows, s); err != nil {
			return kernel.Matrix{}, fmt.Errorf("clip: text %d: %w", i, err)
		}
		for j := range s {
			t.PositionEmbedding.Add(p, rows.Row(j), j)
		}
		segments[i] = nn.Segment{Lo: at, Hi: at + len(s)}
		at += len(s)
	}
	p.Stage("text", ".embeddings", x)
	for _, b := range t.Layers {
		b.forward(p, x, segments)
	}
	pooled := p.Matrix(len(ids), x.Cols)
	for i, s := range ids {
		copy(pooled.Row(i), x.Row(segments[i].Lo+t.end(s)))
	}
	t.FinalLayerNorm.Forward(p, pooled, pooled)
	p.Stage("text", ".pooled", pooled)
	return project(p, t.TextProjection, pooled, "text"), nil
}

// end returns the position whose state stands for the text: the first end
// token, or position 0 without one; where the config says that the end token
// is 2, as files before transformers 4.31 do wrongly, the highest id's.
func (t *TextModel) end(ids []int) int {
	eos := t.Config.EOSTokenID
	if len(eos) == 1 && eos[0] == 2 {
		return slices.Index(ids, slices.Max(ids))
	}
	return max(0, slices.IndexFunc(ids, func(id int) bool { return slices.Contains(eos, id) }))
}

// Model is a CLIP checkpoint: one tower or both.
type Model struct {
	Vision     *VisionModel // nil in a text model
	Text       *TextModel   // nil in a vision model
	LogitScale float32      // the factor itself, e to the stored parameter; 1 without one
}

// Load builds the model that the source's config describes.
func Load(s model.Source) (*Model, error) {
	kind, err := model.Type(s.Config())
	if err != nil {
		return nil, err
	}
	text, vision, err := readConfigs(kind, s.Config())
	if err != nil {
		return nil, err
	}
	m, l := &Model{LogitScale: 1}, model.NewLoader(s)
	if vision != nil {
		m.Vision = newVisionModel(tower(l, "vision_model.", "embeddings.class_embedding"), l, *vision)
	}
	if text != nil && l.Err() == nil {
		m.Text = newTextModel(tower(l, "text_model.", "embeddings.token_embedding.weight"), l, *text)
	}
	if kind == "clip" {
		if v := l.Values("logit_scale"); v != nil {
			m.LogitScale = float32(math.Exp(float64(v[0])))
		}
	}
	if err := l.Err(); err != nil {
		return nil, fmt.Errorf("clip: %w", err)
	}
	if m.Text != nil && m.Vision != nil && m.Text.Width() != m.Vision.Width() {
		return nil, fmt.Errorf("clip: images become %d values and texts %d, want equal sizes", m.Vision.Width(), m.Text.Width())
	}
	return m, nil
}

// tower enters prefix unless the checkpoint's names lack it, as those of a
// single tower may.
func tower(l model.Loader, prefix, probe string) model.Loader {
	if l.Has(probe) {
		return l
	}
	return l.In(prefix)
}

// readConfigs returns the configs of the towers that the model has.
func readConfigs(kind string, config []byte) (text, vision *Config, err error) {
	parts := map[string]json.RawMessage{}
	if err := json.Unmarshal(config, &parts); err != nil {
		return nil, nil, fmt.Errorf("config.json: %w", err)
	}
	own := func(key string) []byte { // of a composite config
		if d := parts[key+"_dict"]; len(d) > 0 && string(d) != "null" {
			return d // what old files hold besides, and mean
		}
		return parts[key]
	}
	var texts, visions []byte
	switch kind {
	case "clip":
		texts, visions = own("text_config"), own("vision_config")
	case "clip_text_model":
		texts = config
	case "clip_vision_model":
		visions = config
	default:
		return nil, nil, fmt.Errorf("config.json: model_type %q is no CLIP model", kind)
	}
	if kind != "clip_vision_model" {
		c, err := textDefaults.parse(texts)
		if err == nil {
			c.ProjectionDim = projection(kind, parts, c.ProjectionDim)
			err = c.validateText()
		}
		if err != nil {
			return nil, nil, err
		}
		text = &c
	}
	if kind != "clip_text_model" {
		c, err := visionDefaults.parse(visions)
		if err == nil {
			c.ProjectionDim = projection(kind, parts, c.ProjectionDim)
			err = c.validateVision()
		}
		if err != nil {
			return nil, nil, err
		}
		vision = &c
	}
	return text, vision, nil
}

// projection returns the projection_dim of the whole config: in one with two
// towers their own do not count.
func projection(kind string, parts map[string]json.RawMessage, own int) int {
	if kind != "clip" {
		return own
	}
	n := textDefaults.ProjectionDim
	_ = json.Unmarshal(parts["projection_dim"], &n) // a wrong type leaves a size that no tensor has
	return n
}

// Classifier returns the zero-shot head of classes given by several prompts
// each: [classes, Width], the mean of the prompts' normalised embeddings,
// normalised again.
func (m *Model) Classifier(p *nn.Pass, prompts [][][]int) (kernel.Matrix, error) {
	if m.Text == nil {
		return kernel.Matrix{}, fmt.Errorf("clip: the model has no text tower: it embeds images and cannot read labels")
	}
	head := kernel.New(len(prompts), m.Text.Width())
	for i, ids := range prompts {
		if len(ids) == 0 {
			return kernel.Matrix{}, fmt.Errorf("clip: class %d has no prompt", i)
		}
		x, err := m.Text.Forward(p, ids)
		if err != nil {
			return kernel.Matrix{}, fmt.Errorf("class %d: %w", i, err)
		}
		Normalize(x)
		for j := range x.Rows {
			kernel.Axpy(1/float32(x.Rows), x.Row(j), head.Row(i))
		}
	}
	Normalize(head)
	return head, nil
}

// Normalize divides every row by its Euclidean norm, in place.
func Normalize(x kernel.Matrix) {
	for i := range x.Rows {
		kernel.Scale(float32(1/kernel.Nrm2(x.Row(i))), x.Row(i))
	}
}

// Logits returns logits per image [images, texts]: the cosines of embeddings,
// times the logit scale. Both are normalised copies; the inputs stay.
func (m *Model) Logits(images, texts kernel.Matrix) kernel.Matrix {
	a, b := clone(images), clone(texts)
	Normalize(a)
	Normalize(b)
	y := kernel.New(a.Rows, b.Rows)
	kernel.Gemm(0, false, true, m.LogitScale, a, b, 0, y)
	return y
}

func clone(x kernel.Matrix) kernel.Matrix {
	y := kernel.New(x.Rows, x.Cols)
	for i := range x.Rows {
		copy(y.Row(i), x.Row(i))
	}
	return y
}
