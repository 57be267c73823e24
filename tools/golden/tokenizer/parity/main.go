// Command parity holds the tokenizer package against the reference's answers,
// which parity.py wrote to a folder: ids with and without special tokens, the
// text decoded from them, and the same text from a stream. It exits with 1 if
// anything differs.
package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"smelt/tokenizer"
)

type caseFile struct {
	Versions map[string]string
	Corpus   string
	Cases    []parityCase
}

type parityCase struct {
	Name, Dir, Answers string
	Seconds            float64 // the reference took for the plain encodings
}

type answer struct {
	Plain, Full []int
	Text, Skip  string
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: parity FOLDER (that parity.py wrote)")
		os.Exit(2)
	}
	failed, err := run(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "parity:", err)
		os.Exit(1)
	}
	if failed {
		os.Exit(1)
	}
}

func read(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}

func run(folder string) (failed bool, err error) {
	var file caseFile
	if err := read(filepath.Join(folder, "cases.json"), &file); err != nil {
		return false, err
	}
	var coded, lines []string
	if err := read(file.Corpus, &coded); err != nil {
		return false, err
	}
	for _, c := range coded {
		line, err := base64.StdEncoding.DecodeString(c)
		if err != nil {
			return false, err
		}
		lines = append(lines, string(line))
	}
	fmt.Println("reference:", file.Versions)
	fmt.Printf("%-15s %7s %9s %9s %9s %9s  %s\n", "tokenizer", "lines", "ids", "decode", "stream", "ms", "speed beside the reference (first pass, second pass)")
	for _, c := range file.Cases {
		bad, err := compare(c, lines)
		if err != nil {
			return false, fmt.Errorf("%s: %w", c.Name, err)
		}
		failed = failed || bad
	}
	return failed, nil
}

func compare(c parityCase, lines []string) (bool, error) {
	var want []answer
	if err := read(c.Answers, &want); err != nil {
		return false, err
	}
	t, err := tokenizer.Open(c.Dir)
	if err != nil {
		return false, err
	}
	var seconds [2]float64
	for pass := range seconds {
		start := time.Now()
		for _, line := range lines {
			if _, err := t.Encode(line, false); err != nil {
				return false, err
			}
		}
		seconds[pass] = time.Since(start).Seconds()
	}
	ids, decoded, streamed, shown := 0, 0, 0, 0
	for i, line := range lines {
		plain, err := t.Encode(line, false)
		if err != nil {
			return false, err
		}
		full, err := t.Encode(line, true)
		if err != nil {
			return false, err
		}
		if !slices.Equal(plain, want[i].Plain) || !slices.Equal(full, want[i].Full) {
			if ids++; shown < 3 {
				shown++
				fmt.Printf("%s: line %d %+q\n  got  %v\n  want %v\n", c.Name, i, line, full, want[i].Full)
			}
			continue
		}
		if text, skip := t.Decode(full, false), t.Decode(full, true); text != want[i].Text || skip != want[i].Skip {
			if decoded++; shown < 3 {
				shown++
				fmt.Printf("%s: line %d decoded %+q, want %+q; without special tokens %+q, want %+q\n", c.Name, i, text, want[i].Text, skip, want[i].Skip)
			}
		}
		if got := stream(t, full); got != want[i].Text {
			streamed++
		}
	}
	fmt.Printf("%-15s %7d %9d %9d %9d %9.0f  %.1f× %.1f×\n", c.Name, len(lines), ids, decoded, streamed,
		1000*seconds[0], c.Seconds/seconds[0], c.Seconds/seconds[1])
	return ids+decoded+streamed > 0 || len(lines) != len(want), nil
}

func stream(t *tokenizer.Tokenizer, ids []int) string {
	var text strings.Builder
	s := t.NewStream(false)
	for _, id := range ids {
		text.WriteString(s.Push(id))
	}
	text.WriteString(s.Flush())
	return text.String()
}
