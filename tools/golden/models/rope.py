"""Golden fixture of nn's rotary positions: transformers' angles, near and far."""

import json

import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from common import ROOT, note

cases = []
for theta, positions, dim, rope in [
    (10000.0, 2048, 64, {"rope_type": "default"}),
    (1000000.0, 32768, 128, {"rope_type": "default"}),
    (10000.0, 4096, 64, {"rope_type": "linear", "factor": 8.0}),
    (500000.0, 131072, 128, {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                             "original_max_position_embeddings": 8192}),
    (500000.0, 131072, 64, {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                            "original_max_position_embeddings": 8192}),
    (1000000.0, 32768, 128, {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}),
    (10000.0, 163840, 64, {"rope_type": "yarn", "factor": 40.0, "original_max_position_embeddings": 4096, "beta_fast": 32.0,
                           "beta_slow": 1.0, "mscale": 0.707, "mscale_all_dim": 0.9, "attention_factor": 1.5}),
    (10000.0, 2048, 64, {"rope_type": "dynamic", "factor": 2.0}),
]:
    config = LlamaConfig(hidden_size=2 * dim, num_attention_heads=2, head_dim=dim, max_position_embeddings=positions,
                         rope_parameters={"rope_theta": theta, **rope})
    for pos in (0, 1, 77, 2500, 31000):
        e = LlamaRotaryEmbedding(config)
        cos, sin = e(torch.zeros(1), torch.tensor([[pos]]))
        cases.append(dict(config=config.to_dict()["rope_parameters"], positions=positions, dim=dim, position=pos,
                          cos=cos[0, 0, : dim // 2].tolist(), sin=sin[0, 0, : dim // 2].tolist()))
path = ROOT / "nn/testdata/rope.json"
path.parent.mkdir(parents=True, exist_ok=True)
path.write_text(json.dumps(dict(note=note(0), cases=cases)) + "\n")
print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1024} KiB")
