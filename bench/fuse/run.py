"""Times whole fusions beside FusionBench, or beside copying the same bytes.

    python bench/fuse/run.py clip --work DIR

clip         eight full fine-tunes of CLIP-ViT-B/32's vision tower in float32, rank
             32, router 16, beside FusionBench's SmileUpscalingAlgorithm on the CPU
             (its default, full SVD, and its thin SVD).
mistral-R    three experts of Mistral-7B's shapes, 8 of the 32 layers, bf16, rank R,
             caches dropped, beside copying, a copy before and after each fusion.
qwen2-32     a Qwen2-1.5B and two experts in bf16, rank 32, likewise.

Checkpoints of synthetic weights come from tools/synth. Seconds of smelt are a
process's, from start to end, with the output durable; the peer's are those of its
algorithm alone. Memory of smelt is the peak of RssAnon, that is without mapped
files, sampled every 10 ms in a run of its own for CLIP; the peer's is its peak resident memory.

There are two floors. Products: the operations of the products with the deltas
(as many as linalg takes for one delta of each shape) over the rate of fused
multiply-adds on all cores, measured in the same run. Disk: reading every expert
once and copying the output, synced.
"""

import json
import os
import pathlib
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from measure import ROOT, arguments, copy, drop_caches, folder_bytes, fresh, header, percent, pool, products, program, read, row, seconds, size, target, watched  # noqa: E402

ROUTER = 16
PEERS = {"full SVD (its default)": (["--full"], 50), "thin SVD": ([], 25)}


def fuse(work, base, experts, rank, cold=False, every=0.01):
    out = fresh(work, "fused")
    if cold:
        drop_caches()
    else:
        read([base, *experts])
    line = [program(work, "./cmd/smelt"), "fuse", "--json", base, *experts, "-o", out, "--expert-rank", str(rank), "--router-rank", str(ROUTER)]
    wall, anon, _, text = watched(line, every=every)
    result = json.loads(text)
    return {"seconds": wall, "anon": anon, "sync": result["timing"]["sync"] / 1e9, "out": out,
            "what": f"×{result['parameters']['output'] / result['parameters']['base']:.3f}, {100 * min(result['captured'].values()):.1f} % of the energy"}


def middle(runs):
    return sorted(runs, key=lambda r: r["seconds"])[len(runs) // 2]


def floor(work, base, experts, rank, out):
    """Operations of the products in 10⁹ and their floor in seconds."""
    modules = json.loads((out / "config.json").read_text())["smile"]["modules"]
    return products(work, base, experts, modules, rank, ROUTER)


def certified(out):
    """The share of the best energy that the manifest proves."""
    kept = [e for m in json.loads((out / "smelt.json").read_text())["modules"].values() for e in m]
    return sum(e["captured"] for e in kept) / sum(e["bound"] for e in kept)


def clip(o, base, experts):
    rounds, layers = (1, 2) if o.quick else (5, 12)
    anon = fuse(o.work, base, experts, 32)["anon"]
    ours = middle([fuse(o.work, base, experts, 32, every=1) for _ in range(rounds)])
    disk = statistics.median(copy(o.work, experts, ours["out"]) for _ in range(rounds))
    _, flops = floor(o.work, base, experts, 32, ours["out"])
    what = f"eight CLIP-ViT-B/32, {layers} layers, float32, rank 32 ({ours['what']})"
    print(header("fusion", "smelt", "of it until the disk had it", "floor: products", "floor: disk, caches warm", "of the larger", "memory",
                 "FusionBench", "its time", "smelt is faster", "its memory", "smelt's / its"))
    targets = [target("CLIP fusion: ≥ 99.9 % of the best energy certified", f"{100 * certified(ours['out']):.3f} %", certified(ours["out"]) >= 0.999)]
    for name, (options, want) in PEERS.items():
        _, _, rss, text = watched([sys.executable, ROOT / "bench/fuse/peer.py", base, *experts, *options], every=0.2)
        theirs = json.loads(text.strip().splitlines()[-1])["seconds"]
        times, share = theirs / ours["seconds"], anon / rss
        print(row(what, seconds(ours["seconds"]), seconds(ours["sync"]), seconds(flops), seconds(disk), percent(max(flops, disk) / ours["seconds"]), size(anon),
                  name, seconds(theirs), f"{times:.1f} ×", size(rss), f"{share:.2f}"))
        targets += [target(f"CLIP fusion: ≥ {want} × FusionBench's speed with {name}", f"{times:.1f} ×", times >= want),
                    target(f"CLIP fusion: ≤ 1/5 of FusionBench's memory with {name}", f"{share:.2f}", share <= 0.2)]
    print("\n".join(targets))


def beside_copy(o, what, base, experts, rank):
    rounds = 1 if o.quick or rank > 32 else 2
    fused = fuse(o.work, base, experts, rank)
    copies, runs = [copy(o.work, experts, fused["out"], cold=True)], []
    for _ in range(rounds):
        runs.append(fuse(o.work, base, experts, rank, cold=True))
        copies.append(copy(o.work, experts, runs[-1]["out"], cold=True))
    ours, disk = middle(runs), statistics.mean(copies)
    share = statistics.median((a + b) / 2 / r["seconds"] for a, b, r in zip(copies, copies[1:], runs))
    gflop, flops = floor(o.work, base, experts, rank, ours["out"])
    moved = folder_bytes(*experts, ours["out"])
    name = "products" if flops > disk else "disk"
    print(header("fusion, caches dropped", "smelt", "of it until the disk had it", "floor: products", "floor: disk", "of the larger", "of copy speed", "memory"))
    print(row(f"{what} ({ours['what']})", seconds(ours["seconds"]), seconds(ours["sync"]), f"{seconds(flops)} ({gflop / 1e3:.1f} TFLOP)",
              f"{seconds(disk)} ({size(moved)})", f"{percent(max(flops, disk) / ours['seconds'])} ({name})", percent(share), size(ours["anon"])))
    if rank == 32:
        print(target(f"{what}: ≥ 70 % of copy speed", percent(share), share >= 0.7))
    print(target(f"{what}: ≤ 2 GB beyond mapped files", size(ours["anon"]), ours["anon"] <= 2e9))


def main():
    o = arguments(__doc__, ["clip", "mistral-32", "mistral-128", "qwen2-32"])
    shape, _, rank = o.step.partition("-")
    if shape == "clip":
        base, experts = pool(o.work, "clip-vit-b32", 8, "F32", 2 if o.quick else 12)
    elif shape == "mistral":
        layers = 1 if o.quick else 8
        base, experts = pool(o.work, "mistral-7b", 3, "BF16", layers)
        what = f"{layers} of 32 layers of Mistral-7B and three experts, bf16, rank {rank}"
    else:
        layers = 2 if o.quick else 28
        base, experts = pool(o.work, "qwen2-1.5b", 2, "BF16", layers)
        what = f"{layers} layers of Qwen2-1.5B and two experts, bf16, rank {rank}"
    if o.prepare:
        program(o.work, "./cmd/smelt"), program(o.work, "./bench/linalg")
    elif shape == "clip":
        clip(o, base, experts)
    else:
        beside_copy(o, what, base, experts, int(rank))


if __name__ == "__main__":
    main()
