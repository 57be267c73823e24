"""Makes the committed fixture of `make test`: tiny sources and float64 outputs.

A two-layer Qwen2 of width 16 (biases on q, k and v; k and v are narrow, so
that ranks are ragged) and four experts: three full fine-tunes and one LoRA.
See testdata/fuse/README.md for the layout.
"""

import json
import os
import platform
import shutil

import numpy as np

from native import plan_module
from sources import Base, experts_of
from smile64 import formula, scores_of
from tensors import encode, write

HERE = os.path.dirname(os.path.abspath(__file__))
SEED = 20240810
HIDDEN, HEADS, KV_HEADS, WIDE, VOCABULARY, LAYERS = 16, 4, 2, 40, 24, 2
ROWS = 6
#: (expert rank, router rank): the usual, a router wider than its experts, full rank
CASES = [(5, 3), (2, 3), (64, 4)]
TOP_KS = (1, 2)
#: least difference of the scores that decide a selection, so that float32 decides alike
MARGIN = 1e-3
EXPERTS = ["algebra", "botany", "chess", "dance"]  # dance is the LoRA
LORA_RANK, LORA_ALPHA = 2, 4
#: nobody touches layer 1's down_proj; botany leaves layer 0's attention but for a bias
UNTOUCHED = {
    "algebra": ["layers.1.mlp.down_proj"],
    "botany": ["layers.0.self_attn", "layers.1.mlp.down_proj"],
    "chess": ["layers.1.mlp.down_proj"],
}
BIAS_ALONE = ("botany", "model.layers.0.self_attn.k_proj.bias")
LORA_TARGETS = ["q_proj", "v_proj", "up_proj"]


def base_config():
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "initializer_range": 0.02,
        "intermediate_size": WIDE,
        "max_position_embeddings": 32,
        "model_type": "qwen2",
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": KV_HEADS,
        "rms_norm_eps": 1e-06,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
        "use_cache": True,
        "vocab_size": VOCABULARY,
    }


def base_tensors(rng):
    """The base's tensors in float32, in a Qwen2's order."""
    kv = HIDDEN // HEADS * KV_HEADS
    tensors = {"model.embed_tokens.weight": rng.standard_normal((VOCABULARY, HIDDEN))}
    for layer in range(LAYERS):
        p = f"model.layers.{layer}."
        for name, out in (("q_proj", HIDDEN), ("k_proj", kv), ("v_proj", kv)):
            tensors[f"{p}self_attn.{name}.weight"] = rng.standard_normal((out, HIDDEN)) / 4
            tensors[f"{p}self_attn.{name}.bias"] = rng.standard_normal(out) / 4
        tensors[p + "self_attn.o_proj.weight"] = rng.standard_normal((HIDDEN, HIDDEN)) / 4
        tensors[p + "mlp.gate_proj.weight"] = rng.standard_normal((WIDE, HIDDEN)) / 4
        tensors[p + "mlp.up_proj.weight"] = rng.standard_normal((WIDE, HIDDEN)) / 4
        tensors[p + "mlp.down_proj.weight"] = rng.standard_normal((HIDDEN, WIDE)) / 6
        tensors[p + "input_layernorm.weight"] = np.ones(HIDDEN)
        tensors[p + "post_attention_layernorm.weight"] = np.ones(HIDDEN)
    tensors["model.norm.weight"] = np.ones(HIDDEN)
    return {name: a.astype(np.float32) for name, a in tensors.items()}


def save(directory, config_name, config, tensors, stem):
    os.makedirs(directory)
    with open(os.path.join(directory, config_name), "w") as f:
        json.dump(config, f, indent=2)
    stored = {name: (encode(a, "F32"), "F32", a.shape) for name, a in tensors.items()}
    write(os.path.join(directory, stem + ".safetensors"), stored)


def decaying(rng, shape):
    """A random change whose singular values fall off as those of a fine-tune."""
    u, _ = np.linalg.qr(rng.standard_normal((shape[0], min(shape))))
    v, _ = np.linalg.qr(rng.standard_normal((shape[1], min(shape))))
    return 0.2 * (u * np.arange(1, min(shape) + 1) ** -0.8) @ v.T


def write_models(directory):
    """Writes base and experts under directory, the same bytes every time."""
    rng = np.random.default_rng(SEED)
    base = base_tensors(rng)
    save(os.path.join(directory, "base"), "config.json", base_config(), base, "model")
    for name in EXPERTS[:3]:
        tensors = {}
        for tensor, a in base.items():
            fixed = "norm" in tensor or "embed" in tensor or any(part in tensor for part in UNTOUCHED[name])
            if fixed and (name, tensor) != BIAS_ALONE:
                tensors[tensor] = a
            elif a.ndim == 1:
                tensors[tensor] = a + (rng.standard_normal(a.shape) / 8).astype(np.float32)
            else:
                tensors[tensor] = a + decaying(rng, a.shape).astype(np.float32)
        save(os.path.join(directory, "experts", name), "config.json", base_config(), tensors, "model")
    lora = {}
    for tensor, a in base.items():
        module = tensor.removesuffix(".weight")
        if a.ndim == 2 and module.rsplit(".", 1)[-1] in LORA_TARGETS:
            key = f"base_model.model.{module}."
            lora[key + "lora_A.weight"] = (rng.standard_normal((LORA_RANK, a.shape[1])) / 4).astype(np.float32)
            lora[key + "lora_B.weight"] = (rng.standard_normal((a.shape[0], LORA_RANK)) / 16).astype(np.float32)
    config = {
        "base_model_name_or_path": "base",
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "lora_alpha": LORA_ALPHA,
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": LORA_RANK,
        "target_modules": LORA_TARGETS,
        "task_type": "CAUSAL_LM",
        "use_dora": False,
        "use_rslora": False,
    }
    save(os.path.join(directory, "experts", EXPERTS[3]), "adapter_config.json", config, lora, "adapter_model")


def sure_rows(parts, g, rng, width):
    """Draws rows [ROWS, width] whose selections hang on no rounding."""
    touched = [p for p in parts if p.touched]
    while True:
        x = rng.standard_normal((ROWS, width))
        for row, p in enumerate(touched):
            x[row] = 3 * rng.standard_normal(g) @ p.vt[:g]
        scores = np.sort(scores_of(touched, g, x), axis=1)
        if len(touched) == 1 or np.diff(scores, axis=1).min() > MARGIN:
            return x


def main(out=None):
    directory = out or os.path.join(HERE, "testdata", "fuse")
    for name in ("base", "experts"):
        shutil.rmtree(os.path.join(directory, name), ignore_errors=True)
    write_models(directory)
    base = Base(os.path.join(directory, "base"))
    experts = experts_of([os.path.join(directory, "experts", n) for n in EXPERTS], base)

    rng, expected, cases = np.random.default_rng(SEED + 1), {}, []

    def keep(name, array):
        expected[name] = (encode(array, "F64"), "F64", array.shape)

    for case, (expert_rank, router_rank) in enumerate(CASES):
        modules = {}
        for module in base.modules():
            planned = plan_module(base, experts, module, lambda m, e: expert_rank, router_rank)
            if planned is None:
                continue
            parts, entry = planned
            modules[module] = entry
            x = sure_rows(parts, entry["rank_of_router"], rng, entry["in"])
            keep(f"{case}.{module}.x", x)
            for top_k in TOP_KS:
                y, scores, _ = formula(
                    base.weight(module, False), base.bias(module), parts, entry["rank_of_router"], top_k, x
                )
                keep(f"{case}.{module}.y.top{top_k}", y)
            keep(f"{case}.{module}.scores", scores)
            if case == 0:
                for e, p in enumerate(parts):
                    if p.touched:
                        keep(f"{module}.sigma.{e}", p.sigma)
        cases.append({"expert_rank": expert_rank, "router_rank": router_rank, "modules": modules})
    write(os.path.join(directory, "expected.safetensors"), expected)
    fixture = {
        "command": "tools/parity/reference.py golden",
        "seed": SEED,
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
        "experts": EXPERTS,
        "cases": cases,
    }
    with open(os.path.join(directory, "fixture.json"), "w") as f:
        json.dump(fixture, f, indent=1)
        f.write("\n")
    size = sum(os.path.getsize(os.path.join(d, n)) for d, _, names in os.walk(directory) for n in names)
    print(f"{directory}: {len(cases)} cases, {len(modules)} modules, {size} bytes")
    return 0
