"""smelt extract-lora beside mergekit-extract-lora, in one run, on the same checkpoints.

    python bench/lora/run.py --out DIR [--rank 32] [--layers N]

A Qwen2-0.5B (N of its layers; all by default) and one fine-tune in bf16 are made
by tools/synth. Both tools extract the same rank from the same linear layers;
quality is the relative error of base + adapter over some layers, whose optimum
is the exact SVD's. Writes lora.json and lora.md into DIR.
"""

import argparse
import json
import os
import pathlib
import shutil
import sys
import tempfile

import torch
from safetensors import safe_open

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench" / "fuse"))
from run import Bench, mb, watched  # noqa: E402


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
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=pathlib.Path, required=True)
    p.add_argument("--rank", type=int, default=32)
    p.add_argument("--layers", type=int, default=24)
    a = p.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    work = pathlib.Path(tempfile.mkdtemp(dir=a.out))
    try:
        bench = Bench(work, False)
        base, (expert,) = bench.pool("qwen2-0.5b", 1, "BF16", a.layers)
        seconds, anon, rss, _ = watched([bench.smelt, "extract-lora", base, expert, "-o", work / "ours", "--rank", str(a.rank)])
        ours = {"seconds": seconds, "memory": anon}
        env = dict(os.environ, OPENBLAS_CORETYPE="SkylakeX")
        peer = pathlib.Path(sys.executable).parent / "mergekit-extract-lora"
        seconds, _, rss, _ = watched([peer, "--model", expert, "--base-model", base, "--out-path", work / "theirs", "--max-rank", str(a.rank),
                                      "--exclude-regex", "embed_tokens|lm_head", "--skip-undecomposable", "--quiet"], env)
        theirs = {"seconds": seconds, "memory": rss}
        ours["error"], optimum, n = errors(work / "ours", base, expert, a.rank)
        theirs["error"], _, _ = errors(work / "theirs", base, expert, a.rank)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    result = {"layers": a.layers, "rank": a.rank, "smelt": ours, "mergekit": theirs, "optimum": optimum, "modules": n}
    (a.out / "lora.json").write_text(json.dumps(result, indent=1) + "\n")
    text = f"""## Extracting a LoRA adapter

{a.layers} layers of Qwen2-0.5B's shapes, bf16, rank {a.rank}; errors ‖ΔW − B·A‖/‖ΔW‖, means over {n} layers, the optimum's is {optimum:.5f}.

| | time | peak memory | error |
|---|---|---|---|
| smelt extract-lora | {ours['seconds']:.1f} s | {mb(ours['memory'])}, beyond mapped files | {ours['error']:.5f} |
| mergekit-extract-lora | {theirs['seconds']:.1f} s | {mb(theirs['memory'])} | {theirs['error']:.5f} |
| ratio | {theirs['seconds'] / ours['seconds']:.0f} × faster | {ours['memory'] / theirs['memory']:.2f} of the memory | |

`python bench/lora/run.py --out DIR`
"""
    (a.out / "lora.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
