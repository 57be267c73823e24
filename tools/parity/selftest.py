"""Shows that reference.py check finds damage: each case must make it exit 1.

    selftest.py
"""

import contextlib
import io
import json
import os
import shutil
import sys
import tempfile

import check
import golden
from native import fuse
from sources import Base, experts_of
from tensors import Tensors, encode, write

MODULE = "model.layers.1.mlp.up_proj"


def rewrite(directory, name, change):
    """Replaces one tensor of a fused model by change(tensor)."""
    path = os.path.join(directory, "model.safetensors")
    tensors = Tensors([path])
    stored = {t: (tensors.raw(t), tensors.dtype(t), tensors.shape(t)) for t in tensors}
    _, dtype, shape = stored[name]
    stored[name] = (encode(change(tensors.get(name)), dtype), dtype, shape)
    write(path, stored)


def edit(directory, name, change):
    """Applies change to a JSON file of a fused model."""
    path = os.path.join(directory, name)
    with open(path) as f:
        value = json.load(f)
    change(value)
    with open(path, "w") as f:
        json.dump(value, f)


def reversed_rows(array):
    return array[::-1].copy()


def certificate(change):
    def apply(manifest):
        for entry in manifest["modules"][MODULE]:
            change(entry)

    return lambda d: edit(d, "smelt.json", apply)


DAMAGE = {
    "us scaled by 1 %": lambda d: rewrite(d, MODULE + ".smile.us", lambda a: a * 1.01),
    "vt in the wrong order": lambda d: rewrite(d, MODULE + ".smile.vt", reversed_rows),
    "one factor off in one place": lambda d: rewrite(d, MODULE + ".smile.us", lambda a: a + (a == a.max()) * 0.02),
    "bias of the wrong expert": lambda d: rewrite(d, "model.layers.0.self_attn.q_proj.smile.bias", reversed_rows),
    "base weight changed": lambda d: rewrite(d, MODULE + ".weight", lambda a: a + 1e-4),
    "router rank lowered": lambda d: edit(
        d, "config.json", lambda c: c["smile"]["modules"][MODULE].update(rank_of_router=1)
    ),
    "captured above the optimum": certificate(lambda c: c.update(captured=c["energy"] * 1.1)),
    "bound below the optimum": certificate(lambda c: c.update(bound=c["captured"] * 0.9)),
    "wrong energy": certificate(lambda c: c.update(energy=c["energy"] * 1.01)),
}


def main():
    missed = 0
    with tempfile.TemporaryDirectory() as root:
        sources = os.path.join(root, "sources")
        golden.write_models(sources)
        base = Base(os.path.join(sources, "base"))
        experts = experts_of([os.path.join(sources, "experts", n) for n in golden.EXPERTS], base)
        whole = os.path.join(root, "whole")
        fuse(base, experts, whole, lambda m, e: 4, 3, 2)
        for name, damage in [("nothing", None), *DAMAGE.items()]:
            directory = os.path.join(root, "damaged")
            shutil.copytree(whole, directory)
            if damage:
                damage(directory)
            report = io.StringIO()
            with contextlib.redirect_stdout(report):
                try:
                    failed = check.run(directory, base, experts, 64, False) != 0
                except SystemExit:
                    failed = True
            right = failed == bool(damage)
            missed += not right
            print(f"{'ok  ' if right else 'MISS'} {name}")
            if not right:
                print(report.getvalue())
            shutil.rmtree(directory)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
