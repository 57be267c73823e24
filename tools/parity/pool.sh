#!/bin/sh
# Fuses the real pool in several ways and holds each result against the formula
# and FusionBench: all full experts, all LoRA adapters, both mixed (top-2), a
# bf16 base, and ranks chosen by energy and by budget.
#
#   pool.sh SMELT POOL [PYTHON]
set -eu

smelt=${1:?the smelt binary}
pool=${2:?the pool: base, base-bf16, experts/*, lora/*}
here=$(cd "$(dirname "$0")" && pwd)
python=${3:-$("$here/../peers/setup.sh")}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

# one NAME BASE FUSE-OPTIONS EXPERT...: fuse, then both checks
one() {
  name=$1 base=$2 options=$3
  shift 3
  # Options are words without spaces.
  # shellcheck disable=SC2086
  "$smelt" fuse "$base" "$@" -o "$work/$name" $options >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
  "$python" "$here/reference.py" check "$work/$name" "$base" "$@" || failed=1
  case $options in
  *--energy* | *--budget*) ;; # ragged ranks, which FusionBench does not know
  *) "$python" "$here/fusionbench.py" check "$work/$name" "$base" "$@" || failed=1 ;;
  esac
  rm -rf "${work:?}/$name"
}

mixed="full-1=$pool/experts/mnist full-2=$pool/experts/gtsrb lora-1=$pool/lora/arabic lora-2=$pool/lora/cifar10"
ranks="--expert-rank 32 --router-rank 16"
one full "$pool/base" "$ranks" "$pool"/experts/*
one lora "$pool/base" "$ranks" "$pool"/lora/*
# shellcheck disable=SC2086
one mixed "$pool/base" "$ranks --top-k 2" $mixed
one narrow "$pool/base" "--expert-rank 8 --router-rank 4" "$pool"/experts/*
one bf16 "$pool/base-bf16" "$ranks" "$pool"/experts/*
one energy "$pool/base" "--energy 0.9" "$pool"/experts/*
# shellcheck disable=SC2086
one budget "$pool/base" "--budget 1.25x" $mixed
exit $failed
