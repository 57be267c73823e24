package processor

import (
	"fmt"
	"math"
)

// filter is one of Pillow's resampling filters.
type filter struct {
	support float64 // 0: nearest
	weight  func(x float64) float64
}

// filters by their number in Pillow.
var filters = map[int]filter{
	0: {},
	1: {3, lanczos},
	2: {1, bilinear},
	3: {2, bicubic},
	4: {0.5, box},
	5: {1, hamming},
}

func box(x float64) float64 {
	if x > -0.5 && x <= 0.5 {
		return 1
	}
	return 0
}

func bilinear(x float64) float64 { return max(0, 1-math.Abs(x)) }

func hamming(x float64) float64 {
	x = math.Abs(x)
	if x == 0 {
		return 1
	}
	if x >= 1 {
		return 0
	}
	x *= math.Pi
	return math.Sin(x) / x * float64(0.54+float64(0.46*math.Cos(x)))
}

func bicubic(x float64) float64 {
	const a = -0.5
	x = math.Abs(x)
	switch {
	case x < 1:
		return float64(float64(float64(float64((a+2)*x)-(a+3))*x)*x) + 1
	case x < 2:
		return float64(float64(float64(float64(float64(x-5)*x)+8)*x)-4) * a
	}
	return 0
}

func lanczos(x float64) float64 {
	if x < -3 || x >= 3 {
		return 0
	}
	return sinc(x) * sinc(x/3)
}

func sinc(x float64) float64 {
	if x == 0 {
		return 1
	}
	x *= math.Pi
	return math.Sin(x) / x
}

// axis is the part first to end of an edge that is resized to size.
type axis struct{ size, first, end int }

// weights holds, for each output position of an axis, where its input begins
// and the fixed-point weights of it.
type weights struct {
	starts []int
	counts []int
	width  int // weights a position
	values []int32
}

// precision is how many bits of a weight lie behind the point.
const precision = 32 - 8 - 2

const maxWeights = 1 << 26

// prepare computes the weights of an axis with in input positions.
func (w *weights) prepare(in int, a axis, f filter) error {
	scale := float64(in) / float64(a.size)
	stretch := max(scale, 1)
	support := f.support * stretch
	w.width = int(math.Ceil(support))*2 + 1
	count := a.end - a.first
	if w.width > maxWeights/max(count, 1) {
		return fmt.Errorf("processor: shrinking %d pixels to %d takes too many weights", in, a.size)
	}
	w.starts, w.counts = grown(w.starts, count), grown(w.counts, count)
	w.values = grown(w.values, count*w.width)
	clear(w.values)
	shrink := 1 / stretch
	exact := make([]float64, w.width)
	for i := range count {
		center := float64(float64(a.first+i)+0.5) * scale
		start := max(int(center-support+0.5), 0)
		end := min(int(center+support+0.5), in)
		sum := 0.0
		for x := range end - start {
			exact[x] = f.weight(float64(float64(x+start)-center+0.5) * shrink)
			sum += exact[x]
		}
		for x := range end - start {
			v := exact[x]
			if sum != 0 {
				v /= sum
			}
			v = float64(v * (1 << precision))
			if v < 0 {
				w.values[i*w.width+x] = int32(v - 0.5)
			} else {
				w.values[i*w.width+x] = int32(v + 0.5)
			}
		}
		w.starts[i], w.counts[i] = start, end-start
	}
	return nil
}

// scratch is the working memory of one image.
type scratch struct {
	rgb, half, full []byte
	rows, columns   weights
}

func grown[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}

// resample returns the part of the resized image that the axes name, in two
// passes with rounding to bytes in between. Like Pillow 13 it takes the columns
// first where that removes more than twice as many rows as the other removes
// columns, and else the rows first.
func (s *scratch) resample(in pixels, f filter, rows, columns axis) (pixels, error) {
	height, width := max(rows.end-rows.first, 0), max(columns.end-columns.first, 0)
	if height*width == 0 {
		return pixels{height, width, nil}, nil
	}
	if f.support == 0 {
		return s.nearest(in, rows, columns), nil
	}
	if rows.size != in.height {
		if err := s.rows.prepare(in.height, rows, f); err != nil {
			return pixels{}, err
		}
	} else {
		s.rows.identity(rows)
	}
	if columns.size != in.width {
		if err := s.columns.prepare(in.width, columns, f); err != nil {
			return pixels{}, err
		}
	} else {
		s.columns.identity(columns)
	}
	out := pixels{height, width, grown(s.full, 3*height*width)}
	s.full = out.data
	if rows.size < in.height && in.height-rows.size > 2*(in.width-columns.size) {
		left, right := s.columns.reach()
		half := pixels{height, right - left, grown(s.half, 3*height*(right-left))}
		s.half = half.data
		for y := range height {
			s.rows.vertical(half.row(y), in, left, s.rows.starts[y], y)
		}
		for y := range height {
			s.columns.horizontal(out.row(y), half.row(y), left)
		}
		return out, nil
	}
	top, bottom := s.rows.reach()
	half := pixels{bottom - top, width, grown(s.half, 3*(bottom-top)*width)}
	s.half = half.data
	for y := range half.height {
		s.columns.horizontal(half.row(y), in.row(top+y), 0)
	}
	for y := range height {
		s.rows.vertical(out.row(y), half, 0, s.rows.starts[y]-top, y)
	}
	return out, nil
}

// row returns the bytes of one row.
func (p pixels) row(y int) []byte { return p.data[3*y*p.width : 3*(y+1)*p.width] }

// reach returns the range of input positions that the weights touch.
func (w *weights) reach() (first, end int) {
	last := len(w.starts) - 1
	return w.starts[0], w.starts[last] + w.counts[last]
}

// identity takes each position as it is.
func (w *weights) identity(a axis) {
	count := a.end - a.first
	w.width, w.starts, w.counts, w.values = 1, grown(w.starts, count), grown(w.counts, count), grown(w.values, count)
	for i := range count {
		w.starts[i], w.counts[i], w.values[i] = a.first+i, 1, 1<<precision
	}
}

// horizontal resamples one row, whose first pixel is at position shift.
func (w *weights) horizontal(out, in []byte, shift int) {
	for i, start := range w.starts {
		k := w.values[i*w.width : i*w.width+w.counts[i]]
		row := in[3*(start-shift) : 3*(start-shift+len(k))]
		r, g, b := int32(1<<(precision-1)), int32(1<<(precision-1)), int32(1<<(precision-1))
		for x, weight := range k {
			p := row[3*x : 3*x+3 : 3*x+3]
			r += int32(p[0]) * weight
			g += int32(p[1]) * weight
			b += int32(p[2]) * weight
		}
		out[3*i], out[3*i+1], out[3*i+2] = clip(r), clip(g), clip(b)
	}
}

// vertical resamples to output row y, from the rows of in at start and its
// columns at left.
func (w *weights) vertical(out []byte, in pixels, left, start, y int) {
	k := w.values[y*w.width : y*w.width+w.counts[y]]
	stride := 3 * in.width
	for x := range out {
		sum := int32(1 << (precision - 1))
		at := start*stride + 3*left + x
		for _, weight := range k {
			sum += int32(in.data[at]) * weight
			at += stride
		}
		out[x] = clip(sum)
	}
}

// clip drops the fraction and keeps a byte.
func clip(v int32) byte {
	v >>= precision
	if v < 0 {
		return 0
	}
	if v > 255 {
		return 255
	}
	return byte(v)
}

// nearest takes, for each output pixel, the input pixel under its centre.
func (s *scratch) nearest(in pixels, rows, columns axis) pixels {
	height, width := rows.end-rows.first, columns.end-columns.first
	s.full = grown(s.full, 3*height*width)
	ys, xs := centres(in.height, rows), centres(in.width, columns)
	for y, from := range ys {
		for x, at := range xs {
			copy(s.full[3*(y*width+x):3*(y*width+x)+3], in.data[3*(from*in.width+at):])
		}
	}
	return pixels{height, width, s.full}
}

// centres adds up the steps one by one, as Pillow does.
func centres(in int, a axis) []int {
	step := float64(in) / float64(a.size)
	at := step * 0.5
	out := make([]int, 0, a.end-a.first)
	for i := range a.end {
		if i >= a.first {
			out = append(out, min(int(at), in-1))
		}
		at += step
	}
	return out
}
