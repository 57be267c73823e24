#!/usr/bin/env bash
# Compares the tokenizer package with the reference on generated lines and real
# vocabularies: parity.sh PYTHON FOLDER-WITH-VOCABULARIES CLIP-DIRECTORY [LINES]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$1" "$here/parity.py" "$(realpath "$2")" "$(realpath "$3")" "$work" "${4:-12000}"
cd "$here" && go run ./parity "$work"
