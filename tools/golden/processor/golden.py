"""Writes processor/testdata/golden.json.gz: what transformers makes of generated images.

usage: python golden.py ../../../processor/testdata
"""

import base64
import gzip
import hashlib
import io
import json
import os
import struct
import sys
import zlib

import numpy as np
import PIL
import transformers
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

SEED = 20240819
CLIP, VIT = CLIPImageProcessorPil, ViTImageProcessorPil
HALF = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
CONFIGS = {
    "pool": (CLIP, {"size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28}, **HALF}),
    "clip": (CLIP, {}),
    "clip-small": (CLIP, {"size": {"shortest_edge": 24}, "crop_size": {"height": 20, "width": 22}}),
    "wide-crop": (CLIP, {"size": {"shortest_edge": 16}, "crop_size": {"height": 33, "width": 18}}),
    "big-crop": (CLIP, {"size": {"shortest_edge": 10}, "crop_size": {"height": 31, "width": 40}}),
    "no-resize": (CLIP, {"do_resize": False, "crop_size": {"height": 25, "width": 30}}),
    "no-crop": (CLIP, {"do_center_crop": False, "size": {"shortest_edge": 21}}),
    "plain": (CLIP, {"size": {"shortest_edge": 20}, "do_center_crop": False, "do_normalize": False}),
    "raw": (CLIP, {"size": {"height": 9, "width": 14}, "do_center_crop": False, "do_normalize": False, "do_rescale": False}),
    "unscaled": (CLIP, {"size": {"shortest_edge": 12}, "do_center_crop": False, "do_rescale": False}),
    "longest": (CLIP, {"size": {"shortest_edge": 20, "longest_edge": 33}, "do_center_crop": False}),
    "vit": (VIT, {"do_convert_rgb": True}),
    "vit-small": (VIT, {"do_convert_rgb": True, "size": {"height": 30, "width": 26}}),
    "up": (CLIP, {"size": {"shortest_edge": 64}, "crop_size": {"height": 50, "width": 50}}),
    **{f"resample-{i}": (CLIP, {"resample": i, "size": {"height": 19, "width": 23}, "do_center_crop": False}) for i in range(6)},
    **{f"resample-up-{i}": (CLIP, {"resample": i, "size": {"shortest_edge": 47}, "do_center_crop": False}) for i in range(6)},
}


def picture(rng, height, width, channels):
    """Smooth colours with edges and some noise."""
    y, x = np.mgrid[0:height, 0:width]
    planes = []
    for _ in range(channels):
        a, b, c = rng.uniform(-4, 4, 3)
        wave = 127 + 120 * np.sin(a * x / max(width, 2) * 6 + b * y / max(height, 2) * 6 + c)
        wave[(x * 3 // max(width, 1) + y * 5 // max(height, 1)) % 4 == 0] *= rng.uniform(0, 1)
        planes.append(np.clip(wave + rng.integers(-9, 10, wave.shape), 0, 255))
    return np.stack(planes, -1).astype(np.uint8)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth, color, rows, extra=b""):
    """A PNG of a kind that Pillow does not write."""
    raw = b"".join(b"\0" + row for row in rows)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)) + extra +
            chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b""))


def save(image, kind="PNG", **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def images(rng):
    out = {}
    for width, height in [(28, 28), (32, 32), (40, 30), (30, 40), (17, 91), (1, 1), (1, 50), (50, 1), (100, 61), (5, 3), (150, 110)]:
        out[f"rgb-{width}x{height}.png"] = save(Image.fromarray(picture(rng, height, width, 3)))
    grey = Image.fromarray(picture(rng, 37, 45, 1)[..., 0])
    colour = Image.fromarray(picture(rng, 37, 45, 3))
    clear = Image.fromarray(picture(rng, 37, 45, 4), "RGBA")
    paletted = colour.quantize(50)
    out["grey.png"] = save(grey)
    out["grey-alpha.png"] = save(Image.fromarray(picture(rng, 37, 45, 2), "LA"))
    out["rgba.png"] = save(clear)
    out["palette.png"] = save(paletted)
    out["palette-clear.png"] = save(paletted, transparency=7)
    out["palette-alpha.png"] = save(paletted, transparency=bytes(range(0, 250, 5)))
    out["one-bit.png"] = save(grey.convert("1"))
    out["grey-key.png"] = save(grey, transparency=int(np.array(grey)[3, 3]))
    out["rgb-key.png"] = save(colour, transparency=tuple(int(v) for v in np.array(colour)[3, 3]))
    wide = rng.integers(0, 65536, (21, 25), dtype=np.uint16)
    wide[:10] //= 200
    out["grey-16.png"] = save(Image.fromarray(wide))
    deep = rng.integers(0, 65536, (21, 25, 4)).astype(">u2")
    out["rgb-16.png"] = png(25, 21, 16, 2, [row[:, :3].tobytes() for row in deep])
    out["rgba-16.png"] = png(25, 21, 16, 6, [row.tobytes() for row in deep])
    out["grey-2.png"] = png(24, 9, 2, 0, [rng.bytes(6) for _ in range(9)])
    out["grey-4.png"] = png(24, 9, 4, 0, [rng.bytes(12) for _ in range(9)])
    out["interlaced.png"] = save(colour, interlace=1)
    out["exif.png"] = save(colour, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0")
    out["gif.gif"] = save(paletted, "GIF")
    out["gif-clear.gif"] = save(paletted, "GIF", transparency=3)
    out["gif-frames.gif"] = save(paletted, "GIF", save_all=True, append_images=[paletted.rotate(180)])
    out["bmp.bmp"] = save(colour, "BMP")
    out["bmp-grey.bmp"] = save(grey, "BMP")
    out["bmp-palette.bmp"] = save(paletted, "BMP")
    out["webp-lossless.webp"] = save(colour, "WEBP", lossless=True)
    out["webp-alpha.webp"] = save(clear, "WEBP", lossless=True, exact=True)
    return out


def lossy(rng):
    image = Image.fromarray(picture(rng, 61, 83, 3))
    smooth = image.resize((160, 120), Image.BICUBIC)
    return {
        "jpeg-444.jpg": save(image, "JPEG", quality=92, subsampling=0), "jpeg-420.jpg": save(smooth, "JPEG", quality=90),
        "jpeg-422.jpg": save(smooth, "JPEG", quality=90, subsampling=1), "jpeg-grey.jpg": save(smooth.convert("L"), "JPEG", quality=90),
        "jpeg-progressive.jpg": save(smooth, "JPEG", quality=85, progressive=True),
        "jpeg-cmyk.jpg": save(smooth.convert("CMYK"), "JPEG", quality=92), "webp-lossy.webp": save(smooth, "WEBP", quality=90),
    }


def main(out):
    rng = np.random.default_rng(SEED)
    exact, rough = images(rng), lossy(rng)
    cases, configs = [], {}
    for name, (kind, options) in CONFIGS.items():
        processor = kind(**options)
        configs[name] = processor.to_json_string()
        for file, data in exact.items():
            if "x" not in file.split("-")[-1] and name not in ("pool", "clip-small", "raw", "vit-small"):
                continue
            if name in ("clip", "vit", "up") and "1x" in file:
                continue
            try:
                values = processor(Image.open(io.BytesIO(data)), return_tensors="np")["pixel_values"][0]
            except Exception as e:
                cases.append({"config": name, "image": file, "error": str(e)})
                continue
            values = values.astype(np.float32)
            cases.append({"config": name, "image": file, "shape": list(values.shape), "head": [float(v) for v in values.ravel()[:4]],
                          "sha256": hashlib.sha256(np.ascontiguousarray(values).astype("<f4").tobytes()).hexdigest()})
    decoded = {}
    for file, data in rough.items():
        image = Image.open(io.BytesIO(data)).convert("RGB")
        decoded[file] = {"size": list(image.size), "rgb": base64.b64encode(image.tobytes()).decode()}
    record = {"versions": {"transformers": transformers.__version__, "pillow": PIL.__version__, "numpy": np.__version__},
              "seed": SEED, "command": "python golden.py ../../../processor/testdata"}
    os.makedirs(out, exist_ok=True)
    raw = json.dumps({"recorded": record, "configs": configs, "cases": cases, "decoded": decoded,
                      "images": {k: base64.b64encode(v).decode() for k, v in {**exact, **rough}.items()}}).encode()
    with open(os.path.join(out, "golden.json.gz"), "wb") as f:
        f.write(gzip.compress(raw, 9, mtime=0))
    print(len(cases), sum("error" in c for c in cases))
    print([c for c in cases if "error" in c][:3])


if __name__ == "__main__":
    main(sys.argv[1])
