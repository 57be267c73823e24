"""What smelt analyze measures, by numpy in float64, and by FusionBench's own code.

    python tools/golden/analysis.py write engine/testdata/analysis.json
    python tools/golden/analysis.py check DIR BASE EXPERT...

write makes the fixture of the pool in tools/parity/testdata/fuse. check holds
DIR/analysis.json, which smelt analyze made of the same BASE and EXPERTs (folders of
checkpoints or LoRA adapters, named by their folders), against the same figures and
prints the largest differences; it fails where one is beyond its tolerance.

Everything is worked out from the definitions: full singular value decompositions
of base and deltas, dense deltas for adapters too, nothing shared with smelt.
FusionBench's values are those of ProjectedEnergyAnalysis.analyze_weight (float32).
"""

import json
import pathlib
import platform
import sys

import numpy as np
import safetensors
import torch
from fusion_bench.method.smile_upscaling.projected_energy import ProjectedEnergyAnalysis
from safetensors.torch import load_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
POOL = ROOT / "tools/parity/testdata/fuse"
RANK, ROUTER_RANK, SCALING = 4, 3, 0.3
EPS32 = 2.0**-23


def tensors(folder):
    out = {}
    for f in sorted(folder.glob("*.safetensors")):
        out.update(load_file(f))
    return {k: v.double().numpy() for k, v in out.items()}


def adapter(folder):
    """Module to dense delta of a plain LoRA adapter."""
    config = json.loads((folder / "adapter_config.json").read_text())
    if config.get("rank_pattern") or config.get("alpha_pattern") or config.get("use_dora") or config.get("use_rslora"):
        patterns = config.get("rank_pattern"), config.get("alpha_pattern")
        assert patterns[0] == patterns[1] and config["r"] == config["lora_alpha"], "only scale 1 where ranks differ"
    t = tensors(folder)
    scale = config["lora_alpha"] / config["r"]
    deltas = {}
    for k in t:
        if k.endswith(".lora_A.weight"):
            module = k.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            deltas[module] = scale * t[k.replace("lora_A", "lora_B")] @ t[k]
    return deltas


def singular(a):
    return np.linalg.svd(a, full_matrices=True)


def numerical_rank(s, shape, eps):
    return int((s > max(shape) * eps * s[0]).sum()) if s[0] > 0 else 0


def zones(w, d):
    u, s, vt = singular(w)
    half = int((s.cumsum() < s.sum() / 2).sum()) + 1
    rank = numerical_rank(s, w.shape, 2.0**-52)
    core = (u.T @ d @ vt.T) ** 2 / (d**2).sum()
    cut = [0, half, rank, None]
    return half, [[float(core[cut[y]:cut[y + 1], cut[z]:cut[z + 1]].sum()) for z in range(3)] for y in range(3)]


def effective_rank(s):
    p = s / s.sum()
    return float(np.exp(-(p * np.log(p)).sum()))


class Peer(ProjectedEnergyAnalysis):
    device = torch.device("cpu")


def peer(w, d):
    w = torch.from_numpy(w)
    r = Peer.analyze_weight(Peer.__new__(Peer), w, w + torch.from_numpy(d))
    return {"I": r["projected_energy_I"], "II": r["projected_energy_II"], "II+III": r["projected_energy_II_III"]}


def measure(base, experts, modules, rank, router, with_peer=True):
    layers = {}
    n = len(experts)
    for module in modules:
        w = base[module + ".weight"]
        deltas = [e.get(module) for e in experts]
        deltas = [None if d is None or not d.any() else d for d in deltas]
        layer = {"deltas": [], "half_rank": 0}
        frames = []
        for d in deltas:
            if d is None:
                layer["deltas"].append(None)
                frames.append(None)
                continue
            u, s, vt = singular(d)
            k = numerical_rank(s, d.shape, EPS32)
            frames.append((u, s, vt, k))
            s = s[:k]
            energy = float((d**2).sum())
            layer["half_rank"], blocks = zones(w, d)
            kept = (s**2).cumsum() / energy
            x = {
                "energy": energy, "relative": float(np.sqrt(energy / (w**2).sum())), "blocks": blocks, "sigma": s.tolist(),
                "effective_rank": effective_rank(s), "stable_rank": energy / float(s[0]) ** 2,
                **{f"rank_{p}": int((kept < p / 100).sum()) + 1 for p in (90, 95, 99)},
                "beyond": float((s[rank:] ** 2).sum()) / energy,
            }
            if with_peer:
                x["fusion_bench"] = peer(w, d)
            layer["deltas"].append(x)
        touched = [i for i in range(n) if deltas[i] is not None]
        layer["router_rank"] = g = min([router] + [frames[i][3] for i in touched]) if touched else 0
        layer["pairs"] = []
        for i in range(n):
            for j in range(i + 1, n):
                if deltas[i] is None or deltas[j] is None:
                    layer["pairs"].append(None)
                    continue
                a, b = deltas[i], deltas[j]
                left = np.linalg.svd(frames[i][0][:, :g].T @ frames[j][0][:, :g], compute_uv=False)
                right = np.linalg.svd(frames[i][2][:g] @ frames[j][2][:g].T, compute_uv=False)
                both = (a != 0) & (b != 0)
                layer["pairs"].append({
                    "cosine": float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b)),
                    "sign_conflict": float((np.sign(a) != np.sign(b))[both].mean()),
                    "left_overlap": float((left**2).mean()), "right_overlap": float((right**2).mean()),
                    "left_cosine": float(left[0]), "right_cosine": float(right[0]),
                })
        total = sum(deltas[i] for i in touched) if touched else 0
        layer["losses"] = [
            None if d is None else {
                "average": float(((total / n - d) ** 2).sum() / (d**2).sum()),
                "task_arithmetic": float(((SCALING * total - d) ** 2).sum() / (d**2).sum()),
                "smile": layer["deltas"][i]["beyond"],
            }
            for i, d in enumerate(deltas)
        ]
        layers[module] = layer
    return layers


def inputs(base_dir, expert_dirs):
    base = tensors(base_dir)
    experts = []
    for folder in expert_dirs:
        if (folder / "adapter_config.json").exists():
            experts.append(adapter(folder))
            continue
        t = tensors(folder)
        # The difference is taken in float32, as the task defines a delta.
        experts.append({
            k.removesuffix(".weight"): (t[k].astype(np.float32) - base[k].astype(np.float32)).astype(np.float64)
            for k in t if k.endswith(".weight") and t[k].ndim == 2 and k in base and t[k].shape == base[k].shape
        })
    return base, experts


def write(out):
    names = sorted(p.name for p in (POOL / "experts").iterdir())
    base, experts = inputs(POOL / "base", [POOL / "experts" / n for n in names])
    modules = [k.removesuffix(".weight") for k in base if k.endswith("_proj.weight")]
    fixture = {
        "command": "python tools/golden/analysis.py write engine/testdata/analysis.json",
        "versions": {"python": platform.python_version(), "numpy": np.__version__, "torch": torch.__version__,
                     "safetensors": safetensors.__version__, "fusion-bench": __import__("importlib.metadata").metadata.version("fusion-bench")},
        "seed": "none: the pool is committed", "experts": names, "rank": RANK, "router_rank": ROUTER_RANK, "scaling_factor": SCALING,
        "layers": measure(base, experts, modules, RANK, ROUTER_RANK),
    }
    pathlib.Path(out).write_text(json.dumps(fixture, indent=None) + "\n")


def check(folder, base_dir, expert_dirs):
    report = json.loads((pathlib.Path(folder) / "analysis.json").read_text())
    by_name = {p.name: p for p in map(pathlib.Path, expert_dirs)}
    names = [e["name"] for e in report["experts"]]
    base, experts = inputs(pathlib.Path(base_dir), [by_name[n] for n in names])
    worst = {}

    def near(what, got, want, tolerance):
        gap = abs(got - want)
        if what not in worst or not gap <= worst[what][0]:
            worst[what] = (gap, tolerance)

    layers = measure(base, experts, [l["name"] for l in report["layers"]], report["settings"]["rank"], report["settings"]["router_rank"])
    for l in report["layers"]:
        want = layers[l["name"]]
        for got, d in zip(l["deltas"], want["deltas"], strict=True):
            assert (got is None) == (d is None), l["name"]
            if d is None:
                continue
            near("energy (relative)", got["energy"] / d["energy"], 1, 1e-5)
            for y in range(3):
                for z in range(3):
                    near("zone shares, numpy", got["zones"]["blocks"][y][z], d["blocks"][y][z], 2e-5)
            for z, v in d["fusion_bench"].items():
                near("zone shares, FusionBench", got["zones"][z], v, 1e-4)
            near("effective rank (relative)", got["effective_rank"] / d["effective_rank"], 1, 1e-3)
            near("stable rank (relative)", got["stable_rank"] / d["stable_rank"], 1, 1e-4)
            for p in ("rank_90", "rank_95", "rank_99"):
                near(p, got[p], d[p], 1 if not got["complete"] else 0)
            for r, s in zip(l["ranks"], got["sigma"]):
                if r <= len(d["sigma"]):
                    near("singular values, of the first", s / d["sigma"][0], d["sigma"][r - 1] / d["sigma"][0], 1e-5)
        for got, p in zip(l["layer_pairs"], want["pairs"], strict=True):
            assert (got is None) == (p is None), l["name"]
            if p is not None:
                near("cosine", got["cosine"], p["cosine"], 1e-5)
                near("sign conflict", got["sign_conflict"] or 0, p["sign_conflict"], 2e-4)
                near("overlap", got["left_overlap"], p["left_overlap"], 2e-2)
                near("overlap", got["right_overlap"], p["right_overlap"], 2e-2)
        for got, x in zip(l["losses"], want["losses"], strict=True):
            for k, v in (x or {}).items():
                near("loss of " + k, got[k], v, 1e-4)
    failed = False
    for what, (gap, tolerance) in worst.items():
        bad = not gap <= tolerance
        failed |= bad
        print(f"{what:32} largest difference {gap:.2e}, allowed {tolerance:.0e}{'  FAILED' if bad else ''}")
    sys.exit(failed)


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(sys.argv[2])
    else:
        check(sys.argv[2], sys.argv[3], sys.argv[4:])
