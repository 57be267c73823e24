"""Trains the small tokenizers of the pools with the `tokenizers` package."""

import json

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CLIP_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def clip_vocabulary(texts: list, size: int) -> tuple:
    """CLIP's byte-pair encoding: 256 bytes, the same with </w>, merges, two special tokens.

    Returns the vocabulary (token → id) and the merges in order.
    """
    t = Tokenizer(models.BPE(end_of_word_suffix="</w>", continuing_subword_prefix=""))
    t.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(CLIP_PATTERN), behavior="removed", invert=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
    ])
    t.train_from_iterator(sorted(texts), trainers.BpeTrainer(vocab_size=size - 514, end_of_word_suffix="</w>", show_progress=False))
    import json

    learnt = json.loads(t.to_str())["model"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in learnt["merges"]]
    order = letters + [c + "</w>" for c in letters] + ["".join(m) for m in merges]
    order = list(dict.fromkeys(order)) + ["<|startoftext|>", "<|endoftext|>"]
    return {token: i for i, token in enumerate(order)}, merges


def letters_tokenizer(words: list) -> Tokenizer:
    """A Unigram tokenizer with T5's special tokens: every printable ASCII character, and the given words whole."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -4.0)]
    pieces += [(chr(c), -5.0) for c in range(33, 127)]
    pieces += [("\u2581" + w, -2.0) for w in sorted(set(words))]
    t = Tokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=False))
    t.pre_tokenizer = pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="always")
    t.decoder = decoders.Metaspace(replacement="\u2581", prepend_scheme="always")
    t.post_processor = processors.TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)])
    t.add_special_tokens(["<pad>", "</s>", "<unk>"])
    return t


QWEN2_PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def byte_level_tokenizer(texts: list, size: int, end: str) -> Tokenizer:
    """Qwen2's byte-pair encoding: NFC, its splitting pattern (digits stand alone), byte level."""
    t = Tokenizer(models.BPE())
    t.normalizer = normalizers.NFC()
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(QWEN2_PATTERN), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    t.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    t.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=size - 1, initial_alphabet=alphabet, show_progress=False))
    t.add_special_tokens([end])
    return t
