"""Evaluates a pool: base, individual experts, average, task arithmetic and SMILE at several ranks.

    python tools/pools/evaluate.py examples/pools/vision [--kinds full,lora] [--validation FOLDER] [--write]
    python tools/pools/evaluate.py examples/pools/vision --tests FOLDER

SMILE is written here from its formula (arXiv:2408.10174), as plainly as it goes:
for each linear layer and expert, delta = U S Vt; a token x goes to the expert
with the largest norm of Vt[:g] x (top-1: its weight after softmax and
renormalising is 1); y = W0 x + b0 + (U S)[:, :k] Vt[:k] x + (b_e - b0).
Whatever is no linear weight or bias stays the base's.

--tests reads the test files of the same names in FOLDER: the validation sets,
which the recipes are chosen on. --validation chooses the best λ on those in
FOLDER; without it there is no such row.
--write stores results.json and puts the table into the pool's README.md.
"""

import argparse
import copy
import gzip
import json
import math
import pathlib
import struct

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from peft import PeftModel
from transformers import AutoTokenizer, CLIPModel, CLIPVisionModel, Qwen2ForCausalLM, T5ForConditionalGeneration

torch.set_num_threads(1)

CLASSES = {"image-classification": CLIPModel, "text-to-text": T5ForConditionalGeneration, "multiple-choice": Qwen2ForCausalLM}
SCALES = [0.1, 0.2, 0.3, 0.5, 0.7, 1.0]
RANKS = {"full": [(4, 4), (8, 8), (16, 8), (16, 16), (16, 32), (16, 64)], "lora": [(2, 2), (4, 4), (8, 8), (16, 16)]}


# ── models and their deltas ───────────────────────────────────────────────────


class Pool:
    """A pool folder: its tasks, its base (float32) and its experts as deltas of linear layers."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.doc = yaml.safe_load((folder / "tasks.yaml").read_text())
        self.tasks = self.doc["tasks"]
        self.type = self.tasks[0]["type"]
        self.base = CLASSES[self.type].from_pretrained(folder / self.doc["base"], dtype=torch.float32).eval().requires_grad_(False)
        self.tokenizer = AutoTokenizer.from_pretrained(folder / self.doc["base"])
        self.names = [t["name"] for t in self.tasks if not t.get("held_out")]
        self.linear = {n: m for n, m in self.base.named_modules() if isinstance(m, torch.nn.Linear)}

    def full(self, name: str) -> dict:
        """Parameter name → expert − base, for a full fine-tune (of the vision tower or of the whole model)."""
        path = self.folder / self.doc["experts"] / name
        if self.type == "image-classification":
            expert, part, prefix = CLIPVisionModel.from_pretrained(path, dtype=torch.float32), self.base.vision_model, "vision_model."
        else:
            expert, part, prefix = CLASSES[self.type].from_pretrained(path, dtype=torch.float32), self.base, ""
        ours, theirs = part.state_dict(), expert.state_dict()
        assert ours.keys() == theirs.keys(), path
        return {prefix + n: theirs[n] - ours[n] for n in ours if not torch.equal(ours[n], theirs[n])}

    def lora(self, name: str) -> dict:
        """Parameter name → s·B·A, for a LoRA adapter."""
        peft = PeftModel.from_pretrained(copy.deepcopy(self.base), self.folder / self.doc["lora"] / name).float()
        layers = {n: m for n, m in peft.base_model.model.named_modules() if hasattr(m, "get_delta_weight")}
        assert layers, name
        return {n + ".weight": m.get_delta_weight("default") for n, m in layers.items()}

    def tests(self, data: pathlib.Path | None) -> dict:
        """Task name → its test; with data, the files of the same names in that folder."""
        at = lambda file: self.folder / file if data is None else data / pathlib.Path(file).name
        return {t["name"]: METRICS[self.type](self, t, at) for t in self.tasks}

    def with_deltas(self, deltas: list, scale: float) -> torch.nn.Module:
        """The base plus scale times the sum of the deltas."""
        model = copy.deepcopy(self.base)
        params = dict(model.named_parameters())
        for delta in deltas:
            for n, d in delta.items():
                params[n].data.add_(d, alpha=scale)
        return model


class SmileLinear(torch.nn.Module):
    """A linear layer with low-rank experts and the router that their right singular vectors make.

    base Linear [out,in]; factors: per expert (U·S [out,r], S [r], Vt [r,in]); biases: per expert [out] or None.
    """

    def __init__(self, base, factors: list, biases: list, router_rank: int, expert_rank: int):
        super().__init__()
        self.base, self.biases, self.selected, self.router = base, biases, None, None
        self.weight = base.weight  # T5 asks for its dtype
        rank = min([router_rank] + [numerical_rank(s, us.shape[0], vt.shape[1]) for us, s, vt in factors])
        self.router = torch.stack([vt[:rank] for _, _, vt in factors])  # [E, g, in]
        self.down = [vt[:expert_rank] for _, _, vt in factors]
        self.up = [us[:, :expert_rank] for us, _, _ in factors]
        rows = sum(max(d.shape[0], rank) * d.shape[1] for d in self.down)
        self.added = rows + sum(u.numel() for u in self.up) + sum(b.numel() for b in biases if b is not None)

    def forward(self, x):
        scores = torch.einsum("...i,egi->...eg", x, self.router).norm(dim=-1)
        self.selected = scores.argmax(-1)
        y = self.base(x)
        for e in self.selected.unique().tolist():
            at = self.selected == e
            add = x[at] @ self.down[e].T @ self.up[e].T
            y[at] += add if self.biases[e] is None else add + self.biases[e]
        return y


def numerical_rank(s, rows: int, cols: int) -> int:
    return int((s > max(rows, cols) * torch.finfo(torch.float32).eps * s[0]).sum())


def decompose(pool: Pool, deltas: dict) -> dict:
    """Module → per expert (U·S, S, Vt), for the linear modules that every expert touched."""
    out = {}
    for module in pool.linear:
        if not all(module + ".weight" in d for d in deltas.values()):
            assert not any(module + ".weight" in d for d in deltas.values()), f"{module}: touched by some experts only"
            continue
        out[module] = []
        for d in deltas.values():
            u, s, vt = torch.linalg.svd(d[module + ".weight"], full_matrices=False)
            out[module].append((u * s, s, vt))
    return out


def smile(pool: Pool, deltas: dict, factors: dict, router_rank: int, expert_rank: int) -> tuple:
    """The fused model, and its parameters relative to the base's (for a vision tower: to the tower's)."""
    model = copy.deepcopy(pool.base)
    added = 0
    for module, f in factors.items():
        parent, leaf = model.get_submodule(module.rpartition(".")[0]), module.rpartition(".")[2]
        biases = [d.get(module + ".bias") for d in deltas.values()]
        layer = SmileLinear(getattr(parent, leaf), f, biases, router_rank, expert_rank)
        setattr(parent, leaf, layer)
        added += layer.added
    dense = pool.base.vision_model if pool.type == "image-classification" else pool.base
    return model, 1 + added / sum(p.numel() for p in dense.parameters())


# ── metrics ───────────────────────────────────────────────────────────────────


def read_idx(path: pathlib.Path) -> np.ndarray:
    raw = gzip.decompress(path.read_bytes())
    dims = struct.unpack(f">{raw[3]}I", raw[4 : 4 + 4 * raw[3]])
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(dims).copy()


def read_jsonl(path: pathlib.Path) -> list:
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as f:
        return [json.loads(line) for line in f]


class Images:
    """Zero-shot image classification with the base's text tower."""

    def __init__(self, pool: Pool, task: dict, at):
        x = read_idx(at(task["images"]))
        x = np.repeat(x[..., None], 3, -1) if x.ndim == 3 else x
        p = json.loads((pool.folder / pool.doc["base"] / "preprocessor_config.json").read_text())
        mean, std = (torch.tensor(p[k]).view(3, 1, 1) for k in ("image_mean", "image_std"))
        self.x = (torch.from_numpy(x).permute(0, 3, 1, 2).float() / 255 - mean) / std
        self.y = torch.from_numpy(read_idx(at(task["labels"])).astype(np.int64))
        feats = []
        for template in task["templates"]:
            enc = pool.tokenizer([template.format(c) for c in task["classes"]], padding=True, return_tensors="pt")
            feats.append(F.normalize(pool.base.get_text_features(**enc).pooler_output, dim=-1))
        self.head = F.normalize(torch.stack(feats).mean(0), dim=-1)

    def score(self, pool, model) -> float:
        out = model.get_image_features(pixel_values=self.x).pooler_output
        return 100 * ((out @ self.head.T).argmax(-1) == self.y).double().mean().item()


class TextToText:
    """Exact match of the greedy answer."""

    def __init__(self, pool: Pool, task: dict, at):
        rows = read_jsonl(at(task["data"]))
        self.enc = pool.tokenizer([task["prompt"].format(**r) for r in rows], padding=True, return_tensors="pt")
        self.want = [r["target"] for r in rows]

    def score(self, pool, model) -> float:
        out = model.generate(input_ids=self.enc["input_ids"], attention_mask=self.enc["attention_mask"], max_new_tokens=24, do_sample=False)
        got = pool.tokenizer.batch_decode(out, skip_special_tokens=True)
        return 100 * float(np.mean([g.strip() == w for g, w in zip(got, self.want)]))


class Choices:
    """Multiple choice: the answer with the largest log-likelihood after the prompt."""

    def __init__(self, pool: Pool, task: dict, at):
        rows = read_jsonl(at(task["data"]))
        self.want = torch.tensor([r["answer"] for r in rows])
        self.choices = len(rows[0]["choices"])
        tok, ids, mask, count = pool.tokenizer, [], [], []
        for r in rows:
            head = tok(r["prompt"])["input_ids"]
            for c in r["choices"]:
                tail = tok(c)["input_ids"]
                ids.append(head + tail)
                mask.append([0] * len(head) + [1] * len(tail))
        width = max(map(len, ids))
        self.ids = torch.tensor([i + [tok.pad_token_id] * (width - len(i)) for i in ids])
        self.mask = torch.tensor([m + [0] * (width - len(m)) for m in mask])

    def score(self, pool, model) -> float:
        logp = []
        for ids, mask in zip(self.ids.split(200), self.mask.split(200)):
            lp = F.log_softmax(model(input_ids=ids).logits[:, :-1], -1).gather(-1, ids[:, 1:, None])[..., 0]
            logp.append((lp * mask[:, 1:]).sum(-1))
        best = torch.cat(logp).view(-1, self.choices).argmax(-1)
        return 100 * (best == self.want).double().mean().item()


METRICS = {"image-classification": Images, "text-to-text": TextToText, "multiple-choice": Choices}


# ── the table ─────────────────────────────────────────────────────────────────


def rows_of(pool: Pool, kind: str, tests: dict, validation: dict):
    """Yields (name, parameters relative to the base, scores) for one kind of expert; λ is chosen on validation."""
    deltas = {n: getattr(pool, kind)(n) for n in pool.names}
    scores = lambda model: {n: t.score(pool, model) for n, t in tests.items()}
    own = {n: tests[n].score(pool, pool.with_deltas([d], 1)) for n, d in deltas.items()}
    yield f"individual ({kind})", None, own
    yield f"average ({kind})", 1.0, scores(pool.with_deltas(list(deltas.values()), 1 / len(deltas)))
    merged = lambda scale: pool.with_deltas(list(deltas.values()), scale)
    yield f"task arithmetic 0.3 ({kind})", 1.0, scores(merged(0.3))
    if validation:
        best = max(SCALES, key=lambda s: sum(validation[n].score(pool, merged(s)) for n in pool.names))
        yield f"task arithmetic {best}, the best λ on validation ({kind})", 1.0, scores(merged(best))
    factors = decompose(pool, deltas)
    for g, k in RANKS[kind]:
        model, size = smile(pool, deltas, factors, g, k)
        yield f"SMILE ({g},{k}) ({kind})", size, scores(model)


def evaluate(folder: pathlib.Path, kinds: list, data: pathlib.Path | None, validation: pathlib.Path | None):
    """Yields every row of a pool's table."""
    pool = Pool(folder)
    tests = pool.tests(data)
    with torch.no_grad():
        yield pool, ("base", 1.0, {n: t.score(pool, pool.base) for n, t in tests.items()})
        for kind in kinds:
            for row in rows_of(pool, kind, tests, pool.tests(validation) if validation else {}):
                yield pool, row


def line(cells: list) -> str:
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    args = argparse.ArgumentParser()
    args.add_argument("folder", type=pathlib.Path)
    args.add_argument("--kinds", default=None)
    args.add_argument("--tests", type=pathlib.Path)
    args.add_argument("--validation", type=pathlib.Path)
    args.add_argument("--write", action="store_true")
    a = args.parse_args()
    doc = yaml.safe_load((a.folder / "tasks.yaml").read_text())
    kinds = a.kinds.split(",") if a.kinds else [k for k, key in (("full", "experts"), ("lora", "lora")) if doc.get(key)]
    table, results = [], []
    for pool, (name, size, scores) in evaluate(a.folder, kinds, a.tests, a.validation):
        extra = [t["name"] for t in pool.tasks if t.get("held_out")]
        if not table:
            table += [line(["", "×"] + pool.names + ["mean"] + [f"{n} (held out)" for n in extra])]
            table += ["|---" * (len(pool.names) + 3 + len(extra)) + "|"]
        mean = float(np.mean([scores[n] for n in pool.names]))
        cells = [f"{scores[n]:.1f}" for n in pool.names] + [f"{mean:.1f}"] + [f"{scores[n]:.1f}" if n in scores else "" for n in extra]
        table.append(line([name, "" if size is None else f"{size:.2f}"] + cells))
        results.append(dict(model=name, relative_parameters=size, mean=mean, scores=scores))
        print(table[-1] if len(table) > 3 else "\n".join(table), flush=True)
    if a.write:
        (a.folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
        readme = a.folder / "README.md"
        text = readme.read_text() if readme.exists() else "<!-- table -->\n<!-- /table -->\n"
        before, _, rest = text.partition("<!-- table -->")
        _, _, after = rest.partition("<!-- /table -->")
        readme.write_text(f"{before}<!-- table -->\n" + "\n".join(table) + f"\n<!-- /table -->{after}")


if __name__ == "__main__":
    main()
