"""PEFT loads what smelt adapter-init wrote, it changes nothing, and it trains.

    python tools/parity/adapter_init.py SMELT

SMELT is the program. The base is the pool's in tools/parity/testdata/fuse. For each
subspace: the adapter loads with is_trainable=True; the logits are those of the base,
bit for bit; the rows of every A are orthonormal and lie where they should by numpy's
singular value decomposition; one step of gradient descent moves B and the loss falls.
"""

import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

ROOT = pathlib.Path(__file__).resolve().parents[2]
BASE = ROOT / "tools/parity/testdata/fuse/base"
RANK = 4


def main(smelt):
    torch.manual_seed(0)
    ids = torch.randint(0, 24, (2, 9))
    for subspace in ("principal", "minor", "null"):
        with tempfile.TemporaryDirectory() as tmp:
            out = pathlib.Path(tmp) / "adapter"
            subprocess.run([smelt, "adapter-init", BASE, "-o", out, "--subspace", subspace, "--rank", str(RANK)], check=True, capture_output=True)
            base = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
            with torch.no_grad():
                want = base(ids).logits
            weights = {k: v.double().numpy() for k, v in base.state_dict().items()}
            model = PeftModel.from_pretrained(base, out, is_trainable=True)
            with torch.no_grad():
                assert torch.equal(model(ids).logits, want), f"{subspace}: the adapter changes the output"
            modules = 0
            for name, a in model.named_parameters():
                if "lora_A" not in name:
                    continue
                modules += 1
                a = a.detach().double().numpy()
                assert np.abs(a @ a.T - np.eye(RANK)).max() < 1e-6, name
                w = weights[name.removeprefix("base_model.model.").replace(".lora_A.default", "")]
                _, s, vt = np.linalg.svd(w)
                free = vt[len(s):]
                where = {"principal": vt[:RANK], "minor": vt[len(s) - RANK:len(s)],
                         "null": free if len(free) >= RANK else vt[-RANK:]}[subspace]
                inside = np.linalg.norm(a @ where.T) ** 2 / RANK
                assert abs(inside - 1) < 1e-5, f"{subspace}: {name} lies to {inside} in its subspace"
            assert modules == 14, modules
            optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=0.5)
            losses = []
            for _ in range(3):
                loss = model(ids, labels=ids).loss
                losses.append(loss.item())
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            assert losses[-1] < losses[0], losses
            moved = sum(p.detach().abs().max().item() > 0 for n, p in model.named_parameters() if "lora_B" in n)
            assert moved == modules, f"{moved} of {modules} B moved"
            print(f"{subspace}: {modules} modules, loss {losses[0]:.4f} → {losses[-1]:.4f} in two steps")


if __name__ == "__main__":
    main(sys.argv[1])
