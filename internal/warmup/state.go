package warmup

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// State is how far a source's warm-up is at one provider.
type State struct {
	Source   netip.Addr `json:"source"`
	Provider string     `json:"provider"` // as in Plan.Providers: Other for everybody else
	Plan     string     `json:"plan"`
	Origin   string     `json:"origin"` // the configuration line
	Day      int        `json:"day"`    // of the plan, from 1; 0 before the first
	Days     int        `json:"days"`   // of the plan
	Ceiling  int        `json:"ceiling"`
	Allowed  int        `json:"allowed"` // of the ceiling, up to now: what is not sent yet is spread over the day
	Sent     int        `json:"sent"`    // today, with what is under way
	Back     int        `json:"back"`    // days that bad signs have cost
	// Stopped says why nothing more is sent today; empty: nothing against it.
	Stopped string    `json:"stopped,omitempty"`
	Warm    time.Time `json:"warm"` // the first day without a ceiling, when all goes well
}

// State tells of one source at one provider (as in mta.Route); false when it is
// not warming there.
func (l *Ledger) State(source netip.Addr, provider string) (State, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state(source, provider, l.now())
}

// States tells of all, by source and provider: of those that were sent to, and
// of Other.
func (l *Ledger) States() []State {
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []State
	add := func(source netip.Addr, provider string) {
		if s, ok := l.state(source, provider, now); ok {
			out = append(out, s)
		}
	}
	for source := range l.mu.sources {
		add(source, "")
	}
	for k := range l.mu.accounts {
		if k.provider != "" {
			add(k.source, k.provider)
		}
	}
	slices.SortFunc(out, func(a, b State) int {
		return cmp.Or(a.Source.Compare(b.Source), cmp.Compare(a.Provider, b.Provider))
	})
	return out
}

func (l *Ledger) state(source netip.Addr, provider string, now time.Time) (State, bool) {
	s := l.mu.sources[source]
	if s == nil {
		return State{}, false
	}
	today := dayOf(now)
	a := l.mu.accounts[accountKey{source, provider}]
	if a == nil {
		a = &account{key: accountKey{source, provider}} // nothing is remembered of asking
	}
	a.follow(dayOf(s.Start))
	days, step := s.Plan.days(provider), a.step(today)
	if step >= days {
		return State{}, false
	}
	out := State{
		Source: source, Provider: name(provider), Plan: s.Plan.Name, Origin: s.Origin,
		Day: max(0, step+1), Days: days, Ceiling: l.ceiling(a, today), Back: a.back,
		Warm: (today + day(days-step)).begin(),
	}
	out.Allowed = paced(out.Ceiling, now.Sub(today.begin()))
	if r := a.day(today); r != nil {
		out.Sent, out.Stopped = r.used, r.stopped
	}
	return out, true
}

// String is the state in a sentence.
func (s State) String() string {
	if s.Day == 0 {
		return fmt.Sprintf("%s sends nothing to %s yet: its warm-up begins on %s", s.Source, s.Provider, s.Warm.AddDate(0, 0, -s.Days).Format(time.DateOnly))
	}
	text := fmt.Sprintf("%s is on day %d of %d of its warm-up at %s: %d of %d recipients today", s.Source, s.Day, s.Days, s.Provider, s.Sent, s.Ceiling)
	switch {
	case s.Stopped != "":
		return text + "; stopped for today: " + s.Stopped
	case s.Sent >= s.Ceiling:
		return text + ", the ceiling; more from 00:00 UTC on"
	case s.Sent >= s.Allowed:
		return text + fmt.Sprintf("; %d of them until now, more as the day goes on", s.Allowed)
	}
	return text
}
