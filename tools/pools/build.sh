#!/usr/bin/env bash
# Builds the two committed example pools (vision and causal) from nothing and evaluates them:
#
#     tools/pools/build.sh [OUT]      OUT defaults to examples/pools
#
# Needs Python 3.11 with requirements.txt ($PYTHON names it, default python3).
# What is already in OUT is kept: remove a folder to build it again.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-"$here/../../examples/pools"}
python=${PYTHON:-python3}
for pool in vision causal; do
  "$python" "$here/$pool.py" --out "$out/$pool"
  "$python" "$here/evaluate.py" "$out/$pool" --write
done
