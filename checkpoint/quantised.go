package checkpoint

import (
	"fmt"
	"strings"

	"smelt/dtype"
	"smelt/internal/ojson"
	"smelt/safetensors"
)

const dequantise = "load it in transformers, call model.dequantize() and save it, or use the original checkpoint"

// refuseQuantised refuses a config that says the weights are quantised.
func refuseQuantised(c Config) error {
	for _, cfg := range []Config{c, c.Nested("text_config")} {
		for _, key := range []string{"quantization_config", "compression_config"} {
			q, ok := cfg.Raw.Get(key)
			if !ok || q.Kind == ojson.Null {
				continue
			}
			method := q.Str("quant_method")
			if method == "" {
				method = "unnamed"
			}
			return fmt.Errorf("weights are quantised (%s: %.60s), which smelt does not read: %s", key, method, dequantise)
		}
	}
	return nil
}

// quantisedSuffixes end the names that quantised checkpoints give to packed
// weights and their scales.
var quantisedSuffixes = []string{
	".qweight", ".qzeros", ".scales", ".g_idx", ".SCB", ".weight_format",
	".weight_scale", ".weight_scale_inv", ".weight_packed", ".weight_zero_point",
	".absmax", ".quant_map", ".quant_state.bitsandbytes__nf4", ".quant_state.bitsandbytes__fp4",
}

// quantisedTensor returns why a tensor cannot be read as a weight, or "".
func quantisedTensor(t safetensors.Info) string {
	switch t.DType {
	case dtype.F8E4M3, dtype.F8E5M2, dtype.F8E8M0, dtype.F8E4M3FNUZ, dtype.F8E5M2FNUZ:
		return fmt.Sprintf("tensor %q is %v, a quantised type that smelt does not read: %s", t.Name, t.DType, dequantise)
	case dtype.C64:
		return fmt.Sprintf("tensor %q is %v, a type that smelt does not read", t.Name, t.DType)
	}
	for _, s := range quantisedSuffixes {
		if strings.HasSuffix(t.Name, s) {
			return fmt.Sprintf("tensor %q belongs to quantised weights, which smelt does not read: %s", t.Name, dequantise)
		}
	}
	if t.DType.IsInt() && len(t.Shape) >= 2 && strings.HasSuffix(t.Name, ".weight") {
		return fmt.Sprintf("tensor %q is %v: integer weights are quantised ones, which smelt does not read: %s", t.Name, t.DType, dequantise)
	}
	return ""
}
