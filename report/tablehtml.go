package report

import "strconv"

// The rest of this file is what the page's template asks of a table.

// Heads are the heads of the columns.
func (t *Table) Heads() []head {
	var out []head
	for j, c := range t.Columns {
		out = append(out, head{c.head(), clean(c.Note), t.numeric(j)})
	}
	return out
}

type head struct {
	Text, Note string
	Number     bool
}

// Bodies are the rows by group, so that sorting stays within one.
func (t *Table) Bodies() []body {
	var out []body
	for i, row := range t.Rows {
		if name, ok := t.group(i); ok || i == 0 {
			out = append(out, body{Name: name})
		}
		var cells []htmlCell
		for j, c := range t.Columns {
			cells = append(cells, cell(row, j).html(c.Unit, t.numeric(j)))
		}
		last := &out[len(out)-1]
		last.Rows = append(last.Rows, cells)
	}
	return out
}

type body struct {
	Name string
	Rows [][]htmlCell
}

type htmlCell struct {
	Text, Side, Note, Sort string
	Number, Strong         bool
}

func (c Cell) html(u Unit, numeric bool) htmlCell {
	out := htmlCell{Text: c.shown(u), Note: clean(c.note), Number: numeric, Strong: c.strong, Sort: clean(c.text)}
	if c.number {
		out.Sort = strconv.FormatFloat(c.value, 'g', -1, 64)
	}
	if c.interval() {
		bare := c
		bare.low, bare.high = 0, 0
		whole := []rune(out.Text)
		out.Text = bare.shown(u)
		out.Side = string(whole[len([]rune(out.Text)):])
		interval := u.Format(c.low) + " to " + u.Format(c.high)
		if out.Note != "" {
			interval += " · "
		}
		out.Note = interval + out.Note
	}
	return out
}
