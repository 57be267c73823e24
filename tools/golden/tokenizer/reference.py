"""Tokenizers to compare with, as the reference builds them, and what it makes of a corpus.

Real vocabularies come from a folder given on the command line and go to a
temporary one; nothing of them is kept in the repository.
"""

import base64
import gzip
import json
import os
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"

import sentencepiece  # noqa: E402
import tokenizers  # noqa: E402
import transformers  # noqa: E402
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers  # noqa: E402

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
CLIP = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def versions():
    return {"tokenizers": tokenizers.__version__, "transformers": transformers.__version__,
            "sentencepiece": sentencepiece.__version__}


def byte_level(model, pattern, ignore_merges=False):
    """The scheme of Qwen2, Llama 3 and GPT-4o around a byte-level model."""
    t = Tokenizer(models.BPE(vocab=model[0], merges=model[1], ignore_merges=ignore_merges))
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"),
                                               pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    return t


def qwen2(model):
    t = byte_level(model, QWEN2)
    t.normalizer = normalizers.NFC()
    t.add_special_tokens([AddedToken("<|im_start|>", normalized=False), AddedToken("<|im_end|>", normalized=False)])
    t.add_tokens([AddedToken("<tool_call>", normalized=False), AddedToken("fooBar", single_word=True),
                  AddedToken("[MASK]", lstrip=True), AddedToken("<mask>", rstrip=True, normalized=True)])
    return t


def llama3(model):
    t = byte_level(model, LLAMA3, ignore_merges=True)
    t.add_special_tokens([AddedToken("<|begin_of_text|>", normalized=False), AddedToken("<|eot_id|>", normalized=False)])
    t.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=True),
        processors.TemplateProcessing(single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A <|begin_of_text|> $B",
                                      special_tokens=[("<|begin_of_text|>", t.token_to_id("<|begin_of_text|>"))])])
    return t


def roberta(model):
    t = Tokenizer(models.BPE(vocab=model[0], merges=model[1]))
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    t.decoder = decoders.ByteLevel()
    t.add_special_tokens([AddedToken(x, normalized=False) for x in ("<s>", "</s>", "<pad>")] +
                         [AddedToken("<mask>", lstrip=True, normalized=False)])
    t.post_processor = processors.RobertaProcessing(("</s>", t.token_to_id("</s>")), ("<s>", t.token_to_id("<s>")))
    return t


def legacy_llama(t):
    """The tokenizer.json of Llama 2 as transformers 4 wrote it."""
    file = json.loads(t.to_str())
    file["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, {
        "type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}
    file["pre_tokenizer"] = None
    return Tokenizer.from_str(json.dumps(file))


def train_unigram(lines, folder, size, byte_fallback=False, **more):
    """Trains a T5-like model with sentencepiece and returns its file."""
    prefix = os.path.join(folder, "spm")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_prefix=prefix, vocab_size=size, model_type="unigram", character_coverage=0.9995,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, hard_vocab_limit=False, byte_fallback=byte_fallback, num_threads=1,
        minloglevel=2, max_sentence_length=100000, **more)
    return prefix + ".model"


def unigram_file(model_file):
    """tokenizer.json of a sentencepiece Unigram model, with its own character map."""
    from sentencepiece import sentencepiece_model_pb2 as pb
    proto = pb.ModelProto()
    with open(model_file, "rb") as f:
        proto.ParseFromString(f.read())
    vocab = [(p.piece, p.score) for p in proto.pieces] + [(f"<extra_id_{i}>", 0.0) for i in range(99, -1, -1)]
    t = Tokenizer(models.Unigram(vocab, unk_id=proto.trainer_spec.unk_id, byte_fallback=proto.trainer_spec.byte_fallback))
    t.normalizer = normalizers.Sequence([normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap),
                                         normalizers.Replace(Regex(" {2,}"), " ")])
    t.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    t.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    t.add_special_tokens([AddedToken(x, normalized=False) for x in ["<pad>", "</s>", "<unk>"] +
                          [f"<extra_id_{i}>" for i in range(100)]])
    t.post_processor = processors.TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)])
    return t


def t5_v5(model_file):
    """The same with the pre-tokenizers of transformers 5."""
    t = unigram_file(model_file)
    t.normalizer = t.normalizer[0]
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(),
                                               pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")])
    return t


def train_wordpiece(lines, size):
    t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    t.normalizer = normalizers.BertNormalizer()
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    t.decoder = decoders.WordPiece()
    t.train_from_iterator(lines, trainers.WordPieceTrainer(
        vocab_size=size, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], show_progress=False))
    t.post_processor = processors.BertProcessing(("[SEP]", t.token_to_id("[SEP]")), ("[CLS]", t.token_to_id("[CLS]")))
    return t


def train_bpe(lines, size, alphabet=True):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(lines, trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet() if alphabet else [], show_progress=False,
        special_tokens=["<|endoftext|>"]))
    return t


def train_clip(lines, size):
    """CLIP's scheme: lower case, end-of-word suffix."""
    t = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    t.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(CLIP), "removed", invert=True),
                                               pre_tokenizers.ByteLevel(add_prefix_space=False)])
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(lines, trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), end_of_word_suffix="</w>", show_progress=False,
        special_tokens=["<|startoftext|>", "<|endoftext|>"]))
    t.post_processor = processors.RobertaProcessing(("<|endoftext|>", 1), ("<|startoftext|>", 0), False, False)
    return t


def train_llama(lines, size):
    """SentencePiece-style BPE with byte fallback."""
    t = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                   decoders.Strip(content=" ", left=1)])
    t.train_from_iterator(lines, trainers.BpeTrainer(
        vocab_size=size, show_progress=False, limit_alphabet=120, max_token_length=8,
        special_tokens=["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]))
    # Byte tokens are no special tokens: they must not be found in text.
    file = json.loads(t.to_str())
    file["added_tokens"] = file["added_tokens"][:3]
    t = Tokenizer.from_str(json.dumps(file))
    t.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    return t


def gpt2_model(folder):
    with open(os.path.join(folder, "vocab.json"), encoding="utf-8") as f:
        vocab = json.load(f)
    with open(os.path.join(folder, "merges.txt"), encoding="utf-8") as f:
        merges = [tuple(line.split(" ")) for line in f.read().split("\n") if line and not line.startswith("#version")]
    return vocab, merges


def clip_model(path):
    """OpenAI's bpe_simple_vocab_16e6.txt.gz as vocabulary and merges."""
    with gzip.open(path, "rt", encoding="utf-8") as f:
        merges = [tuple(line.split()) for line in f.read().split("\n")[1:49152 - 256 - 2 + 1]]
    alphabet = list(transformers.convert_slow_tokenizer.bytes_to_unicode().values())
    tokens = alphabet + [c + "</w>" for c in alphabet] + ["".join(m) for m in merges] + ["<|startoftext|>", "<|endoftext|>"]
    return {token: i for i, token in enumerate(tokens)}, merges


def real(folder, work):
    """name → tokenizers.Tokenizer for the vocabularies in folder."""
    gpt2 = gpt2_model(os.path.join(folder, "gpt2"))
    out = {"gpt2": transformers.GPT2Tokenizer(vocab=gpt2[0], merges=gpt2[1]).backend_tokenizer, "qwen2": qwen2(gpt2),
           "llama3": llama3(gpt2), "o200k": byte_level(gpt2, O200K), "roberta": roberta(gpt2)}
    clip = clip_model(os.path.join(folder, "clip", "bpe_simple_vocab_16e6.txt.gz"))
    # The class replaces the backend's decode method; its file is the plain backend.
    out["clip"] = Tokenizer.from_str(transformers.CLIPTokenizer(vocab=clip[0], merges=clip[1]).backend_tokenizer.to_str())
    for name, file in (("llama2", "tokenizer.model"), ("mistral", "tokenizer.model.v3")):
        here = os.path.join(work, name + "-model")
        os.makedirs(here, exist_ok=True)
        with open(os.path.join(folder, name, file), "rb") as src, open(os.path.join(here, "tokenizer.model"), "wb") as dst:
            dst.write(src.read())
        out[name] = transformers.LlamaTokenizer.from_pretrained(here).backend_tokenizer
    out["llama2-legacy"] = legacy_llama(out["llama2"])
    return out


def answers(encode, decode, lines, batch=None):
    """What the reference says of each line, and the seconds for the encodings in its fastest way (one thread)."""
    texts = [line.decode("utf-8", "replace") for line in lines]
    start = time.perf_counter()
    plain = [encode(text, False) for text in texts] if batch is None else batch(texts)
    seconds = time.perf_counter() - start
    if batch is not None:
        plain = [encode(text, False) for text in texts]
    rows = []
    for text, ids in zip(texts, plain):
        full = encode(text, True)
        rows.append({"plain": ids, "full": full, "text": careful(decode, full, False), "skip": careful(decode, full, True)})
    return rows, seconds


def careful(decode, ids, skip):
    """The decoded text, None where the reference itself panics."""
    try:
        return decode(ids, skip)
    except BaseException as e:
        if type(e).__name__ != "PanicException":
            raise
        return None


def backend(t):
    return (lambda text, special: t.encode(text, add_special_tokens=special).ids,
            lambda ids, skip: t.decode(ids, skip_special_tokens=skip))


def fastest(t):
    """Ids of many texts without offsets."""
    return lambda texts: t.encode_batch_fast(texts, add_special_tokens=False)


def directory(t):
    """The same two functions for a transformers tokenizer."""
    return (lambda text, special: t(text, add_special_tokens=special)["input_ids"],
            lambda ids, skip: t.decode(ids, skip_special_tokens=skip))


def encode_lines(lines):
    return [base64.b64encode(line).decode() for line in lines]
