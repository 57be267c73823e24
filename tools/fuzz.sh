#!/usr/bin/env bash
# Runs every fuzz target of the module for the given number of inputs.
set -euo pipefail
count=${1:-20000}
for file in $(git ls-files '*_test.go' | xargs grep -l '^func Fuzz'); do
  for target in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$file"); do
    echo "fuzz $(dirname "$file") $target"
    go test "./$(dirname "$file")" -run '^$' -fuzz "^$target\$" -fuzztime "${count}x" | grep -v '^fuzz: elapsed'
  done
done
