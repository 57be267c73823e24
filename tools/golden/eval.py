"""Golden fixtures of package eval: the same pictures in every form that data comes in, and metrics from the peers.

parquet is written by datasets (images embedded, labels as ClassLabel) and by pyarrow (lists, nested fields, several row
groups); F1 is torchmetrics' SQuAD; Wilson's interval scipy's; the corruptions' blur scipy's gaussian_filter.

    python tools/golden/eval.py
"""

import gzip
import io
import json
import pathlib
import shutil
import struct
from importlib.metadata import version

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from scipy.ndimage import gaussian_filter1d
from scipy.stats import binomtest
from torchmetrics.text import SQuAD

OUT = pathlib.Path(__file__).resolve().parents[2] / "eval/testdata"
SEED = 20241124
CLASSES = ["red", "green", "blue"]


def pictures():
    """Twelve 8×6 pictures, four a class: noise with one channel raised."""
    rng = np.random.default_rng(SEED)
    labels = np.arange(12, dtype=np.uint8) % 3
    x = rng.integers(0, 120, (12, 6, 8, 3), dtype=np.uint8)
    for i, c in enumerate(labels):
        x[i, :, :, c] += 120
    return x, labels


def png(x) -> bytes:
    b = io.BytesIO()
    Image.fromarray(x).save(b, "png")
    return b.getvalue()


def idx(x) -> bytes:
    return bytes([0, 0, 8, x.ndim]) + struct.pack(f">{x.ndim}I", *x.shape) + x.tobytes()


def images(x, labels):
    (OUT / "images.idx").write_bytes(idx(x))
    (OUT / "labels.idx").write_bytes(idx(labels))
    for name, a in (("images", x), ("labels", labels), ("grey", x[..., 0])):
        (OUT / f"{name}.idx.gz").write_bytes(gzip.compress(idx(a), mtime=0))
    for i, c in enumerate(labels):
        p = OUT / "folder/test" / CLASSES[c] / f"{i:02d}.png"
        p.parent.mkdir(parents=True, exist_ok=True)
        p.write_bytes(png(x[i]))
    rows = [(f"folder/test/{CLASSES[c]}/{i:02d}.png", int(c)) for i, c in enumerate(labels)]
    (OUT / "images.csv").write_text("image,label\n" + "".join(f"{p},{c}\n" for p, c in rows))
    (OUT / "images.jsonl").write_text("".join(json.dumps({"image": p, "label": CLASSES[c]}) + "\n" for p, c in rows))
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=CLASSES)})
    hub = OUT / "hub/data"
    hub.mkdir(parents=True)
    for k, part in enumerate((range(7), range(7, 12))):
        d = datasets.Dataset.from_dict({"image": [{"bytes": png(x[i]), "path": None} for i in part], "label": [int(labels[i]) for i in part]}, features=features)
        d.to_parquet(hub / f"test-{k:05d}-of-00002.parquet")
    (hub / "train-00000-of-00001.parquet").write_bytes((hub / "test-00000-of-00002.parquet").read_bytes())


def texts():
    rows = [
        {"id": i, "text": t, "nested": {"a": t[:2], "b": None}, "choices": c, "scores": [0.5 * i], "label": i % 2, "ok": i == 1}
        for i, (t, c) in enumerate([("one", ["x", "y"]), ("zwölf", ["p", "q", "r"]), ("three words here", []), ("", None), ("five", ["only"])])
    ]
    pq.write_table(pa.Table.from_pylist(rows), OUT / "rows.parquet", row_group_size=2, compression="zstd")
    (OUT / "rows.jsonl.gz").write_bytes(gzip.compress("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows).encode(), mtime=0))
    return rows


def metrics():
    pairs = [("the cat sat", "a cat"), ("An apple!", "apple"), ("x", ""), ("a b b c", "b b d"), ("Paris, France", "paris"), ("über Ähre", "Über ähre"), ("42", "42.")]
    f1 = []
    for got, want in pairs:
        s = SQuAD()({"prediction_text": got, "id": "0"}, {"answers": {"answer_start": [0], "text": [want]}, "id": "0"})
        f1.append({"got": got, "want": want, "f1": s["f1"].item() / 100})
    wilson = []
    for k, n in [(0, 10), (10, 10), (230, 240), (1, 3), (5000, 10000), (617, 1000)]:
        c = binomtest(k, n).proportion_ci(0.95, method="wilson")
        wilson.append({"right": k, "n": n, "low": float(c.low), "high": float(c.high)})
    return f1, wilson


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    x, labels = pictures()
    images(x, labels)
    rows = texts()
    f1, wilson = metrics()
    y = x[0].astype(float)
    for axis in (1, 0):
        y = gaussian_filter1d(y, 0.7 * 6 / 32, axis=axis, mode="nearest", truncate=8)
    golden = {
        "versions": {p: version(p) for p in ("datasets", "pyarrow", "pillow", "numpy", "scipy", "torchmetrics")},
        "seed": SEED, "command": "python tools/golden/eval.py",
        "pixels": x.reshape(12, -1).tolist(), "labels": labels.tolist(), "classes": CLASSES,
        "blur": np.rint(y).astype(int).reshape(-1).tolist(), "rows": rows, "f1": f1, "wilson": wilson,
    }
    (OUT / "golden.json").write_text(json.dumps(golden, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
