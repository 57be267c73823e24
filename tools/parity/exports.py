"""Writes a fused model's exports in Python: LoRA adapters, dense checkpoints, FusionBench.

These are what `smelt convert` is held against, and what the checks run on
where there is no smelt.
"""

import json
import os
import shutil

import numpy as np

from sources import load_json
from tensors import Tensors, encode, write


class Fused:
    """A fused model: its configuration and, module by module, its experts."""

    def __init__(self, directory):
        self.directory = directory
        self.config = load_json(directory, "config.json")
        self.block = self.config["smile"]
        self.tensors = Tensors.of(directory)
        self.names = [e["name"] for e in self.block["experts"]]

    def factors(self, module, expert):
        """The rows [R, in] and columns [out, r] of one expert; None where untouched."""
        entry = self.block["modules"][module]
        g, row, column = entry["rank_of_router"], 0, 0
        for e, rank in enumerate(entry["rank_of_expert"]):
            low = rank if isinstance(rank, int) else 0
            rows = 0 if rank is None else max(low, g)
            if e == expert:
                break
            row, column = row + rows, column + low
        if rank is None:
            return None
        us = self.tensors.get(module + ".smile.us")[:, column : column + low] if low else np.zeros((entry["out"], 0))
        return self.tensors.get(module + ".smile.vt")[row : row + rows], us

    def delta(self, module, expert):
        """The change of the weight that is stored of one expert, [out, in]; None where there is none."""
        if self.block["modules"][module]["rank_of_expert"][expert] == "dense":
            return self.tensors.get(f"{module}.smile.dense.{expert}")
        factors = self.factors(module, expert)
        if factors is None or factors[1].shape[1] == 0:
            return None
        vt, us = factors
        return us @ vt[: us.shape[1]]

    def delta_bias(self, module, expert):
        name = module + ".smile.bias"
        return self.tensors.get(name)[expert] if name in self.tensors else None

    def base_config(self):
        """config.json of the base."""
        config = {k: v for k, v in self.config.items() if k not in ("smile", "auto_map")}
        config["model_type"] = self.block["base_model_type"]
        if config.get("architectures"):
            config["architectures"] = [name.removeprefix("Smile") for name in config["architectures"]]
        return config

    def base_tensors(self):
        for name in self.tensors:
            if ".smile." not in name and not name.startswith("smile.own."):
                yield name


def save(directory, config_name, config, tensors, stem="model"):
    os.makedirs(directory)
    with open(os.path.join(directory, config_name), "w") as f:
        json.dump(config, f, indent=2)
    write(os.path.join(directory, stem + ".safetensors"), tensors)


def copied(fused, name):
    return fused.tensors.raw(name), fused.tensors.dtype(name), fused.tensors.shape(name)


def to_dense(fused, expert, directory):
    """Base and one expert's stored change, rounded once to the base's type."""
    e, stored = fused.names.index(expert), {}
    for name in fused.base_tensors():
        stored[name] = copied(fused, name)
    for module, entry in fused.block["modules"].items():
        for name, change in ((".weight", fused.delta(module, e)), (".bias", fused.delta_bias(module, e))):
            if change is not None:
                dtype = fused.tensors.dtype(module + name)
                change = change.T if name == ".weight" and entry.get("transposed") else change
                total = fused.tensors.get(module + name) + change
                stored[module + name] = (encode(total, dtype), dtype, total.shape)
    save(directory, "config.json", fused.base_config(), stored)


def to_lora(fused, directory):
    """One PEFT adapter per expert: the product of its factors, split as sqrt(S)."""
    transposed = any(entry.get("transposed") for entry in fused.block["modules"].values())
    for e, name in enumerate(fused.names):
        ranks, stored = {}, {}
        for module in fused.block["modules"]:
            factors = fused.factors(module, e)
            if factors is None or factors[1].shape[1] == 0:
                continue
            vt, us = factors
            sigma = np.linalg.norm(us, axis=0)
            root = np.sqrt(np.where(sigma > 0, sigma, 1.0))
            ranks[module] = len(sigma)
            key, dtype = f"base_model.model.{module}.lora_", fused.tensors.dtype(module + ".smile.vt")
            for leaf, array in (("A", root[:, None] * vt[: len(sigma)]), ("B", us / root)):
                stored[f"{key}{leaf}.weight"] = (encode(array, dtype), dtype, array.shape)
        rank = max(ranks.values())
        ragged = {module: r for module, r in ranks.items() if r != rank}
        config = {
            "alpha_pattern": ragged,
            "base_model_name_or_path": "",
            "bias": "none",
            "fan_in_fan_out": transposed,
            "init_lora_weights": True,
            "lora_alpha": rank,
            "lora_dropout": 0.0,
            "modules_to_save": None,
            "peft_type": "LORA",
            "r": rank,
            "rank_pattern": ragged,
            "target_modules": sorted(ranks),
            "task_type": None,
            "use_dora": False,
            "use_rslora": False,
        }
        save(os.path.join(directory, name), "adapter_config.json", config, stored, "adapter_model")


def linear_modules(fused):
    """The layers that FusionBench's decoder classes make fused."""
    leaves = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    return [n.removesuffix(".weight") for n in fused.base_tensors() if n.removesuffix(".weight").rsplit(".", 1)[-1] in leaves]


def to_fusionbench(fused, directory):
    """The layout of SmileLlama, SmileMistral and SmileQwen2: one rank for all, padded with zeros.

    A module or an expert without a change gets zeros: its score is 0, so it
    comes after all others, as ours does.
    """
    block, stored = fused.block, {}
    count = block["num_local_experts"]
    g = max(entry["rank_of_router"] for entry in block["modules"].values())
    ranks = [r for entry in block["modules"].values() for r in entry["rank_of_expert"] if r is not None]
    if "dense" in ranks:
        raise SystemExit("an expert is kept whole: FusionBench has one rank for all")
    rank, modules = max(ranks), set(linear_modules(fused))
    for name in fused.base_tensors():
        module, leaf = name.rsplit(".", 1)
        stored[f"{module}.shared_linear.{leaf}" if module in modules else name] = copied(fused, name)
    for module in sorted(modules):
        dtype = fused.tensors.dtype(module + ".weight")
        out, width = fused.tensors.shape(module + ".weight")
        gate = np.zeros((count, g, width))
        for e in range(count):
            u, svh, bias = np.zeros((out, rank)), np.zeros((rank, width)), np.zeros(out)
            if module in block["modules"]:
                factors, change = fused.factors(module, e), fused.delta_bias(module, e)
                if factors is not None:
                    vt, us = factors
                    n = block["modules"][module]["rank_of_router"]
                    gate[e, :n] = vt[:n]
                    u[:, : us.shape[1]], svh[: us.shape[1]] = us, vt[: us.shape[1]]
                bias = bias if change is None else change
            leaves = {"u": u, "svh": svh}
            if module + ".bias" in fused.tensors:
                leaves["bias"] = bias
            for leaf, array in leaves.items():
                stored[f"{module}.experts.{e}.{leaf}"] = (encode(array, dtype), dtype, array.shape)
        gate = gate.reshape(count * g, width)
        stored[module + ".gate.weight"] = (encode(gate, dtype), dtype, gate.shape)
    base = fused.base_config()
    config = {
        **base,
        "model_type": "smile_" + base["model_type"],
        "architectures": ["Smile" + name for name in base.get("architectures") or []],
        "num_experts_per_tok": block["num_experts_per_tok"],
        "rank_of_router": g,
        "rank_of_expert": rank,
        "num_local_experts": count,
    }
    save(directory, "config.json", config, stored)
    if os.path.exists(os.path.join(fused.directory, "generation_config.json")):
        shutil.copy(os.path.join(fused.directory, "generation_config.json"), directory)
