package eval_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"smelt/eval"
	"smelt/internal/vfs"
)

// golden is what tools/golden/eval.py knows of the fixtures.
type golden struct {
	Pixels  [][]byte
	Labels  []int
	Classes []string
	Blur    []int
	F1      []struct {
		Got, Want string
		F1        float64
	}
	Wilson []struct {
		Right, N  int
		Low, High float64
	}
}

func (g *golden) UnmarshalJSON(data []byte) error {
	type plain golden
	v := struct {
		*plain
		Pixels [][]int
	}{plain: (*plain)(g)}
	if err := json.Unmarshal(data, &v); err != nil {
		return err
	}
	for _, p := range v.Pixels {
		b := make([]byte, len(p))
		for i, x := range p {
			b[i] = byte(x)
		}
		g.Pixels = append(g.Pixels, b)
	}
	return nil
}

func readGolden(t *testing.T) (g golden) {
	t.Helper()
	data, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &g); err != nil {
		t.Fatal(err)
	}
	return g
}

// task parses a file in testdata with one task.
func task(t testing.TB, text string) (*eval.File, *eval.Task) {
	t.Helper()
	f, err := eval.Parse("testdata/tasks.yaml", []byte("version: 1\ntasks:\n- name: colours\n"+indent(text)))
	if err != nil {
		t.Fatal(err)
	}
	return f, &f.Tasks[0]
}

func indent(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString("  " + line)
	}
	return b.String()
}

// TestImages reads the same pictures from every form of data.
func TestImages(t *testing.T) {
	g := readGolden(t)
	classes := "classes: [red, green, blue]\n"
	for _, x := range []struct{ name, data string }{
		{"idx", "images: images.idx\nlabels: labels.idx\n" + classes},
		{"idx, gzipped", "images: images.idx.gz\nlabels: labels.idx.gz\n" + classes},
		{"parquet", "data: hub\n"},
		{"parquet, shards by name", "data: [hub/data/test-00000-of-00002.parquet, hub/data/test-00001-of-00002.parquet]\n"},
		{"parquet, shards by pattern", "data: hub/data/test-*.parquet\n"},
		{"csv", "data: images.csv\n" + classes},
		{"jsonl", "data: images.jsonl\n" + classes},
	} {
		t.Run(x.name, func(t *testing.T) {
			f, task := task(t, "type: image-classification\ntemplates: ['{}']\n"+x.data)
			im, err := eval.OpenImages(vfs.OS, f, task)
			if err != nil {
				t.Fatal(err)
			}
			if im.Len() != 12 || !slices.Equal(im.Classes, g.Classes) {
				t.Fatalf("%d images of classes %v, want 12 of %v", im.Len(), im.Classes, g.Classes)
			}
			for i := range im.Len() {
				if im.Truths[i].Class != g.Labels[i] {
					t.Errorf("image %d has label %d, want %d", i, im.Truths[i].Class, g.Labels[i])
				}
				if got := pixels(t, im, i); !slices.Equal(got, g.Pixels[i]) {
					t.Errorf("image %d differs", i)
				}
			}
		})
	}
}

// pixels returns the RGB bytes of a picture.
func pixels(t *testing.T, im *eval.Images, i int) (out []byte) {
	t.Helper()
	img, err := im.Picture(i)
	if err != nil {
		t.Fatal(err)
	}
	b := img.Bounds()
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			r, g, b, _ := img.At(x, y).RGBA()
			out = append(out, byte(r>>8), byte(g>>8), byte(b>>8))
		}
	}
	return out
}

// TestImageFolder: the folders are the classes, by name where they can be.
func TestImageFolder(t *testing.T) {
	g := readGolden(t)
	for _, x := range []struct{ classes, want string }{
		{"", "[blue green red] [0 0 0 0 1 1 1 1 2 2 2 2]"},
		{"classes: [red, green, blue]\n", "[red green blue] [2 2 2 2 1 1 1 1 0 0 0 0]"},
		{"classes: [sky, grass, fire]\n", "[sky grass fire] [0 0 0 0 1 1 1 1 2 2 2 2]"},
	} {
		f, task := task(t, "type: image-classification\ntemplates: ['{}']\ndata: folder\n"+x.classes)
		im, err := eval.OpenImages(vfs.OS, f, task)
		if err != nil {
			t.Fatal(err)
		}
		var labels []int
		for _, truth := range im.Truths {
			labels = append(labels, truth.Class)
		}
		if got := fmt.Sprint(im.Classes, labels); got != x.want {
			t.Errorf("%s: %s, want %s", strings.TrimSpace(x.classes), got, x.want)
		}
		if got := pixels(t, im, 0); !slices.Equal(got, g.Pixels[2]) { // blue/02.png
			t.Error("the first picture differs")
		}
	}
}

// TestBlur holds the blur against scipy's, within a step of rounding.
func TestBlur(t *testing.T) {
	g := readGolden(t)
	for _, data := range []string{"images: images.idx\nlabels: labels.idx", "data: images.csv"} {
		f, task := task(t, "type: image-classification\ntemplates: ['{}']\nclasses: [red, green, blue]\ncorruption: {kind: blur, severity: 3}\n"+data+"\n")
		im, err := eval.OpenImages(vfs.OS, f, task)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range pixels(t, im, 0) {
			if d := int(v) - g.Blur[i]; d < -1 || d > 1 {
				t.Errorf("%s: byte %d is %d, want %d", data, i, v, g.Blur[i])
			}
		}
	}
}

// TestCorruptions are the same each time, and what their definition says.
func TestCorruptions(t *testing.T) {
	g := readGolden(t)
	open := func(corruption string) []byte {
		f, task := task(t, "type: image-classification\ntemplates: ['{}']\nclasses: [red, green, blue]\nimages: images.idx\nlabels: labels.idx\ncorruption: "+corruption+"\n")
		im, err := eval.OpenImages(vfs.OS, f, task)
		if err != nil {
			t.Fatal(err)
		}
		return pixels(t, im, 1)
	}
	noise := open("{kind: noise, severity: 5}")
	if !slices.Equal(noise, open("{kind: noise, severity: 5}")) {
		t.Error("noise is not the same each time")
	}
	if slices.Equal(noise, open("{kind: noise, severity: 5, seed: 1}")) {
		t.Error("another seed gives the same noise")
	}
	sum := 0.0
	for i, v := range noise {
		sum += math.Pow(float64(v)-float64(g.Pixels[1][i]), 2)
	}
	if sigma := math.Sqrt(sum / float64(len(noise))); sigma < 20 || sigma > 30 {
		t.Errorf("noise of severity 5 has σ %.1f, want about 25.5", sigma)
	}
	for c := range 3 {
		spread := func(pix []byte) (lo, hi byte) {
			lo = 255
			for i := c; i < len(pix); i += 3 {
				lo, hi = min(lo, pix[i]), max(hi, pix[i])
			}
			return lo, hi
		}
		lo, hi := spread(g.Pixels[1])
		l, h := spread(open("{kind: contrast, severity: 3}"))
		if got, want := float64(h-l), 0.4*float64(hi-lo); math.Abs(got-want) > 1 {
			t.Errorf("channel %d: a contrast of 0.4 leaves a range of %v, want %v", c, got, want)
		}
	}
}

// TestF1 holds F1 against torchmetrics' SQuAD.
func TestF1(t *testing.T) {
	_, task := task(t, "type: text-to-text\nmetric: f1\nprompt: '{p}'\ntarget: '{t}'\ndata: x.jsonl\n")
	for _, x := range readGolden(t).F1 {
		s, err := task.Measure([]eval.Answer{{Text: x.Got}}, []eval.Truth{{Text: x.Want}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !(math.Abs(s.Value-x.F1) < 1e-6) {
			t.Errorf("F1 of %q for %q is %v, want %v", x.Got, x.Want, s.Value, x.F1)
		}
	}
}

// TestWilson holds the intervals against scipy's.
func TestWilson(t *testing.T) {
	for _, x := range readGolden(t).Wilson {
		low, high := eval.Wilson(float64(x.Right)/float64(x.N), x.N)
		if !(math.Abs(low-x.Low) < 1e-12 && math.Abs(high-x.High) < 1e-12) {
			t.Errorf("%d of %d: [%v, %v], want [%v, %v]", x.Right, x.N, low, high, x.Low, x.High)
		}
	}
}

// TestRows: parquet and JSONL give the same texts.
func TestRows(t *testing.T) {
	var prompts [][]string
	for _, data := range []string{"rows.parquet", "rows.jsonl.gz"} {
		f, task := task(t, "type: text-to-text\nprompt: '{id}|{text}|{nested.a}|{label}|{ok}'\ntarget: '{label}'\nnames: {label: [no, 'yes']}\ndata: "+data+"\n")
		x, err := eval.OpenTexts(vfs.OS, f, task)
		if err != nil {
			t.Fatal(err)
		}
		prompts = append(prompts, x.Prompts)
		if got := x.Truths[1].Text; got != "yes" {
			t.Errorf("%s: target %q, want yes", data, got)
		}
	}
	if want := "1|zwölf|zw|yes|true"; prompts[0][1] != want || !slices.Equal(prompts[0], prompts[1]) {
		t.Errorf("prompts %q and %q, want both to have %q", prompts[0], prompts[1], want)
	}
	f, task := task(t, "type: multiple-choice\nprompt: '{text}'\nchoices: '{choices}'\nanswer: '{label}'\nlimit: 2\ndata: "+filepath.Base("rows.parquet")+"\n")
	x, err := eval.OpenTexts(vfs.OS, f, task)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(x.Choices); got != "[[x y] [p q r]]" {
		t.Errorf("choices %s", got)
	}
}
