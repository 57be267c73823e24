"""Holds a fused model against the published formula, module by module."""

import math
import os
from dataclasses import dataclass

import numpy as np

import smile64
from native import delta_epsilon
from sources import load_json
from tensors import DTYPES, Tensors, rounded

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


def turn(sigma, n, epsilon, shortfall):
    """How far the leading n singular vectors may turn (sine of the angle).

    First what float32 arithmetic does to a spectrum with this gap, then what a
    subspace that lacks `shortfall` of the best energy leaves undecided.
    """
    following = sigma[n] if n < sigma.size else 0.0
    if sigma[n - 1] <= following:
        return 1.0
    turned = SVD_SLACK * epsilon * sigma[0] / (sigma[n - 1] - following)
    return min(1.0, turned + math.sqrt(max(0.0, shortfall) / (sigma[n - 1] ** 2 - following**2)))


@dataclass
class Stored:
    """What a file holds of one expert's delta, against the best of its rank."""

    best: float  # energy of the best matrix of that rank
    residual: float  # ||delta - stored||^2
    captured: float  # share of the best energy, of the expert or of its router rows, whichever is less
    router_turn: float
    output_turn: float  # energy that the turned vectors move


def stored_expert(p, vt, us, g, unit, epsilon):
    """Judges the rows vt [>= g, in] and columns us [out, r] of a touched expert."""
    energy = float(np.sum(p.sigma**2))
    rounding = (4 * unit + 16 * epsilon) * math.sqrt(energy)
    delta = (p.u * p.sigma) @ p.vt
    best_router = float(np.sum(p.sigma[:g] ** 2))
    # Rounded rows are a little longer or shorter than 1: judge the space they span.
    q, _ = np.linalg.qr(vt[:g].T)
    lacking = best_router - float(np.sum((delta @ q) ** 2))
    router_turn = turn(p.sigma, g, epsilon, lacking)
    captured = 1 - lacking / best_router
    if p.rank == "dense":
        return Stored(energy, 0.0, captured, router_turn, 0.0)
    r = p.rank
    best = float(np.sum(p.sigma[:r] ** 2))
    residual = float(np.sum((delta - us @ vt[:r]) ** 2))
    if r == 0:
        return Stored(best, residual, captured, router_turn, 0.0)
    lacking = max(0.0, math.sqrt(residual) - rounding) ** 2 - (energy - best)
    turned = p.sigma[r - 1] ** 2 * turn(p.sigma, r, epsilon, residual - (energy - best)) ** 2
    return Stored(best, residual, min(captured, 1 - lacking / best), router_turn, turned)


def stored_experts(out, module, entry, parts, epsilon):
    """Judges every touched expert of a module. Returns {index: Stored}."""
    vt = out.get(module + ".smile.vt")
    us = out.get(module + ".smile.us") if module + ".smile.us" in out else np.zeros((entry["out"], 0))
    unit, g = DTYPES[out.dtype(module + ".smile.vt")][1], entry["rank_of_router"]
    row = column = 0
    judged = {}
    for e, p in enumerate(parts):
        if p.touched:
            r = 0 if p.rank == "dense" else p.rank
            judged[e] = stored_expert(p, vt[row : row + max(r, g)], us[:, column : column + r], g, unit, epsilon)
            row, column = row + max(r, g), column + r
    return judged


def allowances(judged, unit, top_k, longest):
    """What scores (relative to ||x||) and outputs (to the experts' part) may be off by."""
    score = ROUNDINGS * unit + max(s.router_turn for s in judged.values())
    kept = sum(s.best for s in judged.values())
    output = ROUNDINGS * unit + (math.sqrt(2 * sum(s.output_turn for s in judged.values()) / kept) if kept else 0.0)
    if top_k > 1:
        output += 2 * score * longest
    return score, output


def check_certificate(name, p, stored, certificate, unit, epsilon):
    """Says what of a certificate of smelt.json is not true."""
    if certificate is None:
        return [f"expert {name}: no certificate in smelt.json"]
    energy = float(np.sum(p.sigma**2))
    slack, rounding = 1e-5 * energy, (4 * unit + 16 * epsilon) * math.sqrt(energy)
    claimed = math.sqrt(max(0.0, energy - certificate["captured"]) + slack) + rounding
    found = []
    if abs(certificate["energy"] - energy) > slack:
        found.append(f"energy {certificate['energy']:.6g}, want {energy:.6g}")
    if certificate["bound"] < stored.best - slack:
        found.append(f"bound {certificate['bound']:.6g} is below the optimum {stored.best:.6g}")
    if certificate["captured"] > stored.best + slack:
        found.append(f"captured {certificate['captured']:.6g} is above the optimum {stored.best:.6g}")
    if math.sqrt(stored.residual) > claimed:
        found.append(f"residual {math.sqrt(stored.residual):.6g}, certified {claimed:.6g}")
    return [f"expert {name}: {what}" for what in found]


def check_outputs(out, module, entry, base, parts, judged, top_k, rows, rng):
    """Compares outputs, scores and selections. Returns figures and faults."""
    g, transposed = entry["rank_of_router"], bool(entry.get("transposed"))
    unit = DTYPES[out.dtype(module + ".smile.vt")][1]
    x = inputs(parts, g, entry["in"], rows, rng)
    length = np.linalg.norm(x, axis=1)
    allowed_score, allowed_output = allowances(judged, unit, top_k, float(length.max()))
    y_out, scores_out, selected_out = smile64.stored_layer(out, module, entry, top_k, x)
    weight, bias = base.weight(module, transposed), base.bias(module)
    y, scores, selected = smile64.formula(weight, bias, parts, g, top_k, x)

    wrong = []
    switched = np.flatnonzero(np.any(np.sort(selected, 1) != np.sort(selected_out, 1), axis=1))
    for n in switched:
        margin = scores[n, selected[n]].min() - scores[n, selected_out[n]].min()
        if margin > 2 * allowed_score * length[n]:
            wrong.append(f"row {n}: experts {selected_out[n]}, want {selected[n]}, margin {margin:.3g}")
    if switched.size:
        y, _, _ = smile64.formula(weight, bias, parts, g, top_k, x, selected_out)

    tiny = np.finfo(float).tiny
    experts_part = np.linalg.norm(y - (x @ weight.T + (0 if bias is None else bias)))
    output = float(np.linalg.norm(y_out - y) / max(experts_part, tiny))
    score = float(np.max(np.abs(scores_out - scores) / np.maximum(length, tiny)[:, None]))
    if not output <= allowed_output:
        wrong.append(f"outputs are off by {output:.3g} of the experts' part, allowed {allowed_output:.3g}")
    if not score <= allowed_score:
        wrong.append(f"scores are off by {score:.3g}·‖x‖, allowed {allowed_score:.3g}")
    captured = min(s.captured for s in judged.values())
    used = max(output / allowed_output, score / allowed_score)
    return Figures(1, len(x), output, score, captured, switched.size, used), wrong


def parts_of(module, entry, experts):
    """Decomposes every expert's delta of a module, at the ranks of the file."""
    transposed = bool(entry.get("transposed"))
    return [
        smile64.part(e.delta(module, transposed), e.delta_bias(module), r) for e, r in zip(experts, entry["rank_of_expert"])
    ]


def check_module(out, module, entry, certificates, base, experts, asked, top_k, rows, rng):
    """Compares one module. Returns its figures and what is wrong with it."""
    wrong, g, shape = [], entry["rank_of_router"], (entry["out"], entry["in"])
    for name in (module + ".weight", module + ".bias"):
        if name in base.tensors:
            want = rounded(base.tensors.get(name), out.dtype(name)) if name in out else None
            if want is None or not np.array_equal(out.get(name), want):
                wrong.append(f"{name} is not the base's")
    parts = parts_of(module, entry, experts)
    for expert, p, r in zip(experts, parts, entry["rank_of_expert"]):
        if p.touched != (r is not None):
            wrong.append(f"expert {expert.name}: rank {r}, but its delta is {'not ' if p.touched else ''}zero")
    touched = [p for p in parts if p.touched]
    if wrong or not touched:
        return Figures(1), wrong

    # Numerical ranks decide the router's: allow for either side of the threshold.
    epsilon = delta_epsilon(base, experts, module)
    least = min(smile64.numerical_rank(p.sigma, shape, 8 * epsilon) for p in touched)
    most = min(smile64.numerical_rank(p.sigma, shape, epsilon / 8) for p in touched)
    if not min(asked, least) <= g <= min(asked, most):
        return Figures(1), [f"router rank {g}, want {min(asked, least)}..{min(asked, most)}"]

    unit = DTYPES[out.dtype(module + ".smile.vt")][1]
    judged = stored_experts(out, module, entry, parts, epsilon)
    for e, stored in judged.items():
        name = experts[e].name
        if parts[e].rank != "dense":
            wrong += check_certificate(name, parts[e], stored, certificates.get(name), unit, epsilon)
        if stored.captured < CAPTURE:
            wrong.append(f"expert {name}: holds {stored.captured:.6f} of the best energy of its rank, want {CAPTURE}")
    figures, more = check_outputs(out, module, entry, base, parts, judged, top_k, rows, rng)
    return figures, wrong + more


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
        certificates = {c["expert"]: c for c in manifest["modules"].get(module, [])}
        asked, top_k = block["rank_of_router"], block["num_experts_per_tok"]
        figures, wrong = check_module(out, module, entry, certificates, base, experts, asked, top_k, rows, rng)
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
