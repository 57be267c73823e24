"""Peer of bench/kernel: answers one request a line on stdin with one line of JSON.

    openblas M N K transA transB TIMES   so many products in float32 by numpy's OpenBLAS
    bf16 M N K                           x·wᵀ in bfloat16 by torch (oneDNN)
    versions                             what is being measured

Every answer is the seconds of one run; operands are made once per request kind and
shape and kept.
"""

import json
import os
import sys
import time

import numpy as np


def timed(f, times=1):
    for _ in range(times):  # warms up
        f()
    start = time.perf_counter()
    for _ in range(times):
        f()
    return time.perf_counter() - start


def openblas(m, n, k, trans_a, trans_b, times, cache={}):
    key = (m, n, k, trans_a, trans_b)
    if key not in cache:
        cache.clear()
        rng = np.random.default_rng(1)
        a = rng.standard_normal((k, m) if trans_a else (m, k), dtype=np.float32)
        b = rng.standard_normal((n, k) if trans_b else (k, n), dtype=np.float32)
        cache[key] = (a.T if trans_a else a, b.T if trans_b else b, np.empty((m, n), dtype=np.float32))
    a, b, c = cache[key]
    return timed(lambda: np.matmul(a, b, out=c), times)


def bf16(m, n, k, cache={}):
    import torch

    torch.set_num_threads(int(os.environ["OPENBLAS_NUM_THREADS"]))
    key = (m, n, k)
    if key not in cache:
        cache.clear()
        cache[key] = (torch.randn(m, k).bfloat16(), torch.randn(n, k).bfloat16())
    x, w = cache[key]
    with torch.inference_mode():
        return timed(lambda: torch.nn.functional.linear(x, w))


def versions():
    out = {"coretype": os.environ.get("OPENBLAS_CORETYPE", "detected")}
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    out["blas"] = f'{blas["name"]} {blas["version"]}'
    return out


for line in sys.stdin:
    word, *args = line.split()
    answer = {"openblas": openblas, "bf16": bf16, "versions": versions}[word](*map(int, args))
    print(json.dumps(answer), flush=True)
