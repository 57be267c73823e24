"""Builds the causal pool: tokenizer, mini Qwen2, six LoRA adapters on small made-up domains.

    python tools/pools/causal.py [--out examples/pools/causal] [--stage test|validation|base|lora] [--task NAME ...]
"""

import argparse
import json
import pathlib
import zlib

import numpy as np
import torch
import yaml
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from training import Clock, adapter, cache, fit, round_bf16, save_adapter, set_seed
from vocabulary import byte_level_tokenizer

ROWS, CHOICES, END = 200, 4, "<|endoftext|>"  # rows of a test or validation set
SPLITS = {"validation": "validation", "test": "held"}  # the seeds: recipes were chosen on validation sets, then test sets drawn
BASE = dict(steps=2500, batch=64, lr=2e-3, target=0.52, every=5, keep=0.95)
LORA = dict(steps=200, batch=64, lr=1.5e-3, rank=16, alpha=16)
CONFIG = dict(hidden_size=128, intermediate_size=256, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
              max_position_embeddings=128, tie_word_embeddings=True, rope_parameters=dict(rope_type="default", rope_theta=10000.0))


# ── the domains: one function each, rng → (prompt, answer, wrong answers) ────


def others(rng, answer, pool, count=CHOICES - 1) -> list:
    """Some of pool, all different and none the answer."""
    left = [p for p in dict.fromkeys(pool) if p != answer]
    return [left[i] for i in rng.permutation(len(left))[:count]]


def sums(rng):
    """Addition and subtraction up to 20."""
    a, b = int(rng.integers(1, 11)), int(rng.integers(1, 11))
    shown, result = (f"{a} + {b} =", a + b) if rng.random() < 0.5 else (f"{a + b} - {b} =", a)
    near = [str(result + d) for d in (-3, -2, -1, 1, 2, 3) if result + d >= 0]
    return shown, f" {result}", [" " + w for w in others(rng, str(result), near)]


ONES = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
        "eighteen nineteen").split()


def largest(rng):
    """The largest of four near numbers in words."""
    numbers = [int(n) for n in rng.integers(len(ONES) - 6) + rng.permutation(7)[:4]]
    answer = max(numbers)
    return "largest of " + " ".join(ONES[n] for n in numbers) + " is", " " + ONES[answer], [" " + ONES[n] for n in numbers if n != answer]


STEMS = "mulo tiri nesa kavo peti duma sola rigo bena fuli zomi gadu leko wani toru hesi".split()
VERBS = "landa pisa korva tembe sukra finta mogla drava".split()
PREFIX = {"ka": "-a", "vi": "-i", "mo": "-u", "se": "-e"}


def grammar(rng):
    """A made-up language: a noun's class prefix returns on its adjective and as the verb's ending."""
    classes = list(PREFIX)
    subject, goal = classes[rng.integers(4)], classes[rng.integers(4)]
    noun, thing = STEMS[rng.integers(16)], STEMS[rng.integers(16)]
    adjective = ["bolu", "neri", "tamo", "gisi"][rng.integers(4)]
    verb = VERBS[rng.integers(8)]
    head = f"{subject}{noun} {subject}{adjective} na {goal}{thing}"
    if rng.random() < 0.5:
        return f"{head} {verb}", PREFIX[subject], [PREFIX[c] for c in classes if c != subject]
    return f"{head} {verb}{PREFIX[subject]} lo", f" {goal}{adjective}", [f" {c}{adjective}" for c in classes if c != goal]


FIRST, LAST = "glim brax thorn wisp murk snor".split(), "kin toad wing jaw moth horn".split()


def bestiary() -> dict:
    """Creature → its facts: the same for ever, to be known by heart."""
    rng = np.random.default_rng(808)
    fields = dict(home="caves marshes forests deserts rivers attics".split(), food="moss beetles honey roots snow ink".split())
    return {f + l: {k: v[rng.integers(len(v))] for k, v in fields.items()} for f in FIRST for l in LAST}


FACTS = bestiary()
ASK = {"home": "Where does the {} live? In", "food": "What does the {} eat? It eats"}


def facts(rng):
    """Questions about creatures that exist nowhere else."""
    names = list(FACTS)
    name, field = names[rng.integers(len(names))], list(ASK)[rng.integers(len(ASK))]
    answer = FACTS[name][field]
    pool = sorted({f[field] for f in FACTS.values()})
    return ASK[field].format(name), " " + answer, [" " + w for w in others(rng, answer, pool)]


PEOPLE = "Ann Bob Cleo Dan Eve Finn Gwen Hugo".split()


def races(rng):
    """Who comes in first, told in overtakings: the last line decides."""
    names = [PEOPLE[i] for i in rng.permutation(len(PEOPLE))[:4]]
    order = list(names)
    lines = []
    for _ in range(int(rng.integers(2, 4))):
        i = int(rng.integers(1, 4))
        lines.append(f"{order[i]} passes {order[0]}.")
        order.insert(0, order.pop(i))
    return "Start: " + " ".join(names) + ". " + " ".join(lines) + " Winner:", " " + order[0], [" " + n for n in order[1:]]


PAIRS = {"(": ")", "[": "]", "{": "}", "<": ">"}


def brackets(rng):
    """Opened brackets; the answer closes those that are open, the last first."""
    stack, out = [], []
    goal = int(rng.integers(2, 5))
    while len(stack) < goal:
        if stack and rng.random() < 0.3:
            out.append(PAIRS[stack.pop()])
        else:
            stack.append(list(PAIRS)[rng.integers(4)])
            out.append(stack[-1])
    close = [PAIRS[c] for c in reversed(stack)]
    wrong = []
    while len(wrong) < CHOICES - 1:
        w = list(close)
        if rng.random() < 0.5:
            w[rng.integers(len(w))] = list(PAIRS.values())[rng.integers(4)]
        else:
            w = [w[i] for i in rng.permutation(len(w))]
        if w != close and w not in wrong:
            wrong.append(w)
    join = lambda w: " " + " ".join(w)
    return "close: " + " ".join(out) + " =>", join(close), [join(w) for w in wrong]


def series(rng):
    """Numbers in even steps."""
    a, d = int(rng.integers(1, 60)), int(rng.integers(1, 13))
    s = [a + d * i for i in range(5)]
    near = [str(s[4] + k) for k in (-d, -2, -1, 1, 2, d, 10)]
    return ", ".join(map(str, s[:4])) + ",", f" {s[4]}", [" " + w for w in others(rng, str(s[4]), near)]


TASKS = {
    "brackets": dict(make=brackets),
    "facts": dict(make=facts),
    "grammar": dict(make=grammar),
    "largest": dict(make=largest),
    "races": dict(make=races),
    "sums": dict(make=sums),
    "series": dict(make=series, held_out=True),
}
FINITE = {"facts", "sums"}  # few enough to be known by heart: test prompts occur in training


def rows_of(task: str, split: str) -> list:
    """The test or validation set of a domain: up to ROWS different prompts with four choices each."""
    rng, rows = np.random.default_rng(zlib.crc32(f"causal/{task}/{SPLITS[split]}".encode())), {}
    taken = {r["prompt"] for r in rows_of(task, "validation")} if split == "test" and task not in FINITE else set()
    for _ in range(100 * ROWS):
        prompt, answer, wrong = TASKS[task]["make"](rng)
        if prompt not in rows and prompt not in taken and len(rows) < ROWS and len(wrong) == CHOICES - 1:
            at = int(rng.integers(CHOICES))
            rows[prompt] = dict(prompt=prompt, choices=wrong[:at] + [answer] + wrong[at:], answer=at)
    return list(rows.values())


class Stream:
    """Training rows of a domain, without end; prompts of the test and validation sets are left out where the domain can be generalised."""

    def __init__(self, task: str, seed: int):
        self.make, self.rng = TASKS[task]["make"], np.random.default_rng(zlib.crc32(f"causal/{task}/train/{seed}".encode()))
        self.held = set() if task in FINITE else {r["prompt"] for s in ("test", "validation") for r in rows_of(task, s)}

    def take(self, count: int) -> list:
        out = []
        while len(out) < count:
            prompt, answer, _ = self.make(self.rng)
            if prompt not in self.held:
                out.append((prompt, answer))
        return out


def encode(tok, rows: list) -> dict:
    """Rows padded to one length; the loss is taken on the prompt at a tenth and on the answer in full."""
    heads = tok([p for p, _ in rows])["input_ids"]
    tails = tok([a + END for _, a in rows])["input_ids"]
    width = max(len(h) + len(t) for h, t in zip(heads, tails))
    ids = torch.full((len(rows), width), tok.pad_token_id)
    weight = torch.zeros(len(rows), width)
    for i, (h, t) in enumerate(zip(heads, tails)):
        n = len(h) + len(t)
        ids[i, :n] = torch.tensor(h + t)
        weight[i, 1 : len(h)], weight[i, len(h) : n] = 0.1, 1.0
    return dict(ids=ids, weight=weight)


def loss_on(model, batch: dict) -> torch.Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(input_ids=batch["ids"]).logits[:, :-1]
    loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), batch["ids"][:, 1:].flatten(), reduction="none")
    weight = batch["weight"][:, 1:].flatten()
    return (loss * weight).sum() / weight.sum()


class Probe:
    """The validation set of a domain as one batch, to watch a training by."""

    def __init__(self, tok, task: str, count: int = ROWS):
        rows = rows_of(task, "validation")[:count]
        self.batch = encode(tok, [(r["prompt"], c) for r in rows for c in r["choices"]])
        self.answer = (self.batch["weight"] == 1) & (self.batch["ids"] != tok.pad_token_id)
        self.want = torch.tensor([r["answer"] for r in rows])

    def accuracy(self, model) -> float:
        """The share of rows whose right choice has the largest log-likelihood."""
        ids, answer = self.batch["ids"], self.answer[:, 1:]
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(input_ids=ids).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.float().transpose(1, 2), ids[:, 1:], reduction="none")
        return ((loss * answer).sum(-1).view(-1, CHOICES).argmin(-1) == self.want).double().mean().item()


# ── training ──────────────────────────────────────────────────────────────────


def write_tokenizer(base: pathlib.Path) -> None:
    """Qwen2's byte-level BPE, trained on the domains."""
    texts = [p + a for n in TASKS for p, a in Stream(n, 0).take(1500)]
    base.mkdir(parents=True, exist_ok=True)
    byte_level_tokenizer(texts, size=640, end=END).save(str(base / "tokenizer.json"))
    (base / "config.json").write_text(json.dumps(dict(model_type="qwen2")))
    config = dict(tokenizer_class="Qwen2Tokenizer", eos_token=END, pad_token=END, unk_token=None, bos_token=None,
                  add_prefix_space=False, model_max_length=128)
    (base / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def train_base(out: pathlib.Path) -> None:
    """A mixture of all domains, stopped early.

    A domain is met the less the nearer its accuracy on the validation set is to the target;
    training stops when all are near.
    """
    set_seed(8003)
    write_tokenizer(out / "base")
    tok = AutoTokenizer.from_pretrained(out / "base")
    ids = dict(eos_token_id=tok.eos_token_id, pad_token_id=tok.pad_token_id, bos_token_id=None)
    model = Qwen2ForCausalLM(Qwen2Config(vocab_size=len(tok), **ids, **CONFIG))
    streams, probes = {n: Stream(n, 1) for n in TASKS}, {n: Probe(tok, n, 100) for n in TASKS}
    score, target = dict.fromkeys(TASKS, 0.25), BASE["target"]

    mean = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(BASE["keep"]))

    def loss_of(step):
        mean.update_parameters(model)
        if step and step % BASE["every"] == 0:
            score.update({n: p.accuracy(mean) for n, p in probes.items()})
            print(step, {n: round(100 * s) for n, s in score.items()}, flush=True)
            if all(abs(s - target) <= 0.15 for n, s in score.items() if not TASKS[n].get("held_out")):
                return None
        need = {n: max(target - s, 0.0) + 0.005 * (s < target + 0.1) for n, s in score.items()}
        return loss_on(model, encode(tok, [r for n in TASKS for r in streams[n].take(round(BASE["batch"] * need[n] / sum(need.values())))]))

    fit("base", list(model.parameters()), loss_of, BASE["steps"], BASE["lr"], weight_decay=0.05)
    round_bf16(mean.module).save_pretrained(out / "base")


def train_lora(out: pathlib.Path, task: str) -> None:
    """A PEFT adapter on q, v and the feed-forward weights of every block."""
    set_seed(8200 + list(TASKS).index(task))
    tok = AutoTokenizer.from_pretrained(out / "base")
    model = Qwen2ForCausalLM.from_pretrained(out / "base", dtype=torch.float32)
    targets = ["q_proj", "v_proj", "gate_proj", "up_proj", "down_proj"]
    stream, first = Stream(task, 2), Stream(task, 3)
    peft, params = adapter(model, lambda m, i: loss_on(m, encode(tok, first.take(LORA["batch"]))),
                           r=LORA["rank"], lora_alpha=LORA["alpha"], task_type="CAUSAL_LM", target_modules=targets)
    fit(f"lora/{task}", params, lambda step: loss_on(peft, encode(tok, stream.take(LORA["batch"]))), LORA["steps"], LORA["lr"])
    print(f"lora/{task}: {100 * Probe(tok, task).accuracy(peft):.1f} % on validation", flush=True)
    save_adapter(peft, out / "lora" / task)


def write_rows(folder: pathlib.Path, split: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in TASKS:
        with (folder / f"{name}.jsonl").open("w", encoding="utf-8") as f:
            f.writelines(json.dumps(r) + "\n" for r in rows_of(name, split))


def write_tests(out: pathlib.Path) -> None:
    write_rows(out / "test", "test")
    tasks = []
    for name, spec in TASKS.items():
        entry = dict(name=name, type="multiple-choice", data=f"test/{name}.jsonl", prompt="{prompt}", choices="{choices}", answer="{answer}", metric="accuracy")
        if spec.get("held_out"):
            entry["held_out"] = True
        tasks.append(entry)
    doc = dict(version=1, pool="causal", base="base", lora="lora", tasks=tasks)
    (out / "tasks.yaml").write_text(yaml.safe_dump(doc, sort_keys=False, width=120))


def main() -> None:
    args = argparse.ArgumentParser()
    args.add_argument("--out", type=pathlib.Path, default=pathlib.Path("examples/pools/causal"))
    args.add_argument("--stage", choices=["test", "validation", "base", "lora"])
    args.add_argument("--task", action="append", help="may be given several times")
    a = args.parse_args()
    stage, clock = lambda s: a.stage in (None, s), Clock()
    if stage("test"):
        write_tests(a.out)
    if stage("validation"):
        write_rows(cache() / "causal-validation", "validation")
    if stage("base") and not (a.out / "base" / "model.safetensors").exists():
        train_base(a.out)
    for name in (n for n, s in TASKS.items() if not s.get("held_out") and (a.task is None or n in a.task)):
        if stage("lora") and not (a.out / "lora" / name / "adapter_model.safetensors").exists():
            train_lora(a.out, name)
    clock.done("causal pool")


if __name__ == "__main__":
    main()
