// Command synth writes checkpoints of a real architecture's shapes with random
// weights, and fine-tunes of them with decaying deltas, for benchmarks:
//
//	go run ./tools/synth -shape qwen2-1.5b -experts 2 -dtype BF16 -o DIR
//
// DIR/base and DIR/expert-1 … are made. A delta is Σ σᵢ·uᵢ·vᵢᵀ with σᵢ ∝ i^-1/2
// over its first directions, and a floor of noise, as the deltas of full
// fine-tunes look. The same arguments give the same bytes.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"

	"smelt/dtype"
	"smelt/internal/kernel"
	"smelt/internal/parallel"
	"smelt/internal/vfs"
	"smelt/safetensors"
	"smelt/tensor"
)

func main() {
	shape := flag.String("shape", "clip-vit-b32", "architecture: "+strings.Join(names(), ", "))
	experts := flag.Int("experts", 8, "number of fine-tunes")
	layers := flag.Int("layers", 0, "layers to keep (default all)")
	typ := flag.String("dtype", "F32", "F32, F16 or BF16")
	out := flag.String("o", "", "directory to make")
	flag.Parse()
	if err := run(*shape, *experts, *layers, *typ, *out); err != nil {
		fmt.Fprintln(os.Stderr, "synth:", err)
		os.Exit(1)
	}
}

func run(shape string, experts, layers int, typ, out string) error {
	a, ok := architectures[shape]
	if !ok {
		return fmt.Errorf("shape %q: want one of %s", shape, strings.Join(names(), ", "))
	}
	d, err := dtype.Parse(typ)
	if err != nil {
		return err
	}
	if out == "" {
		return fmt.Errorf("want a directory: -o DIR")
	}
	if layers > 0 {
		a.config[a.layersKey] = layers
	}
	specs := a.tensors(a.config)
	for e := range experts + 1 {
		name := "base"
		if e > 0 {
			name = fmt.Sprintf("expert-%d", e)
		}
		if err := write(filepath.Join(out, name), a, specs, d, e); err != nil {
			return err
		}
	}
	return nil
}

// spec is a tensor to be made.
type spec struct {
	name  string
	shape []int
}

const shardBytes = 2 << 30

// write makes the base (e = 0) or an expert, shard by shard.
func write(dir string, a architecture, specs []spec, d dtype.DType, e int) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	a.config["torch_dtype"] = strings.ReplaceAll(d.Torch(), "torch.", "")
	text, err := json.MarshalIndent(a.config, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), append(text, '\n'), 0o666); err != nil {
		return err
	}
	var shards [][]spec
	var size int64
	for _, s := range specs {
		n := int64(elements(s.shape)) * int64(d.Size())
		if len(shards) == 0 || size+n > shardBytes {
			shards, size = append(shards, nil), 0
		}
		shards[len(shards)-1] = append(shards[len(shards)-1], s)
		size += n
	}
	weights := map[string]string{}
	for i, shard := range shards {
		name := "model.safetensors"
		if len(shards) > 1 {
			name = fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, len(shards))
		}
		if err := writeShard(filepath.Join(dir, name), shard, d, e); err != nil {
			return err
		}
		for _, s := range shard {
			weights[s.name] = name
		}
	}
	if len(shards) == 1 {
		return nil
	}
	text, err = json.MarshalIndent(map[string]any{"metadata": map[string]any{}, "weight_map": weights}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "model.safetensors.index.json"), text, 0o666)
}

func writeShard(path string, specs []spec, d dtype.DType, e int) error {
	f, err := vfs.OS.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	var infos []safetensors.Info
	var at int64
	for _, s := range specs {
		n := int64(elements(s.shape)) * int64(d.Size())
		infos = append(infos, safetensors.Info{Name: s.name, DType: d, Shape: s.shape, Begin: at, End: at + n})
		at += n
	}
	head, err := safetensors.EncodeHeader(infos, map[string]string{"format": "pt"}, 0)
	if err != nil {
		return err
	}
	if _, err := f.Write(head); err != nil {
		return err
	}
	for _, s := range specs {
		v := values(s, e)
		t := tensor.Tensor{DType: d, Shape: s.shape, Data: make([]byte, len(v)*d.Size())}
		kernel.Narrow(0, t.Data, d, v)
		if _, err := f.Write(t.Data); err != nil {
			return err
		}
	}
	return f.Close()
}

func elements(shape []int) int {
	n := 1
	for _, s := range shape {
		n *= s
	}
	return n
}

// values makes a tensor of the base, and adds the delta of expert e to it.
func values(s spec, e int) []float32 {
	n := elements(s.shape)
	v := make([]float32, n)
	if len(s.shape) == 1 {
		fill(v, s.name, 0, 0.02)
		if strings.HasSuffix(s.name, "weight") {
			for i := range v {
				v[i]++ // a norm
			}
		}
	} else {
		fill(v, s.name, 0, 1/math.Sqrt(float64(n/s.shape[0])))
	}
	if e > 0 && len(s.shape) == 2 && !strings.Contains(s.name, "embed") && !strings.Contains(s.name, "lm_head") {
		addDelta(kernel.Of(s.shape[0], s.shape[1], v), s.name, e)
	}
	return v
}

// rank is the number of directions of a delta that stand above its noise, size
// its norm relative to the weight's, and noise the share of its energy that is
// noise.
const (
	rank  = 256
	size  = 0.05
	noise = 0.05
)

// addDelta adds the delta of expert e to a weight whose elements have variance
// 1/in.
func addDelta(w kernel.Matrix, name string, e int) {
	r := min(rank, min(w.Rows, w.Cols)/2)
	u, vt := kernel.New(w.Rows, r), kernel.New(r, w.Cols)
	fill(u.Data, name, 2*e, 1/math.Sqrt(float64(w.Rows)))
	fill(vt.Data, name, 2*e+1, 1/math.Sqrt(float64(w.Cols)))
	sum := 0.0
	for i := range r {
		sum += 1 / float64(i+1)
	}
	norm := size * math.Sqrt(float64(w.Rows)) // ‖W‖_F = √out
	for i := range r {
		kernel.Scale(float32(norm*math.Sqrt((1-noise)/sum/float64(i+1))), vt.Row(i))
	}
	kernel.Gemm(0, false, false, 1, u, vt, 1, w)
	floor := make([]float32, len(w.Data))
	fill(floor, name, 1<<20+e, norm*math.Sqrt(noise/float64(len(floor))))
	kernel.Add(w.Data, w.Data, floor)
}

// fill writes numbers of mean 0 and the given deviation, nearly normal: sums of
// four 16-bit uniforms. They depend on name, stream and position alone.
func fill(v []float32, name string, stream int, deviation float64) {
	seed := uint64(stream)*0x9E3779B97F4A7C15 + 0xD1B54A32D192ED03
	for _, c := range []byte(name) {
		seed = (seed ^ uint64(c)) * 0x100000001B3
	}
	const step = 1 << 16
	// A sum of four uniforms on [0, 65536) has variance 4·65536²/12.
	scale := float32(deviation / math.Sqrt(4*65536.0*65536.0/12))
	parallel.For(0, (len(v)+step-1)/step, func(c int) {
		x := seed + uint64(c)*0xA0761D6478BD642F
		for i := c * step; i < min(len(v), (c+1)*step); i++ {
			x += 0x9E3779B97F4A7C15 // splitmix64
			z := (x ^ x>>30) * 0xBF58476D1CE4E5B9
			z = (z ^ z>>27) * 0x94D049BB133111EB
			z ^= z >> 31
			v[i] = scale * float32(int64(z&0xFFFF)+int64(z>>16&0xFFFF)+int64(z>>32&0xFFFF)+int64(z>>48)-131070)
		}
	})
}
