"""Interchange with Python's safetensors, both ways.

    python tools/golden/checkpoint/safetensors_py.py write safetensors/testdata/python
    python tools/golden/checkpoint/safetensors_py.py check safetensors/testdata/ours.safetensors

write makes files that the Go tests read; check reads the file that the Go
tests hold the writer to.
"""

import pathlib
import sys

import safetensors
import torch
from safetensors import safe_open
from safetensors.torch import save_file

TYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2,
         torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool, torch.uint16, torch.uint32,
         torch.uint64, torch.complex64]


def write(out):
    out.mkdir(parents=True, exist_ok=True)
    x = torch.arange(6).reshape(2, 3)
    tensors = {f"x.{t}".replace("torch.", ""): x.to(t) for t in TYPES}
    tensors["scalar"] = torch.zeros(())
    tensors["empty"] = torch.zeros(0, 3)
    tensors['ünï"\\\n😀'] = torch.zeros(1)
    meta = {"format": "pt", "made by": "python ü", "safetensors": safetensors.__version__}
    save_file(tensors, out / "numbers.safetensors", metadata=meta)
    save_file({}, out / "nothing.safetensors")
    save_file({"a": torch.zeros(3, dtype=torch.int8), "b": torch.zeros(5)}, out / "unaligned.safetensors")


def check(path):
    with safe_open(path, "pt") as f:
        assert f.metadata() == {"format": "pt", "made by": "smelt ü"}, f.metadata()
        names = list(f.keys())
        for t, name in (("float64", "F64"), ("float32", "F32"), ("float16", "F16"), ("bfloat16", "BF16"), ("float8_e5m2", "F8_E5M2")):
            x = f.get_tensor("x." + name)
            assert x.dtype == getattr(torch, t) and x.float().flatten().tolist() == [0, 1, 2, 3, 4, 5], (name, x)
        assert f.get_tensor('ünï"\\\n😀').item() == 0
    print(path, "read by safetensors", safetensors.__version__, "with", len(names), "tensors")


if __name__ == "__main__":
    {"write": write, "check": check}[sys.argv[1]](pathlib.Path(sys.argv[2]))
