"""What the three pools share: seeds, the training loop, rounding to bf16, a cache for drawn data."""

import math
import os
import pathlib
import random
import time

import numpy as np
import torch

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


def fit(name: str, params: list, loss_of, steps: int, lr: float, weight_decay: float = 0.0, every: int = 50) -> None:
    """AdamW on loss_of(step) with gradient clipping; prints the mean loss now and then."""
    opt = torch.optim.AdamW(params, lr=lr, betas=(0.9, 0.98), weight_decay=weight_decay)
    mean, start = 0.0, time.time()
    for step in range(steps):
        for group in opt.param_groups:
            group["lr"] = lr * schedule(step, steps)
        loss = loss_of(step)
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
