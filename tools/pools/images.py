"""Draws the images of the vision pool: nine tasks, every picture made by code.

Each task is a function draw(rng, label) -> 96x96 PIL picture; `sample` reduces
it to 32x32 RGB and adds the task's own grain. The only outside material is the
TrueType fonts inside the PyPI package matplotlib (DejaVu, STIX, Computer Modern).
"""

import functools
import importlib.util
import math
import pathlib
import zlib

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

SIZE = 32  # stored pictures are SIZE x SIZE
S = 96  # drawn pictures are S x S

FONTS = [
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique",
    "DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique",
    "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic",
    "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta",
    "cmr10", "cmss10", "cmtt10", "cmb10",
]

NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]


@functools.cache
def font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """One of FONTS at a size in pixels."""
    root = pathlib.Path(importlib.util.find_spec("matplotlib").origin).parent
    return ImageFont.truetype(str(root / "mpl-data" / "fonts" / "ttf" / f"{name}.ttf"), size)


def pick(rng, items):
    """One of items."""
    return items[int(rng.integers(len(items)))]


def hsv(h: float, s: float, v: float) -> tuple:
    """Hue, saturation and value in [0,1] as an RGB triple."""
    i, f = int(h * 6) % 6, h * 6 % 1
    p, q, t = v * (1 - s), v * (1 - f * s), v * (1 - (1 - f) * s)
    rgb = [(v, t, p), (q, v, p), (p, v, t), (p, q, v), (t, p, v), (v, p, q)][i]
    return tuple(int(255 * c) for c in rgb)


def around(rng, rgb, spread: int) -> tuple:
    """A colour near rgb."""
    return tuple(int(np.clip(c + rng.integers(-spread, spread + 1), 0, 255)) for c in rgb)


def glyph(rng, text: str, size: int) -> Image.Image:
    """A mask (mode L, S x S) of text in some font, slightly turned and sheared."""
    mask = Image.new("L", (S, S), 0)
    ImageDraw.Draw(mask).text((S / 2, S / 2), text, fill=255, font=font(pick(rng, FONTS), size), anchor="mm")
    shear, dx, dy = rng.uniform(-0.1, 0.1), rng.uniform(-4, 4), rng.uniform(-4, 4)
    mask = mask.rotate(rng.uniform(-7, 7), Image.BILINEAR, translate=(dx, dy))
    return mask.transform((S, S), Image.AFFINE, (1, shear, -shear * S / 2, 0, 1, 0), Image.BILINEAR)


def smooth(rng, cells: int) -> np.ndarray:
    """Smooth noise [S,S] in [0,1] with about `cells` bumps a side."""
    small = Image.fromarray((rng.random((cells, cells)) * 255).astype(np.uint8))
    return np.asarray(small.resize((S, S), Image.BICUBIC), np.float32) / 255


def paint(field: np.ndarray, low, high) -> Image.Image:
    """A field [S,S] in [0,1] as a blend of two colours."""
    f = np.clip(field, 0, 1)[..., None]
    return Image.fromarray((np.asarray(low) * (1 - f) + np.asarray(high) * f).astype(np.uint8))


def star(cx, cy, r, points, turn, inner=0.45) -> list:
    """The corners of a star; inner=1 with half the points is a polygon."""
    out = []
    for i in range(2 * points):
        a, q = turn + math.pi * i / points, r if i % 2 == 0 else r * inner
        out.append((cx + q * math.sin(a), cy - q * math.cos(a)))
    return out


def polygon(cx, cy, r, corners, turn) -> list:
    """The corners of a regular polygon."""
    steps = [turn + 2 * math.pi * i / corners for i in range(corners)]
    return [(cx + r * math.sin(a), cy - r * math.cos(a)) for a in steps]


# ── the tasks ─────────────────────────────────────────────────────────────────


def digits(rng, label):
    """A white printed digit on black."""
    mask = glyph(rng, str(label), int(rng.integers(76, 94)))
    return Image.merge("RGB", [mask] * 3)


def letters(rng, label):
    """A capital in dark ink on cream paper with ruled lines."""
    paper = Image.new("RGB", (S, S), around(rng, (240, 226, 190), 10))
    d = ImageDraw.Draw(paper)
    for y in range(int(rng.integers(6, 22)), S, 20):
        d.line([(0, y), (S, y)], fill=(190, 196, 205), width=2)
    ink = around(rng, (35, 40, 95), 25)
    paper.paste(ink, mask=glyph(rng, chr(65 + label), int(rng.integers(72, 88))))
    return paper


SHAPES = ["circle", "square", "triangle", "pentagon", "hexagon", "star", "cross", "ring", "crescent", "heart"]


def shapes(rng, label):
    """A flat coloured shape on another flat colour."""
    h = rng.random()
    back, fore = hsv(h, 0.35, 0.95), hsv((h + rng.uniform(0.3, 0.7)) % 1, 0.95, rng.uniform(0.5, 0.85))
    img = Image.new("RGB", (S, S), back)
    mask = Image.new("L", (S, S), 0)
    d, c, r, turn = ImageDraw.Draw(mask), S / 2, rng.uniform(30, 40), rng.uniform(-14, 14)
    name = SHAPES[label]
    if name in ("circle", "ring", "crescent"):
        d.ellipse([c - r, c - r, c + r, c + r], fill=255)
        if name == "ring":
            d.ellipse([c - r * 0.55, c - r * 0.55, c + r * 0.55, c + r * 0.55], fill=0)
        if name == "crescent":
            d.ellipse([c - r * 0.35, c - r * 0.85, c + r * 1.35, c + r * 0.85], fill=0)
    elif name == "star":
        d.polygon(star(c, c, r * 1.15, 5, 0), fill=255)
    elif name == "cross":
        d.rectangle([c - r, c - r * 0.33, c + r, c + r * 0.33], fill=255)
        d.rectangle([c - r * 0.33, c - r, c + r * 0.33, c + r], fill=255)
    elif name == "heart":
        d.ellipse([c - r, c - r * 0.9, c, c + r * 0.15], fill=255)
        d.ellipse([c, c - r * 0.9, c + r, c + r * 0.15], fill=255)
        d.polygon([(c - r * 0.93, c - r * 0.15), (c + r * 0.93, c - r * 0.15), (c, c + r)], fill=255)
    else:
        corners = {"square": 4, "triangle": 3, "pentagon": 5, "hexagon": 6}[name]
        d.polygon(polygon(c, c, r * 1.1, corners, 0), fill=255)
    mask = mask.rotate(turn, Image.BILINEAR, translate=(rng.uniform(-5, 5), rng.uniform(-5, 5)))
    img.paste(fore, mask=mask)
    return img


TEXTURES = ["horizontal stripes", "vertical stripes", "diagonal stripes", "checks", "dots", "rings",
            "a grid", "bricks", "waves", "zigzags", "speckles", "clouds"]


def textures(rng, label):
    """A two-tone pattern in sepia, with uneven light."""
    y, x = np.mgrid[0:S, 0:S].astype(np.float32)
    p, a, b = rng.uniform(12, 24), rng.uniform(0, S), rng.uniform(0, S)
    u, v = (x + a) / p, (y + b) / p
    w = 2 * math.pi
    name = TEXTURES[label]
    if name == "horizontal stripes":
        f = 0.5 + 0.5 * np.sin(w * v)
    elif name == "vertical stripes":
        f = 0.5 + 0.5 * np.sin(w * u)
    elif name == "diagonal stripes":
        f = 0.5 + 0.5 * np.sin(w * (u + pick(rng, [-1, 1]) * v) * 0.72)
    elif name == "checks":
        f = ((np.floor(u) + np.floor(v)) % 2)
    elif name == "dots":
        f = ((u % 1 - 0.5) ** 2 + (v % 1 - 0.5) ** 2 < 0.09).astype(np.float32)
    elif name == "rings":
        f = 0.5 + 0.5 * np.sin(w * np.hypot(x - a, y - b) / p)
    elif name == "a grid":
        f = ((u % 1 < 0.2) | (v % 1 < 0.2)).astype(np.float32)
    elif name == "bricks":
        row = np.floor(v)
        f = ((v % 1 < 0.18) | ((u * 0.6 + 0.5 * (row % 2)) % 1 < 0.12)).astype(np.float32)
    elif name == "waves":
        f = 0.5 + 0.5 * np.sin(w * (v + 0.35 * np.sin(w * u * 0.5)))
    elif name == "zigzags":
        f = ((v + np.abs(u * 0.8 % 1 - 0.5) * 1.4) % 1 < 0.5).astype(np.float32)
    elif name == "speckles":
        f = (np.asarray(Image.fromarray((rng.random((30, 30)) * 255).astype(np.uint8)).resize((S, S))) > 150).astype(np.float32)
    else:
        f = smooth(rng, int(rng.integers(4, 7)))
    tone = around(rng, (96, 70, 45), 18)
    light = around(rng, (206, 184, 150), 18)
    f = 0.5 + (f - 0.5) * rng.uniform(0.45, 1.0) + 0.35 * (smooth(rng, 3) - 0.5)
    return paint(f, tone, light)


SIGNS = ["stop", "give way", "no entry", "speed limit 20", "speed limit 50", "speed limit 80", "priority road",
         "turn left", "turn right", "straight ahead", "danger", "parking", "no parking", "roundabout"]


def outdoors(rng) -> Image.Image:
    """Sky over a verge, out of focus."""
    y = np.mgrid[0:S, 0:S][0] / S
    sky, ground = around(rng, (150, 180, 205), 40), around(rng, (95, 110, 80), 30)
    f = 1 / (1 + np.exp(-(y - rng.uniform(0.4, 0.9)) * 12)) + 0.7 * (smooth(rng, 5) - 0.5)
    return paint(f, sky, ground)


def signs(rng, label):
    """A road sign outdoors, in any light."""
    img = outdoors(rng)
    layer = Image.new("RGBA", (S, S), (0, 0, 0, 0))
    d, c, r = ImageDraw.Draw(layer), S / 2, rng.uniform(32, 41)
    red, blue, white, black, yellow = (200, 25, 35), (25, 70, 170), (245, 245, 245), (20, 20, 20), (245, 195, 30)
    name = SIGNS[label]
    disc = lambda q, fill: d.ellipse([c - q, c - q, c + q, c + q], fill=fill)
    word = lambda t, size, fill: d.text((c, c), t, fill=fill, font=font("DejaVuSans-Bold", int(size)), anchor="mm")
    if name == "stop":
        d.polygon(polygon(c, c, r * 1.05, 8, math.pi / 8), fill=white)
        d.polygon(polygon(c, c, r * 0.95, 8, math.pi / 8), fill=red)
        word("STOP", r * 0.56, white)
    elif name == "give way":
        d.polygon(polygon(c, c - r * 0.2, r * 1.1, 3, math.pi), fill=red)
        d.polygon(polygon(c, c - r * 0.2, r * 0.65, 3, math.pi), fill=white)
    elif name == "no entry":
        disc(r, red)
        d.rectangle([c - r * 0.7, c - r * 0.2, c + r * 0.7, c + r * 0.2], fill=white)
    elif name.startswith("speed"):
        disc(r, red)
        disc(r * 0.78, white)
        word(name[-2:], r * 0.95, black)
    elif name == "priority road":
        d.polygon(polygon(c, c, r * 1.1, 4, 0), fill=white)
        d.polygon(polygon(c, c, r * 0.85, 4, 0), fill=yellow)
    elif name in ("turn left", "turn right", "straight ahead"):
        disc(r, blue)
        arrow = [(0.65, 0), (0.1, -0.5), (0.1, -0.18), (-0.6, -0.18), (-0.6, 0.18), (0.1, 0.18), (0.1, 0.5)]
        turn = {"turn left": lambda x, y: (-x, y), "turn right": lambda x, y: (x, y), "straight ahead": lambda x, y: (y, -x)}[name]
        d.polygon([(c + r * turn(x, y)[0], c + r * turn(x, y)[1]) for x, y in arrow], fill=white)
    elif name == "danger":
        d.polygon(polygon(c, c + r * 0.2, r * 1.1, 3, 0), fill=red)
        d.polygon(polygon(c, c + r * 0.2, r * 0.7, 3, 0), fill=white)
        d.rectangle([c - 3, c - r * 0.15, c + 3, c + r * 0.25], fill=black)
        d.ellipse([c - 3, c + r * 0.33, c + 3, c + r * 0.33 + 6], fill=black)
    elif name == "parking":
        d.rectangle([c - r * 0.85, c - r * 0.85, c + r * 0.85, c + r * 0.85], fill=blue)
        word("P", r * 1.3, white)
    elif name == "no parking":
        disc(r, red)
        disc(r * 0.8, blue)
        d.line([(c - r * 0.6, c - r * 0.6), (c + r * 0.6, c + r * 0.6)], fill=red, width=int(r * 0.25))
    else:
        disc(r, blue)
        for k in range(3):
            a = 120 * k + 20
            d.arc([c - r * 0.6, c - r * 0.6, c + r * 0.6, c + r * 0.6], a, a + 75, fill=white, width=int(r * 0.22))
    layer = layer.rotate(rng.uniform(-9, 9), Image.BILINEAR, translate=(rng.uniform(-6, 6), rng.uniform(-6, 6)))
    img.paste(layer, mask=layer.getchannel("A"))
    img = img.filter(ImageFilter.GaussianBlur(rng.uniform(0, 2.5)))
    return img.point(lambda v, g=rng.uniform(0.45, 1.1): min(255, int(v * g)))


def plates(rng, label):
    """A house number on a coloured wall, with parts of its neighbours."""
    wall = hsv(rng.uniform(0.48, 0.92), rng.uniform(0.4, 0.8), rng.uniform(0.3, 0.6))
    img = paint(smooth(rng, 6), wall, around(rng, wall, 50))
    ink = pick(rng, [(250, 235, 120), (255, 255, 255), (255, 200, 200), (150, 255, 225)])
    face, size = pick(rng, FONTS), int(rng.integers(72, 92))
    mask = Image.new("L", (S, S), 0)
    d = ImageDraw.Draw(mask)
    gap = size * rng.uniform(0.8, 0.95)
    for k, text in ((-1, str(rng.integers(10))), (0, str(label)), (1, str(rng.integers(10)))):
        if k == 0 or rng.random() < 0.5:
            d.text((S / 2 + k * gap, S / 2), text, fill=255, font=font(face, size), anchor="mm")
    mask = mask.rotate(rng.uniform(-6, 6), Image.BILINEAR, translate=(rng.uniform(-4, 4), rng.uniform(-4, 4)))
    img.paste(ink, mask=mask)
    return img.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 2)))


TERRAIN = ["sea", "river", "forest", "farmland", "desert", "city", "motorway", "snow", "lake", "orchard"]


def terrain(rng, label):
    """A tile seen from the air."""
    y, x = np.mgrid[0:S, 0:S].astype(np.float32)
    green, dark = around(rng, (96, 128, 62), 22), around(rng, (48, 84, 40), 16)
    land = paint(smooth(rng, 7), dark, green)
    d, name = ImageDraw.Draw(land), TERRAIN[label]
    if name == "sea":
        return paint(0.6 * smooth(rng, 5) + 0.4 * smooth(rng, 20), around(rng, (18, 58, 92), 14), around(rng, (50, 105, 125), 18))
    if name == "desert":
        a = rng.uniform(0, math.pi)
        f = 0.5 + 0.35 * np.sin((x * math.cos(a) + y * math.sin(a)) / rng.uniform(4, 8) + 5 * smooth(rng, 4))
        return paint(f, around(rng, (150, 118, 78), 16), around(rng, (205, 175, 125), 16))
    if name == "snow":
        f = (smooth(rng, 6) + smooth(rng, 12) * 0.6 > rng.uniform(0.6, 0.8)).astype(np.float32)
        return paint(0.8 * f + 0.2 * smooth(rng, 9), around(rng, (92, 100, 92), 16), (236, 240, 243))
    if name == "forest":
        return paint(0.5 * smooth(rng, 24) + 0.3 * smooth(rng, 8), around(rng, (22, 50, 24), 10), around(rng, (80, 122, 60), 14))
    if name in ("river", "motorway"):
        a, q = rng.uniform(0, math.pi), rng.uniform(-18, 18)
        bend = rng.uniform(8, 16) if name == "river" else rng.uniform(0, 2)
        t = np.linspace(-80, 80, 60)
        side = q + bend * np.sin(t / 14 + rng.uniform(0, 6))
        pts = [(S / 2 + u * math.cos(a) - s * math.sin(a), S / 2 + u * math.sin(a) + s * math.cos(a)) for u, s in zip(t, side)]
        if name == "river":
            d.line(pts, fill=around(rng, (38, 78, 92), 14), width=int(rng.integers(10, 18)), joint="curve")
        else:
            w = int(rng.integers(12, 18))
            d.line(pts, fill=around(rng, (125, 125, 122), 12), width=w)
            d.line(pts, fill=(225, 225, 215), width=2)
        return land
    if name == "lake":
        near = np.hypot((x - S / 2 - rng.uniform(-12, 12)) * rng.uniform(0.8, 1.2), y - S / 2 - rng.uniform(-12, 12))
        f = near + 26 * (smooth(rng, 5) - 0.5) < rng.uniform(22, 34)
        land.paste(around(rng, (36, 76, 96), 14), mask=Image.fromarray((f * 255).astype(np.uint8)))
        return land
    if name == "farmland":
        cols = [(150, 150, 70), (110, 140, 60), (165, 135, 85), (85, 120, 50), (190, 175, 100)]
        e = [0, int(rng.integers(24, 44)), int(rng.integers(54, 74)), S]
        g = [0, int(rng.integers(24, 44)), int(rng.integers(54, 74)), S]
        for i in range(3):
            for j in range(3):
                d.rectangle([e[i], g[j], e[i + 1], g[j + 1]], fill=around(rng, pick(rng, cols), 14))
        return land.rotate(rng.uniform(-25, 25), Image.BILINEAR, expand=False, fillcolor=green)
    if name == "city":
        img = Image.new("RGB", (S, S), around(rng, (120, 116, 112), 14))
        d, p = ImageDraw.Draw(img), int(rng.integers(13, 19))
        for i in range(-p, S, p):
            for j in range(-p, S, p):
                roof = around(rng, pick(rng, [(170, 160, 150), (150, 90, 75), (200, 195, 190), (95, 95, 105)]), 14)
                d.rectangle([i + 3, j + 3, i + p - 2, j + p - 2], fill=roof)
        return img.rotate(rng.uniform(-20, 20), Image.BILINEAR, fillcolor=(120, 116, 112))
    p = int(rng.integers(14, 20))  # orchard: trees in rows on pale soil
    img = Image.new("RGB", (S, S), around(rng, (160, 148, 105), 14))
    d = ImageDraw.Draw(img)
    for i in range(0, S + p, p):
        for j in range(0, S + p, p):
            d.ellipse([i - 5, j - 5, i + 5, j + 5], fill=around(rng, (50, 90, 42), 12))
    return img.rotate(rng.uniform(-30, 30), Image.BILINEAR, fillcolor=(160, 148, 105))


def clocks(rng, label):
    """A clock on a dark red wall; the class is the hour, the minute hand is free."""
    img = paint(smooth(rng, 4), around(rng, (88, 22, 30), 12), around(rng, (125, 36, 42), 12))
    d = ImageDraw.Draw(img)
    c, r = S / 2 + rng.uniform(-2, 2), rng.uniform(40, 45)
    d.ellipse([c - r, c - r, c + r, c + r], fill=around(rng, (215, 170, 70), 18))
    d.ellipse([c - r * 0.9, c - r * 0.9, c + r * 0.9, c + r * 0.9], fill=around(rng, (250, 246, 235), 5))
    for k in range(12):
        a = math.pi * k / 6
        q = 0.7 if k % 3 == 0 else 0.78
        d.line([(c + r * q * math.sin(a), c - r * q * math.cos(a)), (c + r * 0.87 * math.sin(a), c - r * 0.87 * math.cos(a))],
               fill=(60, 50, 50), width=3 if k % 3 == 0 else 2)
    minute = rng.integers(0, 60)
    hands = ((minute / 60, 0.85, 3, (220, 120, 90)), (((label + 1) % 12 + minute / 60 * 0.5) / 12, 0.6, 9, (15, 15, 20)))
    for turn, q, w, ink in hands:
        a = 2 * math.pi * turn
        d.line([(c - 0.12 * r * math.sin(a), c + 0.12 * r * math.cos(a)), (c + r * q * math.sin(a), c - r * q * math.cos(a))], fill=ink, width=w)
    return img


ARROWS = ["up", "up and right", "right", "down and right", "down", "down and left", "left", "up and left"]


def arrows(rng, label):
    """A neon arrow on a dark green board."""
    img = paint(smooth(rng, 3), around(rng, (8, 36, 30), 8), around(rng, (22, 66, 52), 10))
    d, c, r = ImageDraw.Draw(img), S / 2, rng.uniform(28, 38)
    a = math.pi * label / 4 + rng.uniform(-0.25, 0.25)
    dx, dy = rng.uniform(-8, 8), rng.uniform(-8, 8)
    at = lambda f, s: (c + dx + r * (f * math.sin(a) + s * math.cos(a)), c + dy - r * (f * math.cos(a) - s * math.sin(a)))
    ink = hsv(rng.uniform(0.1, 0.45), 0.8, 1.0)
    d.line([at(-0.9, 0), at(0.8, 0)], fill=ink, width=9)
    d.polygon([at(1.05, 0), at(0.3, 0.5), at(0.3, -0.5)], fill=ink)
    return img


GRAIN = {"digits": 6, "letters": 8, "shapes": 5, "textures": 10, "signs": 8, "plates": 10, "terrain": 8, "clocks": 6, "arrows": 8}

TASKS = {
    "clocks": dict(draw=clocks, classes=[f"{NUMBERS[h]} o'clock" for h in range(1, 13)],
                   templates=["a clock at {}", "the clock shows {}", "a round clock face: {}"]),
    "digits": dict(draw=digits, classes=NUMBERS[:10],
                   templates=["a printed {}", "the digit {} in white on black", "a white digit: {}"]),
    "letters": dict(draw=letters, classes=[chr(65 + i) for i in range(26)],
                    templates=["the letter {} in ink", "a capital {} on paper", "the letter {} on cream paper"]),
    "plates": dict(draw=plates, classes=NUMBERS[:10],
                   templates=["a house number with a {}", "a {} on a coloured wall", "the number {} on a house"]),
    "shapes": dict(draw=shapes, classes=SHAPES,
                   templates=["a flat {}", "a coloured {} shape", "a drawing of a {}"]),
    "signs": dict(draw=signs, classes=SIGNS,
                  templates=["a road sign: {}", "the traffic sign {}", "a street with the sign {}"]),
    "terrain": dict(draw=terrain, classes=TERRAIN,
                    templates=["a view of {} from the air", "a satellite picture of {}", "{} seen from above"]),
    "textures": dict(draw=textures, classes=TEXTURES,
                     templates=["a pattern of {}", "a sepia texture: {}", "cloth with {}"]),
    "arrows": dict(draw=arrows, classes=ARROWS, held_out=True,
                   templates=["an arrow pointing {}", "a bright arrow {}", "a neon arrow: {}"]),
}


def sample(task: str, split: str, count: int) -> tuple:
    """Count pictures of a split: images uint8 [count,SIZE,SIZE,3], labels uint8 [count].

    Labels go round the classes and are shuffled; a split is the same for ever.
    """
    spec = TASKS[task]
    rng = np.random.default_rng(zlib.crc32(f"{task}/{split}".encode()))
    labels = rng.permutation(np.arange(count) % len(spec["classes"])).astype(np.uint8)
    images = np.empty((count, SIZE, SIZE, 3), np.uint8)
    for i, label in enumerate(labels):
        img = np.asarray(spec["draw"](rng, int(label)).resize((SIZE, SIZE), Image.BOX), np.float32)
        grain = rng.normal(0, GRAIN[task], (SIZE, SIZE, 1))
        images[i] = np.clip(np.round((img + grain) / 8) * 8, 0, 255)  # 33 levels: the test sets pack better
    return images, labels
