"""Times smelt analyze, beside the decompositions alone in numpy.

    python bench/analyze/run.py layers --work DIR

layers   two layers of a Qwen2-1.5B and two experts in bf16, beside LAPACK's thin
         SVD in float64 (numpy, gesdd) of every base weight and delta, which a script
         for the same figures would begin with: those of one layer's base weights are
         timed, and multiplied by the number of layers and of models.
whole    all 28 layers, alone.

The floor is the arithmetic of the spectra: for each base weight and delta, one
triangle of its Gram matrix and the reduction of that to tridiagonal form, in
float64, at half the rate of float32's fused multiply-adds. Memory is the peak of
RssAnon, without mapped files.
"""

import pathlib
import sys
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from measure import arguments, floors, fresh, header, percent, pool, program, row, seconds, size, watched, weights  # noqa: E402


def matrices(shapes):
    """The linear layers' weights of all layers."""
    return {n: s for n, s in shapes.items() if ".layers." in n and n.endswith("_proj.weight")}


def spectra(shapes, times):
    """Operations in float64 for the spectra of so many matrices of each shape."""
    sides = [(min(s), max(s)) for s in shapes.values()]
    return times * sum(p * p * q + 4 / 3 * p**3 for p, q in sides)


def lapack(base, names):
    """Seconds of numpy for the SVD of these weights."""
    weight, _ = weights(base)
    total = 0.0
    for name in names:
        w = weight(name).astype(np.float64)
        start = time.perf_counter()
        np.linalg.svd(w, full_matrices=False)
        total += time.perf_counter() - start
    return total


def main():
    o = arguments(__doc__, ["layers", "whole"])
    layers = 1 if o.quick else 2 if o.step == "layers" else 28
    smelt, _ = program(o.work, "./cmd/smelt"), program(o.work, "./bench/linalg")
    base, experts = pool(o.work, "qwen2-1.5b", 2, "BF16", layers)
    if o.prepare:
        return
    wall, anon, _, _ = watched([smelt, "analyze", base, *experts, "-o", fresh(o.work, "analysis")])
    shapes = matrices(weights(base)[1])
    floor = spectra(shapes, 1 + len(experts)) / (floors(o.work)["fma"] / 2)
    cells = [f"{layers} layers of Qwen2-1.5B and two experts, bf16", seconds(floor), seconds(wall), percent(floor / wall), size(anon)]
    titles = ["analysis", "floor: spectra", "smelt", "of floor", "memory"]
    if o.step == "layers":
        one, times = lapack(base, [n for n in shapes if ".layers.0." in n]), layers * (1 + len(experts))
        cells += [f"{seconds(one)} × {times}", f"{one * times / wall:.1f} ×"]
        titles += ["LAPACK's SVD in numpy", "smelt is faster"]
    print(header(*titles))
    print(row(*cells))


if __name__ == "__main__":
    main()
