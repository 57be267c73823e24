package interop

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
)

// TestAutoMap holds auto_map.json against the classes that the Python makes.
func TestAutoMap(t *testing.T) {
	var entries map[string]string
	if err := json.Unmarshal(AutoMap(), &entries); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"AutoConfig": "configuration_smile.SmileConfig"}
	code := TransformersCode()
	if len(code) != 2 || code[0].Name != "configuration_smile.py" || code[1].Name != "modeling_smile.py" {
		t.Fatalf("code is %v", code)
	}
	_, list, found := bytes.Cut(code[1].Data, []byte("AUTO_CLASSES = ("))
	if !found {
		t.Fatal("modeling_smile.py: no AUTO_CLASSES")
	}
	list, _, _ = bytes.Cut(list, []byte("\n)"))
	for _, m := range regexp.MustCompile(`"Auto(\w+)"`).FindAllSubmatch(list, -1) {
		want["Auto"+string(m[1])] = "modeling_smile.Smile" + string(m[1])
	}
	if len(want) < 20 {
		t.Fatalf("modeling_smile.py names %d auto classes", len(want))
	}
	for name, class := range want {
		if entries[name] != class {
			t.Errorf("auto_map.json: %s is %q, want %q", name, entries[name], class)
		}
	}
	if len(entries) != len(want) {
		t.Errorf("auto_map.json has %d entries, want %d", len(entries), len(want))
	}
	if !strings.HasPrefix(string(AutoMap()), "{\n  \"AutoConfig\"") {
		t.Error("auto_map.json must begin with AutoConfig")
	}
}

// TestImports refuses code that needs more than torch and transformers.
func TestImports(t *testing.T) {
	allowed := regexp.MustCompile(`^(torch|transformers|contextlib|functools|itertools|os|re|shutil|\.configuration_smile)(\.|$)`)
	for _, f := range TransformersCode() {
		for _, m := range regexp.MustCompile(`(?m)^\s*(?:from|import) (\S+)`).FindAllSubmatch(f.Data, -1) {
			if !allowed.Match(m[1]) {
				t.Errorf("%s imports %s", f.Name, m[1])
			}
		}
	}
}

func TestArchitecture(t *testing.T) {
	if a := Architecture("LlamaForCausalLM"); a != "SmileLlamaForCausalLM" || BaseArchitecture(a) != "LlamaForCausalLM" {
		t.Errorf("architecture %q", a)
	}
	if b := BaseArchitecture("CLIPModel"); b != "CLIPModel" {
		t.Errorf("base of CLIPModel is %q", b)
	}
}
