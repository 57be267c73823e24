"""One merge by mergekit, timed without its imports: peer.py METHOD BASE EXPERT... OUT"""

import json
import sys
import time

from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions

method, base, *experts, out = sys.argv[1:]
config = {"merge_method": method, "dtype": "bfloat16", "models": [{"model": e, "parameters": {"weight": 1.0, "density": 0.2}} for e in experts]}
if method == "linear":
    config["models"] = [{"model": e, "parameters": {"weight": 1.0}} for e in experts]
else:
    config |= {"base_model": base, "parameters": {"normalize": True, "lambda": 1.0}}
start = time.perf_counter()
run_merge(MergeConfiguration.model_validate(config), out, MergeOptions(copy_tokenizer=False, lazy_unpickle=True, quiet=True))
print(json.dumps({"seconds": time.perf_counter() - start}))
