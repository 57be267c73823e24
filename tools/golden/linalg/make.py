"""Golden singular values for package linalg, by numpy in float64.

    python tools/golden/linalg/make.py linalg/testdata/golden.json

Every case holds a float32 matrix (row-major, little-endian, base64), its
singular values as LAPACK's gesdd finds them in float64, and the leading right
singular vectors (float64) where their subspace is well defined.
"""

import base64
import json
import platform
import sys

import numpy as np

SEED = 20240817


def encode(a, dtype):
    return base64.b64encode(np.ascontiguousarray(a, dtype=dtype).tobytes()).decode()


def orthonormal(rng, n, k):
    q, _ = np.linalg.qr(rng.standard_normal((n, k)))
    return q


def with_spectrum(rng, m, n, s):
    k = len(s)
    return (orthonormal(rng, m, k) * s) @ orthonormal(rng, n, k).T


def case(name, a, router=0):
    a = np.asarray(a, dtype=np.float32)
    _, s, vt = np.linalg.svd(a.astype(np.float64), full_matrices=False)
    out = {
        "name": name,
        "rows": a.shape[0],
        "cols": a.shape[1],
        "data": encode(a, "<f4"),
        "s": [float(v) for v in s],
    }
    if router:
        out["router"] = router
        out["vt"] = encode(vt[:router], "<f8")
    return out


def lora(name, b, a, scale):
    b, a = np.asarray(b, dtype=np.float32), np.asarray(a, dtype=np.float32)
    s = np.linalg.svd(scale * b.astype(np.float64) @ a.astype(np.float64), compute_uv=False)
    return {
        "name": name,
        "out": b.shape[0],
        "in": a.shape[1],
        "rank": b.shape[1],
        "scale": scale,
        "b": encode(b, "<f4"),
        "a": encode(a, "<f4"),
        "s": [float(v) for v in s],
    }


def main():
    rng = np.random.default_rng(SEED)
    i = np.arange(1, 97)
    noise = rng.standard_normal((96, 160)) * 0.01
    b, a = rng.standard_normal((24, 6)), rng.standard_normal((6, 18))
    deficient = b.copy()
    deficient[:, 5] = deficient[:, 0] + deficient[:, 1]
    golden = {
        "command": "python tools/golden/linalg/make.py linalg/testdata/golden.json",
        "seed": SEED,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "svd": [
            case("gaussian 20x13", rng.standard_normal((20, 13))),
            case("gaussian 13x20", rng.standard_normal((13, 20)), router=3),
            case("hilbert 16", 1.0 / (np.arange(16)[:, None] + np.arange(16)[None, :] + 1)),
            case("row", rng.standard_normal((1, 9))),
            case("column", rng.standard_normal((9, 1))),
            case("integers of rank 3", rng.integers(-4, 5, (12, 3)) @ rng.integers(-4, 5, (3, 10))),
            case("decaying 96x160", with_spectrum(rng, 96, 160, i**-0.5), router=8),
            case("delta-like 160x96", with_spectrum(rng, 160, 96, 1 / i) + noise.T, router=8),
        ],
        "lora": [
            lora("plain", b, a, 2.0),
            lora("rank deficient", deficient, a, 0.5),
            lora("zero b", np.zeros((24, 6)), a, 2.0),
            lora("rank above both sides", rng.standard_normal((5, 9)), rng.standard_normal((9, 7)), 1.5),
            lora("rank above one side", rng.standard_normal((5, 9)), rng.standard_normal((9, 30)), -1.0),
        ],
    }
    with open(sys.argv[1], "w") as f:
        json.dump(golden, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main()
