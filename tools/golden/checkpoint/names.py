"""Writes checkpoint/testdata/names/*.json: what transformers saves for tiny models.

For every model: its config.json as saved, the tensors of the file with their
shapes and the class of the torch module that owns each, and the groups of
names that share one parameter. The Go tests hold the name rules against it.

    python tools/golden/checkpoint/names.py checkpoint/testdata/names
"""

import json
import pathlib
import shutil
import sys
import tempfile

import torch
import transformers
from safetensors import safe_open

V, D, L, H, F = 64, 16, 2, 2, 32
DEC = dict(vocab_size=V, hidden_size=D, num_hidden_layers=L, num_attention_heads=H,
           num_key_value_heads=1, intermediate_size=F, max_position_embeddings=32,
           bos_token_id=1, eos_token_id=2, pad_token_id=0)
ENC = dict(vocab_size=V, hidden_size=D, num_hidden_layers=L, num_attention_heads=H,
           intermediate_size=F, max_position_embeddings=34, pad_token_id=1)
GPT = dict(vocab_size=V, n_embd=D, n_layer=L, n_head=H, n_positions=32, bos_token_id=1, eos_token_id=2)
VIT = dict(hidden_size=D, num_hidden_layers=L, num_attention_heads=H, intermediate_size=F,
           image_size=16, patch_size=8)
T5 = dict(vocab_size=V, d_model=D, d_kv=8, d_ff=F, num_layers=L, num_heads=H,
          relative_attention_num_buckets=8, pad_token_id=0, decoder_start_token_id=0)
CLIP = dict(text_config=dict(vocab_size=V, hidden_size=D, intermediate_size=F, num_hidden_layers=L,
                             num_attention_heads=H, max_position_embeddings=8),
            vision_config=VIT, projection_dim=12)

MODELS = [
    ("gpt2", "GPT2LMHeadModel", GPT),
    ("gpt2-bare", "GPT2Model", GPT),
    ("gpt2-cls", "GPT2ForSequenceClassification", GPT | dict(num_labels=3, pad_token_id=0)),
    ("gpt2-cross", "GPT2LMHeadModel", GPT | dict(add_cross_attention=True)),
    ("openai-gpt", "OpenAIGPTLMHeadModel", GPT),
    ("imagegpt", "ImageGPTForCausalImageModeling", GPT),
    ("decision_transformer", "DecisionTransformerModel",
     dict(state_dim=5, act_dim=3, hidden_size=D, n_layer=L, n_head=H, n_positions=32, max_ep_len=16, vocab_size=1)),
    ("bert-mlm", "BertForMaskedLM", ENC),
    ("bert-bare", "BertModel", ENC),
    ("bert-cls", "BertForSequenceClassification", ENC | dict(num_labels=3)),
    ("bert-qa", "BertForQuestionAnswering", ENC),
    ("roberta-mlm", "RobertaForMaskedLM", ENC),
    ("roberta-cls", "RobertaForSequenceClassification", ENC | dict(num_labels=3)),
    ("distilbert-cls", "DistilBertForSequenceClassification",
     dict(vocab_size=V, dim=D, n_layers=L, n_heads=H, hidden_dim=F, max_position_embeddings=32)),
    ("albert-mlm", "AlbertForMaskedLM", ENC | dict(embedding_size=8)),
    ("electra", "ElectraForPreTraining", ENC | dict(embedding_size=8)),
    ("mpnet", "MPNetForMaskedLM", ENC),
    ("deberta-v2-cls", "DebertaV2ForSequenceClassification",
     ENC | dict(relative_attention=True, position_buckets=8, norm_rel_ebd="layer_norm", share_att_key=True,
                pos_att_type=["p2c", "c2p"], conv_kernel_size=3, num_labels=3)),
    ("deberta-v2-mlm", "DebertaV2ForMaskedLM",
     ENC | dict(relative_attention=True, position_buckets=8, pos_att_type=["p2c", "c2p"], share_att_key=False)),
    ("modernbert", "ModernBertForMaskedLM", ENC | dict(local_attention=8)),
    ("vit-cls", "ViTForImageClassification", VIT | dict(num_labels=3)),
    ("vit-bare", "ViTModel", VIT),
    ("dinov2", "Dinov2ForImageClassification", VIT | dict(num_labels=3)),
    ("beit", "BeitForImageClassification", VIT | dict(use_relative_position_bias=True, num_labels=3)),
    ("swin", "SwinForImageClassification",
     dict(image_size=32, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4, num_labels=3)),
    ("convnext", "ConvNextForImageClassification", dict(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, num_labels=3)),
    ("clip", "CLIPModel", CLIP),
    ("clip-vision", "CLIPVisionModel", VIT),
    ("clip-vision-proj", "CLIPVisionModelWithProjection", VIT | dict(projection_dim=12)),
    ("clip-text", "CLIPTextModel", CLIP["text_config"]),
    ("siglip", "SiglipModel", {k: v for k, v in CLIP.items() if k != "projection_dim"}),
    ("t5", "T5ForConditionalGeneration", T5),
    ("flan-t5", "T5ForConditionalGeneration", T5 | dict(feed_forward_proj="gated-gelu", tie_word_embeddings=False)),
    ("t5-encoder", "T5EncoderModel", T5),
    ("mt5", "MT5ForConditionalGeneration", T5),
    ("bart", "BartForConditionalGeneration",
     dict(vocab_size=V, d_model=D, encoder_layers=L, decoder_layers=L, encoder_attention_heads=H,
          decoder_attention_heads=H, encoder_ffn_dim=F, decoder_ffn_dim=F, max_position_embeddings=32)),
    ("whisper", "WhisperForConditionalGeneration",
     dict(vocab_size=V, d_model=D, encoder_layers=L, decoder_layers=L, encoder_attention_heads=H,
          decoder_attention_heads=H, encoder_ffn_dim=F, decoder_ffn_dim=F, num_mel_bins=8,
          max_source_positions=16, max_target_positions=16, pad_token_id=0, bos_token_id=1, eos_token_id=2,
          decoder_start_token_id=1)),
    ("wav2vec2", "Wav2Vec2ForCTC",
     dict(vocab_size=V, hidden_size=D, num_hidden_layers=L, num_attention_heads=H, intermediate_size=F,
          conv_dim=(8, 8), conv_stride=(2, 2), conv_kernel=(3, 3), num_feat_extract_layers=2,
          num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2)),
    ("llama", "LlamaForCausalLM", DEC),
    ("llama-tied", "LlamaForCausalLM", DEC | dict(tie_word_embeddings=True)),
    ("llama-bias", "LlamaForCausalLM", DEC | dict(attention_bias=True, mlp_bias=True)),
    ("llama-bare", "LlamaModel", DEC),
    ("llama-cls", "LlamaForSequenceClassification", DEC | dict(num_labels=3)),
    ("mistral", "MistralForCausalLM", DEC),
    ("qwen2-tied", "Qwen2ForCausalLM", DEC | dict(tie_word_embeddings=True)),
    ("qwen3", "Qwen3ForCausalLM", DEC | dict(head_dim=8)),
    ("gemma2", "Gemma2ForCausalLM", DEC | dict(head_dim=8)),
    ("gemma3-text", "Gemma3ForCausalLM", DEC | dict(head_dim=8)),
    ("phi", "PhiForCausalLM", {k: v for k, v in DEC.items() if k != "num_key_value_heads"}),
    ("phi3", "Phi3ForCausalLM", DEC),
    ("opt", "OPTForCausalLM",
     dict(vocab_size=V, hidden_size=D, word_embed_proj_dim=8, num_hidden_layers=L, num_attention_heads=H, ffn_dim=F,
          max_position_embeddings=32)),
    ("gpt_neox", "GPTNeoXForCausalLM", {k: v for k, v in DEC.items() if k != "num_key_value_heads"}),
    ("gptj", "GPTJForCausalLM", GPT | dict(rotary_dim=4)),
    ("bloom", "BloomForCausalLM", dict(vocab_size=V, hidden_size=D, n_layer=L, n_head=H)),
    ("falcon", "FalconForCausalLM", dict(vocab_size=V, hidden_size=D, num_hidden_layers=L, num_attention_heads=H)),
    ("mixtral", "MixtralForCausalLM", DEC | dict(num_local_experts=2, num_experts_per_tok=1)),
    ("qwen2_moe", "Qwen2MoeForCausalLM",
     DEC | dict(num_experts=2, num_experts_per_tok=1, moe_intermediate_size=8, shared_expert_intermediate_size=8,
                decoder_sparse_step=1)),
    ("llava", "LlavaForConditionalGeneration",
     dict(text_config=DEC | dict(model_type="llama"), vision_config=VIT | dict(model_type="clip_vision_model"),
          image_token_index=5)),
    ("qwen2_5_vl", "Qwen2_5_VLForConditionalGeneration",
     dict(text_config=DEC | dict(rope_scaling=dict(type="mrope", mrope_section=[1, 1, 2])),
          vision_config=dict(depth=L, hidden_size=D, intermediate_size=F, num_heads=H, out_hidden_size=D,
                             patch_size=4, fullatt_block_indexes=[1]))),
    ("vision-encoder-decoder", "VisionEncoderDecoderModel", None),
]


def build(cls, args):
    if cls is transformers.VisionEncoderDecoderModel:
        cfg = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(
            transformers.ViTConfig(**VIT),
            transformers.GPT2Config(**GPT, add_cross_attention=True, is_decoder=True))
        return cls(cfg)
    return cls(cls.config_class(**args))


def owners(model):
    """Maps parameter and buffer names to the class name of their module."""
    own = {}
    for prefix, module in model.named_modules(remove_duplicate=False):
        kind = type(module).__name__
        for n, _ in list(module.named_parameters(recurse=False)) + list(module.named_buffers(recurse=False)):
            own[f"{prefix}.{n}" if prefix else n] = kind
    return own


def unique(model):
    """Gives every parameter values of its own, so that it is known by them
    where saving renames it."""
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape))


def first(t):
    """What tells a tensor from the others: its shape and leading value."""
    return tuple(t.shape), t.flatten()[0].item() if t.numel() else None


def is_a(model):
    """Maps module class names to linear, conv1d, embedding, or nothing."""
    from transformers.pytorch_utils import Conv1D
    out = {}
    for m in model.modules():
        for t, name in ((torch.nn.Linear, "linear"), (Conv1D, "conv1d"), (torch.nn.Embedding, "embedding")):
            if isinstance(m, t):
                out[type(m).__name__] = name
    return out


def tied(model):
    groups = {}
    for n, p in model.named_parameters(remove_duplicate=False):
        groups.setdefault(id(p), []).append(n)
    return sorted(sorted(g) for g in groups.values() if len(g) > 1)


def main(out):
    out.mkdir(parents=True, exist_ok=True)
    failed = []
    for name, cls_name, args in MODELS:
        torch.manual_seed(0)
        try:
            model = build(getattr(transformers, cls_name), args)
            tmp = tempfile.mkdtemp()
            unique(model)
            model.save_pretrained(tmp)
            by_value = {first(p): n for n, p in model.named_parameters()}
            with safe_open(f"{tmp}/model.safetensors", "pt") as f:
                shapes = {k: list(f.get_slice(k).get_shape()) for k in f.keys()}
                inner = {k: by_value.get(first(f.get_tensor(k)), k) for k in f.keys()}
            config = json.loads(pathlib.Path(tmp, "config.json").read_text())
            shutil.rmtree(tmp)
        except Exception as e:  # one model that this version lacks must not hide the others
            failed.append(f"{name}: {type(e).__name__}: {str(e)[:200]}")
            continue
        own, kinds = owners(model), is_a(model)
        rows = [[k, s, own.get(inner[k], ""), kinds.get(own.get(inner[k], ""), "")] for k, s in sorted(shapes.items())]
        doc = {
            "command": "python tools/golden/checkpoint/names.py",
            "transformers": transformers.__version__, "torch": torch.__version__, "seed": 0,
            "class": cls_name, "config": config, "tied": tied(model), "tensors": rows,
        }
        text = json.dumps(doc, indent=1)
        # one tensor a line
        text = text.split(' "tensors": [')[0] + ' "tensors": [\n' + ",\n".join("  " + json.dumps(r) for r in rows) + "\n ]\n}\n"
        (out / f"{name}.json").write_text(text)
        print(name, len(rows), "of unknown owner:", *[k for k in shapes if inner[k] not in own][:3])
    for f in failed:
        print("FAILED", f)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
