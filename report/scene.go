package report

import (
	"math"
	"slices"
)

// scene is a laid-out drawing: marks in the order of painting, in CSS pixels
// from the top left.
type scene struct {
	width, height float64
	marks         []mark
}

// kind is a mark's shape.
type kind int

const (
	rectMark kind = iota
	lineMark      // an open path through points
	areaMark      // a closed one, filled
	dotMark       // a symbol around x, y
	textMark
)

// mark is one shape. What a field means depends on the kind.
type mark struct {
	kind          kind
	x, y          float64 // of a rect its top left, of a text its anchor on the baseline
	width, height float64
	points        [][2]float64
	symbol        int     // of a dot
	radius        float64 // of a dot; of a rect's corners
	fill, stroke  paint
	stroked       float64 // line width
	dash          []float64
	opacity       float64 // 0 is opaque
	text          string
	size          float64
	anchor        string // "start", "middle", "end"
	bold          bool
	turned        bool   // text that reads upwards
	hover         string // shown when the mark is pointed at
	wideHit       bool   // a dot that is hit from further away than it is drawn
}

func (s *scene) rect(x, y, w, h float64, fill paint, hover string) *mark {
	s.marks = append(s.marks, mark{kind: rectMark, x: x, y: y, width: w, height: h, fill: fill, hover: hover})
	return &s.marks[len(s.marks)-1]
}

func (s *scene) line(stroke paint, width float64, points ...[2]float64) *mark {
	s.marks = append(s.marks, mark{kind: lineMark, points: points, stroke: stroke, stroked: width})
	return &s.marks[len(s.marks)-1]
}

func (s *scene) area(fill paint, opacity float64, points ...[2]float64) *mark {
	s.marks = append(s.marks, mark{kind: areaMark, points: points, fill: fill, opacity: opacity})
	return &s.marks[len(s.marks)-1]
}

func (s *scene) dot(x, y, radius float64, symbol int, fill paint, hover string) *mark {
	s.marks = append(s.marks, mark{kind: dotMark, x: x, y: y, radius: radius, symbol: symbol, fill: fill, hover: hover})
	return &s.marks[len(s.marks)-1]
}

func (s *scene) text(x, y float64, text string, size float64, fill paint, anchor string, bold bool) *mark {
	s.marks = append(s.marks, mark{kind: textMark, x: x, y: y, text: clean(text), size: size, fill: fill, anchor: anchor, bold: bold})
	return &s.marks[len(s.marks)-1]
}

// place draws another scene inside this one.
func (s *scene) place(in *scene, dx, dy float64) {
	for _, m := range in.marks {
		m.x += dx
		m.y += dy
		m.points = slices.Clone(m.points)
		for i := range m.points {
			m.points[i][0] += dx
			m.points[i][1] += dy
		}
		s.marks = append(s.marks, m)
	}
	s.width = math.Max(s.width, dx+in.width)
	s.height = math.Max(s.height, dy+in.height)
}

// symbols are the outlines of dots other than the circle, for radius 1.
var symbols = [][][2]float64{
	nil, // a circle
	{{-.9, -.9}, {.9, -.9}, {.9, .9}, {-.9, .9}},
	{{0, -1.25}, {1.25, 0}, {0, 1.25}, {-1.25, 0}},
	{{0, -1.2}, {1.15, .8}, {-1.15, .8}},
}

// outline is the polygon of a dot.
func (m *mark) outline() [][2]float64 {
	shape := symbols[m.symbol%len(symbols)]
	if shape == nil {
		const n = 24
		for i := range n {
			a := 2 * math.Pi * float64(i) / n
			shape = append(shape, [2]float64{math.Cos(a), math.Sin(a)})
		}
	}
	out := make([][2]float64, len(shape))
	for i, p := range shape {
		out[i] = [2]float64{m.x + m.radius*p[0], m.y + m.radius*p[1]}
	}
	return out
}
