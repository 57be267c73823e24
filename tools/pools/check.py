"""Checks the pools' folders as a user would load them.

    python tools/pools/check.py examples/pools

Every model loads with AutoModel and every tokenizer with AutoTokenizer, every
adapter with PeftModel, nothing missing or left over; weights are bf16; a full
expert moves linear layers only; no file is over 4 MiB, all together under 35 MB.
"""

import pathlib
import sys
import warnings

import torch
import yaml
from peft import PeftModel
from safetensors import safe_open
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

LOADERS = {"vision": AutoModel, "causal": AutoModelForCausalLM, "text2text": AutoModelForSeq2SeqLM}


def load(loader, path: pathlib.Path) -> torch.nn.Module:
    model, info = loader.from_pretrained(path, output_loading_info=True)
    assert not any(info.values()), f"{path}: {info}"
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}, f"{path}: not bf16"
    return model


def check(folder: pathlib.Path) -> None:
    doc = yaml.safe_load((folder / "tasks.yaml").read_text())
    base = load(LOADERS[doc["pool"]], folder / "base")
    AutoModel.from_pretrained(folder / "base")
    tok = AutoTokenizer.from_pretrained(folder / "base")
    print(f"{folder.name}: {sum(p.numel() for p in base.parameters()):,} parameters, {len(tok)} tokens")
    names = [t["name"] for t in doc["tasks"] if not t.get("held_out")]
    for name in names if "experts" in doc else []:
        ours, theirs = base.vision_model.state_dict(), load(AutoModel, folder / "experts" / name).state_dict()
        moved = {n for n in ours if not torch.equal(ours[n], theirs[n])}
        linear = {n for n in ours if ".layers." in n and "norm" not in n}
        assert moved <= linear and {n for n in linear if n.endswith("weight")} <= moved, f"{name}: {moved ^ linear}"
    for name in names:
        path = folder / "lora" / name
        with safe_open(path / "adapter_model.safetensors", "pt") as f:
            assert {f.get_slice(k).get_dtype() for k in f.keys()} == {"BF16"}, f"{path}: not bf16"
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # a missing adapter key only warns
            peft = PeftModel.from_pretrained(LOADERS[doc["pool"]].from_pretrained(folder / "base"), path)
        layers = [m for m in peft.modules() if hasattr(m, "get_delta_weight")]
        assert layers and all(m.get_delta_weight("default").abs().max() > 0 for m in layers), path


def main() -> None:
    root = pathlib.Path(sys.argv[1])
    for pool in sorted(p.parent for p in root.glob("*/tasks.yaml")):
        check(pool)
    sizes = {p: p.stat().st_size for p in root.rglob("*") if p.is_file()}
    big = [str(p) for p, n in sizes.items() if n > 4 << 20]
    assert not big, f"over 4 MiB: {big}"
    assert sum(sizes.values()) < 35e6, sum(sizes.values())
    print(f"{len(sizes)} files, {sum(sizes.values()) / 1e6:.1f} MB: all good")


if __name__ == "__main__":
    main()
