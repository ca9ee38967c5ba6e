#!/usr/bin/env bash
# What `make lint` runs: each check says its name, and the script ends non-zero
# when one finds something. A tool that cannot be had is skipped, plainly.
set -uo pipefail
cd "$(dirname "$0")/.."
GO=${GO:-go}
failed=0
step() { printf '%-14s' "$1"; }
verdict() { if [ "$1" -eq 0 ]; then echo ok; else echo FOUND SOMETHING; failed=1; fi; }

step gofmt
unformatted=$(git ls-files '*.go' | xargs -r gofmt -l)
[ -z "$unformatted" ]; verdict $?
[ -z "$unformatted" ] || echo "$unformatted"

step vet
$GO vet ./...; verdict $?

step staticcheck
if $GO run "$STATICCHECK" -version >/dev/null 2>&1; then
  $GO run "$STATICCHECK" ./...; verdict $?
else
  echo "skipped: it cannot be downloaded here"
fi

step govulncheck
out=$($GO run "$GOVULNCHECK" ./... 2>&1); rc=$?
case "$rc" in
  0) echo ok ;;
  3) echo "$out"; verdict 1 ;; # vulnerabilities found
  *) echo "skipped: neither the tool nor its database could be reached ($(printf '%s' "$out" | tail -n 1))" ;;
esac
exit $failed
