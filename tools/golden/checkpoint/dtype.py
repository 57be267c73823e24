"""Writes dtype/testdata/torch.json: hashes of what torch and numpy convert to.

The inputs are made by the same rule here and in dtype/golden_test.go: every
upper half of a float32 with 48 lower halves that hit each rounding boundary.
NaN results are made one pattern before hashing.

    python tools/golden/checkpoint/dtype.py dtype/testdata/torch.json
"""

import hashlib
import json
import sys

import numpy as np
import torch

LOW = [a << 13 | b for a in range(8) for b in (0, 1, 0xFFF, 0x1000, 0x1001, 0x1FFF)]
TYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}
NAN = {"F16": 0x7E00, "BF16": 0x7FC0, "F8_E4M3": 0x7F, "F8_E5M2": 0x7F}


def sha(a):
    return hashlib.sha256(np.ascontiguousarray(a).tobytes()).hexdigest()


def canon32(f):
    b = f.view(np.uint32).copy()
    b[np.isnan(f)] = 0x7FC00000
    return b


def main(out):
    doc = {"command": "python tools/golden/checkpoint/dtype.py", "torch": torch.__version__, "numpy": np.__version__,
           "widen": {}, "narrow32": {}, "narrow64": {}}
    bits = (np.arange(65536, dtype=np.uint32)[:, None] << 16 | np.array(LOW, np.uint32)[None]).reshape(-1)
    f32 = torch.from_numpy(bits.view(np.float32).copy())
    for name, t in TYPES.items():
        wide = t.itemsize == 2
        pats = np.arange(65536 if wide else 256, dtype=np.uint16 if wide else np.uint8)
        doc["widen"][name] = sha(canon32(torch.from_numpy(pats).view(t).to(torch.float32).numpy()))
        got = f32.to(t)
        raw = got.view(torch.uint16 if wide else torch.uint8).numpy().copy()
        raw[np.isnan(got.to(torch.float32).numpy())] = NAN[name]
        doc["narrow32"][name] = sha(raw)
    # float64 a hair beside every float32: torch rounds such values twice, numpy once
    with np.errstate(all="ignore"):
        f64 = bits.view(np.float32).astype(np.float64)
        up = np.nextafter(f64, np.inf)
        for tag, v in (("F16+", up), ("F16-", np.nextafter(f64, -np.inf))):
            h = v.astype(np.float16)
            raw = h.view(np.uint16).copy()
            raw[np.isnan(h)] = 0x7E00
            doc["narrow64"][tag] = sha(raw)
        doc["narrow64"]["F32+"] = sha(canon32(up.astype(np.float32)))
    with open(out, "w") as f:
        json.dump(doc, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main(sys.argv[1])
