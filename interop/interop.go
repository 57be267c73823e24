// Package interop holds what a fused model carries so that other programs can
// run it: Python code for transformers, and the keys of config.json that name
// that code. It reads and writes nothing itself.
package interop

import (
	"embed"
	"encoding/json"
	"fmt"
	"strings"
)

//go:embed transformers
var files embed.FS

// ArchitecturePrefix is what stands before the names of config.json's
// top-level "architectures" in a fused model: SmileLlamaForCausalLM for
// LlamaForCausalLM. Servers that know the dense architecture would otherwise
// take the directory for it and drop the experts, or fail on their tensors;
// the suffix, by which they tell tasks apart, stays.
const ArchitecturePrefix = "Smile"

// File is a file of the fused model's directory.
type File struct {
	Name string
	Data []byte
}

// TransformersCode returns the files that AutoModel….from_pretrained(OUT,
// trust_remote_code=True) runs, in the order of their names. They belong
// beside config.json, byte for byte.
func TransformersCode() []File {
	var code []File
	for _, name := range []string{"configuration_smile.py", "modeling_smile.py"} {
		code = append(code, File{Name: name, Data: read(name)})
	}
	return code
}

// AutoMap returns config.json's "auto_map": a JSON object from the AutoModel
// classes to ours. Its order matters (vLLM takes the first AutoModel entry).
func AutoMap() json.RawMessage {
	return json.RawMessage(strings.TrimSpace(string(read("auto_map.json"))))
}

// Architecture returns what "architectures" of a fused model holds for one of
// the base's; BaseArchitecture is its inverse and leaves other names alone.
func Architecture(base string) string { return ArchitecturePrefix + base }

// BaseArchitecture returns the base's class for one of a fused model.
func BaseArchitecture(fused string) string { return strings.TrimPrefix(fused, ArchitecturePrefix) }

func read(name string) []byte {
	data, err := files.ReadFile("transformers/" + name)
	if err != nil {
		panic(fmt.Sprintf("interop: embedded file %s: %v", name, err))
	}
	return data
}
