"""What the generators of golden model fixtures share.

A fixture is a directory: config.json and model.safetensors as transformers
writes them, expected.safetensors with the activation after every stage, rows of
all sequences one after the other, and expected.json with the inputs, the greedy
continuations and the versions, seed and command that made it.
"""

import json
import pathlib
import platform
import sys

import torch
import transformers
from safetensors.torch import save_file

transformers.utils.logging.disable_progress_bar()
ROOT = pathlib.Path(__file__).resolve().parents[3]
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


def randomise(model, seed, scale=1.0):
    """Gives every parameter values that make all stages matter."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            r = torch.randn(p.shape, generator=g)
            if name.endswith("logit_scale"):
                p.fill_(2.6592)
            elif p.ndim >= 2 and ("embed" in name or "shared" in name or "relative_attention" in name):
                p.copy_(0.7 * r)
            elif p.ndim >= 2:
                p.copy_(scale * 1.3 * r / p[0].numel() ** 0.5)
            elif "norm" in name and name.endswith("weight"):
                p.copy_(1 + 0.2 * r)
            else:
                p.copy_(0.2 * r)


def rounded(model, dtype):
    """Rounds all parameters to dtype, then computes in float32: what the
    weights of a half-precision checkpoint give without further rounding."""
    with torch.no_grad():
        for p in model.parameters():  # not buffers: rotary frequencies stay float32
            p.copy_(p.to(DTYPES[dtype]).to(torch.float32))
    return model.eval()


def note(seed):
    return (
        f"python {' '.join(['tools/golden/models/' + pathlib.Path(sys.argv[0]).name] + sys.argv[1:])}; seed {seed}; "
        f"python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}"
    )


def save(directory, model, dtype, stages, seed, **expected):
    directory = ROOT / directory
    directory.mkdir(parents=True, exist_ok=True)
    model.to(DTYPES[dtype]).save_pretrained(directory)
    (directory / "generation_config.json").unlink(missing_ok=True)
    save_file({k: v.detach().float().contiguous().clone() for k, v in stages.items()}, directory / "expected.safetensors")
    expected["note"] = note(seed)
    (directory / "expected.json").write_text(json.dumps(expected, indent=None) + "\n")
    size = sum(f.stat().st_size for f in directory.iterdir())
    print(f"{directory.relative_to(ROOT)}: {size // 1024} KiB, {len(stages)} stages")


class Recorder:
    """Collects the outputs of modules by stage, sequence after sequence."""

    def __init__(self):
        self.parts = {}
        self.on = True

    def add(self, name, x):
        if self.on:
            x = x.detach().clone()
            self.parts.setdefault(name, []).append(x.reshape(-1, x.shape[-1]))

    def hook(self, module, name):
        def f(_, __, out):
            self.add(name, out[0] if isinstance(out, tuple) else out)

        module.register_forward_hook(f)

    def stages(self):
        return {k: torch.cat(v) for k, v in self.parts.items()}


def greedy(model, ids, steps=64, seq2seq=False):
    """Greedy continuations, and the smallest margin between best and second."""
    out, least = [], float("inf")
    for seq in ids:
        r = model.generate(
            torch.tensor([seq]), do_sample=False, num_beams=1, max_new_tokens=steps, min_new_tokens=steps,
            output_scores=True, return_dict_in_generate=True, eos_token_id=[], pad_token_id=0,
        )
        start = 1 if seq2seq else len(seq)
        out.append(r.sequences[0, start:].tolist())
        for s in r.scores:
            top = s[0].topk(2).values
            least = min(least, ((top[0] - top[1]) / top[0].abs()).item())
    assert len(out[0]) == steps and least > 1e-4, f"margin {least}: choose another seed"
    return out
