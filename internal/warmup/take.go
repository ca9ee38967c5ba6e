package warmup

import (
	"maps"
	"time"

	"mailout/internal/mta"
)

const (
	// reserving is how long a refusal lasts that waits for a reservation: a write.
	reserving = 50 * time.Millisecond
	// bulky is how long one lasts that a delivery with several recipients gets
	// while there is room for one: the others are not kept waiting for it.
	bulky = time.Minute
)

// Take takes a delivery's recipients out of what the route's source may send to
// its provider: queue.Quota. Routes that are not marked, or whose source is warm
// meanwhile, are not counted.
func (l *Ledger) Take(route *mta.Route, d *mta.Delivery, now time.Time) (again time.Time, ok bool) {
	if route.Warming == nil {
		return time.Time{}, true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.mu.open {
		return now.Add(soonest), false
	}
	priority := l.mu.streams[d.Destination.Stream]
	f := flight{day: dayOf(now), n: max(1, len(d.Recipients)), first: priority == First}
	i := 0
	for _, s := range route.Sources {
		a := l.account(s.IP, route.Provider, f.day)
		if a == nil || i > 0 && a == f.accounts[0] || i == len(f.accounts) {
			continue
		}
		if priority == Never {
			return f.day.end(), false
		}
		if wait := l.room(a, f, now); wait > 0 {
			return now.Add(wait), false
		}
		f.accounts[i] = a
		i++
	}
	l.use(f, d.Key(), now)
	return time.Time{}, true
}

// room says how long an account has no room for f; 0 when it has.
func (l *Ledger) room(a *account, f flight, now time.Time) time.Duration {
	r := a.record(now)
	past := now.Sub(r.day.begin())
	ceiling := l.ceiling(a, r.day)
	if r.stopped != "" || ceiling-r.used <= 0 {
		return hoursADay - past
	}
	allowed := func(p time.Duration) int {
		n := paced(ceiling, p) - r.used
		if !f.first && l.mu.anyFirst {
			n = min(n, pacedOthers(ceiling, p)-(r.used-r.first))
		}
		return n
	}
	if free := allowed(past); free < f.n {
		wait := when(f.n, past, allowed) - past
		if free > 0 { // for others
			wait = min(wait, bulky)
		}
		return max(wait, soonest)
	}
	if r.reserved-r.used < f.n {
		l.reserve(a, r, ceiling, f.n)
		return reserving
	}
	return 0
}

// reserve asks the writer for more of a day, when what is there runs low.
func (l *Ledger) reserve(a *account, r *record, ceiling, need int) {
	if r.asked > r.reserved || r.reserved >= ceiling {
		return
	}
	size := reservation(ceiling - r.reserved)
	if r.reserved-r.used >= max(need, size/2+1) {
		return
	}
	r.asked = min(ceiling, max(r.reserved+size, r.used+need))
	l.mark(a)
}

// use takes f out of its accounts.
func (l *Ledger) use(f flight, key mta.DeliveryKey, now time.Time) {
	for _, a := range f.accounts {
		if a == nil {
			continue
		}
		r := a.record(now)
		r.used += f.n
		if f.first {
			r.first += f.n
		}
		l.reserve(a, r, l.ceiling(a, r.day), 1)
	}
	if f.accounts[0] == nil {
		return
	}
	if len(l.mu.flights) >= maxFlights { // some never landed: those of days ago
		maps.DeleteFunc(l.mu.flights, func(_ mta.DeliveryKey, old flight) bool { return old.day < f.day-1 })
	}
	if len(l.mu.flights) < maxFlights {
		l.mu.flights[key] = f
	}
}

// land ends a flight of which some recipients were delivered, or may have been;
// the rest is given back to the day that it was taken from.
func (l *Ledger) land(key mta.DeliveryKey, sent int) {
	f, known := l.mu.flights[key]
	if !known {
		return
	}
	delete(l.mu.flights, key)
	back := max(0, f.n-sent)
	for _, a := range f.accounts {
		if a == nil {
			continue
		}
		if r := a.day(f.day); r != nil {
			r.used = max(0, r.used-back)
			if f.first {
				r.first = max(0, r.first-back)
			}
		}
	}
}
