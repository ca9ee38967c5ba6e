#!/bin/sh
# Breaks a promise on purpose, one after another, and shows which seed of the
# simulated world notices first. Files are replaced with go's -overlay: the
# tree is not touched.
#
#   test/world/mutations.sh [SEEDS]
set -eu
cd "$(dirname "$0")/../.."
seeds=${1:-60}
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT

# mutate NAME FILE OLD NEW: the first line that holds OLD is replaced by NEW.
mutate() {
	name=$1 file=$2 old=$3 new=$4
	if ! awk -v old="$old" -v new="$new" '!done && index($0, old) { print new; done = 1; next } { print } END { exit !done }' "$file" > "$work/file.go"; then
		echo "$name: $file has no line with: $old" >&2
		exit 1
	fi
	printf '{"Replace":{"%s":"%s"}}' "$PWD/$file" "$work/file.go" > "$work/overlay.json"
	if ! go test -c -overlay "$work/overlay.json" -o "$work/world.test" ./test/world 2> "$work/out"; then
		cat "$work/out" >&2
		exit 1
	fi
	(cd test/world && "$work/world.test" -test.run 'TestWorld$' -test.timeout 10m -seeds "$seeds" > "$work/out" 2>&1) && {
		echo "$name | not noticed in $seeds seeds"
		return
	}
	seed=$(grep -o 'seed [0-9]* breaks' "$work/out" | grep -o '[0-9][0-9]*' | sort -n | head -1)
	if [ -z "$seed" ]; then
		echo "$name | $(grep -m 1 -E 'panic|fatal|deadlock' "$work/out")"
		return
	fi
	count=$(grep -c 'breaks promises' "$work/out")
	what=$(grep -A1 "seed $seed breaks" "$work/out" | tail -1 | sed 's/^ *//' | cut -c1-100)
	echo "$name | seed $seed ($count of $seeds) | $what"
}

mutate 'delivered although the final reply was lost' internal/transport/trouble.go \
	'name: "connection lost after the content"' \
	'	{name: "connection lost after the content", sent: true, cause: mta.CauseIO, class: mta.ClassDelivered, scope: ofHost},'
mutate 'an uncertain attempt passes for a failed one' internal/transport/trouble.go \
	'name: "connection lost after the content"' \
	'	{name: "connection lost after the content", sent: true, cause: mta.CauseIO, class: temporary, scope: ofHost, report: enhanced(4, 4, 2)},'
mutate 'a report is dropped' internal/queue/settle.go \
	's.Reports = append(s.Reports, sub)' '		sub.Content.Discard()'
mutate 'no report of expiry' internal/queue/conclude.go \
	'g.report(&g.failed, mta.NotifyFailure, rcpt, res)' '			_ = rcpt'
mutate 'NOTIFY=NEVER is not heard' internal/queue/conclude.go \
	'if rcpt.Notify.Wants(event) {' '	if true {'
mutate 'one connection more than allowed' internal/shape/shape.go \
	'return int(c.window)' '		return int(c.window) + 1'
mutate 'messages per connection not counted' internal/transport/carrier.go \
	'return !w.session.Usable() ||' '	return !w.session.Usable()'
mutate 'accepted before the disk has it' internal/spool/pebble/commit.go \
	'if err := b.SyncWait(); err != nil {' '	if err := error(nil); true { go func() { _ = b.SyncWait(); _ = b.Close() }(); return err }; if err := error(nil); err != nil {'
mutate 'what is outside memory is forgotten' internal/queue/entry.go \
	'd.more, d.vague = true, false' '	d.vague = false'
mutate 'a rerouted delivery is forgotten' internal/queue/settle.go \
	'		l.moved(next)' '		_ = next'
mutate 'mail goes before its time' internal/submit/split.go \
	'Due: m.Start()' '		Recipients: rcpts, State: mta.Queued, Due: m.Arrived,'
mutate 'later records lose the tags' internal/spool/pebble/record.go \
	'Tags: rec.Tags' '			o.rec = mta.Record{MessageID: rec.MessageID, Stream: rec.Stream, Sender: rec.Sender, Size: rec.Size}'
mutate 'a restart does not read the spool' internal/queue/walk.go \
	'func (w *walk) take(q *Queue, p spool.Pending) bool {' 'func (w *walk) take(q *Queue, p spool.Pending) bool { if true { return true }'
mutate 'sessions do not wait for the record' internal/queue/worker.go \
	'if w.asking = w.unsettled > 0; w.asking {' '	if w.asking = false; w.asking {'
mutate 'a dot at the start of a line is not doubled' internal/smtp/dot.go \
	'if i < 0 {' '		if true {'
mutate 'no new session between two transactions' internal/transport/attempt.go \
	'reused = true' '		reused = false'
