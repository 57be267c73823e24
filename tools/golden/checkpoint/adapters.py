"""Writes checkpoint/testdata/adapters: LoRA adapters made and merged by PEFT.

Each BASE/ is a tiny model, each ADAPTER/ what save_pretrained writes for it,
with merged.safetensors beside it: every tensor that merge_and_unload changed,
under the base's name. The Go tests form base + scale·B·A and compare.
Adapters that must be refused have no merged.safetensors.

    python tools/golden/checkpoint/adapters.py checkpoint/testdata/adapters
"""

import copy
import json
import pathlib
import shutil
import sys
import warnings

import peft
import torch
import transformers
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

warnings.filterwarnings("ignore")
SEED = 0
BASES = {
    "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(
        vocab_size=16, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        intermediate_size=12, max_position_embeddings=16, bos_token_id=1, eos_token_id=2, pad_token_id=0)),
    "gpt2": lambda: transformers.GPT2LMHeadModel(transformers.GPT2Config(
        vocab_size=16, n_embd=8, n_layer=2, n_head=2, n_positions=8, bos_token_id=1, eos_token_id=2)),
    "bert": lambda: transformers.BertForSequenceClassification(transformers.BertConfig(
        vocab_size=16, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=12,
        max_position_embeddings=8, num_labels=3)),
}
QV = ["q_proj", "v_proj"]
C = dict(r=2, lora_alpha=5)

# name: base, config, options
ADAPTERS = {
    "plain": ("llama", dict(target_modules=QV, **C), {}),
    "rslora": ("llama", dict(target_modules=QV, use_rslora=True, **C), {}),
    "patterns": ("llama", dict(
        target_modules=["q_proj", "k_proj", "v_proj", "up_proj", "down_proj"], **C,
        rank_pattern={"^model.layers.0.self_attn.q_proj": 1, r"layers\.1\..*up_proj": 3, "v_proj": 4, "zzz_proj": 9},
        alpha_pattern={"self_attn.v_proj": 7, r".*\.1\..*": 3, r"(?!q_)\w_proj": 11}), {}),
    "patterns-rslora": ("llama", dict(target_modules=QV, use_rslora=True, rank_pattern={"q_proj": 4},
                                      alpha_pattern={"v_proj": 3}, **C), {}),
    "regex": ("llama", dict(target_modules=r".*layers\.1\..*(gate|up)_proj", **C), {}),
    "all-linear": ("llama", dict(target_modules="all-linear", **C), {}),
    "layers": ("llama", dict(target_modules=QV, layers_to_transform=[1], layers_pattern="layers", **C), {}),
    "excluded": ("llama", dict(target_modules=QV, exclude_modules=r".*\.0\..*q_proj", **C), {}),
    "gaussian": ("llama", dict(target_modules=QV, init_lora_weights="gaussian", **C), {}),
    "orthogonal": ("llama", dict(target_modules=QV, init_lora_weights="orthogonal", **C), {}),
    "mica": ("llama", dict(target_modules=QV, init_lora_weights="mica", **C), {}),
    "bf16": ("llama", dict(target_modules=QV, **C), dict(dtype=torch.bfloat16)),
    "head": ("llama", dict(target_modules=QV + ["lm_head"], **C), {}),
    "saved-embedding": ("llama", dict(target_modules=QV, modules_to_save=["embed_tokens"], **C), {}),
    "untargeted-embedding": ("llama", dict(target_modules=QV, **C), dict(save_embedding_layers=True)),
    "conv1d": ("gpt2", dict(target_modules=["c_attn", "c_proj", "c_fc"], fan_in_fan_out=True, **C), {}),
    "conv1d-unsaid": ("gpt2", dict(target_modules=["c_attn", "c_proj"], **C), {}),
    "bias-all": ("gpt2", dict(target_modules=["c_attn"], fan_in_fan_out=True, bias="all", **C), {}),
    "bias-lora": ("bert", dict(target_modules=["query", "dense"], bias="lora_only", **C), {}),
    "lora-bias": ("bert", dict(target_modules=["query", "value"], lora_bias=True, use_rslora=True, **C), {}),
    "classifier": ("bert", dict(target_modules=["query"], modules_to_save=["classifier"], task_type="SEQ_CLS", **C), {}),
    "raw-keys": ("bert", dict(target_modules=["query"], modules_to_save=["classifier"], bias="lora_only", **C), dict(raw=True)),
    # refused
    "no-dora": ("llama", dict(target_modules=QV, use_dora=True, **C), {}),
    "no-pissa": ("llama", dict(target_modules=QV, init_lora_weights="pissa_niter_2", **C), {}),
    "no-olora": ("llama", dict(target_modules=QV, init_lora_weights="olora", **C), {}),
    "no-embedding": ("llama", dict(target_modules=QV + ["embed_tokens"], **C), {}),
    "no-tokens": ("llama", dict(target_modules=QV, trainable_token_indices=[1, 2], **C), {}),
    "no-replication": ("llama", dict(target_modules=QV, layer_replication=[[0, 2], [1, 2]], **C), {}),
    "no-parameters": ("llama", dict(target_modules=[], target_parameters=["q_proj.weight"], **C), {}),
    "no-kasa": ("llama", dict(target_modules=QV, kasa_config=peft.KasaConfig() if hasattr(peft, "KasaConfig") else None, **C), {}),
}


def randomise(model):
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape) * 0.3)


def train(model):
    """Gives all trainable parameters new values, as training would."""
    with torch.no_grad():
        for n, p in model.named_parameters():
            if p.requires_grad or ".lora_" in n:
                p.copy_((torch.randn(p.shape) * 0.3).to(p.dtype))


def make(out, name, base, cfg, opt):
    torch.manual_seed(SEED)
    start = base.state_dict()
    start = {k: v.clone() for k, v in start.items()}
    model = get_peft_model(copy.deepcopy(base), LoraConfig(**cfg))
    train(model)
    if "dtype" in opt:
        for n, p in model.named_parameters():
            if ".lora_" in n:
                p.data = p.data.to(opt["dtype"])
    dir = out / name
    if opt.get("raw"):
        dir.mkdir(parents=True)
        state = {k: v.contiguous().clone() for k, v in model.state_dict().items()
                 if ".lora_" in k or "modules_to_save" in k or "original_module" in k or k.endswith("base_layer.bias")}
        save_file(state, dir / "adapter_model.safetensors")
        model.peft_config["default"].save_pretrained(dir)
    else:
        if opt.get("save_embedding_layers"):
            with torch.no_grad():
                model.get_base_model().model.embed_tokens.weight.add_(1)
        kw = {k: v for k, v in opt.items() if k == "save_embedding_layers"}
        model.save_pretrained(dir, **kw)
    (dir / "README.md").unlink(missing_ok=True)
    # the path of this machine says nothing to a reader
    path = dir / "adapter_config.json"
    text = json.loads(path.read_text())
    text["base_model_name_or_path"] = name
    for key in ("target_modules", "exclude_modules"):  # sets, in no order
        if isinstance(text.get(key), list):
            text[key].sort()
    path.write_text(json.dumps(text, indent=2, sort_keys=True) + "\n")
    if name.startswith("no-"):
        return
    if not opt.get("raw"):  # as a reader of the files gets it: saving sorts the patterns
        model = peft.PeftModel.from_pretrained(copy.deepcopy(base), dir)
    merged = model.merge_and_unload().state_dict()
    changed = {k: v.float().contiguous().clone() for k, v in merged.items()
               if k in start and not torch.equal(v.float(), start[k].float())}
    assert changed, name
    save_file(changed, dir / "merged.safetensors")


def main(out):
    if out.exists():
        shutil.rmtree(out)
    bases = {}
    for name, build in BASES.items():
        torch.manual_seed(SEED)
        bases[name] = build().eval()
        randomise(bases[name])
        bases[name].save_pretrained(out / ("base-" + name))
    names = {}
    for name, (base, cfg, opt) in ADAPTERS.items():
        make(out, name, bases[base], cfg, opt)
        names[name] = base
    doc = {"command": "python tools/golden/checkpoint/adapters.py", "peft": peft.__version__,
           "transformers": transformers.__version__, "torch": torch.__version__, "seed": SEED, "base": names}
    (out / "index.json").write_text(json.dumps(doc, indent=1) + "\n")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
