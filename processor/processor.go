// Package processor turns images into the input of a vision model, as the image
// processors of transformers do (preprocessor_config.json): convert to RGB,
// resize with Pillow's filters in Pillow's 8-bit arithmetic, crop, rescale,
// normalise. From the same pixels the values are the same, bit for bit.
package processor

import (
	"fmt"
	"image"
	"os"
	"sync"
)

// Image is a loaded image processor. It is safe for concurrent use.
type Image struct {
	resize   bool
	size     target
	filter   filter
	crop     bool
	cropH    int
	cropW    int
	values   [3][256]float32 // of each byte, rescaled and normalised
	scratchs sync.Pool
}

// target says how large the resized image is: fixed, or by the shorter edge.
type target struct {
	height, width     int // fixed, if above 0
	shortest, longest int
}

const (
	maxPixels = 1 << 26 // of an image, as decoded or as resized
	maxEdge   = 1 << 16
)

// pixels is an image of packed RGB bytes, [height, width, 3].
type pixels struct {
	height, width int
	data          []byte
}

// OutputSize returns the size of what Process gives for an image of height and
// width.
func (p *Image) OutputSize(height, width int) (outHeight, outWidth int, err error) {
	height, width, err = p.resized(height, width)
	if p.crop {
		height, width = p.cropH, p.cropW
	}
	return height, width, err
}

// resized returns the size after resizing.
func (p *Image) resized(height, width int) (int, int, error) {
	if height < 1 || width < 1 || height > maxPixels/width {
		return 0, 0, fmt.Errorf("processor: image of %d×%d pixels, want 1 to %d", width, height, maxPixels)
	}
	if !p.resize {
		return height, width, nil
	}
	newHeight, newWidth := p.size.of(height, width)
	if newHeight < 1 || newWidth < 1 || newHeight > maxPixels || newWidth > maxPixels ||
		(!p.crop && newHeight > maxPixels/newWidth) {
		return 0, 0, fmt.Errorf("processor: an image of %d×%d pixels would be resized to %d×%d, want 1 to %d pixels",
			width, height, newWidth, newHeight, maxPixels)
	}
	return newHeight, newWidth, nil
}

// of returns the size for an image of height and width.
func (t target) of(height, width int) (int, int) {
	if t.shortest == 0 {
		return t.height, t.width
	}
	short, long := float64(min(height, width)), float64(max(height, width))
	size, raw := t.shortest, float64(t.shortest)
	if t.longest > 0 {
		if limited := long / short * float64(size); limited > float64(t.longest) {
			raw = float64(t.longest) * short / long
			size = roundEven(raw)
		}
		if min(height, width) == size {
			return height, width
		}
	}
	longer := int(raw * long / short)
	if width <= height {
		return longer, size
	}
	return size, longer
}

// Process returns the input for one image, float32 [3, H, W], H and W being
// those of OutputSize. Transparent pixels are put on white.
func (p *Image) Process(img image.Image) ([]float32, error) {
	if img == nil {
		return nil, fmt.Errorf("processor: no image")
	}
	bounds := img.Bounds()
	height, width, err := p.OutputSize(bounds.Dy(), bounds.Dx())
	if err != nil {
		return nil, err
	}
	s := p.scratch()
	defer p.scratchs.Put(s)
	out := make([]float32, 3*height*width)
	return out, p.process(out, s.toRGB(img), s)
}

// ProcessFile reads an image file and processes it.
func (p *Image) ProcessFile(path string) ([]float32, error) {
	img, err := ReadFile(path)
	if err != nil {
		return nil, err
	}
	return p.Process(img)
}

// ProcessRGB is Process for raw pixels: pix is [height, width, 3], or
// [height, width] for grey, and out [3, H, W]. It allocates nothing, for the
// many small images of a data set.
func (p *Image) ProcessRGB(out []float32, pix []byte, height, width int) error {
	h, w, err := p.OutputSize(height, width)
	if err != nil {
		return err
	}
	if len(out) != 3*h*w {
		return fmt.Errorf("processor: output of %d values, want [3 %d %d]", len(out), h, w)
	}
	s := p.scratch()
	defer p.scratchs.Put(s)
	switch len(pix) {
	case height * width:
		return p.process(out, s.grey(pix, height, width), s)
	case 3 * height * width:
		return p.process(out, pixels{height, width, pix}, s)
	}
	return fmt.Errorf("processor: %d bytes for an image of %d×%d pixels, want 1 or 3 a pixel", len(pix), width, height)
}

// process resizes, crops and normalises; nothing outside the crop is computed.
func (p *Image) process(out []float32, in pixels, s *scratch) error {
	fullHeight, fullWidth, err := p.resized(in.height, in.width)
	if err != nil {
		return err
	}
	height, width, top, left := fullHeight, fullWidth, 0, 0
	if p.crop {
		height, width = p.cropH, p.cropW
		top, left = floorHalf(fullHeight-height), floorHalf(fullWidth-width)
	}
	y0, y1 := max(top, 0), min(top+height, fullHeight)
	x0, x1 := max(left, 0), min(left+width, fullWidth)
	if p.resize && (fullHeight != in.height || fullWidth != in.width) {
		in, err = s.resample(in, p.filter, axis{fullHeight, y0, y1}, axis{fullWidth, x0, x1})
		if err != nil {
			return err
		}
		top, left, y1, x1 = top-y0, left-x0, y1-y0, x1-x0
		y0, x0 = 0, 0
	}
	plane := height * width
	if y1-y0 < height || x1-x0 < width { // the border is black before normalising
		for c := range 3 {
			black := p.values[c][0]
			for i := range plane {
				out[c*plane+i] = black
			}
		}
	}
	for y := y0; y < y1; y++ {
		row := in.data[3*(y*in.width+x0) : 3*(y*in.width+x1)]
		at := (y-top)*width + x0 - left
		r, g, b := out[at:at+x1-x0], out[plane+at:plane+at+x1-x0], out[2*plane+at:2*plane+at+x1-x0]
		for i := range r {
			r[i], g[i], b[i] = p.values[0][row[3*i]], p.values[1][row[3*i+1]], p.values[2][row[3*i+2]]
		}
	}
	return nil
}

// floorHalf is n/2 rounded down.
func floorHalf(n int) int { return n >> 1 }

func (p *Image) scratch() *scratch {
	if s, ok := p.scratchs.Get().(*scratch); ok {
		return s
	}
	return &scratch{}
}

// Load reads the image processor of a checkpoint directory.
func Load(dir string) (*Image, error) {
	if info, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("processor: %w", err)
	} else if !info.IsDir() {
		return nil, fmt.Errorf("processor: %s is no directory", dir)
	}
	p, err := LoadFS(os.DirFS(dir))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return p, nil
}
