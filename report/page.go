package report

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"image"
	"image/png"
	"io"
	"regexp"
	"slices"
	"strings"
)

// Page is a document in one HTML file: light and dark, on a desk, on a phone
// and on paper, with hover values and tables that sort. It asks for nothing
// from elsewhere, and its policy forbids it to.
type Page struct {
	Title    string
	Lead     string // what the page is and what it says, in a sentence or two
	Facts    []Fact // the figures to remember, in a row at the top
	Sections []Section
	Foot     string // how it was made
}

// Fact is a figure to remember: Value is the text in large type.
type Fact struct{ Value, Name, Note string }

// Section is a chapter of a page, with a place in its contents.
type Section struct {
	Title  string
	Lead   string
	Blocks []Block
}

// Block is what a section is made of: [Prose], [List], [Code], [Plot], [Grid],
// [Gallery], [Details].
type Block interface {
	check(names map[string]bool) error
}

// Prose is a paragraph.
type Prose string

// List is short statements, one below the other.
type List []string

// Code is text to copy, such as a command.
type Code string

// Plot is a figure with the sentence on how to read it. Its Name, of small
// letters, digits and hyphens, names its files.
type Plot struct {
	Name   string
	Figure Figure
	Read   string
}

// Grid is a table with the sentence on how to read it. Its Name names its
// file.
type Grid struct {
	Name  string
	Table *Table
	Read  string
}

// Gallery is samples side by side.
type Gallery struct {
	Title string
	Read  string
	Items []Sample
}

// Sample is an image with what was said about it.
type Sample struct {
	Image image.Image
	Title string
	Lines []Line
}

// Line is one model's word on a sample.
type Line struct {
	Name  string
	Text  string
	Note  string // on hover
	Right Verdict
}

// Verdict says whether a prediction is right.
type Verdict int

// The verdicts.
const (
	NoVerdict Verdict = iota
	Correct
	Mistaken
)

// Details are blocks that the reader opens.
type Details struct {
	Title  string
	Blocks []Block
}

//go:embed page.html
var pageHTML string

//go:embed page.css
var pageCSS string

//go:embed page.js
var pageJS string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{"kind": blockKind, "clean": clean, "args": withLinks, "sentence": sentence}).Parse(pageHTML))

// HTML writes the page.
func (p *Page) HTML(w io.Writer) error { return p.html(w, false) }

// Files returns the page as index.html, which links the files of its figures
// and tables, and those under figures/: each figure as SVG, PNG and CSV, each
// table as CSV.
func (p *Page) Files() ([]File, error) {
	var index bytes.Buffer
	if err := p.html(&index, true); err != nil {
		return nil, err
	}
	files := []File{{"index.html", index.Bytes()}}
	for _, b := range p.blocks() {
		switch b := b.(type) {
		case Plot:
			plot, err := Files("figures/"+b.Name, b.Figure)
			if err != nil {
				return nil, err
			}
			files = append(files, plot...)
		case Grid:
			var csv bytes.Buffer
			if err := b.Table.CSV(&csv); err != nil {
				return nil, err
			}
			files = append(files, File{"figures/" + b.Name + ".csv", csv.Bytes()})
		}
	}
	return files, nil
}

// blocks are all blocks, those in details too.
func (p *Page) blocks() []Block {
	var out []Block
	var walk func(blocks []Block)
	walk = func(blocks []Block) {
		for _, b := range blocks {
			out = append(out, b)
			if d, ok := b.(Details); ok {
				walk(d.Blocks)
			}
		}
	}
	for _, s := range p.Sections {
		walk(s.Blocks)
	}
	return out
}

func (p *Page) html(w io.Writer, linked bool) error {
	names := map[string]bool{}
	for _, b := range p.blocks() {
		if err := b.check(names); err != nil {
			return err
		}
	}
	roles := make([]paint, 0, len(theme))
	for r := range theme {
		roles = append(roles, r)
	}
	slices.Sort(roles)
	light, dark := variables(roles, false), variables(roles, true)
	css := ":root{" + light + "}\n@media(prefers-color-scheme:dark){:root{" + dark + "}}\n@media print{:root{" + light + "}}\n" + rules(roles) + "\n" + pageCSS
	script := strings.TrimSpace(pageJS)
	sum := sha256.Sum256([]byte(script))
	return pageTemplate.Execute(w, map[string]any{
		"Page":   p,
		"CSS":    template.CSS(css),
		"JS":     template.HTML("<script>" + script + "</script>"),
		"Policy": "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'",
		"Linked": linked,
	})
}

// linkedBlock is a block, and whether its files are linked.
type linkedBlock struct {
	Block  Block
	Linked bool
}

func withLinks(b Block, linked bool) linkedBlock { return linkedBlock{b, linked} }

// sentence ends a title with a full stop, unless it has an end.
func sentence(title string) string {
	title = clean(title)
	if title == "" || strings.ContainsAny(title[len(title)-1:], ".?!:") {
		return title
	}
	return title + "."
}

// blockKind names a block for the template.
func blockKind(b Block) string { return strings.TrimPrefix(fmt.Sprintf("%T", b), "report.") }

var fileName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*$`)

// checkName keeps the names of files apart.
func checkName(name string, names map[string]bool) error {
	if !fileName.MatchString(name) {
		return fmt.Errorf("report: name %q of a figure: want small letters, digits and hyphens", name)
	}
	if names[name] {
		return fmt.Errorf("report: two figures are named %q", name)
	}
	names[name] = true
	return nil
}

func (Prose) check(map[string]bool) error   { return nil }
func (List) check(map[string]bool) error    { return nil }
func (Code) check(map[string]bool) error    { return nil }
func (Gallery) check(map[string]bool) error { return nil }
func (Details) check(map[string]bool) error { return nil }

func (p Plot) check(names map[string]bool) error {
	if err := checkName(p.Name, names); err != nil {
		return err
	}
	return p.Figure.check()
}

func (g Grid) check(names map[string]bool) error { return checkName(g.Name, names) }

// Title is the figure's title, for its caption.
func (p Plot) Title() string { return p.Figure.heading() }

// Drawings are the figure for a desk and, where that differs, for a phone.
func (p Plot) Drawings() []drawing {
	desk := p.Figure.draw(wide)
	out := []drawing{{"desk", desk.width > wide+1, template.HTML(desk.svg(false, p.Figure.heading()))}}
	phone := p.Figure.draw(narrow)
	return append(out, drawing{"phone", phone.width > narrow+1, template.HTML(phone.svg(false, p.Figure.heading()))})
}

// drawing is a figure laid out for a width.
type drawing struct {
	For  string
	Wide bool // it is wider than asked and scrolls
	SVG  template.HTML
}

// URI is the image as a data URI.
func (s Sample) URI() (template.URL, error) {
	var b bytes.Buffer
	if err := png.Encode(&b, s.Image); err != nil {
		return "", err
	}
	return template.URL("data:image/png;base64," + base64.StdEncoding.EncodeToString(b.Bytes())), nil
}

// Small tells that an image has few pixels, which are then shown as squares.
func (s Sample) Small() bool { return s.Image.Bounds().Dx() < 96 }

// Mark is the sign of a verdict.
func (l Line) Mark() string { return []string{"", "✓", "✗"}[l.Right] }

// Class is the style of a verdict.
func (l Line) Class() string { return []string{"", "right", "wrong"}[l.Right] }
