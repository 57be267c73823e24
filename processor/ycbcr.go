package processor

import "image"

// Lossy files store colour at a lower resolution. Go's decoders leave it so;
// libjpeg and libwebp, which the reference uses, interpolate. The functions
// here do the same, in the same integer arithmetic.

// jpegRGB converts the planes of a JPEG as libjpeg-turbo does.
func jpegRGB(src *image.YCbCr) *RGB {
	b := src.Bounds()
	out := &RGB{make([]byte, 3*b.Dx()*b.Dy()), b.Dy(), b.Dx()}
	cb := upsample(src.Cb, src, b)
	cr := upsample(src.Cr, src, b)
	for y := range out.Height {
		luma := src.Y[y*src.YStride : y*src.YStride+out.Width]
		row := out.Pix[3*y*out.Width : 3*(y+1)*out.Width]
		blue, red := cb[y*out.Width:(y+1)*out.Width], cr[y*out.Width:(y+1)*out.Width]
		for x, l := range luma {
			v, u, w := int32(l), int32(blue[x])-128, int32(red[x])-128
			row[3*x] = clamp(v + (91881*w+1<<15)>>16)
			row[3*x+1] = clamp(v + (-22554*u-46802*w+1<<15)>>16)
			row[3*x+2] = clamp(v + (116130*u+1<<15)>>16)
		}
	}
	return out
}

func clamp(v int32) byte { return byte(min(max(v, 0), 255)) }

// upsample brings a colour plane to full size: libjpeg's "fancy" triangle
// filter where it has one, else by repetition.
func upsample(plane []byte, src *image.YCbCr, b image.Rectangle) []byte {
	width, height := b.Dx(), b.Dy()
	out := make([]byte, width*height)
	half := (width + 1) / 2
	sums := make([]int32, half)
	row := make([]byte, 2*half)
	at := func(y int) []byte { return plane[y*src.CStride:] }
	for y := range height {
		to := out[y*width : (y+1)*width]
		near, far := y/2, y/2-1+2*(y&1)
		far = min(max(far, 0), (height+1)/2-1)
		switch {
		case src.SubsampleRatio == image.YCbCrSubsampleRatio444:
			copy(to, at(y))
		case src.SubsampleRatio == image.YCbCrSubsampleRatio422 && half > 2:
			for i, v := range at(y)[:half] {
				sums[i] = int32(v)
			}
			spread(row, sums, 1, 2, 2)
			copy(to, row)
		case src.SubsampleRatio == image.YCbCrSubsampleRatio420 && half > 2:
			other := at(far)
			for i, v := range at(near)[:half] {
				sums[i] = 3*int32(v) + int32(other[i])
			}
			spread(row, sums, 8, 7, 4)
			copy(to, row)
		case src.SubsampleRatio == image.YCbCrSubsampleRatio440:
			this, other, bias := at(near), at(far), int32(1+y&1)
			for i := range to {
				to[i] = byte((3*int32(this[i]) + int32(other[i]) + bias) >> 2)
			}
		default:
			for x := range to {
				to[x] = plane[src.COffset(b.Min.X+x, b.Min.Y+y)-src.COffset(b.Min.X, b.Min.Y)]
			}
		}
	}
	return out
}

// spread doubles a row: each output is three parts of the near sum and one of
// the far one, the outermost ones four parts of their own.
func spread(out []byte, sums []int32, even, odd int32, shift uint) {
	last := len(sums) - 1
	for i, v := range sums {
		before, after := v, v
		if i > 0 {
			before = sums[i-1]
		}
		if i < last {
			after = sums[i+1]
		}
		out[2*i] = byte((3*v + before + even) >> shift)
		out[2*i+1] = byte((3*v + after + odd) >> shift)
	}
}

// webpRGB converts the planes of a lossy WebP as libwebp does.
func webpRGB(src *image.YCbCr) *RGB {
	b := src.Bounds()
	out := &RGB{make([]byte, 3*b.Dx()*b.Dy()), b.Dy(), b.Dx()}
	halfW, halfH := (out.Width+1)/2, (out.Height+1)/2
	for y := range out.Height {
		near, far := y/2, min(max(y/2-1+2*(y&1), 0), halfH-1)
		u0, u1 := src.Cb[near*src.CStride:], src.Cb[far*src.CStride:]
		v0, v1 := src.Cr[near*src.CStride:], src.Cr[far*src.CStride:]
		row := out.Pix[3*y*out.Width : 3*(y+1)*out.Width]
		for x := range out.Width {
			i, j := x/2, min(max(x/2-1+2*(x&1), 0), halfW-1)
			u, v := blend(u0[i], u0[j], u1[i], u1[j]), blend(v0[i], v0[j], v1[i], v1[j])
			luma := int32(src.Y[y*src.YStride+x]) * 19077 >> 8
			row[3*x] = clamp((luma + v*26149>>8 - 14234) >> 6)
			row[3*x+1] = clamp((luma - u*6419>>8 - v*13320>>8 + 8708) >> 6)
			row[3*x+2] = clamp((luma + u*33050>>8 - 17685) >> 6)
		}
	}
	return out
}

// webpNRGBA is webpRGB for a WebP with transparency.
func webpNRGBA(src *image.NYCbCrA) *image.NRGBA {
	rgb := webpRGB(&src.YCbCr)
	out := image.NewNRGBA(image.Rect(0, 0, rgb.Width, rgb.Height))
	for y := range rgb.Height {
		for x := range rgb.Width {
			i := y*rgb.Width + x
			copy(out.Pix[4*i:4*i+3], rgb.Pix[3*i:3*i+3])
			out.Pix[4*i+3] = src.A[y*src.AStride+x]
		}
	}
	return out
}

// blend is libwebp's weighting of the four nearest colours, 9:3:3:1, with its
// two roundings: a is nearest, b beside it, c below or above, d across.
func blend(a, b, c, d byte) int32 {
	sum := int32(a) + int32(b) + int32(c) + int32(d) + 8
	across := (sum + 2*(int32(b)+int32(c))) >> 3
	return (across + int32(a)) >> 1
}
