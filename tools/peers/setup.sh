#!/bin/sh
# Makes a throw-away Python environment with the peers that smelt is held against.
#
#   setup.sh [DIR [SET]]
#
# DIR defaults to $SMELT_PEERS, else ~/.cache/smelt/peers. SET names another pin
# list beside this script, requirements-SET.txt, whose environment is DIR-SET.
# A stamp holds the hash of the list: a second call returns at once. The last
# line on stdout is the environment's Python.
set -u

here=$(cd "$(dirname "$0")" && pwd)
dir=${1:-${SMELT_PEERS:-$HOME/.cache/smelt/peers}}
pins=$here/requirements.txt
if [ -n "${2:-}" ]; then
  pins=$here/requirements-$2.txt
  dir=$dir-$2
fi
uv_version=0.13.9

fail() {
  echo "peers: $1" >&2
  exit 1
}

[ -r "$pins" ] || fail "no pin list $pins: the second argument names requirements-SET.txt in $here"
command -v python3 >/dev/null || fail "python3 is missing: install Python 3.11 or newer"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  fail "$(python3 --version 2>&1) is too old: the pinned peers need Python 3.11 or newer"

hash=$(python3 -c 'import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())' "$pins")
if [ -f "$dir/smelt-peers.sha256" ] && [ "$(cat "$dir/smelt-peers.sha256")" = "$hash" ] && [ -x "$dir/bin/python" ]; then
  echo "$dir/bin/python"
  exit 0
fi

mkdir -p "$(dirname "$dir")" || fail "cannot make the parent of $dir"
log=$dir.log
if [ ! -x "$dir/bin/python" ]; then
  python3 -m venv "$dir" >"$log" 2>&1 ||
    fail "python3 -m venv $dir failed (Debian: apt-get install python3-venv): $(tail -n 1 "$log")"
fi
rm -f "$dir/smelt-peers.sha256"
if [ ! -x "$dir/bin/uv" ]; then
  "$dir/bin/python" -m pip install --quiet --disable-pip-version-check "uv==$uv_version" >"$log" 2>&1 ||
    fail "pip install uv==$uv_version failed, see $log: $(tail -n 1 "$log")"
fi
"$dir/bin/uv" pip install --quiet --python "$dir/bin/python" --requirement "$pins" >"$log" 2>&1 ||
  fail "uv pip install failed, see $log: $(grep -v '^$' "$log" | tail -n 1)"

echo "$hash" >"$dir/smelt-peers.sha256"
echo "$dir/bin/python"
