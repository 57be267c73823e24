"""Writes tokenizers, a corpus and the reference's answers to a folder, for the parity program.

usage: python parity.py FOLDER-WITH-VOCABULARIES CLIP-DIRECTORY OUT [LINES]
"""

import json
import os
import sys

import reference
from corpus import corpus, training
from transformers import CLIPTokenizer


def main(folder, clip_dir, out, count):
    lines = corpus(count)
    with open(os.path.join(out, "corpus.json"), "w") as f:
        json.dump(reference.encode_lines(lines), f)
    names = {}
    tokenizers = reference.real(folder, out)
    spm = reference.train_unigram(training(), out, 8000)
    tokenizers["t5"], tokenizers["t5-v5"] = reference.unigram_file(spm), reference.t5_v5(spm)
    spm = reference.train_unigram(training(), out, 4000, byte_fallback=True)
    tokenizers["unigram-bytes"] = reference.unigram_file(spm)
    tokenizers["wordpiece"] = reference.train_wordpiece(training(), 6000)
    for name, t in tokenizers.items():
        here = os.path.join(out, name)
        os.makedirs(here, exist_ok=True)
        t.save(os.path.join(here, "tokenizer.json"))
        names[name] = here, reference.backend(t), reference.fastest(t)
    names["pool"] = clip_dir, reference.directory(CLIPTokenizer.from_pretrained(clip_dir)), None
    cases = []
    for name, (here, (encode, decode), batch) in names.items():
        rows, seconds = reference.answers(encode, decode, lines, batch)
        with open(os.path.join(out, name + ".answers.json"), "w") as f:
            json.dump(rows, f)
        cases.append({"name": name, "dir": here, "answers": os.path.join(out, name + ".answers.json"), "seconds": seconds})
    with open(os.path.join(out, "cases.json"), "w") as f:
        json.dump({"versions": reference.versions(), "corpus": os.path.join(out, "corpus.json"), "cases": cases}, f)


if __name__ == "__main__":
    main(*sys.argv[1:4], int(sys.argv[4]) if len(sys.argv) > 4 else 12000)
