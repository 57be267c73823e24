package processor

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	_ "image/gif"  // registers the decoder
	_ "image/jpeg" // registers the decoder
	_ "image/png"  // registers the decoder
	"io"
	"os"

	_ "golang.org/x/image/bmp"  // registers the decoder
	_ "golang.org/x/image/webp" // registers the decoder
)

const maxImageFile = 256 << 20

// ReadFile reads a PNG, JPEG, GIF (its first frame), WebP or BMP file. The
// size is checked before anything is decoded; the orientation in EXIF data is
// ignored, as transformers does.
func ReadFile(path string) (image.Image, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("processor: %w", err)
	}
	defer f.Close()
	img, err := Read(f)
	if err != nil {
		return nil, fmt.Errorf("%w (%s)", err, path)
	}
	return img, nil
}

// Read is ReadFile for an open file.
func Read(r io.Reader) (image.Image, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxImageFile+1))
	if err != nil {
		return nil, fmt.Errorf("processor: image: %w", err)
	}
	if len(data) > maxImageFile {
		return nil, fmt.Errorf("processor: image file of more than %d bytes", maxImageFile)
	}
	c, format, err := image.DecodeConfig(bytes.NewReader(data))
	if errors.Is(err, image.ErrFormat) {
		return nil, errors.New("processor: image: unknown format, want PNG, JPEG, GIF, WebP or BMP")
	}
	if err != nil {
		return nil, fmt.Errorf("processor: image: %w", err)
	}
	if c.Width < 1 || c.Height < 1 || c.Height > maxPixels/c.Width {
		return nil, fmt.Errorf("processor: %s image of %d×%d pixels, want 1 to %d: scale it down", format, c.Width, c.Height, maxPixels)
	}
	img, _, err := image.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("processor: %s image: %w", format, err)
	}
	switch src := img.(type) {
	case *image.YCbCr:
		if format == "webp" {
			return webpRGB(src), nil
		}
		return jpegRGB(src), nil
	case *image.NYCbCrA:
		return webpNRGBA(src), nil
	}
	if b := img.Bounds(); format == "gif" && (b.Dx() != c.Width || b.Dy() != c.Height) {
		return onCanvas(img, c), nil
	}
	return img, nil
}

// onCanvas puts the first frame of a GIF on its canvas.
func onCanvas(img image.Image, c image.Config) image.Image {
	out := image.NewNRGBA(image.Rect(0, 0, c.Width, c.Height))
	b := img.Bounds().Intersect(out.Rect)
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			out.Set(x, y, img.At(x, y))
		}
	}
	return out
}
