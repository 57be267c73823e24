#!/bin/sh
# Puts docs/benchmarks.md together from the fragments of one run.
set -eu
cat <<EOF
# Benchmarks

Made by the commands of \`make bench\` on $(date -u +%F): $(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores,
$(awk '/MemTotal/ {printf "%.0f GiB", $2 / 1048576}' /proc/meminfo), $(go version | cut -d' ' -f3). Times are medians; peers run beside us in the same run with
their best settings. These machines are noisy: read ratios.

EOF
for part in kernel linalg fuse models lora merge; do
  if [ -f "$1/$part.md" ]; then cat "$1/$part.md"; echo; fi
done
