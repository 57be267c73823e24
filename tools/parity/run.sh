#!/usr/bin/env bash
# Holds real outputs of smelt against the peers: every fused layer recomputed in
# float64 from the published formula, FusionBench's own classes, and transformers.
#
#   run.sh SMELT PYTHON
#
# The tiny pool of the tests is always used; the real pools of a checkout with
# ../shared beside it (or $SMELT_SHARED) too, where they are.
set -euo pipefail
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # small matrices: threads only wait for one another
smelt=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
python=$2
here=$(dirname "$0")
shared=${SMELT_SHARED:-../shared}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

said() { # COMMAND...: its last line, or all of them when it fails
  "$@" >"$work/said" 2>&1 || { cat "$work/said"; exit 1; }
  tail -n 1 "$work/said"
}

fused() { # NAME OPTIONS -- BASE EXPERT...
  name=$1
  shift
  options=
  while [ "$1" != -- ]; do
    options="$options $1"
    shift
  done
  shift
  echo "== $name:$options"
  "$smelt" fuse "$@" -o "$work/$name" $options >/dev/null 2>"$work/$name.log" || { cat "$work/$name.log"; exit 1; }
  said "$smelt" verify "$work/$name" "$@"
  said "$python" "$here/reference.py" check "$work/$name" "$@"
  case $options in
    *--energy*) ;; # ragged ranks, which FusionBench does not know
    *) said "$python" "$here/fusionbench.py" check "$work/$name" "$@" ;;
  esac
}

pool=$here/testdata/fuse
tiny="algebra=$pool/experts/algebra botany=$pool/experts/botany chess=$pool/experts/chess dance=$pool/experts/dance"
fused tiny --expert-rank 4 --router-rank 2 -- "$pool/base" $tiny
fused tiny-top2 --expert-rank 5 --router-rank 3 --top-k 2 -- "$pool/base" $tiny

vision=$shared/pools/vision
if [ -d "$vision" ]; then
  full= lora= mixed= i=0
  for dir in "$vision"/experts/*; do
    name=$(basename "$dir")
    full="$full $name=$dir"
    lora="$lora $name=$vision/lora/$name"
    i=$((i + 1))
    if [ $((i % 2)) = 0 ]; then mixed="$mixed $name=$dir"; else mixed="$mixed $name=$vision/lora/$name"; fi
  done
  fused vision-full --expert-rank 32 --router-rank 16 -- "$vision/base" $full
  fused vision-lora --expert-rank 8 --router-rank 4 -- "$vision/base" $lora
  fused vision-mixed --expert-rank 16 --router-rank 4 --top-k 2 -- "$vision/base" $mixed
  fused vision-bf16 --energy 0.9 --router-rank 8 -- "$vision/base-bf16" $full
else
  echo "no $vision here: only the tiny pool was checked"
fi

echo "== exports in peft, transformers and FusionBench"
said "$python" "$here/exports_check.py" --smelt "$smelt"

echo "== analysis beside numpy and FusionBench, adapters that begin in a subspace in peft"
said "$smelt" analyze "$pool/base" "$pool"/experts/* -o "$work/analysis"
said "$python" tools/golden/analysis.py check "$work/analysis" "$pool/base" "$pool"/experts/*
if [ -d "$vision" ]; then
  said "$smelt" analyze "$vision/base" "$vision/experts/mnist" "$vision/experts/gtsrb" -o "$work/analysis-vision"
  said "$python" tools/golden/analysis.py check "$work/analysis-vision" "$vision/base" "$vision/experts/mnist" "$vision/experts/gtsrb"
fi
said "$python" "$here/adapter_init.py" "$smelt"

echo "== fused models of every family in transformers"
said "$python" "$here/transformers_check.py" --quick --smelt "$smelt"

echo "== accuracies of the bundled pools, as smelt eval and as transformers see them"
for folder in examples/pools/*/; do
  said "$python" "$here/accuracy.py" --smelt "$smelt" "$folder"
done

echo "== forward passes beside transformers'"
"$python" "$here/models.py" --smelt "$smelt" --shared "$shared"

if [ -d "$shared/tokenizers" ]; then
  echo "== tokenizers"
  said tools/golden/tokenizer/parity.sh "$python" "$shared/tokenizers" "$vision/base" 10000
fi
