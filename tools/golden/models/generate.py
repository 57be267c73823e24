"""Golden fixture of generate: what transformers' logits processors leave."""

import json

import torch
from transformers.generation.logits_process import (
    LogitsProcessorList, MinPLogitsWarper, RepetitionPenaltyLogitsProcessor, TemperatureLogitsWarper, TopKLogitsWarper,
    TopPLogitsWarper,
)

from common import ROOT, note

SEED, V = 41, 40
torch.manual_seed(SEED)
cases = []
for options in [
    {"temperature": 0.7}, {"top_k": 5}, {"top_k": 1}, {"top_k": 400}, {"top_p": 0.8}, {"top_p": 0.05}, {"top_p": 0.999},
    {"min_p": 0.1}, {"min_p": 1.0}, {"repetition_penalty": 1.5}, {"repetition_penalty": 0.6},
    {"temperature": 2.5, "top_k": 12, "top_p": 0.9, "min_p": 0.02, "repetition_penalty": 1.2},
    {"temperature": 0.3, "top_p": 0.5, "min_p": 0.3},
]:
    for spread in (1.0, 4.0):
        logits = (spread * torch.randn(1, V)).float()
        logits[0, 7] = logits[0, 9]  # a tie
        seen = torch.randint(0, V, (1, 11))
        p = LogitsProcessorList()
        if "repetition_penalty" in options:
            p.append(RepetitionPenaltyLogitsProcessor(options["repetition_penalty"]))
        if "temperature" in options:
            p.append(TemperatureLogitsWarper(options["temperature"]))
        if "top_k" in options:
            p.append(TopKLogitsWarper(options["top_k"]))
        if "top_p" in options:
            p.append(TopPLogitsWarper(options["top_p"]))
        if "min_p" in options:
            p.append(MinPLogitsWarper(options["min_p"]))
        probs = p(seen, logits.clone()).softmax(-1)[0]
        cases.append(dict(
            options=options, logits=logits[0].tolist(), seen=seen[0].tolist(),
            probabilities={str(i): v for i, v in enumerate(probs.tolist()) if v > 0}))
path = ROOT / "generate/testdata/warpers.json"
path.parent.mkdir(parents=True, exist_ok=True)
path.write_text(json.dumps(dict(note=note(SEED), cases=cases)) + "\n")
print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1024} KiB")
