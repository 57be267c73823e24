#!/usr/bin/env bash
# Makes the pages that smelt writes for the bundled pools and looks at
# them in headless Chromium, on a desk and on a phone, light and dark.
#
#   pages.sh SMELT OUT
#
# OUT/*.png are the pictures; the pages are in a folder for each pool and in OUT/demo.
set -euo pipefail
smelt=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
out=$2
here=$(dirname "$0")
sudo=$([ "$(id -u)" = 0 ] || echo sudo)

for need in node chromium; do
  [ "$need" = chromium ] && command -v "${CHROMIUM:-chromium}" >/dev/null && continue
  [ "$need" = node ] && command -v node >/dev/null && continue
  package=${need/node/nodejs}
  echo "pages: installing $package"
  { $sudo apt-get update -qq && $sudo apt-get install -qq -y --no-install-recommends "$package" fonts-liberation; } >/dev/null
done

rm -rf "$out" && mkdir -p "$out"
pools=$here/../../examples/pools
pages=()
# page NAME BASE EXPERT...: the analysis of a pool
page() {
  local name=$1
  shift
  "$smelt" analyze "$@" -o "$out/$name" >/dev/null
  pages+=("$out/$name/index.html")
}
page vision "$pools"/vision/base "$pools"/vision/experts/* "digits-lora=$pools/vision/lora/digits" "clocks-lora=$pools/vision/lora/clocks"
page vision-lora "$pools"/vision/base "$pools"/vision/lora/* --tasks "$pools/vision/tasks.yaml" --limit 8
page text2text "$pools"/text2text/base "$pools"/text2text/lora/* --tasks "$pools/text2text/tasks.yaml" --limit 8
page causal "$pools"/causal/base "$pools"/causal/lora/* --tasks "$pools/causal/tasks.yaml" --limit 8
"$smelt" demo -o "$out/demo" >/dev/null
node "$here/look.js" "$out" "${pages[@]}" "$out/demo/index.html"
