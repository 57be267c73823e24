"""Writes the native format (docs/format/native.md) with exact SVDs in float64."""

import json
import os
import shutil

import numpy as np
import xxhash

from smile64 import numerical_rank, part
from tensors import DTYPES, coarser, encode, write

INTEROP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "interop", "transformers")
CARRIED = (".json", ".txt", ".model", ".jinja")


def delta_epsilon(base, experts, module):
    """The spacing of the numbers that a module's deltas were computed in."""
    types = [base.tensors.dtype(module + ".weight")] + [e.dtype for e in experts]
    return 2.0**-52 if all(t == "F64" for t in types) else 2.0**-23


def plan_module(base, experts, module, rank_of, router_rank):
    """Decomposes one module. Returns its parts and entry, or None if untouched."""
    parts = []
    for e in experts:
        delta = e.delta(module, base.conv1d)
        parts.append(part(delta, e.delta_bias(module), None if delta is None else rank_of(module, e)))
    touched = [p for p in parts if p.touched]
    if not touched:
        return None
    shape = (touched[0].u.shape[0], touched[0].vt.shape[1])
    epsilon = delta_epsilon(base, experts, module)
    g = min([router_rank, *shape] + [numerical_rank(p.sigma, shape, epsilon) for p in touched])
    entry = {"in": shape[1], "out": shape[0], "rank_of_router": g, "rank_of_expert": [p.rank for p in parts]}
    if base.conv1d:
        entry["transposed"] = True
    if any(p.bias is not None for p in parts):
        entry["bias"] = True
    return parts, entry


def module_tensors(module, parts, entry, dtype):
    """The experts' tensors of one module, in the order vt, us, bias, dense."""
    g, out = entry["rank_of_router"], {}

    def add(name, array):
        out[f"{module}.smile.{name}"] = (encode(array, dtype), dtype, array.shape)

    touched = [p for p in parts if p.touched]
    add("vt", np.concatenate([p.vt[: g if p.rank == "dense" else max(p.rank, g)] for p in touched]))
    low = [p for p in touched if p.rank != "dense" and p.rank > 0]
    if low:
        add("us", np.concatenate([p.u[:, : p.rank] * p.sigma[: p.rank] for p in low], axis=1))
    if any(p.bias is not None for p in parts):
        add("bias", np.stack([np.zeros(entry["out"]) if p.bias is None else p.bias for p in parts]))
    for e, p in enumerate(parts):
        if p.rank == "dense":
            add(f"dense.{e}", p.low_rank())
    return out


def captured(p):
    return float(np.sum(p.sigma**2)) if p.rank == "dense" else float(np.sum(p.sigma[: p.rank] ** 2))


def fused_config(base, experts, modules, router_rank, top_k):
    """config.json: the base's keys, the smile block, and what transformers needs."""
    config = dict(base.config)
    config["model_type"] = "smile"
    if config.get("architectures"):
        config["architectures"] = ["Smile" + name for name in config["architectures"]]
    with open(os.path.join(INTEROP, "auto_map.json")) as f:
        config["auto_map"] = json.load(f)
    config["smile"] = {
        "format": 1,
        "base_model_type": base.config["model_type"],
        "experts": [{"name": e.name, "kind": e.kind, "source": e.source, "dtype": e.dtype} for e in experts],
        "num_local_experts": len(experts),
        "num_experts_per_tok": top_k,
        "rank_of_router": router_rank,
        "modules": {module: entry for module, (_, entry) in modules.items()},
    }
    return config


def fuse(base, experts, out, rank_of, router_rank, top_k):
    """Writes the fusion of experts into the new directory out."""
    modules = {}
    for module in base.modules():
        planned = plan_module(base, experts, module, rank_of, router_rank)
        if planned is not None:
            modules[module] = planned

    os.makedirs(out)
    for name in sorted(os.listdir(base.directory)):
        if name.endswith(CARRIED) and name != "config.json" and "safetensors" not in name:
            shutil.copyfile(os.path.join(base.directory, name), os.path.join(out, name))
    for name in sorted(os.listdir(INTEROP)):
        if name.endswith(".py"):
            shutil.copyfile(os.path.join(INTEROP, name), os.path.join(out, name))
    with open(os.path.join(out, "config.json"), "w") as f:
        json.dump(fused_config(base, experts, modules, router_rank, top_k), f, indent=2)

    stored = {t: (base.tensors.raw(t), base.tensors.dtype(t), base.tensors.shape(t)) for t in base.tensors}
    for module, (parts, entry) in modules.items():
        stored.update(module_tensors(module, parts, entry, base.tensors.dtype(module + ".weight")))
    write(os.path.join(out, "model.safetensors"), stored)

    manifest = {
        "format": 1,
        "generator": "tools/parity/reference.py",
        "files": {},
        "shards": {
            "model.safetensors": {"xxh3_128": {t: xxhash.xxh3_128_hexdigest(raw) for t, (raw, _, _) in stored.items()}}
        },
        "modules": {
            module: [
                {"expert": e.name, "energy": float(np.sum(p.sigma**2)), "captured": captured(p), "bound": captured(p)}
                for e, p in zip(experts, parts)
                if p.touched
            ]
            for module, (parts, _) in modules.items()
        },
    }
    with open(os.path.join(out, "smelt.json"), "w") as f:
        json.dump(manifest, f, indent=1)
    return modules


__all__ = ["DTYPES", "coarser", "delta_epsilon", "fuse", "plan_module"]
