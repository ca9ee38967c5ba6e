#!/usr/bin/env bash
# Profiles mailout under one case: `[SIGN=ed|rsa] bench/profile.sh [CASE] [N] [KINDS]`.
# KINDS is "cpu" (default), or "cpu block mutex": the latter two slow it down.
# The profiles are in bench/.work/out; the tops of them are printed.
set -euo pipefail
cd "$(dirname "$0")"
CASES=${1:-a} N=${2:-50000} PROFILE=${3:-cpu} ROUNDS=1 PEERS=profiled ./run.sh
go=${GO:-go}
for k in cpu allocs block mutex; do
  f=.work/out/$k.pprof
  [ -s "$f" ] || continue
  echo "== $k"
  "$go" tool pprof -top -nodecount=40 .work/bin/profiled "$f" 2>/dev/null
done
