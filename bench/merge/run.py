"""smelt merge beside mergekit, in one run, on the same checkpoints.

    python bench/merge/run.py ties --work DIR

A Qwen2-0.5B and two fine-tunes in bf16 are made by tools/synth. A method is timed
three times on both sides, taking turns, with warm caches, until the disk has the
output; mergekit's time is without its imports, and in bfloat16, its fastest.
Memory of smelt is without mapped files. The floor is the disk's: reading base and
experts once and copying the output, synced.
"""

import json
import os
import pathlib
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from measure import ROOT, arguments, copy, fresh, header, percent, pool, program, row, seconds, size, target, watched  # noqa: E402

METHODS = {"simple_average": ("linear", "simple average"), "ties": ("ties", "TIES, density 0.2")}


def main():
    o = arguments(__doc__, METHODS)
    layers, rounds = (2, 1) if o.quick else (24, 3)
    smelt = program(o.work, "./cmd/smelt")
    base, experts = pool(o.work, "qwen2-0.5b", 2, "BF16", layers)
    if o.prepare:
        return
    theirs, title = METHODS[o.step]
    runs = {"smelt": [], "mergekit": [], "copy": []}
    for _ in range(rounds):
        for side in ("smelt", "mergekit"):
            out = fresh(o.work, side)
            ours = [smelt, "merge", "--json", o.step, base, *experts, "-o", out]
            peer = [sys.executable, ROOT / "bench/merge/peer.py", theirs, base, *experts, out]
            _, anon, rss, text = watched(ours if side == "smelt" else peer, dict(os.environ, HF_HUB_OFFLINE="1"))
            result = json.loads(text[text.index("{"):])
            runs[side].append((result["timing"]["total"] / 1e9, anon) if side == "smelt" else (result["seconds"], rss))
        runs["copy"].append((copy(o.work, [base, *experts], o.work / "out" / "smelt"), 0))
    wall = {side: statistics.median(s for s, _ in r) for side, r in runs.items()}
    memory = {side: max(n for _, n in r) for side, r in runs.items()}
    times, share = wall["mergekit"] / wall["smelt"], memory["smelt"] / memory["mergekit"]
    print(header("method", "floor: disk", "smelt", "of floor", "memory", "mergekit", "smelt is faster", "its memory", "smelt's / its"))
    print(row(title, seconds(wall["copy"]), seconds(wall["smelt"]), percent(wall["copy"] / wall["smelt"]), size(memory["smelt"]), seconds(wall["mergekit"]),
              f"{times:.1f} ×", size(memory["mergekit"]), f"{share:.2f}"))
    print(f"Two fine-tunes of Qwen2-0.5B's shapes, {layers} layers, bf16; medians of {rounds}.")
    print(target(f"{title}: at least as fast as mergekit", f"{times:.1f} ×", times >= 1))


if __name__ == "__main__":
    main()
