"""Loads a FusionBench checkpoint in FusionBench's own class and writes its logits.

    fusionbench_logits.py DIR IDS.npy LOGITS.npy

Runs in the environment whose transformers that class works with
(tools/peers/setup.sh DIR smile-4.51 or smile-4.45). Prints a line of JSON:
the keys that were missing or unexpected.
"""

import importlib
import json
import os
import sys

import numpy as np
import torch
import transformers

NAMES = {"smile_llama": "Llama", "smile_mistral": "Mistral", "smile_qwen2": "Qwen2"}


def main(directory, ids, logits):
    transformers.logging.set_verbosity_error()
    with open(os.path.join(directory, "config.json")) as f:
        model_type = json.load(f)["model_type"]
    module = importlib.import_module(f"fusion_bench.models.modeling_{model_type}")
    model = getattr(module, f"Smile{NAMES[model_type]}ForCausalLM")
    model, info = model.from_pretrained(directory, output_loading_info=True, torch_dtype=torch.float32)
    with torch.no_grad():
        found = model.eval()(torch.from_numpy(np.load(ids))).logits
    np.save(logits, found.numpy())
    print(json.dumps({"transformers": transformers.__version__, **{k: list(map(str, v)) for k, v in info.items()}}))


if __name__ == "__main__":
    main(*sys.argv[1:])
