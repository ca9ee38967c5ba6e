package journal_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"mailout/internal/journal"
	"mailout/internal/mta"
	"mailout/internal/spool"
)

// journalOf is a store that has only records.
type journalOf struct {
	spool.Store
	records []*mta.Record
	asked   []spool.RecordFilter
	err     error
}

func (s *journalOf) Records(_ context.Context, f spool.RecordFilter, each func(*mta.Record) bool) error {
	s.asked = append(s.asked, f)
	for _, r := range s.records {
		if !each(r) {
			break
		}
	}
	return s.err
}

func TestTraceAsksForIDOrAddress(t *testing.T) {
	t.Parallel()
	since := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	id := mta.NewID(since, [10]byte{1})
	for query, want := range map[string]spool.RecordFilter{
		id.String():                  {ID: id},
		" " + id.String() + "\n":     {ID: id},
		"01kjmmjg1004a0e0000000000m": {ID: must(mta.ParseID("01KJMMJG1004A0E0000000000M"))},
		"Ann@One.Example":            {Recipient: "Ann@one.example"},
		"<ann@one.example>":          {Recipient: "ann@one.example"},
		"ann@one.example.":           {Recipient: "ann@one.example"},
		"ann@bücher.example":         {Recipient: "ann@xn--bcher-kva.example"},
		"\"a b\"@one.example":        {Recipient: "\"a b\"@one.example"},
		"no address":                 {Recipient: "no address"},
		"ann@[192.0.2.1]":            {Recipient: "ann@[192.0.2.1]"},
	} {
		want.Since = since
		s := &journalOf{}
		if err := journal.Trace(t.Context(), s, query, since, nil); err != nil {
			t.Errorf("%q: %v", query, err)
		}
		if len(s.asked) == 0 || s.asked[0] != want {
			t.Errorf("%q asked for %+v, want %+v", query, s.asked, want)
		}
	}
}

func must(id mta.ID, err error) mta.ID {
	if err != nil {
		panic(err)
	}
	return id
}

// An empty query must not become "all records of everybody".
func TestTraceOfNothing(t *testing.T) {
	t.Parallel()
	for _, query := range []string{"", " ", "<>"} {
		s := &journalOf{records: []*mta.Record{{}}}
		err := journal.Trace(t.Context(), s, query, time.Time{}, func(*mta.Record) bool {
			t.Errorf("%q gave records", query)
			return true
		})
		if !errors.Is(err, journal.ErrQuery) {
			t.Errorf("%q: %v", query, err)
		}
	}
}

func TestTracePassesRecordsAndErrors(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	s := &journalOf{records: []*mta.Record{{Recipient: "1"}, {Recipient: "2"}, {Recipient: "3"}}, err: broken}
	var got []string
	err := journal.Trace(t.Context(), s, "a@one.example", time.Time{}, func(r *mta.Record) bool {
		got = append(got, r.Recipient)
		return len(got) < 2
	})
	if !errors.Is(err, broken) || !slices.Equal(got, []string{"1", "2"}) {
		t.Errorf("%v %v", got, err)
	}
}

func at(s int) time.Time { return time.Date(2026, 3, 1, 12, 0, s, 5e6, time.UTC) }

func TestAttempts(t *testing.T) {
	t.Parallel()
	ip := netip.MustParseAddr("192.0.2.1")
	one := mta.Record{Attempt: 1, Destination: "one.example", Site: "mx.one.example", Host: "mx.one.example", IP: ip, Helo: "us.example", Time: at(2)}
	rec := func(base mta.Record, f func(*mta.Record)) *mta.Record {
		f(&base)
		return &base
	}
	s := &journalOf{records: []*mta.Record{
		{Event: mta.EventAccepted, Time: at(1), Recipient: "a@one.example", Destination: "one.example"},
		rec(one, func(r *mta.Record) { r.Event, r.Recipient = mta.EventDelivered, "a@one.example" }),
		// Another destination's attempt ends in between.
		{Event: mta.EventFailed, Attempt: 1, Time: at(2), Destination: "two.example", Recipient: "c@two.example", Code: 550, Enhanced: "5.1.1"},
		rec(one, func(r *mta.Record) {
			r.Event, r.Recipient, r.Next, r.Reply = mta.EventDeferred, "b@one.example", at(300), "later"
			r.Tries = []mta.Try{{Host: "mx.one.example", IP: ip, Stage: mta.StageRcpt, Reply: "450 later"}}
		}),
		{Event: mta.EventHeld, Attempt: 1, Time: at(3), Destination: "one.example", Recipient: "b@one.example"},
		rec(one, func(r *mta.Record) {
			r.Event, r.Recipient, r.Attempt, r.Time, r.Uncertain = mta.EventDeferred, "b@one.example", 2, at(300), true
		}),
		// The expiry comes later, without an attempt of its own.
		{Event: mta.EventExpired, Attempt: 2, Time: at(900), Destination: "one.example", Recipient: "b@one.example", Enhanced: "5.4.7"},
		{Event: mta.EventBounced, Attempt: 2, Time: at(900), Destination: "one.example", Recipient: "b@one.example"},
	}}
	got, err := journal.Attempts(t.Context(), s, mta.ID{1})
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, a := range got {
		for _, o := range a.Results {
			lines = append(lines, a.Destination+" "+string(rune('0'+a.Number))+" "+a.Time+" "+o.Event.String()+" "+o.Recipient+" "+o.Next)
		}
	}
	want := []string{
		"one.example 1 2026-03-01T12:00:02.005Z delivered a@one.example ",
		"one.example 1 2026-03-01T12:00:02.005Z deferred b@one.example 2026-03-01T12:05:00.005Z",
		"two.example 1 2026-03-01T12:00:02.005Z failed c@two.example ",
		"one.example 2 2026-03-01T12:05:00.005Z deferred b@one.example ",
		"one.example 2 2026-03-01T12:05:00.005Z expired b@one.example ",
	}
	if !slices.Equal(lines, want) {
		t.Errorf("got  %q\nwant %q", lines, want)
	}
	if len(got[0].Tries) != 1 || got[0].Helo != "us.example" || got[0].IP != ip {
		t.Errorf("the attempt's facts: %+v", got[0])
	}
}

// Names in JSON are a promise to programs.
func TestAttemptJSON(t *testing.T) {
	t.Parallel()
	s := &journalOf{records: []*mta.Record{{
		Event: mta.EventDeferred, Attempt: 1, Time: at(2), Destination: "one.example", Recipient: "b@one.example",
		Code: 450, Enhanced: "4.7.1", Reply: "later", Reason: "greylisted", Next: at(300), Class: "temporary",
	}}}
	got, err := journal.Attempts(t.Context(), s, mta.ID{1})
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	const want = `[{"attempt":1,"time":"2026-03-01T12:00:02.005Z","destination":"one.example","results":[{"recipient":"b@one.example","event":"deferred","code":450,"enhanced":"4.7.1","reply":"later","reason":"greylisted","next":"2026-03-01T12:05:00.005Z"}]}]`
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
}
