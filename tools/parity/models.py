"""Holds smelt's own forward passes against transformers on real fine-tuned models.

    python tools/parity/models.py --smelt SMELT [--shared DIR] [--images 40]

Images: the vision pool of DIR/pools where it is there, else the bundled one. On
a few test images of every task: the base, the task's full expert, its LoRA
(through smelt fuse, against peft) and all experts fused (against the embedded
modeling_smile.py). Predictions must be the same on every image; of a fused
model, whose tokens may stand between two experts, on all but one in a hundred.
Weights of bf16 are held against transformers in float32, and what smelt rounds
by default against what transformers loses in bf16. Text: greedy continuations
of the bundled causal pool, token for token.
"""

import argparse
import gzip
import json
import pathlib
import subprocess
import tempfile

import numpy as np
import torch
import transformers
import yaml
from peft import PeftModel
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer, CLIPModel

transformers.utils.logging.disable_progress_bar()
ROOT = pathlib.Path(__file__).resolve().parents[2]


def read_idx(path):
    data = gzip.open(path).read()
    shape = [int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(data[3])]
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


def pixels_of(images, size):
    out = []
    for x in images:
        im = Image.fromarray(x).convert("RGB")
        if im.size != (size, size):
            im = im.resize((size, size), Image.BICUBIC)
        out.append(np.asarray(im, np.float32).transpose(2, 0, 1) / 255)
    return torch.tensor((np.stack(out) - 0.5) / 0.5)


def shared_tasks(pool):
    tasks = json.loads((pool / "tasks.json").read_text())
    heads = load_file(pool / "heads.safetensors")
    for name, t in tasks["tasks"].items():
        head = next(v for k, v in heads.items() if k.split(".")[0] == name)
        yield name, (pool / t["data"]).resolve() / "test-images.idx.gz", head


def bundled_tasks(pool, base):
    tokenizer = AutoTokenizer.from_pretrained(pool / "base")
    for t in yaml.safe_load((pool / "tasks.yaml").read_text())["tasks"]:
        if t.get("held_out"):
            continue
        rows = []
        for c in t["classes"]:
            x = [base.get_text_features(torch.tensor([tokenizer(f.format(c)).input_ids])).pooler_output[0] for f in t["templates"]]
            rows.append(unit(unit(torch.stack(x)).mean(0)))
        yield t["name"], pool / t["images"], torch.stack(rows)


def unit(v):
    return v / v.norm(dim=-1, keepdim=True)


class Checker:
    def __init__(self, smelt, work):
        self.smelt, self.work, self.bad = smelt, work, []
        self.embed_binary = work / "embed"
        subprocess.run(["go", "build", "-o", self.embed_binary, "./tools/parity/embed"], cwd=ROOT, check=True)

    def embed(self, directory, pixels, *flags):
        pixels.numpy().astype("<f4").tofile(self.work / "pixels.bin")
        subprocess.run([self.embed_binary, "-dir", directory, "-pixels", self.work / "pixels.bin", "-out", self.work / "out.bin", *flags], check=True)
        return torch.tensor(np.fromfile(self.work / "out.bin", np.float32).reshape(len(pixels), -1))

    def fuse(self, name, *args):
        subprocess.run([self.smelt, "fuse", *args, "-o", self.work / name], check=True, capture_output=True)
        return self.work / name

    def require(self, ok, what):
        if not ok:
            self.bad.append(what)


def vision(check, pool, tasks, limit):
    base_dir = pool / "base"
    load = lambda d, dtype=torch.float32: CLIPModel.from_pretrained(d, dtype=dtype).eval()
    base = load(base_dir)
    names = sorted(d.name for d in (pool / "experts").iterdir())
    project, size = base.visual_projection, base.config.vision_config.image_size
    fused_dir = check.fuse("fused", base_dir, *[f"{n}={pool / 'experts' / n}" for n in names], "--expert-rank", "16", "--router-rank", "4")
    fused = AutoModel.from_pretrained(fused_dir, trust_remote_code=True, dtype=torch.float32).eval()
    half_dir = pool / "base-bf16" if (pool / "base-bf16").is_dir() else base_dir
    half = load(half_dir)
    low = load(half_dir, torch.bfloat16)
    features = lambda m, x: m.get_image_features(x).pooler_output.float()
    count, worst, errors = {}, {}, {"exact": [], "default": [], "transformers": []}

    def compare(what, got, want, head):
        differ = int((unit(got) @ head.T).argmax(-1).ne((unit(want) @ head.T).argmax(-1)).sum())
        seen, d = count.get(what, (0, 0))
        count[what] = seen + len(got), d + differ
        worst[what] = max(worst.get(what, 0.0), ((got - want).abs().max() / want.abs().max()).item())

    for name, images, head in tasks(pool) if tasks is shared_tasks else tasks(pool, base):
        images = read_idx(images)
        x = pixels_of(images[:: max(1, len(images) // limit)][:limit], size)
        compare("base", check.embed(base_dir, x, "-exact"), features(base, x), head)
        compare("fused", check.embed(fused_dir, x, "-exact"), features(fused, x), head)
        want = features(half, x)
        got = {"exact": check.embed(half_dir, x, "-exact"), "default": check.embed(half_dir, x), "transformers": features(low, x.bfloat16())}
        compare("bf16 weights", got["exact"], want, head)
        for k, v in got.items():
            errors[k].append((v - want).pow(2).mean().sqrt() / want.pow(2).mean().sqrt())
        if name not in names:
            continue
        directory = pool / "experts" / name
        if json.loads((directory / "config.json").read_text())["model_type"] == "clip":
            compare("experts", check.embed(directory, x, "-exact"), features(load(directory), x), head)
        else:
            expert = AutoModel.from_pretrained(directory, dtype=torch.float32).eval()
            own = AutoConfig.from_pretrained(directory)
            assert own.model_type == "clip_vision_model", own.model_type
            compare("experts", project(check.embed(directory, x, "-exact")), project(expert(x).pooler_output), head)
        adapter = pool / "lora" / name
        if adapter.is_dir():
            one = check.fuse("lora-" + name, base_dir, f"{name}={adapter}", "--expert-rank", "64", "--router-rank", "4", "--dtype", "F32")
            merged = PeftModel.from_pretrained(load(base_dir), adapter).merge_and_unload().eval()
            compare("lora", check.embed(one, x, "-exact"), features(merged, x), head)
    for what, (seen, differ) in count.items():
        print(f"{what:13} {seen:5} images, {differ} predictions differ, embeddings within {worst[what]:.1e}")
        check.require(differ <= (seen // 100 if what == "fused" else 0), f"{what}: {differ} of {seen} predictions differ")
        check.require(what == "fused" or worst[what] < 1e-4, f"{what}: embeddings differ by {worst[what]:.1e}")
    e = {k: torch.stack(v).mean().item() for k, v in errors.items()}
    print("bf16, error of embeddings against float32: " + ", ".join(f"{k} {v:.1e}" for k, v in e.items()))
    check.require(e["default"] <= e["transformers"], "rounded inputs lose more than transformers does in bf16")


def text(check, limit=8, steps=24):
    pool = ROOT / "examples/pools/causal"
    model = AutoModelForCausalLM.from_pretrained(pool / "base", dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(pool / "base")
    prompts = [json.loads(l)["prompt"] for f in sorted((pool / "test").glob("*.jsonl")) for l in f.read_text().splitlines()[:limit]]
    (check.work / "prompts.txt").write_text("\n".join(prompts) + "\n")
    out = subprocess.run(
        [check.smelt, "generate", pool / "base", "--prompts-file", check.work / "prompts.txt", "--max-tokens", str(steps), "--exact", "--json"],
        check=True, capture_output=True, text=True).stdout
    differ = 0
    for prompt, got in zip(prompts, json.loads(out)["texts"], strict=True):
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        want = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=steps)[0, ids.shape[1]:].tolist()
        want = want[: want.index(model.config.eos_token_id)] if model.config.eos_token_id in want else want
        differ += want != (got["tokens"] or [])
    print(f"text          {len(prompts):5} prompts, {differ} greedy continuations differ")
    check.require(differ == 0, f"{differ} greedy continuations differ")


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--smelt", required=True)
    a.add_argument("--shared", type=pathlib.Path, default=ROOT.parent / "shared")
    a.add_argument("--images", type=int, default=40)
    o = a.parse_args()
    pool = o.shared / "pools/vision"
    with tempfile.TemporaryDirectory() as work, torch.inference_mode():
        check = Checker(o.smelt, pathlib.Path(work))
        if pool.is_dir():
            vision(check, pool, shared_tasks, o.images)
        else:
            print(f"no {pool} here: the bundled pool")
            vision(check, ROOT / "examples/pools/vision", bundled_tasks, o.images)
        text(check)
        print("models: " + ("ok" if not check.bad else "; ".join(check.bad)))
        raise SystemExit(len(check.bad) > 0)


if __name__ == "__main__":
    main()
