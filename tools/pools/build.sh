#!/usr/bin/env bash
# Builds the committed example pools from nothing and evaluates them:
#
#     tools/pools/build.sh [OUT [POOL ...]]      OUT defaults to examples/pools, POOL to all three
#
# Needs Python 3.11 with requirements.txt ($PYTHON names it, default python3).
# What is already in OUT is kept: remove a folder to build it again.
# Drawn pictures and validation sets go to $SMELT_POOLS_CACHE (default ~/.cache/smelt/pools).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-"$here/../../examples/pools"}
pools=("${@:2}")
[ ${#pools[@]} -gt 0 ] || pools=(vision text2text causal)
python=${PYTHON:-python3}
cache=${SMELT_POOLS_CACHE:-"$HOME/.cache/smelt/pools"}
for pool in "${pools[@]}"; do
  "$python" "$here/$pool.py" --out "$out/$pool"
  "$python" "$here/evaluate.py" "$out/$pool" --validation "$cache/$pool-validation" --write
done
"$python" "$here/check.py" "$out"
