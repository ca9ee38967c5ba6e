package warmup

import (
	"log/slog"
	"net/netip"

	"mailout/internal/mta"
)

// Learn takes in what an attempt by a marked route came to: what was taken for
// it and not delivered is given back, and replies are judged. It is called once
// for each delivery that Take let pass.
func (l *Ledger) Learn(route *mta.Route, d *mta.Delivery, a *mta.Attempt) {
	if route.Warming == nil {
		return
	}
	sent := 0
	for i := range a.Results {
		if c := a.Results[i].Class; c == mta.ClassDelivered || c == mta.ClassUncertain {
			sent++
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.land(d.Key(), sent)
	l.judge(sourceOf(route, a), route.Provider, func(s *signs) {
		for i := range a.Results {
			s.take(&a.Results[i])
		}
	})
}

// sourceOf is the source that an attempt used, or would have.
func sourceOf(route *mta.Route, a *mta.Attempt) netip.Addr {
	for _, s := range route.Sources {
		if s.IP == a.Source {
			return s.IP
		}
	}
	if len(route.Sources) > 0 {
		return route.Sources[0].IP
	}
	return netip.Addr{}
}

// Complained takes in that a recipient complained of mail from a source. The
// provider is as in mta.Route; the complaint counts on the day it comes in.
func (l *Ledger) Complained(source netip.Addr, provider string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.judge(source, provider, func(s *signs) { s.Complained++ })
}

// judge counts signs, and stops the account when there are too many bad ones.
func (l *Ledger) judge(source netip.Addr, provider string, count func(*signs)) {
	now := l.now()
	a := l.account(source, provider, dayOf(now))
	if !l.mu.open || a == nil {
		return
	}
	r := a.record(now)
	count(&r.signs)
	if r.stopped != "" {
		return
	}
	if r.stopped = verdict(a, r); r.stopped == "" {
		return
	}
	step := a.step(r.day)
	if back := l.mu.sources[source].Plan.StepBack; back > 0 && step >= 0 {
		a.back = int(r.day+1-a.start) - max(0, step-back)
	}
	l.mark(a)
	l.mu.stops = append(l.mu.stops, Stop{At: now, Source: source, Provider: name(a.key.provider), Reason: r.stopped, Day: step + 1, Next: a.step(r.day+1) + 1})
}

// tell makes stops known, by the writer.
func (l *Ledger) tell() {
	l.mu.Lock()
	stops := l.mu.stops
	l.mu.stops = nil
	l.mu.Unlock()
	for _, s := range stops {
		l.log.Warn("a warming source stops for today", mta.KeySource, s.Source.String(), mta.KeyProvider, s.Provider,
			mta.KeyReason, s.Reason, slog.Int(mta.KeyDay, s.Day), slog.Int(mta.KeyNext, s.Next))
		l.stopped(s)
	}
}
