package processor

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"image"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
)

// bomb is a PNG header that promises width × height pixels.
func bomb(width, height uint32) []byte {
	var b bytes.Buffer
	b.WriteString("\x89PNG\r\n\x1a\n")
	head := binary.BigEndian.AppendUint32(nil, width)
	head = append(binary.BigEndian.AppendUint32(head, height), 8, 2, 0, 0, 0)
	chunk := append([]byte("IHDR"), head...)
	b.Write(binary.BigEndian.AppendUint32(nil, uint32(len(head))))
	b.Write(chunk)
	b.Write(binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(chunk)))
	return b.Bytes()
}

func TestReadRejects(t *testing.T) {
	good := readGolden(t).Images["rgb-28x28.png"]
	for _, c := range []struct {
		name, want string
		data       []byte
	}{
		{"empty", "unknown format", nil},
		{"text", "unknown format", []byte("no image")},
		{"bomb", "60000×60000", bomb(60000, 60000)},
		{"no pixels", "image", bomb(0, 5)},
		{"cut off", "png image", good[:len(good)/2]},
		{"broken", "image", slices.Concat(good[:60], []byte{1, 2, 3, 4}, good[64:])},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := Read(bytes.NewReader(c.data)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
		})
	}
	path := filepath.Join(t.TempDir(), "none.png")
	if _, err := ReadFile(path); err == nil || !strings.Contains(err.Error(), "none.png") {
		t.Errorf("got %v", err)
	}
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFile(path); err == nil || !strings.Contains(err.Error(), "none.png") {
		t.Errorf("got %v", err)
	}
}

func TestParseRejects(t *testing.T) {
	clip := func(more string) string { return `{"image_processor_type":"CLIPImageProcessor",` + more + `}` }
	for _, c := range []struct{ name, file, want string }{
		{"empty", ``, "unexpected end"},
		{"no type", `{}`, `image_processor_type ""`},
		{"other type", `{"image_processor_type":"SamImageProcessor"}`, "CLIP, ViT"},
		{"size", clip(`"size":{"shortest_edge":0}`), "size"},
		{"large size", clip(`"size":{"shortest_edge":1000000}`), "65536"},
		{"negative size", clip(`"size":{"height":-3,"width":5}`), "size"},
		{"size of a kind", clip(`"size":"big"`), "size"},
		{"crop", clip(`"crop_size":{"shortest_edge":3}`), "crop_size"},
		{"resample", clip(`"resample":9`), "resample 9"},
		{"std", clip(`"image_std":[1,0,1]`), "image_std"},
		{"mean", clip(`"image_mean":[1,2]`), "2 channels"},
		{"pad", clip(`"do_pad":true`), "do_pad"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := Parse([]byte(c.file)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
		})
	}
	if _, err := LoadFS(fstest.MapFS{}); err == nil {
		t.Error("a directory without configuration loads")
	}
	if _, err := Load(t.TempDir() + "/none"); err == nil {
		t.Error("a missing directory loads")
	}
	nested := fstest.MapFS{"processor_config.json": {Data: []byte(`{"image_processor":` + clip(`"size":28`) + `}`)}}
	if p, err := LoadFS(nested); err != nil || p.size.shortest != 28 {
		t.Errorf("nested configuration: %v", err)
	}
}

func TestProcessRejects(t *testing.T) {
	p, err := Parse([]byte(`{"image_processor_type":"CLIPImageProcessor","do_center_crop":false}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Process(nil); err == nil {
		t.Error("nil is processed")
	}
	if _, err := p.Process(image.NewGray(image.Rect(0, 0, 0, 3))); err == nil {
		t.Error("an empty image is processed")
	}
	if _, err := p.Process(image.NewGray(image.Rect(0, 0, 1<<20, 1))); err == nil {
		t.Error("a line becomes a giant")
	}
	if err := p.ProcessRGB(make([]float32, 5), make([]byte, 3), 1, 1); err == nil {
		t.Error("a small output is taken")
	}
	if err := p.ProcessRGB(make([]float32, 3*224*224), make([]byte, 5), 1, 1); err == nil {
		t.Error("a wrong number of bytes is taken")
	}
}

// TestLine: with a crop, a line is cheap, since nothing else is computed.
func TestLine(t *testing.T) {
	p, err := Parse([]byte(`{"image_processor_type":"CLIPImageProcessor"}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []image.Rectangle{image.Rect(0, 0, 100000, 1), image.Rect(0, 0, 1, 100000)} {
		if out, err := p.Process(image.NewGray(r)); err != nil || len(out) != 3*224*224 {
			t.Errorf("%v: %d values, %v", r, len(out), err)
		}
	}
}

// TestPaths: raw pixels, images and many goroutines give the same.
func TestPaths(t *testing.T) {
	g := readGolden(t)
	p, err := Parse([]byte(g.Configs["clip-small"]))
	if err != nil {
		t.Fatal(err)
	}
	img, err := Read(bytes.NewReader(g.Images["rgb-100x61.png"]))
	if err != nil {
		t.Fatal(err)
	}
	want, err := p.Process(img)
	if err != nil {
		t.Fatal(err)
	}
	var s scratch
	rgb := s.toRGB(img)
	pix := slices.Clone(rgb.data)
	sub := image.NewNRGBA(image.Rect(-3, -7, 110, 80))
	for y := range rgb.height {
		for x := range rgb.width {
			sub.Set(x, y, img.At(x, y))
		}
	}
	part, err := p.Process(sub.SubImage(image.Rect(0, 0, rgb.width, rgb.height)))
	if err != nil || !slices.Equal(part, want) {
		t.Errorf("part of an image differs, %v", err)
	}
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			out := make([]float32, len(want))
			for range 20 {
				if err := p.ProcessRGB(out, pix, rgb.height, rgb.width); err != nil || !slices.Equal(out, want) {
					t.Errorf("raw pixels differ, %v", err)
				}
			}
		})
	}
	group.Wait()
	grey := make([]byte, 30*20)
	colour := make([]byte, 3*30*20)
	for i := range grey {
		grey[i] = byte(i * 7)
		colour[3*i], colour[3*i+1], colour[3*i+2] = grey[i], grey[i], grey[i]
	}
	a, b := make([]float32, len(want)), make([]float32, len(want))
	if p.ProcessRGB(a, grey, 30, 20) != nil || p.ProcessRGB(b, colour, 30, 20) != nil || !slices.Equal(a, b) {
		t.Error("grey and grey as colour differ")
	}
}

// FuzzRead: any bytes give an error or an image that can be processed.
func FuzzRead(f *testing.F) {
	g := readGolden(f)
	for name, data := range g.Images {
		if len(data) < 3000 || strings.HasSuffix(name, ".webp") {
			f.Add(data)
		}
	}
	p, err := Parse([]byte(g.Configs["clip-small"]))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		img, err := Read(bytes.NewReader(data))
		if err != nil {
			return
		}
		if b := img.Bounds(); b.Dx()*b.Dy() > 1<<16 {
			return
		}
		if out, err := p.Process(img); err != nil || len(out) != 3*20*22 {
			t.Fatalf("%d values, %v", len(out), err)
		}
	})
}

// FuzzConfig: any file gives an error or a processor that works.
func FuzzConfig(f *testing.F) {
	for _, c := range readGolden(f).Configs {
		f.Add([]byte(c), 20, 30)
	}
	f.Fuzz(func(t *testing.T, data []byte, height, width int) {
		p, err := Parse(data)
		if err != nil || height < 1 || width < 1 || height > 300 || width > 300 {
			return
		}
		h, w, err := p.OutputSize(height, width)
		if err != nil || h > 1000 || w > 1000 {
			return
		}
		out, err := p.Process(image.NewGray(image.Rect(0, 0, width, height)))
		if err == nil && len(out) != 3*h*w {
			t.Fatalf("%d values, want [3 %d %d]", len(out), h, w)
		}
	})
}

func BenchmarkProcess(b *testing.B) {
	g := readGolden(b)
	for _, c := range []struct {
		name, config  string
		height, width int
	}{{"28", "pool", 28, 28}, {"32to28", "pool", 32, 32}, {"640x480to224", "clip", 480, 640}} {
		p, err := Parse([]byte(g.Configs[c.config]))
		if err != nil {
			b.Fatal(err)
		}
		h, w, _ := p.OutputSize(c.height, c.width)
		out, pix := make([]float32, 3*h*w), make([]byte, 3*c.height*c.width)
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := p.ProcessRGB(out, pix, c.height, c.width); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
