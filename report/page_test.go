package report

import (
	"bytes"
	"image/png"
	"regexp"
	"strings"
	"testing"
)

func TestPage(t *testing.T) {
	files, err := page().Files()
	if err != nil {
		t.Fatal(err)
	}
	byPath := map[string][]byte{}
	for _, f := range files {
		if byPath[f.Path] != nil {
			t.Errorf("two files %s", f.Path)
		}
		byPath[f.Path] = f.Data
	}
	html := string(byPath["index.html"])
	for _, want := range []string{
		"default-src &#39;none&#39;", "sha256-", `href="#s3"`, "Up and to the left is better", `src="data:image/png;base64,`,
		"@media print", "prefers-color-scheme:dark", `class="right"`, `data-v="0.991"`, "&lt;script&gt;alert(", "99.1", "±1.1",
	} {
		if !strings.Contains(html, want) {
			t.Errorf("no %q in the page", want)
		}
	}
	if n := strings.Count(html, "<script"); n != 1 {
		t.Errorf("%d scripts, want 1", n)
	}
	if strings.ContainsAny(html, "\x1b\x00\u202e") {
		t.Error("control characters in the page")
	}
	// What a browser would fetch: nothing but data.
	for _, m := range regexp.MustCompile(`(?:src|href|url)\s*[=(]\s*"?([^")>\s]*)`).FindAllStringSubmatch(html, -1) {
		if to := m[1]; !strings.HasPrefix(to, "data:") && !strings.HasPrefix(to, "#") && byPath[to] == nil {
			t.Errorf("the page points to %q", to)
		}
	}
	for _, name := range []string{"tradeoff", "grouped"} {
		if _, err := png.DecodeConfig(bytes.NewReader(byPath["figures/"+name+".png"])); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if len(byPath["figures/"+name+".svg"]) == 0 || len(byPath["figures/"+name+".csv"]) == 0 {
			t.Errorf("%s has no SVG or CSV", name)
		}
	}
	if !strings.HasPrefix(string(byPath["figures/accuracies.csv"]), "group,model,") {
		t.Error("the table has no CSV")
	}
	again, err := page().Files()
	if err != nil {
		t.Fatal(err)
	}
	for i := range files {
		if !bytes.Equal(files[i].Data, again[i].Data) {
			t.Errorf("%s differs from run to run", files[i].Path)
		}
	}
	var alone bytes.Buffer
	if err := page().HTML(&alone); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(alone.String(), "figures/") {
		t.Error("a page alone points to files")
	}
}

func TestPageNames(t *testing.T) {
	for _, names := range [][]string{{"a", "a"}, {"../a"}, {""}, {"A"}, {"a/b"}} {
		p := &Page{Sections: []Section{{}}}
		for _, n := range names {
			p.Sections[0].Blocks = append(p.Sections[0].Blocks, Details{"d", []Block{Plot{n, &Chart{}, ""}}})
		}
		if _, err := p.Files(); err == nil {
			t.Errorf("names %q are taken", names)
		}
	}
}
