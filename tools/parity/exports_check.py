"""Holds the exports of fused models against peft, transformers and FusionBench.

    exports_check.py [--smelt COMMAND] [--peers DIR] [FAMILY...]

lora: each adapter loads with peft, and base + adapter = base + the stored delta.
dense: the checkpoint loads in transformers and is base + the stored delta.
fusionbench: loads in FusionBench's own class (in the environment with the
transformers that it works with) with no missing and no unexpected key, and
gives the logits of the fused model. With --smelt, `COMMAND fuse` and `COMMAND
convert` write everything; without it exports.py does.
"""

import argparse
import json
import logging
import os
import shlex
import subprocess
import sys
import tempfile
import warnings

import numpy as np
import torch
import transformers
from peft import PeftModel

import exports
import families
from families import FAMILIES, auto_class
from native import fuse
from sources import Base, experts_of
from tensors import DTYPES

HERE = os.path.dirname(os.path.abspath(__file__))
#: FusionBench's class -> the pin list of the environment that it works in
PINS = {"llama": "smile-4.51", "qwen2": "smile-4.51", "mistral": "smile-4.45"}
DEFAULT = ["llama", "mistral", "qwen2", "gpt2", "bert", "vit", "clip", "t5"]


class Check:
    def __init__(self, name, root, smelt, peers):
        self.name, self.family, self.smelt, self.peers = name, FAMILIES[name], smelt, peers
        self.directory = os.path.join(root, name)
        os.makedirs(self.directory)
        self.experts = families.write(self.family, self.directory)
        self.base = os.path.join(self.directory, "base")
        self.out = self.path("out")
        if smelt:
            self.command("fuse", self.base, *self.experts, "-o", self.out, "--expert-rank", "4", "--router-rank", "3", "--top-k", "2")
        else:
            base = Base(self.base)
            fuse(base, experts_of(self.experts, base), self.out, lambda m, e: 3 + len(m) % 2, 3, 2)
        self.fused = exports.Fused(self.out)

    def path(self, name):
        return os.path.join(self.directory, name)

    def command(self, *arguments):
        done = subprocess.run([*shlex.split(self.smelt), *arguments], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{self.smelt} {' '.join(arguments)}: {done.stderr.strip()}")

    def dense_base(self):
        return auto_class(self.family.auto).from_pretrained(self.base, dtype=torch.float64)

    def expected(self, expert):
        """{module: base weight + stored delta, as the base stores it}, float64."""
        e = self.fused.names.index(expert)
        for module, entry in self.fused.block["modules"].items():
            weight, delta = self.fused.tensors.get(module + ".weight"), self.fused.delta(module, e)
            if delta is not None:
                weight = weight + (delta.T if entry.get("transposed") else delta)
            yield module, weight

    def off(self, found, want, module):
        base = self.fused.tensors.get(module + ".weight")
        unit = DTYPES[self.fused.tensors.dtype(module + ".weight")][1]
        change = np.linalg.norm(want - base)
        # One rounding of each factor, or of the sum.
        allowed = 4 * unit * (change + np.linalg.norm(want))
        error = np.linalg.norm(found - want)
        assert error <= allowed, f"{module}: off by {error:.2g}, allowed {allowed:.2g}, the change is {change:.2g}"
        return error / max(change, 1e-30) if change else 0.0

    def check_lora(self):
        directory, worst, count = self.path("lora-out"), 0.0, 0
        if self.smelt:
            self.command("convert", self.out, "--to", "lora", "-o", directory)
        else:
            exports.to_lora(self.fused, directory)
        for expert in self.fused.names:
            model = self.dense_base()
            names = self.model_names(model)
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always", UserWarning)
                tuned = PeftModel.from_pretrained(model, os.path.join(directory, expert))
            keys = [str(w.message) for w in said if "keys" in str(w.message)]
            assert not keys, keys
            stored = Adapter(os.path.join(directory, expert))
            adapted = {n for n, p in tuned.named_parameters() if ".lora_A." in n}
            assert len(adapted) == len(stored.modules), (len(adapted), len(stored.modules))
            merged = tuned.merge_and_unload()
            for module, want in self.expected(expert):
                layer = merged.get_submodule(names[module])
                worst, count = max(worst, self.off(layer.weight.detach().numpy(), want, module)), count + 1
                change = self.fused.delta_bias(module, self.fused.names.index(expert))
                if change is not None:
                    want = self.fused.tensors.get(module + ".bias") + change
                    assert np.allclose(layer.bias.detach().numpy(), want, rtol=1e-6, atol=1e-7), module + ".bias"
        return f"{len(self.fused.names)} adapters, {count} weights, off by {worst:.0e} of the change"

    def model_names(self, model):
        """{module in the file: module in the model}, by equal weights."""
        known = {n: m.weight.detach().numpy() for n, m in model.named_modules() if getattr(m, "weight", None) is not None and m.weight.ndim == 2}
        names = {}
        for module in self.fused.block["modules"]:
            want = self.fused.tensors.get(module + ".weight")
            names[module] = next(n for n, w in known.items() if w.shape == want.shape and np.array_equal(w, want))
        return names

    def check_dense(self):
        worst = 0.0
        for expert in self.fused.names:
            directory = self.path(f"dense-{expert}")
            if self.smelt:
                self.command("convert", self.out, "--to", "dense", "--expert", expert, "-o", directory)
            else:
                exports.to_dense(self.fused, expert, directory)
            model, info = auto_class(self.family.auto).from_pretrained(directory, output_loading_info=True)
            before = auto_class(self.family.auto).from_pretrained(self.base, output_loading_info=True)[1]
            assert info["missing_keys"] == before["missing_keys"] and not info["unexpected_keys"], info
            dense = exports.Tensors.of(directory)
            e = self.fused.names.index(expert)
            weights = dict(self.expected(expert))
            for name in self.fused.base_tensors():
                module, _, leaf = name.rpartition(".")
                if leaf == "weight" and module in weights:
                    worst = max(worst, self.off(dense.get(name), weights[module], module))
                    continue
                want = self.fused.tensors.get(name)
                change = self.fused.delta_bias(module, e) if leaf == "bias" and module in weights else None
                want = want if change is None else want + change
                assert np.allclose(dense.get(name), want, rtol=4e-7, atol=1e-8), name
        return f"{len(self.fused.names)} checkpoints, off by {worst:.0e} of the change"

    def check_fusionbench(self):
        if self.name not in PINS:
            return None
        directory, ids, logits = self.path("fusionbench"), self.path("ids.npy"), self.path("logits.npy")
        if self.smelt:
            self.command("convert", self.out, "--to", "fusionbench", "-o", directory)
        else:
            exports.to_fusionbench(self.fused, directory)
        setup = [os.path.join(HERE, "..", "peers", "setup.sh"), *([self.peers] if self.peers else [""]), PINS[self.name]]
        python = subprocess.run(setup, check=True, capture_output=True, text=True).stdout.split()[-1]
        tokens = families.inputs(self.family, torch.float32)["input_ids"]
        np.save(ids, tokens.numpy())
        done = subprocess.run([python, os.path.join(HERE, "fusionbench_logits.py"), directory, ids, logits], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr.strip().splitlines()[-1])
        info = json.loads(done.stdout.strip().splitlines()[-1])
        bad = {k: v[:3] for k, v in info.items() if k.endswith("_keys") and v}
        assert not bad, bad
        model = auto_class(self.family.auto).from_pretrained(self.out, trust_remote_code=True, dtype=torch.float32).eval()
        with torch.no_grad():
            want = model(tokens).logits.numpy()
        error = np.linalg.norm(np.load(logits) - want) / np.linalg.norm(want)
        assert error < 1e-5, f"logits are off by {error:.2g}"
        return f"transformers {info['transformers']}, no key missing or unexpected, logits off by {error:.0e}"


class Adapter:
    """The modules that an adapter file has factors for."""

    def __init__(self, directory):
        tensors = exports.Tensors.of(directory, "adapter_model")
        self.modules = {n.split(".lora_")[0] for n in tensors if ".lora_A." in n}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", default=DEFAULT, metavar="FAMILY")
    parser.add_argument("--smelt", help="the command, e.g. 'go run ./cmd/smelt'")
    parser.add_argument("--peers", help="where the peers are (tools/peers/setup.sh)")
    parser.add_argument("--trace", action="store_true", help="stop at the first failure")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    failures = 0
    with tempfile.TemporaryDirectory() as root:
        for name in options.families:
            check = Check(name, root, options.smelt, options.peers)
            print(f"{name}:")
            for method in ("lora", "dense", "fusionbench"):
                try:
                    said = getattr(check, "check_" + method)()
                except Exception as e:
                    if options.trace:
                        raise
                    failures += 1
                    said = f"FAIL {type(e).__name__}: {str(e)[:300]}"
                if said:
                    print(f"  {method:<12}{said}", flush=True)
    print(f"{failures} failures" if failures else "all pass")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
