#!/usr/bin/env bash
# What `make soak` runs: the daemon under a mixed load with faults for MINUTES
# (30), a line a minute, and a verdict. The status is not 0 when memory,
# goroutines, descriptors, threads or the spool grew, or when mail was lost.
# Memory is judged from 15 minutes on. SEED repeats the faults of a run.
set -uo pipefail
cd "$(dirname "$0")/.."
GO=${GO:-go}
$GO test ./test/e2e -run '^TestSoak$' -count=1 -v -timeout "$((${MINUTES:-30} + 20))m" \
  -soak "${MINUTES:-30}m" -seed "${SEED:-0}" 2>&1 | grep --line-buffered -vE '^(=== |PASS$|FAIL$)'
exit "${PIPESTATUS[0]}"
