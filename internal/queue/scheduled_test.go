package queue

import (
	"context"
	"slices"
	"testing"
	"time"

	"mailout/internal/mta"
)

// scheduled makes a delivery that is not to be sent for a while.
func (w *world) scheduled(wait time.Duration, rcpt string) *mta.Delivery {
	d := w.make(mta.DefaultStream, rcpt)
	d.Message.NotBefore = d.Message.Arrived.Add(wait).Truncate(time.Millisecond)
	d.Due = d.Message.NotBefore
	w.submit(d)
	return d
}

// TestScheduledMail: the first attempt is not before its time, whatever an
// operator or a restart does; notice and expiry count from that time.
func TestScheduledMail(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) {
			if d.Recipients[0].Address == "grey@one.example" {
				return each(d, greylisted()), 0
			}
			return good(d), 0
		}
		w.up()
		day := 24 * time.Hour
		plain, held := w.scheduled(7*day, "a@one.example"), w.scheduled(7*day, "held@one.example")
		w.scheduled(10*day, "grey@one.example")
		w.send("now@one.example")
		w.wait(time.Minute)
		if x, err := w.q.Why(context.Background(), plain); err != nil || x.Reason != "not to be sent before "+mta.FormatTime(plain.Message.NotBefore) || !x.Next.Equal(plain.Message.NotBefore) {
			t.Errorf("%+v %v", x, err)
		}
		w.command(VerbHold, held)
		if tally, _ := w.command(VerbRelease, w.store.get(held.Key())); tally.Changed != 1 {
			t.Errorf("%+v", tally)
		}
		if tally, _ := w.command(VerbRetry, w.store.get(plain.Key()), w.store.get(held.Key())); tally != (Tally{Skipped: 2}) {
			t.Errorf("%+v", tally)
		}
		w.wait(6 * day)
		if err := w.q.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		w.up() // later than its expiry would be, counted from the arrival
		w.wait(10 * day)
		for rcpt, first := range map[string]time.Duration{"a@one.example": 7 * day, "held@one.example": 7 * day, "grey@one.example": 10 * day} {
			if at := w.attempts(rcpt); len(at) == 0 || at[0] < first || at[0] > first+time.Minute {
				t.Errorf("%s was tried at %v", rcpt, at)
			}
		}
		var kinds []ReportKind
		for _, r := range w.reports() {
			kinds = append(kinds, r.Kind)
		}
		times := w.attempts("grey@one.example")
		if !slices.Equal(kinds, []ReportKind{ReportDelay, ReportFailure}) || times[len(times)-1] < 15*day {
			t.Errorf("reports %v, last tried at %v", kinds, times[len(times)-1])
		}
	})
}

// TestExpiresOfItsOwn: a message is given up at its own time when that comes
// before its stream's, with a last attempt shortly before; one that waits only
// ends at the moment.
func TestExpiresOfItsOwn(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.limit = 1
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) {
			if d.Destination.Domain == "slow.example" {
				return good(d), time.Hour
			}
			return each(d, greylisted()), 0
		}
		w.up()
		code := w.make(mta.DefaultStream, "code@one.example")
		code.Message.Expires = code.Message.Arrived.Add(4 * time.Minute)
		late := w.make(mta.DefaultStream, "late@one.example")
		late.Message.Expires = late.Message.Arrived.Add(100 * 24 * time.Hour)
		w.submit(code, late)
		w.send("first@slow.example")
		behind := w.make(mta.DefaultStream, "behind@slow.example")
		behind.Message.Expires = behind.Message.Arrived.Add(10 * time.Minute)
		w.submit(behind)
		w.wait(30 * time.Minute)
		if at := w.attempts("code@one.example"); len(at) != 2 || at[1] < 3*time.Minute || at[1] >= 4*time.Minute {
			t.Errorf("tried at %v", at)
		}
		for rcpt, minute := range map[string]time.Duration{"code@one.example": 4, "behind@slow.example": 10} {
			var ended []time.Duration
			for _, r := range w.store.events(mta.EventExpired) {
				if r.Recipient == rcpt {
					ended = append(ended, r.Time.Sub(w.start).Round(time.Minute))
				}
			}
			if !slices.Equal(ended, []time.Duration{minute * time.Minute}) {
				t.Errorf("%s expired at %v", rcpt, ended)
			}
		}
		if len(w.attempts("behind@slow.example")) != 0 {
			t.Error("attempted after its time")
		}
		w.wait(6 * 24 * time.Hour)
		if !slices.ContainsFunc(w.store.events(mta.EventExpired), func(r *mta.Record) bool { return r.Recipient == "late@one.example" }) {
			t.Error("the stream's expiry is not the latest")
		}
	})
}

// TestExpiresIsAMoment: the time that the guard took moves a message's arrival,
// for direct mail, and its own expiry never.
func TestExpiresIsAMoment(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		now := time.Now().UTC()
		w.opts.Guarded = []Span{{From: now.Add(-2 * time.Hour), To: now.Add(-time.Hour)}}
		w.up()
		d := w.make(mta.DefaultStream, "a@one.example")
		d.Message.Arrived = now.Add(-3 * time.Hour)
		for _, routed := range []bool{false, true} {
			for left, open := range map[time.Duration]bool{30 * time.Minute: true, -time.Millisecond: false} {
				m := *d.Message
				m.Expires = now.Add(left)
				at := *d
				at.Message = &m
				o := w.q.conclude(&entry{d: &at, routed: routed}, &mta.Attempt{Results: each(d, greylisted())}, mta.Last{})
				if (o.out.settlement.Next != nil) != open {
					t.Errorf("routed %t, %v before its end: open %t", routed, left, !open)
				}
			}
		}
	})
}
