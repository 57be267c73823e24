// Command models times forward passes, one a line of its input: run.py drives it
// beside transformers, turn by turn, so that both see the same machine.
//
//	models -dir DIR -task images|encode|prompt|decode [-batch 32] [-tokens 512]
//
// For every line on stdin it prints one number. The line "run" runs the task once:
// the seconds that it took. "read" reads instead as many bytes from memory as the
// task's model and cache have, the floor of a decoding step. "fma" is the rate of
// float32 operations in fused multiply-adds, the floor of a pass. The first line
// of its output describes the model.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"runtime"
	"time"

	"smelt/engine"
	"smelt/internal/kernel"
	"smelt/internal/kernel/floor"
	"smelt/internal/vfs"
	"smelt/model/llama"
	"smelt/nn"
)

func main() {
	dir := flag.String("dir", "", "the model's directory")
	task := flag.String("task", "images", "images, encode, prompt or decode")
	batch := flag.Int("batch", 32, "images or texts in a pass, or sequences to decode side by side")
	tokens := flag.Int("tokens", 512, "tokens of a text or prompt")
	steps := flag.Int("steps", 16, "tokens to decode")
	workers := flag.Int("workers", runtime.GOMAXPROCS(0), "goroutines")
	exact := flag.Bool("exact", false, "do not round the inputs of products with bf16 weights")
	flag.Parse()
	m, err := engine.OpenModel(vfs.OS, *dir)
	if err != nil {
		fail(err)
	}
	defer m.Close()
	run, err := prepare(m, &nn.Pass{Workers: *workers, Exact: *exact}, *task, *batch, *tokens, *steps)
	if err != nil {
		fail(err)
	}
	size := m.Bytes()
	if *task == "decode" { // which reads the keys and values of the prompt, too
		c := m.Llama.Config
		size += int64(*batch * *tokens * c.NumHiddenLayers * c.NumKeyValueHeads * c.HeadDim * 2 * 4)
	}
	about, err := json.Marshal(map[string]any{"type": m.Type, "bytes": size, "fused": m.Fused != nil})
	if err != nil {
		fail(err)
	}
	fmt.Println(string(about))
	var memory []byte
	read := func() error {
		floor.Read(*workers, memory)
		return nil
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		work := run
		switch lines.Text() {
		case "fma":
			fmt.Println(peak(*workers))
			continue
		case "read":
			if memory == nil {
				memory = make([]byte, size&^4095)
				for i := 0; i < len(memory); i += 1024 {
					memory[i] = 1
				}
			}
			work = read
		}
		start := time.Now()
		if err := vfs.Guard(work); err != nil {
			fail(err)
		}
		fmt.Println(time.Since(start).Seconds())
	}
}

// peak returns the float32 operations a second of the best of some moments.
func peak(workers int) (best float64) {
	for range 16 {
		start := time.Now()
		flop := floor.FMA(workers)
		best = max(best, flop/time.Since(start).Seconds())
	}
	return best
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// prepare returns a function that runs the task once.
func prepare(m *engine.Model, p *nn.Pass, task string, batch, tokens, steps int) (func() error, error) {
	ids := make([]int, tokens)
	for i := range ids {
		ids[i] = (i*7919 + 13) % 30000
	}
	switch {
	case task == "images" && m.CLIP != nil && m.CLIP.Vision != nil:
		c := m.CLIP.Vision.Config
		x := kernel.New(batch, c.NumChannels*int(c.ImageSize)*int(c.ImageSize))
		for i := range x.Data {
			x.Data[i] = float32(math.Sin(float64(i)))
		}
		return func() error {
			_, err := m.CLIP.Vision.Forward(p, x)
			return err
		}, nil
	case task == "encode" && m.T5 != nil:
		texts := make([][]int, batch)
		for i := range texts {
			texts[i] = ids
		}
		return func() error {
			_, err := m.T5.Encode(p, texts)
			return err
		}, nil
	case task == "prompt" && m.Llama != nil:
		return func() error {
			_, err := m.Llama.NewSession(p).Step(ids)
			return err
		}, nil
	case task == "decode" && m.Llama != nil:
		return decode(m.Llama, p, ids, steps, batch)
	}
	return nil, fmt.Errorf("models: a %s model has no task %q", m.Type, task)
}

// decode returns a function that generates steps tokens after the same prompt
// in each of several sequences.
func decode(m *llama.Model, p *nn.Pass, ids []int, steps, sequences int) (func() error, error) {
	in := make([]llama.Input, sequences)
	for i := range in {
		in[i] = llama.Input{Cache: m.NewCache(), IDs: ids}
		if err := in[i].Cache.Reserve(len(ids) + steps); err != nil {
			return nil, err
		}
		if _, err := m.Forward(p, in[i:i+1]); err != nil {
			return nil, err
		}
		p.Release(nn.Mark{})
		in[i].IDs = []int{i}
	}
	logits := kernel.New(sequences, m.VocabSize())
	step := func() error {
		mark := p.Mark()
		defer p.Release(mark)
		h, err := m.Forward(p, in)
		if err != nil {
			return err
		}
		return m.Logits(p, logits, h)
	}
	return func() error {
		for i := range in {
			in[i].Cache.Truncate(len(ids))
		}
		for range steps {
			if err := step(); err != nil {
				return err
			}
			for i := range in {
				in[i].IDs[0] = int(math.Abs(float64(logits.At(i, 0)))*1e4) % 1000
			}
		}
		return nil
	}, nil
}
