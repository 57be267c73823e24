"""Times smelt's forward passes beside transformers', turn by turn.

    python bench/models/run.py prompt --work DIR

images   CLIP-ViT-B/32, a batch of 32        encode   T5-base, two texts of 512 tokens
prompt   Qwen2-0.5B, a prompt of 512         decode   Qwen2-0.5B, 16 tokens after it,
decode8  likewise, eight sequences,                   in one sequence
         bf16 on all threads alone

Each in float32 and bf16, on one thread and on all, dense and fused (8 experts of
rank 32, router rank 16); with bf16 weights also with --exact, which does not round
the inputs of products. Weights are synthetic. All sides hold their model in memory,
and in every round each runs once: medians, and medians of the rounds' ratios. The
floor of a pass is the operations of its products, as torch counts them, at the rate
of fused multiply-adds (bf16 pairs: twice that, where inputs are rounded); that of
decoding is to read the bytes of weights and cache once a token, in the same rounds.
"""

import json
import pathlib
import statistics
import subprocess
import sys
import time

import torch
import transformers
from fusion_bench.models.smile_moe.linear_from_module import SmileCompressedLinear, SmileGate, SmileMoELinear
from safetensors.torch import save_file
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPConfig, CLIPModel, Qwen2Config, Qwen2ForCausalLM, T5Config, T5ForConditionalGeneration

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from measure import CORES, arguments, header, percent, program, row, target  # noqa: E402

transformers.utils.logging.disable_progress_bar()
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
SEQUENCES = {"decode": 1, "decode8": 8}  # side by side
TASKS = {"images": "clip-vit-base-patch32", "encode": "t5-base", "prompt": "qwen2-0.5b", **dict.fromkeys(SEQUENCES, "qwen2-0.5b")}
UNITS = {"images": (BATCH, "images/s"), "encode": (TEXTS * TOKENS, "tokens/s"), "prompt": (TOKENS, "tokens/s"),
         **{k: (n * STEPS, "tokens/s") for k, n in SEQUENCES.items()}}
TITLES = {"images": "CLIP-ViT-B/32, batch 32", "encode": "T5-base encode, 2 × 512", "prompt": "Qwen2-0.5B, prompt of 512",
          "decode": "Qwen2-0.5B, decode after 512", "decode8": "the same, eight sequences"}


def modules(model, inside):
    return [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear) and inside in "." + n]


def factors(n, k, dtype, g):
    rows, r = max(RANK, ROUTER), RANK
    vt = torch.randn(EXPERTS, rows, k, generator=g) / k**0.5
    us = 0.05 * torch.randn(EXPERTS, n, r, generator=g) / r**0.5
    return vt.to(dtype), us.to(dtype)


def make(work, name, dtype, fused):
    """Returns the directory of a checkpoint, made unless it is there."""
    directory = work / "pool" / f"{name}-{dtype}{'-fused' if fused else ''}"
    if (directory / "config.json").exists():
        return directory
    cls, config, inside = MODELS[name]
    torch.manual_seed(0)
    model = cls(config()).to(DTYPES[dtype])
    directory.parent.mkdir(exist_ok=True)
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
        start = time.perf_counter()
        self.run()
        return time.perf_counter() - start


class Smelt:
    """One task in smelt, in a process of its own that waits for its turns."""

    def __init__(self, binary, task, directory, threads, *more):
        batch = {"images": BATCH, "encode": TEXTS, **SEQUENCES}.get(task, 1)
        self.p = subprocess.Popen(
            [binary, "-dir", directory, "-task", task.rstrip("8"), "-batch", str(batch), "-tokens", str(TOKENS), "-steps", str(STEPS),
             "-workers", str(threads), *more],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.about = json.loads(self.p.stdout.readline())

    def time(self, what="run"):
        self.p.stdin.write(what + "\n")
        self.p.stdin.flush()
        return float(self.p.stdout.readline())

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


def compare(o, task, dtype, threads):
    """Prints the rows of one task: everybody's time, turn by turn. Returns ratios."""
    torch.set_num_threads(threads)
    name, binary = TASKS[task], program(o.work, "./bench/models")
    dense, fused = (make(o.work, name, dtype, f) for f in (False, True))
    ours = Smelt(binary, task, dense, threads)
    theirs = Torch(task, dense, dtype, False)
    c = {"smelt": ours, "transformers": theirs, "fused": Smelt(binary, task, fused, threads), "fusionbench": Torch(task, dense, dtype, True)}
    if task in SEQUENCES:
        c["read"] = Read(ours)
    elif dtype == "bf16":
        c["exact"] = Smelt(binary, task, dense, threads, "-exact")
    t = measure(c, 1 if o.quick else 3)
    n, unit = UNITS[task]
    rate = {k: n / statistics.median(v) for k, v in t.items()}
    ratio = lambda x, y: statistics.median(p / q for p, q in zip(t[x], t[y]))
    if task in SEQUENCES:
        floors = dict.fromkeys(c, rate["read"] / STEPS)  # one reading is one step
    else:
        with FlopCounterMode(display=False) as counter:
            theirs.run()
        floors = dict.fromkeys(c, n * ours.time("fma") / counter.get_total_flops())
        if dtype == "bf16":
            floors["smelt"] *= 2
    r = {"speedup": ratio("transformers", "smelt"), "fused": ratio("fused", "smelt"), "floor": rate["smelt"] / floors["smelt"]}
    for side in ("smelt", "exact"):
        if side in c:
            rest = (f"{r['fused']:.2f}", f"{ratio('fusionbench', 'transformers'):.2f}") if side == "smelt" else ("", "")
            print(row(f"{TITLES[task]}, {dtype}" + (", `--exact`" if side == "exact" else ""), threads, f"{floors[side]:.1f} {unit}", f"{rate[side]:.1f}",
                      percent(rate[side] / floors[side]), f"{rate['transformers']:.1f}", f"{ratio('transformers', side):.2f}", *rest), flush=True)
    for x in c.values():
        if isinstance(x, Smelt):
            x.close()
    return r


def main():
    o = arguments(__doc__, TASKS)
    dtypes, threads = (DTYPES, dict.fromkeys((1, CORES))) if o.step != "decode8" else (["bf16"], [CORES])
    if o.prepare:
        program(o.work, "./bench/models")
        for dtype in dtypes:
            make(o.work, TASKS[o.step], dtype, False), make(o.work, TASKS[o.step], dtype, True)
        return
    print(header("task", "threads", "floor", "smelt", "of floor", "transformers", "smelt / transformers", "fused / dense, time", "FusionBench's"), flush=True)
    with torch.inference_mode():
        results = {(d, n): compare(o, o.step, d, n) for d in dtypes for n in threads}
    least = min(r["speedup"] for r in results.values())
    most = max(r["fused"] for r in results.values())
    print(target(f"{TITLES[o.step]}: at least as fast as transformers", f"{least:.2f} ×", least >= 1))
    print(target(f"{TITLES[o.step]}: fused ≤ 1.25 × the dense time", f"{most:.2f} ×", most <= 1.25))
    if o.step == "decode":
        share = min(r["floor"] for (d, _), r in results.items() if d == "bf16")
        print(target(f"{TITLES[o.step]}, bf16: ≥ 80 % of the bandwidth", percent(share), share >= 0.8))


if __name__ == "__main__":
    main()
