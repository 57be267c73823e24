"""smelt merge beside mergekit, in one run, on the same checkpoints.

    python bench/merge/run.py --out DIR [--layers N] [--rounds 3]

A Qwen2-0.5B and two fine-tunes in bf16 are made by tools/synth. The simple
average and TIES (density 0.2) are timed, taking turns, with warm caches;
mergekit's time is without its imports, and in bfloat16, its fastest. Memory of
smelt is without mapped files. Writes merge.json and merge.md into DIR.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench" / "fuse"))
from run import Bench, mb, watched  # noqa: E402

METHODS = {"simple_average": ("linear", "simple average"), "ties": ("ties", "TIES, density 0.2")}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=pathlib.Path, required=True)
    p.add_argument("--layers", type=int, default=24)
    p.add_argument("--rounds", type=int, default=3)
    a = p.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    work = pathlib.Path(tempfile.mkdtemp(dir=a.out))
    rows = {m: {"smelt": [], "mergekit": []} for m in METHODS}
    try:
        bench = Bench(work, False)
        base, experts = bench.pool("qwen2-0.5b", 2, "BF16", a.layers)
        for _ in range(a.rounds):
            for method, (theirs, _) in METHODS.items():
                for side in ("smelt", "mergekit"):
                    out = work / "merged"
                    shutil.rmtree(out, ignore_errors=True)
                    ours = [bench.smelt, "merge", "--json", method, base, *experts, "-o", out]
                    peer = [sys.executable, ROOT / "bench/merge/peer.py", theirs, base, *experts, out]
                    _, anon, rss, text = watched(ours if side == "smelt" else peer, dict(os.environ, HF_HUB_OFFLINE="1"))
                    result = json.loads(text[text.index("{"):])
                    seconds = result["timing"]["total"] / 1e9 if side == "smelt" else result["seconds"]
                    rows[method][side].append((seconds, anon if side == "smelt" else rss))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    result = {m: {side: {"seconds": statistics.median(s for s, _ in runs), "memory": max(n for _, n in runs)} for side, runs in sides.items()}
              for m, sides in rows.items()}
    result["layers"], result["rounds"] = a.layers, a.rounds
    (a.out / "merge.json").write_text(json.dumps(result, indent=1) + "\n")
    text = f"""## Merging

Two fine-tunes of Qwen2-0.5B's shapes ({a.layers} layers), bf16, caches warm, until the disk has the output; median of {a.rounds}.
mergekit computes in bfloat16 and trims tensor by tensor; smelt computes in float64, rounds once, and trims over the whole task
vector, which takes two more passes. mergekit's imports are not counted, nor are smelt's mapped files.

| | smelt merge | memory | mergekit | memory | |
|---|---|---|---|---|---|
"""
    for m, (_, title) in METHODS.items():
        ours, theirs = result[m]["smelt"], result[m]["mergekit"]
        text += (f"| {title} | {ours['seconds']:.1f} s | {mb(ours['memory'])} | {theirs['seconds']:.1f} s | {mb(theirs['memory'])} "
                 f"| {theirs['seconds'] / ours['seconds']:.1f} × faster, {ours['memory'] / theirs['memory']:.2f} of the memory |\n")
    text += "\n`python bench/merge/run.py --out DIR`\n"
    (a.out / "merge.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
