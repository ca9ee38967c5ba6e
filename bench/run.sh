#!/usr/bin/env bash
# What `make bench` runs: mailout and its peers relay the same mail on this
# machine, in a network namespace of their own, and the table goes to
# bench/RESULTS.md. `bench/run.sh micro` runs the Go benchmarks instead, and
# `bench/profile.sh` profiles mailout in one of the cases. See bench/README.md.
#
#   ROUNDS=5 N=20000 CASES="a b c d e" PEERS="…" make bench
set -euo pipefail
cd "$(dirname "$0")"
GO=${GO:-go}
if [ "${1:-}" = micro ]; then
  cd .. && exec "$GO" test -run '^$' -bench . -benchtime 1s -benchmem ./internal/...
fi
stop() { echo "bench: $*" >&2; exit 1; }
[ "$(uname)" = Linux ] || stop "needs Linux: the peers run in namespaces"
[ "$(id -u)" = 0 ] || stop "needs root: the peers run in namespaces (nothing is installed)"
HARAKA=${HARAKA:-3.3.4}

# ---- the programs ----
[ -e ../test/lab/root/.complete ] || ../test/lab/fetch.sh
work=$PWD/.work
mkdir -p "$work"/{bin,haraka,out,spool}
exec 9>"$work/lock"
flock -n 9 || stop "another run is under way"
version=$(git describe --tags --always --dirty 2>/dev/null || echo devel)
export CGO_ENABLED=0
(cd .. && "$GO" build -trimpath -ldflags "-X main.version=$version" -o "$work/bin/mailout" ./cmd/mailout)
for p in . nostore syncrate profiled; do
  name=$(basename "$(realpath "$p")")
  (cd .. && "$GO" build -trimpath -o "$work/bin/$name" "./bench/$p")
done
if ! [ -e "$work/haraka/node_modules/Haraka/package.json" ]; then
  if command -v npm >/dev/null && command -v node >/dev/null; then
    (cd "$work/haraka" && npm install --no-audit --no-fund --omit=dev "Haraka@$HARAKA" >npm.log 2>&1) ||
      echo "bench: npm could not install Haraka (bench/.work/haraka/npm.log); going on without" >&2
  else
    echo "bench: no node or npm; going on without Haraka" >&2
  fi
fi

# ---- the run, in namespaces that end with it ----
export BENCH=$PWD LAB=$PWD/../test/lab
whole=$([ -z "${CASES:-}${PEERS:-}${PROFILE:-}" ] && echo yes || :)
export ROUNDS=${ROUNDS:-5} N=${N:-20000} CASES=${CASES:-a b c d e} PEERS=${PEERS:-} PROFILE=${PROFILE:-}
rm -rf "$work/spool" "$work/out"; mkdir -p "$work/spool" "$work/out"
status=0
unshare --net --mount --pid --fork --kill-child=KILL bash "$BENCH/inside.sh" || status=$?
rm -rf "$work/spool"
# The results of a part stay in bench/.work/out.
if [ -n "$whole" ] && [ -s "$work/out/RESULTS.md" ]; then cp "$work/out/RESULTS.md" RESULTS.md; fi
exit "$status"
