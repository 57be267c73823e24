package engine

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"smelt/internal/kernel"
	"smelt/internal/vfs"
	"smelt/nn"
	"smelt/processor"
	"smelt/tokenizer"
)

// Routes counts which experts the tokens of a run took, module by module.
type Routes struct {
	Experts []string      `json:"experts"`
	Modules []ModuleRoute `json:"modules"`
}

// ModuleRoute is the routing of one module.
type ModuleRoute struct {
	Module string  `json:"module"`
	Counts []int   `json:"counts"` // tokens per expert
	Tokens [][]int `json:"tokens"` // the experts that each token took, best first
}

// Watch makes the passes of p report to the routes that it returns; nil for a
// dense model.
func (m *Model) Watch(p *nn.Pass) *Routes {
	if m.Fused == nil {
		return nil
	}
	r := &Routes{Experts: m.Fused.ExpertNames()}
	at := map[string]int{}
	p.OnRouting = func(x nn.Routing) {
		i, ok := at[x.Module]
		if !ok {
			i = len(r.Modules)
			at[x.Module] = i
			r.Modules = append(r.Modules, ModuleRoute{Module: x.Module, Counts: make([]int, x.Experts)})
		}
		route := &r.Modules[i]
		for n := 0; n < len(x.Selected); n += x.TopK {
			took := make([]int, x.TopK)
			for k, e := range x.Selected[n : n+x.TopK] {
				took[k] = int(e)
				route.Counts[e]++
			}
			route.Tokens = append(route.Tokens, took)
		}
	}
	return r
}

// Classified is what a zero-shot classifier says of one image.
type Classified struct {
	Image  string       `json:"image"`
	Labels []LabelScore `json:"labels"` // most likely first
}

// LabelScore is a label and its probability.
type LabelScore struct {
	Label       string  `json:"label"`
	Probability float64 `json:"probability"`
}

// Classify labels images by CLIP's text tower: each label is put into every
// template at {}, and the mean of the embeddings is the label's.
func (m *Model) Classify(p *nn.Pass, images, labels, templates []string, progress Progress) ([]Classified, error) {
	if m.CLIP == nil || m.CLIP.Vision == nil || m.CLIP.Text == nil {
		return nil, fmt.Errorf("checkpoint %s: a %s model does not classify images: that takes a CLIP model with both towers", m.Dir(), m.Type)
	}
	tok, err := tokenizer.Open(m.Dir())
	if err != nil {
		return nil, err
	}
	prompts := make([][][]int, len(labels))
	for i, label := range labels {
		for _, t := range templates {
			if !strings.Contains(t, "{}") {
				return nil, fmt.Errorf("template %q: has no {} for the label", t)
			}
			ids, err := tok.Encode(strings.ReplaceAll(t, "{}", label), true)
			if err != nil {
				return nil, err
			}
			prompts[i] = append(prompts[i], ids)
		}
	}
	var out []Classified
	err = vfs.Guard(func() error {
		watch := p.OnRouting
		p.OnRouting = nil // the labels' routing is not asked for
		head, err := m.CLIP.Classifier(p, prompts)
		p.OnRouting = watch
		if err != nil {
			return err
		}
		x, err := m.embedImages(p, images, progress)
		if err != nil {
			return err
		}
		logits := m.CLIP.Logits(x, head)
		kernel.SoftmaxRows(logits)
		for i, name := range images {
			c := Classified{Image: name}
			for j, label := range labels {
				c.Labels = append(c.Labels, LabelScore{label, float64(logits.At(i, j))})
			}
			slices.SortStableFunc(c.Labels, func(a, b LabelScore) int {
				switch {
				case a.Probability > b.Probability:
					return -1
				case a.Probability < b.Probability:
					return 1
				}
				return 0
			})
			out = append(out, c)
		}
		return nil
	})
	return out, err
}

// passImages is how many images a pass takes: enough to be bound by arithmetic.
const passImages = 32

// embedImages returns the embeddings of image files, prepared as the
// checkpoint's processor says, a batch at a time.
func (m *Model) embedImages(p *nn.Pass, images []string, progress Progress) (rows kernel.Matrix, err error) {
	if len(images) == 0 {
		return rows, errors.New("no images")
	}
	proc, err := processor.Load(m.Dir())
	if err != nil {
		return rows, err
	}
	progress.start("images", fileBytes(images))
	defer progress.done()
	for lo := 0; lo < len(images); lo += passImages {
		batch := images[lo:min(lo+passImages, len(images))]
		pixels, err := pixelsOf(proc, batch)
		if err != nil {
			return rows, err
		}
		x, err := m.EmbedImages(p, pixels)
		if err != nil {
			return rows, err
		}
		if lo == 0 {
			rows = kernel.New(len(images), x.Cols)
		}
		copy(rows.Data[lo*x.Cols:], x.Data)
		progress.add(fileBytes(batch))
	}
	return rows, nil
}

// fileBytes is the size of the files that there are.
func fileBytes(names []string) (total int64) {
	for _, name := range names {
		if info, err := os.Stat(name); err == nil {
			total += info.Size()
		}
	}
	return total
}

// pixelsOf reads and prepares images of one size.
func pixelsOf(proc *processor.Image, images []string) (pixels kernel.Matrix, err error) {
	for i, name := range images {
		x, err := proc.ProcessFile(name)
		if err != nil {
			return pixels, err
		}
		if i == 0 {
			pixels = kernel.New(len(images), len(x))
		}
		if len(x) != pixels.Cols {
			return pixels, fmt.Errorf("image %s: %d values after processing, the first image has %d: the processor does not bring images to one size", name, len(x), pixels.Cols)
		}
		copy(pixels.Row(i), x)
	}
	return pixels, nil
}

// Embed returns one row for each text, or for each image.
func (m *Model) Embed(p *nn.Pass, texts, images []string, progress Progress) (rows kernel.Matrix, err error) {
	err = vfs.Guard(func() (err error) {
		if len(images) > 0 {
			rows, err = m.embedImages(p, images, progress)
			return err
		}
		tok, err := tokenizer.Open(m.Dir())
		if err != nil {
			return err
		}
		ids := make([][]int, len(texts))
		for i, text := range texts {
			if ids[i], err = tok.Encode(text, true); err != nil {
				return err
			}
			if len(ids[i]) == 0 {
				return fmt.Errorf("text %d is empty", i+1)
			}
		}
		rows, err = m.EmbedTexts(p, ids)
		return err
	})
	return rows, err
}
