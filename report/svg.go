package report

import (
	"encoding/xml"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// fonts is what browsers draw text with.
const fonts = `Inter,"Helvetica Neue",Helvetica,Arial,"Liberation Sans",system-ui,sans-serif`

// svg writes the scene; alone gives it its own styles, otherwise it takes the
// page's. Every colour stands twice, as an attribute for viewers without CSS
// and as a class that follows light and dark.
func (s *scene) svg(alone bool, title string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %s %s" width="%s" height="%s" role="img" aria-label="%s" font-family="%s">`,
		num(s.width), num(s.height), num(s.width), num(s.height), escape(title), escape(fonts))
	if alone {
		b.WriteString("<style>" + s.styles() + "</style>")
	}
	b.WriteByte('\n')
	for i := range s.marks {
		s.marks[i].svg(&b)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// styles are the rules of the roles that the scene uses.
func (s *scene) styles() string {
	used := map[paint]bool{}
	for _, m := range s.marks {
		used[m.fill], used[m.stroke] = true, true
	}
	delete(used, "")
	var roles []paint
	for p := range used {
		roles = append(roles, p)
	}
	slices.Sort(roles)
	return "svg{" + variables(roles, false) + "}@media(prefers-color-scheme:dark){svg{" + variables(roles, true) + "}}" + rules(roles)
}

// rules are the classes of roles: f- fills, k- strokes.
func rules(roles []paint) string {
	var b strings.Builder
	for _, p := range roles {
		fmt.Fprintf(&b, ".f-%s{fill:var(--%s)}", p, p)
		if !strings.ContainsAny(string(p[:1]), "qd") {
			fmt.Fprintf(&b, ".k-%s{stroke:var(--%s)}", p, p)
		}
	}
	return b.String()
}

func (m *mark) svg(b *strings.Builder) {
	open := func(tag string) { fmt.Fprintf(b, "<%s", tag) }
	attr := func(name, value string) { fmt.Fprintf(b, ` %s="%s"`, name, value) }
	tag := ""
	switch m.kind {
	case rectMark:
		tag = "rect"
		open(tag)
		attr("x", num(m.x))
		attr("y", num(m.y))
		attr("width", num(m.width))
		attr("height", num(m.height))
		if m.radius > 0 {
			attr("rx", num(m.radius))
		}
	case lineMark, areaMark:
		tag = "path"
		open(tag)
		attr("d", path(m.points, m.kind == areaMark))
		if m.kind == lineMark {
			attr("fill", "none")
			attr("stroke-linejoin", "round")
		}
	case dotMark:
		if symbols[m.symbol%len(symbols)] == nil {
			tag = "circle"
			open(tag)
			attr("cx", num(m.x))
			attr("cy", num(m.y))
			attr("r", num(m.radius))
		} else {
			tag = "path"
			open(tag)
			attr("d", path(m.outline(), true))
		}
	case textMark:
		tag = "text"
		open(tag)
		attr("x", num(m.x))
		attr("y", num(m.y))
		attr("font-size", num(m.size))
		if m.anchor != "start" {
			attr("text-anchor", m.anchor)
		}
		if m.bold {
			attr("font-weight", "600")
		}
		if m.turned {
			attr("transform", fmt.Sprintf("rotate(-90 %s %s)", num(m.x), num(m.y)))
		}
	}
	var classes []string
	if m.fill != "" {
		attr("fill", code(theme[m.fill].light))
		classes = append(classes, "f-"+string(m.fill))
	}
	if m.stroke != "" {
		attr("stroke", code(theme[m.stroke].light))
		attr("stroke-width", num(m.stroked))
		classes = append(classes, "k-"+string(m.stroke))
	}
	if m.opacity > 0 {
		attr("fill-opacity", num(m.opacity))
	}
	if len(m.dash) > 0 {
		attr("stroke-dasharray", num(m.dash[0])+" "+num(m.dash[1]))
	}
	if len(classes) > 0 {
		attr("class", strings.Join(classes, " "))
	}
	b.WriteByte('>')
	if m.kind == textMark {
		b.WriteString(escape(m.text))
	}
	if m.hover != "" {
		b.WriteString("<title>" + escape(m.hover) + "</title>")
	}
	fmt.Fprintf(b, "</%s>\n", tag)
	if m.wideHit && m.hover != "" {
		fmt.Fprintf(b, `<circle cx="%s" cy="%s" r="11" fill="#fff" fill-opacity="0"><title>%s</title></circle>`+"\n", num(m.x), num(m.y), escape(m.hover))
	}
}

func path(points [][2]float64, closed bool) string {
	var b strings.Builder
	for i, p := range points {
		b.WriteByte("ML"[min(i, 1)])
		b.WriteString(num(p[0]) + " " + num(p[1]))
	}
	if closed {
		b.WriteByte('Z')
	}
	return b.String()
}

// num writes a coordinate to the hundredth of a pixel.
func num(v float64) string {
	return strconv.FormatFloat(math.Round(v*100)/100, 'f', -1, 64)
}

func escape(s string) string {
	var b strings.Builder
	xml.EscapeText(&b, []byte(clean(s)))
	return b.String()
}
