"""Times smelt's forward passes beside transformers', turn by turn.

    python bench/models/run.py --work DIR [--only images,encode,prompt,decode,decode4,decode8] [--dtypes f32,bf16] [--threads 1,2] [--rounds 9]

Checkpoints of synthetic weights are made in DIR on the spot (a few gigabytes) and
kept there for the next run. Both sides hold their model in memory, and in every
round each runs once, so that a busy machine slows both. Writes models.json and
models.md into DIR: medians and the median of the rounds' ratios, of the wall's
time or, with --cpu, of the processor's (for machines that others use as well; with
one thread neither side waits for its own). Decoding is held against reading as many
bytes as the model and its cache have, in the same rounds.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import time

import torch
import transformers
from fusion_bench.models.smile_moe.linear_from_module import SmileCompressedLinear, SmileGate, SmileMoELinear
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPConfig, CLIPModel, Qwen2Config, Qwen2ForCausalLM, T5Config, T5ForConditionalGeneration

transformers.utils.logging.disable_progress_bar()
ROOT = pathlib.Path(__file__).resolve().parents[2]
EXPERTS, RANK, ROUTER = 8, 32, 16
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
TOKENS, BATCH, STEPS, TEXTS = 512, 32, 16, 2

MODELS = {
    "clip-vit-base-patch32": (CLIPModel, lambda: CLIPConfig(), ".encoder.layers."),
    "t5-base": (T5ForConditionalGeneration, lambda: T5Config(
        d_model=768, d_kv=64, d_ff=3072, num_layers=12, num_heads=12, decoder_start_token_id=0), ".block."),
    "qwen2-0.5b": (Qwen2ForCausalLM, lambda: Qwen2Config(
        hidden_size=896, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14, num_key_value_heads=2,
        tie_word_embeddings=True, max_position_embeddings=32768, bos_token_id=None, eos_token_id=None), "model.layers."),
}
SEQUENCES = {"decode": 1, "decode4": 4, "decode8": 8}  # side by side
TASKS = {"images": "clip-vit-base-patch32", "encode": "t5-base", "prompt": "qwen2-0.5b", **dict.fromkeys(SEQUENCES, "qwen2-0.5b")}
UNITS = {"images": (BATCH, "images/s"), "encode": (TEXTS * TOKENS, "tokens/s"), "prompt": (TOKENS, "tokens/s"),
         **{k: (n * STEPS, "tokens/s") for k, n in SEQUENCES.items()}}


def modules(model, inside):
    return [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear) and inside in "." + n]


def factors(n, k, dtype, g):
    rows, r = max(RANK, ROUTER), RANK
    vt = torch.randn(EXPERTS, rows, k, generator=g) / k**0.5
    us = 0.05 * torch.randn(EXPERTS, n, r, generator=g) / r**0.5
    return vt.to(dtype), us.to(dtype)


def make(work, name, dtype, fused):
    """Returns the directory of a checkpoint, made unless it is there."""
    directory = work / f"{name}-{dtype}{'-fused' if fused else ''}"
    if (directory / "config.json").exists():
        return directory
    cls, config, inside = MODELS[name]
    torch.manual_seed(0)
    model = cls(config()).to(DTYPES[dtype])
    if not fused:
        model.save_pretrained(directory)
        return directory
    directory.mkdir(parents=True)
    shared = {v.data_ptr(): k for k, v in reversed(model.state_dict().items())}
    tensors = {k: v for k, v in model.state_dict().items() if shared[v.data_ptr()] == k}
    g, entries = torch.Generator().manual_seed(1), {}
    for n, m in modules(model, inside):
        out, k = m.weight.shape
        vt, us = factors(out, k, DTYPES[dtype], g)
        tensors[n + ".smile.vt"] = vt.flatten(0, 1)
        tensors[n + ".smile.us"] = us.transpose(0, 1).flatten(1).contiguous()
        entries[n] = {"in": k, "out": out, "rank_of_router": ROUTER, "rank_of_expert": [RANK] * EXPERTS}
    names = [f"expert{e}" for e in range(EXPERTS)]
    block = {
        "format": 1, "base": name, "base_model_type": model.config.model_type,
        "experts": [{"name": e, "kind": "full", "source": e, "dtype": dtype.upper()} for e in names],
        "num_local_experts": EXPERTS, "num_experts_per_tok": 1, "rank_of_router": ROUTER, "modules": entries,
    }
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    c = {**model.config.to_dict(), "dtype": None, "model_type": "smile", "smile": block}
    (directory / "config.json").write_text(json.dumps(c))
    return directory


def fusionbench(model, inside, dtype):
    """Puts FusionBench's layers in place, with random factors: its constructor
    would take a full SVD of every delta."""
    g = torch.Generator().manual_seed(1)
    for name, lin in modules(model, inside):
        out, k = lin.weight.shape
        vt, us = factors(out, k, dtype, g)
        layer, gate = SmileMoELinear.__new__(SmileMoELinear), SmileGate.__new__(SmileGate)
        nn.Module.__init__(layer), nn.Module.__init__(gate)
        gate.input_features, gate.num_experts, gate.k = k, EXPERTS, ROUTER
        gate.weights = nn.Parameter(vt[:, :ROUTER].reshape(-1, k).contiguous())
        experts = []
        for e in range(EXPERTS):
            x = SmileCompressedLinear.__new__(SmileCompressedLinear)
            nn.Module.__init__(x)
            x.in_features, x.out_features, x.k = k, out, RANK
            x.u, x.svh = nn.Parameter(us[e].contiguous()), nn.Parameter(vt[e, :RANK].contiguous())
            x.bias = None if lin.bias is None else nn.Parameter(torch.zeros(out, dtype=dtype))
            experts.append(x)
        layer.num_experts, layer.top_k, layer.k, layer.gate_k = EXPERTS, 1, RANK, ROUTER
        layer.in_features, layer.out_features = k, out
        layer.gate, layer.experts, layer.pretrained_model = gate, nn.ModuleList(experts), lin
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, layer)
    return model


class Torch:
    """One task in transformers."""

    def __init__(self, task, directory, dtype, fused):
        cls, _, inside = MODELS[TASKS[task]]
        model = cls.from_pretrained(directory, dtype=DTYPES[dtype]).eval()
        if fused:
            fusionbench(model, inside, DTYPES[dtype])
        ids = torch.tensor([[(i * 7919 + 13) % 30000 for i in range(TOKENS)]])
        if task == "images":
            x = torch.sin(torch.arange(BATCH * 3 * 224 * 224).float()).reshape(BATCH, 3, 224, 224).to(DTYPES[dtype])
            self.run = lambda: model.get_image_features(x)
        elif task == "encode":
            self.run = lambda: model.encoder(ids.expand(TEXTS, -1))
        elif task == "prompt":
            self.run = lambda: model(ids, logits_to_keep=1, use_cache=True)
        else:
            many = SEQUENCES[task]
            cache = model(ids.expand(many, -1), logits_to_keep=1, use_cache=True).past_key_values

            def decode():
                if (extra := cache.get_seq_length() - TOKENS) > 0:
                    cache.crop(-extra)
                for i in range(STEPS):
                    y = model(torch.tensor([[i]] * many), past_key_values=cache, use_cache=True)
                    y.logits[:, -1].argmax(-1).tolist()

            self.run = decode

    def time(self):
        start, cpu = time.perf_counter(), time.process_time()
        self.run()
        return time.perf_counter() - start, time.process_time() - cpu


class Smelt:
    """One task in smelt, in a process of its own that waits for its turns."""

    def __init__(self, binary, task, directory, threads, *more):
        batch = {"images": BATCH, "encode": TEXTS, **SEQUENCES}.get(task, 1)
        self.p = subprocess.Popen(
            [binary, "-dir", directory, "-task", task.rstrip("48"), "-batch", str(batch), "-tokens", str(TOKENS), "-steps", str(STEPS),
             "-workers", str(threads), *more],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.about = json.loads(self.p.stdout.readline())

    def time(self, what="run"):
        self.p.stdin.write(what + "\n")
        self.p.stdin.flush()
        return tuple(float(v) for v in self.p.stdout.readline().split())

    def close(self):
        self.p.stdin.close()
        self.p.wait()


class Read:
    """Reading as many bytes as the model has: what a decoding step cannot beat."""

    def __init__(self, smelt):
        self.time = lambda: smelt.time("read")


def measure(contestants, rounds):
    times = {k: [] for k in contestants}
    for c in contestants.values():
        c.time()  # warm
    for i in range(rounds):
        for k in sorted(contestants, reverse=i % 2 == 1):
            times[k].append(contestants[k].time())
    return times


def compare(o, binary, task, dtype, threads):
    """Returns one row: everybody's time for one task, turn by turn."""
    torch.set_num_threads(threads)
    name = TASKS[task]
    dense = make(o.work, name, dtype, False)
    ours = Smelt(binary, task, dense, threads)
    c = {"smelt": ours, "transformers": Torch(task, dense, dtype, False)}
    if dtype == "bf16" and task not in SEQUENCES:
        c["smelt exact"] = Smelt(binary, task, dense, threads, "-exact")
    if task in SEQUENCES:
        c["read"] = Read(ours)
    if not o.no_fused:
        c["smelt fused"] = Smelt(binary, task, make(o.work, name, dtype, True), threads)
        c["fusionbench"] = Torch(task, dense, dtype, True)
    t = {k: [x[int(o.cpu)] for x in v] for k, v in measure(c, o.rounds).items()}
    for x in c.values():
        if isinstance(x, Smelt):
            x.close()
    n, unit = UNITS[task]
    ratio = lambda x, y: statistics.median(p / q for p, q in zip(t[x], t[y]))
    row = dict(task=task, model=name, dtype=dtype, threads=threads, unit=unit, times=t,
               speed={k: n / statistics.median(v) for k, v in t.items() if k != "read"}, speedup=ratio("transformers", "smelt"))
    if "smelt exact" in c:
        row["exact_speedup"] = ratio("transformers", "smelt exact")
    if "read" in c:
        row["bandwidth"] = ours.about["bytes"] / statistics.median(t["read"])
        row["share_of_bandwidth"] = STEPS * ratio("read", "smelt")
    if not o.no_fused:
        row["fused_ratio"] = ratio("smelt fused", "smelt")
        row["fusionbench_ratio"] = ratio("fusionbench", "transformers")
    return row


def table(rows):
    lines = ["| task | model | dtype | threads | smelt | transformers | × | fused / dense | FusionBench's |", "|---|---|---|---|---|---|---|---|---|"]
    for r in rows:
        s, more = r["speed"], ""
        if "exact_speedup" in r:
            more = f" (inputs not rounded: {s['smelt exact']:.1f}, × {r['exact_speedup']:.2f})"
        if "share_of_bandwidth" in r:
            more = f" ({r['share_of_bandwidth']:.0%} of {r['bandwidth'] / 1e9:.0f} GB/s)"
        lines.append(
            f"| {r['task']} | {r['model']} | {r['dtype']} | {r['threads']} | {s['smelt']:.1f} {r['unit']}{more} | {s['transformers']:.1f} | "
            f"{r['speedup']:.2f} | {r.get('fused_ratio', float('nan')):.2f} | {r.get('fusionbench_ratio', float('nan')):.2f} |")
    return lines


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--work", type=pathlib.Path, required=True)
    a.add_argument("--only", default="images,encode,prompt,decode,decode4,decode8")
    a.add_argument("--dtypes", default="f32,bf16")
    a.add_argument("--threads", default=f"1,{torch.get_num_threads()}")
    a.add_argument("--rounds", type=int, default=9)
    a.add_argument("--no-fused", action="store_true")
    a.add_argument("--cpu", action="store_true", help="compare processor time, not the wall's")
    o = a.parse_args()
    o.work.mkdir(parents=True, exist_ok=True)
    binary = o.work / "models"
    subprocess.run(["go", "build", "-o", binary, "./bench/models"], cwd=ROOT, check=True)
    rows = []
    with torch.inference_mode():
        for task in o.only.split(","):
            for dtype in o.dtypes.split(","):
                for threads in dict.fromkeys(int(n) for n in o.threads.split(",")):
                    rows.append(compare(o, binary, task, dtype, threads))
                    print(json.dumps({k: v for k, v in rows[-1].items() if k != "times"}), flush=True)
    about = dict(torch=torch.__version__, transformers=transformers.__version__, rounds=o.rounds,
                 time="processor" if o.cpu else "wall")
    (o.work / "models.json").write_text(json.dumps(dict(about=about, rows=rows), indent=1) + "\n")
    (o.work / "models.md").write_text("\n".join(table(rows)) + "\n")
    print("\n".join(table(rows)))


main()
