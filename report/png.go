package report

import (
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io"
	"math"

	"golang.org/x/image/font/sfnt"
	"golang.org/x/image/math/fixed"
	"golang.org/x/image/vector"
)

// pixels bounds the size of an image.
const pixels = 64 << 20

// png paints the scene in light colours.
func (s *scene) png(w io.Writer, scale float64) error {
	width, height := math.Ceil(s.width*scale), math.Ceil(s.height*scale)
	if width*height > pixels {
		return fmt.Errorf("report: an image of %.0f × %.0f pixels is more than %d million: use a smaller scale or SVG", width, height, pixels>>20)
	}
	img := image.NewRGBA(image.Rect(0, 0, int(width), int(height)))
	draw.Draw(img, img.Bounds(), image.White, image.Point{}, draw.Src)
	p := &painter{img: img, scale: scale}
	for i := range s.marks {
		p.mark(&s.marks[i])
	}
	return png.Encode(w, img)
}

// painter fills polygons on an image, in CSS pixels.
type painter struct {
	img   *image.RGBA
	scale float64
	buf   sfnt.Buffer
}

func (p *painter) mark(m *mark) {
	switch m.kind {
	case rectMark:
		corners := [][2]float64{{m.x, m.y}, {m.x + m.width, m.y}, {m.x + m.width, m.y + m.height}, {m.x, m.y + m.height}}
		p.fill(m.fill, m.opacity, corners)
		if m.stroke != "" {
			p.stroke(m, append(corners, corners[0]))
		}
	case areaMark:
		p.fill(m.fill, m.opacity, m.points)
	case lineMark:
		p.stroke(m, m.points)
	case dotMark:
		outline := m.outline()
		p.fill(m.fill, m.opacity, outline)
		if m.stroke != "" {
			p.stroke(m, append(outline, outline[0]))
		}
	case textMark:
		p.text(m)
	}
}

// fill paints polygons as one shape; all of them turn the same way.
func (p *painter) fill(role paint, opacity float64, polygons ...[][2]float64) {
	if role == "" {
		return
	}
	low, high := [2]float64{math.Inf(1), math.Inf(1)}, [2]float64{math.Inf(-1), math.Inf(-1)}
	for _, poly := range polygons {
		for _, q := range poly {
			for i := range 2 {
				low[i], high[i] = math.Min(low[i], q[i]*p.scale), math.Max(high[i], q[i]*p.scale)
			}
		}
	}
	p.paint(role, opacity, low, high, func(r *vector.Rasterizer, dx, dy float64) {
		at := func(q [2]float64) (float32, float32) {
			return float32(q[0]*p.scale - dx), float32(q[1]*p.scale - dy)
		}
		for _, poly := range polygons {
			if len(poly) < 3 {
				continue
			}
			r.MoveTo(at(poly[0]))
			for _, q := range poly[1:] {
				r.LineTo(at(q))
			}
			r.ClosePath()
		}
	})
}

// paint rasterises a shape within a box of image pixels and blends it in.
func (p *painter) paint(role paint, opacity float64, low, high [2]float64, shape func(r *vector.Rasterizer, dx, dy float64)) {
	box := image.Rect(int(math.Floor(low[0])), int(math.Floor(low[1])), int(math.Ceil(high[0]))+1, int(math.Ceil(high[1]))+1)
	box = box.Intersect(p.img.Bounds())
	if !(low[0] <= high[0]) || box.Empty() {
		return
	}
	r := vector.NewRasterizer(box.Dx(), box.Dy())
	shape(r, float64(box.Min.X), float64(box.Min.Y))
	c := theme[role].light
	if opacity > 0 {
		a := opacity
		c = color.RGBA{uint8(float64(c.R) * a), uint8(float64(c.G) * a), uint8(float64(c.B) * a), uint8(255 * a)}
	}
	r.Draw(p.img, box, image.NewUniform(c), image.Point{})
}

// stroke paints a line as quads with round joins.
func (p *painter) stroke(m *mark, points [][2]float64) {
	var polygons [][][2]float64
	half := m.stroked / 2
	for _, piece := range dashed(points, m.dash) {
		for i, q := range piece {
			if i+1 < len(piece) {
				next := piece[i+1]
				dx, dy := next[0]-q[0], next[1]-q[1]
				n := math.Hypot(dx, dy)
				if n == 0 {
					continue
				}
				nx, ny := -dy/n*half, dx/n*half
				polygons = append(polygons, [][2]float64{{q[0] - nx, q[1] - ny}, {next[0] - nx, next[1] - ny}, {next[0] + nx, next[1] + ny}, {q[0] + nx, q[1] + ny}})
			}
			if i > 0 && i+1 < len(piece) {
				joint := mark{x: q[0], y: q[1], radius: half}
				polygons = append(polygons, joint.outline())
			}
		}
	}
	p.fill(m.stroke, 0, polygons...)
}

// dashed cuts a line into its dashes.
func dashed(points [][2]float64, dash []float64) [][][2]float64 {
	if len(dash) < 2 || len(points) < 2 {
		return [][][2]float64{points}
	}
	var pieces [][][2]float64
	on, left := true, dash[0]
	piece := [][2]float64{points[0]}
	for i := 0; i+1 < len(points); i++ {
		from, to := points[i], points[i+1]
		length := math.Hypot(to[0]-from[0], to[1]-from[1])
		for done := 0.0; done < length; {
			step := math.Min(left, length-done)
			done += step
			left -= step
			t := done / length
			at := [2]float64{from[0] + t*(to[0]-from[0]), from[1] + t*(to[1]-from[1])}
			if on {
				piece = append(piece, at)
			}
			if left <= 0 {
				if on {
					pieces = append(pieces, piece)
					left = dash[1]
				} else {
					piece = [][2]float64{at}
					left = dash[0]
				}
				on = !on
			}
		}
	}
	if on && len(piece) > 1 {
		pieces = append(pieces, piece)
	}
	return pieces
}

// spelled are characters that the fonts lack and that can be said otherwise.
var spelled = map[rune]string{'‖': "||", 'ᵢ': "i", '∥': "||", '✓': "√"}

// text paints glyphs from their outlines.
func (p *painter) text(m *mark) {
	f := face(m.bold)
	text := ""
	for _, r := range m.text {
		if s, ok := spelled[r]; ok {
			text += s
		} else {
			text += string(r)
		}
	}
	pen := 0.0
	switch w := textWidth(text, m.size, m.bold); m.anchor {
	case "middle":
		pen = -w / 2
	case "end":
		pen = -w
	}
	const unit = 1000
	for _, r := range text {
		g, err := f.GlyphIndex(&p.buf, r)
		if err != nil {
			continue
		}
		segments, err := f.LoadGlyph(&p.buf, g, fixed.I(unit), nil)
		step := advance(f, &p.buf, r, m.size)
		if err != nil || len(segments) == 0 {
			pen += step
			continue
		}
		// at maps a point of the glyph to image pixels.
		at := func(q fixed.Point26_6) [2]float64 {
			x, y := pen+float64(q.X)/64/unit*m.size, float64(q.Y)/64/unit*m.size
			if m.turned {
				x, y = y, -x
			}
			return [2]float64{(m.x + x) * p.scale, (m.y + y) * p.scale}
		}
		low, high := [2]float64{math.Inf(1), math.Inf(1)}, [2]float64{math.Inf(-1), math.Inf(-1)}
		for _, seg := range segments {
			for _, q := range seg.Args[:arguments(seg.Op)] {
				for i, v := range at(q) {
					low[i], high[i] = math.Min(low[i], v), math.Max(high[i], v)
				}
			}
		}
		p.paint(m.fill, 0, low, high, func(r *vector.Rasterizer, dx, dy float64) {
			to := func(q fixed.Point26_6) (float32, float32) {
				v := at(q)
				return float32(v[0] - dx), float32(v[1] - dy)
			}
			for _, seg := range segments {
				ax, ay := to(seg.Args[0])
				bx, by := to(seg.Args[1])
				cx, cy := to(seg.Args[2])
				switch seg.Op {
				case sfnt.SegmentOpMoveTo:
					r.ClosePath()
					r.MoveTo(ax, ay)
				case sfnt.SegmentOpLineTo:
					r.LineTo(ax, ay)
				case sfnt.SegmentOpQuadTo:
					r.QuadTo(ax, ay, bx, by)
				case sfnt.SegmentOpCubeTo:
					r.CubeTo(ax, ay, bx, by, cx, cy)
				}
			}
			r.ClosePath()
		})
		pen += step
	}
}

// arguments is the number of points of a glyph's segment.
func arguments(op sfnt.SegmentOp) int {
	switch op {
	case sfnt.SegmentOpQuadTo:
		return 2
	case sfnt.SegmentOpCubeTo:
		return 3
	}
	return 1
}
