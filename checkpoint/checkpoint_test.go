package checkpoint_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"smelt/checkpoint"
	"smelt/dtype"
	"smelt/internal/vfs"
	"smelt/safetensors"
	"smelt/tensor"
)

const plainConfig = `{"model_type":"llama","architectures":["LlamaForCausalLM"],"torch_dtype":"bfloat16"}`

// dir makes a model directory on disk of files by name; safetensors files are
// given as tensors, others as text.
func dir(t *testing.T, files map[string]any) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		var err error
		switch c := content.(type) {
		case string:
			err = os.WriteFile(path, []byte(c), 0o666)
		case []safetensors.Named:
			err = safetensors.Write(vfs.OS, path, c, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// sharded returns a sound checkpoint in two shards.
func sharded(t *testing.T) map[string]any {
	return map[string]any{
		"config.json":                      plainConfig,
		"model-00001-of-00002.safetensors": zeros(t, "a.weight", 2, 2, "b.weight", 2),
		"model-00002-of-00002.safetensors": zeros(t, "c.weight", 2, 2),
		"model.safetensors.index.json": `{"metadata":{"total_size":40},"weight_map":{"a.weight":"model-00001-of-00002.safetensors",` +
			`"b.weight":"model-00001-of-00002.safetensors","c.weight":"model-00002-of-00002.safetensors"}}`,
	}
}

func TestOpenShards(t *testing.T) {
	root := dir(t, sharded(t))
	c, err := checkpoint.Open(vfs.OS, root)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var got []string
	for _, x := range c.Tensors() {
		got = append(got, fmt.Sprint(x.Name, x.File))
	}
	if want := []string{"a.weight0", "b.weight0", "c.weight1"}; !slices.Equal(got, want) {
		t.Errorf("tensors %v, want %v", got, want)
	}
	if c.Bytes() != 40 || c.Parameters() != 10 || len(c.Files()) != 2 {
		t.Errorf("%d bytes, %d parameters, files %v", c.Bytes(), c.Parameters(), c.Files())
	}
	x, err := c.Tensor("c.weight")
	if err != nil || x.DType != dtype.F32 || len(x.Data) != 16 {
		t.Error(x, err)
	}
	c.Prefetch("c.weight")
	c.Release("c.weight")
	c.Release("none")
	if _, err := c.Tensor("none"); err == nil || !strings.Contains(err.Error(), `no tensor "none"`) {
		t.Error(err)
	}
	if d, ok := c.Config.DType(); !ok || d != dtype.BF16 {
		t.Error("torch_dtype")
	}
}

func TestOpenRefuses(t *testing.T) {
	weights := zeros(t, "a.weight", 2, 2)
	good := map[string]any{"config.json": plainConfig, "model.safetensors": weights}
	quantised := func(config string) map[string]any {
		return map[string]any{"config.json": `{"model_type":"llama",` + config + `}`, "model.safetensors": weights}
	}
	named := func(d dtype.DType, name string, shape ...int) map[string]any {
		x, err := tensor.New(d, shape...)
		if err != nil {
			t.Fatal(err)
		}
		return map[string]any{"config.json": plainConfig, "model.safetensors": []safetensors.Named{{Name: name, Tensor: x}}}
	}
	index := func(text string) map[string]any {
		m := sharded(t)
		m["model.safetensors.index.json"] = text
		return m
	}
	change := func(m map[string]any, name string, content any) map[string]any {
		if content == nil {
			delete(m, name)
		} else {
			m[name] = content
		}
		return m
	}
	onlyConfig := func(file string) map[string]any {
		return map[string]any{"config.json": plainConfig, file: "x"}
	}
	const second = "model-00002-of-00002.safetensors"
	for name, c := range map[string]struct {
		files map[string]any
		want  string
	}{
		"no config":          {map[string]any{"model.safetensors": weights}, "config.json"},
		"config no JSON":     {change(map[string]any{"model.safetensors": weights}, "config.json", "{"), "config.json: invalid JSON"},
		"config an array":    {change(map[string]any{"model.safetensors": weights}, "config.json", "[]"), "config.json: content is an array"},
		"no weights":         {map[string]any{"config.json": plainConfig}, "no weights"},
		"pickle":             {onlyConfig("pytorch_model.bin"), "safe_serialization=True"},
		"pickle pt":          {onlyConfig("model.pt"), "pickle"},
		"pickle pth":         {onlyConfig("consolidated.00.pth"), "pickle"},
		"gguf":               {onlyConfig("model-q4.gguf"), "GGUF"},
		"keras":              {onlyConfig("tf_model.h5"), "not a PyTorch checkpoint"},
		"both":               {change(sharded(t), "model.safetensors", weights), "both model.safetensors and"},
		"several, no index":  {map[string]any{"config.json": plainConfig, "a.safetensors": weights, "b.safetensors": weights}, "2 *.safetensors files"},
		"truncated":          {change(map[string]any{"config.json": plainConfig}, "model.safetensors", "\x10\x00\x00\x00\x00\x00\x00\x00{}"), "truncated"},
		"gptq":               {quantised(`"quantization_config":{"quant_method":"gptq"}`), "gptq"},
		"bitsandbytes":       {quantised(`"quantization_config":{"load_in_4bit":true}`), "dequantize"},
		"nested awq":         {quantised(`"text_config":{"quantization_config":{"quant_method":"awq"}}`), "awq"},
		"fp8 tensors":        {named(dtype.F8E4M3, "a.weight", 2, 2), "F8_E4M3"},
		"fp8 scales":         {named(dtype.F32, "a.weight_scale_inv", 2, 2), "quantised weights"},
		"qweight":            {named(dtype.I32, "a.qweight", 2, 2), "quantised weights"},
		"SCB":                {named(dtype.F32, "a.SCB", 2), "quantised weights"},
		"int8 weights":       {named(dtype.I8, "a.weight", 2, 2), "integer weights"},
		"complex":            {named(dtype.C64, "a.weight", 2, 2), "C64"},
		"missing shard":      {change(sharded(t), second, nil), "shard " + second + ", which the index lists, is missing"},
		"truncated shard":    {change(sharded(t), second, "\x10\x00\x00"), second},
		"in index only":      {change(sharded(t), second, zeros(t, "d.weight", 2, 2)), `"c.weight" is not in ` + second},
		"not in index":       {change(sharded(t), second, zeros(t, "c.weight", 2, 2, "d.weight", 1)), `"d.weight" of ` + second + " is not in the index"},
		"in two shards":      {change(sharded(t), second, zeros(t, "c.weight", 2, 2, "a.weight", 2, 2)), `"a.weight" is in model-00001-of-00002.safetensors and in ` + second},
		"index wrong shard":  {index(strings.Replace(sharded(t)["model.safetensors.index.json"].(string), `"b.weight":"model-00001`, `"b.weight":"model-00002`, 1)), `"b.weight" is in model-00001-of-00002.safetensors, but the index says`},
		"index no JSON":      {index("{"), "model.safetensors.index.json: invalid JSON"},
		"index no map":       {index(`{"weight_map":[]}`), "weight_map is not an object"},
		"index empty":        {index(`{"weight_map":{}}`), "weight_map is not an object"},
		"index number":       {index(`{"weight_map":{"a":1}}`), "a number, want a file name"},
		"index twice":        {index(`{"weight_map":{"a":"x.safetensors","a":"y.safetensors"}}`), "occurs twice"},
		"index absolute":     {index(`{"weight_map":{"a":"/etc/passwd.safetensors"}}`), "not a plain name"},
		"index parent":       {index(`{"weight_map":{"a":"../x.safetensors"}}`), "not a plain name"},
		"index folder":       {index(`{"weight_map":{"a":"x/y.safetensors"}}`), "not a plain name"},
		"index windows":      {index(`{"weight_map":{"a":"c:x.safetensors"}}`), "not a plain name"},
		"index backslash":    {index(`{"weight_map":{"a":"..\\x.safetensors"}}`), "not a plain name"},
		"index other suffix": {index(`{"weight_map":{"a":"config.json"}}`), "no safetensors file"},
		"index nul":          {index(`{"weight_map":{"a":"x\u0000.safetensors"}}`), "not a plain name"},
		"many at once":       {change(sharded(t), second, zeros(t, "d", 1, "e", 1, "f", 1, "g", 1, "h", 1, "i", 1, "j", 1)), "and 3 more"},
		"sound":              {good, ""},
		"one other name":     {map[string]any{"config.json": plainConfig, "consolidated.safetensors": weights}, ""},
		"quantisation null":  {quantised(`"quantization_config":null`), ""},
		"an int64 buffer":    {named(dtype.I64, "embeddings.position_ids", 1, 4), ""},
	} {
		root := dir(t, c.files)
		x, err := checkpoint.Open(vfs.OS, root)
		if err == nil {
			_ = x.Close()
		}
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: error %v, want one with %q", name, err, c.want)
		case err != nil && strings.Count(err.Error(), "\n") > 5:
			t.Errorf("%s: %d lines of error", name, 1+strings.Count(err.Error(), "\n"))
		}
	}
	if _, err := checkpoint.Open(vfs.OS, filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	file := filepath.Join(dir(t, good), "model.safetensors")
	if _, err := checkpoint.Open(vfs.OS, file); err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("a file: %v", err)
	}
}

func link(t *testing.T, to, from string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(from), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(to, from); err != nil {
		t.Fatal(err)
	}
}

func TestSymlinks(t *testing.T) {
	outside := dir(t, map[string]any{"w": zeros(t, "a.weight", 2, 2), "config.json": plainConfig})
	open := func(root string) error {
		c, err := checkpoint.Open(vfs.OS, root)
		if err == nil {
			_, err = c.Extras()
			_ = c.Close()
		}
		return err
	}
	refused := func(what string, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), "symbolic link that leaves the directory") {
			t.Errorf("%s: error %v", what, err)
		}
	}

	root := dir(t, map[string]any{"config.json": plainConfig})
	link(t, filepath.Join(outside, "w"), filepath.Join(root, "model.safetensors"))
	refused("weights outside", open(root))

	root = dir(t, sharded(t))
	second := filepath.Join(root, "model-00002-of-00002.safetensors")
	if err := os.Remove(second); err != nil {
		t.Fatal(err)
	}
	link(t, filepath.Join(outside, "w"), second)
	refused("shard outside", open(root))

	root = dir(t, map[string]any{"model.safetensors": zeros(t, "a.weight", 2, 2)})
	link(t, filepath.Join(outside, "config.json"), filepath.Join(root, "config.json"))
	refused("config outside", open(root))

	root = dir(t, map[string]any{"config.json": plainConfig, "model.safetensors": zeros(t, "a.weight", 2, 2)})
	link(t, filepath.Join(outside, "config.json"), filepath.Join(root, "tokenizer.json"))
	refused("tokenizer outside", open(root))

	root = dir(t, map[string]any{"config.json": plainConfig, "real.bin": zeros(t, "a.weight", 2, 2)})
	link(t, "real.bin", filepath.Join(root, "model.safetensors"))
	if err := open(root); err != nil {
		t.Errorf("a link inside: %v", err)
	}

	root = dir(t, map[string]any{"config.json": plainConfig})
	link(t, "model.safetensors", filepath.Join(root, "model.safetensors"))
	if err := open(root); err == nil {
		t.Error("a link to itself")
	}

	// A directory that is itself reached by a link is fine.
	whole := filepath.Join(t.TempDir(), "model")
	link(t, dir(t, sharded(t)), whole)
	if err := open(whole); err != nil {
		t.Errorf("a linked directory: %v", err)
	}
}

// TestHubCache reads the layout of Hugging Face's own cache, where every file
// of a snapshot is a link into blobs.
func TestHubCache(t *testing.T) {
	for repo, ok := range map[string]bool{"models--org--name": true, "datasets--org--name": false} {
		cache := dir(t, map[string]any{
			repo + "/blobs/aaaa": plainConfig,
			repo + "/blobs/bbbb": zeros(t, "a.weight", 2, 2),
			"elsewhere/blobs/cc": zeros(t, "a.weight", 2, 2),
		})
		snap := filepath.Join(cache, repo, "snapshots", "0123abc")
		link(t, "../../blobs/aaaa", filepath.Join(snap, "config.json"))
		link(t, "../../blobs/bbbb", filepath.Join(snap, "model.safetensors"))
		c, err := checkpoint.Open(vfs.OS, snap)
		if err == nil {
			_ = c.Close()
		}
		if (err == nil) != ok {
			t.Errorf("%s: %v", repo, err)
		}
		if err := os.Remove(filepath.Join(snap, "model.safetensors")); err != nil {
			t.Fatal(err)
		}
		link(t, "../../../elsewhere/blobs/cc", filepath.Join(snap, "model.safetensors"))
		if _, err := checkpoint.Open(vfs.OS, snap); err == nil {
			t.Errorf("%s: followed a link to another repository's blobs", repo)
		}
	}
}

func TestExtrasAndFingerprint(t *testing.T) {
	files := map[string]any{
		"config.json": strings.Replace(plainConfig, "{", `{"auto_map":{"AutoModel":"modeling_x.X"},`, 1), "model.safetensors": zeros(t, "a.weight", 2, 2),
		"tokenizer.json": "{}", "tokenizer_config.json": "{}", "vocab.json": "{}", "merges.txt": "", "spiece.model": "x",
		"special_tokens_map.json": "{}", "added_tokens.json": "{}", "generation_config.json": "{}", "chat_template.jinja": "x",
		"preprocessor_config.json": "{}", "processor_config.json": "{}", "LICENSE": "x", "LICENSE.txt": "x", "tiktoken.model": "x", "qwen.tiktoken": "x",
		"additional_chat_templates/tool.jinja": "x", "additional_chat_templates/x.sh": "x",
		"modeling_x.py": "x", "README.md": "x", "train.log": "x", ".hidden.json": "x", "optimizer.pt": "x", "tokenizer/x": "x",
	}
	root := dir(t, files)
	print := func() string {
		c, err := checkpoint.Open(vfs.OS, root)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		s, err := c.Fingerprint()
		if err != nil || len(s) != 64 {
			t.Fatal(s, err)
		}
		return s
	}
	c, err := checkpoint.Open(vfs.OS, root)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	x, err := c.Extras()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"LICENSE", "LICENSE.txt", "added_tokens.json", "additional_chat_templates/tool.jinja", "chat_template.jinja",
		"generation_config.json", "merges.txt", "preprocessor_config.json", "processor_config.json", "qwen.tiktoken",
		"special_tokens_map.json", "spiece.model", "tiktoken.model", "tokenizer.json", "tokenizer_config.json", "vocab.json",
	}
	if !slices.Equal(x.Files, want) {
		t.Errorf("files %v\nwant  %v", x.Files, want)
	}
	if !slices.Equal(x.Code, []string{"modeling_x.py"}) {
		t.Errorf("code %v", x.Code)
	}

	first := print()
	if print() != first {
		t.Error("two fingerprints of one checkpoint")
	}
	for _, name := range []string{"config.json", "tokenizer.json", "model.safetensors"} {
		path := filepath.Join(root, name)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if name == "model.safetensors" {
			b = []byte(strings.Replace(string(b), "a.weight", "b.weight", 1))
		} else {
			b = append(b, ' ')
		}
		if err := os.WriteFile(path, b, 0o666); err != nil {
			t.Fatal(err)
		}
		next := print()
		if next == first {
			t.Errorf("the fingerprint misses a change of %s", name)
		}
		first = next
	}
}

func TestConfig(t *testing.T) {
	text := `{"z": 1, "model_type": "clip", "text_config": {"model_type": "clip_text_model", "tie_word_embeddings": false}, "inf": [0.0, Infinity], "a": 1e-05, "hidden_size": 4e1}`
	c, err := checkpoint.ParseConfig([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if c.ModelType() != "clip" || c.Nested("text_config").ModelType() != "clip_text_model" || c.Nested("z").ModelType() != "" {
		t.Error("model types")
	}
	if tie, set := c.TieWordEmbeddings(); tie || !set {
		t.Error("tie_word_embeddings of the text part")
	}
	if n, ok := c.Int("hidden_size"); n != 40 || !ok {
		t.Error("hidden_size")
	}
	if _, ok := c.DType(); ok {
		t.Error("a dtype from nowhere")
	}
	want := "{\n  \"z\": 1,\n  \"model_type\": \"clip\",\n  \"text_config\": {\n    \"model_type\": \"clip_text_model\",\n    \"tie_word_embeddings\": false\n  },\n" +
		"  \"inf\": [\n    0.0,\n    Infinity\n  ],\n  \"a\": 1e-05,\n  \"hidden_size\": 4e1\n}\n"
	if got := string(c.JSON()); got != want {
		t.Errorf("written as\n%s", got)
	}
	for _, s := range []string{`{"dtype":"bfloat16","torch_dtype":"float32"}`, `{"torch_dtype":"torch.bfloat16"}`} {
		c, err := checkpoint.ParseConfig([]byte(s))
		if err != nil {
			t.Fatal(err)
		}
		if d, ok := c.DType(); d != dtype.BF16 || !ok {
			t.Errorf("%s: %v", s, d)
		}
	}
}

// TestConfigLimit refuses a file that is too large before reading it.
func TestConfigLimit(t *testing.T) {
	root := dir(t, map[string]any{"model.safetensors": zeros(t, "a.weight", 2, 2)})
	f, err := os.Create(filepath.Join(root, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(1<<40), f.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := checkpoint.Open(vfs.OS, root); err == nil || !strings.Contains(err.Error(), "want at most") {
		t.Errorf("error %v", err)
	}
}

func TestCompatible(t *testing.T) {
	cfg := func(s string) checkpoint.Config {
		c, err := checkpoint.ParseConfig([]byte(s))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	clip := cfg(`{"model_type":"clip","vision_config":{"model_type":"clip_vision_model"},"text_config":{"model_type":"clip_text_model"}}`)
	for _, c := range []struct {
		expert, want string
	}{
		{`{"model_type":"clip"}`, ""},
		{`{"model_type":"clip_vision_model"}`, ""},
		{`{"model_type":"clip_text_model"}`, ""},
		{`{"model_type":"vit"}`, `model_type is "vit", but the base's is "clip" (with text_config: clip_text_model, vision_config: clip_vision_model)`},
		{`{}`, "config.json of the expert has no model_type"},
	} {
		err := checkpoint.Compatible(clip, cfg(c.expert))
		if c.want == "" && err != nil || c.want != "" && (err == nil || err.Error() != c.want) {
			t.Errorf("%s: %v", c.expert, err)
		}
	}
	if err := checkpoint.Compatible(cfg(`{}`), clip); err == nil {
		t.Error("a base without model_type")
	}
}

func TestMapNames(t *testing.T) {
	all := truths(t)
	for _, c := range []struct {
		base, expert   string
		note           string
		missing, extra []string
	}{
		{"llama", "llama", "", nil, nil},
		{"gpt2", "gpt2-bare", `28 of 28 tensors were matched across the prefix "transformer.", which only the names of the base have`, nil, nil},
		{"gpt2-bare", "gpt2", `prefix "transformer.", which only the names of the expert have`, nil, nil},
		{"gpt2", "gpt2-cls", "", nil, []string{"score.weight"}},
		{"bert-mlm", "bert-bare", `prefix "bert."`, []string{
			"cls.predictions.bias", "cls.predictions.transform.LayerNorm.bias",
			"cls.predictions.transform.LayerNorm.weight", "cls.predictions.transform.dense.bias", "cls.predictions.transform.dense.weight",
		}, []string{"pooler.dense.bias", "pooler.dense.weight"}},
		{"llama", "llama-bare", `20 of 20 tensors were matched across the prefix "model."`, []string{"lm_head.weight"}, nil},
		{"llama", "llama-tied", "1 tied tensors", nil, nil},
		{"llama-tied", "llama", "", nil, []string{"lm_head.weight"}},
		{"clip", "clip-text", `36 of 36 tensors were matched across the prefix "text_model."`, nil, nil},
		{"clip", "clip-vision", `39 of 39 tensors were matched across the prefix "vision_model."`, nil, nil},
		{"clip", "clip-vision-proj", "", nil, nil},
		{"llava", "llama", `21 of 21 tensors were matched across the prefix "language_model."`, nil, nil},
		{"vit-cls", "vit-bare", `prefix "vit."`, []string{"classifier.bias", "classifier.weight"}, []string{"pooler.dense.bias", "pooler.dense.weight"}},
	} {
		m := checkpoint.MapNames(all[c.base].open(t), all[c.expert].open(t))
		notes := strings.Join(m.Notes, "; ")
		if c.note == "" && notes != "" || !strings.Contains(notes, c.note) {
			t.Errorf("%s with %s: notes %q, want %q", c.base, c.expert, notes, c.note)
		}
		slices.Sort(m.Missing)
		slices.Sort(m.Extra)
		nested := c.base == "clip" || c.base == "llava"
		if !nested && !slices.Equal(m.Missing, c.missing) || !slices.Equal(m.Extra, c.extra) {
			t.Errorf("%s with %s: missing %v, extra %v", c.base, c.expert, m.Missing, m.Extra)
		}
		for e, b := range m.ToBase {
			if back := m.ToExpert[b]; back == "" || m.ToBase[back] != b {
				t.Errorf("%s with %s: %s goes to %s, which goes to %q", c.base, c.expert, e, b, back)
			}
		}
	}
}

// TestTwoTowers matches names that fit both towers of a model.
func TestTwoTowers(t *testing.T) {
	const q = "encoder.layers.0.self_attn.q_proj.weight"
	base := openMem(t, `{"model_type":"clip","vision_config":{"model_type":"clip_vision_model"},"text_config":{"model_type":"clip_text_model"}}`,
		zeros2(t, "vision_model."+q, "text_model."+q))
	for config, want := range map[string]string{
		`{"model_type":"clip_vision_model"}`: "vision_model." + q,
		`{"model_type":"clip_text_model"}`:   "text_model." + q,
		`{"model_type":"clip"}`:              "",
	} {
		m := checkpoint.MapNames(base, openMem(t, config, zeros2(t, q)))
		if m.ToBase[q] != want || want == "" && len(m.Extra) != 1 {
			t.Errorf("%s: matched with %q, want %q", config, m.ToBase[q], want)
		}
	}
}

// TestTiedStoredUnderTheHead resolves an embedding that only the head's name
// stores.
func TestTiedStoredUnderTheHead(t *testing.T) {
	c := openMem(t, `{"model_type":"llama","tie_word_embeddings":true}`, zeros(t, "lm_head.weight", 4, 2, "model.norm.weight", 2))
	if x, ok := c.Resolve("model.embed_tokens.weight"); !ok || x.Name != "lm_head.weight" {
		t.Errorf("resolves to %q", x.Name)
	}
}

func FuzzIndex(f *testing.F) {
	f.Add([]byte(`{"metadata":{"total_size":1},"weight_map":{"a.weight":"x.safetensors"}}`))
	f.Add([]byte(`{"weight_map":{"a":"../x.safetensors","b":"x.safetensors"}}`))
	f.Add([]byte(`{"weight_map":{}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m := vfs.NewMem()
		if err := m.MkdirAll("/m"); err != nil {
			t.Fatal(err)
		}
		if err := safetensors.Write(m, "/m/x.safetensors", zeros2(t, "a.weight"), nil); err != nil {
			t.Fatal(err)
		}
		for name, data := range map[string][]byte{"config.json": []byte(plainConfig), "model.safetensors.index.json": text} {
			if err := vfs.WriteFile(m, "/m/"+name, data); err != nil {
				t.Fatal(err)
			}
		}
		opened := 0
		c, err := checkpoint.Open(vfs.Fault(m, func(e vfs.Event) error {
			if e.Op == vfs.OpOpen {
				if opened++; filepath.Dir(e.Path) != "/m" {
					t.Fatalf("%s of %q", e.Op, e.Path)
				}
			}
			return nil
		}), "/m")
		if err != nil {
			return
		}
		defer c.Close()
		if len(c.Tensors()) != 1 {
			t.Fatalf("%d tensors", len(c.Tensors()))
		}
	})
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte(plainConfig))
	f.Add([]byte(`{"model_type":"clip","text_config":{"tie_word_embeddings":true,"text_config":{}},"architectures":[1]}`))
	f.Add([]byte(`{"tie_word_embeddings":true,"decoder":{"model_type":"gpt2"},"vocab_size":1e3}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m := vfs.NewMem()
		if err := m.MkdirAll("/m"); err != nil {
			t.Fatal(err)
		}
		if err := safetensors.Write(m, "/m/model.safetensors", zeros2(t, "model.embed_tokens.weight", "decoder.transformer.wte.weight", "lm_head.weight", "x.bias"), nil); err != nil {
			t.Fatal(err)
		}
		if err := vfs.WriteFile(m, "/m/config.json", text); err != nil {
			t.Fatal(err)
		}
		c, err := checkpoint.Open(m, "/m")
		if err != nil {
			return
		}
		defer c.Close()
		for _, x := range c.Tensors() {
			c.Kind(x.Name)
			c.Transposed(x.Name)
			if _, ok := c.Resolve(x.Name); !ok {
				t.Fatalf("%q does not resolve", x.Name)
			}
		}
		_ = checkpoint.Compatible(c.Config, c.Config)
		if again, err := checkpoint.ParseConfig(c.Config.JSON()); err != nil || again.ModelType() != c.Config.ModelType() {
			t.Fatalf("written back: %v", err)
		}
	})
}

// zeros2 makes small matrices.
func zeros2(t *testing.T, names ...string) []safetensors.Named {
	t.Helper()
	var args []any
	for _, n := range names {
		args = append(args, n, 2, 2)
	}
	return zeros(t, args...)
}
