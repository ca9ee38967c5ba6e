package journal_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"mailout/internal/journal"
	"mailout/internal/mta"
	"mailout/internal/spool"
	"mailout/internal/spool/pebble"
)

// past is when the mail of these tests came in.
var past = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func minute(n int) time.Time { return past.Add(time.Duration(n) * time.Minute) }

// library is a store with mail in it.
type library struct {
	t *testing.T
	*pebble.Store
	ids []mta.ID
}

func newLibrary(t *testing.T) *library {
	t.Helper()
	s, err := pebble.Open(t.Context(), pebble.Options{Dir: t.TempDir(), Reserve: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return &library{t: t, Store: s}
}

// add takes a message in, and ends its recipients with the events given; an
// accepted one stays.
func (l *library) add(m mta.Message, user string, outcomes map[string]mta.Event) mta.ID {
	l.t.Helper()
	n := len(l.ids)
	at := minute(n)
	m.ID, m.Arrived = mta.NewID(at, [10]byte{byte(n), byte(n >> 8)}), at
	l.ids = append(l.ids, m.ID)
	if m.Stream == "" {
		m.Stream = mta.DefaultStream
	}
	if m.MessageID == "" {
		m.MessageID = "<" + m.ID.String() + "@here.example>"
	}
	d, err := l.Draft()
	if err != nil {
		l.t.Fatal(err)
	}
	if _, err := io.WriteString(d, "x"); err != nil {
		l.t.Fatal(err)
	}
	m.Size, m.Deliveries = 1, len(outcomes)
	sub := &spool.Submission{Message: &m, Content: d}
	var ends []*spool.Settlement
	to := make([]string, 0, len(outcomes))
	for r := range outcomes {
		to = append(to, r)
	}
	slices.Sort(to)
	for i, r := range to {
		_, domain, _ := strings.Cut(r, "@")
		del := &mta.Delivery{Message: &m, N: uint32(i), Destination: mta.Destination{Domain: domain, Stream: m.Stream}, Due: at, Recipients: []mta.Recipient{{Address: r}}}
		sub.Deliveries = append(sub.Deliveries, del)
		rec := mta.Record{Time: at, Event: mta.EventAccepted, ID: m.ID, MessageID: m.MessageID, Stream: m.Stream, Sender: m.Envelope.Sender,
			Recipient: r, Destination: domain, Size: 1, User: user, Tags: m.Tags, Metadata: m.Metadata}
		sub.Records = append(sub.Records, &rec)
		if outcomes[r] == mta.EventAccepted {
			continue
		}
		end := rec
		end.User, end.Time, end.Event, end.Attempt, end.Reply = "", at.Add(time.Second), outcomes[r], 1, "250 ok"
		s := &spool.Settlement{Delivery: del.Key(), Records: []*mta.Record{&end}}
		if outcomes[r] == mta.EventDeferred {
			next := *del
			next.State, next.Attempts, next.Due = mta.Deferred, 1, at.Add(time.Hour)
			s.Next = &next
		}
		ends = append(ends, s)
	}
	if err := l.Put(l.t.Context(), sub); err != nil {
		l.t.Fatal(err)
	}
	if _, err := l.Settle(l.t.Context(), ends...); err != nil {
		l.t.Fatal(err)
	}
	return m.ID
}

// find reads all pages and gives the messages' numbers.
func (l *library) find(s journal.Search) string {
	l.t.Helper()
	var out []string
	for pages := 0; ; pages++ {
		page, err := journal.Find(l.t.Context(), l, s)
		if err != nil {
			l.t.Fatal(err)
		}
		if s.Limit > 0 && len(page.Messages) > s.Limit {
			l.t.Fatalf("%d on a page of %d", len(page.Messages), s.Limit)
		}
		for _, m := range page.Messages {
			out = append(out, fmt.Sprint(slices.Index(l.ids, m.ID)))
		}
		if page.Cursor == "" {
			return strings.Join(out, " ")
		}
		if s.Cursor = page.Cursor; pages > 100 {
			l.t.Fatal("no end of pages")
		}
	}
}

func stocked(t *testing.T) *library {
	l := newLibrary(t)
	one := func(e mta.Event) map[string]mta.Event { return map[string]mta.Event{"ann@one.example": e} }
	l.add(mta.Message{Envelope: mta.Envelope{Sender: "erp@widget.com"}}, "erp", one(mta.EventDelivered))
	l.add(mta.Message{Envelope: mta.Envelope{Sender: "erp@widget.com"}, Stream: "news", Tags: []string{"march", "a"}}, "erp", one(mta.EventFailed))
	l.add(mta.Message{}, "", one(mta.EventDeferred))
	l.add(mta.Message{MessageID: "<Order-7@shop.example>", Envelope: mta.Envelope{Sender: "shop@widget.com"}}, "shop",
		map[string]mta.Event{"bob@two.example": mta.EventDelivered, "cy@two.example": mta.EventFailed, "dee@three.example": mta.EventAccepted})
	l.add(mta.Message{MessageID: "<Order-7@shop.example>", Tags: []string{"march"}, Metadata: map[string]string{"k": "v"}}, "shop", one(mta.EventCancelled))
	return l
}

func TestFind(t *testing.T) {
	t.Parallel()
	l := stocked(t)
	null, erp, nobody, shop := "", "<ERP@widget.com>", "x@widget.com", "shop"
	failed, queued, cancelled, held := mta.Failed, mta.Queued, mta.Cancelled, mta.Held
	for _, v := range []struct {
		name string
		s    journal.Search
		want string
	}{
		{"all", journal.Search{}, "4 3 2 1 0"},
		{"recipient", journal.Search{Recipient: " <ANN@one.example> "}, "4 2 1 0"},
		{"recipient of several", journal.Search{Recipient: "cy@two.example"}, "3"},
		{"no such recipient", journal.Search{Recipient: "no@one.example"}, ""},
		{"sender", journal.Search{Sender: &erp}, "1 0"},
		{"null sender", journal.Search{Sender: &null}, "4 2"},
		{"no such sender", journal.Search{Sender: &nobody}, ""},
		{"stream", journal.Search{Stream: "news"}, "1"},
		{"tag", journal.Search{Tag: "march"}, "4 1"},
		{"user", journal.Search{User: &shop}, "4 3"},
		{"failed", journal.Search{State: &failed}, "3 1"},
		{"queued", journal.Search{State: &queued}, "3"},
		{"cancelled", journal.Search{State: &cancelled}, "4"},
		{"held", journal.Search{State: &held}, ""},
		{"time", journal.Search{Since: minute(1), Until: minute(3)}, "2 1"},
		{"Message-ID of others", journal.Search{MessageID: "Order-7@shop.example"}, "4 3"},
		{"Message-ID, exactly", journal.Search{MessageID: "<order-7@shop.example>"}, ""},
		{"Message-ID of ours", journal.Search{MessageID: "<" + l.ids[2].String() + "@here.example>"}, "2"},
		{"Message-ID like ours", journal.Search{MessageID: "<" + l.ids[2].String() + "@there.example>"}, ""},
		{"Message-ID of ours, later", journal.Search{MessageID: "<" + l.ids[2].String() + "@here.example>", Since: minute(3)}, ""},
		{"ID", journal.Search{ID: l.ids[3]}, "3"},
		{"ID of another stream", journal.Search{ID: l.ids[3], Stream: "news"}, ""},
		{"ID that is not there", journal.Search{ID: mta.NewID(past, [10]byte{99})}, ""},
		{"ID and another's Message-ID", journal.Search{ID: l.ids[3], MessageID: "<x@y.example>"}, ""},
		{"all of them", journal.Search{Recipient: "ann@one.example", Sender: &null, Tag: "march", User: &shop, State: &cancelled, MessageID: "Order-7@shop.example"}, "4"},
		{"all but one", journal.Search{Recipient: "ann@one.example", Sender: &null, Tag: "april"}, ""},
	} {
		for _, limit := range []int{0, 1, 2} {
			v.s.Limit = limit
			if got := l.find(v.s); got != v.want {
				t.Errorf("%s, %d a page: %q, want %q", v.name, limit, got, v.want)
			}
		}
	}
}

func TestFindTellsWhereRecipientsStand(t *testing.T) {
	t.Parallel()
	l := stocked(t)
	page, err := journal.Find(t.Context(), l, journal.Search{Recipient: "bob@two.example"})
	if err != nil || len(page.Messages) != 1 {
		t.Fatalf("%+v, %v", page, err)
	}
	m := page.Messages[0]
	if m.Of != 3 || len(m.Recipients) != 3 || m.User != "shop" || m.Sender != "shop@widget.com" || m.Accepted != mta.FormatTime(minute(3)) {
		t.Errorf("%+v", m)
	}
	if fmt.Sprint(m.States) != "map[delivered:1 failed:1 queued:1]" {
		t.Error(m.States)
	}
	if r := m.Recipients[0]; r.Address != "bob@two.example" || r.State != "delivered" || r.Attempts != 1 || r.Reply != "250 ok" || r.Time != mta.FormatTime(minute(3).Add(time.Second)) {
		t.Errorf("%+v", r)
	}
	whole, err := journal.Finished(t.Context(), l, l.ids[4])
	if err != nil || whole.Metadata["k"] != "v" || whole.States["cancelled"] != 1 {
		t.Errorf("%+v, %v", whole, err)
	}
	if _, err := journal.Finished(t.Context(), l, mta.NewID(past, [10]byte{9, 9})); !errors.Is(err, spool.ErrNotFound) {
		t.Error(err)
	}
}

// TestFindShowsABoundedNumberOfRecipients, and the one that was asked for.
func TestFindShowsABoundedNumberOfRecipients(t *testing.T) {
	t.Parallel()
	l := newLibrary(t)
	to := map[string]mta.Event{}
	for i := range 150 {
		to[fmt.Sprintf("u%03d@d%d.example", i, i)] = mta.EventAccepted
	}
	id := l.add(mta.Message{}, "", to)
	page, err := journal.Find(t.Context(), l, journal.Search{Recipient: "u149@d149.example"})
	if err != nil || len(page.Messages) != 1 {
		t.Fatalf("%+v, %v", page, err)
	}
	m := page.Messages[0]
	if m.Of != 150 || len(m.Recipients) != 101 || m.Recipients[100].Address != "u149@d149.example" || m.States["queued"] != 150 {
		t.Errorf("%d of %d: %v", len(m.Recipients), m.Of, m.States)
	}
	if whole, err := journal.Finished(t.Context(), l, id); err != nil || len(whole.Recipients) != 150 {
		t.Errorf("%v", err)
	}
}

// TestFindIsStable: what arrives between two pages changes none that follow.
func TestFindIsStable(t *testing.T) {
	t.Parallel()
	l := stocked(t)
	page, err := journal.Find(t.Context(), l, journal.Search{Limit: 2})
	if err != nil || page.Cursor == "" {
		t.Fatalf("%+v, %v", page, err)
	}
	l.add(mta.Message{}, "", map[string]mta.Event{"new@one.example": mta.EventDelivered})
	if got := l.find(journal.Search{Limit: 2, Cursor: page.Cursor}); got != "2 1 0" {
		t.Error(got)
	}
}

func TestFindRefuses(t *testing.T) {
	t.Parallel()
	l := newLibrary(t)
	for _, cursor := range []string{"x", "0", "-1", "1-", "99999999999999999999999"} {
		if _, err := journal.Find(t.Context(), l, journal.Search{Cursor: cursor}); !errors.Is(err, journal.ErrCursor) {
			t.Errorf("%q: %v", cursor, err)
		}
	}
	for _, limit := range []int{-1, journal.MaxPage + 1} {
		var wrong *journal.LimitError
		if _, err := journal.Find(t.Context(), l, journal.Search{Limit: limit}); !errors.As(err, &wrong) || wrong.Limit != limit {
			t.Errorf("%d: %v", limit, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := journal.Find(ctx, stocked(t), journal.Search{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestSelect(t *testing.T) {
	t.Parallel()
	l := stocked(t)
	null := ""
	for _, v := range []struct {
		name string
		s    journal.Selection
		want int
	}{
		{"by Message-ID of others", journal.Selection{Query: "<Order-7@shop.example>"}, 3 + 2 + 2},
		{"by Message-ID without brackets", journal.Selection{Query: "Order-7@shop.example"}, 3 + 2 + 2},
		{"by Message-ID of ours", journal.Selection{Query: "<" + l.ids[0].String() + "@here.example>"}, 2},
		{"by events", journal.Selection{Events: []mta.Event{mta.EventFailed, mta.EventCancelled}}, 3},
		{"by sender", journal.Selection{Sender: &null}, 4},
		{"by recipient", journal.Selection{Recipient: "cy@two.example"}, 2},
		{"a recipient of a message", journal.Selection{Query: l.ids[3].String(), Recipient: "cy@two.example"}, 2},
		{"by stream", journal.Selection{Stream: "news"}, 2},
		{"by tag", journal.Selection{Tag: "march"}, 4},
		{"by time", journal.Selection{Since: minute(1), Until: minute(2)}, 2},
		{"by nothing there", journal.Selection{Query: "no@one.example"}, 0},
	} {
		n := 0
		match, err := journal.NewMatch(v.s)
		if err != nil {
			t.Fatal(err)
		}
		if err := journal.Select(t.Context(), l, v.s, func(r *mta.Record) bool {
			n++
			if !match.Wants(r) {
				t.Errorf("%s: %+v is not wanted one by one", v.name, r)
			}
			return true
		}); err != nil || n != v.want {
			t.Errorf("%s: %d records, want %d (%v)", v.name, n, v.want, err)
		}
	}
	if err := journal.Select(t.Context(), l, journal.Selection{}, nil); !errors.Is(err, journal.ErrQuery) {
		t.Error(err)
	}
}
