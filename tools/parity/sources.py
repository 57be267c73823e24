"""Base checkpoints, full fine-tunes and LoRA adapters, as deltas in float64."""

import json
import math
import os
import re

import numpy as np

from tensors import Tensors, coarser, rounded

#: 2-D weights that are not linear layers to fuse: embeddings, norms, heads.
NOT_LINEAR = re.compile(
    r"(^|\.)(\w*embed\w*|wte|wpe|shared|lm_head|classifier|score|qa_outputs|cls|pooler|\w*norm\w*|ln_\w+"
    r"|relative_attention_bias|\w*conv\w*|visual_projection|text_projection)(\.|$)",
    re.IGNORECASE,
)
#: model types whose linear layers are Conv1D, stored [in, out]
CONV1D_TYPES = {"gpt2", "openai-gpt"}


def load_json(*path):
    with open(os.path.join(*path)) as f:
        return json.load(f)


def is_adapter(directory):
    return os.path.exists(os.path.join(directory, "adapter_config.json"))


class Base:
    """A dense checkpoint: config and tensors."""

    def __init__(self, directory):
        self.directory = directory
        self.config = load_json(directory, "config.json")
        self.tensors = Tensors.of(directory)
        self.conv1d = self.config.get("model_type") in CONV1D_TYPES

    def modules(self):
        """Names the linear layers, in the order of the file."""
        for name in self.tensors:
            if name.endswith(".weight") and len(self.tensors.shape(name)) == 2:
                module = name.removesuffix(".weight")
                if not NOT_LINEAR.search(module):
                    yield module

    def weight(self, module, transposed):
        """The weight as [out, in] in float64."""
        w = self.tensors.get(module + ".weight")
        return w.T if transposed else w

    def bias(self, module):
        name = module + ".bias"
        return self.tensors.get(name) if name in self.tensors else None


class FullExpert:
    """A fine-tuned checkpoint: delta = expert - base."""

    kind = "full"

    def __init__(self, name, directory, base):
        self.name, self.base, self.tensors = name, base, Tensors.of(directory)
        self.source = os.path.basename(os.path.normpath(directory))
        self.dtype = max((self.tensors.dtype(t) for t in self.tensors), key=[self.tensors.dtype(t) for t in self.tensors].count)
        suffixes = {}
        for own in self.tensors:
            for known in base.tensors:
                if own == known or own.endswith("." + known) or known.endswith("." + own):
                    suffixes.setdefault(own, []).append(known)
        self.names = {}
        for own, known in suffixes.items():
            if own in known:
                self.names[own] = own
            elif len(known) == 1:
                self.names.setdefault(known[0], own)

    def _delta(self, name):
        own = self.names.get(name)
        if own is None:
            return None
        a, b = self.tensors.get(own), self.base.tensors.get(name)
        if a.shape != b.shape:
            raise SystemExit(f"{self.name}: tensor {own!r}: shape {a.shape}, the base has {b.shape}")
        common = coarser(self.tensors.dtype(own), self.base.tensors.dtype(name))
        if np.array_equal(rounded(a, common), rounded(b, common)):
            return None
        return a - b

    def delta(self, module, transposed):
        """The change of the weight as [out, in], None where it is untouched."""
        d = self._delta(module + ".weight")
        return d.T if d is not None and transposed else d

    def delta_bias(self, module):
        return self._delta(module + ".bias")


class LoraExpert:
    """A PEFT LoRA adapter: delta = scale * B * A, by peft's rules."""

    kind = "lora"

    def __init__(self, name, directory, base):
        self.name, self.base = name, base
        self.source = os.path.basename(os.path.normpath(directory))
        self.config = load_json(directory, "adapter_config.json")
        if self.config.get("use_dora"):
            raise SystemExit(f"{name}: DoRA is not a low-rank change of the weight")
        self.tensors = Tensors.of(directory, "adapter_model")
        self.dtype = self.tensors.dtype(next(iter(self.tensors)))
        self.names = {}
        modules = {t.rsplit(".", 1)[0] for t in base.tensors}
        for own in self.tensors:
            path = own.removeprefix("base_model.model.").replace(".base_layer.", ".").replace(".modules_to_save.default.", ".")
            module, leaf = re.fullmatch(r"(.*?)\.(lora_[AB](?:\.default)?\.weight|[^.]+)", path).groups()
            known = [m for m in modules if m == module] or [
                m for m in modules if m.endswith("." + module) or module.endswith("." + m)
            ]
            if len(known) != 1:
                raise SystemExit(f"{name}: tensor {own!r} belongs to {len(known)} modules of the base")
            self.names[known[0], leaf.replace(".default", "")] = own, module

    def _pattern(self, key, module, default):
        for pattern, value in (self.config.get(key) or {}).items():
            if re.match(rf"(.*\.)?({pattern})$", module):
                return value
        return default

    def factors(self, module):
        """B [out, r] with the scale, and A [r, in]; None where there are none."""
        if (module, "lora_A.weight") not in self.names:
            return None
        own, path = self.names[module, "lora_A.weight"]
        a, b = self.tensors.get(own), self.tensors.get(self.names[module, "lora_B.weight"][0])
        rank = self._pattern("rank_pattern", path, self.config["r"])
        alpha = self._pattern("alpha_pattern", path, self.config["lora_alpha"])
        if a.shape[0] != rank or b.shape[1] != rank:
            raise SystemExit(f"{self.name}: module {module!r}: rank {a.shape[0]}, the config says {rank}")
        return b * (alpha / (math.sqrt(rank) if self.config.get("use_rslora") else rank)), a

    def delta(self, module, transposed):
        """The change of the weight as [out, in], None where it is untouched."""
        factors = self.factors(module)
        if factors is not None:
            d = factors[0] @ factors[1]
        elif (module, "weight") in self.names:
            d = self.tensors.get(self.names[module, "weight"][0]) - self.base.tensors.get(module + ".weight")
            d = d.T if transposed else d
        else:
            return None
        return d if np.any(d) else None

    def delta_bias(self, module):
        if (module, "bias") not in self.names:
            return None
        d = self.tensors.get(self.names[module, "bias"][0]) - self.base.tensors.get(module + ".bias")
        return d if np.any(d) else None


def experts_of(arguments, base):
    """Opens 'name=path' or 'path' arguments, sorted by name, bytewise."""
    opened = []
    for argument in arguments:
        name, _, path = argument.partition("=")
        if not path:
            name, path = os.path.basename(os.path.normpath(argument)), argument
        opened.append((LoraExpert if is_adapter(path) else FullExpert)(name, path, base))
    opened.sort(key=lambda e: e.name.encode())
    names = [e.name for e in opened]
    if len(set(names)) != len(names):
        raise SystemExit(f"two experts have one name: {names}")
    return opened
