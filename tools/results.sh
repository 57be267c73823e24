#!/usr/bin/env bash
# Fuses, merges and evaluates every pool and writes docs/results.md and the
# README's picture:
#
#   results.sh SMELT PYTHON
#
# The bundled pools, and the real vision pool of ../shared (or $SMELT_SHARED),
# whose task file is made from its tasks.json by PYTHON. Merges have their usual
# settings; nothing is chosen on these test sets.
set -euo pipefail
smelt=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
python=$2
shared=${SMELT_SHARED:-../shared}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

quietly() { "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }; }

# table TITLE TASKS BASE EXPERTS EXPERT-RANKS ROUTER-RANKS: one pool, one kind of experts
table() {
  local title=$1 tasks=$2 base=$3 experts=$4 ranks=$5 routers=$6 rows=("base=$3") ensemble=() name
  rm -rf "$work/m" && mkdir "$work/m"
  for method in simple_average "task_arithmetic --scaling-factor 0.3" ties dare_ties; do
    # shellcheck disable=SC2086
    name=${method%% *}
    quietly "$smelt" merge $method "$base" "$experts"/* -o "$work/m/$name"
    rows+=("${name//_/ }=$work/m/$name")
  done
  quietly "$smelt" fuse "$base" "$experts"/* -o "$work/m/smile" --expert-rank "${ranks##*,}" --router-rank "${routers##*,}"
  rows+=("SMILE=$work/m/smile")
  grep -q 'type: image-classification' "$tasks" && ensemble=(--ensemble mean --ensemble max)
  quietly "$smelt" eval "${rows[@]}" --experts "individual=$experts" "${ensemble[@]}" --tasks "$tasks" \
    --sweep "expert-rank=$ranks" --sweep "router-rank=$routers" -o "$work/m/out"
  echo "## $title"
  echo
  cat "$work/m/out/results.md"
  echo
}

{
  cat <<'END'
# Results

Made by `make results`: each pool is fused and merged by `smelt`, and every row is one line of `smelt eval`. Accuracy in % (exact
match for text), each model on each whole test set; × is the number of parameters relative to the base (of the part that the
tasks run), norm. the mean of accuracy relative to the individual expert. SMILE (g,k) has router rank g and expert rank k, top-1;
all its rows are cuts of one fused model. Merges have customary settings, chosen beforehand: task arithmetic λ = 0.3, TIES λ = 1
and density 0.2, DARE with TIES λ = 1 and density 0.5. `tools/parity/accuracy.py` (in CI) gets the same accuracies from
transformers running the same checkpoints. How the bundled pools were made, and what they show less well than real ones, is in
[examples/pools](../examples/pools/README.md).

Read with it: SMILE is near the individual experts on the bundled pools, whose tasks look different. There its adapters, kept exactly
at their own rank 16, do as well as the full fine-tunes or better, because they were made so that A, whose rows the router reads,
holds what the task's inputs look like; where A is mostly its random draw, as in the real pool's adapters, routing is a toss. On the
real pool's full fine-tunes SMILE is no better than merging: its ten tasks are near one another (six sets of digits or letters), and
its fine-tunes also moved norms and embeddings, which SMILE keeps from the base.

END
  pools=examples/pools
  table "Bundled vision pool, full fine-tunes" $pools/vision/tasks.yaml $pools/vision/base $pools/vision/experts 4,8,16,32,64 4,16
  table "Bundled vision pool, LoRA adapters of rank 16" $pools/vision/tasks.yaml $pools/vision/base $pools/vision/lora 2,4,8,16 2,4,8,16
  table "Bundled text-to-text pool, LoRA adapters of rank 16" $pools/text2text/tasks.yaml $pools/text2text/base $pools/text2text/lora 2,4,8,16 2,4,8,16
  table "Bundled causal pool, LoRA adapters of rank 16" $pools/causal/tasks.yaml $pools/causal/base $pools/causal/lora 2,4,8,16 2,4,8,16
  if [ -d "$shared/pools/vision" ]; then
    "$python" tools/pools/tasks_of.py "$shared/pools/vision" "$work/tasks.yaml" --heads
    real=$shared/pools/vision
    table "A real pool: mini CLIP, ten image tasks, full fine-tunes" "$work/tasks.yaml" "$real/base" "$real/experts" 4,8,16,32,128 4,16
    table "A real pool: mini CLIP, ten image tasks, LoRA adapters of rank 8" "$work/tasks.yaml" "$real/base" "$real/lora" 2,4,8 2,4,8
  fi
} >"$work/results.md"
quietly "$smelt" demo -o "$work/demo"
mv "$work/results.md" docs/results.md
mv "$work/demo/figures/tradeoff.svg" docs/images/tradeoff.svg
