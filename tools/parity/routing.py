"""What can be told of routing without data? Assumptions on the inputs, held against measured routing.

    python tools/parity/routing.py ANALYSIS BASE EXPERTS

ANALYSIS is the folder that `smelt analyze BASE EXPERTS/* --tasks FILE` made, EXPERTS holds the
fine-tunes or LoRA adapters by name. A token of expert i's task is taken as √τ·t + √(1−τ)·r: t Gaussian along what
the expert changed, r along one of

    even      every direction alike
    sigma     the base's right singular vectors, by σ; sigma2: by σ²
    common    the mean of all experts' second moments; sum: that of the summed changes
    noise     the inputs of the module in the base itself, fed with noise (images) or random tokens

and each is given to the router. For every τ the mean share that goes right stands beside the measured one, with
rank correlations over modules and over pairs of experts (whose tokens go to whom).
"""

import json
import pathlib
import sys
import warnings

import numpy as np
import torch
import transformers
from safetensors.torch import load_file
from scipy.stats import spearmanr

TOKENS = 512


def tensors(folder):
    out = {}
    for f in sorted(pathlib.Path(folder).glob("*.safetensors")):
        out.update(load_file(f))
    return {k: v.float().numpy() for k, v in out.items()}


def deltas(folder, base, modules):
    t = tensors(folder)
    config = pathlib.Path(folder) / "adapter_config.json"
    if config.exists():
        c = json.loads(config.read_text())
        name = "base_model.model.{}.lora_{}.weight".format
        return [c["lora_alpha"] / c["r"] * t[name(m, "B")] @ t[name(m, "A")] for m in modules]
    own = {k: k if k in t else k.removeprefix("vision_model.") for k in (m + ".weight" for m in modules)}
    return [t[own[m + ".weight"]] - base[m + ".weight"] for m in modules]


def noise(folder, modules):
    """Inputs of modules of the base, TOKENS rows each."""
    kind = json.loads((pathlib.Path(folder) / "config.json").read_text())["model_type"]
    torch.manual_seed(0)
    if kind == "clip":
        model = transformers.CLIPModel.from_pretrained(folder, dtype=torch.float32)
        size = model.config.vision_config.image_size
        run = lambda: model.vision_model(pixel_values=torch.randn(16, 3, size, size))
    else:
        auto = transformers.AutoModelForSeq2SeqLM if kind == "t5" else transformers.AutoModelForCausalLM
        model = auto.from_pretrained(folder, dtype=torch.float32)
        ids = torch.randint(3, model.config.vocab_size, (16, 32))
        run = lambda: (model.encoder if kind == "t5" else model)(input_ids=ids)
    found, named = {}, dict(model.eval().named_modules())
    for m in modules:
        named[m].register_forward_hook(lambda _, x, y, m=m: found.__setitem__(m, x[0].reshape(-1, x[0].shape[-1])))
    with torch.no_grad():
        run()
    rows = {m: x[torch.randperm(len(x))[:TOKENS]].numpy() for m, x in found.items()}
    return [rows[m] / np.linalg.norm(rows[m], axis=1, keepdims=True) for m in modules]


def gaussian(covariance, rng):
    w, q = np.linalg.eigh((covariance + covariance.T) / 2)
    return rng.standard_normal((TOKENS, len(w))) * np.sqrt(w.clip(0)) @ q.T


def main(analysis, base_folder, experts_folder):
    report = json.loads((pathlib.Path(analysis) / "analysis.json").read_text())
    names = [x["name"] for x in report["experts"]]
    e = len(names)
    measured = {}
    for m in report["tasks"]["routing"]:
        measured.setdefault(m["module"], {})[m["expert"]] = m["taken"]
    rank = {x["name"]: x["router_rank"] for x in report["layers"]}
    modules = [m for m in measured if rank[m]]
    taken = np.array([[measured[m][i] for i in range(e)] for m in modules])
    base = tensors(base_folder)
    changes = list(zip(*(deltas(pathlib.Path(experts_folder) / n, base, modules) for n in names)))
    fed = noise(base_folder, modules)
    other = ~np.eye(e, dtype=bool)
    right = taken[:, range(e), range(e)]
    print(f"measured: {right.mean():.1%} right")
    rests = ["even", "sigma", "sigma2", "common", "sum", "noise"]
    taus = [0.5, 0.3, 0.1, 0.03, 0.01]
    predicted = {(r, t): np.zeros((len(modules), e, e)) for r in rests for t in taus}
    for k, m in enumerate(modules):
        w, ds, g = base[m + ".weight"], changes[k], rank[m]
        v = np.concatenate([np.linalg.svd(d, full_matrices=False)[2][:g] for d in ds])
        moment = lambda d: (lambda z: z.T @ z / (d**2).sum())(d @ v.T)
        _, s, vt = np.linalg.svd(w, full_matrices=False)
        along = vt @ v.T
        tasks = [moment(d) for d in ds]
        covariances = {
            "even": v @ v.T / v.shape[1], "sigma": along.T * s @ along / s.sum(), "sigma2": moment(w),
            "common": np.mean(tasks, axis=0), "sum": moment(sum(ds)),
        }
        for r in rests:
            rest = fed[k] @ v.T if r == "noise" else gaussian(covariances[r], np.random.default_rng(0))
            for i, task in enumerate(tasks):
                t = gaussian(task, np.random.default_rng(1))
                for tau in taus:
                    z = np.sqrt(tau) * t[: len(rest)] + np.sqrt(1 - tau) * rest
                    best = (z.reshape(len(z), e, g) ** 2).sum(2).argmax(1)
                    predicted[r, tau][k, i] = np.bincount(best, minlength=e) / len(z)
    warnings.simplefilter("ignore")  # constant shares have no order
    print(f"{'the rest':8} {'τ':>5} {'right':>7} {'layers':>7} {'pairs':>6}")
    for (r, tau), p in predicted.items():
        own = p[:, range(e), range(e)]
        layers = spearmanr(own.mean(1), right.mean(1))[0]
        pairs = spearmanr(p.mean(0)[other], taken.mean(0)[other])[0]
        print(f"{r:8} {tau:5} {own.mean():7.1%} {layers:7.2f} {pairs:6.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
