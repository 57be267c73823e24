"""Writes a task file for smelt eval from a pool's tasks.json (name → data, classes, templates) and its heads.

    python tools/pools/tasks_of.py ../shared/pools/vision OUT/tasks.yaml

Paths in the task file are relative to it. Data folders hold test-images.idx.gz and test-labels.idx.gz. Heads come from
the base's text tower; --heads takes those of heads.safetensors instead.
"""

import argparse
import json
import os
import pathlib


def main() -> None:
    args = argparse.ArgumentParser()
    args.add_argument("pool", type=pathlib.Path)
    args.add_argument("out", type=pathlib.Path)
    args.add_argument("--heads", action="store_true")
    a = args.parse_args()
    tasks = json.loads((a.pool / "tasks.json").read_text())["tasks"]
    rel = lambda p: json.dumps(pathlib.Path(os.path.relpath(p, a.out.parent)).as_posix())
    lines = ["version: 1", f"pool: {json.dumps(a.pool.name)}", f"base: {rel(a.pool / 'base')}", "tasks:"]
    for name, t in tasks.items():
        data = a.pool / t["data"]
        lines += [
            f"- name: {json.dumps(name)}",
            "  type: image-classification",
            f"  images: {rel(data / 'test-images.idx.gz')}",
            f"  labels: {rel(data / 'test-labels.idx.gz')}",
            f"  classes: {json.dumps(t['classes'], ensure_ascii=False)}",
        ]
        if a.heads:
            lines.append(f"  head: {rel(a.pool / 'heads.safetensors')}")
        else:
            lines.append(f"  templates: {json.dumps(t['templates'], ensure_ascii=False)}")
    a.out.parent.mkdir(parents=True, exist_ok=True)
    a.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
