"""Holds a fused model against the published formula, module by module."""

import math
import os
from dataclasses import dataclass

import numpy as np

import smile64
from native import delta_epsilon
from sources import load_json
from tensors import DTYPES, Tensors

#: what float32 arithmetic may add to a singular vector, in units of eps * sigma_1 / gap
SVD_SLACK = 1.0
#: how many roundings of the stored type a layer's output may be off by
ROUNDINGS = 4.0
#: least share of the best energy of its rank that a stored expert must hold
CAPTURE = 0.999


@dataclass
class Figures:
    """The worst of one kind of module.

    output is relative to the experts' part, score to ||x||; captured is the
    share of the best energy, used the larger share of an allowance that an
    error took, switched counts rows whose selection differed within its margin.
    """

    modules: int = 0
    rows: int = 0
    output: float = 0.0
    score: float = 0.0
    captured: float = 1.0
    switched: int = 0
    used: float = 0.0

    def add(self, other):
        self.modules += other.modules
        self.rows += other.rows
        self.switched += other.switched
        self.captured = min(self.captured, other.captured)
        self.output = max(self.output, other.output)
        self.score = max(self.score, other.score)
        self.used = max(self.used, other.used)


def inputs(parts, g, width, rows, rng):
    """Rows that a router finds easy, hard and impossible. [N, width]"""
    blocks = [rng.standard_normal((rows, width)), np.zeros((1, width))]
    for p in parts:
        if not p.touched:
            continue
        n = p.sigma.size
        blocks.append(rng.standard_normal((8, g)) @ p.vt[:g])
        blocks.append(p.vt[:1] * rng.standard_normal((4, 1)) + 0.1 * rng.standard_normal((4, width)))
        if n > g:
            blocks.append(rng.standard_normal((8, n - g)) @ p.vt[g:])
    routers = np.concatenate([p.vt[:g] for p in parts if p.touched])
    outside = rng.standard_normal((8, width))
    q, _ = np.linalg.qr(routers.T)
    blocks.append(outside - outside @ q @ q.T)
    return np.concatenate(blocks)


def gap_slack(sigma, n, epsilon, shortfall):
    """How far the leading n singular vectors may turn (sine of the angle).

    First what float32 arithmetic does to a spectrum with this gap, then what a
    subspace that lacks `shortfall` of the best energy leaves undecided.
    """
    following = sigma[n] if n < sigma.size else 0.0
    gap = sigma[n - 1] - following
    if gap <= 0:
        return 1.0
    turned = SVD_SLACK * epsilon * sigma[0] / gap
    turned += math.sqrt(shortfall / (sigma[n - 1] ** 2 - following**2))
    return min(1.0, turned)


def check_module(out, module, entry, certificates, base, experts, top_k, rows, rng):
    """Compares one module. Returns its figures and what is wrong with it."""
    wrong = []
    g, ranks, transposed = entry["rank_of_router"], entry["rank_of_expert"], bool(entry.get("transposed"))
    dtype = out.dtype(module + ".smile.vt")
    unit = DTYPES[dtype][1]
    epsilon = delta_epsilon(base, experts, module)
    shape = (entry["out"], entry["in"])
    for name in (module + ".weight", module + ".bias"):
        if name in base.tensors and (name not in out or out.raw(name) != base.tensors.raw(name)) and out.dtype(name) == base.tensors.dtype(name):
            wrong.append(f"{name} is not the base's")

    parts = []
    for expert, r in zip(experts, ranks):
        delta = expert.delta(module, transposed)
        if (delta is None) != (r is None):
            wrong.append(f"expert {expert.name}: rank {r}, but its delta is {'zero' if delta is None else 'not zero'}")
            return Figures(1), wrong
        p = smile64.part(delta, expert.delta_bias(module), r)
        if r not in (None, "dense") and r > min(shape):
            wrong.append(f"expert {expert.name}: rank {r} of a {shape} weight")
        parts.append(p)

    # Numerical ranks decide the router's: allow for either side of the threshold.
    least = min(smile64.numerical_rank(p.sigma, shape, 8 * epsilon) for p in parts if p.touched)
    most = min(smile64.numerical_rank(p.sigma, shape, epsilon / 8) for p in parts if p.touched)
    asked = entry["asked_router_rank"]
    if not min(asked, least) <= g <= min(asked, most):
        wrong.append(f"router rank {g}, want {min(asked, least)}..{min(asked, most)}")

    # What is stored of each delta, against the best of its rank.
    vt = out.get(module + ".smile.vt")
    us = out.get(module + ".smile.us") if module + ".smile.us" in out else np.zeros((shape[0], 0))
    row = column = 0
    worst_capture, turned_router, turned_output = 1.0, 0.0, 0.0
    energy_kept = 0.0
    for expert, p in zip(experts, parts):
        if not p.touched:
            continue
        r = p.rank
        best_energy, energy = float(np.sum((p.sigma if r == "dense" else p.sigma[:r]) ** 2)), float(np.sum(p.sigma**2))
        shortfall = 0.0
        if r != "dense":
            kept = max(r, g)
            stored = us[:, column : column + r] @ vt[row : row + r]
            exact = (p.u * p.sigma) @ p.vt
            residual = float(np.sum((exact - stored) ** 2))
            rounding = (4 * unit + 16 * epsilon) * math.sqrt(energy)
            shortfall = max(0.0, residual - (energy - best_energy))
            certificate = certificates.get(expert.name)
            if certificate is None:
                wrong.append(f"expert {expert.name}: no certificate in smelt.json")
            else:
                slack = 1e-5 * energy
                if abs(certificate["energy"] - energy) > slack:
                    wrong.append(f"expert {expert.name}: energy {certificate['energy']:.6g}, want {energy:.6g}")
                if certificate["bound"] < best_energy - slack:
                    wrong.append(f"expert {expert.name}: bound {certificate['bound']:.6g} is below the optimum {best_energy:.6g}")
                if certificate["captured"] > best_energy + slack:
                    wrong.append(f"expert {expert.name}: captured {certificate['captured']:.6g} is above the optimum {best_energy:.6g}")
                claimed = math.sqrt(max(0.0, energy - certificate["captured"]) + slack) + rounding
                if math.sqrt(residual) > claimed:
                    wrong.append(f"expert {expert.name}: residual {math.sqrt(residual):.6g}, certified {claimed:.6g}")
            if best_energy > 0:
                # Rounding of the factors costs no energy: judge the space they span.
                missing = max(0.0, math.sqrt(residual) - rounding) ** 2 - (energy - best_energy)
                worst_capture = min(worst_capture, 1 - max(0.0, missing) / best_energy)
            if r > 0:
                turned_output += p.sigma[r - 1] ** 2 * gap_slack(p.sigma, r, epsilon, shortfall) ** 2
            column, row = column + r, row + kept
        else:
            row += g
        energy_kept += best_energy
        turned_router = max(turned_router, gap_slack(p.sigma, g, epsilon, shortfall))
    if worst_capture < CAPTURE:
        wrong.append(f"holds {worst_capture:.6f} of the best energy of its rank, want {CAPTURE}")

    # Layer outputs, on rows that the base never saw.
    x = inputs(parts, g, shape[1], rows, rng)
    length = np.linalg.norm(x, axis=1)
    allowed_score = ROUNDINGS * unit + turned_router
    y_out, scores_out, selected_out = smile64.stored_layer(out, module, entry, top_k, x)
    weight, bias = base.weight(module, transposed), base.bias(module)
    y, scores, selected = smile64.formula(weight, bias, parts, g, top_k, x)

    switched = np.flatnonzero(np.any(np.sort(selected, 1) != np.sort(selected_out, 1), axis=1))
    for n in switched:
        kth = scores[n, selected[n]].min()
        margin = kth - scores[n, selected_out[n]].min()
        if margin > 2 * allowed_score * length[n]:
            wrong.append(f"row {n}: experts {selected_out[n]}, want {selected[n]}, margin {margin:.3g}")
    if switched.size:
        y, _, _ = smile64.formula(weight, bias, parts, g, top_k, x, selected_out)

    experts_part = np.linalg.norm(y - (x @ weight.T + (0 if bias is None else bias)))
    scale = max(experts_part, np.finfo(float).tiny)
    output = float(np.linalg.norm(y_out - y) / scale)
    score = float(np.max(np.abs(scores_out - scores) / np.maximum(length, np.finfo(float).tiny)[:, None]))
    allowed_output = ROUNDINGS * unit
    if energy_kept > 0:
        allowed_output += math.sqrt(2 * turned_output / energy_kept)
    if top_k > 1:
        allowed_output += 2 * allowed_score * float(length.max())
    if not output <= allowed_output:
        wrong.append(f"outputs are off by {output:.3g} of the experts' part, allowed {allowed_output:.3g}")
    if not score <= allowed_score:
        wrong.append(f"scores are off by {score:.3g}·‖x‖, allowed {allowed_score:.3g}")
    figures = Figures(1, len(x), output, score, worst_capture, switched.size, max(output / allowed_output, score / allowed_score))
    return figures, wrong


def run(directory, base, experts, rows, verbose):
    """Checks a directory and prints a table by module kind. Returns 0 or 1."""
    block = load_json(directory, "config.json")["smile"]
    manifest = load_json(directory, "smelt.json")
    out = Tensors.of(directory)
    names = [e["name"] for e in block["experts"]]
    if names != [e.name for e in experts]:
        print(f"{directory}: experts {names}, the arguments name {[e.name for e in experts]}")
        return 1

    rng, kinds, failures = np.random.default_rng(20240819), {}, 0
    expected = [m for m in base.modules() if any(e.delta(m, base.conv1d) is not None for e in experts)]
    for module in sorted(set(expected) - set(block["modules"])):
        print(f"note: {module}: changed by an expert, not fused")
    for module, entry in block["modules"].items():
        entry = dict(entry, asked_router_rank=block["rank_of_router"])
        certificates = {c["expert"]: c for c in manifest["modules"].get(module, [])}
        figures, wrong = check_module(
            out, module, entry, certificates, base, experts, block["num_experts_per_tok"], rows, rng
        )
        kinds.setdefault(module.rsplit(".", 1)[-1], Figures()).add(figures)
        for line in wrong:
            print(f"FAIL {module}: {line}")
        failures += len(wrong)
        if verbose:
            print(f"{module}: output {figures.output:.1e} score {figures.score:.1e} captured {figures.captured:.6f} used {figures.used:.2f}")

    print(f"{'kind':<16}{'modules':>8}{'rows':>8}{'output':>10}{'score':>10}{'captured':>10}{'switched':>9}{'used':>9}")
    for kind, f in sorted(kinds.items()):
        print(
            f"{kind:<16}{f.modules:>8}{f.rows:>8}{f.output:>10.1e}{f.score:>10.1e}{f.captured:>10.6f}{f.switched:>9}{f.used:>9.2f}"
        )
    print(f"{os.path.basename(os.path.normpath(directory))}: {'agrees' if not failures else f'{failures} failures'}")
    return 1 if failures else 0
