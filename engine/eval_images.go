package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"smelt/eval"
	"smelt/internal/kernel"
	"smelt/internal/vfs"
	"smelt/model/clip"
	"smelt/nn"
	"smelt/processor"
	"smelt/safetensors"
	"smelt/tokenizer"
)

// answererOf returns what answers a task with a model.
func (e *evaluation) answererOf(s *subject, t *evalTask) (answerer, error) {
	if t.images != nil {
		return e.newClassifier(s, t)
	}
	return e.newReader(s, t)
}

// head is a classifier's head [classes, width], each row of length 1.
type head struct {
	rows kernel.Matrix
	key  string // of a head file
}

// classifier answers image classification tasks by cosine.
type classifier struct {
	e     *evaluation
	s     *subject
	t     *evalTask
	proc  *processor.Image
	how   string // identifies the processor
	width int    // values of a prepared image
	head  head
}

// imageBatch is how many images go through a model together.
const imageBatch = 64

func (e *evaluation) newClassifier(s *subject, t *evalTask) (*classifier, error) {
	if s.CLIP == nil || s.CLIP.Vision == nil {
		return nil, fmt.Errorf("a %s model does not classify images: that takes a CLIP model", s.Type)
	}
	if s.Type == "clip_vision_model" {
		return nil, fmt.Errorf("%s is a vision tower alone, which lacks the projection and the text tower: name the model that it is a part of with --base, or as base in the task file", s.Dir())
	}
	proc, err := processor.Load(s.Dir())
	if err != nil {
		return nil, err
	}
	c := &classifier{e: e, s: s, t: t, proc: proc}
	h := sha256.New()
	if err := hashFile(e.fs, h, filepath.Join(s.Dir(), "preprocessor_config.json")); err != nil {
		return nil, err
	}
	c.how = hex.EncodeToString(h.Sum(nil))
	size := s.CLIP.Vision.Config
	c.width = size.NumChannels * int(size.ImageSize) * int(size.ImageSize)
	if t.Head != "" {
		c.head, err = e.headFile(s, t)
	} else {
		c.head, err = e.zeroShot(s, t)
	}
	return c, err
}

// headFile reads a head.
func (e *evaluation) headFile(s *subject, t *evalTask) (h head, err error) {
	path := e.file.Resolve(t.Head)
	if h, ok := e.heads[path+"\n"+t.HeadTensor]; ok {
		return h, nil
	}
	f, err := safetensors.Open(e.fs, path)
	if err != nil {
		return h, fmt.Errorf("head: %w", err)
	}
	defer f.Close()
	if _, ok := f.Lookup(t.HeadTensor); !ok {
		var have []string
		for _, info := range f.Tensors() {
			have = append(have, info.Name)
		}
		return h, fmt.Errorf("head %s: has no tensor %q: it has %s", path, t.HeadTensor, strings.Join(have[:min(len(have), 20)], ", "))
	}
	x, err := f.Tensor(t.HeadTensor)
	if err != nil {
		return h, err
	}
	want := []int{len(t.images.Classes), s.CLIP.Vision.Width()}
	if !slices.Equal(x.Shape, want) {
		return h, fmt.Errorf("head %s: tensor %q has shape %v, want %v (classes, width)", path, t.HeadTensor, x.Shape, want)
	}
	err = vfs.Guard(func() error {
		v, err := x.Float32()
		if err != nil {
			return err
		}
		sum := sha256.Sum256(x.Data)
		h = head{kernel.Of(want[0], want[1], slices.Clone(v)), hex.EncodeToString(sum[:])}
		for _, x := range v {
			if x-x != 0 {
				return fmt.Errorf("head %s: tensor %q holds %v, want finite numbers", path, t.HeadTensor, x)
			}
		}
		clip.Normalize(h.rows)
		return nil
	})
	if err == nil {
		e.heads[path+"\n"+t.HeadTensor] = h
	}
	return h, err
}

// zeroShot makes a head of the text tower's embeddings; models with one text
// tower share it.
func (e *evaluation) zeroShot(s *subject, t *evalTask) (h head, err error) {
	if s.CLIP.Text == nil {
		return h, fmt.Errorf("%s has no text tower for zero-shot heads: give the task a head file", s.Dir())
	}
	key := s.head + "\n" + t.Name
	if h, ok := e.heads[key]; ok {
		return h, nil
	}
	tok, err := tokenizer.Open(s.Dir())
	if err != nil {
		return h, err
	}
	prompts := make([][][]int, len(t.images.Classes))
	for i, class := range t.images.Classes {
		for _, template := range t.Templates {
			ids, err := tok.Encode(strings.ReplaceAll(template, "{}", class), true)
			if err != nil {
				return h, err
			}
			prompts[i] = append(prompts[i], ids)
		}
	}
	err = vfs.Guard(func() (err error) {
		h.rows, err = s.CLIP.Classifier(&nn.Pass{Workers: e.opt.Workers, Exact: true}, prompts)
		return err
	})
	if err == nil {
		e.heads[key] = h
	}
	return h, err
}

func (c *classifier) key() string { return c.s.key + c.head.key }
func (c *classifier) batch() int  { return imageBatch }
func (c *classifier) close()      {}

// logits returns [images, classes]: cosines times the logit scale. routes may
// be nil.
func (c *classifier) logits(p *nn.Pass, lo, hi int, routes *watch) (kernel.Matrix, error) {
	name := fmt.Sprintf("%s\n%s\n%d %d", c.t.key, c.how, lo, hi)
	pixels, err := c.e.images.get(name, func() ([]float32, error) {
		x := make([]float32, (hi-lo)*c.width)
		for i := range hi - lo {
			if err := c.t.images.Prepare(c.proc, lo+i, x[i*c.width:(i+1)*c.width]); err != nil {
				return nil, fmt.Errorf("image %d: %w", lo+i, err)
			}
		}
		return x, nil
	})
	if err != nil {
		return kernel.Matrix{}, err
	}
	if routes != nil {
		p.OnRouting = routes.see
		defer func() { p.OnRouting = nil }()
	}
	x, err := c.s.CLIP.Vision.Forward(p, kernel.Of(hi-lo, c.width, pixels))
	if err != nil {
		return x, err
	}
	return c.s.CLIP.Logits(x, c.head.rows), nil
}

func (c *classifier) answer(p *nn.Pass, lo, hi int) ([]eval.Answer, *eval.Routing, error) {
	var routes *watch
	if c.s.Fused != nil {
		routes = newWatch(c.s.Fused.ExpertNames(), hi-lo)
	}
	logits, err := c.logits(p, lo, hi, routes)
	if err != nil {
		return nil, nil, err
	}
	answers := make([]eval.Answer, hi-lo)
	for i := range answers {
		answers[i].Class = argmax(logits.Row(i))
	}
	return answers, routes.finish(answers), nil
}

// argmax returns the index of the first largest element.
func argmax(x []float32) int {
	best := 0
	for i, v := range x {
		if v > x[best] {
			best = i
		}
	}
	return best
}

// watch counts the routing of examples, whose tokens go through the model in
// passes of several examples with equally many rows.
type watch struct {
	eval.Routing
	at   map[string]int
	rows []int     // the examples of the present pass
	took [][]int64 // [example][expert]
}

// newWatch returns a watch over a pass of all examples.
func newWatch(experts []string, examples int) *watch {
	w := &watch{Routing: eval.Routing{Experts: experts}, at: map[string]int{}, took: make([][]int64, examples)}
	for i := range w.took {
		w.rows = append(w.rows, i)
		w.took[i] = make([]int64, len(experts))
	}
	return w
}

// pass says which examples the next pass is of; nothing without a watch.
func (w *watch) pass(examples []int) {
	if w != nil {
		w.rows = examples
	}
}

func (w *watch) see(r nn.Routing) {
	i, ok := w.at[r.Module]
	if !ok {
		i = len(w.Modules)
		w.at[r.Module] = i
		w.Modules = append(w.Modules, r.Module)
		w.Counts = append(w.Counts, make([]int64, r.Experts))
	}
	each := len(r.Selected) / len(w.rows)
	for n, x := range r.Selected {
		w.Counts[i][x]++
		if each > 0 {
			w.took[w.rows[min(n/each, len(w.rows)-1)]][x]++
		}
	}
}

// finish notes in each answer which expert its tokens took most.
func (w *watch) finish(answers []eval.Answer) *eval.Routing {
	if w == nil {
		return nil
	}
	for i, took := range w.took {
		best := 0
		for x, n := range took {
			if n > took[best] {
				best = x
			}
		}
		answers[i].Expert = 1 + best
	}
	return &w.Routing
}
