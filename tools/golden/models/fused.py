"""Golden fixtures of fused models: FusionBench's SmileMoELinear in place of the
linear layers of a transformers model.

The fixture is the fused model in smelt's native format (docs/format/native.md),
built here in numpy from the same base and experts, with what FusionBench's model
computes: the activations of every block and the scores of every router.
"""

import copy
import json

import numpy as np
import torch
from fusion_bench.models.smile_moe.linear_from_module import SmileMoELinear
from safetensors.torch import save_file
from torch import nn
from transformers import (
    CLIPConfig, CLIPModel, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM,
    T5Config, T5ForConditionalGeneration,
)

from common import DTYPES, ROOT, Recorder, greedy, note, randomise, rounded

EXPERTS = ["alpha", "beta", "gamma"]
DECODER = dict(
    vocab_size=67, hidden_size=32, intermediate_size=44, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=128, bos_token_id=None, eos_token_id=None, pad_token_id=None,
)
IDS = [[5, 60, 3, 44, 21, 21, 7, 30, 1, 18, 52], [9, 2, 33, 64]]
DECODER_IDS = [[0, 8, 50, 12, 33, 33, 2, 17], [0, 3, 4]]


def experts_of(base, modules, seed):
    """Fine-tuned copies: each adds deltas of falling spectrum and new biases."""
    out = []
    for e in range(len(EXPERTS)):
        g = torch.Generator().manual_seed(1000 * seed + e)
        m = copy.deepcopy(base)
        with torch.no_grad():
            for name in modules:
                lin = m.get_submodule(name)
                n, k = lin.weight.shape
                r = min(n, k)
                spectrum = torch.arange(1, r + 1).float() ** -0.7
                delta = torch.randn(n, r, generator=g) * spectrum @ torch.randn(r, k, generator=g) / k
                lin.weight.add_(0.5 * delta)
                if lin.bias is not None:
                    lin.bias.add_(0.1 * torch.randn(n, generator=g))
        out.append(m)
    return out


def fuse(base, experts, modules, dtype, router, rank, top_k):
    """Returns FusionBench's model and the tensors and block of the native form."""
    tensors = {k: v.to(DTYPES[dtype]).clone() for k, v in base.state_dict().items()}
    model, entries = copy.deepcopy(base), {}
    for name in modules:
        w0 = base.get_submodule(name)
        n, k = w0.weight.shape
        g, r = min(router, n, k), min(rank, n, k)
        vt, us, bias = [], [], []
        for e in experts:
            lin = e.get_submodule(name)
            u, s, v = np.linalg.svd((lin.weight - w0.weight).detach().double().numpy(), full_matrices=False)
            vt.append(torch.tensor(v[: max(r, g)]).to(DTYPES[dtype]))
            us.append(torch.tensor(u[:, :r] * s[:r]).to(DTYPES[dtype]))
            if lin.bias is not None:
                bias.append((lin.bias - w0.bias).detach().to(DTYPES[dtype]))
        tensors[f"{name}.smile.vt"] = torch.cat(vt)
        tensors[f"{name}.smile.us"] = torch.cat(us, dim=1)
        if bias:
            tensors[f"{name}.smile.bias"] = torch.stack(bias)
        entries[name] = {"in": k, "out": n, "rank_of_router": g, "rank_of_expert": [r] * len(experts)}
        if bias:
            entries[name]["bias"] = True
        layer = SmileMoELinear(
            copy.deepcopy(w0), [copy.deepcopy(e.get_submodule(name)) for e in experts], gate_k=g, k=r, top_k=top_k)
        if dtype != "f32":  # theirs on the factors as they were rounded
            with torch.no_grad():
                layer.gate.weights.copy_(torch.cat([v[:g].float() for v in vt]))
                for i, x in enumerate(layer.experts):
                    x.u.data, x.svh.data = us[i].float().contiguous(), vt[i][:r].float().contiguous()
                    if bias:
                        x.bias.data = bias[i].float()
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, layer)
    block = {
        "format": 1, "base": "base", "base_model_type": base.config.model_type,
        "experts": [{"name": e, "kind": "full", "source": e, "dtype": dtype.upper()} for e in EXPERTS],
        "num_local_experts": len(EXPERTS), "num_experts_per_tok": top_k, "rank_of_router": router, "modules": entries,
    }
    return model.eval(), tensors, block


def make(name, base, inside, dtype, seed, router, rank, top_k, watch, run, **expected):
    randomise(base, seed)
    base = rounded(base, dtype)
    modules = [n for n, m in base.named_modules() if isinstance(m, nn.Linear) and inside in n]
    model, tensors, block = fuse(base, experts_of(base, modules, seed), modules, dtype, router, rank, top_k)
    if "generates" in expected:
        del expected["generates"]
        expected["greedy"] = greedy(model, IDS, seq2seq=base.config.is_encoder_decoder)
    r = Recorder()
    least = [float("inf")]
    for n in modules:

        def gate(_, __, out, n=n):
            r.add("scores." + n, out)
            top = out.topk(top_k + 1).values if top_k < out.shape[1] else out
            least[0] = min(least[0], ((top[:, top_k - 1] - top[:, -1]) / top[:, 0]).min().item())

        model.get_submodule(n).gate.register_forward_hook(gate)
    watch(r, model)
    with torch.no_grad():
        run(r, model)
    assert least[0] > 1e-5, f"margin of a router {least[0]}: choose another seed"
    if dtype != "f32" and base.config.tie_word_embeddings:
        tensors.pop("lm_head.weight", None)
    directory = ROOT / "engine/testdata/models" / name
    directory.mkdir(parents=True, exist_ok=True)
    config = {**base.config.to_dict(), "architectures": [type(base).__name__], "dtype": None, "model_type": "smile", "smile": block}
    (directory / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    if "shared.weight" in tensors:
        for k in [k for k in tensors if k.endswith("embed_tokens.weight") or k == "lm_head.weight"]:
            del tensors[k]
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    save_file({k: v.detach().float().contiguous() for k, v in r.stages().items()}, directory / "expected.safetensors")
    (directory / "expected.json").write_text(json.dumps({**expected, "note": note(seed) + ", fusion-bench 0.2.33"}) + "\n")
    size = sum(f.stat().st_size for f in directory.iterdir())
    print(f"{directory.relative_to(ROOT)}: {size // 1024} KiB, {len(modules)} modules, least margin of a router {least[0]:.2g}")


def decoder(name, cls, config, dtype, seed, top_k):
    config._attn_implementation = "eager"

    def watch(r, model):
        for i, layer in enumerate(model.model.layers):
            r.hook(layer.self_attn, f"layers.{i}.self_attn")
            r.hook(layer.mlp, f"layers.{i}.mlp")
        r.hook(model.model.norm, "norm")

    def run(r, model):
        for seq in IDS:
            r.add("logits", model(torch.tensor([seq]), use_cache=False).logits)

    make(name, cls(config), "model.layers", dtype, seed, 3, 6, top_k, watch, run, ids=IDS, generates=True)


def clip(seed):
    config = CLIPConfig(
        text_config=dict(hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3, vocab_size=97,
                         max_position_embeddings=16, eos_token_id=96),
        vision_config=dict(hidden_size=32, intermediate_size=56, num_hidden_layers=2, num_attention_heads=4, image_size=21,
                           patch_size=7),
        projection_dim=24)
    config._attn_implementation = "eager"
    ids = [[95, 4, 17, 60, 31, 8, 96], [95, 3, 96]]

    def watch(r, model):
        for tower in ("vision", "text"):
            for i, layer in enumerate(getattr(model, tower + "_model").encoder.layers):
                r.hook(layer.self_attn, f"{tower}.layers.{i}.self_attn")
                r.hook(layer.mlp, f"{tower}.layers.{i}.mlp")

    def run(r, model):
        images = torch.randn(2, 3, 21, 21, generator=torch.Generator().manual_seed(seed))
        r.add("pixels", images.reshape(2, -1))
        r.add("vision.projected", model.get_image_features(images).pooler_output)
        for seq in ids:
            r.add("text.projected", model.get_text_features(torch.tensor([seq])).pooler_output)

    make("clip", CLIPModel(config), "encoder.layers", "f32", seed, 3, 6, 1, watch, run, ids=ids)


def t5(seed):
    config = T5Config(
        vocab_size=67, d_model=32, d_kv=6, d_ff=44, num_layers=2, num_heads=4, relative_attention_num_buckets=12,
        relative_attention_max_distance=24, decoder_start_token_id=0, pad_token_id=0, eos_token_id=None,
        feed_forward_proj="gated-gelu")
    config._attn_implementation = "eager"

    def watch(r, model):
        for stack in ("encoder", "decoder"):
            for i, b in enumerate(getattr(model, stack).block):
                r.hook(b.layer[0].SelfAttention, f"{stack}.block.{i}.SelfAttention")
                r.hook(b.layer[-1].DenseReluDense, f"{stack}.block.{i}.DenseReluDense")

    def run(r, model):
        for i, seq in enumerate(IDS):
            r.add("logits", model(input_ids=torch.tensor([seq]), decoder_input_ids=torch.tensor([DECODER_IDS[i]]), use_cache=False).logits)

    model = T5ForConditionalGeneration(config)
    make("t5", model, ".block.", "f32", seed, 3, 6, 1, watch, run, ids=IDS, decoder_ids=DECODER_IDS)


torch.manual_seed(0)
clip(51)
t5(52)
decoder("llama", LlamaForCausalLM, LlamaConfig(**DECODER), "f32", 53, 2)
decoder("mistral", MistralForCausalLM, MistralConfig(**DECODER, sliding_window=6), "f32", 54, 1)
decoder("qwen2", Qwen2ForCausalLM, Qwen2Config(**DECODER, tie_word_embeddings=True), "bf16", 55, 1)
