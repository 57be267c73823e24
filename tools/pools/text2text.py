"""Builds the text-to-text pool: tokenizer, mini T5 (v1.1 shape), seven LoRA adapters on string tasks.

    python tools/pools/text2text.py [--out examples/pools/text2text] [--stage test|validation|base|lora] [--task NAME ...]
"""

import argparse
import json
import pathlib
import zlib

import numpy as np
import torch
import yaml
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import AutoTokenizer, T5Config, T5ForConditionalGeneration

from training import Clock, adapter, cache, fit, round_bf16, save_adapter, set_seed
from vocabulary import letters_tokenizer

ROWS = 200  # rows of a test or validation set
SPLITS = {"validation": "validation", "test": "held"}  # the seeds: recipes were chosen on validation sets, then test sets drawn
BASE = dict(steps=3000, batch=72, lr=2e-3, target=0.54, every=10, keep=0.95)
LORA = dict(steps=250, batch=64, lr=1.5e-3, rank=16, alpha=16)
CONFIG = dict(d_model=128, d_kv=32, num_heads=4, d_ff=256, num_layers=2, num_decoder_layers=2, feed_forward_proj="gated-gelu",
              tie_word_embeddings=False, dropout_rate=0.0, relative_attention_num_buckets=32, relative_attention_max_distance=64,
              decoder_start_token_id=0, pad_token_id=0, eos_token_id=1)


# ── the tasks: one function each, rng → (source, target) ─────────────────────


def some(rng, items, low: int, high: int) -> list:
    """low..high different items in any order."""
    return [items[i] for i in rng.permutation(len(items))[: int(rng.integers(low, high + 1))]]


PAIRS = {"(": ")", "[": "]", "{": "}", "<": ">"}


def brackets(rng):
    """What closes the open brackets, the last first."""
    w = [list(PAIRS)[i] for i in rng.integers(0, 4, int(rng.integers(4, 7)))]
    return "".join(w), "".join(PAIRS[c] for c in reversed(w))


def dna(rng):
    """The complement of a strand."""
    w = ["ACGT"[i] for i in rng.integers(0, 4, int(rng.integers(5, 9)))]
    return "".join(w), "".join(dict(A="T", C="G", G="C", T="A")[c] for c in w)


SYMBOLS = "!#$%&*+=?@^~"


def sort(rng):
    """Symbols in the order of their codes."""
    w = some(rng, SYMBOLS, 3, 5)
    return "".join(w), "".join(sorted(w))


CALLS = "alfa bravo charlie delta echo foxtrot golf hotel india juliett kilo lima mike november oscar papa".split()


def spell(rng):
    """Letters that are read out in the radio alphabet."""
    w = some(rng, CALLS, 3, 5)
    return " ".join(w), "".join(c[0] for c in w)


NOUNS = dict(cat="miru", dog="tavo", bird="selu", fish="noko", horse="brena", king="zolt", child="pim", witch="ghara")
ADJECTIVES = dict(red="ki", old="dau", small="fen", happy="lost", black="umi", quick="razu")
VERBS = dict(sees="vork", loves="amil", feeds="tisk", follows="jorn", hears="elwe", fears="quab")


def translate(rng):
    """A sentence in an invented language: the verb goes first, adjectives follow their nouns."""
    pick = lambda d: list(d)[rng.integers(len(d))]
    a, s, v, b, o = pick(ADJECTIVES), pick(NOUNS), pick(VERBS), pick(ADJECTIVES), pick(NOUNS)
    return f"the {a} {s} {v} the {b} {o}", f"{VERBS[v]} {NOUNS[s]} {ADJECTIVES[a]} {NOUNS[o]} {ADJECTIVES[b]}"


FRUIT = "apple banana cherry elder fig grape kiwi lemon mango nectarine olive peach quince".split()


def words(rng):
    """Fruits in alphabetical order."""
    w = some(rng, FRUIT, 3, 4)
    return " ".join(w), " ".join(sorted(w))


def count(rng):
    """How many of the letters are capitals."""
    n, k = int(rng.integers(4, 9)), int(rng.integers(0, 6))
    w = "".join("o" if i >= k else "O" for i in rng.permutation(n))
    return w, str(w.count("O"))


def roman(rng):
    """Roman numerals below 200."""
    n = int(rng.integers(1, 200))
    out, left = "", n
    for value, sign in zip((100, 90, 50, 40, 10, 9, 5, 4, 1), "C XC L XL X IX V IV I".split()):
        out, left = out + sign * (left // value), left % value
    return out, str(n)


TASKS = {
    "brackets": dict(make=brackets, prompt="close: {source}"),
    "dna": dict(make=dna, prompt="complement of {source}"),
    "roman": dict(make=roman, prompt="the numeral {source} is"),
    "sort": dict(make=sort, prompt="in order please: {source}"),
    "spell": dict(make=spell, prompt="radio says {source}"),
    "translate": dict(make=translate, prompt="in Elvish: {source}"),
    "words": dict(make=words, prompt="alphabetically, {source}"),
    "count": dict(make=count, prompt="how many capitals {source}", held_out=True),
}
FINITE = {"count", "roman"}  # few enough to be known by heart: test rows occur in training


def rows_of(task: str, split: str) -> list:
    """The test or validation set of a task: different rows, the same for ever."""
    rng, rows = np.random.default_rng(zlib.crc32(f"text2text/{task}/{SPLITS[split]}".encode())), {}
    taken = {r["source"] for r in rows_of(task, "validation")} if split == "test" and task not in FINITE else set()
    for _ in range(100 * ROWS):
        source, target = TASKS[task]["make"](rng)
        if source not in taken and len(rows) < ROWS:
            rows[source] = target
    return [dict(source=s, target=t) for s, t in rows.items()]


class Stream:
    """Training rows of a task, without end; rows of the test and validation sets are left out."""

    def __init__(self, task: str, seed: int):
        self.make, self.prompt = TASKS[task]["make"], TASKS[task]["prompt"]
        self.rng = np.random.default_rng(zlib.crc32(f"text2text/{task}/train/{seed}".encode()))
        self.held = set() if task in FINITE else {r["source"] for s in ("test", "validation") for r in rows_of(task, s)}

    def take(self, count: int) -> list:
        out = []
        while len(out) < count:
            source, target = self.make(self.rng)
            if source not in self.held:
                out.append((self.prompt.format(source=source), target))
        return out


def encode(tok, rows: list) -> dict:
    enc = tok([r[0] for r in rows], padding=True, return_tensors="pt")
    labels = tok([r[1] for r in rows], padding=True, return_tensors="pt")["input_ids"]
    return dict(input_ids=enc["input_ids"], attention_mask=enc["attention_mask"], labels=labels.masked_fill(labels == 0, -100))


def exact(model, batch: dict) -> float:
    """The share of rows whose greedy answer is the target: exactly those of which every next token is, given the ones before."""
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        best = model(**batch).logits.argmax(-1)
    return ((best == batch["labels"]) | (batch["labels"] == -100)).all(-1).double().mean().item()


# ── training ──────────────────────────────────────────────────────────────────


def write_tokenizer(base: pathlib.Path) -> None:
    """A Unigram vocabulary as T5 has it: single characters, and some words whole."""
    words = " ".join(spec["prompt"].replace("{source}", "").replace(":", " ").replace(",", " ") for spec in TASKS.values()).split() + ["the"]
    words += FRUIT + CALLS
    words += [w for d in (NOUNS, ADJECTIVES, VERBS) for pair in d.items() for w in pair]
    base.mkdir(parents=True, exist_ok=True)
    letters_tokenizer(words).save(str(base / "tokenizer.json"))
    (base / "config.json").write_text(json.dumps(dict(model_type="t5")))
    config = dict(tokenizer_class="T5Tokenizer", eos_token="</s>", unk_token="<unk>", pad_token="<pad>", extra_ids=0, model_max_length=128)
    (base / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def train_base(out: pathlib.Path) -> None:
    """A mixture of all tasks, stopped early.

    A task is met the less the nearer its exact match on the validation set is to the target;
    training stops when all are near.
    """
    set_seed(7001)
    write_tokenizer(out / "base")
    tok = AutoTokenizer.from_pretrained(out / "base")
    model = T5ForConditionalGeneration(T5Config(vocab_size=len(tok), **CONFIG))
    for m in (model.shared, model.lm_head):
        m.weight.data.mul_(0.1)  # T5's own start has deviation 1, which suits Adafactor's relative steps only
    near = lambda stack: stack.block[0].layer[0].SelfAttention.relative_attention_bias.weight.data
    near(model.encoder)[1, 0] += 4  # a head of the encoder starts by looking at the token before,
    near(model.encoder)[17, 1] += 4  # one at the token after,
    near(model.decoder)[1, 0] += 4  # and one of the decoder at the token before: positions are learnt much sooner
    streams = {n: Stream(n, 1) for n in TASKS}
    probes = {n: encode(tok, [(TASKS[n]["prompt"].format(**r), r["target"]) for r in rows_of(n, "validation")[:100]]) for n in TASKS}
    score, target = dict.fromkeys(TASKS, 0.0), BASE["target"]

    mean = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(BASE["keep"]))

    def loss_of(step):
        mean.update_parameters(model)
        if step and step % BASE["every"] == 0:
            score.update({n: exact(mean, p) for n, p in probes.items()})
            print(step, {n: round(100 * s) for n, s in score.items()}, flush=True)
            if all(abs(s - target) <= 0.12 for s in score.values()):
                return None
        need = {n: max(target - s, 0.0) + 0.005 for n, s in score.items()}
        rows = [r for n in TASKS for r in streams[n].take(round(BASE["batch"] * need[n] / sum(need.values())))]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return model(**encode(tok, rows)).loss

    fit("base", list(model.parameters()), loss_of, BASE["steps"], BASE["lr"], weight_decay=0.01)
    round_bf16(mean.module).save_pretrained(out / "base")


def train_lora(out: pathlib.Path, task: str) -> None:
    """A PEFT adapter on q, k, v, o and the feed-forward weights of encoder and decoder."""
    set_seed(7200 + list(TASKS).index(task))
    tok = AutoTokenizer.from_pretrained(out / "base")
    model = T5ForConditionalGeneration.from_pretrained(out / "base", dtype=torch.float32)
    stream, first = Stream(task, 2), Stream(task, 3)

    def loss_on(m, rows):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return m(**encode(tok, rows)).loss

    peft, params = adapter(model, lambda m, i: loss_on(m, first.take(LORA["batch"])), r=LORA["rank"],
                           lora_alpha=LORA["alpha"], task_type="SEQ_2_SEQ_LM", target_modules=["q", "k", "v", "o", "wi_0", "wi_1", "wo"])
    fit(f"lora/{task}", params, lambda step: loss_on(peft, stream.take(LORA["batch"])), LORA["steps"], LORA["lr"])
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
        entry = dict(name=name, type="text-to-text", data=f"test/{name}.jsonl", prompt=spec["prompt"], target="{target}", metric="exact-match")
        if spec.get("held_out"):
            entry["held_out"] = True
        tasks.append(entry)
    doc = dict(version=1, pool="text2text", base="base", lora="lora", tasks=tasks)
    (out / "tasks.yaml").write_text(yaml.safe_dump(doc, sort_keys=False, width=120))


def main() -> None:
    args = argparse.ArgumentParser()
    args.add_argument("--out", type=pathlib.Path, default=pathlib.Path("examples/pools/text2text"))
    args.add_argument("--stage", choices=["test", "validation", "base", "lora"])
    args.add_argument("--task", action="append", help="may be given several times")
    a = args.parse_args()
    stage, clock = lambda s: a.stage in (None, s), Clock()
    if stage("test"):
        write_tests(a.out)
    if stage("validation"):
        write_rows(cache() / "text2text-validation", "validation")
    if stage("base") and not (a.out / "base" / "model.safetensors").exists():
        train_base(a.out)
    for name in (n for n, s in TASKS.items() if not s.get("held_out") and (a.task is None or n in a.task)):
        if stage("lora") and not (a.out / "lora" / name / "adapter_model.safetensors").exists():
            train_lora(a.out, name)
    clock.done("text-to-text pool")


if __name__ == "__main__":
    main()
