package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"mailout/internal/journal"
	"mailout/internal/mta"
	"mailout/internal/spool"
	"mailout/internal/spool/pebble"
)

// Looks at the past of so many messages.
const (
	pastBatch   = 512  // messages of one commit
	pastLookups = 1000 // of each kind
)

// histories measures what a question to the journal takes when n messages were
// delivered, two records each, to n/20 recipients.
func histories(ctx context.Context, o options) error {
	fmt.Println("\n| messages | records | journal on disk | question | median | 99 of 100 | slowest |")
	fmt.Println("| --- | --- | --- | --- | --- | --- | --- |")
	for _, n := range o.sizes {
		if n < 1000 {
			continue
		}
		if err := historied(ctx, o, n); err != nil {
			return fmt.Errorf("%d messages: %w", n, err)
		}
	}
	return nil
}

func historied(ctx context.Context, o options, n int) (err error) {
	dir := filepath.Join(o.dir, "past")
	defer os.RemoveAll(dir)
	opts := pebble.Options{Dir: dir, Reserve: -1}
	s, err := pebble.Open(ctx, opts)
	if err != nil {
		return err
	}
	ids, err := livePast(ctx, s, n)
	if err = errors.Join(err, s.Close()); err != nil {
		return err
	}
	if s, err = pebble.Open(ctx, opts); err != nil { // with cold caches of its own
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	size, err := directorySize(filepath.Join(dir, "db"))
	if err != nil {
		return err
	}
	pick := rand.New(rand.NewPCG(1, 2))
	for _, q := range []struct {
		name string
		ask  func() error
	}{
		{"records of an ID", func() error {
			return countRecords(ctx, s, spool.RecordFilter{ID: ids[pick.IntN(n)]}, 2)
		}},
		{"records of a recipient", func() error {
			return countRecords(ctx, s, spool.RecordFilter{Recipient: pastRecipient(pick.IntN(n), n)}, 2)
		}},
		{"messages of a recipient, a page", func() error {
			return countFound(ctx, s, journal.Search{Recipient: pastRecipient(pick.IntN(n), n)}, 1)
		}},
		{"a Message-ID of others", func() error {
			return countFound(ctx, s, journal.Search{MessageID: pastMessageID(pick.IntN(n))}, 1)
		}},
		{"the latest 50 messages", func() error { return countFound(ctx, s, journal.Search{}, 50) }},
		{"50 of a minute long ago", func() error {
			return countFound(ctx, s, journal.Search{Until: ids[n/3+pick.IntN(n/3)].Time()}, 50)
		}},
	} {
		var took []time.Duration
		for range pastLookups {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			began := time.Now()
			if err := q.ask(); err != nil {
				return fmt.Errorf("%s: %w", q.name, err)
			}
			took = append(took, time.Since(began))
		}
		slices.Sort(took)
		fmt.Printf("| %d | %d | %d MB | %s | %.2f ms | %.2f ms | %.2f ms |\n", n, 2*n, size>>20, q.name,
			ms(took[len(took)/2]), ms(took[len(took)*99/100]), ms(took[len(took)-1]))
	}
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func pastRecipient(i, n int) string { return fmt.Sprintf("user%d@past.example", i%(n/20)) }

func pastMessageID(i int) string { return fmt.Sprintf("<%d@app.example>", i) }

// livePast puts n messages and delivers them.
func livePast(ctx context.Context, s *pebble.Store, n int) ([]mta.ID, error) {
	ids := make([]mta.ID, 0, n)
	start := time.Now().Add(-time.Duration(n) * 100 * time.Millisecond)
	for len(ids) < n {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		var subs []*spool.Submission
		var ends []*spool.Settlement
		for range min(pastBatch, n-len(ids)) {
			i := len(ids)
			sub, end, err := pastMessage(s, i, n, start.Add(time.Duration(i)*100*time.Millisecond))
			if err != nil {
				return nil, err
			}
			ids, subs, ends = append(ids, sub.Message.ID), append(subs, sub), append(ends, end)
		}
		if err := s.Put(ctx, subs...); err != nil {
			return nil, err
		}
		if _, err := s.Settle(ctx, ends...); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

func pastMessage(s *pebble.Store, i, n int, at time.Time) (*spool.Submission, *spool.Settlement, error) {
	m := &mta.Message{
		ID: mta.NewID(at, [10]byte{byte(i), byte(i >> 8), byte(i >> 16), byte(i >> 24)}), Arrived: at, Size: 1, MessageID: pastMessageID(i),
		Stream: mta.DefaultStream, Envelope: mta.Envelope{Sender: "erp@app.example"}, Deliveries: 1,
	}
	to := pastRecipient(i, n)
	d := &mta.Delivery{Message: m, Destination: mta.Destination{Domain: "past.example", Stream: m.Stream}, Due: at, Recipients: []mta.Recipient{{Address: to}}}
	draft, err := s.Draft()
	if err != nil {
		return nil, nil, err
	}
	if _, err := draft.Write([]byte("x")); err != nil {
		return nil, nil, err
	}
	in := mta.Record{Time: at, Event: mta.EventAccepted, ID: m.ID, MessageID: m.MessageID, Stream: m.Stream, Sender: m.Envelope.Sender, Recipient: to, Destination: "past.example", Size: 1}
	out := in
	out.Time, out.Event, out.Attempt, out.Code, out.Enhanced = at.Add(time.Second), mta.EventDelivered, 1, 250, "2.0.0"
	out.Host, out.Site, out.Reply, out.Class = "mx.past.example", "mx.past.example", "250 2.0.0 queued as "+m.ID.String(), "delivered"
	return &spool.Submission{Message: m, Content: draft, Deliveries: []*mta.Delivery{d}, Records: []*mta.Record{&in}},
		&spool.Settlement{Delivery: d.Key(), Records: []*mta.Record{&out}}, nil
}

func countRecords(ctx context.Context, s *pebble.Store, f spool.RecordFilter, least int) error {
	got := 0
	err := s.Records(ctx, f, func(*mta.Record) bool { got++; return true })
	if err == nil && got < least {
		err = fmt.Errorf("%d records for %+v", got, f)
	}
	return err
}

func countFound(ctx context.Context, s *pebble.Store, q journal.Search, least int) error {
	page, err := journal.Find(ctx, s, q)
	if err == nil && len(page.Messages) < least {
		err = fmt.Errorf("%d messages for %+v", len(page.Messages), q)
	}
	return err
}

func directorySize(dir string) (total int64, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			total += info.Size()
		}
	}
	return total, nil
}
