#!/usr/bin/env bash
# What `make crash` runs: the daemon is killed KILLS times (100) under load
# through every door, then its disk is filled under load (root needed). SEED
# repeats a run as far as timing allows. The last line sums up; the status is
# not 0 when anything was lost, or came twice without a reason.
set -uo pipefail
cd "$(dirname "$0")/.."
GO=${GO:-go}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
$GO test ./test/e2e -run '^(TestKillNine|TestFullDisk|TestKilledOnAFullDisk)$' -count=1 -v -timeout 2h \
  -kills "${KILLS:-100}" -seed "${SEED:-0}" 2>&1 | tee "$log" | grep -vE '^(=== |PASS$|FAIL$|--- PASS)'
status=${PIPESTATUS[0]}
awk '/^result: / {
  for (i = 1; i <= NF; i++) if (split($i, part, "=") == 2) sum[part[1]] += part[2]
  if (match($0, /seed [0-9]+/)) seed = substr($0, RSTART, RLENGTH)
} END { printf "accepted=%d lost=%d doubled=%d uncertain=%d (%s)\n", sum["accepted"], sum["lost"], sum["doubled"], sum["uncertain"], seed }' "$log"
exit "$status"
