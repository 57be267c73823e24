"""smelt extract-lora beside mergekit-extract-lora, in one run, on the same checkpoints.

    python bench/lora/run.py extract --work DIR

Some layers of a Qwen2-0.5B and one fine-tune in bf16 are made by tools/synth. Both
tools extract rank 32 from the same linear layers; quality is the relative error
of base + adapter over some layers, whose optimum is the exact SVD's. Floors as in
bench/fuse: the products, and reading both checkpoints and copying the output.
"""

import json
import os
import pathlib
import sys

import torch
from safetensors import safe_open

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from measure import arguments, copy, fresh, header, percent, pool, products, program, row, seconds, size, target, watched  # noqa: E402

RANK = 32


def tensors(folder):
    found = {}
    for file in sorted(pathlib.Path(folder).glob("*.safetensors")):
        f = safe_open(file, "pt")
        for name in f.keys():
            found[name] = f
    return found


def errors(adapter, base, expert, rank):
    """Relative errors of an adapter on every ninth linear layer, and the optimum's."""
    config = json.loads((adapter / "adapter_config.json").read_text())
    a, b, e = tensors(adapter), tensors(base), tensors(expert)
    got, best = 0.0, 0.0
    names = sorted(n.split(".lora_A")[0] for n in a if ".lora_A." in n)[::9]
    for name in names:
        module = name.removeprefix("base_model.model.")
        down, up = (a[f"{name}.lora_{x}.weight"].get_tensor(f"{name}.lora_{x}.weight").double() for x in "AB")
        r = (config.get("rank_pattern") or {}).get(module, config["r"])
        alpha = (config.get("alpha_pattern") or {}).get(module, config["lora_alpha"])
        delta = (e[module + ".weight"].get_tensor(module + ".weight").double() - b[module + ".weight"].get_tensor(module + ".weight").double())
        got += float(torch.linalg.norm(delta - alpha / r * up @ down) / torch.linalg.norm(delta))
        s = torch.linalg.svdvals(delta)
        best += float(torch.linalg.norm(s[rank:]) / torch.linalg.norm(s))
    return got / len(names), best / len(names), len(names)


def main():
    o = arguments(__doc__, ["extract"])
    layers = 1 if o.quick else 4
    smelt, _ = program(o.work, "./cmd/smelt"), program(o.work, "./bench/linalg")
    base, (expert,) = pool(o.work, "qwen2-0.5b", 1, "BF16", layers)
    if o.prepare:
        return
    runs = []
    for _ in range(3):
        ours = fresh(o.work, "ours")
        runs.append(watched([smelt, "extract-lora", base, expert, "-o", ours, "--rank", str(RANK)])[:2])
    wall, anon = sorted(runs)[1]
    disk = copy(o.work, [base, expert], ours)
    modules = sorted(n.split(".lora_A")[0].removeprefix("base_model.model.") for n in tensors(ours) if ".lora_A." in n)
    _, flops = products(o.work, base, [expert], modules, RANK, 0)
    theirs = fresh(o.work, "theirs")
    took, _, rss, _ = watched([pathlib.Path(sys.executable).parent / "mergekit-extract-lora", "--model", expert, "--base-model", base, "--out-path", theirs,
                               "--max-rank", str(RANK), "--exclude-regex", "embed_tokens|lm_head", "--skip-undecomposable", "--quiet"])
    error, optimum, n = errors(ours, base, expert, RANK)
    other, _, _ = errors(theirs, base, expert, RANK)
    print(header("what", "floor: products", "floor: disk, caches warm", "smelt", "of the larger", "memory", "error", "mergekit", "smelt is faster", "its memory", "smelt's / its", "its error"))
    print(row(f"{layers} layers of Qwen2-0.5B, bf16, rank {RANK}", seconds(flops), seconds(disk), seconds(wall), percent(max(flops, disk) / wall), size(anon), f"{error:.5f}",
              seconds(took), f"{took / wall:.0f} ×", size(rss), f"{anon / rss:.2f}", f"{other:.5f}"))
    print(f"Errors are ‖ΔW − B·A‖/‖ΔW‖, means over {n} of the layers; the optimum's is {optimum:.5f}.")
    print(target("adapter's error within 0.1 % of the optimum's", f"{100 * (error / optimum - 1):.3f} %", error <= 1.001 * optimum))


if __name__ == "__main__":
    main()
