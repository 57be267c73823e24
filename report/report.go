// Package report shows numbers: charts as SVG and PNG, tables for a terminal,
// Markdown, CSV and HTML, and pages that hold both in one file without any
// request to elsewhere. It computes nothing: what a figure says was worked out
// by who made it, and report only decides where the ink goes.
//
// A figure is described once, by a [Chart], [Bars], [Heatmap] or [Multiples],
// and drawn by two renderers, [SVG] and [PNG], from the same marks:
//
//	chart := &report.Chart{
//		Title: "What each size buys",
//		X:     report.Axis{Label: "parameters, relative to the base", Unit: report.Times, Log: true},
//		Y:     report.Axis{Label: "mean accuracy", Unit: report.Percent},
//		Series: []report.Series{{Name: "SMILE", Line: true, Points: []report.Point{
//			{X: 1.1, Y: 0.81, Label: "rank 4"}, {X: 1.4, Y: 0.93, Low: 0.92, High: 0.94, Label: "rank 32"},
//		}}},
//		References: []report.Reference{{Name: "individual experts", Value: 0.95}},
//	}
//	err := report.PNG(w, chart, 2)
//
// Numbers are given in plain units (a share of 0.93, a size in bytes); a
// [Unit] says how they are written. NaN means "not known": a gap in a line, an
// empty cell. Names may be anything: they are escaped, cut to what fits, and
// shown whole on hover.
package report

import (
	"fmt"
	"io"
	"strings"
)

// Figure is a drawing: *[Chart], *[Bars], *[Heatmap] or *[Multiples].
type Figure interface {
	// Data returns the numbers of the figure as a table, for CSV and for readers
	// who cannot see the drawing.
	Data() *Table
	// heading is the title that the figure carries when it stands alone.
	heading() string
	// draw lays the figure out in about the given width; what cannot be
	// squeezed makes the scene wider.
	draw(width float64) *scene
	// check reports lengths that do not fit one another.
	check() error
}

// Widths of figures, in CSS pixels: on a desk, alone or in a page, and in a
// page on a phone.
const (
	wide   = 860
	narrow = 350
)

// SVG writes a figure as a stand-alone drawing. Its colours follow the
// reader's light or dark setting, its marks say their values on hover, and it
// asks for nothing from elsewhere.
func SVG(w io.Writer, f Figure) error {
	s, err := alone(f)
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, s.svg(true, f.heading()))
	return err
}

// PNG writes a figure as an image of scale pixels to the CSS pixel, in light
// colours on white; 2 is right for documents.
func PNG(w io.Writer, f Figure, scale float64) error {
	if !(scale > 0 && scale <= 8) {
		return fmt.Errorf("report: scale %g of an image: want more than 0 and at most 8", scale)
	}
	s, err := alone(f)
	if err != nil {
		return err
	}
	return s.png(w, scale)
}

// alone lays a figure out with its title and a margin around it.
func alone(f Figure) (*scene, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	const margin = 20
	body := f.draw(wide - 2*margin)
	s := &scene{width: body.width + 2*margin, height: body.height + 2*margin}
	s.rect(0, 0, s.width, s.height, "surface", "")
	top := float64(margin)
	if f.heading() != "" {
		for _, line := range wrap(f.heading(), 16, true, body.width) {
			s.text(margin, top+15, line, 16, "ink", "start", true)
			top += 21
		}
		top += 8
	}
	s.place(body, margin, top)
	s.height = top + body.height + margin
	s.marks[0].height = s.height
	return s, nil
}

// A File is one of the files of a figure or page, under a slash-separated
// path.
type File struct {
	Path string
	Data []byte
}

// Files returns a figure as PATH.svg, PATH.png and PATH.csv.
func Files(path string, f Figure) ([]File, error) {
	var svg, png, csv strings.Builder
	if err := SVG(&svg, f); err != nil {
		return nil, err
	}
	if err := PNG(&png, f, 2); err != nil {
		return nil, err
	}
	if err := f.Data().CSV(&csv); err != nil {
		return nil, err
	}
	return []File{
		{path + ".svg", []byte(svg.String())},
		{path + ".png", []byte(png.String())},
		{path + ".csv", []byte(csv.String())},
	}, nil
}
