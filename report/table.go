package report

import (
	"encoding/csv"
	"io"
	"math"
	"strconv"
	"strings"
)

// Table is numbers and names in rows, written to a terminal by
// [Table.Terminal], as Markdown, as CSV, and in a [Page] as a table that sorts.
type Table struct {
	Title   string
	Columns []Column
	Rows    [][]Cell
	// Groups, where given, are titles that stand before the rows of these
	// indices, in order.
	Groups []Group
}

// Group titles the rows from At on.
type Group struct {
	At   int
	Name string
}

// Column is a column's name and how its numbers are written.
type Column struct {
	Name string
	Unit Unit
	// Note explains the column, on hover.
	Note string
}

// Cell is a text or a number; the zero Cell is empty.
type Cell struct {
	text      string
	value     float64
	number    bool
	low, high float64
	note      string
	strong    bool
}

// Text is a cell of text.
func Text(s string) Cell { return Cell{text: s} }

// Num is a cell of a number in its column's unit; NaN is shown as a dash.
func Num(v float64) Cell { return Cell{value: v, number: true} }

// Within adds the ends of a confidence interval to a number.
func (c Cell) Within(low, high float64) Cell {
	c.low, c.high = low, high
	return c
}

// Noted adds what is shown on hover.
func (c Cell) Noted(note string) Cell {
	c.note = note
	return c
}

// Strong sets a cell off from the others: the best of its kind.
func (c Cell) Strong() Cell {
	c.strong = true
	return c
}

// interval tells whether the cell has one.
func (c Cell) interval() bool { return c.number && c.low != c.high }

// shown is the cell for people. An interval is written as its larger side;
// both ends are in the CSV and on hover.
func (c Cell) shown(u Unit) string {
	if !c.number {
		return clean(c.text)
	}
	s := u.Format(c.value)
	if u == Percent {
		s = strings.TrimSuffix(s, percent)
	}
	if !c.interval() || math.IsNaN(c.value) {
		return s
	}
	side := math.Max(c.value-c.low, c.high-c.value)
	if u == Percent {
		return s + " ±" + number(100*side, 1)
	}
	return s + " ±" + u.Format(side)
}

// head is the column's name with what its cells leave out.
func (c Column) head() string {
	if c.Unit == Percent {
		return strings.TrimSpace(clean(c.Name) + " %")
	}
	return clean(c.Name)
}

// numeric tells whether a column holds numbers.
func (t *Table) numeric(j int) bool {
	for _, row := range t.Rows {
		if j < len(row) && row[j].number {
			return true
		}
	}
	return false
}

// cell is the cell of a row, empty where the row is short.
func cell(row []Cell, j int) Cell {
	if j < len(row) {
		return row[j]
	}
	return Cell{}
}

// group is the title that stands before row i.
func (t *Table) group(i int) (string, bool) {
	for _, g := range t.Groups {
		if g.At == i {
			return clean(g.Name), true
		}
	}
	return "", false
}

// CSV writes the table in plain units and full precision, one header row; a
// column with intervals is followed by its low and high ends. Groups become a
// first column.
func (t *Table) CSV(w io.Writer) error {
	out := csv.NewWriter(w)
	var header []string
	ranged := make([]bool, len(t.Columns))
	if len(t.Groups) > 0 {
		header = append(header, "group")
	}
	for j, c := range t.Columns {
		header = append(header, clean(c.Name))
		for _, row := range t.Rows {
			ranged[j] = ranged[j] || cell(row, j).interval()
		}
		if ranged[j] {
			header = append(header, clean(c.Name)+" low", clean(c.Name)+" high")
		}
	}
	if err := out.Write(header); err != nil {
		return err
	}
	group := ""
	for i, row := range t.Rows {
		var record []string
		if len(t.Groups) > 0 {
			if name, ok := t.group(i); ok {
				group = name
			}
			record = append(record, group)
		}
		for j := range t.Columns {
			c := cell(row, j)
			record = append(record, c.plain())
			if ranged[j] && c.interval() {
				record = append(record, plain(c.low), plain(c.high))
			} else if ranged[j] {
				record = append(record, "", "")
			}
		}
		if err := out.Write(record); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

// plain is the cell for machines.
func (c Cell) plain() string {
	if c.number {
		return plain(c.value)
	}
	return clean(c.text)
}

// plain writes a number for machines; what is not known is empty.
func plain(v float64) string {
	if math.IsNaN(v) {
		return ""
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

// Markdown writes the table as GitHub's Markdown, numbers to the right.
func (t *Table) Markdown(w io.Writer) error {
	var b strings.Builder
	for _, c := range t.Columns {
		b.WriteString("| " + markdown(c.head()) + " ")
	}
	b.WriteString("|\n")
	for j := range t.Columns {
		if t.numeric(j) {
			b.WriteString("|---:")
		} else {
			b.WriteString("|---")
		}
	}
	b.WriteString("|\n")
	for i, row := range t.Rows {
		if name, ok := t.group(i); ok {
			b.WriteString("| **" + markdown(name) + "** " + strings.Repeat("| ", max(0, len(t.Columns)-1)) + "|\n")
		}
		for j, c := range t.Columns {
			cell := cell(row, j)
			text := markdown(cell.shown(c.Unit))
			if cell.strong && text != "" {
				text = "**" + text + "**"
			}
			b.WriteString("| " + text + " ")
		}
		b.WriteString("|\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// markdown takes the meaning from characters that would have one.
func markdown(s string) string {
	var b strings.Builder
	for _, r := range s {
		if strings.ContainsRune("|\\`*_[]<>~#", r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}
