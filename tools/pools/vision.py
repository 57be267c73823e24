"""Builds the vision pool: tokenizer, mini CLIP, eight full fine-tunes, eight LoRA adapters.

    python tools/pools/vision.py [--out examples/pools/vision] [--stage test|validation|base|full|lora] [--task NAME ...]

Without --stage everything that is not there yet is built, in order.
"""

import argparse
import gzip
import json
import pathlib
import struct

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from transformers import AutoTokenizer, CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPVisionModel

import images
from training import Clock, adapter, cache, cached, fit, kept, round_bf16, save_adapter, set_seed
from vocabulary import clip_vocabulary

TRAIN, TEST = 8000, 240  # pictures a task
SPLITS = {"validation": "test", "test": "held"}  # the seeds: recipes were chosen on what was once called test
MEAN = STD = 0.5
SEE = dict(steps=1100, batch=144, lr=1.5e-3)  # the vision tower learns to see, on labels
READ = dict(steps=12, lr=2e-3)  # the text tower learns to name it, and is stopped early
MIX = {"clocks": 56, "digits": 30, "letters": 160, "plates": 30, "shapes": 40, "signs": 60, "terrain": 20, "textures": 60,
       "arrows": 40}  # how many captions of each task it reads a step
FULL = dict(batch=96, lr=3e-4)
LORA = dict(batch=96, lr=1e-3, rank=16, alpha=16)
FULL_STEPS = {"letters": 500}  # the other tasks take 60
LORA_STEPS = {"letters": 800}  # the other tasks take 100
TARGETS = r"vision_model\.encoder\.layers\.\d+\.(self_attn\.(q|k|v|out)_proj|mlp\.fc[12])"

CONFIG = dict(
    projection_dim=96,
    vision_config=dict(hidden_size=192, intermediate_size=384, num_hidden_layers=4, num_attention_heads=6,
                       image_size=32, patch_size=8, projection_dim=96),
    text_config=dict(hidden_size=96, intermediate_size=192, num_hidden_layers=2, num_attention_heads=4,
                     max_position_embeddings=24, projection_dim=96),
)


def pixels(x: np.ndarray) -> torch.Tensor:
    """Images uint8 [N,32,32,3] as the float32 [N,3,32,32] that the model sees."""
    return (torch.from_numpy(x).permute(0, 3, 1, 2).float() / 255 - MEAN) / STD


def shifted(x: torch.Tensor, gen: torch.Generator) -> torch.Tensor:
    """The batch moved by up to one pixel, edges repeated."""
    dx, dy = torch.randint(0, 3, (2,), generator=gen).tolist()
    return F.pad(x, (1, 1, 1, 1), mode="replicate")[:, :, dy : dy + 32, dx : dx + 32]


def data(task: str, split: str, count: int) -> tuple:
    """The pictures of a split, drawn once and then read from the cache."""
    return cached(f"vision-{task}-{split}-{count}", lambda: images.sample(task, split, count))


# ── texts ─────────────────────────────────────────────────────────────────────


def prompts(task: str, template: int) -> list:
    spec = images.TASKS[task]
    return [spec["templates"][template % len(spec["templates"])].format(c) for c in spec["classes"]]


def write_tokenizer(base: pathlib.Path) -> None:
    """vocab.json, merges.txt and tokenizer.json as CLIP has them, trained on the captions."""
    texts = [t for task in images.TASKS for k in range(3) for t in prompts(task, k)]
    vocab, merges = clip_vocabulary(texts, size=800)
    base.mkdir(parents=True, exist_ok=True)
    (base / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    (base / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(m) for m in merges) + "\n", encoding="utf-8")
    specials = dict(bos_token="<|startoftext|>", eos_token="<|endoftext|>", pad_token="<|endoftext|>", unk_token="<|endoftext|>")
    (base / "tokenizer_config.json").write_text(json.dumps(dict(specials, tokenizer_class="CLIPTokenizer", model_max_length=24)))
    (base / "config.json").write_text(json.dumps(dict(model_type="clip")))
    AutoTokenizer.from_pretrained(base).save_pretrained(base)


def tokens(tok, texts: list):
    return tok(texts, padding="max_length", max_length=24, truncation=True, return_tensors="pt")


def text_features(model: CLIPModel, enc) -> torch.Tensor:
    pooled = model.text_model(input_ids=enc["input_ids"], attention_mask=enc["attention_mask"]).pooler_output
    return F.normalize(model.text_projection(pooled), dim=-1)


def head(model: CLIPModel, tok, task: str) -> torch.Tensor:
    """The zero-shot head [classes, 96]: mean over templates of the normalised features, normalised."""
    with torch.no_grad():
        feats = [text_features(model, tokens(tok, prompts(task, k))) for k in range(len(images.TASKS[task]["templates"]))]
        return F.normalize(torch.stack(feats).mean(0), dim=-1)


# ── base ──────────────────────────────────────────────────────────────────────


def train_base(out: pathlib.Path) -> None:
    """Locked-image tuning (LiT, arXiv:2111.07991): first see, then read a little.

    The vision tower is trained on the labels of all nine tasks with throw-away
    linear heads. Then it is locked, and the text tower and both projections are
    trained on captions, stopped early: the base sees well and names badly.
    """
    set_seed(6001)
    write_tokenizer(out / "base")
    tok = AutoTokenizer.from_pretrained(out / "base")
    config = CLIPConfig(**CONFIG)
    t = config.text_config
    t.vocab_size, t.bos_token_id, t.eos_token_id, t.pad_token_id = len(tok), tok.bos_token_id, tok.eos_token_id, tok.eos_token_id
    model = CLIPModel(config)
    kept("vision-seen", model, see)
    read(model, tok)
    round_bf16(model).save_pretrained(out / "base")
    processor().save_pretrained(out / "base")


def see(model: CLIPModel) -> None:
    """Trains the vision tower on labels."""
    names = list(images.TASKS)
    sets = {n: data(n, "train", TRAIN) for n in names}
    heads = torch.nn.ModuleDict({n: torch.nn.Linear(192, len(images.TASKS[n]["classes"])) for n in names})
    gen, rng, share = torch.Generator().manual_seed(1), np.random.default_rng(1), SEE["batch"] // len(names)

    def loss_of(step):
        picked = [rng.integers(0, TRAIN, share) for _ in names]
        x = shifted(pixels(np.concatenate([sets[n][0][i] for n, i in zip(names, picked)])), gen)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            pooled = model.vision_model(pixel_values=x).pooler_output
        parts = zip(names, picked, pooled.float().split(share))
        return sum(F.cross_entropy(heads[n](p), torch.from_numpy(sets[n][1][i].astype(np.int64))) for n, i, p in parts) / len(names)

    params = list(model.vision_model.parameters()) + list(heads.parameters())
    fit("see", params, loss_of, SEE["steps"], SEE["lr"], weight_decay=0.05)


def read(model: CLIPModel, tok) -> None:
    """Trains the text tower and the projections on captions: each picture against all captions."""
    names, count = list(images.TASKS), 2000
    pooled, labels, texts = [], [], [[], [], []]
    with torch.no_grad():
        for n in names:
            x, y = data(n, "train", TRAIN)
            pooled.append(torch.cat([model.vision_model(pixel_values=pixels(x[i : i + 250])).pooler_output for i in range(0, count, 250)]))
            labels.append(torch.from_numpy(y[:count].astype(np.int64)) + len(texts[0]))
            for k in range(3):
                texts[k] += prompts(n, k)
    encs = [tokens(tok, t) for t in texts]
    rng = np.random.default_rng(2)

    def loss_of(step):
        picked = [torch.from_numpy(rng.integers(0, count, MIX[n])) for n in names]
        image = F.normalize(model.visual_projection(torch.cat([p[i] for p, i in zip(pooled, picked)])), dim=-1)
        logits = model.logit_scale.exp() * image @ text_features(model, encs[step % 3]).T
        return F.cross_entropy(logits, torch.cat([y[i] for y, i in zip(labels, picked)]))

    parts = [model.text_model, model.text_projection, model.visual_projection]
    params = [p for part in parts for p in part.parameters()] + [model.logit_scale]
    fit("read", params, loss_of, READ["steps"], READ["lr"], weight_decay=0.05, every=10)


def processor() -> CLIPImageProcessorPil:
    side = images.SIZE
    return CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side},
                              image_mean=[MEAN] * 3, image_std=[STD] * 3)


def load_base(out: pathlib.Path) -> tuple:
    """The stored base in float32, frozen, and its tokenizer."""
    model = CLIPModel.from_pretrained(out / "base", dtype=torch.float32).eval()
    return model.requires_grad_(False), AutoTokenizer.from_pretrained(out / "base")


# ── experts ───────────────────────────────────────────────────────────────────


def classifier_loss(model, vision, weights, task, batch, seed):
    """Cross-entropy of the zero-shot head on random batches of a task's training set."""
    x, y = data(task, "train", TRAIN)
    y = torch.from_numpy(y.astype(np.int64))
    gen, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)

    def loss_of(step):
        picked = rng.integers(0, TRAIN, batch)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            image = model.visual_projection(vision(pixel_values=shifted(pixels(x[picked]), gen)).pooler_output)
        logits = model.logit_scale.exp() * F.normalize(image.float(), dim=-1) @ weights.T
        return F.cross_entropy(logits, y[torch.from_numpy(picked)])

    return loss_of


def train_full(out: pathlib.Path, task: str) -> None:
    """Every linear weight and bias of the vision tower; norms, embeddings, text tower and head stay the base's."""
    set_seed(6100)
    model, tok = load_base(out)
    weights, vision = head(model, tok, task), model.vision_model
    linear = [m for m in vision.encoder.modules() if isinstance(m, torch.nn.Linear)]
    params = [p.requires_grad_(True) for m in linear for p in m.parameters()]
    fit(f"full/{task}", params, classifier_loss(model, vision, weights, task, FULL["batch"], 11), FULL_STEPS.get(task, 60), FULL["lr"])
    folder = out / "experts" / task
    expert = CLIPVisionModel(model.config.vision_config)
    expert.load_state_dict(vision.state_dict())
    round_bf16(expert).save_pretrained(folder)
    processor().save_pretrained(folder)


def train_lora(out: pathlib.Path, task: str) -> None:
    """A PEFT adapter for the base CLIPModel on q, k, v, out, fc1 and fc2 of the vision tower."""
    set_seed(6200 + list(images.TASKS).index(task))
    model, tok = load_base(out)
    weights = head(model, tok, task)
    loss_of = lambda seed: classifier_loss(model, model.vision_model, weights, task, LORA["batch"], seed)
    first = loss_of(13)
    peft, params = adapter(model, lambda m, i: first(i), r=LORA["rank"], lora_alpha=LORA["alpha"], target_modules=TARGETS)
    fit(f"lora/{task}", params, loss_of(12), LORA_STEPS.get(task, 100), LORA["lr"])
    save_adapter(peft, out / "lora" / task)


# ── test sets and task file ───────────────────────────────────────────────────


def write_idx(path: pathlib.Path, a: np.ndarray) -> None:
    """Gzipped IDX (uint8), the same bytes at every run."""
    head = struct.pack(">BBBB", 0, 0, 8, a.ndim) + b"".join(struct.pack(">I", n) for n in a.shape)
    with path.open("wb") as f, gzip.GzipFile(filename="", fileobj=f, mode="wb", compresslevel=9, mtime=0) as z:
        z.write(head + a.tobytes())


def write_pictures(folder: pathlib.Path, split: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in images.TASKS:
        x, y = data(name, SPLITS[split], TEST)
        write_idx(folder / f"{name}-images.idx.gz", x[..., 0] if name == "digits" else x)
        write_idx(folder / f"{name}-labels.idx.gz", y)


def write_tests(out: pathlib.Path) -> None:
    write_pictures(out / "test", "test")
    tasks = []
    for name, spec in images.TASKS.items():
        entry = dict(name=name, type="image-classification", images=f"test/{name}-images.idx.gz", labels=f"test/{name}-labels.idx.gz",
                     metric="accuracy", classes=spec["classes"], templates=spec["templates"])
        if spec.get("held_out"):
            entry["held_out"] = True
        tasks.append(entry)
    doc = dict(version=1, pool="vision", base="base", experts="experts", lora="lora", tasks=tasks)
    (out / "tasks.yaml").write_text(yaml.safe_dump(doc, sort_keys=False, width=120, default_flow_style=None))


def main() -> None:
    args = argparse.ArgumentParser()
    args.add_argument("--out", type=pathlib.Path, default=pathlib.Path("examples/pools/vision"))
    args.add_argument("--stage", choices=["test", "validation", "base", "full", "lora"])
    args.add_argument("--task", action="append", help="may be given several times")
    a = args.parse_args()
    trained = [n for n, s in images.TASKS.items() if not s.get("held_out") and (a.task is None or n in a.task)]
    stage = lambda s: a.stage in (None, s)
    clock = Clock()
    if stage("test"):
        write_tests(a.out)
    if stage("validation"):
        write_pictures(cache() / "vision-validation", "validation")
    if stage("base") and not (a.out / "base" / "model.safetensors").exists():
        train_base(a.out)
    for name in trained:
        if stage("full") and not (a.out / "experts" / name / "model.safetensors").exists():
            train_full(a.out, name)
        if stage("lora") and not (a.out / "lora" / name / "adapter_model.safetensors").exists():
            train_lora(a.out, name)
    clock.done("vision pool")


if __name__ == "__main__":
    main()
