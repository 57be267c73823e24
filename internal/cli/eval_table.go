package cli

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"smelt/engine"
	"smelt/eval"
)

// table prints results as they come: on a terminal cell by cell, elsewhere row
// by row.
type table struct {
	w      io.Writer
	live   bool
	widths []int
	open   bool // the last line has no end yet
}

// cell shows a row under way.
func (t *table) cell(r *eval.Results, row, _ int) {
	if t.live {
		t.head(r)
		fmt.Fprint(t.w, "\r")
		t.line(r.Line(&r.Rows[row]))
		t.open = true
	}
}

// row shows a row that is done.
func (t *table) row(r *eval.Results, row int) {
	t.head(r)
	if t.live {
		fmt.Fprint(t.w, "\r")
	}
	t.line(r.Line(&r.Rows[row]))
	fmt.Fprintln(t.w)
	t.open = false
}

// end leaves the cursor on a line of its own.
func (t *table) end() {
	if t.open {
		fmt.Fprintln(t.w)
	}
}

func (t *table) head(r *eval.Results) {
	if t.widths != nil {
		return
	}
	head := r.Header()
	for _, h := range head {
		t.widths = append(t.widths, max(utf8.RuneCountInString(h), 5))
	}
	for i := range r.Rows {
		t.widths[0] = max(t.widths[0], utf8.RuneCountInString(r.Rows[i].Model))
	}
	t.line(head)
	fmt.Fprintln(t.w)
}

func (t *table) line(cells []string) {
	for i, c := range cells {
		space := strings.Repeat(" ", max(0, t.widths[i]-utf8.RuneCountInString(c)))
		if i == 0 {
			fmt.Fprint(t.w, c+space)
		} else {
			fmt.Fprint(t.w, "  "+space+c)
		}
	}
}

// examples shows how far an evaluation is, on standard error, where the table
// is not on a terminal.
func (a *app) examples() engine.Progress {
	var total, done int64
	var start, next time.Time
	if terminal(a.out) && !a.json {
		return engine.Progress{}
	}
	return engine.Progress{
		Start: func(_ string, t int64) { total, done, start, next = t, 0, time.Now(), time.Now().Add(quiet) },
		Add: func(n int64) {
			done += n
			if now := time.Now(); now.After(next) {
				next = now.Add(every)
				fmt.Fprintf(a.err, "evaluate: %d of %d examples, %.0f/s, %s\n", done, total, float64(done)/time.Since(start).Seconds(), eta(done, total, start))
			}
		},
	}
}
