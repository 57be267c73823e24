"""FusionBench's own SMILE algorithm on the CPU: peer.py BASE EXPERT... [--full]

Loads the checkpoints with transformers, runs SmileUpscalingAlgorithm.merge of
the published package and prints its seconds (loading and saving apart) as JSON.
"""

import argparse
import contextlib
import json
import os
import sys
import time

import torch
import transformers
from fusion_bench.method.smile_upscaling.smile_upscaling import SmileUpscalingAlgorithm
from transformers import CLIPVisionModel

transformers.utils.logging.disable_progress_bar()


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("paths", nargs="+")
    p.add_argument("--full", action="store_true")
    a = p.parse_args()
    torch.set_num_threads(os.cpu_count())
    base, *experts = [CLIPVisionModel.from_pretrained(path) for path in a.paths]
    with contextlib.redirect_stdout(sys.stderr):
        algorithm = SmileUpscalingAlgorithm(device="cpu", gate_k=16, k=32, top_k=1, full_matrices=a.full)
        start = time.perf_counter()
        algorithm.merge(base, experts)
        seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main()
