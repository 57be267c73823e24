"""Golden fixtures of model/t5: tiny random T5 models by transformers."""

import json

import torch
from transformers import T5Config, T5EncoderModel, T5ForConditionalGeneration

from common import ROOT, Recorder, greedy, randomise, rounded, save

SIZE = dict(
    vocab_size=61, d_model=32, d_kv=6, d_ff=44, num_layers=3, num_decoder_layers=2, num_heads=4,
    relative_attention_num_buckets=12, relative_attention_max_distance=24, decoder_start_token_id=0, pad_token_id=0,
    eos_token_id=None,
)
IDS = [[5, 60, 3, 44, 21, 21, 7, 30, 1, 18, 52, 9, 9, 14, 2, 33, 40, 41, 42, 43, 11, 19, 28, 39, 4, 57, 1], [9, 2, 33, 1]]
DECODER_IDS = [[0, 8, 50, 12, 33, 33, 2, 17], [0, 3, 4]]


def watch(r, stack, name):
    r.hook(stack.embed_tokens, f"{name}.embed_tokens")
    for i, b in enumerate(stack.block):
        r.hook(b.layer[0].SelfAttention, f"{name}.block.{i}.SelfAttention")
        if len(b.layer) == 3:
            r.hook(b.layer[1].EncDecAttention, f"{name}.block.{i}.EncDecAttention")
        r.hook(b.layer[-1].DenseReluDense, f"{name}.block.{i}.DenseReluDense")
        r.hook(b, f"{name}.block.{i}")
    r.hook(stack.final_layer_norm, f"{name}.final_layer_norm")


def make(name, cls, dtype, seed, untied=False, older=False, **config):
    torch.manual_seed(seed)
    config = cls.config_class(**{**SIZE, **config})
    config._attn_implementation = "eager"
    model = cls(config)
    if untied:
        model.lm_head.weight = torch.nn.Parameter(torch.empty_like(model.shared.weight))
    randomise(model, seed)
    with torch.no_grad():
        for n, p in model.named_parameters():
            if n.endswith((".q.weight", ".k.weight")):
                p.mul_(0.6)  # scores are not scaled by the head size
        if hasattr(model, "lm_head") and not untied:
            model.shared.weight.mul_(4)
    model = rounded(model, dtype)
    r = Recorder()
    watch(r, model.encoder, "encoder")
    expected = dict(ids=IDS)
    if hasattr(model, "decoder"):
        r.on = False
        expected.update(greedy=greedy(model, IDS, seq2seq=True), decoder_ids=DECODER_IDS)
        r.on = True
        watch(r, model.decoder, "decoder")
    with torch.no_grad():
        for i, seq in enumerate(IDS):
            if hasattr(model, "decoder"):
                out = model(input_ids=torch.tensor([seq]), decoder_input_ids=torch.tensor([DECODER_IDS[i]]), use_cache=False)
                r.add("logits", out.logits)
            else:
                model(input_ids=torch.tensor([seq]))
    directory = f"model/t5/testdata/{name}"
    stages = r.stages()
    save(directory, model, dtype, stages, seed, **expected)
    if untied:  # what transformers itself reads back must be the same model
        again = cls.from_pretrained(ROOT / directory, dtype=torch.float32).eval()
        with torch.no_grad():
            out = again(input_ids=torch.tensor([IDS[-1]]), decoder_input_ids=torch.tensor([DECODER_IDS[-1]])).logits[0]
        assert torch.allclose(out, stages["logits"][-len(out):], atol=1e-4), "transformers reads another model back"
    if older:  # the spelling before transformers 5
        path = ROOT / directory / "config.json"
        c = json.loads(path.read_text())
        del c["scale_decoder_outputs"]
        path.write_text(json.dumps({**c, "tie_word_embeddings": False}, indent=2) + "\n")


make("t5_relu", T5ForConditionalGeneration, "f32", 31)
make("flan", T5ForConditionalGeneration, "f32", 32, untied=True, feed_forward_proj="gated-gelu", tie_word_embeddings=False)
make("flan_bf16", T5ForConditionalGeneration, "bf16", 33, untied=True, older=True, feed_forward_proj="gated-gelu", tie_word_embeddings=False)
make("t5_silu_f16", T5ForConditionalGeneration, "f16", 34, feed_forward_proj="gated-silu")
make("encoder", T5EncoderModel, "f32", 35)
