package cli_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"smelt/internal/cli"
)

// TestExitCodes: 0 done, 1 failed, 2 only for what cannot be parsed.
func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		args []string
		want int
	}{
		{[]string{"--version"}, 0},
		{[]string{"inspect", filepath.FromSlash(fixture + "/base")}, 0},
		{[]string{"inspect", "nowhere"}, 1},
		{[]string{"fuse", "nowhere", "nothing", "-o", filepath.Join(t.TempDir(), "out")}, 1},
		{[]string{"melt"}, 2},
		{[]string{"fuse", "base"}, 2},
		{[]string{"fuse", "base", "expert", "--energy", "high", "-o", "out"}, 2},
		{[]string{"fuse", "base", "expert", "--energy", "0.5", "--budget", "2x", "-o", "out"}, 2},
		{[]string{"inspect", "--frob", "x"}, 2},
	} {
		var out, err bytes.Buffer
		if got := cli.Main(c.args, &out, &err); got != c.want {
			t.Errorf("smelt %s: exit %d, want %d: %s", strings.Join(c.args, " "), got, c.want, err.String())
		}
	}
}

// work is a copy of the fixture that a case may damage.
type work struct {
	*testing.T
	dir string
}

func (w work) path(name string) string { return filepath.Join(w.dir, filepath.FromSlash(name)) }

func (w work) read(name string) []byte {
	w.Helper()
	data, err := os.ReadFile(w.path(name))
	if err != nil {
		w.Fatal(err)
	}
	return data
}

func (w work) write(name string, data []byte) {
	w.Helper()
	if err := os.WriteFile(w.path(name), data, 0o666); err != nil {
		w.Fatal(err)
	}
}

// header rewrites the header of a safetensors file.
func (w work) header(name string, edit func(h map[string]any)) {
	w.Helper()
	data := w.read(name)
	n := binary.LittleEndian.Uint64(data)
	var h map[string]any
	if err := json.Unmarshal(data[8:8+n], &h); err != nil {
		w.Fatal(err)
	}
	edit(h)
	text, err := json.Marshal(h)
	if err != nil {
		w.Fatal(err)
	}
	w.raw(name, text, data[8+n:])
}

// raw puts a file together from the text of a header and the data.
func (w work) raw(name string, header, data []byte) {
	w.Helper()
	file := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	w.write(name, append(append(file, header...), data...))
}

// replace changes text in a file, which must contain it.
func (w work) replace(name, old, with string) {
	w.Helper()
	data := w.read(name)
	if !bytes.Contains(data, []byte(old)) {
		w.Fatalf("%s does not contain %q", name, old)
	}
	w.write(name, bytes.ReplaceAll(data, []byte(old), []byte(with)))
}

// poke overwrites the first element of a float32 tensor.
func (w work) poke(name, tensor string, v float32) {
	w.Helper()
	data := w.read(name)
	n := binary.LittleEndian.Uint64(data)
	var h map[string]struct {
		Offsets [2]int `json:"data_offsets"`
	}
	if err := json.Unmarshal(data[8:8+n], &h); err != nil {
		w.Fatal(err)
	}
	at, ok := h[tensor]
	if !ok {
		w.Fatalf("%s has no tensor %q", name, tensor)
	}
	binary.LittleEndian.PutUint32(data[8+int(n)+at.Offsets[0]:], math.Float32bits(v))
	w.write(name, data)
}

func entry(h map[string]any, tensor string) map[string]any { return h[tensor].(map[string]any) }

const (
	baseFile   = "base/model.safetensors"
	expertFile = "experts/algebra/model.safetensors"
	loraFile   = "experts/dance/adapter_model.safetensors"
	loraConfig = "experts/dance/adapter_config.json"
	qProj      = "model.layers.0.self_attn.q_proj.weight"
	kProj      = "model.layers.0.self_attn.k_proj.weight"
)

// TestHostile damages one thing after another. Each gives one clear error of
// at most six lines that names the place, exit code 1, and leaves nothing
// behind.
func TestHostile(t *testing.T) {
	cases := []struct {
		name   string
		damage func(w work)
		want   string // in the error
		args   []string
	}{
		{name: "header of 2^63 bytes", want: "not a safetensors file", damage: func(w work) {
			data := w.read(expertFile)
			binary.LittleEndian.PutUint64(data, 1<<63)
			w.write(expertFile, data)
		}},
		{name: "overlapping offsets", want: "overlap", damage: func(w work) {
			w.header(expertFile, func(h map[string]any) {
				entry(h, qProj)["data_offsets"] = entry(h, "model.layers.0.self_attn.o_proj.weight")["data_offsets"]
			})
		}},
		{name: "offsets out of the file", want: "leave a gap", damage: func(w work) {
			w.header(expertFile, func(h map[string]any) { entry(h, qProj)["data_offsets"] = []int64{1 << 40, 1<<40 + 1024} })
		}},
		{name: "shape overflow", want: qProj, damage: func(w work) {
			w.header(expertFile, func(h map[string]any) { entry(h, qProj)["shape"] = []int64{1 << 33, 1 << 33} })
		}},
		{name: "negative shape", want: "shape", damage: func(w work) {
			w.header(expertFile, func(h map[string]any) { entry(h, qProj)["shape"] = []int{-16, -16} })
		}},
		{name: "duplicate names", want: "twice", damage: func(w work) {
			data := w.read(expertFile)
			n := binary.LittleEndian.Uint64(data)
			head := string(data[8 : 8+n])
			w.raw(expertFile, []byte(strings.Replace(head, kProj, qProj, 1)), data[8+n:])
		}},
		{name: "dtype that does not exist", want: "F99", damage: func(w work) {
			w.header(expertFile, func(h map[string]any) { entry(h, qProj)["dtype"] = "F99" })
		}},
		{name: "fp8", want: "fp8", damage: func(w work) {
			w.replace("experts/algebra/config.json", `"model_type"`, `"quantization_config": {"quant_method": "fp8"}, "model_type"`)
		}},
		{name: "gptq", want: "gptq", damage: func(w work) {
			w.replace("experts/algebra/config.json", `"model_type"`, `"quantization_config": {"quant_method": "gptq", "bits": 4}, "model_type"`)
		}},
		{name: "truncated shard", want: "model.safetensors", damage: func(w work) {
			data := w.read(expertFile)
			w.write(expertFile, data[:len(data)-100])
		}},
		{name: "empty shard", want: "model.safetensors", damage: func(w work) { w.write(expertFile, nil) }},
		{name: "pickled weights", want: "pickle", damage: func(w work) {
			w.write("experts/algebra/pytorch_model.bin", w.read(expertFile))
			os.Remove(w.path(expertFile))
		}},
		{name: "missing weights", want: "experts/algebra", damage: func(w work) { os.Remove(w.path(expertFile)) }},
		{name: "index out of the directory", want: "../base/model.safetensors", damage: func(w work) {
			w.index("../base/model.safetensors")
		}},
		{name: "index with an absolute path", want: "/base/model.safetensors", damage: func(w work) {
			w.index(w.path(baseFile))
		}},
		{name: "index through a symlink", want: "link.safetensors", damage: func(w work) {
			if err := os.Symlink(w.path(baseFile), w.path("experts/algebra/link.safetensors")); err != nil {
				w.Fatal(err)
			}
			w.index("link.safetensors")
		}},
		{name: "missing shard", want: "model-00009.safetensors", damage: func(w work) { w.index("model-00009.safetensors") }},
		{name: "index that is no JSON", want: "index", damage: func(w work) {
			w.index("model.safetensors")
			w.write("experts/algebra/model.safetensors.index.json", []byte("{"))
		}},
		{name: "config that is no JSON", want: "config.json", damage: func(w work) { w.write("experts/algebra/config.json", []byte("[]")) }},
		{name: "NaN in an expert", want: "element [0,0] is NaN", damage: func(w work) { w.poke(expertFile, qProj, float32(math.NaN())) }},
		{name: "Inf in an expert", want: "element [0,0] is +Inf", damage: func(w work) { w.poke(expertFile, qProj, float32(math.Inf(1))) }},
		{name: "NaN in the base", want: "base: tensor", damage: func(w work) { w.poke(baseFile, qProj, float32(math.NaN())) }},
		{name: "NaN in a norm", want: "model.norm.weight", damage: func(w work) { w.poke(expertFile, "model.norm.weight", float32(math.NaN())) }},
		{name: "NaN in an adapter", want: "is NaN", damage: func(w work) {
			w.poke(loraFile, "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", float32(math.NaN()))
		}},
		{name: "another model type", want: `"llama"`, damage: func(w work) {
			w.replace("experts/algebra/config.json", `"model_type": "qwen2"`, `"model_type": "llama"`)
		}},
		{name: "another shape", want: "[8 32], the base's has [16 16]", damage: func(w work) {
			w.header(expertFile, func(h map[string]any) { entry(h, qProj)["shape"] = []int{8, 32} })
		}},
		{name: "a tensor that the base lacks", want: "model.layers.7.self_attn.q_proj.weight", damage: func(w work) {
			data := w.read(expertFile)
			n := binary.LittleEndian.Uint64(data)
			w.raw(expertFile, []byte(strings.Replace(string(data[8:8+n]), qProj, "model.layers.7.self_attn.q_proj.weight", 1)), data[8+n:])
		}},
		{name: "an adapter for other modules", want: "layers.9", damage: func(w work) {
			data := w.read(loraFile)
			n := binary.LittleEndian.Uint64(data)
			w.raw(loraFile, []byte(strings.ReplaceAll(string(data[8:8+n]), "model.layers.0.", "model.layers.9.")), data[8+n:])
		}},
		{name: "an adapter with other shapes", want: "q_proj", damage: func(w work) {
			w.header(loraFile, func(h map[string]any) {
				a := entry(h, "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight")
				shape := a["shape"].([]any)
				a["shape"] = []any{shape[1], shape[0]}
			})
		}},
		{name: "DoRA", want: "use_dora", damage: func(w work) { w.replace(loraConfig, `"use_dora": false`, `"use_dora": true`) }},
		{name: "PiSSA", want: "pissa", damage: func(w work) {
			w.replace(loraConfig, `"init_lora_weights": true`, `"init_lora_weights": "pissa"`)
		}},
		{name: "another PEFT type", want: "IA3", damage: func(w work) { w.replace(loraConfig, `"LORA"`, `"IA3"`) }},
		{name: "output that exists", want: "exists already", damage: func(w work) { w.write("out", nil) }},
		{name: "output that cannot be written", want: "/proc", args: []string{"-o", "/proc/out"}},
		{name: "output in no folder", want: "does not exist: make it first", args: []string{"-o", "nowhere/out"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := work{t, t.TempDir()}
			if err := os.CopyFS(w.dir, os.DirFS(filepath.FromSlash(fixture))); err != nil {
				t.Fatal(err)
			}
			if c.damage != nil {
				c.damage(w)
			}
			before := list(t, w.dir)
			args := []string{"fuse", w.path("base"), w.path("experts/algebra"), w.path("experts/chess"), w.path("experts/dance")}
			if c.args == nil {
				args = append(args, "-o", w.path("out"))
			} else {
				args = append(args, c.args...)
			}
			var stdout, stderr bytes.Buffer
			if code := cli.Main(args, &stdout, &stderr); code != 1 {
				t.Errorf("exit code %d, want 1", code)
			}
			var problem []string
			for _, line := range strings.Split(strings.TrimSpace(stderr.String()), "\n") {
				if !strings.HasPrefix(line, "note: ") && !strings.HasPrefix(line, "warning: ") {
					problem = append(problem, line)
				}
			}
			text := strings.Join(problem, "\n")
			if len(problem) == 0 || len(problem) > 6 || !strings.HasPrefix(text, "smelt: ") || !strings.Contains(text, c.want) {
				t.Errorf("want one error of at most six lines with %q, got\n%s", c.want, text)
			}
			t.Log(text)
			if stdout.Len() > 0 {
				t.Errorf("standard output: %s", stdout.String())
			}
			if after := list(t, w.dir); after != before {
				t.Errorf("left behind: %s", strings.TrimPrefix(after, before))
			}
		})
	}
}

// index writes an index that puts all tensors of the expert into one shard.
func (w work) index(shard string) {
	w.Helper()
	data := w.read(expertFile)
	n := binary.LittleEndian.Uint64(data)
	var h map[string]any
	if err := json.Unmarshal(data[8:8+n], &h); err != nil {
		w.Fatal(err)
	}
	where := map[string]string{}
	for name := range h {
		if name != "__metadata__" {
			where[name] = shard
		}
	}
	text, err := json.Marshal(map[string]any{"metadata": map[string]any{}, "weight_map": where})
	if err != nil {
		w.Fatal(err)
	}
	w.write("experts/algebra/model.safetensors.index.json", text)
	if shard != "model.safetensors" {
		os.Remove(w.path(expertFile))
	}
}

// list names every file below dir.
func list(t *testing.T, dir string) string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		names = append(names, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(names, "\n")
}
