"""Golden fixtures of model/clip: tiny random CLIP models by transformers."""

import torch
from transformers import (
    CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModelWithProjection, CLIPVisionConfig, CLIPVisionModel,
    CLIPVisionModelWithProjection,
)

from common import Recorder, randomise, rounded, save

VISION = dict(
    hidden_size=32, intermediate_size=56, num_hidden_layers=2, num_attention_heads=4, image_size=21, patch_size=7,
    projection_dim=24,
)
TEXT = dict(
    hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3, vocab_size=97,
    max_position_embeddings=16, projection_dim=24, bos_token_id=95, pad_token_id=96,
)


def watch_vision(r, v):
    r.hook(v.embeddings, "vision.embeddings")
    r.hook(v.pre_layrnorm, "vision.pre_layrnorm")
    watch_layers(r, v, "vision")
    r.hook(v.post_layernorm, "vision.pooled")


def watch_layers(r, tower, name):
    for i, layer in enumerate(tower.encoder.layers):
        r.hook(layer.self_attn, f"{name}.layers.{i}.self_attn")
        r.hook(layer.mlp, f"{name}.layers.{i}.mlp")
        r.hook(layer, f"{name}.layers.{i}")


def make(name, cls, config, dtype, seed):
    torch.manual_seed(seed)
    config._attn_implementation = "eager"
    model = cls(config)
    randomise(model, seed)
    model = rounded(model, dtype)
    r = Recorder()
    vision, text = getattr(model, "vision_model", None), getattr(model, "text_model", None)
    if cls is CLIPVisionModel:
        vision = model
    ids = []
    with torch.no_grad():
        if vision is not None:
            watch_vision(r, vision)
            images = torch.randn(2, 3, 21, 21)
            r.add("pixels", images.reshape(2, -1))
        if text is not None:
            r.hook(text.embeddings, "text.embeddings")
            watch_layers(r, text, "text")
            eos = config.text_config.eos_token_id if cls is CLIPModel else config.eos_token_id
            end = 96 if eos == 2 else eos
            ids = [[95, 4, 17, 60, 31, 8, end], [95, 3, end], [95, *range(10, 23), end, end]]
        if cls is CLIPModel:
            v = model.get_image_features(images).pooler_output
            t = []
            for seq in ids:
                x = torch.tensor([seq])
                r.add("text.pooled", model.text_model(x).pooler_output)
                r.on = False
                t.append(model.get_text_features(x).pooler_output)
                r.on = True
            t = torch.cat(t)
            r.add("vision.projected", v)
            r.add("text.projected", t)
            v, t = v / v.norm(dim=-1, keepdim=True), t / t.norm(dim=-1, keepdim=True)
            r.add("logits_per_image", model.logit_scale.exp() * v @ t.T)
        elif cls is CLIPVisionModelWithProjection:
            r.add("vision.projected", model(images).image_embeds)
        elif cls is CLIPTextModelWithProjection:
            for seq in ids:
                out = model(torch.tensor([seq]))
                r.add("text.projected", out.text_embeds)
                r.on = False
                pooled = model.text_model(torch.tensor([seq])).pooler_output
                r.on = True
                r.add("text.pooled", pooled)
        else:
            model(images)
    save(f"model/clip/testdata/{name}", model, dtype, r.stages(), seed, ids=ids)


make("quick_gelu", CLIPModel, CLIPConfig(text_config={**TEXT, "eos_token_id": 96}, vision_config=VISION, projection_dim=24), "f32", 1)
make("gelu_bf16_legacy_eos", CLIPModel, CLIPConfig(
    text_config={**TEXT, "eos_token_id": 2, "hidden_act": "gelu"}, vision_config={**VISION, "hidden_act": "gelu"}, projection_dim=24), "bf16", 2)
make("vision", CLIPVisionModel, CLIPVisionConfig(**VISION), "f32", 3)
make("vision_projection_f16", CLIPVisionModelWithProjection, CLIPVisionConfig(**VISION), "f16", 4)
make("text_projection", CLIPTextModelWithProjection, CLIPTextConfig(**{**TEXT, "eos_token_id": 90}), "f32", 5)
