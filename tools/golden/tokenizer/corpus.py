"""A corpus of varied lines, from Unicode's tables and files that ship with Python. Same seed, same lines."""

import glob
import os
import random
import sysconfig
import unicodedata

SPECIALS = ["<|endoftext|>", "<|startoftext|>", "<s>", "</s>", "<unk>", "<pad>", "<extra_id_0>", "<extra_id_99>", "[INST]",
            "[/INST]", "<|im_start|>", "<|im_end|>", "<mask>", "[CLS]", "[SEP]", "[MASK]", "<0x0A>", "</w>", "[TOOL_CALLS]",
            "<|begin_of_text|>", "<|eot_id|>"]
WORDS = ("the of and don't I'll you're we've it's THEY'D I'M can't l'été naïve façade Zürich straße ΑΣ ΣΊΣΥΦΟΣ Привет мир "
         "שלום עולם مرحبا بالعالم नमस्ते दुनिया สวัสดี ชาวโลก 你好,世界 こんにちは世界 カタカナ ｶﾀｶﾅ 안녕하세요 각 한글 ẞ İstanbul ıI ﬁne ﬃ ½ ① ℡ ™ "
         "ǅ Ⅷ ㍿ 漢字仮名交じり文 e\u0301 a\u0300\u0316 q\u0307\u0323 1,234.56 3.14159 0xDEADBEEF 2024-01-31 12:34:56 foo_bar fooBar "
         "__init__ std::vector<int> a+=b; x->y {\"k\": [1, 2]} http://example.com/?q=1&r=2 user@host.tld C:\\path\\file #tag @me "
         "$9.99 100% (a) [b] «quoted» “curly” ‘single’ — – … • ¿qué? ¡no! 👍 👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪🇫🇷 👋🏽 🧑🏿‍🚀 ☃ ✈️ 1️⃣").split(" ")
SPACES = [" ", "  ", "   ", "\t", "\n", "\r\n", "\n\n", "\u00a0", "\u3000", "\u2003", "\u200b", "\u2028", "\x85", "\v", "\f",
          "\u1680", "▁", "▁▁", " ▁ ", "\u202f", "\ufeff", "\u200d", "\r"]


def assigned():
    """Code points by first letter of their category and by block of 256."""
    groups = {}
    for c in range(0x110000):
        if 0xD800 <= c <= 0xDFFF:
            continue
        category = unicodedata.category(chr(c))
        if category not in ("Cn", "Co"):
            groups.setdefault((c >> 8, category[0]), []).append(chr(c))
    return groups


def source_lines():
    """Lines of Python's own library and of its Unicode tests."""
    root = sysconfig.get_paths()["stdlib"]
    lines = []
    for path in sorted(glob.glob(os.path.join(root, "*.py")) + glob.glob(os.path.join(root, "json", "*.py")) +
                       glob.glob(os.path.join(root, "email", "*.py")) + glob.glob(os.path.join(root, "asyncio", "*.py"))):
        with open(path, "rb") as f:
            lines += f.read().split(b"\n")
    return lines


def corpus(count=12000, seed=20240819):
    """Returns count lines of bytes; some are not UTF-8."""
    rng = random.Random(seed)
    groups = list(assigned().values())
    source = source_lines()
    lines = [b"", b" ", b"\n", b"a", b"  ", "▁".encode(), b"\x00", b"\xff", b"'", "\u0301".encode(), b"\r\n"]

    def words(n):
        return "".join(rng.choice(WORDS) + (rng.choice(SPACES) if rng.random() < 0.3 else " ") for _ in range(n))

    def script(n):
        group = rng.choice(groups)
        return "".join(rng.choice(group) for _ in range(n))

    def soup(n):
        parts = []
        for _ in range(n):
            kind = rng.randrange(8)
            if kind == 0:
                parts.append(rng.choice(SPACES) * rng.randrange(1, 4))
            elif kind == 1:
                parts.append(script(rng.randrange(1, 6)))
            elif kind == 2:
                parts.append(rng.choice(SPECIALS))
            elif kind == 3:
                parts.append(chr(rng.randrange(0, 0x20)) if rng.random() < 0.5 else chr(rng.randrange(0x7F, 0xA0)))
            elif kind == 4:
                parts.append(str(rng.randrange(10 ** rng.randrange(1, 9))))
            elif kind == 5:
                parts.append("".join(rng.choice("!?.,;:'\"()[]{}<>/\\|-_=+*&^%$#@~`") for _ in range(rng.randrange(1, 5))))
            elif kind == 6:
                parts.append(chr(rng.choice([rng.randrange(0xD800), rng.randrange(0xE000, 0x110000)])) if rng.random() < .3
                             else chr(rng.randrange(0x300, 0x370)) * rng.randrange(1, 4))
            else:
                parts.append(rng.choice(WORDS))
        return "".join(parts)

    while len(lines) < count:
        kind = rng.randrange(10)
        if kind < 2:
            line = rng.choice(source)
        elif kind < 4:
            line = words(rng.randrange(1, 20)).encode()
        elif kind < 6:
            line = " ".join(script(rng.randrange(1, 10)) for _ in range(rng.randrange(1, 6))).encode()
        elif kind < 9:
            line = soup(rng.randrange(1, 16)).encode()
        else:
            broken = bytearray(soup(rng.randrange(2, 12)).encode())
            for _ in range(rng.randrange(1, 6)):
                at = rng.randrange(len(broken) + 1)
                if rng.random() < 0.5:
                    del broken[at:at + rng.randrange(1, 3)]
                else:
                    broken[at:at] = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 4)))
            line = bytes(broken)
        lines.append(line)
    lines += [(" " * n + "x" + "\t" * n).encode() for n in (1, 2, 3, 7, 8, 16, 31, 64, 200)]
    lines += [("e" + "\u0301" * n).encode() for n in (1, 29, 30, 31, 40, 100)]
    lines += [("ab" * n).encode() for n in (10, 60, 130, 500)] + [b"1" * n for n in (1, 2, 3, 4, 5, 7, 100)]
    return lines


def training(count=6000, seed=7):
    """Lines of words and source, for tokenizers that have to be trained."""
    rng = random.Random(seed)
    source = [line.decode("utf-8", "replace") for line in source_lines() if line.strip() and b"\0" not in line]
    return [rng.choice(source) if i % 2 else " ".join(rng.choice(WORDS) for _ in range(rng.randrange(3, 20)))
            for i in range(count)]
