package processor

import (
	"image"
	"image/color"
)

// toRGB returns the pixels of img as RGB bytes: grey is repeated, the upper
// byte of 16-bit colours is taken (16-bit grey is cut off at 255), and CMYK and transparency are treated as Pillow
// and transformers do.
func (s *scratch) toRGB(img image.Image) pixels {
	b := img.Bounds()
	out := pixels{b.Dy(), b.Dx(), nil}
	s.rgb = grown(s.rgb, 3*out.height*out.width)
	out.data = s.rgb
	for y := range out.height {
		row := out.data[3*y*out.width : 3*(y+1)*out.width]
		switch src := img.(type) {
		case *RGB:
			copy(row, src.Pix[3*((b.Min.Y+y)*src.Width+b.Min.X):])
		case *image.Gray:
			greyRow(row, src.Pix[src.PixOffset(b.Min.X, b.Min.Y+y):])
		case *image.Gray16: // Pillow cuts off at 255
			pix := src.Pix[src.PixOffset(b.Min.X, b.Min.Y+y):]
			for x := range out.width {
				v := pix[2*x+1]
				if pix[2*x] != 0 {
					v = 255
				}
				put(row[3*x:3*x+3], v, v, v, 255)
			}
		case *image.NRGBA:
			pix := src.Pix[src.PixOffset(b.Min.X, b.Min.Y+y):]
			for x := range out.width {
				p := pix[4*x : 4*x+4 : 4*x+4]
				put(row[3*x:3*x+3], p[0], p[1], p[2], p[3])
			}
		case *image.Paletted:
			pix := src.Pix[src.PixOffset(b.Min.X, b.Min.Y+y):]
			for x := range out.width {
				c := color.NRGBA{}
				if int(pix[x]) < len(src.Palette) {
					c = straight(src.Palette[pix[x]])
				}
				put(row[3*x:3*x+3], c.R, c.G, c.B, c.A)
			}
		case *image.CMYK:
			pix := src.Pix[src.PixOffset(b.Min.X, b.Min.Y+y):]
			for x := range out.width {
				fromCMYK(row[3*x:3*x+3], pix[4*x:4*x+4])
			}
		default:
			for x := range out.width {
				c := straight(img.At(b.Min.X+x, b.Min.Y+y))
				put(row[3*x:3*x+3], c.R, c.G, c.B, c.A)
			}
		}
	}
	return out
}

// straight returns c without premultiplied alpha, as its upper bytes.
func straight(c color.Color) color.NRGBA {
	switch c := c.(type) {
	case color.NRGBA:
		return c
	case color.NRGBA64:
		return color.NRGBA{byte(c.R >> 8), byte(c.G >> 8), byte(c.B >> 8), byte(c.A >> 8)}
	case color.RGBA64:
		if c.A == 0xFFFF {
			return color.NRGBA{byte(c.R >> 8), byte(c.G >> 8), byte(c.B >> 8), 255}
		}
	}
	return color.NRGBAModel.Convert(c).(color.NRGBA)
}

// put writes a pixel on a white ground, in Pillow's arithmetic.
func put(out []byte, r, g, b, a byte) {
	switch a {
	case 255:
		out[0], out[1], out[2] = r, g, b
		return
	case 0:
		out[0], out[1], out[2] = 255, 255, 255
		return
	}
	const bits = 7
	// Over an opaque ground the result is opaque: 255·a + 255·(255 − a).
	front := uint32(a) * 255 * 255 * (1 << bits) / (255 * 255)
	back := 255*(1<<bits) - front
	for i, v := range [3]byte{r, g, b} {
		sum := uint32(v)*front + 255*back + 0x80<<bits
		out[i] = byte((sum>>8 + sum) >> 8 >> bits)
	}
}

// fromCMYK is Pillow's conversion: k scales, c, m and y are subtracted.
func fromCMYK(out, in []byte) {
	white := 255 - int(in[3])
	for i := range 3 {
		product := int(in[i])*white + 128
		out[i] = byte(min(max(white-(product>>8+product)>>8, 0), 255))
	}
}

func greyRow(out, in []byte) {
	for x := range len(out) / 3 {
		out[3*x], out[3*x+1], out[3*x+2] = in[x], in[x], in[x]
	}
}

// grey repeats a grey image to three channels.
func (s *scratch) grey(pix []byte, height, width int) pixels {
	s.rgb = grown(s.rgb, 3*height*width)
	greyRow(s.rgb, pix)
	return pixels{height, width, s.rgb}
}

// RGB is an image of packed RGB bytes, [Height, Width, 3].
type RGB struct {
	Pix           []byte
	Height, Width int
}

// ColorModel implements image.Image.
func (m *RGB) ColorModel() color.Model { return color.NRGBAModel }

// Bounds implements image.Image.
func (m *RGB) Bounds() image.Rectangle { return image.Rect(0, 0, m.Width, m.Height) }

// At implements image.Image.
func (m *RGB) At(x, y int) color.Color {
	if !(image.Point{x, y}).In(m.Bounds()) {
		return color.NRGBA{}
	}
	p := m.Pix[3*(y*m.Width+x):]
	return color.NRGBA{p[0], p[1], p[2], 255}
}
