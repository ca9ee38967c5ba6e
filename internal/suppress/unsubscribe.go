package suppress

import (
	"context"

	"mailout/internal/mta"
)

// Unsubscribe lists an address for a stream because its owner said so, and
// returns when that is on stable storage; also where nothing is to be learned
// (Settings.Off). how is kept as what was said. What stood there for another
// reason gives way: it might not count in the stream. fresh is false when the
// owner had said so before.
func (l *List) Unsubscribe(ctx context.Context, address, stream string, message mta.ID, how string) (fresh bool, err error) {
	now := stamp(l.now())
	e := &Entry{Address: fold(address), Stream: stream, Reason: Unsubscribed, Reply: cut(how, MaxReply), Message: message, Since: now, Hits: 1, Last: now}
	l.writes.Lock()
	defer l.writes.Unlock()
	before, err := l.get(ctx, e.name())
	if err != nil {
		return false, err
	}
	switch {
	case before == nil || !before.active(now):
		l.counts.entries[number(Unsubscribed)].Add(1)
	case before.Reason == Unsubscribed && before.Expires.IsZero():
		return false, nil
	default:
		e.Since, e.Hits = before.Since, before.Hits+1
		l.counts.entries[number(before.Reason)].Add(-1)
		l.counts.entries[number(Unsubscribed)].Add(1)
	}
	value, err := e.encode()
	if err != nil {
		return false, err
	}
	if err := l.set(ctx, map[string][]byte{e.name(): value}); err != nil {
		return false, err
	}
	l.counts.learnt[number(Unsubscribed)].Add(1)
	return true, nil
}

// Left reports whether the owner of an address has left a stream.
func (l *List) Left(ctx context.Context, address, stream string) (bool, error) {
	e, err := l.get(ctx, entryName(fold(address), stream))
	return e != nil && e.Reason == Unsubscribed && e.Expires.IsZero(), err
}
