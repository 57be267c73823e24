"""What the three pools share: seeds, the training loop, rounding to bf16, a cache for drawn data."""

import math
import os
import pathlib
import random
import time

import numpy as np
import torch
from peft import LoraConfig, get_peft_model

torch.set_num_threads(1)  # one thread a process: on a shared machine, threads that wait for one another starve


def set_seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class Clock:
    """Tells how long a stage took."""

    def __init__(self):
        self.start = time.time()

    def done(self, what: str) -> None:
        print(f"{what}: {time.time() - self.start:.0f} s", flush=True)


def cache() -> pathlib.Path:
    """$SMELT_POOLS_CACHE, or ~/.cache/smelt/pools; delete it after changing a generator or a recipe."""
    root = pathlib.Path(os.environ.get("SMELT_POOLS_CACHE", "~/.cache/smelt/pools")).expanduser()
    root.mkdir(parents=True, exist_ok=True)
    return root


def kept(name: str, model: torch.nn.Module, train) -> None:
    """Calls train(model), or loads what an earlier call left in the cache."""
    path = cache() / f"{name}.pt"
    if path.exists():
        model.load_state_dict(torch.load(path, weights_only=True))
        return
    train(model)
    torch.save(model.state_dict(), path)


def cached(name: str, make) -> tuple:
    """The arrays that make() returns, kept in the cache."""
    root = cache()
    path = root / f"{name}.npz"
    if not path.exists():
        np.savez(root / f"{name}.part.npz", *make())
        (root / f"{name}.part.npz").rename(path)
    with np.load(path) as z:
        return tuple(z[k] for k in z.files)


def schedule(step: int, steps: int, warm: int = 20) -> float:
    """Linear warm-up, then a cosine down to a twentieth."""
    if step < warm:
        return (step + 1) / warm
    t = (step - warm) / max(1, steps - warm)
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * t))


def fit(name: str, groups: list, loss_of, steps: int, lr: float, weight_decay: float = 0.0, every: int = 50) -> None:
    """AdamW on loss_of(step) with gradient clipping; prints the mean loss now and then.

    Training ends before its time when loss_of returns None.

    groups is a list of parameters, or of groups {params, rate}: rate times lr is their learning rate.
    """
    opt = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), weight_decay=weight_decay, fused=True)
    params = [p for group in opt.param_groups for p in group["params"]]
    mean, start = 0.0, time.time()
    for step in range(steps):
        for group in opt.param_groups:
            group["lr"] = lr * group.get("rate", 1.0) * schedule(step, steps)
        loss = loss_of(step)
        if loss is None:
            break
        opt.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        mean += loss.item() / every
        if (step + 1) % every == 0:
            print(f"{name} step {step + 1}/{steps} loss {mean:.3f} ({time.time() - start:.0f} s)", flush=True)
            mean = 0.0


def round_bf16(model: torch.nn.Module) -> torch.nn.Module:
    """The model with its weights rounded to bf16, as they are stored."""
    return model.to(torch.bfloat16)


def adapter(model: torch.nn.Module, loss_of, **config) -> tuple:
    """The model with a fresh LoRA adapter, and the parameters to train: B alone, which starts at zero.

    A is set to the leading principal components of the layer's inputs on the
    task's data (as in EVA, arXiv:2410.07170), each as long as it is strong, and
    stays there (as in LoRA-FA, arXiv:2308.03303). A token counts by the size of
    its gradient, taken while loss_of(peft, i), i = 0 … 3, runs. With PEFT's usual A,
    still mostly its random draw after a short training, the row space that
    SMILE's router reads would say nothing about the task.
    """
    peft = get_peft_model(model, LoraConfig(**config))
    layers = [m for m in peft.modules() if hasattr(m, "get_delta_weight")]
    moments = dict.fromkeys(layers, 0)

    def collect(layer, args, out):
        x = args[0].detach().float().flatten(0, -2)

        def weigh(gradient):
            moments[layer] = moments[layer] + x.T @ (x * gradient.float().flatten(0, -2).norm(dim=-1, keepdim=True))

        out.register_hook(weigh)

    hooks = [m.register_forward_hook(collect) for m in layers]
    for i in range(4):
        loss_of(peft, i).backward()
    for hook in hooks:
        hook.remove()
    peft.zero_grad(set_to_none=True)
    for m, moment in moments.items():
        energy, directions = (t.flip(-1)[..., : config["r"]] for t in torch.linalg.eigh(moment.double()))  # the largest first
        components = directions * (energy / energy.mean()).clamp(min=1e-12).sqrt()  # as long as they are strong, √r all together
        m.lora_A["default"].weight.data = components.T.float().contiguous()
        m.lora_A["default"].weight.requires_grad_(False)
    return peft, [p for p in peft.parameters() if p.requires_grad]


def save_adapter(peft, folder: pathlib.Path) -> None:
    """Stores a PEFT adapter in bf16; its base is the pool's."""
    peft.peft_config["default"].base_model_name_or_path = "../../base"
    for n, p in peft.named_parameters():
        if ".lora_" in n:
            p.data = p.data.to(torch.bfloat16)
    peft.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
