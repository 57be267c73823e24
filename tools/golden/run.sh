#!/bin/sh
# Writes every golden fixture of the repository again: run.sh PYTHON [NAME...]
#
# PYTHON is that of tools/peers/setup.sh. NAMEs choose parts by the first words
# below (merge, tokenizer, ...); all are made without them. What differs afterwards is
# a change of a peer, or of a script: look at it with git diff before it is committed.
# Fixtures that hold files of PyTorch's own serialisation may differ in the
# order of keys from one release to the next.
set -eu
python=$(command -v "$1")
shift
cd "$(dirname "$0")/../.."
root=$PWD
export OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
wanted=" $* "

golden() { # NAME FOLDER SCRIPT ARGUMENTS...
  name=$1 folder=$2
  shift 2
  case $wanted in "  " | *" $name "*) ;; *) return 0 ;; esac
  echo "== $*"
  (cd "$root/$folder" && "$python" "$@")
}

golden dtype . tools/golden/checkpoint/dtype.py dtype/testdata/torch.json
golden safetensors . tools/golden/checkpoint/safetensors_py.py write safetensors/testdata/python
golden safetensors . tools/golden/checkpoint/safetensors_py.py check safetensors/testdata/ours.safetensors
golden checkpoint . tools/golden/checkpoint/names.py checkpoint/testdata/names
golden checkpoint . tools/golden/checkpoint/adapters.py checkpoint/testdata/adapters
golden linalg . tools/golden/linalg/make.py linalg/testdata/golden.json
golden tokenizer tools/golden/tokenizer unicode.py ../../../tokenizer/tables.go
golden tokenizer tools/golden/tokenizer fixture.py ../../../tokenizer/testdata
golden chat tools/golden/tokenizer chat.py ../../../chat/testdata
golden processor tools/golden/processor golden.py ../../../processor/testdata
for script in rope clip t5 llama generate fused; do
  golden models . tools/golden/models/$script.py
done
golden merge . tools/golden/merge.py
golden ensemble . tools/golden/ensemble.py ensemble/testdata/golden.json
golden analysis . tools/golden/analysis.py write engine/testdata/analysis.json
golden eval . tools/golden/eval.py
golden fuse . tools/parity/reference.py golden
golden fuse . tools/parity/fusionbench.py golden
