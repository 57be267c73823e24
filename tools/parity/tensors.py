"""safetensors in numpy, written from the format's description alone.

Arrays are read into float64 whatever their stored type, so that a check never
depends on the rounding of another library.
"""

import json
import os
import struct

import numpy as np

#: stored type -> (bytes per value, unit roundoff)
DTYPES = {"F64": (8, 2.0**-53), "F32": (4, 2.0**-24), "F16": (2, 2.0**-11), "BF16": (2, 2.0**-8 / 2)}


def coarser(a, b):
    """Returns the one of two stored types that keeps fewer bits of a number."""
    return a if DTYPES[a][1] >= DTYPES[b][1] else b


def encode(array, dtype):
    """Returns the bytes of array rounded to nearest, ties to even, in dtype."""
    if dtype == "F64":
        return np.ascontiguousarray(array, "<f8").tobytes()
    if dtype == "F16":
        return np.ascontiguousarray(array, "<f2").tobytes()
    single = np.ascontiguousarray(array, "<f4")
    if dtype == "F32":
        return single.tobytes()
    bits = single.view("<u4").astype(np.uint64)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return bits.astype("<u2").tobytes()


def decode(raw, dtype, shape):
    """Returns raw bytes of a stored type as a float64 array."""
    if dtype == "BF16":
        bits = np.frombuffer(raw, "<u2").astype("<u4") << 16
        return bits.view("<f4").astype(np.float64).reshape(shape)
    kind = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}[dtype]
    return np.frombuffer(raw, kind).astype(np.float64).reshape(shape)


def rounded(array, dtype):
    """Returns array rounded to dtype, again in float64."""
    return decode(encode(array, dtype), dtype, array.shape)


class Tensors:
    """The tensors of one file or of a sharded directory, read when asked for."""

    def __init__(self, paths):
        self.where = {}
        for path in paths:
            with open(path, "rb") as f:
                (size,) = struct.unpack("<Q", f.read(8))
                header = json.loads(f.read(size))
            for name, entry in header.items():
                if name != "__metadata__":
                    self.where[name] = (path, 8 + size, entry)

    @classmethod
    def of(cls, directory, stem="model"):
        """Opens stem.safetensors, or the shards that its index names."""
        index = os.path.join(directory, stem + ".safetensors.index.json")
        if os.path.exists(index):
            with open(index) as f:
                files = dict.fromkeys(json.load(f)["weight_map"].values())
            return cls([os.path.join(directory, name) for name in files])
        return cls([os.path.join(directory, stem + ".safetensors")])

    def __contains__(self, name):
        return name in self.where

    def __iter__(self):
        return iter(self.where)

    def dtype(self, name):
        return self.where[name][2]["dtype"]

    def shape(self, name):
        return tuple(self.where[name][2]["shape"])

    def raw(self, name):
        path, start, entry = self.where[name]
        begin, end = entry["data_offsets"]
        with open(path, "rb") as f:
            f.seek(start + begin)
            return f.read(end - begin)

    def get(self, name):
        """Returns the tensor in float64."""
        return decode(self.raw(name), self.dtype(name), self.shape(name))


def write(path, tensors):
    """Writes {name: (raw bytes, dtype, shape)} in the given order."""
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, (raw, dtype, shape) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + len(raw)]}
        offset += len(raw)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)))
        f.write(text)
        for raw, _, _ in tensors.values():
            f.write(raw)
