"""Writes the fixtures of the tokenizer package: small trained tokenizers and what the reference makes of sample lines.

usage: python fixture.py ../../../tokenizer/testdata
"""

import gzip
import json
import os
import random
import sys
import tempfile

import reference
from corpus import corpus, training
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer

SEED = 20240819
# A small character map: enough to show shortest keys, clusters and removals.
RULES = [("ﬁ", "fi"), ("ﬃ", "ffi"), ("½", "1/2"), ("\u00a0", " "), ("\u3000", " "), ("\t", " "), ("\n", " "), ("\r", " "),
         ("ｶ", "カ"), ("ｶﾞ", "ガ"), ("™", "TM"), ("\u200b", ""), ("e\u0301", "é"), ("①", "1"), ("Ⅷ", "VIII"), ("\ufeff", "")]


def write(out, name, data):
    data["recorded"] = {"versions": reference.versions(), "seed": SEED, "command": "python fixture.py ../../../tokenizer/testdata"}
    raw = json.dumps(data, ensure_ascii=True, separators=(",", ":")).encode()
    with open(os.path.join(out, name + ".json.gz"), "wb") as f:
        f.write(gzip.compress(raw, 9, mtime=0))


def case(files, functions, lines, pairs=None, **more):
    rows, _ = reference.answers(*functions, lines)
    return {"files": files, "lines": reference.encode_lines(lines), "rows": rows, "pairs": pairs or [], **more}


def fixed(t, lines):
    """A case of one tokenizer.json, with some pairs."""
    texts = [line.decode("utf-8", "replace") for line in lines[:20]]
    pairs = [{"a": a, "b": b, "ids": t.encode(a, b, add_special_tokens=True).ids} for a, b in zip(texts, texts[1:])]
    return case({"tokenizer.json": t.to_str()}, reference.backend(t), lines, pairs)


def letters(lines):
    """A model in which every cut shows: one token a character, another for the last one of a piece."""
    alphabet = sorted({c for line in lines[:150] for c in line.decode("utf-8", "replace")} | set("abcdefghijklmnopqrstuvwxyz ▁Ġ"))
    tokens = ["<unk>"] + alphabet + [c + "</w>" for c in alphabet]
    return models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=[], unk_token="<unk>", end_of_word_suffix="</w>")


def parts(lines):
    """One case for each normalizer, pre-tokenizer and decoder that the trained tokenizers do not use."""
    n, p, d = normalizers, pre_tokenizers, decoders
    behaviors = ["removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"]
    table = {
        "strip": (n.Strip(), p.Metaspace(prepend_scheme="first"), None),
        "strip-left": (n.Strip(right=False), p.Metaspace(prepend_scheme="first", split=False), d.BPEDecoder()),
        "accents": (n.Sequence([n.NFD(), n.StripAccents()]), p.Whitespace(), d.WordPiece("##", True)),
        "nfkc": (n.NFKC(), p.WhitespaceSplit(), d.Sequence([d.Replace("</w>", " "), d.Strip(" ", 1, 2)])),
        "nfkd": (n.NFKD(), p.Digits(individual_digits=True), d.Sequence([d.Fuse(), d.Strip("a", 2, 1)])),
        "nmt": (n.Nmt(), p.Digits(), d.Metaspace(prepend_scheme="never")),
        "bert": (n.BertNormalizer(strip_accents=False, lowercase=False), p.BertPreTokenizer(), d.WordPiece("##", False)),
        "replace": (n.Sequence([n.Replace(Regex("^ +"), ""), n.Replace("ab", "c"), n.Prepend("▁")]),
                    p.Metaspace(prepend_scheme="first"), d.Replace(Regex("[a-f]+"), "-")),
        "bytes": (n.ByteLevel(), None, d.ByteLevel()),
        "bytes-first": (None, p.Sequence([p.ByteLevel(add_prefix_space=True), p.Metaspace()]), d.ByteLevel()),
        "delimiter": (n.Lowercase(), p.CharDelimiterSplit("e"), d.ByteFallback()),
        "fixed": (None, p.FixedLength(3), d.Fuse()),
        "possessive": (None, p.Split(Regex(r"[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"),
                                     "isolated"), None),
        "nested": (None, p.Split(Regex(r" ?[^(\s|[.,!?…。，、।۔،])]+"), "isolated"), None),
        "classes": (None, p.Split(Regex(r"(?:[a-z&&[^aeiou]]+|\w{2,4}?|\d|(?i:STRASSE)|(?=x)y|(ab)*c|^\s|\S\b)"), "merged_with_previous"), None),
        "scripts": (None, p.Split(Regex(r"\p{Han}+|\p{Hiragana}+|\p{^L}+|\P{Lu}+?|\x{41}"), "removed"), None),
    }
    for b in behaviors:
        table["split-" + b] = (None, p.Split(Regex(r"\s+|[.,]"), b), None)
        table["punctuation-" + b] = (None, p.Punctuation(b), None)
    table["split-invert"] = (None, p.Split("a", "merged_with_next", invert=True), None)
    out = {}
    for name, (normalizer, pre, decoder) in table.items():
        t = Tokenizer(letters(lines))
        if normalizer is not None:
            t.normalizer = normalizer
        if pre is not None:
            t.pre_tokenizer = pre
        if decoder is not None:
            t.decoder = decoder
        out[name] = fixed(t, lines)
    return out


def clip_directory(t, lines):
    """A directory of vocab.json and merges.txt, as the image pool has it."""
    file = json.loads(t.to_str())
    token = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False, "special": True}
    files = {
        "vocab.json": json.dumps(file["model"]["vocab"]),
        "merges.txt": "#version: 0.2\n" + "".join(" ".join(m) + "\n" for m in file["model"]["merges"]),
        "special_tokens_map.json": json.dumps({"bos_token": "<|startoftext|>", "pad_token": "<|endoftext|>"}),
        "tokenizer_config.json": json.dumps({
            "tokenizer_class": "CLIPTokenizer", "model_max_length": 24, "bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>",
            "unk_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "clean_up_tokenization_spaces": True, "added_tokens_decoder": {
                "0": {"content": "<|startoftext|>", **token}, "1": {"content": "<|endoftext|>", **token, "normalized": False}}}),
    }
    return from_directory(files, lines)


def from_directory(files, lines):
    with tempfile.TemporaryDirectory() as work:
        for name, text in files.items():
            with open(os.path.join(work, name), "w", encoding="utf-8") as f:
                f.write(text)
        t = AutoTokenizer.from_pretrained(work)
    special = {key: t.convert_tokens_to_ids(value) for key, value in t.special_tokens_map.items() if isinstance(value, str)}
    some = [line.decode("utf-8", "replace") for line in lines[20:28]]
    batches = []
    for side, cut in (("right", "right"), ("left", "left")):
        if t.pad_token is not None:
            t.padding_side, t.truncation_side = side, cut
            got = t(some, padding=True, truncation=True, max_length=9)
            batches.append({"texts": some, "left": side == "left", "max": 9, "ids": got["input_ids"], "mask": got["attention_mask"]})
    return case(files, reference.directory(t), lines, special=special, size=len(t), batches=batches)


def main(out):
    os.makedirs(out, exist_ok=True)
    rng = random.Random(SEED)
    lines = corpus(12000, SEED)
    sample = [line for line in rng.sample(lines, 400) if len(line) < 160][:180] + lines[:11] + lines[-22:-12]
    short = [line for line in sample if len(line) < 80][:70] + lines[:11]
    text = training(2500)
    t = reference.train_bpe(text, 700)
    file = json.loads(t.to_str())["model"]
    model = file["vocab"], [tuple(m) for m in file["merges"]]
    clip = reference.train_clip(text, 800)
    llama = reference.train_llama(text, 900)
    v5 = json.loads(llama.to_str())
    v5["normalizer"] = None
    v5["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    with tempfile.TemporaryDirectory() as work:
        rules = os.path.join(work, "rules.tsv")
        with open(rules, "w", encoding="utf-8") as f:
            for a, b in RULES:
                f.write(" ".join("%X" % ord(c) for c in a) + "\t" + " ".join("%X" % ord(c) for c in b) + "\n")
        clean = [x for x in text if x.strip()]
        unigram = reference.unigram_file(reference.train_unigram(clean, work, 900, normalization_rule_tsv=rules))
        t5 = reference.t5_v5(os.path.join(work, "spm.model"))
        unigram_bytes = reference.unigram_file(reference.train_unigram(clean, work, 1000, True, normalization_rule_tsv=rules))
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(["<unk>"] + sorted({w for x in text[:60] for w in x.split()}))},
                                       unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.post_processor = processors.ByteLevel()
    for name, made in {"gpt2": t, "qwen2": reference.qwen2(model), "llama3": reference.llama3(model),
                       "o200k": reference.byte_level(model, reference.O200K), "roberta": reference.roberta(model), "clip": clip,
                       "llama": llama, "llama-v5": Tokenizer.from_str(json.dumps(v5)), "unigram": unigram, "t5": t5,
                       "unigram-bytes": unigram_bytes, "wordpiece": reference.train_wordpiece(text, 900), "words": words}.items():
        write(out, name, {"cases": {name: fixed(made, sample)}})
    write(out, "parts", {"cases": parts(short)})
    qwen = reference.qwen2(model)
    configured = {
        "tokenizer.json": qwen.to_str(),
        "tokenizer_config.json": json.dumps({
            "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 1000000000000000019884624838656, "eos_token": "<|im_end|>",
            "pad_token": {"__type": "AddedToken", "content": "<|pad|>", "lstrip": False, "rstrip": False, "normalized": False,
                          "single_word": False, "special": True},
            "additional_special_tokens": ["<|im_start|>", "<s>"], "unk_token": None, "add_bos_token": False,
            "added_tokens_decoder": {str(qwen.token_to_id("fooBar")): {
                "content": "fooBar", "lstrip": True, "rstrip": True, "normalized": False, "single_word": False, "special": True}}}),
    }
    legacy = {"tokenizer.json": t.to_str(), "tokenizer_config.json": json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}),
              "special_tokens_map.json": json.dumps({"eos_token": "<|endoftext|>", "pad_token": {
                  "content": "[PAD]", "lstrip": False, "rstrip": True, "normalized": False, "single_word": False}})}
    plain = {"vocab.json": json.dumps(model[0]), "merges.txt": "#version: 0.2\n" + "".join(" ".join(m) + "\n" for m in model[1])}
    gpt2 = {**plain, "tokenizer_config.json": json.dumps({"tokenizer_class": "GPT2Tokenizer", "add_bos_token": True,
                                                          "bos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"})}
    qwen2 = {**plain, "tokenizer_config.json": json.dumps({
        "tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
        "additional_special_tokens": ["<|im_start|>", "<|im_end|>"], "added_tokens_decoder": {
            str(len(model[0]) + i): {"content": x, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False,
                                     "special": True} for i, x in enumerate(["<|im_start|>", "<|im_end|>"])}})}
    write(out, "directories", {"cases": {"gpt2": from_directory(gpt2, short), "qwen2": from_directory(qwen2, short),
                                         "clip": clip_directory(clip, short), "configured": from_directory(configured, short),
                                         "legacy": from_directory(legacy, short)}})


if __name__ == "__main__":
    main(sys.argv[1])
