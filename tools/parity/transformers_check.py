"""Loads fused models of many architectures in transformers and holds them against the formula.

    transformers_check.py [--smelt COMMAND] [--quick] [FAMILY...]

Without --smelt the fusions are written by reference.py's own writer, with
ragged, dense and zero ranks; with it by `COMMAND fuse`, and smelt's own forward
pass must agree too, where it has the architecture. The formula is a plain
loop over rows and experts in float64 on the tensors of the file.
"""

import argparse
import copy
import json
import logging
import os
import pathlib
import pickle
import shlex
import shutil
import subprocess
import sys
import tempfile
import warnings

import numpy as np
import torch
import transformers
from huggingface_hub import ModelCard
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

import families
from families import FAMILIES, auto_class
from native import fuse
from sources import Base, experts_of

TRUST = {"trust_remote_code": True}
ROOT = pathlib.Path(__file__).resolve().parents[2]
#: The families that smelt runs itself.
GO_FAMILIES = ("clip", "t5", "llama", "mistral", "qwen2", "qwen3")


def ragged(module, expert):
    """Ranks that leave no code path out."""
    number = sum(map(ord, module + expert.name))
    return [4, 3, "dense", 0, 5][number % 5]


def plain_layer(tensors, module, entry, top_k, transposed):
    """The layer as native.md says it, one row and one expert at a time."""
    get = {k: v.double() for k, v in tensors.items() if k.startswith(module + ".")}
    weight = get[module + ".weight"]
    weight = weight.T if transposed else weight
    bias, vt = get.get(module + ".bias"), get.get(module + ".smile.vt")
    us, db = get.get(module + ".smile.us"), get.get(module + ".smile.bias")
    ranks, g = entry["rank_of_expert"], entry["rank_of_router"]

    def forward(x):
        out = []
        for row in x.reshape(-1, x.shape[-1]).double():
            y = weight @ row + (0 if bias is None else bias)
            at = column = 0
            scores, adds = [], []
            for e, r in enumerate(ranks):
                add, score = torch.zeros_like(y), (-1, 0.0)
                if r is not None:
                    block = vt[at : at + (g if r == "dense" else max(r, g))] @ row
                    at += len(block)
                    score = (0, float(block[:g].norm()))
                    if r == "dense":
                        add = get[f"{module}.smile.dense.{e}"] @ row
                    elif r > 0:
                        add = us[:, column : column + r] @ block[:r]
                        column += r
                if db is not None:
                    add = add + db[e]
                scores.append(score)
                adds.append(add)
            order = sorted(range(len(ranks)), key=lambda e: (-scores[e][0], -scores[e][1], e))[:top_k]
            weights = torch.tensor([scores[e][1] for e in order], dtype=torch.float64).softmax(0)
            for w, e in zip(weights, order):
                y = y + w * adds[e]
            out.append(y)
        return torch.stack(out).view(*x.shape[:-1], -1)

    return forward


def plain_model(family, base, out, auto, fused):
    """The dense base in float64, its fused layers computed by plain_layer."""
    model = auto_class(auto).from_pretrained(base, dtype=torch.float64)
    block = json.load(open(os.path.join(out, "config.json")))["smile"]
    tensors = load_tensors(out)
    for module, name in fused.smile_modules.items():
        entry = block["modules"][module]
        layer = model.get_submodule(name)
        if not torch.equal(layer.weight, tensors[module + ".weight"].double()):
            raise AssertionError(f"{module} is not {name}")
        layer.forward = plain_layer(tensors, module, entry, block["num_experts_per_tok"], entry.get("transposed", False))
    return model.eval()


def vllm_like(out):
    """Builds and loads a model as vLLM's transformers backend does.

    From the configuration alone, by AutoModel, parameters on the meta device and
    buffers not; every nn.Linear then becomes another class; parameters without
    data get some; weights are matched by name.
    """
    transformers.AttentionInterface.register("vllm", transformers.AttentionInterface()["sdpa"])
    transformers.AttentionMaskInterface.register("vllm", transformers.AttentionMaskInterface()["sdpa"])
    config = transformers.AutoConfig.from_pretrained(out, **TRUST)
    assert config.architectures[0].startswith("Smile") and not hasattr(transformers, config.architectures[0])
    config.get_text_config()._attn_implementation = "vllm"
    register = torch.nn.Module.register_parameter

    def on_meta(module, name, parameter):
        register(module, name, parameter)
        if parameter is not None:
            module._parameters[name] = torch.nn.Parameter(module._parameters[name].to("meta"))

    torch.nn.Module.register_parameter = on_meta
    try:
        model = transformers.AutoModel.from_config(config, dtype=torch.float32, **TRUST)
    finally:
        torch.nn.Module.register_parameter = register
    assert not model.tp_plan and type(model).is_backend_compatible()
    stolen = [n for n in model.smile_modules.values() if isinstance(model.get_submodule(n), torch.nn.Linear)]
    assert not stolen, stolen
    for module in model.modules():
        for name, p in list(module.named_parameters(recurse=False)):
            module.register_parameter(name, torch.nn.Parameter(torch.full_like(p, float("nan"), device="cpu")))
    known, prefix = model.state_dict(), model.base_model_prefix + "."
    with torch.no_grad():
        for key, value in load_tensors(out).items():
            if key.removeprefix(prefix) in known:
                known.pop(key.removeprefix(prefix)).copy_(value)
            else:
                assert ".smile." not in key, f"{key} has no parameter: does its module say bias?"
    assert not known, f"not loaded: {list(known)[:3]}"
    return model.eval()


def load_tensors(directory):
    """Every tensor of a checkpoint, sharded or not."""
    tensors = {}
    for name in sorted(os.listdir(directory)):
        if name.endswith(".safetensors"):
            tensors.update(load_file(os.path.join(directory, name)))
    return tensors


def first(outputs):
    """The tensor that stands for a model's output."""
    for name in ("logits_per_image", "logits", "last_hidden_state"):
        if outputs.get(name) is not None:
            return outputs[name]
    raise AssertionError(f"no known output in {list(outputs)}")


def off(a, b):
    return float((a.double() - b.double()).norm() / b.double().norm())


class Check:
    """One family: fuses it, then every promise is a method."""

    def __init__(self, name, root, smelt, quick):
        self.name, self.family, self.quick = name, FAMILIES[name], quick
        self.directory = os.path.join(root, name)
        os.makedirs(self.directory)
        self.experts = families.write(self.family, self.directory)
        self.base = os.path.join(self.directory, "base")
        self.smelt = smelt
        self.out = self.fuse("out", 1)
        self.auto = auto_class(self.family.auto)
        self.inputs = families.inputs(self.family, torch.float32)

    def fuse(self, name, top_k):
        out = os.path.join(self.directory, name)
        if self.smelt:
            command = [*shlex.split(self.smelt), "fuse", self.base, *self.experts, "-o", out]
            subprocess.run([*command, "--expert-rank", "4", "--router-rank", "3", "--top-k", str(top_k)], check=True, capture_output=True)
        else:
            base = Base(self.base)
            fuse(base, experts_of(self.experts, base), out, ragged, 3, top_k)
        return out

    def load(self, out=None, auto=None, **kwargs):
        model = (auto or self.auto).from_pretrained(out or self.out, **TRUST, **{"dtype": torch.float32, **kwargs})
        return model.eval()

    @torch.no_grad()
    def run(self, model, **kwargs):
        return first(model(**families.inputs(self.family, model.dtype, **kwargs)))

    def check_formula(self):
        """Outputs equal the plain loop, top-1 and top-2, every head."""
        worst = 0.0
        heads = [self.family.auto] + ([self.family.head] if self.family.head else [])
        for top_k in (1, 2):
            out = self.out if top_k == 1 else self.fuse("top2", top_k)
            for auto in heads:
                fused, info = auto_class(auto).from_pretrained(out, **TRUST, dtype=torch.float64, output_loading_info=True)
                dense_info = auto_class(auto).from_pretrained(self.base, output_loading_info=True)[1]
                assert set(info["missing_keys"]) == set(dense_info["missing_keys"]), info
                plain = plain_model(self.family, self.base, out, auto, fused.eval())
                want = self.run(plain)
                error = off(self.run(fused), want)
                single = off(self.run(self.load(out, auto_class(auto))), want)
                dense = off(self.run(auto_class(auto).from_pretrained(self.base, dtype=torch.float64).eval()), want)
                assert error < 1e-10 and single < 2e-5, (auto, top_k, error, single)
                assert dense > 1e-3, "the experts do nothing"
                worst = max(worst, error)
        return f"off by {worst:.0e} in float64, {single:.0e} in float32"

    def check_smelt(self):
        """smelt's own forward pass gives the same logits, top-1 and top-2."""
        if not self.smelt or self.name not in GO_FAMILIES:
            return None
        binary, worst = os.path.join(os.path.dirname(self.directory), "forward"), 0.0
        subprocess.run(["go", "build", "-o", binary, "./tools/parity/forward"], cwd=ROOT, check=True)
        given = {k: (v.flatten(1) if v.is_floating_point() else v).tolist() for k, v in self.inputs.items()}
        for out in (self.out, self.fuse("top2-smelt", 2)):
            done = subprocess.run([binary, out], input=json.dumps(given).encode(), check=True, capture_output=True)
            want = self.run(self.load(out))
            got = torch.from_numpy(np.frombuffer(done.stdout, np.float32).copy()).view(want.shape)
            worst = max(worst, off(got, want))
        assert worst < 1e-5, worst
        return f"off by {worst:.0e} in float32"

    def check_save(self):
        """save_pretrained and reload: every tensor, the config, the outputs."""
        saved = os.path.join(self.directory, "saved")
        model = self.load()
        model.save_pretrained(saved)
        before, after = load_tensors(self.out), load_tensors(saved)
        assert before.keys() == after.keys(), before.keys() ^ after.keys()
        assert all(torch.equal(before[k], after[k]) and before[k].dtype == after[k].dtype for k in before)
        old, new = (json.load(open(os.path.join(d, "config.json"))) for d in (self.out, saved))
        for key in ("smile", "auto_map", "model_type"):
            assert old[key] == new[key], key
        assert new["architectures"] == ["Smile" + type(model).__name__]
        assert torch.equal(self.run(self.load(saved)), self.run(model))
        if self.family.head:
            bare = self.load(auto=auto_class(self.family.head))
            want = self.run(bare)
            bare.save_pretrained(saved + "-head")
            again = auto_class(self.family.head).from_pretrained(saved + "-head", **TRUST, dtype=torch.float32).eval()
            assert torch.equal(self.run(again), want)
        return f"{len(before)} tensors"

    def check_half(self):
        """bf16 and fp16: finite, and beside what the dense base loses."""
        found = []
        want = self.run(self.load())
        base = self.auto.from_pretrained(self.base, dtype=torch.float32).eval()
        for dtype in (torch.bfloat16, torch.float16):
            got = self.run(self.load(dtype=dtype))
            assert got.isfinite().all()
            dense = off(self.run(self.auto.from_pretrained(self.base, dtype=dtype).eval()), self.run(base))
            found.append(f"{str(dtype)[6:]} {off(got, want):.0e} (dense {dense:.0e})")
            # Rounded inputs send some tokens to other experts: check_layers holds each layer closely.
            assert off(got, want) < 1, found
        return ", ".join(found)

    def check_layers(self):
        """Each layer alone, in half precision: the same experts, and the rounding of a dense layer."""
        block = json.load(open(os.path.join(self.out, "config.json")))["smile"]
        tensors, worst = load_tensors(self.out), 0.0
        model = self.load(dtype=torch.bfloat16)
        for module, name in model.smile_modules.items():
            entry = block["modules"][module]
            rounded = {k: v.bfloat16() for k, v in tensors.items() if k.startswith(module + ".")}
            plain = plain_layer(rounded, module, entry, block["num_experts_per_tok"], entry.get("transposed", False))
            x = torch.randn(12, entry["in"], dtype=torch.bfloat16)
            worst = max(worst, off(model.get_submodule(name)(x), plain(x)))
        assert worst < 1e-2, worst
        return f"off by {worst:.0e} in bfloat16"

    def check_vllm(self):
        """The steps of vLLM's transformers backend, without vLLM: see vllm_like."""
        if self.name not in ("llama", "mistral", "qwen2", "qwen3", "phi3", "phi"):
            return None
        model = vllm_like(self.out)
        want = self.load(auto=auto_class("AutoModel"))
        with torch.no_grad():
            got = model(**self.inputs, use_cache=False, return_dict=False)[0]
            want = want(**self.inputs, use_cache=False, return_dict=False)[0]
        assert off(got, want) < 1e-5, off(got, want)
        return "opaque layers, weights by name"

    def check_flagless(self):
        """A block that does not say which modules change a bias loads as well."""
        bare = os.path.join(self.directory, "flagless")
        shutil.copytree(self.out, bare)
        path = os.path.join(bare, "config.json")
        config = json.load(open(path))
        for entry in config["smile"]["modules"].values():
            entry.pop("bias", None)
        json.dump(config, open(path, "w"))
        assert torch.equal(self.run(self.load(bare)), self.run(self.load()))
        return "bias found by its tensor"

    def check_gradients(self):
        """Every expert's tensors are reached by gradients; a step changes the output."""
        model = self.load(self.fuse("grad", 2)).train()
        called = set()
        for name in model.smile_modules.values():
            model.get_submodule(name).register_forward_hook(lambda *_, name=name: called.add(name))
        for p in model.parameters():
            p.requires_grad_(True)
        for seed in range(4):
            first(model(**families.inputs(self.family, torch.float32, seed=seed))).square().mean().backward()
        # Where no expert adds anything (rank 0, no bias) there is nothing to learn.
        idle = [n for n, m in model.named_modules() if n.endswith(".smile") and m.us is m.bias is m.dense is None]
        names = [n for n, _ in model.named_parameters() if n.split(".smile.")[0] in called and ".smile." in n]
        names = [n for n in names if not n.startswith(tuple(i + "." for i in idle))]
        gradients = {n: model.get_parameter(n).grad for n in names}
        bad = [n for n, g in gradients.items() if g is None or not g.isfinite().all()]
        assert names and not bad, bad
        moved = [n for n, g in gradients.items() if g.abs().sum() > 0]
        assert len(moved) > len(names) // 2, (len(moved), len(names))
        return f"{len(moved)} of {len(names)} expert tensors"

    def check_peft(self):
        """PEFT puts a LoRA on a fused layer, and merging keeps the output."""
        if not self.family.lora:
            return None
        model = self.load()
        want = self.run(model)
        tuned = get_peft_model(model, LoraConfig(r=2, target_modules=self.family.lora, init_lora_weights=False)).eval()
        got = self.run(tuned)
        assert off(got, want) > 1e-6
        merged = tuned.merge_and_unload()
        assert off(self.run(merged), got) < 1e-4
        return "LoRA on fused layers"

    def check_generate(self):
        """generate with a cache gives what it gives without one."""
        if not self.family.causal:
            return None
        model, ids = self.load(), self.inputs["input_ids"]
        kwargs = dict(max_new_tokens=8, do_sample=False, pad_token_id=0)
        cached = model.generate(ids, **kwargs)
        assert torch.equal(cached, model.generate(ids, use_cache=False, **kwargs))
        return f"{cached.shape[1]} tokens"

    def check_device_map(self):
        """device_map="auto", and layers that are offloaded to disk."""
        model = self.load(device_map="auto")
        want = self.run(self.load())
        assert torch.equal(self.run(model), want)
        layers = [n for n, m in model.named_modules() if type(m).__name__ in (model._no_split_modules or ()) and "Layer" in type(m).__name__ or n.endswith("h.1")]
        if not layers:
            return "auto"
        device_map = {n: "cpu" for n in model.state_dict() if not any(n.startswith(layer + ".") for layer in layers[-1:])}
        device_map[layers[-1]] = "disk"
        for n, _ in model.named_buffers():
            if not n.startswith(layers[-1] + "."):
                device_map[n] = "cpu"
        folder = os.path.join(self.directory, "offload")
        offloaded = self.load(device_map=device_map, offload_folder=folder)
        assert any(p.device.type == "meta" for p in offloaded.parameters())
        assert off(self.run(offloaded), want) < 1e-6
        return f"auto, and {layers[-1]} on disk"

    def check_compile(self):
        """torch.compile without a graph break in a fused layer."""
        import torch._dynamo

        torch._dynamo.reset()
        model = self.load()
        want = self.run(model)
        layers = [m for m in model.modules() if type(m).__name__ in ("SmileLinear", "SmileConv1D")]
        backend = "inductor" if not self.quick and self.name in ("llama", "gpt2", "clip") else "aot_eager"
        for layer in layers[:: max(1, len(layers) // 6)]:
            width = layer.smile.in_features
            x = torch.randn(3, 5, width)
            assert off(torch.compile(layer, fullgraph=True, backend=backend)(x), layer(x)) < 1e-5
        torch._dynamo.reset()
        assert off(self.run(torch.compile(model, backend=backend)), want) < 1e-5
        return f"{backend}, fullgraph layers"

    def check_config(self):
        """The configuration is the base's, survives copies, and the code must be trusted."""
        config = transformers.AutoConfig.from_pretrained(self.out, **TRUST)
        base = transformers.AutoConfig.from_pretrained(self.base)
        assert isinstance(config, type(base)) and config.model_type == base.model_type
        for other in (copy.deepcopy(config), pickle.loads(pickle.dumps(config)), type(config).from_dict(config.to_dict())):
            assert other.to_dict() == config.to_dict()
        made = self.auto.from_config(config, **TRUST)
        assert made.smile_modules.keys() == self.load().smile_modules.keys()
        try:
            self.auto.from_pretrained(self.out, trust_remote_code=False)
        except Exception as e:
            return f"{type(base).__name__}; untrusted: {type(e).__name__}"
        raise AssertionError("loads without trust")

    def check_card(self):
        """The model card is one that the hub's own library reads, and says how to load the model."""
        if not self.smelt:
            return None
        card = ModelCard.load(os.path.join(self.out, "README.md"))
        assert card.data.library_name == "transformers" and card.data.base_model == "base", card.data
        assert card.data.base_model_relation == "merge" and "smile" in card.data.tags, card.data
        for way in ("from_pretrained(", "smelt inspect", "--to lora", "| all | "):
            assert way in card.text, way
        return ", ".join(card.data.tags)

    def check_damage(self):
        """A missing expert tensor, or one of another shape, is an error and never a silent zero."""
        damaged = os.path.join(self.directory, "damaged")
        shutil.copytree(self.out, damaged, ignore=shutil.ignore_patterns("*.safetensors*"))
        path, tensors = os.path.join(damaged, "model.safetensors"), load_tensors(self.out)
        victim = next(k for k in tensors if k.endswith(".smile.vt"))
        for change in ({victim: None}, {victim: tensors[victim][:-1].clone()}):
            kept = {k: v for k, v in {**tensors, **change}.items() if v is not None}
            save_file(kept, path, {"format": "pt"})
            try:
                self.load(damaged)
            except ValueError as e:
                assert "smile.vt" in str(e), e
            except RuntimeError as e:
                assert "ignore_mismatched_sizes" in str(e), e
            else:
                raise AssertionError("loads without an expert")
        return "refused"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", default=list(FAMILIES), metavar="FAMILY")
    parser.add_argument("--smelt", help="the command that fuses, e.g. 'go run ./cmd/smelt'")
    parser.add_argument("--quick", action="store_true", help="no inductor")
    parser.add_argument("--only", help="one check, by name")
    parser.add_argument("--trace", action="store_true", help="stop at the first failure")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    torch.set_num_threads(2)
    failures = 0
    print(f"transformers {transformers.__version__}, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as root:
        for name in options.families:
            check = Check(name, root, options.smelt, options.quick)
            block = json.load(open(os.path.join(check.out, "config.json")))["smile"]
            print(f"{name}: {len(block['modules'])} fused modules")
            for method in (m for m in dir(check) if m.startswith("check_")):
                if options.only and method != "check_" + options.only:
                    continue
                try:
                    said = getattr(check, method)()
                except Exception as e:
                    if options.trace:
                        raise
                    failures += 1
                    said = f"FAIL {type(e).__name__}: {str(e)[:300]}"
                if said:
                    print(f"  {method.removeprefix('check_'):<11}{said}", flush=True)
    print(f"{failures} failures" if failures else "all pass")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
