#!/usr/bin/env bash
# Makes the pages that smelt writes for the bundled vision pool and looks at
# them in headless Chromium, on a desk and on a phone, light and dark.
#
#   pages.sh SMELT OUT
#
# OUT/*.png are the pictures, OUT/analyze and OUT/demo the pages.
set -euo pipefail
smelt=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
out=$2
here=$(dirname "$0")
pool=$here/../../examples/pools/vision
sudo=$([ "$(id -u)" = 0 ] || echo sudo)

for need in node chromium; do
  [ "$need" = chromium ] && command -v "${CHROMIUM:-chromium}" >/dev/null && continue
  [ "$need" = node ] && command -v node >/dev/null && continue
  package=${need/node/nodejs}
  echo "pages: installing $package"
  { $sudo apt-get update -qq && $sudo apt-get install -qq -y --no-install-recommends "$package" fonts-liberation; } >/dev/null
done

rm -rf "$out" && mkdir -p "$out"
experts=()
for d in "$pool"/experts/*; do experts+=("$d"); done
experts+=("digits-lora=$pool/lora/digits" "clocks-lora=$pool/lora/clocks")
"$smelt" analyze "$pool/base" "${experts[@]}" -o "$out/analyze" >/dev/null
"$smelt" demo -o "$out/demo" >/dev/null
node "$here/look.js" "$out" "$out/analyze/index.html" "$out/demo/index.html"
