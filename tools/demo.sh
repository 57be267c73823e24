#!/bin/sh
# make demo: two random base-sized checkpoints are no pool worth looking at, so
# this fuses the bundled one if it is there, else the tiny one of the tests.
set -eu
smelt=$1
pool=tools/parity/testdata/fuse
out=smelt-demo
rm -rf "$out" && mkdir "$out"
run() {
  echo
  echo "\$ smelt $*"
  "$smelt" "$@"
}
run inspect $pool/base
run fuse $pool/base $pool/experts/algebra $pool/experts/botany $pool/experts/chess $pool/experts/dance -o $out/fused --energy 0.95 --router-rank 2
run inspect $out/fused
run verify $out/fused $pool/base $pool/experts/algebra $pool/experts/botany $pool/experts/chess $pool/experts/dance
echo
echo "The fused checkpoint is in $out/fused. Next: smelt fuse BASE EXPERT... -o OUT on your own models."
