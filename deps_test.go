package smelt

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// bands are the packages from the bottom up. A package imports packages of
// lower bands only, and of its own band only what beside names.
var bands = [][]string{
	0: {"dtype", "tensor"},
	1: {"internal/kernel", "internal/parallel", "linalg", "nn"},
	2: {"internal/vfs", "internal/ojson", "safetensors", "checkpoint", "tokenizer", "chat/jinja", "chat", "processor"},
	3: {"taskvector", "smile", "merge", "ensemble"},
	4: {"model", "model/clip", "model/llama", "model/t5", "generate"},
	5: {"analysis", "eval", "report"},
	6: {"interop", "engine", "analysis/page", "demo", "internal/cli", "cmd/smelt"},
}

// beside are the imports inside a band.
var beside = map[string][]string{
	"tensor":          {"dtype"},
	"internal/kernel": {"internal/parallel"},
	"linalg":          {"internal/kernel", "internal/parallel"},
	"nn":              {"internal/kernel", "internal/parallel"},
	"safetensors":     {"internal/vfs", "internal/ojson"},
	"checkpoint":      {"internal/vfs", "internal/ojson", "safetensors"},
	"tokenizer":       {"internal/vfs", "internal/ojson"},
	"chat":            {"chat/jinja", "internal/vfs", "internal/ojson"},
	"chat/jinja":      {"internal/ojson"},
	"processor":       {"internal/vfs", "internal/ojson"},
	"model/clip":      {"model"},
	"model/llama":     {"model"},
	"model/t5":        {"model"},
	"generate":        {"model"},
	"engine":          {"interop"},
	"demo":            {"engine"},
	"internal/cli":    {"analysis/page", "demo", "engine"},
	"cmd/smelt":       {"internal/cli"},
}

// outside are packages that are no part of the program: suites, generators,
// tools. They may import anything.
var outside = []string{"internal/kernel/", "linalg/linalgtest", "model/modeltest", "tools/", "bench/", "."}

// TestImports parses every file in this process, so that the test cache knows
// what the test depends on.
func TestImports(t *testing.T) {
	band := map[string]int{}
	for i, names := range bands {
		for _, name := range names {
			band[name] = i
		}
	}
	seen := map[string]bool{}
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), "_") || strings.HasPrefix(d.Name(), ".") && file != ".") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		pkg := path.Dir(filepath.ToSlash(file))
		if slices.ContainsFunc(outside, func(o string) bool { return pkg == o || strings.HasSuffix(o, "/") && strings.HasPrefix(pkg, o) }) {
			return nil
		}
		at, ok := band[pkg]
		if !ok {
			t.Errorf("%s: package %s has no band: enter it in deps_test.go", file, pkg)
			return nil
		}
		seen[pkg] = true
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range f.Imports {
			name, ok := strings.CutPrefix(strings.Trim(spec.Path.Value, `"`), "smelt/")
			if !ok {
				continue
			}
			if to, known := band[name]; !known || to > at || to == at && !slices.Contains(beside[pkg], name) {
				t.Errorf("%s: %s must not import %s", file, pkg, name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range band {
		if !seen[name] {
			t.Errorf("deps_test.go names package %s, which does not exist", name)
		}
	}
}
