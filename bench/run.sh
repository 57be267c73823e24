#!/bin/sh
# Runs every benchmark and puts docs/benchmarks.md together: run.sh PYTHON
# Takes most of an hour on two cores; wants a quiet machine and 60 GB of disk.
set -eu
python=$1
out=${SMELT_BENCH:-/var/tmp/smelt-bench}
mkdir -p "$out"
export OPENBLAS_CORETYPE=${OPENBLAS_CORETYPE:-SkylakeX}
go run ./bench/kernel -python "$python" -json "$out/kernel.json" > "$out/kernel.md"
"$python" bench/linalg/run.py --out "$out" --large
"$python" bench/fuse/run.py --out "$out"
"$python" bench/models/run.py --work "$out"
"$python" bench/lora/run.py --out "$out" --layers 4
"$python" bench/merge/run.py --out "$out"
tools/benchmarks.sh "$out" > docs/benchmarks.md
