package smelt

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"smelt/internal/cli"
)

// TestReadme runs every bin/smelt command of README.md, in order, with /tmp
// replaced by a fresh folder.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	tmp, commands := t.TempDir(), 0
	for _, line := range strings.Split(string(text), "\n") {
		args, ok := strings.CutPrefix(line, "bin/smelt ")
		if !ok {
			continue
		}
		commands++
		var out, errs bytes.Buffer
		if code := cli.Main(fields(strings.ReplaceAll(args, "/tmp/", tmp+"/")), &out, &errs); code != 0 {
			t.Fatalf("%s: exit %d: %s", line, code, errs.String())
		}
		if out.Len() == 0 {
			t.Errorf("%s prints nothing", line)
		}
	}
	if commands < 10 {
		t.Errorf("README.md shows %d commands: the test does not find them", commands)
	}
}

// fields splits a command line at spaces outside double quotes.
func fields(line string) (args []string) {
	for i, part := range strings.Split(line, `"`) {
		if i%2 == 1 {
			args = append(args, part)
			continue
		}
		args = append(args, strings.Fields(part)...)
	}
	return args
}
