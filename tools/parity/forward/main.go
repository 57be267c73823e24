// Command forward writes what smelt's own model makes of ready inputs, as raw
// float32, so that it can be held against transformers:
//
//	forward DIR < INPUTS.json > LOGITS
//
// INPUTS.json has transformers' names: input_ids and decoder_input_ids, lists
// of token ids of one length, and pixel_values, one list of numbers an image.
// LOGITS is logits_per_image [images, texts] of a CLIP, [B·T, V] of the others.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"smelt/engine"
	"smelt/internal/kernel"
	"smelt/internal/vfs"
	"smelt/model/llama"
	"smelt/nn"
)

type inputs struct {
	InputIDs        [][]int     `json:"input_ids"`
	DecoderInputIDs [][]int     `json:"decoder_input_ids"`
	PixelValues     [][]float32 `json:"pixel_values"`
}

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(dir string) error {
	var in inputs
	if err := json.NewDecoder(os.Stdin).Decode(&in); err != nil {
		return err
	}
	m, err := engine.OpenModel(vfs.OS, dir)
	if err != nil {
		return err
	}
	defer m.Close()
	var logits []float32
	err = vfs.Guard(func() (err error) {
		logits, err = forward(m, &in)
		return err
	})
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(kernel.BytesOf(logits))
	return err
}

func forward(m *engine.Model, in *inputs) ([]float32, error) {
	p := &nn.Pass{Exact: true}
	switch {
	case m.CLIP != nil:
		pixels := kernel.New(len(in.PixelValues), len(in.PixelValues[0]))
		for i, image := range in.PixelValues {
			copy(pixels.Row(i), image)
		}
		images, err := m.EmbedImages(p, pixels)
		if err != nil {
			return nil, err
		}
		texts, err := m.EmbedTexts(p, in.InputIDs)
		if err != nil {
			return nil, err
		}
		clip := m.CLIP.Logits(images, texts)
		return clip.Data, nil
	case m.T5 != nil:
		var all []float32
		for i, ids := range in.InputIDs {
			s, err := m.T5.NewSession(p, ids)
			if err != nil {
				return nil, err
			}
			logits, err := s.Logits(in.DecoderInputIDs[i])
			if err != nil {
				return nil, err
			}
			all = append(all, logits.Data...)
		}
		return all, nil
	}
	batch := make([]llama.Input, len(in.InputIDs))
	for i, ids := range in.InputIDs {
		batch[i] = llama.Input{Cache: m.Llama.NewCache(), IDs: ids}
	}
	hidden, err := m.Llama.Forward(p, batch)
	if err != nil {
		return nil, err
	}
	logits := kernel.New(hidden.Rows, m.Llama.VocabSize())
	return logits.Data, m.Llama.Logits(p, logits, hidden)
}
