package report

import (
	"encoding/csv"
	"math"
	"strings"
	"testing"

	"github.com/mattn/go-runewidth"
)

func TestTerminal(t *testing.T) {
	want := `Accuracy

model               digits %  letters %  mean %  parameters    bytes
──────────────────  ────────  ─────────  ──────  ──────────  ───────
bounds
base                    48.0       39.0    43.5      12.3 M  24.6 MB
`
	small := accuracies()
	small.Rows, small.Groups = small.Rows[:1], small.Groups[:1]
	small.Rows = append(small.Rows, []Cell{Text("a name of 18 cells")})
	var b strings.Builder
	if err := small.Terminal(&b, 80); err != nil {
		t.Fatal(err)
	}
	if got := b.String(); !strings.HasPrefix(got, want) {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	for _, width := range []int{30, 40, 60, 80, 200} {
		b.Reset()
		if err := accuracies().Terminal(&b, width); err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(b.String(), "\n") {
			if w := runewidth.StringWidth(line); w > width {
				t.Errorf("a line of %d cells at width %d: %q", w, width, line)
			}
			if strings.ContainsAny(line, "\x1b\x00\u202e") {
				t.Errorf("control characters in %q", line)
			}
		}
		for _, c := range []string{"digits %", "bytes", "99.1 ±1.1", "SMILE rank 32", "fused"} {
			if !strings.Contains(b.String(), c) && width >= 40 {
				t.Errorf("width %d: no %q in\n%s", width, c, b.String())
			}
		}
	}
}

func TestCSV(t *testing.T) {
	var b strings.Builder
	if err := accuracies().CSV(&b); err != nil {
		t.Fatal(err)
	}
	records, err := csv.NewReader(strings.NewReader(b.String())).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(records[0], "|"); got != "group|model|digits|digits low|digits high|letters|letters low|letters high|mean|parameters|bytes" {
		t.Errorf("header %s", got)
	}
	if got := strings.Join(records[2][2:], "|"); got != "0.991|0.98|0.995|0.934|0.92|0.945|0.9625|9.84e+07|1.968e+08" {
		t.Errorf("row %s", got)
	}
	if got := records[4]; got[0] != "fused" || got[1] != "failed" || got[2] != "" {
		t.Errorf("row %q", got)
	}
	if got := records[2][1]; got != clean(hostile) {
		t.Errorf("name %q", got)
	}
}

func TestMarkdown(t *testing.T) {
	var b strings.Builder
	if err := accuracies().Markdown(&b); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	for _, line := range lines {
		bars := strings.Count(line, "|") - strings.Count(line, `\|`)
		if bars != 7 {
			t.Errorf("%d bars in %q", bars, line)
		}
	}
	for _, want := range []string{"| **98.5** |", "|---|---:|", `\<script\>`, "| **bounds** |"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

func TestFigureTables(t *testing.T) {
	for name, f := range figures() {
		data := f.Data()
		if len(data.Rows) == 0 {
			t.Errorf("%s: no rows", name)
		}
		for i, row := range data.Rows {
			if len(row) != len(data.Columns) {
				t.Fatalf("%s: row %d has %d cells for %d columns", name, i, len(row), len(data.Columns))
			}
		}
	}
	if c := Num(math.NaN()).Within(0.1, 0.2).shown(Percent); c != "–" {
		t.Errorf("unknown with an interval: %q", c)
	}
}
