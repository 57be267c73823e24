"""Holds smelt's CLIP against transformers on a real pool of fine-tuned models:

    python bench/models/pool.py --pool DIR [--work DIR] [--limit N]

DIR holds base/, base-bf16/, experts/NAME/, heads.safetensors and tasks.json with
the place of each task's test images (gzipped IDX). Every expert on its own task,
the base in float32 and bf16 on all: predictions must be the same on every image,
embeddings within a few roundings. The text tower embeds all captions.
"""

import argparse
import gzip
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoTokenizer, CLIPModel, CLIPVisionModel

ROOT = pathlib.Path(__file__).resolve().parents[2]


def read_idx(path):
    data = gzip.open(path).read()
    dims = data[3]
    shape = [int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(dims)]
    return np.frombuffer(data, np.uint8, offset=4 + 4 * dims).reshape(shape)


def pixels_of(images, size):
    out = []
    for x in images:
        im = Image.fromarray(x).convert("RGB")
        if im.size != (size, size):
            im = im.resize((size, size), Image.BICUBIC)
        out.append(np.asarray(im, np.float32).transpose(2, 0, 1) / 255)
    return torch.tensor((np.stack(out) - 0.5) / 0.5)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--pool", type=pathlib.Path, required=True)
    a.add_argument("--work", type=pathlib.Path)
    a.add_argument("--limit", type=int, default=1 << 30)
    o = a.parse_args()
    work = o.work or pathlib.Path(tempfile.mkdtemp())
    work.mkdir(parents=True, exist_ok=True)
    binary = work / "embed"
    subprocess.run(["go", "build", "-o", binary, "./bench/models/embed"], cwd=ROOT, check=True)
    tasks = json.loads((o.pool / "tasks.json").read_text())
    heads = load_file(o.pool / "heads.safetensors")
    head = lambda name: next(v for k, v in heads.items() if k.split(".")[0] == name)
    base = CLIPModel.from_pretrained(o.pool / "base", dtype=torch.float32).eval()
    rounded = CLIPModel.from_pretrained(o.pool / "base-bf16", dtype=torch.float32).eval()
    project = base.visual_projection.weight.detach()
    differ, worst, seen = 0, 0.0, 0

    def embed(directory, flag, path, width):
        subprocess.run([binary, "-dir", directory, flag, path, "-out", work / "out.bin"], check=True)
        return torch.tensor(np.fromfile(work / "out.bin", np.float32).reshape(-1, width))

    def compare(what, name, got, want, h):
        nonlocal differ, worst, seen
        error = ((got - want).abs().max() / want.abs().max()).item()
        unit = lambda v: v / v.norm(dim=-1, keepdim=True)
        n = int((unit(got) @ h.T).argmax(-1).ne((unit(want) @ h.T).argmax(-1)).sum())
        differ, worst, seen = differ + n, max(worst, error), seen + len(got)
        print(f"{what:10} {name:10} {len(got):5} images, {n} predictions differ, embeddings within {error:.1e}", flush=True)

    with torch.inference_mode():
        for name, task in tasks["tasks"].items():
            images = read_idx((o.pool / task["data"]).resolve() / "test-images.idx.gz")[: o.limit]
            x = pixels_of(images, tasks["image_size"])
            x.numpy().astype("<f4").tofile(work / "pixels.bin")
            h = head(name)
            batches = x.split(256)
            expert = CLIPVisionModel.from_pretrained(o.pool / "experts" / name, dtype=torch.float32).eval()
            want = torch.cat([expert(b).pooler_output for b in batches])
            got = embed(o.pool / "experts" / name, "-pixels", work / "pixels.bin", want.shape[1])
            compare("expert", name, got @ project.T, want @ project.T, h)
            for what, model in (("base", base), ("base-bf16", rounded)):
                want = torch.cat([model.get_image_features(b).pooler_output for b in batches])
                got = embed(o.pool / what, "-pixels", work / "pixels.bin", want.shape[1])
                compare(what, name, got, want, h)
        tokenizer = AutoTokenizer.from_pretrained(o.pool / "base")
        texts = [t.format(c) for task in tasks["tasks"].values() for c in task["classes"] for t in task["templates"]]
        ids = [tokenizer(t).input_ids for t in texts]
        (work / "ids.json").write_text(json.dumps(ids))
        want = torch.cat([base.get_text_features(torch.tensor([i])).pooler_output for i in ids])
        got = embed(o.pool / "base", "-ids", work / "ids.json", want.shape[1])
        error = ((got - want).abs().max() / want.abs().max()).item()
        print(f"text tower: {len(ids)} captions within {error:.1e}")
    print(f"{seen} images: {differ} predictions differ; worst embedding {worst:.1e}")
    sys.exit(differ > 0 or worst > 1e-4 or error > 1e-4)


main()
