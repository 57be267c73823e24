"""SMILE in float64, twice: from the published formula and from stored tensors.

Letters: N rows, E experts, g router rank, r expert rank; weights are [out, in]
and a layer computes y = x W^T + b (arXiv:2408.10174, docs/format/native.md).
"""

from dataclasses import dataclass, field

import numpy as np


@dataclass
class Part:
    """What one expert changes in one module; sigma is empty when untouched."""

    u: np.ndarray = None  # [out, n]
    sigma: np.ndarray = field(default_factory=lambda: np.zeros(0))  # [n], descending
    vt: np.ndarray = None  # [n, in]
    bias: np.ndarray = None  # [out]
    rank: object = None  # int, "dense", or None when untouched

    @property
    def touched(self):
        return self.sigma.size > 0

    def low_rank(self):
        n = self.sigma.size if self.rank == "dense" else self.rank
        return (self.u[:, :n] * self.sigma[:n]) @ self.vt[:n]


def part(delta, bias, rank):
    """Decomposes delta [out, in] exactly (LAPACK, float64)."""
    if delta is None:
        return Part(bias=bias)
    u, sigma, vt = np.linalg.svd(delta, full_matrices=False)
    if rank != "dense":
        rank = min(rank, *delta.shape)
    return Part(u, sigma, vt, bias, rank)


def numerical_rank(sigma, shape, epsilon):
    """Counts the singular values above max(out, in) * epsilon * sigma_1."""
    return int(np.sum(sigma > max(shape) * epsilon * sigma[0])) if sigma.size else 0


def select(scores, touched, top_k):
    """Picks experts [N, K]: touched first, then by score, then by index."""
    ranking = np.where(touched[None, :], scores, -1.0)
    return np.argsort(-ranking, axis=1, kind="stable")[:, : min(top_k, scores.shape[1])]


def weights_of(scores, selected):
    """Softmax of all scores, kept where selected and made to sum to 1. [N, E]"""
    chosen = np.take_along_axis(scores, selected, axis=1)
    chosen = np.exp(chosen - chosen.max(axis=1, keepdims=True))
    chosen /= chosen.sum(axis=1, keepdims=True)
    weights = np.zeros_like(scores)
    np.put_along_axis(weights, selected, chosen, axis=1)
    return weights


def scores_of(parts, g, x):
    """r_e = ||V_g,e^T x||_2 for touched experts, 0 for the others. [N, E]"""
    scores = np.zeros((len(x), len(parts)))
    for e, p in enumerate(parts):
        if p.touched:
            scores[:, e] = np.linalg.norm(x @ p.vt[:g].T, axis=1)
    return scores


def formula(weight, bias, parts, g, top_k, x, selected=None):
    """The published layer. Returns y, scores and the selection used."""
    scores = scores_of(parts, g, x)
    if selected is None:
        selected = select(scores, np.array([p.touched for p in parts]), top_k)
    weights = weights_of(scores, selected)
    y = x @ weight.T + (0 if bias is None else bias)
    for e, p in enumerate(parts):
        if p.touched:
            y = y + weights[:, e : e + 1] * (x @ p.low_rank().T)
        if p.bias is not None:
            y = y + weights[:, e : e + 1] * p.bias
    return y, scores, selected


def stored_layer(tensors, module, entry, top_k, x):
    """The five steps of docs/format/native.md on the tensors of a fused model."""
    g, ranks = entry["rank_of_router"], entry["rank_of_expert"]
    weight = tensors.get(module + ".weight")
    y = x @ (weight if entry.get("transposed") else weight.T)
    if module + ".bias" in tensors:
        y = y + tensors.get(module + ".bias")
    p = x @ tensors.get(module + ".smile.vt").T
    us = tensors.get(module + ".smile.us") if module + ".smile.us" in tensors else None
    delta_bias = tensors.get(module + ".smile.bias") if module + ".smile.bias" in tensors else None

    scores, rows, row = np.zeros((len(x), len(ranks))), [], 0
    for e, rank in enumerate(ranks):
        rows.append(row)
        if rank is not None:
            scores[:, e] = np.linalg.norm(p[:, row : row + g], axis=1)
            row += g if rank == "dense" else max(rank, g)
    if row != p.shape[1]:
        raise SystemExit(f"{module}: vt has {p.shape[1]} rows, the ranks {ranks} need {row}")
    selected = select(scores, np.array([rank is not None for rank in ranks]), top_k)
    weights = weights_of(scores, selected)

    column = 0
    for e, rank in enumerate(ranks):
        w = weights[:, e : e + 1]
        if rank == "dense":
            y = y + w * (x @ tensors.get(f"{module}.smile.dense.{e}").T)
        elif rank:
            y = y + w * (p[:, rows[e] : rows[e] + rank] @ us[:, column : column + rank].T)
            column += rank
        if delta_bias is not None:
            y = y + w * delta_bias[e]
    if column != (0 if us is None else us.shape[1]):
        raise SystemExit(f"{module}: us has {us.shape[1]} columns, the ranks {ranks} need {column}")
    return y, scores, selected
