"""Golden fixtures of model/llama: tiny random decoders by transformers."""

import json

import torch
from transformers import (
    LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config,
    Qwen3ForCausalLM,
)

from common import ROOT, Recorder, greedy, randomise, rounded, save

SIZE = dict(
    vocab_size=67, hidden_size=32, intermediate_size=44, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=128, bos_token_id=None, eos_token_id=None, pad_token_id=None,
)
IDS = [[5, 60, 3, 44, 21, 21, 7, 30, 1, 18, 52], [9, 2, 33, 64]]


def watch(r, model):
    m = model.model
    r.hook(m.embed_tokens, "embed_tokens")
    for i, layer in enumerate(m.layers):
        r.hook(layer.self_attn, f"layers.{i}.self_attn")
        r.hook(layer.mlp, f"layers.{i}.mlp")
        r.hook(layer, f"layers.{i}")
    r.hook(m.norm, "norm")


def make(name, cls, config, dtype, seed, older=None):
    torch.manual_seed(seed)
    config._attn_implementation = "eager"
    model = cls(config)
    randomise(model, seed)
    model = rounded(model, dtype)
    tokens = greedy(model, IDS)
    r = Recorder()
    watch(r, model)
    with torch.no_grad():
        for seq in IDS:
            r.add("logits", model(torch.tensor([seq]), use_cache=False).logits)
    directory = f"model/llama/testdata/{name}"
    save(directory, model, dtype, r.stages(), seed, ids=IDS, greedy=tokens)
    if older:  # the spelling of rope settings before transformers 5
        path = ROOT / directory / "config.json"
        c = json.loads(path.read_text())
        del c["rope_parameters"]
        path.write_text(json.dumps({**c, **older}, indent=2) + "\n")


def rope(kind, **more):
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, **more}}


make("llama2", LlamaForCausalLM, LlamaConfig(**{**SIZE, "num_key_value_heads": 4}), "f32", 11)
make("llama3_tied", LlamaForCausalLM, LlamaConfig(**SIZE, tie_word_embeddings=True, **rope(
    "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16)), "f32", 12)
make("llama3_older_bf16", LlamaForCausalLM, LlamaConfig(**SIZE, **rope(
    "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)), "bf16", 13,
    older={"rope_theta": 10000.0, "rope_scaling": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32}})
make("linear_older", LlamaForCausalLM, LlamaConfig(**SIZE, **rope("linear", factor=2.5)), "f32", 14,
     older={"rope_theta": 10000.0, "rope_scaling": {"type": "linear", "factor": 2.5}})
make("dynamic", LlamaForCausalLM, LlamaConfig(**{**SIZE, "max_position_embeddings": 40, **rope("dynamic", factor=4.0)}), "f32", 15)
make("yarn", LlamaForCausalLM, LlamaConfig(**SIZE, **rope("yarn", factor=4.0, original_max_position_embeddings=32)), "f32", 16)
make("yarn_mscale", LlamaForCausalLM, LlamaConfig(**SIZE, **rope(
    "yarn", factor=4.0, original_max_position_embeddings=32, beta_fast=16.0, beta_slow=2.0, mscale=1.2,
    mscale_all_dim=0.7, truncate=False)), "f32", 17)
make("biases_head_dim", LlamaForCausalLM, LlamaConfig(
    **SIZE, attention_bias=True, mlp_bias=True, head_dim=12, hidden_act="gelu_pytorch_tanh"), "f32", 18)
make("mistral_window", MistralForCausalLM, MistralConfig(**SIZE, sliding_window=6), "f32", 21)
make("mistral_f16", MistralForCausalLM, MistralConfig(**SIZE, sliding_window=None, head_dim=10), "f16", 22)
make("qwen2_tied_bf16", Qwen2ForCausalLM, Qwen2Config(**SIZE, tie_word_embeddings=True, **{"rope_parameters": {
    "rope_type": "default", "rope_theta": 1000000.0}}), "bf16", 23)
make("qwen2_window", Qwen2ForCausalLM, Qwen2Config(**SIZE, use_sliding_window=True, sliding_window=5, max_window_layers=1), "f32", 24)
make("qwen3", Qwen3ForCausalLM, Qwen3Config(**SIZE, head_dim=16), "f32", 27)
make("qwen3_f16", Qwen3ForCausalLM, Qwen3Config(**SIZE, head_dim=8, attention_bias=True, tie_word_embeddings=True), "f16", 26)
