package clip

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"smelt/internal/kernel"
	"smelt/model/modeltest"
	"smelt/nn"
)

// tolerance of every stage, relative to its largest element: a few roundings
// of float32. Weights of 16 bits are exact in both, and change nothing.
const tolerance = 3e-6

var fixtures = []string{"quick_gelu", "gelu_bf16_legacy_eos", "vision", "vision_projection_f16", "text_projection"}

func load(t testing.TB, name string) (*Model, *modeltest.Source) {
	t.Helper()
	s := modeltest.Open(t, filepath.Join("testdata", name))
	m, err := Load(s)
	if err != nil {
		t.Fatal(err)
	}
	return m, s
}

func TestParity(t *testing.T) {
	for _, name := range fixtures {
		t.Run(name, func(t *testing.T) {
			m, _ := load(t, name)
			dir := filepath.Join("testdata", name)
			c, want := modeltest.ReadCase(t, dir), modeltest.ReadExpected(t, dir)
			p := &nn.Pass{Exact: true, OnStage: func(name string, x kernel.Matrix) { want.Check(t, name, x, tolerance) }}
			var images, texts kernel.Matrix
			var err error
			if m.Vision != nil {
				pixels := pixels(t, want)
				if images, err = m.Vision.Forward(p, pixels); err != nil {
					t.Fatal(err)
				}
			}
			if m.Text != nil {
				if texts, err = m.Text.Forward(p, c.IDs); err != nil {
					t.Fatal(err)
				}
			}
			if m.Text != nil && m.Vision != nil {
				want.Check(t, "logits_per_image", m.Logits(images, texts), tolerance)
			}
			want.CheckAll(t)
		})
	}
}

func pixels(t testing.TB, e *modeltest.Expected) kernel.Matrix {
	t.Helper()
	x, err := e.File.Tensor("pixels")
	if err != nil {
		t.Fatal(err)
	}
	v, err := x.Float32()
	if err != nil {
		t.Fatal(err)
	}
	e.Seen["pixels"] = true
	return kernel.Of(x.Shape[0], x.Shape[1], v)
}

// A batch is what its members are one by one, on any number of workers.
func TestBatch(t *testing.T) {
	m, _ := load(t, "quick_gelu")
	dir := filepath.Join("testdata", "quick_gelu")
	c, x := modeltest.ReadCase(t, dir), pixels(t, modeltest.ReadExpected(t, dir))
	one := &nn.Pass{Workers: 1}
	images, err := m.Vision.Forward(one, x)
	if err != nil {
		t.Fatal(err)
	}
	texts, err := m.Text.Forward(one, c.IDs)
	if err != nil {
		t.Fatal(err)
	}
	for _, workers := range []int{2, 8} {
		p := &nn.Pass{Workers: workers}
		again, _ := m.Vision.Forward(p, x)
		if !slices.Equal(images.Data, again.Data) {
			t.Errorf("%d workers change the images' embeddings", workers)
		}
		again, _ = m.Text.Forward(p, c.IDs)
		if !slices.Equal(texts.Data, again.Data) {
			t.Errorf("%d workers change the texts' embeddings", workers)
		}
	}
	for i := range x.Rows {
		y, err := m.Vision.Forward(one, x.Slice(i, i+1, 0, x.Cols))
		if err == nil {
			err = modeltest.Close(y, images.Row(i), tolerance)
		}
		if err != nil {
			t.Errorf("image %d alone: %v", i, err)
		}
	}
	for i := range c.IDs {
		y, err := m.Text.Forward(one, c.IDs[i:i+1])
		if err == nil {
			err = modeltest.Close(y, texts.Row(i), tolerance)
		}
		if err != nil {
			t.Errorf("text %d alone: %v", i, err)
		}
	}
}

// A class of one prompt is that prompt; of several, their mean direction.
func TestClassifier(t *testing.T) {
	m, _ := load(t, "quick_gelu")
	c := modeltest.ReadCase(t, filepath.Join("testdata", "quick_gelu"))
	p := &nn.Pass{}
	head, err := m.Classifier(p, [][][]int{{c.IDs[0]}, {c.IDs[0], c.IDs[1]}})
	if err != nil {
		t.Fatal(err)
	}
	x, err := m.Text.Forward(p, c.IDs[:2])
	if err != nil {
		t.Fatal(err)
	}
	Normalize(x)
	if err := modeltest.Close(head.Slice(0, 1, 0, head.Cols), x.Row(0), 1e-6); err != nil {
		t.Error(err)
	}
	kernel.Add(x.Row(0), x.Row(0), x.Row(1))
	Normalize(x)
	if err := modeltest.Close(head.Slice(1, 2, 0, head.Cols), x.Row(0), 1e-6); err != nil {
		t.Error(err)
	}
	if _, err := m.Classifier(p, [][][]int{{}}); err == nil {
		t.Error("a class without prompts was taken")
	}
	vision, _ := load(t, "vision")
	if _, err := vision.Classifier(p, nil); err == nil {
		t.Error("a model without a text tower classified")
	}
}

func TestRefusals(t *testing.T) {
	m, s := load(t, "quick_gelu")
	p := &nn.Pass{}
	for _, c := range []struct {
		name string
		ids  [][]int
		want string
	}{
		{"empty", [][]int{{}}, "no tokens"},
		{"too long", [][]int{make([]int, 17)}, "17 tokens, the model's context is 16"},
		{"beyond the vocabulary", [][]int{{3, 97}}, "token id 97"},
		{"negative", [][]int{{-1}}, "token id -1"},
	} {
		if _, err := m.Text.Forward(p, c.ids); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one that says %q", c.name, err, c.want)
		}
	}
	if _, err := m.Vision.Forward(p, kernel.New(1, 100)); err == nil {
		t.Error("an image of a wrong size was taken")
	}
	for _, c := range []struct{ old, new, want string }{
		{`"hidden_size": 32`, `"hidden_size": 36`, `tensor "vision_model.`},
		{`"patch_size": 7`, `"patch_size": 0`, "patch_size"},
		{`"hidden_act": "quick_gelu"`, `"hidden_act": "mish"`, `"mish"`},
		{`"num_attention_heads": 4`, `"num_attention_heads": 5`, "multiple"},
		{`"num_hidden_layers": 2`, `"num_hidden_layers": 3`, "layers.2"},
		{`"num_hidden_layers": 2`, `"num_hidden_layers": 1000000000`, "num_hidden_layers"},
		{`"model_type": "clip"`, `"model_type": "siglip"`, "clip, clip_vision_model"},
		{`"vocab_size": 97`, `"vocab_size": 98`, "token_embedding.weight"},
	} {
		bad := *s
		bad.Text = bytes.Replace(s.Text, []byte(c.old), []byte(c.new), 1)
		if bytes.Equal(bad.Text, s.Text) {
			t.Fatalf("%s is not in the fixture", c.old)
		}
		if _, err := Load(&bad); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one that says %q", c.new, err, c.want)
		}
	}
}

// Old files hold text_config_dict and vision_config_dict, which go before.
func TestConfigDict(t *testing.T) {
	text := []byte(`{"model_type": "clip", "projection_dim": 24, "text_config": {"hidden_size": 1},
		"text_config_dict": {"hidden_size": 24, "num_attention_heads": 3}, "vision_config": null, "vision_config_dict": null}`)
	tc, vc, err := readConfigs("clip", text)
	if err != nil {
		t.Fatal(err)
	}
	if tc.HiddenSize != 24 || tc.ProjectionDim != 24 || tc.VocabSize != 49408 || vc.HiddenSize != 768 {
		t.Errorf("read %+v and %+v", *tc, *vc)
	}
}

func TestFixturesAreTested(t *testing.T) {
	dirs, err := os.ReadDir("testdata")
	if err != nil || len(dirs) != len(fixtures) {
		t.Errorf("%d fixtures, %d tested (%v)", len(dirs), len(fixtures), err)
	}
}
