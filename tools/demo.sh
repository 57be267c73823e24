#!/bin/sh
# make demo: fuses the bundled vision pool (a mini CLIP and eight fine-tunes of
# it), shows what is in the result, and checks it.
set -eu
smelt=$1
pool=examples/pools/vision
out=smelt-demo
rm -rf "$out" && mkdir "$out"
run() {
  echo
  echo "\$ smelt $*"
  "$smelt" "$@"
}
run inspect $pool/base
run fuse $pool/base $pool/experts/* -o $out/fused --budget 1.5x --router-rank 8
run inspect $out/fused
run verify $out/fused $pool/base $pool/experts/*
run edit $out/fused --drop clocks --drop plates -o $out/six
echo
echo "Eight fine-tunes in one checkpoint: $out/fused. It loads in transformers:"
echo "  AutoModel.from_pretrained(\"$out/fused\", trust_remote_code=True)"
echo "Next: bin/smelt fuse BASE EXPERT... -o OUT on your own models; bin/smelt --help."
