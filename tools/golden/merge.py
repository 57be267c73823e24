"""Golden fixtures of smelt merge: what the peers make of tiny random checkpoints, in float32 and in bfloat16.

mergekit merges the checkpoints themselves (its whole pipeline, in float64, rounded once); TIES is FusionBench's, over the
whole task vector; DARE is peft's, with the random mask replaced by the one that merge/prune.go specifies, so that
the numbers can be compared.

    python tools/golden/merge.py
"""

import json
import logging
import pathlib
import platform
import shutil
import tempfile
from importlib.metadata import version

import torch
from fusion_bench.method.ties_merging.ties_merging_utils import state_dict_to_vector, ties_merging, topk_values_mask, vector_to_state_dict
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
from peft.utils import merge_utils
from safetensors.torch import load_file, save_file
from transformers import Qwen2Config, Qwen2ForCausalLM

logging.disable(logging.WARNING)
ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "engine/testdata/merge"
SEED = 20241123
EXPERTS = ["alpha", "beta", "gamma"]
WEIGHTS = {"alpha": 0.7, "beta": 0.2, "gamma": 0.4}
TYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
WORD = (1 << 64) - 1


def checkpoints(folder, dtype):
    """A base and three fine-tunes: gamma leaves the norms and the embedding alone."""
    torch.manual_seed(SEED)
    config = Qwen2Config(hidden_size=8, intermediate_size=12, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
                         vocab_size=16, max_position_embeddings=32, tie_word_embeddings=True)
    model = Qwen2ForCausalLM(config).to(dtype)
    base = {k: (v + 0.05 * torch.randn(v.shape)).to(dtype) for k, v in model.state_dict().items() if k != "lm_head.weight"}
    for i, name in enumerate(["base"] + EXPERTS):
        state = base
        if i:
            # Each tensor moves by another amount, so that a trim over all of them is not one tensor by tensor.
            state = {k: v if name == "gamma" and ("norm" in k or "embed" in k)
                     else (v + 0.01 * (1 + j) * torch.randn(v.shape)).to(dtype) for j, (k, v) in enumerate(sorted(base.items()))}
        model.load_state_dict(state, strict=False)
        model.save_pretrained(folder / name)
        (folder / name / "generation_config.json").unlink(missing_ok=True)


def mergekit(folder, dtype, method, models, parameters=None, base=None):
    config = {"merge_method": method, "dtype": "float64", "out_dtype": str(dtype).removeprefix("torch."),
              "models": [{"model": str(folder / n), "parameters": p} for n, p in models], "parameters": parameters or {}}
    if base:
        config["base_model"] = str(folder / base)
    with tempfile.TemporaryDirectory() as out:
        run_merge(MergeConfiguration.model_validate(config), out, MergeOptions(copy_tokenizer=False, quiet=True))
        return load_file(f"{out}/model.safetensors")


def mix(z):
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & WORD
    z = (z ^ z >> 27) * 0x94D049BB133111EB & WORD
    return z ^ z >> 31


def mask(seed, expert, tensor, shape, density):
    """The elements that smelt keeps: FNV-1a of the names, then SplitMix64 of the index."""
    h = 0xCBF29CE484222325
    for byte in expert.encode() + b"\0" + tensor.encode() + b"\0":
        h = (h ^ byte) * 0x100000001B3 & WORD
    key = mix(h ^ mix(seed))
    n = torch.Size(shape).numel()
    bits = [mix((key + i * 0x9E3779B97F4A7C15) & WORD) >> 11 for i in range(n)]
    return torch.tensor([b < density * 2.0**53 for b in bits], dtype=torch.float64).reshape(shape)


def dare(function, states, base, weights, density, seed, scaling):
    out = {}
    for name, b in base.items():
        masks = iter([mask(seed, e, name, b.shape, density) for e in EXPERTS])
        real, torch.bernoulli = torch.bernoulli, lambda _: next(masks)
        try:
            deltas = [states[e][name] - b for e in EXPERTS]
            out[name] = b + scaling * function(deltas, torch.tensor(weights, dtype=torch.float64), density)
        finally:
            torch.bernoulli = real
    return out


def ties(states, base, density, scaling):
    vector = state_dict_to_vector(base)
    deltas = torch.vstack([state_dict_to_vector(states[e]) for e in EXPERTS]) - vector
    kept, *_ = topk_values_mask(deltas, K=100 * density)
    assert not ((kept.sum(0) == 0) & (kept != 0).any(0)).any(), "an exact tie of signs, which the peers break differently: another seed"
    merged = ties_merging(deltas, reset_thresh=100 * density, merge_func="mean")
    return vector_to_state_dict(vector + scaling * merged, base)


def cases(folder, dtype):
    states = {n: {k: v.double() for k, v in load_file(folder / n / "model.safetensors").items()} for n in ["base"] + EXPERTS}
    base = states["base"]
    weighted = [(e, {"weight": WEIGHTS[e]}) for e in EXPERTS]
    even = [(e, {"weight": 1.0}) for e in EXPERTS]
    yield "average", {"method": "simple_average"}, mergekit(folder, dtype, "linear", even)
    yield "weighted", {"method": "weighted_average", "weights": WEIGHTS}, mergekit(folder, dtype, "linear", weighted)
    yield "arithmetic", {"method": "task_arithmetic", "values": {"scaling_factor": 0.3}}, mergekit(
        folder, dtype, "task_arithmetic", even, {"lambda": 0.3}, "base")
    yield "arithmetic_weighted", {"method": "task_arithmetic", "values": {"scaling_factor": 0.8}, "weights": WEIGHTS}, mergekit(
        folder, dtype, "task_arithmetic", weighted, {"lambda": 0.8}, "base")
    for density, scaling in ((0.2, 1.0), (0.35, 0.3)):
        yield f"ties_{density}", {"method": "ties", "values": {"density": density, "scaling_factor": scaling}}, ties(
            states, base, density, scaling)
    yield "ties_weighted", {"method": "ties", "values": {"density": 1.0, "scaling_factor": 0.9}, "weights": WEIGHTS}, mergekit(
        folder, dtype, "ties", weighted, {"lambda": 0.9, "density": 1.0, "normalize": True}, "base")
    for function, method, scaling in ((merge_utils.dare_linear, "dare_linear", 0.3), (merge_utils.dare_ties, "dare_ties", 1.0)):
        yield method, {"method": method, "values": {"density": 0.4, "scaling_factor": scaling, "seed": 7}}, dare(
            function, states, base, [1.0] * 3, 0.4, 7, scaling)
    for t in (0.3, 0.75):
        yield f"slerp_{t}", {"method": "slerp", "values": {"t": t}, "from": "alpha", "experts": ["alpha", "beta"]}, mergekit(
            folder, dtype, "slerp", [("alpha", {}), ("beta", {})], {"t": t}, "alpha")


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    record = {"versions": {p: version(p) for p in ("torch", "transformers", "mergekit", "fusion-bench", "peft")} | {"python": platform.python_version()},
              "seed": SEED, "command": "python tools/golden/merge.py", "cases": {}}
    for kind, dtype in TYPES.items():
        folder = OUT / kind
        checkpoints(folder, dtype)
        expected = {}
        for name, settings, state in cases(folder, dtype):
            record["cases"][name] = settings
            expected |= {f"{name}/{k}": v.detach().to(dtype).contiguous() for k, v in state.items()}
        save_file(expected, folder / "expected.safetensors")
    (OUT / "cases.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
