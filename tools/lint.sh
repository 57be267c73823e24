#!/bin/sh
# The lint floor: formatting, vet, staticcheck with its doc checks, builds for
# other systems, and what this project does not want to see.
set -eu
lint="go tool -modfile=tools/lint.mod"
status=0
bad=$($lint gofumpt -l $(git ls-files '*.go'))
[ -z "$bad" ] || { echo "gofumpt would change: $bad"; status=1; }
go vet ./... || status=1
$lint staticcheck ./... || status=1
for system in darwin/arm64 windows/amd64 linux/arm64; do
  GOOS=${system%/*} GOARCH=${system#*/} go build -o /dev/null ./cmd/smelt || { echo "does not build for $system"; status=1; }
done
if git grep -nE 'TO''DO|FIX''ME|\b[tb]\.Skip(f|Now)?\(' -- '*.go' '*.py' '*.sh'; then
  echo "unfinished or skipping code"
  status=1
fi
big=$(git ls-files -z | xargs -0 -r du -k | awk '$1 > 4096 {print $2}')
[ -z "$big" ] || { echo "over 4 MiB: $big"; status=1; }
exit $status
