"""Truncated SVD beside torch, and the full one beside LAPACK, in one run on the
same cores.

    python bench/linalg/run.py 4096x4096 --work DIR

A step is the shape of synthetic matrices, or `pool`: deltas of a pool of real
fine-tunes, the one of ../shared/pools where it is there, else the bundled one; or
`full`: full decompositions in float64.

Synthetic singular values are i^-1/2, or flat (falling from 1 to 0.9). Peers:
torch.linalg.svd (full_matrices=False), and torch.svd_lowrank, the fastest of q = r
or 2 r and niter = 2, 4, 8 or 16 that captures as much energy in its leading r
triplets as we do, up to 1e-5 of the optimum ("equal accuracy"); where the last of
these does not, what it reaches. All start on warm data; medians of three, of matrices beyond
2048 x 2048 one run of each peer; their full SVD is run once for both spectra.
"""

import json
import os
import pathlib
import statistics
import sys
import time

import numpy as np
import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from measure import CORES, ROOT, arguments, decomposed, header, percent, program, row, target, weights  # noqa: E402

SHAPES = ["768x768", "3072x768", "2048x2048", "4096x4096", "14336x4096"]
LARGE = 2048  # beyond, of the shorter side, peers run once
RANKS, ROUTER = (32, 128), 16
SHARED, BUNDLED = ROOT.parent / "shared/pools/vision", ROOT / "examples/pools/vision"


def timed(f, reps):
    wall = []
    for _ in range(reps):
        start = time.perf_counter()
        out = f()
        wall.append(time.perf_counter() - start)
    return statistics.median(wall), out


def spectrum(name, k):
    i = torch.arange(1, k + 1, dtype=torch.float64)
    return i**-0.5 if name == "i^-1/2" else 1 - 0.1 * (i - 1) / k


def synthetic(work, m, n, name):
    """A matrix of this spectrum between random reflections, and its singular values."""
    s = spectrum(name, min(m, n))
    path = work / "pool" / f"{m}x{n} {name.replace('/', ':')}.npy"
    if not path.exists():
        g = torch.Generator().manual_seed(11)
        a = torch.zeros(m, n, dtype=torch.float64)
        a[range(len(s)), range(len(s))] = s
        for _ in range(8):
            v, w = (torch.nn.functional.normalize(torch.randn(k, generator=g, dtype=torch.float64), dim=0) for k in (m, n))
            a -= 2 * torch.outer(v, v @ a)
            a -= 2 * torch.outer(a @ w, w)
        path.parent.mkdir(exist_ok=True)
        np.save(path, a.float().numpy())
    return torch.from_numpy(np.load(path)), s


def real():
    """Deltas of one layer in the middle of two real fine-tunes."""
    pool = SHARED if SHARED.exists() else BUNDLED
    base, shapes = weights(pool / "base")
    middle = sum(1 for n in shapes if "vision" in n and n.endswith(".mlp.fc1.weight")) // 2
    for folder in sorted((pool / "experts").iterdir())[:2]:
        expert, own = weights(folder)
        for kind in ("self_attn.q_proj", "mlp.fc1", "mlp.fc2"):
            (name,) = (n for n in own if f"vision_model.encoder.layers.{middle}.{kind}.weight" in n)
            m, n = own[name]
            yield f"delta of {folder.name}, {kind} {m}×{n}", torch.from_numpy(expert(name) - base(name))


def angle(v, w):
    """The largest angle between the row spaces of two orthonormal sets."""
    rest = v - (v @ w.T) @ w
    return float(torch.asin(torch.linalg.matrix_norm(rest, 2).clamp(max=1)))


def lowrank(a, rank, q, niter, best, reps):
    """The share of the best energy that svd_lowrank captures, and its time."""
    wall, (_, s, _) = timed(lambda: torch.svd_lowrank(a, q=q, niter=niter), reps)
    return float((s[:rank].double() ** 2).sum()) / best, wall


def compare(work, name, a, s, rank, svd, reps):
    """One row: ours beside svd_lowrank and the full SVD (its time and Vt); s are the true singular values."""
    m, n = a.shape
    large = min(m, n) > LARGE
    path = work / "vt.f32"
    ours = decomposed(work, a.numpy(), "-rank", rank, "-router", ROUTER, "-reps", reps, "-workers", CORES, "-vt", path)
    best, certificate = float((s[:rank] ** 2).sum()), ours["certificate"]
    r = {"wall": statistics.median(ours["wall"]), "captured": ours["captured"] / best, "certified": ours["captured"] / certificate["Bound"], "met": certificate["Met"]}
    r["holds"] = certificate["Bound"] >= best * (1 - 1e-6)
    r["floor"] = max(ours["operations"] / ours["fma"], 4 * m * n * max(1, certificate["Iterations"]) / ours["read"])
    r["full"] = svd[0] / r["wall"]
    equal = lambda t: t[0] >= r["captured"] - 1e-5
    trial = lambda q, niter: lowrank(a, rank, q, niter, best, 1 if large else reps)
    trials = [trial(min(2 * rank, m, n), 16)]  # the most that is tried
    if equal(trials[0]):
        for q in (rank, min(2 * rank, m, n)):
            for niter in (2, 4, 8, 16):
                trials.append(trial(q, niter))
                if equal(trials[-1]):
                    break
        wall = min(t[1] for t in trials if equal(t))
        r["lowrank"] = wall / r["wall"]
        theirs = f"{1e3 * wall:.1f} | {r['lowrank']:.1f} ×"
    else:
        theirs = f"reaches only {trials[0][0]:.4f} | "
    g = min(ROUTER, rank)
    own = torch.from_numpy(np.fromfile(path, "<f4").reshape(rank, n))[:g].double()
    gap = "no gap"
    if float(s[g - 1] / s[g]) > 1.01:
        gap = f"{angle(own, svd[1][:g].double()):.1e} ≤ {certificate['RouterAngle']:.1e}"
    print(row(name, rank, f"{1e3 * r['floor']:.{0 if r['floor'] >= 0.01 else 2}f}", f"{1e3 * r['wall']:.1f}", percent(r["floor"] / r["wall"]), f"{1e3 * svd[0]:.0f}", f"{r['full']:.1f} ×",
              theirs, f"{r['captured']:.5f}", f"{r['certified']:.5f}" + ("" if r["met"] else ", not met"), gap), flush=True)
    return r


def truncated(work, step, quick):
    print(header("matrix", "rank", "floor, ms", "smelt, ms", "of floor", "full SVD by torch, ms", "smelt is faster", "svd_lowrank at equal accuracy, ms",
                 "smelt is faster", "captured of optimum", "certified", "router's angle ≤ bound"), flush=True)
    reps, rows = 1 if quick else 3, {}
    if step == "pool":
        for name, a in real():
            svd = timed(lambda: torch.linalg.svd(a, full_matrices=False), reps)
            exact = torch.linalg.svd(a.double(), full_matrices=False)
            rows[name, 32] = compare(work, name, a, exact.S, 32, (svd[0], exact.Vh), reps)
    else:
        m, n = map(int, step.split("x"))
        for name in ("i^-1/2", "flat"):
            a, s = synthetic(work, m, n, name)
            if name == "i^-1/2" or min(m, n) <= LARGE:
                svd = timed(lambda: torch.linalg.svd(a, full_matrices=False), 1 if min(m, n) > LARGE else reps)
            for rank in RANKS:
                rows[name, rank] = compare(work, f"{m}×{n} {name}", a, s, rank, (svd[0], svd[1].Vh), reps)
    what = "real deltas" if step == "pool" else f"{m}×{n}"
    decays = what if step == "pool" else what + " i^-1/2"
    decaying = [r for (name, _), r in rows.items() if name != "flat"]
    least = min(r["captured"] for r in decaying)
    print(target(f"{decays}: ≥ 99.9 % of the optimum captured", f"{100 * least:.3f} %", least >= 0.999))
    print(target(f"{decays}: certified to the tolerance", f"{sum(r['met'] for r in decaying)} of {len(decaying)}", all(r["met"] for r in decaying)))
    print(target(f"{what}: the certificate's bound holds everywhere, flat spectra included", f"{sum(r['holds'] for r in rows.values())} of {len(rows)}", all(r["holds"] for r in rows.values())))
    slowest = min(r.get("lowrank", float("inf")) for r in decaying)
    print(target(f"{decays}: faster than svd_lowrank at equal accuracy", f"{slowest:.1f} ×", slowest > 1))
    if step == "2048x2048":
        full = rows["i^-1/2", 32]["full"]
        print(target(f"{decays}, rank 32: ≥ 50 × the full SVD's speed", f"{full:.0f} ×", full >= 50))


def full(work, quick):
    """Reduction to bidiagonal form and the way back of both sides' vectors take 8/3 n³ and
    4 n³ operations, in float64 at half of float32's rate."""
    print(header("full SVD in float64", "floor, s", "smelt, s", "of floor", "LAPACK gesdd, s", "smelt / LAPACK"))
    targets = []
    for n in (768,) if quick else (768, 2048):
        a = torch.randn(n, n, generator=torch.Generator().manual_seed(11))
        ours = decomposed(work, a.numpy(), "-exact", "-reps", 3, "-workers", CORES)
        b = a.double().numpy()
        np.linalg.svd(b[:64, :64])
        lapack, _ = timed(lambda: np.linalg.svd(b, full_matrices=False), 3)
        wall, floor = statistics.median(ours["wall"]), (8 / 3 + 4) * n**3 / (ours["fma"] / 2)
        print(row(f"{n}×{n}", f"{floor:.3f}", f"{wall:.3f}", percent(floor / wall), f"{lapack:.3f}", f"{wall / lapack:.2f}"))
        targets.append(target(f"{n}×{n} in float64: within 3 × LAPACK's time", f"{wall / lapack:.2f} ×", wall <= 3 * lapack))
    print("\n".join(targets))


def main():
    o = arguments(__doc__, [*SHAPES, "pool", "full"])
    torch.set_num_threads(CORES)
    if o.prepare:
        program(o.work, "./bench/linalg")
        if "x" in o.step:
            m, n = map(int, o.step.split("x"))
            for name in ("i^-1/2", "flat"):
                synthetic(o.work, m, n, name)
    elif o.step == "full":
        full(o.work, o.quick)
    else:
        truncated(o.work, o.step, o.quick)


if __name__ == "__main__":
    main()
