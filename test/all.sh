#!/usr/bin/env bash
# What `make test` runs: every Go test, with the race detector where a C
# compiler is found, then the tests against real peers (test/lab) where root,
# apt and Linux namespaces allow. What is skipped is said, with the reason.
# COVER=1 counts which statements ran, into cover.out.
set -uo pipefail
cd "$(dirname "$0")/.."
GO=${GO:-go}
started=$(date +%s)

race=()
if command -v "$($GO env CC)" >/dev/null 2>&1; then
  race=(-race)
else
  echo "note: no C compiler, so the race detector is off (install gcc to have it)"
fi

cover=()
[ -z "${COVER:-}" ] || cover=(-coverprofile=cover.out)

log=$(mktemp)
trap 'rm -f "$log"' EXIT
CGO_ENABLED=$([ ${#race[@]} -gt 0 ] && echo 1 || echo 0) \
  $GO test ${race[@]+"${race[@]}"} ${cover[@]+"${cover[@]}"} -count=1 -timeout 40m -json ./... 2>&1 | $GO run ./test/summary | tee "$log"
status=${PIPESTATUS[0]}
[ "${PIPESTATUS[1]:-0}" -eq 0 ] || status=1
[ -z "${COVER:-}" ] || $GO tool cover -func=cover.out | tail -1
echo "took $(($(date +%s) - started)) s"
exit "$status"
