"""Holds smelt's layers against FusionBench's own SMILE classes (pinned).

    fusionbench.py golden [-o testdata/fusionbench]
    fusionbench.py check OUT BASE [name=]EXPERT...

golden writes layers and what FusionBench computes for them, and shows each
difference that is meant. check builds SmileMoELinear for every fused module of
OUT from the sources and compares the outputs.
"""

import argparse
import collections
import copy
import importlib.metadata
import json
import os
import sys

import numpy as np
import torch
from fusion_bench.models.smile_moe.linear_from_hf_config import (
    SmileLinear,
    SmileMoEConfig,
    upscale_to_smile_linear,
)
from fusion_bench.models.smile_moe.linear_from_module import SmileMoELinear
from torch import nn

import smile64
from check import allowances, parts_of, stored_experts
from native import delta_epsilon
from sources import Base, experts_of, load_json
from tensors import DTYPES, Tensors, encode, write

HERE = os.path.dirname(os.path.abspath(__file__))
SEED = 20240819
IN, OUT, ROWS = 24, 18, 12
#: what float32 arithmetic may add to an output or a score
FLOAT32 = 2e-5
#: least difference of the scores that decide a selection in the fixture
MARGIN = 1e-3


def linear(weight, bias, dtype=torch.float32):
    """An nn.Linear with these weights."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, dtype=dtype)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(np.ascontiguousarray(weight)))
        if bias is not None:
            layer.bias.copy_(torch.from_numpy(np.ascontiguousarray(bias)))
    return layer


def by_module(base, experts, g, r, top_k, x):
    """FusionBench's SmileMoELinear. It overwrites its arguments: give it copies."""
    layer = SmileMoELinear(copy.deepcopy(base), copy.deepcopy(experts), gate_k=g, k=r, top_k=top_k)
    with torch.no_grad():
        return layer(x), layer


def by_config(base, experts, g, r, top_k, x):
    """FusionBench's SmileLinear, filled by upscale_to_smile_linear."""
    config = SmileMoEConfig()
    config.num_experts_per_tok, config.num_local_experts = top_k, len(experts)
    config.rank_of_router, config.rank_of_expert = g, r
    target = SmileLinear(config, base.in_features, base.out_features, base.bias is not None, dtype=base.weight.dtype)
    upscale_to_smile_linear(copy.deepcopy(base), copy.deepcopy(experts), target)
    with torch.no_grad():
        return target(x), target


def selection(layer, x, top_k):
    with torch.no_grad():
        return torch.topk(torch.softmax(layer.gate(x), 1), top_k, dim=1).indices.numpy()


def draw(rng, experts, bias, rank=None):
    """Weights of a base and its experts in float32; rank limits the deltas."""
    weight = (rng.standard_normal((OUT, IN)) / 4).astype(np.float32)
    b = (rng.standard_normal(OUT) / 4).astype(np.float32) if bias else None
    tuned = []
    for _ in range(experts):
        n = rank or min(OUT, IN)
        u, _ = np.linalg.qr(rng.standard_normal((OUT, n)))
        v, _ = np.linalg.qr(rng.standard_normal((IN, n)))
        delta = 0.3 * (u * np.arange(1, n + 1) ** -0.7) @ v.T
        change = rng.standard_normal(OUT) / 8
        tuned.append(((weight + delta).astype(np.float32), (b + change).astype(np.float32) if bias else None))
    return weight, b, tuned


def drawn_parts(weight, bias, tuned, r):
    parts = []
    for w, b in tuned:
        delta = w.astype(np.float64) - weight
        change = b.astype(np.float64) - bias if bias is not None else None
        parts.append(smile64.part(delta if np.any(delta) else None, change, r if np.any(delta) else None))
    return parts


def rows(rng, parts, g):
    """Rows [ROWS, IN] in float32 whose selections hang on no rounding."""
    while True:
        x = rng.standard_normal((ROWS, IN)).astype(np.float32)
        scores = np.sort(smile64.scores_of(parts, g, x.astype(np.float64)), axis=1)
        if len(parts) == 1 or np.diff(scores, axis=1).min() > MARGIN:
            return x


def bf16(array):
    return torch.from_numpy(array).bfloat16().float().numpy()


class Fixture:
    """Cases as JSON, their tensors beside them."""

    def __init__(self):
        self.cases, self.tensors = [], {}

    def add(self, case, arrays, weights="F32"):
        index = len(self.cases)
        self.cases.append(case)
        for name, array in arrays.items():
            if array is not None:
                kind = "F64" if array.dtype == np.float64 else weights if "weight" in name else "F32"
                self.tensors[f"{index}.{name}"] = (encode(array, kind), kind, array.shape)

    def layer(self, weight, bias, tuned, **arrays):
        arrays = {"weight": weight, "bias": bias, **arrays}
        for e, (w, b) in enumerate(tuned):
            arrays[f"expert.{e}.weight"], arrays[f"expert.{e}.bias"] = w, b
        return arrays


def relative(a, b):
    return float(np.linalg.norm(np.asarray(a, np.float64) - b) / np.linalg.norm(b))


def agreeing(fixture, rng):
    """Same weights, same settings: the same outputs to float32 rounding."""
    for experts, g, r, top_k, bias in [
        (2, 4, 8, 1, False), (3, 4, 8, 1, True), (3, 4, 8, 2, False), (4, 4, 8, 2, True),
        (5, 6, 3, 1, True), (3, 1, 18, 1, False), (3, 18, 18, 3, True), (8, 2, 2, 2, False),
    ]:
        weight, b, tuned = draw(rng, experts, bias)
        parts = drawn_parts(weight, b, tuned, r)
        x = rows(rng, parts, g)
        base, tuned_layers = linear(weight, b), [linear(*t) for t in tuned]
        y, _ = by_module(base, tuned_layers, g, r, top_k, torch.from_numpy(x))
        y_config, _ = by_config(base, tuned_layers, g, r, top_k, torch.from_numpy(x))
        want, _, _ = smile64.formula(weight.astype(np.float64), b, parts, g, top_k, x.astype(np.float64))
        case = {"experts": experts, "rank_of_router": g, "rank_of_expert": r, "num_experts_per_tok": top_k, "bias": bias}
        error = relative(y.numpy(), want)
        assert error < 2e-6, (case, error)
        # upscale_to_smile_linear adds the expert's whole bias, not its change: off by the base's.
        config_error = relative(y_config.numpy() - (b if bias else 0), want)
        assert config_error < 2e-6, (case, config_error)
        fixture.add(dict(case, agrees=True), fixture.layer(weight, b, tuned, x=x, y=y.numpy()))
        print(f"agrees: {experts} experts, router {g}, expert {r}, top-{top_k}, {'bias' if bias else 'no bias'}:"
              f" SmileMoELinear {error:.1e}, SmileLinear less the base's bias {config_error:.1e}")


def difference(fixture, rng, name, why, g, r, top_k, weight, b, tuned, dtype=torch.float32, ours=None, stored="F32",
               layer_of=by_module):
    """Adds a case in which FusionBench's output is not ours, and by how much."""
    parts = drawn_parts(weight, b, tuned, r)
    ours = g if ours is None else ours
    x = rows(rng, [p for p in parts if p.touched], ours)
    base, layers = linear(weight, b, dtype), [linear(*t, dtype) for t in tuned]
    y, layer = layer_of(base, layers, g, r, top_k, torch.from_numpy(x).to(dtype))
    want, _, selected = smile64.formula(weight.astype(np.float64), b, parts, ours, top_k, x.astype(np.float64))
    theirs = selection(layer, torch.from_numpy(x).to(dtype), top_k)
    switched = int(np.sum(np.any(np.sort(theirs, 1) != np.sort(selected, 1), axis=1)))
    error = relative(y.float().numpy(), want)
    case = {
        "class": "SmileMoELinear" if layer_of is by_module else "SmileLinear",
        "experts": len(tuned), "rank_of_router": ours, "rank_of_expert": r, "num_experts_per_tok": top_k,
        "bias": b is not None, "agrees": False, "name": name, "why": why, "fusionbench_rank_of_router": g,
        "relative_difference": error, "rows_routed_elsewhere": switched,
    }
    fixture.add(case, fixture.layer(weight, b, tuned, x=x, y=y.float().numpy(), want=want), stored)
    print(f"differs: {name}: {error:.1e} relative, {switched} of {ROWS} rows routed elsewhere")
    return error, switched


def differing(fixture, rng):
    """Where we differ on purpose."""
    weight, b, tuned = draw(rng, 3, True)
    tuned[1] = (weight.copy(), b.copy())
    error, switched = difference(
        fixture, rng, "untouched", "an expert equal to the base has no directions: FusionBench routes by the first"
        " unit vectors, so it wins tokens by chance; ours comes after all touched experts", 4, 8, 1, weight, b, tuned)
    assert error > 1e-2 and switched > 0

    weight, b, tuned = draw(rng, 3, False, rank=2)
    error, switched = difference(
        fixture, rng, "numerical-rank", "a delta of rank 2 has two directions: a router of rank 6 reads rounding noise in"
        " the other four; ours takes the smallest numerical rank", 6, 8, 1, weight, b, tuned, ours=2)
    assert switched > 0

    weight, b, tuned = draw(rng, 3, False)
    weight, tuned = bf16(weight), [(bf16(w), None) for w, _ in tuned]
    # SmileMoELinear has no SVD for bf16 on a CPU; SmileLinear has.
    error, _ = difference(
        fixture, rng, "bf16", "FusionBench subtracts in bf16 and rounds U, S and V before it multiplies S into V; ours"
        " subtracts in float32 and rounds each factor once", 4, 8, 1, weight, None, tuned, dtype=torch.bfloat16, stored="BF16",
        layer_of=by_config)
    assert 1e-3 < error

    weight, b, tuned = draw(rng, 1, True)
    error, _ = difference(
        fixture, rng, "one-expert", "no difference in the output: both give the only expert the weight 1; FusionBench"
        " skips its router, ours stores the rows so that experts can be added", 4, 8, 1, weight, b, tuned)
    assert error < 2e-6


def golden(out):
    directory = out or os.path.join(HERE, "testdata", "fusionbench")
    os.makedirs(directory, exist_ok=True)
    fixture, rng = Fixture(), np.random.default_rng(SEED)
    agreeing(fixture, rng)
    differing(fixture, rng)
    write(os.path.join(directory, "cases.safetensors"), fixture.tensors)
    with open(os.path.join(directory, "cases.json"), "w") as f:
        packages = ("fusion-bench", "torch", "numpy")
        json.dump({
            "command": "tools/parity/fusionbench.py golden",
            "seed": SEED,
            "versions": {p: importlib.metadata.version(p) for p in packages},
            "cases": fixture.cases,
        }, f, indent=1)
        f.write("\n")
    print(f"{directory}: {len(fixture.cases)} cases, {os.path.getsize(os.path.join(directory, 'cases.safetensors'))} bytes")
    return 0


def check(directory, base, experts):
    """Compares every module that FusionBench can express. Returns 0 or 1."""
    block, out = load_json(directory, "config.json")["smile"], Tensors.of(directory)
    top_k, rng = block["num_experts_per_tok"], np.random.default_rng(SEED)
    compared, skipped, failures, worst, close = 0, collections.Counter(), 0, 0.0, 0
    for module, entry in block["modules"].items():
        ranks, g, transposed = entry["rank_of_expert"], entry["rank_of_router"], bool(entry.get("transposed"))
        if None in ranks:
            skipped["an expert left it untouched"] += 1
            continue
        if len(set(ranks)) > 1 or not isinstance(ranks[0], int) or ranks[0] == 0:
            skipped["its ranks are ragged, dense or zero"] += 1
            continue
        r, weight, bias = ranks[0], base.weight(module, transposed), base.bias(module)
        tuned = []
        for e in experts:
            change = e.delta_bias(module)
            tuned.append(linear(weight + e.delta(module, transposed), bias if change is None else bias + change))
        x = rng.standard_normal((64, entry["in"])).astype(np.float32)
        y, layer = by_module(linear(weight, bias), tuned, g, r, top_k, torch.from_numpy(x))
        ours, scores, selected = smile64.stored_layer(out, module, entry, top_k, x.astype(np.float64))
        unit = DTYPES[out.dtype(module + ".smile.vt")][1]
        parts = parts_of(module, entry, experts)
        judged = stored_experts(out, module, entry, parts, delta_epsilon(base, experts, module))
        allowed_score, allowed = allowances(judged, unit, top_k, float(np.linalg.norm(x, axis=1).max()))
        # FusionBench's own SVD runs in float32, so it turns as far again.
        allowed, allowed_score = 2 * allowed + FLOAT32, 2 * allowed_score + FLOAT32
        same = np.all(np.sort(selected, 1) == np.sort(selection(layer, torch.from_numpy(x), top_k), 1), axis=1)
        ordered = -np.sort(-scores, axis=1)
        sure = np.ones(len(x), bool)
        if len(experts) > top_k:
            sure = ordered[:, top_k - 1] - ordered[:, top_k] > 2 * allowed_score * np.linalg.norm(x, axis=1)
        plain = x @ weight.T + (0 if bias is None else bias)
        error = np.linalg.norm(y.numpy()[same] - ours[same]) / np.linalg.norm(ours[same] - plain[same])
        compared, worst, close = compared + 1, max(worst, float(error)), close + int(np.sum(~same))
        if np.any(~same & sure) or not error <= allowed:
            failures += 1
            print(f"FAIL {module}: off by {error:.2e} of the experts' part, allowed {allowed:.1e};"
                  f" {int(np.sum(~same & sure))} rows routed elsewhere with a clear margin")
    for why, count in skipped.items():
        print(f"not compared: {count} modules: {why}")
    print(f"{os.path.basename(os.path.normpath(directory))}: {compared} modules against SmileMoELinear"
          f" {importlib.metadata.version('fusion-bench')}: worst {worst:.1e} of the experts' part, {close} close rows"
          f" routed elsewhere, {failures} failures")
    return 1 if failures or not compared else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("golden").add_argument("-o", "--out")
    command = commands.add_parser("check")
    command.add_argument("out")
    command.add_argument("base")
    command.add_argument("experts", nargs="+")
    options = parser.parse_args()
    torch.manual_seed(SEED)
    if options.command == "golden":
        return golden(options.out)
    base = Base(options.base)
    return check(options.out, base, experts_of(options.experts, base))


if __name__ == "__main__":
    sys.exit(main())
