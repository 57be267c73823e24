package report

import (
	"io"
	"strings"

	"github.com/mattn/go-runewidth"
)

// Terminal writes the table in aligned columns, numbers to the right, within
// width characters (0: any width). A table that is wider goes on below with
// its first column repeated, and a long first column is cut in the middle.
func (t *Table) Terminal(w io.Writer, width int) error {
	var b strings.Builder
	if t.Title != "" {
		b.WriteString(clean(t.Title) + "\n\n")
	}
	if len(t.Columns) == 0 {
		_, err := io.WriteString(w, b.String())
		return err
	}
	widths := make([]int, len(t.Columns))
	for j, c := range t.Columns {
		widths[j] = runewidth.StringWidth(c.head())
		for _, row := range t.Rows {
			widths[j] = max(widths[j], runewidth.StringWidth(cell(row, j).shown(c.Unit)))
		}
	}
	if width > 0 {
		widths[0] = min(widths[0], max(8, width*2/5))
	}
	for from := 1; ; {
		used, to := widths[0], from
		for to < len(t.Columns) && (width <= 0 || to == from || used+2+widths[to] <= width) {
			used += 2 + widths[to]
			to++
		}
		if from > 1 {
			b.WriteByte('\n')
		}
		t.block(&b, widths, from, to)
		if to >= len(t.Columns) {
			break
		}
		from = to
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// block writes column 0 and the columns from … to.
func (t *Table) block(b *strings.Builder, widths []int, from, to int) {
	columns := []int{0}
	for j := from; j < to; j++ {
		columns = append(columns, j)
	}
	line := func(text func(j int) string) {
		var parts []string
		for _, j := range columns {
			s := narrowed(text(j), widths[j])
			pad := strings.Repeat(" ", widths[j]-runewidth.StringWidth(s))
			if t.numeric(j) {
				s = pad + s
			} else {
				s += pad
			}
			parts = append(parts, s)
		}
		b.WriteString(strings.TrimRight(strings.Join(parts, "  "), " ") + "\n")
	}
	line(func(j int) string { return t.Columns[j].head() })
	line(func(j int) string { return strings.Repeat("─", widths[j]) })
	for i, row := range t.Rows {
		if name, ok := t.group(i); ok {
			if i > 0 {
				b.WriteByte('\n')
			}
			b.WriteString(name + "\n")
		}
		line(func(j int) string { return cell(row, j).shown(t.Columns[j].Unit) })
	}
}

// narrowed cuts a text in the middle to a number of terminal cells.
func narrowed(s string, width int) string {
	if runewidth.StringWidth(s) <= width {
		return s
	}
	runes := []rune(s)
	for keep := len(runes) - 1; keep > 1; keep-- {
		head := (keep + 1) / 2
		cut := string(runes[:head]) + "…" + string(runes[len(runes)-(keep-head):])
		if runewidth.StringWidth(cut) <= width {
			return cut
		}
	}
	return "…"
}
