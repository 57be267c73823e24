package checkpoint

import (
	"slices"
	"strings"

	"smelt/safetensors"
)

// key is a tensor name of an adapter, taken apart.
type key struct {
	module string // of the base; of a saved tensor its name, "" for one to pass over
	part   string // "A.weight", "B.weight", "B.bias", or another part of an update; "" for a saved tensor
}

// parseKey reads a tensor name. PEFT writes
//
//	base_model.model.MODULE.lora_A.weight
//	base_model.model.MODULE.base_layer.bias      of an updated module
//	base_model.model.MODULE.weight               of modules_to_save
//
// and some versions and raw state dicts leave the adapter's name in:
// lora_A.default.weight, modules_to_save.default.weight.
func parseKey(name, adapter string) key {
	segs := strings.Split(strings.TrimPrefix(name, "base_model.model."), ".")
	segs = slices.DeleteFunc(segs, func(s string) bool { return s == "base_layer" })
	if slices.Contains(segs, "original_module") {
		return key{}
	}
	at := slices.IndexFunc(segs, func(s string) bool { return strings.HasPrefix(s, "lora_") })
	if at < 0 {
		if at = slices.Index(segs, "modules_to_save"); at >= 0 {
			n := 1
			if at+1 < len(segs) && segs[at+1] == adapter {
				n = 2
			}
			segs = slices.Delete(segs, at, at+n)
		}
		return key{module: strings.Join(segs, ".")}
	}
	part := strings.TrimPrefix(segs[at], "lora_")
	rest := segs[at+1:]
	if len(rest) > 0 && (len(rest) > 1 || part != "A" && part != "B") && rest[0] == adapter {
		rest = rest[1:]
	}
	if len(rest) > 0 {
		part += "." + strings.Join(rest, ".")
	}
	return key{strings.Join(segs[:at], "."), part}
}

// adapterName finds the adapter's name in the tensor names, where it was left
// in; otherwise it is PEFT's usual one.
func adapterName(tensors []safetensors.Info) string {
	for _, t := range tensors {
		for _, mark := range []string{".lora_A.", ".lora_B."} {
			if _, rest, ok := strings.Cut(t.Name, mark); ok {
				if name, ok := strings.CutSuffix(rest, ".weight"); ok {
					return name
				}
			}
		}
	}
	return "default"
}

// unknownPart says what a part of an update is that is not read.
func unknownPart(part string) string {
	switch {
	case strings.HasPrefix(part, "embedding_"):
		return "updates of embeddings (lora_embedding_A, lora_embedding_B) are not read: " + mergeFirst
	case strings.HasPrefix(part, "magnitude_vector"):
		return "belongs to DoRA, which rescales the base's weight: " + mergeFirst
	}
	return "is no part of a plain LoRA update: " + mergeFirst
}
