"""Golden fixture of package ensemble: FusionBench's ensembles of classifiers' outputs.

    python tools/golden/ensemble.py ensemble/testdata/golden.json
"""

import json
import sys
from importlib.metadata import version

import torch
from fusion_bench.models.wrappers.ensemble import EnsembleModule, MaxModelPredictor, WeightedEnsembleModule

SEED = 20241123


class Fixed(torch.nn.Module):
    """A model that answers what it was told."""

    def __init__(self, output):
        super().__init__()
        self.output = output

    def forward(self):
        return self.output


def main(path):
    torch.manual_seed(SEED)
    logits = 3 * torch.randn(4, 5, 6)
    weights = [0.5, 2.0, 0.25, 1.25]
    record = {"versions": {p: version(p) for p in ("torch", "fusion-bench")}, "seed": SEED,
              "command": "python tools/golden/ensemble.py ensemble/testdata/golden.json",
              "logits": logits.tolist(), "weights": weights}
    for name, outputs in (("logits", logits), ("probabilities", logits.softmax(-1))):
        models = [Fixed(x) for x in outputs]
        record["of_" + name] = {
            "outputs": outputs.tolist(), "mean": EnsembleModule(models)().tolist(),
            "weighted": WeightedEnsembleModule(models, weights)().tolist(), "max": MaxModelPredictor(models)().tolist()}
    with open(path, "w") as f:
        json.dump(record, f)
        f.write("\n")


main(sys.argv[1])
