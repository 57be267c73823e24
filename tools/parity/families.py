"""Tiny random models of many architectures, and experts of them.

Each family is a transformers configuration, the AutoModel class that loads it
and inputs for it. write() makes a base and three experts as a user would have
them: `all` changes every linear layer and its bias, `some` leaves every third
layer alone, `lora` is a low-rank change of attention alone, saved as a PEFT
adapter where peft can and as a full checkpoint elsewhere.
"""

import os
from dataclasses import dataclass, field

import torch
import transformers
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers.pytorch_utils import Conv1D

VOCABULARY, TOKENS = 64, 9
SKIP = ("embed", "lm_head", "classifier", "score", "pooler", "predictions", "projection", "relative", "shared", "cls.", "dense_act")


@dataclass
class Family:
    config: str
    auto: str
    keys: dict
    lora: list = field(default_factory=list)  # target modules of the adapter
    causal: bool = True
    sub: dict = field(default_factory=dict)  # sub-configurations
    head: str = None  # an AutoModel class for the same checkpoint with another head


def decoder(**keys):
    sizes = dict(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, bos_token_id=1, eos_token_id=None, pad_token_id=0,
    )
    return {**sizes, **keys}


ENCODER = dict(
    vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    max_position_embeddings=64, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
)
TOWER = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)
IMAGE = dict(image_size=16, patch_size=8)

FAMILIES = {
    "clip": Family(
        "CLIPConfig", "AutoModel", {"projection_dim": 24}, ["q_proj", "v_proj"], False,
        {
            "text_config": {**TOWER, "vocab_size": VOCABULARY, "max_position_embeddings": 16, "eos_token_id": 2},
            "vision_config": {**TOWER, **IMAGE},
        },
        head="AutoModelForZeroShotImageClassification",
    ),
    "t5": Family(
        "T5Config", "AutoModelForSeq2SeqLM",
        dict(vocab_size=VOCABULARY, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, dropout_rate=0.0,
             feed_forward_proj="gated-gelu", decoder_start_token_id=0, eos_token_id=None),
        ["q", "v"], head="AutoModel",
    ),
    "llama": Family("LlamaConfig", "AutoModelForCausalLM", decoder(attention_bias=True), ["q_proj", "v_proj"], head="AutoModel"),
    "mistral": Family("MistralConfig", "AutoModelForCausalLM", decoder(), ["q_proj", "v_proj"], head="AutoModel"),
    "qwen2": Family("Qwen2Config", "AutoModelForCausalLM", decoder(tie_word_embeddings=True), ["q_proj", "v_proj"], head="AutoModel"),
    "qwen3": Family("Qwen3Config", "AutoModelForCausalLM", decoder(head_dim=8), ["q_proj", "v_proj"], head="AutoModel"),
    "gpt2": Family(
        "GPT2Config", "AutoModelForCausalLM",
        dict(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=1, eos_token_id=None,
             resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0),
        ["c_attn"], head="AutoModel",
    ),
    "bert": Family("BertConfig", "AutoModelForMaskedLM", ENCODER, ["query", "value"], False, head="AutoModel"),
    "deberta-v2": Family(
        "DebertaV2Config", "AutoModelForMaskedLM",
        dict(ENCODER, relative_attention=True, pos_att_type=["p2c", "c2p"], position_biased_input=False, type_vocab_size=0,
             share_att_key=True),
        ["query_proj", "value_proj"], False, head="AutoModel",
    ),
    "vit": Family("ViTConfig", "AutoModelForImageClassification", {**TOWER, **IMAGE, "num_labels": 5}, ["q_proj", "v_proj"], False, head="AutoModel"),
    "gemma2": Family("Gemma2Config", "AutoModelForCausalLM", decoder(head_dim=8, sliding_window=8), ["q_proj", "v_proj"], head="AutoModel"),
    "phi": Family("PhiConfig", "AutoModelForCausalLM", decoder(num_key_value_heads=4), ["q_proj", "v_proj"], head="AutoModel"),
    "phi3": Family("Phi3Config", "AutoModelForCausalLM", decoder(num_key_value_heads=4), ["qkv_proj"], head="AutoModel"),
    "qwen3_5": Family(
        "Qwen3_5Config", "AutoModelForImageTextToText", {}, [], False,
        {
            "text_config": decoder(
                head_dim=8, num_hidden_layers=4, linear_num_value_heads=4, linear_num_key_heads=2,
                linear_key_head_dim=8, linear_value_head_dim=8,
            ),
            "vision_config": dict(
                depth=2, hidden_size=32, intermediate_size=48, num_heads=4, out_hidden_size=32, patch_size=4,
                spatial_merge_size=2, temporal_patch_size=2, num_position_embeddings=16,
            ),
        },
        head="AutoModelForCausalLM",
    ),
    "whisper": Family(
        "WhisperConfig", "AutoModelForSpeechSeq2Seq",
        dict(vocab_size=VOCABULARY, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
             decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48, num_mel_bins=8, max_source_positions=16,
             max_target_positions=32, decoder_start_token_id=1, bos_token_id=1, eos_token_id=2, pad_token_id=0),
        ["q_proj", "v_proj"], False, head="AutoModel",
    ),
}


def inputs(family, dtype, seed=0):
    """Inputs of a forward pass."""
    g = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, VOCABULARY, (2, TOKENS), generator=g)
    image = torch.randn(2, 3, 16, 16, generator=g).to(dtype)
    if family.config == "CLIPConfig":
        return {"input_ids": torch.cat([ids, torch.full((2, 1), 2)], 1), "pixel_values": image}
    if family.config == "ViTConfig":
        return {"pixel_values": image}
    if family.config == "T5Config":
        return {"input_ids": ids, "decoder_input_ids": ids[:, :5]}
    if family.config == "WhisperConfig":
        return {"input_features": torch.randn(2, 8, 32, generator=g).to(dtype), "decoder_input_ids": ids[:, :5]}
    return {"input_ids": ids}


def auto_class(name):
    return getattr(transformers, name)


def build(family):
    """The base, with weights large enough that layers matter."""
    config = getattr(transformers, family.config)(**family.keys, **family.sub)
    config.architectures = None
    torch.manual_seed(7)
    model = auto_class(family.auto).from_config(config)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim == 2 and "embed" not in name:
                p.normal_(std=0.25)
            elif name.endswith("bias"):
                p.normal_(std=0.1)
    return model.eval()


def linears(model):
    for name, module in model.named_modules():
        if isinstance(module, (nn.Linear, Conv1D)) and not any(word in name for word in SKIP):
            yield name, module


def write(family, directory):
    """Writes base and experts. Returns the arguments that name the experts."""
    base = build(family)
    base.save_pretrained(os.path.join(directory, "base"))
    for number, expert in enumerate(("all", "some")):
        model = build(family)
        torch.manual_seed(100 + number)
        with torch.no_grad():
            for index, (_, module) in enumerate(linears(model)):
                if expert == "some" and index % 3 == 0:
                    continue
                module.weight += 0.08 * torch.randn_like(module.weight)
                if module.bias is not None:
                    module.bias += 0.1 * torch.randn_like(module.bias)
        model.save_pretrained(os.path.join(directory, expert))
    model = build(family)
    torch.manual_seed(102)
    if family.lora:
        model = get_peft_model(model, LoraConfig(r=2, lora_alpha=4, target_modules=family.lora, fan_in_fan_out=family.config == "GPT2Config"))
        with torch.no_grad():
            for name, p in model.named_parameters():
                if "lora_" in name:
                    p.normal_(std=0.2)
    else:
        with torch.no_grad():
            for index, (_, module) in enumerate(linears(model)):
                if index % 2:
                    out, width = module.weight.shape
                    module.weight += 0.3 * torch.randn(out, 2) @ torch.randn(2, width) / 4
    model.save_pretrained(os.path.join(directory, "lora"))
    return [os.path.join(directory, name) for name in ("all", "lora", "some")]
