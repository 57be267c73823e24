"""Holds `smelt eval` against transformers running the same checkpoints.

    accuracy.py --smelt COMMAND POOL...

For each pool (examples/pools/*): the base, one expert, the average, and a fusion
of all experts are written by smelt, evaluated by `smelt eval`, then loaded in
transformers by one line each and evaluated by tools/pools/evaluate.py's metrics.
Every accuracy must be the same, to within the examples whose two best answers
are a rounding apart (TOLERANCE of a test set).
"""

import argparse
import json
import logging
import pathlib
import shlex
import subprocess
import sys
import tempfile
import warnings

import torch
import transformers

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "pools"))
from evaluate import METRICS, Pool  # noqa: E402

AUTO = {"image-classification": "AutoModel", "text-to-text": "AutoModelForSeq2SeqLM", "multiple-choice": "AutoModelForCausalLM"}
TOLERANCE = 0.5 / 100


def smelt(command, *arguments):
    done = subprocess.run([*shlex.split(command), *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{command} {' '.join(map(str, arguments))}: {done.stderr.strip()}")
    return done.stdout


def kinds(doc, folder):
    """Kind and expert folders of a pool: full fine-tunes, adapters."""
    for kind, rank, router in (("experts", 16, 16), ("lora", 16, 16)):
        if doc.get(kind):
            yield kind, sorted(p for p in (folder / doc[kind]).iterdir() if p.is_dir()), rank, router


def check(command, folder, work):
    """Compares every model of a pool on every task; returns (accuracies compared, worst difference)."""
    pool = Pool(folder)
    base = folder / pool.doc["base"]
    models = {"base": base}
    for kind, experts, rank, router in kinds(pool.doc, folder):
        models[f"smile-{kind}"] = work / f"smile-{kind}"
        smelt(command, "fuse", base, *experts, "-o", models[f"smile-{kind}"], "--expert-rank", rank, "--router-rank", router)
        models[f"average-{kind}"] = work / f"average-{kind}"
        smelt(command, "merge", "simple_average", base, *experts, "-o", models[f"average-{kind}"])
        models[f"one-{kind}"] = work / f"one-{kind}"
        smelt(command, "convert", models[f"smile-{kind}"], "--to", "dense", "--expert", experts[-1].name, "-o", models[f"one-{kind}"])
    named = [f"{name}={path}" for name, path in models.items()]
    results = json.loads(smelt(command, "eval", *named, "--tasks", folder / "tasks.yaml", "--no-cache", "--json"))
    tests, names, worst, compared = pool.tests(None), [t["name"] for t in results["tasks"]], 0.0, 0
    for row in results["rows"]:
        auto = getattr(transformers, AUTO[pool.type])
        model = auto.from_pretrained(models[row["model"]], trust_remote_code=True, dtype=torch.float32).eval()
        for name, cell in zip(names, row["cells"]):
            with torch.no_grad():
                want = tests[name].score(pool, model) / 100
            if abs(cell["value"] - want) > TOLERANCE:
                raise SystemExit(f"{folder.name}: {row['model']} on {name}: smelt eval {cell['value']:.4f}, transformers {want:.4f}")
            worst, compared = max(worst, abs(cell["value"] - want)), compared + 1
    return compared, worst


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pools", nargs="+", type=pathlib.Path, metavar="POOL")
    parser.add_argument("--smelt", required=True, help="the command")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    for folder in options.pools:
        with tempfile.TemporaryDirectory() as work:
            compared, worst = check(options.smelt, folder, pathlib.Path(work))
        print(f"{folder.name}: {compared} accuracies as in transformers, the farthest off by {100 * worst:.2f} points", flush=True)


if __name__ == "__main__":
    main()
