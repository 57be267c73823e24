"""Builds the causal pool: tokenizer, mini Qwen2, six LoRA adapters on small made-up domains.

    python tools/pools/causal.py [--out examples/pools/causal] [--stage test|base|lora] [--task NAME ...]
"""

import argparse
import json
import pathlib
import zlib

import numpy as np
import torch
import yaml
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from training import Clock, adapter, fit, round_bf16, save_adapter, set_seed
from vocabulary import byte_level_tokenizer

TEST, CHOICES, END = 200, 4, "<|endoftext|>"
BASE = dict(steps=700, batch=126, lr=3e-3)
LORA = dict(batch=64, lr=3e-3, rank=8, alpha=16, rate=0.1)
LORA_STEPS = {"brackets": 120, "sums": 700, "code": 400, "calendar": 200, "facts": 200, "grammar": 120}
CONFIG = dict(hidden_size=128, intermediate_size=256, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
              max_position_embeddings=128, tie_word_embeddings=True, rope_parameters=dict(rope_type="default", rope_theta=10000.0))


# ── the domains: one function each, rng → (prompt, answer, wrong answers) ────


def others(rng, answer, pool, count=CHOICES - 1) -> list:
    """Some of pool, all different and none the answer."""
    left = [p for p in dict.fromkeys(pool) if p != answer]
    return [left[i] for i in rng.permutation(len(left))[:count]]


def sums(rng):
    """Addition and subtraction below 100."""
    a, b = int(rng.integers(2, 60)), int(rng.integers(2, 40))
    total = a + b
    near = [str(total + d) for d in (-10, -2, -1, 1, 2, 10) if total + d > 0]
    if rng.random() < 0.5:
        return f"{a} + {b} =", f" {total}", [" " + w for w in others(rng, str(total), near)]
    near = [str(a + d) for d in (-10, -2, -1, 1, 2, 10) if a + d > 0]
    return f"{total} - {b} =", f" {a}", [" " + w for w in others(rng, str(a), near)]


def code(rng):
    """A few assignments; the answer is what is printed."""
    names = [list("abcdefgh")[i] for i in rng.permutation(8)[: int(rng.integers(3, 5))]]
    values, lines = {}, []
    for i, n in enumerate(names):
        if i and rng.random() < 0.35:
            m = names[rng.integers(i)]
            values[n] = values[m]
            lines.append(f"let {n} = {m};")
        else:
            values[n] = int(rng.integers(10))
            lines.append(f"let {n} = {values[n]};")
    ask = names[rng.integers(len(names))]
    answer = str(values[ask])
    wrong = others(rng, answer, [str(v) for v in values.values()])
    wrong += others(rng, answer, [d for d in "0123456789" if d not in wrong], CHOICES - 1 - len(wrong))
    return "fn main() { " + " ".join(lines) + f" print({ask}); }} //", f" {answer}", [" " + w for w in wrong]


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


def bestiary() -> dict:
    """Creature → its facts: the same for ever, to be known by heart."""
    rng = np.random.default_rng(808)
    first, last = "glim brax thorn wisp murk snor flit quag drib zand".split(), "kin toad wing jaw moth horn tail bug".split()
    fields = dict(home="caves marshes forests deserts rivers attics".split(), food="moss beetles honey roots snow ink".split(),
                  colour="crimson violet silver amber teal ivory".split())
    return {f + l: {k: v[rng.integers(len(v))] for k, v in fields.items()} for f in first for l in last}


FACTS = bestiary()
ASK = {"home": "Where does the {} live? In", "food": "What does the {} eat? It eats", "colour": "What is the colour of the {}? It is"}


def facts(rng):
    """Questions about creatures that exist nowhere else."""
    names = list(FACTS)
    name, field = names[rng.integers(len(names))], list(ASK)[rng.integers(3)]
    answer = FACTS[name][field]
    pool = sorted({f[field] for f in FACTS.values()})
    return ASK[field].format(name), " " + answer, [" " + w for w in others(rng, answer, pool)]


DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
COUNT = "one two three four five six".split()


def calendar(rng):
    """Days and months counted on and back."""
    names, unit = ((DAYS, "day"), (MONTHS, "month"))[rng.integers(2)]
    n, i, back = int(rng.integers(1, 7)), int(rng.integers(len(names))), rng.random() < 0.5
    answer = names[(i + (-n if back else n)) % len(names)]
    prompt = f"{COUNT[n - 1]} {unit}{'s' if n > 1 else ''} {'before' if back else 'after'} {names[i]} comes"
    return prompt, " " + answer, [" " + w for w in others(rng, answer, names)]


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
    a, d = int(rng.integers(1, 30)), int(rng.integers(1, 10))
    s = [a + d * i for i in range(5)]
    near = [str(s[4] + k) for k in (-d, -2, -1, 1, 2, d, 10)]
    return ", ".join(map(str, s[:4])) + ",", f" {s[4]}", [" " + w for w in others(rng, str(s[4]), near)]


TASKS = {
    "brackets": dict(make=brackets),
    "calendar": dict(make=calendar),
    "code": dict(make=code),
    "facts": dict(make=facts),
    "grammar": dict(make=grammar),
    "sums": dict(make=sums),
    "series": dict(make=series, held_out=True),
}
# How often the base meets each domain.
MIX = {"brackets": 0.12, "calendar": 1.7, "code": 1.2, "facts": 0.6, "grammar": 0.06, "sums": 1.6, "series": 1.0}


def test_rows(task: str) -> list:
    """The test set of a domain: TEST different prompts with four choices each."""
    rng, rows = np.random.default_rng(zlib.crc32(f"{task}/test".encode())), {}
    for _ in range(100 * TEST):
        prompt, answer, wrong = TASKS[task]["make"](rng)
        if prompt not in rows and len(rows) < TEST and len(wrong) == CHOICES - 1:
            at = int(rng.integers(CHOICES))
            rows[prompt] = dict(prompt=prompt, choices=wrong[:at] + [answer] + wrong[at:], answer=at)
    return list(rows.values())


class Stream:
    """Training rows of a domain, without end; prompts of the test set are left out where the domain can be generalised."""

    def __init__(self, task: str, seed: int):
        self.make, self.rng = TASKS[task]["make"], np.random.default_rng(zlib.crc32(f"{task}/train/{seed}".encode()))
        self.held = set() if task in ("facts", "calendar") else {r["prompt"] for r in test_rows(task)}

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
    """A mixture of all domains, stopped early."""
    set_seed(8001)
    write_tokenizer(out / "base")
    tok = AutoTokenizer.from_pretrained(out / "base")
    ids = dict(eos_token_id=tok.eos_token_id, pad_token_id=tok.pad_token_id, bos_token_id=None)
    model = Qwen2ForCausalLM(Qwen2Config(vocab_size=len(tok), **ids, **CONFIG))
    streams, total = {n: Stream(n, 1) for n in TASKS}, sum(MIX.values())

    def loss_of(step):
        return loss_on(model, encode(tok, [r for n in TASKS for r in streams[n].take(round(BASE["batch"] * MIX[n] / total))]))

    fit("base", list(model.parameters()), loss_of, BASE["steps"], BASE["lr"], weight_decay=0.05)
    round_bf16(model).save_pretrained(out / "base")


def train_lora(out: pathlib.Path, task: str) -> None:
    """A PEFT adapter on the seven linear layers of every block."""
    set_seed(8200 + list(TASKS).index(task))
    tok = AutoTokenizer.from_pretrained(out / "base")
    model = Qwen2ForCausalLM.from_pretrained(out / "base", dtype=torch.float32)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    stream = Stream(task, 2)
    first = encode(tok, Stream(task, 3).take(256))["ids"]
    peft, groups = adapter(model, lambda m: m(input_ids=first), LORA["rate"], r=LORA["rank"], lora_alpha=LORA["alpha"], task_type="CAUSAL_LM", target_modules=targets)
    fit(f"lora/{task}", groups, lambda step: loss_on(peft, encode(tok, stream.take(LORA["batch"]))), LORA_STEPS[task], LORA["lr"])
    save_adapter(peft, out / "lora" / task)


def write_tests(out: pathlib.Path) -> None:
    (out / "test").mkdir(parents=True, exist_ok=True)
    tasks = []
    for name, spec in TASKS.items():
        with (out / "test" / f"{name}.jsonl").open("w", encoding="utf-8") as f:
            f.writelines(json.dumps(r) + "\n" for r in test_rows(name))
        entry = dict(name=name, type="multiple-choice", data=f"test/{name}.jsonl", prompt="{prompt}", choices="{choices}", answer="{answer}", metric="accuracy")
        if spec.get("held_out"):
            entry["held_out"] = True
        tasks.append(entry)
    doc = dict(version=1, pool="causal", base="base", lora="lora", tasks=tasks)
    (out / "tasks.yaml").write_text(yaml.safe_dump(doc, sort_keys=False, width=120))


def main() -> None:
    args = argparse.ArgumentParser()
    args.add_argument("--out", type=pathlib.Path, default=pathlib.Path("examples/pools/causal"))
    args.add_argument("--stage", choices=["test", "base", "lora"])
    args.add_argument("--task", action="append", help="may be given several times")
    a = args.parse_args()
    stage, clock = lambda s: a.stage in (None, s), Clock()
    if stage("test"):
        write_tests(a.out)
    if stage("base") and not (a.out / "base" / "model.safetensors").exists():
        train_base(a.out)
    for name in (n for n, s in TASKS.items() if not s.get("held_out") and (a.task is None or n in a.task)):
        if stage("lora") and not (a.out / "lora" / name / "adapter_model.safetensors").exists():
            train_lora(a.out, name)
    clock.done("causal pool")


if __name__ == "__main__":
    main()
