#!/usr/bin/env bash
# What `make fuzz` runs: every fuzz target for FUZZTIME. What a run finds is
# written to the package's testdata/fuzz and is to be committed as a seed.
set -euo pipefail
cd "$(dirname "$0")/.."
GO=${GO:-go}
count=0
while IFS=: read -r file target; do
  dir=$(dirname "$file")
  echo "== ./$dir $target"
  $GO test "./$dir" -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-30s}"
  count=$((count + 1))
done < <(git grep -oE '^func Fuzz[A-Za-z0-9_]+' -- '*_test.go' | sed 's/func //')
echo "$count fuzz targets ran, none failed"
