"""Truncated SVD beside torch, in one run, on the same cores.

    python bench/linalg/run.py --out DIR [--pool POOL] [--large] [--threads 2]

POOL is a directory with base/ and experts/*/ (safetensors): the deltas of its
linear layers are measured besides the synthetic spectra. --large adds
4096 x 4096 and 14336 x 4096, whose full SVD is run once for each shape, on the
first of its spectra. Writes
DIR/linalg.json and DIR/linalg.md.

Peers: torch.linalg.svd (full_matrices=False), and torch.svd_lowrank, the
fastest of q = r or 2 r and niter = 2, 4, 8 or 16 that captures as much energy in
its leading r triplets as we do, up to 1e-5 of the optimum ("equal accuracy"), or
else the one that captures most. Both sides start on warm data; medians of wall time, and CPU time of
the fastest repetition, which a loaded machine disturbs less.
"""

import argparse
import glob
import json
import os
import platform
import resource
import statistics
import subprocess
import tempfile
import time

os.environ.setdefault("OPENBLAS_CORETYPE", "SkylakeX")

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SEED = 11


def cpu():
    u = resource.getrusage(resource.RUSAGE_SELF)
    return u.ru_utime + u.ru_stime


def timed(f, reps):
    wall, used, out = [], [], None
    for _ in range(reps):
        c, w = cpu(), time.perf_counter()
        out = f()
        wall.append(time.perf_counter() - w)
        used.append(cpu() - c)
    return statistics.median(wall), min(used), out


def synthetic(torch, m, n, s):
    """A matrix of singular values s between random reflections."""
    g = torch.Generator().manual_seed(SEED)
    a = torch.zeros(m, n, dtype=torch.float64)
    k = min(m, n)
    a[range(k), range(k)] = s
    for _ in range(8):
        v = torch.randn(m, generator=g, dtype=torch.float64)
        w = torch.randn(n, generator=g, dtype=torch.float64)
        v, w = v / v.norm(), w / w.norm()
        a -= 2 * torch.outer(v, v @ a)
        a -= 2 * torch.outer(a @ w, w)
    return a.float().contiguous()


def cases(torch, args):
    shapes = [(768, 768), (3072, 768), (2048, 2048)]
    if args.large:
        shapes += [(4096, 4096), (14336, 4096)]
    for m, n in shapes:
        if not any(only.startswith(f"{m}x{n}") or f"{m}x{n}".startswith(only) for only in args.only.split(",")):
            continue
        k = min(m, n)
        i = torch.arange(1, k + 1, dtype=torch.float64)
        for name, s in (("i^-1/2", i**-0.5), ("flat", 1 - 0.1 * (i - 1) / k)):
            yield f"{m}x{n} {name}", synthetic(torch, m, n, s), s
    if args.pool:
        from safetensors import safe_open

        def tensors(d):
            (path,) = glob.glob(os.path.join(d, "*.safetensors"))
            return safe_open(path, "pt")

        base = tensors(os.path.join(args.pool, "base"))
        names = set(base.keys())
        for d in sorted(glob.glob(os.path.join(args.pool, "experts", "*")))[:2]:
            expert = tensors(d)
            for key in sorted(expert.keys()):
                if ".5." not in key or key not in names or not key.endswith("weight"):
                    continue
                a = expert.get_tensor(key).float() - base.get_tensor(key).float()
                if a.dim() != 2 or min(a.shape) < 64:
                    continue
                short = key.split("layers.")[-1].removesuffix(".weight")
                yield f"{os.path.basename(d)} {short} {a.shape[0]}x{a.shape[1]}", a.contiguous(), None


def angle(torch, va, vb):
    """Largest principal angle between the row spaces, by its sine."""
    rest = va - (va @ vb.T) @ vb
    return float(torch.asin(torch.clamp(torch.linalg.matrix_norm(rest, 2), max=1)))


full = {}  # shape to wall and CPU time of a full SVD


def measure(torch, binary, tmp, name, a, known, rank, router, args):
    m, n = a.shape
    path, vt_path = os.path.join(tmp, "a.f32"), os.path.join(tmp, "vt.f32")
    a.numpy().tofile(path)
    large = m * n > 3000 * 3000
    command = [binary, "-m", str(m), "-n", str(n), "-rank", str(rank), "-router", str(router), "-in", path,
               "-vt", vt_path, "-reps", str(args.reps), "-workers", str(args.threads)]
    ours = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    s64, vt = known, None
    if large and (m, n) in full:
        wall, used = full[m, n]
    else:
        wall, used, (_, _, vt) = full[m, n] = timed(lambda: torch.linalg.svd(a, full_matrices=False), 1 if large else args.reps)
        full[m, n] = wall, used
    if known is None:
        _, s64, vt = torch.linalg.svd(a.double(), full_matrices=False)
    r = min(rank, m, n)
    best = float((s64[:r] ** 2).sum())
    row = {
        "name": name, "m": m, "n": n, "rank": r,
        "wall": statistics.median(ours["wall"]), "cpu": min(ours["cpu"]),
        "captured": ours["captured"] / best, "certified": ours["captured"] / ours["certificate"]["Bound"],
        "met": ours["certificate"]["Met"], "basis": ours["certificate"]["Basis"],
        "failure": ours["certificate"]["FailureProbability"],
        "svd_wall": wall, "svd_cpu": used,
    }
    g = min(router, r)
    if g < len(s64) and vt is not None:
        mine = torch.from_numpy(__import__("numpy").fromfile(vt_path, dtype="<f4").reshape(r, n))[:g].double()
        row["gap"] = float(s64[g - 1] / s64[g])
        row["angle"] = angle(torch, mine, vt[:g].double())
        row["angle_bound"] = ours["certificate"]["RouterAngle"]
    trials = []
    for q in (r, min(2 * r, m, n)):
        for niter in (2, 4, 8, 16):
            wall, used, (_, ls, _) = timed(lambda: torch.svd_lowrank(a, q=q, niter=niter), 1 if large else args.reps)
            share = float((ls[:r].double() ** 2).sum()) / best
            trials.append({"q": q, "niter": niter, "wall": wall, "cpu": used, "captured": share})
            if share >= row["captured"] - 1e-5:
                break
    equal = [t for t in trials if t["captured"] >= row["captured"] - 1e-5]
    row["lowrank"] = min(equal, key=lambda t: t["wall"]) if equal else max(trials, key=lambda t: t["captured"])
    row["lowrank_default"] = trials[0]
    return row


def exact(torch, np, binary, tmp, n, args):
    """The full decomposition in float64 beside LAPACK's gesdd."""
    a = torch.randn(n, n, generator=torch.Generator().manual_seed(SEED))
    path = os.path.join(tmp, "a.f32")
    a.numpy().tofile(path)
    command = [binary, "-m", str(n), "-n", str(n), "-in", path, "-exact", "-reps", "3", "-workers", str(args.threads)]
    ours = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    b = a.double().numpy()
    np.linalg.svd(b[:64, :64])
    wall, used, _ = timed(lambda: np.linalg.svd(b, full_matrices=False), 3)
    return {"n": n, "wall": statistics.median(ours["wall"]), "cpu": min(ours["cpu"]), "lapack_wall": wall, "lapack_cpu": used}


def markdown(report):
    out = [
        f"Machine: {report['machine']}, {report['threads']} threads; {report['versions']}; load at start {report['load']}.",
        f"Command: `{report['command']}`.", "",
        "| matrix | rank | ours, ms | full SVD, ms (×; CPU time ×) | svd_lowrank at equal accuracy, ms (×; CPU time ×) "
        "| captured of optimum | certified | router: gap, angle ≤ bound |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in report["truncated"]:
        gap = f"{r['gap']:.3f}, {r['angle']:.1e} ≤ {r['angle_bound']:.1e}" if "gap" in r else "–"
        t = r["lowrank"]
        low = f"{t['wall'] * 1e3:.1f} (q={t['q']}, niter={t['niter']}; {t['wall'] / r['wall']:.1f}; CPU {t['cpu'] / r['cpu']:.1f})"
        if t["captured"] < r["captured"] - 1e-5:
            low += f", reaches only {t['captured']:.5f}"
        out.append(
            f"| {r['name']} | {r['rank']} | {r['wall'] * 1e3:.1f} | {r['svd_wall'] * 1e3:.0f} ({r['svd_wall'] / r['wall']:.0f}; CPU {r['svd_cpu'] / r['cpu']:.0f}) "
            f"| {low} | {r['captured']:.5f} | {r['certified']:.5f}{'' if r['met'] else ' (not met)'} | {gap} |")
    out += ["", "| full SVD, float64 | ours, s (CPU) | LAPACK gesdd, s (CPU) | ratio (CPU) |", "|---|---|---|---|"]
    for r in report["exact"]:
        out.append(f"| {r['n']}x{r['n']} | {r['wall']:.3f} ({r['cpu']:.3f}) | {r['lapack_wall']:.3f} ({r['lapack_cpu']:.3f}) "
                   f"| {r['wall'] / r['lapack_wall']:.2f} ({r['cpu'] / r['lapack_cpu']:.2f}) |")
    return "\n".join(out) + "\n"


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--out", required=True)
    p.add_argument("--pool")
    p.add_argument("--large", action="store_true")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--reps", type=int, default=5)
    p.add_argument("--ranks", default="32,128")
    p.add_argument("--exact", default="768,2048")
    p.add_argument("--only", default="", help="measure only matrices whose name contains one of these, separated by commas")
    args = p.parse_args()
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = str(args.threads)
    os.environ["GOMAXPROCS"] = str(args.threads)
    import numpy as np
    import torch

    torch.set_num_threads(args.threads)
    with open("/proc/cpuinfo") as f:
        model = next(line.split(":")[1].strip() for line in f if line.startswith("model name"))
    report = {
        "machine": model, "threads": args.threads, "load": os.getloadavg()[0],
        "versions": f"torch {torch.__version__}, numpy {np.__version__}, Python {platform.python_version()}",
        "command": "python bench/linalg/run.py" + "".join(
            f" --{k} {v}" if v is not True else f" --{k}" for k, v in vars(args).items() if v and k not in ("out", "pool")
        ) + (" --pool POOL" if args.pool else "") + " --out DIR",
        "truncated": [], "exact": [],
    }
    os.makedirs(args.out, exist_ok=True)

    def save():
        with open(os.path.join(args.out, "linalg.json"), "w") as f:
            json.dump(report, f, indent=1)
        with open(os.path.join(args.out, "linalg.md"), "w") as f:
            f.write(markdown(report))

    with tempfile.TemporaryDirectory() as tmp:
        binary = os.path.join(tmp, "linalg")
        subprocess.run(["go", "build", "-o", binary, "./bench/linalg"], check=True, cwd=ROOT)
        for n in filter(None, args.exact.split(",")):
            report["exact"].append(exact(torch, np, binary, tmp, int(n), args))
            save()
        for name, a, known in cases(torch, args):
            if not any(only in name for only in args.only.split(",")):
                continue
            for rank in map(int, args.ranks.split(",")):
                report["truncated"].append(measure(torch, binary, tmp, name, a, known, rank, 16, args))
                save()
    print(markdown(report))


if __name__ == "__main__":
    main()
