package conformance

import (
	"sort"
	"time"

	"mailout/internal/spool"
)

// reservations gives the store as what finds requests that came before.
func (e *env) reservations() spool.Reservations {
	e.Helper()
	r, ok := e.s.(spool.Reservations)
	if !ok {
		e.Fatal("the store keeps no reservations")
	}
	return r
}

func (e *env) reserved(key byte, now time.Time) []spool.Reservation {
	e.Helper()
	out, err := e.reservations().Reserved(e.ctx, [16]byte{key}, now)
	e.must(err)
	sort.Slice(out, func(i, j int) bool { return out[i].Part < out[j].Part })
	return out
}

// putReserved puts message n with a reservation.
func (e *env) putReserved(n uint64, key byte, part uint32, made time.Time) spool.Reservation {
	e.Helper()
	sub := e.sub(n, "x", "a@one.example")
	sub.Reserve = &spool.Reservation{Key: [16]byte{key}, Part: part, Request: [16]byte{9, key}, Made: made}
	e.must(e.s.Put(e.ctx, sub))
	out := *sub.Reserve
	out.Message = sub.Message.ID
	return out
}

// reservations are found by their key alone, as long as they live, also after a
// restart and when the message is gone.
func reservations(e *env) {
	first, second := e.putReserved(1, 1, 0, at(0)), e.putReserved(2, 1, 70000, at(3*3600))
	other := e.putReserved(3, 2, 0, at(0))
	e.put(4, "without", "a@one.example")
	check := func() {
		e.Helper()
		e.equal(e.reserved(1, at(1)), []spool.Reservation{first, second})
		e.equal(e.reserved(2, at(1)), []spool.Reservation{other})
		e.equal(e.reserved(0, at(1)), []spool.Reservation(nil))
		e.equal(len(e.reserved(1, at(-3600))), 2) // the clock was set back
		e.equal(len(e.reserved(1, at(0).Add(spool.ReservationLife-time.Second))), 2)
		e.equal(e.reserved(1, at(0).Add(spool.ReservationLife)), []spool.Reservation{second})
		e.equal(e.reserved(1, at(0).Add(2*spool.ReservationLife)), []spool.Reservation(nil))
	}
	check()
	e.reopen()
	check()
	ds, err := e.s.Get(e.ctx, first.Message)
	e.must(err)
	e.settle(&spool.Settlement{Delivery: ds[0].Key()})
	check()
}

// reservationsRefused: a message that is not stored leaves no reservation.
func reservationsRefused(e *env) {
	used := e.put(1, "x", "a@one.example")
	sub := e.sub(2, "x", "a@one.example")
	sub.Reserve = &spool.Reservation{Key: [16]byte{1}, Made: at(0)}
	sub.Message.ID = used.Message.ID
	if err := e.s.Put(e.ctx, sub); err == nil {
		e.Fatal("an ID is used twice")
	}
	e.equal(len(e.reserved(1, at(1))), 0)
}

// pruneReservations: pruning removes what is too old, and nothing else.
func pruneReservations(e *env) {
	now := time.Now().Truncate(time.Second).UTC()
	old := now.Add(-2 * spool.ReservationLife)
	e.putReserved(1, 1, 0, old)
	young := e.putReserved(2, 1, 1, now.Add(-spool.ReservationLife+time.Minute))
	e.equal(len(e.reserved(1, old)), 1)
	e.must(e.s.Prune(e.ctx, old))
	e.equal(len(e.reserved(1, old)), 0)
	e.equal(e.reserved(1, now), []spool.Reservation{young})
}
