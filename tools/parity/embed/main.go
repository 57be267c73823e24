// Command embed writes a CLIP model's embeddings of ready pixels or token ids:
// models.py compares them with those of transformers.
//
//	embed -dir DIR -pixels FILE -out FILE    raw float32 images, channel by channel
//	embed -dir DIR -ids FILE -out FILE       a JSON list of lists of token ids
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"

	"smelt/dtype"
	"smelt/engine"
	"smelt/internal/kernel"
	"smelt/internal/vfs"
	"smelt/nn"
)

func main() {
	dir := flag.String("dir", "", "the model's directory")
	pixels := flag.String("pixels", "", "a file of raw float32 images")
	ids := flag.String("ids", "", "a JSON file of token ids")
	out := flag.String("out", "", "the file for raw float32 embeddings")
	batch := flag.Int("batch", 64, "images in a pass")
	exact := flag.Bool("exact", false, "do not round the inputs of products with bf16 weights")
	flag.Parse()
	if err := run(&nn.Pass{Exact: *exact}, *dir, *pixels, *ids, *out, *batch); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(p *nn.Pass, dir, pixels, ids, out string, batch int) error {
	m, err := engine.OpenModel(vfs.OS, dir)
	if err != nil {
		return err
	}
	defer m.Close()
	if m.CLIP == nil {
		return fmt.Errorf("embed: %s is a %s model, want CLIP", dir, m.Type)
	}
	var embedded []float32
	err = vfs.Guard(func() (err error) {
		if ids != "" {
			embedded, err = texts(m, p, ids)
		} else {
			embedded, err = images(m, p, pixels, batch)
		}
		return err
	})
	if err != nil {
		return err
	}
	return os.WriteFile(out, kernel.BytesOf(embedded), 0o666)
}

func texts(m *engine.Model, p *nn.Pass, file string) ([]float32, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var ids [][]int
	if err := json.Unmarshal(text, &ids); err != nil {
		return nil, err
	}
	y, err := m.CLIP.Text.Forward(p, ids)
	return y.Data, err
}

func images(m *engine.Model, p *nn.Pass, file string, batch int) ([]float32, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	v := make([]float32, len(data)/4)
	dtype.ToFloat32(v, data[:4*len(v)], dtype.F32)
	c := m.CLIP.Vision.Config
	width := c.NumChannels * int(c.ImageSize) * int(c.ImageSize)
	if width == 0 || len(v)%width != 0 {
		return nil, fmt.Errorf("embed: %s holds %d values, want a multiple of %d", file, len(v), width)
	}
	x := kernel.Of(len(v)/width, width, v)
	var out []float32
	for lo := 0; lo < x.Rows; lo += batch {
		y, err := m.CLIP.Vision.Forward(p, x.Slice(lo, min(lo+batch, x.Rows), 0, width))
		if err != nil {
			return nil, err
		}
		out = append(out, y.Data...)
	}
	return out, nil
}
