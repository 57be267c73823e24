package processor

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"
)

type golden struct {
	Configs map[string]string
	Images  map[string][]byte
	Cases   []struct {
		Config, Image, Error, SHA256 string
		Shape                        []int
		Head                         []float32
	}
	Decoded map[string]struct {
		Size []int
		RGB  []byte
	}
}

func readGolden(t testing.TB) *golden {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", "golden.json.gz"))
	if err != nil {
		t.Fatalf("fixture: %v (tools/golden/processor/golden.py writes it)", err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var g golden
	if err := json.NewDecoder(z).Decode(&g); err != nil {
		t.Fatal(err)
	}
	if len(g.Cases) < 200 || len(g.Decoded) == 0 {
		t.Fatalf("fixture has %d cases", len(g.Cases))
	}
	return &g
}

// TestGolden: from lossless files the values are transformers' own, bit for bit.
func TestGolden(t *testing.T) {
	g := readGolden(t)
	for _, c := range g.Cases {
		t.Run(c.Config+"/"+c.Image, func(t *testing.T) {
			if c.Error != "" {
				t.Fatalf("the reference failed: %s", c.Error)
			}
			p, err := Parse([]byte(g.Configs[c.Config]))
			if err != nil {
				t.Fatal(err)
			}
			img, err := Read(bytes.NewReader(g.Images[c.Image]))
			if err != nil {
				t.Fatal(err)
			}
			got, err := p.Process(img)
			if err != nil {
				t.Fatal(err)
			}
			b := img.Bounds()
			h, w, err := p.OutputSize(b.Dy(), b.Dx())
			if err != nil || h != c.Shape[1] || w != c.Shape[2] {
				t.Fatalf("size: got [3 %d %d], %v, want %v", h, w, err, c.Shape)
			}
			var raw []byte
			for _, v := range got {
				raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
			}
			if sum := sha256.Sum256(raw); hex.EncodeToString(sum[:]) != c.SHA256 {
				t.Errorf("values differ: first ones got %v, want %v", got[:min(4, len(got))], c.Head)
			}
		})
	}
}

// TestLossy: Go's JPEG decoder rounds its cosine transform differently from
// libjpeg-turbo; WebP comes out equal. The bounds are on the
// mean and the largest difference of a channel, of 255.
func TestLossy(t *testing.T) {
	g := readGolden(t)
	for name, want := range g.Decoded {
		t.Run(name, func(t *testing.T) {
			img, err := Read(bytes.NewReader(g.Images[name]))
			if err != nil {
				t.Fatal(err)
			}
			var s scratch
			got := s.toRGB(img)
			if got.width != want.Size[0] || got.height != want.Size[1] {
				t.Fatalf("size %d×%d, want %v", got.width, got.height, want.Size)
			}
			sum, most := 0, 0
			for i, v := range got.data {
				d := int(v) - int(want.RGB[i])
				d = max(d, -d)
				sum, most = sum+d, max(most, d)
			}
			mean := float64(sum) / float64(len(got.data))
			t.Logf("mean difference %.3f, largest %d", mean, most)
			if (name == "webp-lossy.webp" && most > 0) || mean > 0.1 || most > 4 {
				t.Errorf("mean difference %.3f, largest %d", mean, most)
			}
		})
	}
}
