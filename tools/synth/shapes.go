package main

import (
	"fmt"
	"slices"
)

// architecture is a config and the tensors that follow from it.
type architecture struct {
	config    map[string]any
	layersKey string
	tensors   func(config map[string]any) []spec
}

var architectures = map[string]architecture{
	"clip-vit-b32": {clipConfig(), "num_hidden_layers", clipVision},
	"qwen2-0.5b":   {llamaConfig("qwen2", 896, 4864, 24, 14, 2, 151936, true), "num_hidden_layers", llama},
	"qwen2-1.5b":   {llamaConfig("qwen2", 1536, 8960, 28, 12, 2, 151936, true), "num_hidden_layers", llama},
	"mistral-7b":   {llamaConfig("mistral", 4096, 14336, 32, 32, 8, 32000, false), "num_hidden_layers", llama},
}

func names() []string {
	var list []string
	for name := range architectures {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}

func clipConfig() map[string]any {
	return map[string]any{
		"architectures": []string{"CLIPVisionModel"}, "model_type": "clip_vision_model",
		"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12, "num_channels": 3,
		"image_size": 224, "patch_size": 32, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "projection_dim": 512,
	}
}

func clipVision(c map[string]any) []spec {
	d, f, p := c["hidden_size"].(int), c["intermediate_size"].(int), c["patch_size"].(int)
	side := c["image_size"].(int) / p
	list := []spec{
		{"vision_model.embeddings.class_embedding", []int{d}},
		{"vision_model.embeddings.patch_embedding.weight", []int{d, 3, p, p}},
		{"vision_model.embeddings.position_embedding.weight", []int{side*side + 1, d}},
	}
	norm := func(name string) {
		list = append(list, spec{name + ".weight", []int{d}}, spec{name + ".bias", []int{d}})
	}
	linear := func(name string, out, in int) {
		list = append(list, spec{name + ".weight", []int{out, in}}, spec{name + ".bias", []int{out}})
	}
	norm("vision_model.pre_layrnorm")
	for l := range c["num_hidden_layers"].(int) {
		prefix := fmt.Sprintf("vision_model.encoder.layers.%d.", l)
		norm(prefix + "layer_norm1")
		for _, name := range []string{"q_proj", "k_proj", "v_proj", "out_proj"} {
			linear(prefix+"self_attn."+name, d, d)
		}
		norm(prefix + "layer_norm2")
		linear(prefix+"mlp.fc1", f, d)
		linear(prefix+"mlp.fc2", d, f)
	}
	norm("vision_model.post_layernorm")
	return list
}

func llamaConfig(modelType string, hidden, ff, layers, heads, kv, vocab int, tied bool) map[string]any {
	class := map[string]string{"qwen2": "Qwen2ForCausalLM", "mistral": "MistralForCausalLM"}[modelType]
	return map[string]any{
		"architectures": []string{class}, "model_type": modelType, "hidden_size": hidden, "intermediate_size": ff,
		"num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv, "vocab_size": vocab,
		"tie_word_embeddings": tied, "hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 1e6,
		"max_position_embeddings": 32768, "use_sliding_window": false, "sliding_window": nil, "bos_token_id": 1, "eos_token_id": 2,
	}
}

func llama(c map[string]any) []spec {
	d, f := c["hidden_size"].(int), c["intermediate_size"].(int)
	kv := d / c["num_attention_heads"].(int) * c["num_key_value_heads"].(int)
	bias := c["model_type"] == "qwen2"
	list := []spec{{"model.embed_tokens.weight", []int{c["vocab_size"].(int), d}}}
	linear := func(name string, out, in int, bias bool) {
		list = append(list, spec{name + ".weight", []int{out, in}})
		if bias {
			list = append(list, spec{name + ".bias", []int{out}})
		}
	}
	for l := range c["num_hidden_layers"].(int) {
		prefix := fmt.Sprintf("model.layers.%d.", l)
		list = append(list, spec{prefix + "input_layernorm.weight", []int{d}})
		linear(prefix+"self_attn.q_proj", d, d, bias)
		linear(prefix+"self_attn.k_proj", kv, d, bias)
		linear(prefix+"self_attn.v_proj", kv, d, bias)
		linear(prefix+"self_attn.o_proj", d, d, false)
		list = append(list, spec{prefix + "post_attention_layernorm.weight", []int{d}})
		linear(prefix+"mlp.gate_proj", f, d, false)
		linear(prefix+"mlp.up_proj", f, d, false)
		linear(prefix+"mlp.down_proj", d, f, false)
	}
	list = append(list, spec{"model.norm.weight", []int{d}})
	if !c["tie_word_embeddings"].(bool) {
		linear("lm_head", c["vocab_size"].(int), d, false)
	}
	return list
}
