// Package conformance is the test of the spool's contract: every engine runs
// it. Each subtest is one sentence of internal/spool/spool.go.
//
// It is for tests only and starts goroutines only inside them.
package conformance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"sort"
	"testing"
	"time"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// Opener opens one store again and again: the first call makes it, a later one
// finds what the store had when it was closed. It fails the test on an error.
type Opener func() spool.Store

// Run runs the suite. fresh gives an opener of an empty store of its own for
// each subtest, and removes the store when the subtest ends.
func Run(t *testing.T, fresh func(t *testing.T) Opener) {
	tests := []struct {
		name string
		run  func(*env)
	}{
		{"PutStoresTheWholeMessage", putStoresAll},
		{"PutIsAllOrNone", putIsAllOrNone},
		{"PutTakesTheDraftsAlsoOnError", putTakesDrafts},
		{"PutWithoutDeliveriesKeepsOnlyRecords", putOnlyRecords},
		{"PutRefusesAnIDTwice", putTwice},
		{"DraftDiscard", draftDiscard},
		{"ContentOfEverySize", contentOfEverySize},
		{"ContentSurvivesItsMessage", contentSurvives},
		{"OpenOfUnknown", openUnknown},
		{"SettleReplacesTheRecord", settleReplaces},
		{"SettleRemovesTheDelivery", settleRemoves},
		{"SettleNamesWhatIsGone", settleGone},
		{"SettleOneDeliveryTwiceInOneCall", settleTwice},
		{"SettleManyAtOnce", settleMany},
		{"SettleOnlyWhatIsAsItWas", settleAsItWas},
		{"LastDeliveryRemovesTheMessage", lastDelivery},
		{"ReportsInTheSameCommit", reports},
		{"HeldDeliveries", held},
		{"Begin", begin},
		{"Streak", streak},
		{"Destinations", destinations},
		{"PageIsInDueOrderBehindTheCursor", page},
		{"PageOfOneDestinationOnly", pageOfOne},
		{"Get", getOne},
		{"ListFilters", listFilters},
		{"ListReadsASnapshot", listSnapshot},
		{"StatsAreExact", statsExact},
		{"CountByDestination", countByDestination},
		{"RecordsRoundTrip", recordsRoundTrip},
		{"RecordsOutliveTheMessage", recordsOutlive},
		{"RecordsFilters", recordsFilters},
		{"RecordsOfManyRecipients", recordsOfMany},
		{"Prune", prune},
		{"ArrivalsFromTheEnd", arrivalsAreTold},
		{"ArrivalsCommittedLate", arrivalsCommittedLate},
		{"JournalIsMeasured", journalIsMeasured},
		{"FeedIsInCommitOrder", feedOrder},
		{"FeedWaits", feedWaits},
		{"Followers", followers},
		{"PruneLeavesWhatFollowersWaitFor", pruneLeavesFollowers},
		{"Reservations", reservations},
		{"ReservationsOfRefusedMessages", reservationsRefused},
		{"PruneReservations", pruneReservations},
		{"NotesAreKept", notesKept},
		{"NotesAreRead", notesRead},
		{"NotesAreBounded", notesBounded},
		{"NotesFromManySides", notesConcurrent},
		{"PutAndSettleAtOnce", concurrent},
		{"SettleOneMessageFromManySides", concurrentMulti},
		{"CallbacksMayCallTheStore", callbacks},
		{"CancelledContext", cancelled},
		{"ClosedStore", closedStore},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := &env{T: t, open: fresh(t), ctx: t.Context()}
			e.s = e.open()
			defer func() { _ = e.s.Close() }()
			c.run(e)
		})
	}
}

// env is one subtest's store and what it needs to make mail.
type env struct {
	*testing.T
	open Opener
	s    spool.Store
	ctx  context.Context
}

// reopen closes the store in order and opens it again.
func (e *env) reopen() {
	e.Helper()
	e.must(e.s.Close())
	e.s = e.open()
}

func (e *env) must(err error) {
	e.Helper()
	if err != nil {
		e.Fatal(err)
	}
}

func (e *env) is(err, want error) {
	e.Helper()
	if !errors.Is(err, want) {
		e.Fatalf("error %v, want %v", err, want)
	}
}

// equal compares values that hold no functions or channels.
func (e *env) equal(got, want any) {
	e.Helper()
	if !reflect.DeepEqual(got, want) {
		e.Fatalf("got  %+v\nwant %+v", got, want)
	}
}

// epoch is when the tests' mail arrives; arrivals are a second apart.
var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func at(seconds int) time.Time { return epoch.Add(time.Duration(seconds) * time.Second) }

// Sub makes a submission that arrives at at(n), to recipients that are grouped
// to deliveries by domain. It is not put yet. n must differ from call to call
// in one store.
func (e *env) sub(n uint64, content string, recipients ...string) *spool.Submission {
	e.Helper()
	return makeSub(e.T, e.s, n, content, recipients...)
}

func makeSub(t testing.TB, s spool.Store, n uint64, content string, recipients ...string) *spool.Submission {
	t.Helper()
	d, err := s.Draft()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(d, content); err != nil {
		t.Fatal(err)
	}
	arrived := at(int(n))
	var entropy [10]byte
	for i := range entropy {
		entropy[i] = byte(n>>(8*(i%8))) ^ byte(37*i)
	}
	m := &mta.Message{
		ID: mta.NewID(arrived, entropy), Arrived: arrived, Size: int64(len(content)),
		MessageID: fmt.Sprintf("<%d@app.example>", n), Stream: mta.DefaultStream,
		Envelope: mta.Envelope{Sender: "sender@app.example"},
		Origin:   mta.Origin{Door: "smtp", Protocol: "ESMTP", Helo: "app.example"},
	}
	sub := &spool.Submission{Message: m, Content: d}
	byDomain := map[string]*mta.Delivery{}
	for _, r := range recipients {
		domain := domainOf(r)
		del := byDomain[domain]
		if del == nil {
			del = &mta.Delivery{
				Message: m, N: uint32(len(sub.Deliveries)), Due: arrived,
				Destination: mta.Destination{Domain: domain, Stream: mta.DefaultStream},
			}
			byDomain[domain] = del
			sub.Deliveries = append(sub.Deliveries, del)
		}
		del.Recipients = append(del.Recipients, mta.Recipient{Address: r})
		sub.Records = append(sub.Records, &mta.Record{
			Time: arrived, Event: mta.EventAccepted, ID: m.ID, MessageID: m.MessageID, Stream: m.Stream,
			Sender: m.Envelope.Sender, Recipient: r, Destination: domain, Size: m.Size,
		})
	}
	m.Deliveries = len(sub.Deliveries)
	return sub
}

func domainOf(address string) string {
	for i := len(address) - 1; i >= 0; i-- {
		if address[i] == '@' {
			return address[i+1:]
		}
	}
	return address
}

// put makes and puts a message, and gives its deliveries' message.
func (e *env) put(n uint64, content string, recipients ...string) *spool.Submission {
	e.Helper()
	sub := e.sub(n, content, recipients...)
	e.must(e.s.Put(e.ctx, sub))
	return sub
}

// record makes the record of a delivery's recipient.
func record(d *mta.Delivery, recipient int, ev mta.Event, when time.Time) *mta.Record {
	return &mta.Record{
		Time: when, Event: ev, ID: d.Message.ID, MessageID: d.Message.MessageID, Stream: d.Destination.Stream,
		Sender: d.Message.Envelope.Sender, Recipient: d.Recipients[recipient].Address,
		Destination: d.Destination.String(), Size: d.Message.Size, Attempt: d.Attempts + 1,
	}
}

// done is the settlement that ends every recipient of a delivery.
func done(d *mta.Delivery, when time.Time) *spool.Settlement {
	s := &spool.Settlement{Delivery: d.Key()}
	for i := range d.Recipients {
		s.Records = append(s.Records, record(d, i, mta.EventDelivered, when))
	}
	return s
}

// deferred is the settlement that puts a delivery off.
func deferred(d *mta.Delivery, due time.Time) *spool.Settlement {
	next := *d
	next.State, next.Due, next.Attempts = mta.Deferred, due, d.Attempts+1
	return &spool.Settlement{Delivery: d.Key(), Next: &next, Records: []*mta.Record{record(d, 0, mta.EventDeferred, due)}}
}

func (e *env) settle(sets ...*spool.Settlement) {
	e.Helper()
	gone, err := e.s.Settle(e.ctx, sets...)
	e.must(err)
	if len(gone) != 0 {
		e.Fatalf("gone: %v", gone)
	}
}

func (e *env) content(id mta.ID) string {
	e.Helper()
	c, err := e.s.Open(e.ctx, id)
	e.must(err)
	defer c.Close()
	return e.read(c)
}

func (e *env) read(c spool.Content) string {
	e.Helper()
	b, err := io.ReadAll(io.NewSectionReader(c, 0, c.Size()))
	e.must(err)
	if m := c.Bytes(); m != nil && string(m) != string(b) {
		e.Fatal("Bytes and ReadAt disagree")
	}
	return string(b)
}

func (e *env) list(f spool.Filter) (keys []mta.DeliveryKey) {
	e.Helper()
	e.must(e.s.List(e.ctx, f, func(d *mta.Delivery) bool {
		keys = append(keys, d.Key())
		return true
	}))
	return keys
}

func (e *env) records(f spool.RecordFilter) (out []*mta.Record) {
	e.Helper()
	e.must(e.s.Records(e.ctx, f, func(r *mta.Record) bool {
		out = append(out, r)
		return true
	}))
	return out
}

func (e *env) page(domain string, c spool.Cursor, n int) []*mta.Delivery {
	e.Helper()
	out, err := e.s.Page(e.ctx, mta.Destination{Domain: domain, Stream: mta.DefaultStream}, c, n)
	e.must(err)
	return out
}

func (e *env) destinations() (out []spool.Pending) {
	e.Helper()
	e.must(e.s.Destinations(e.ctx, func(p spool.Pending) bool {
		out = append(out, p)
		return true
	}))
	sort.Slice(out, func(i, j int) bool { return out[i].Destination.String() < out[j].Destination.String() })
	return out
}

// checkCounts compares the counters with a recount.
func (e *env) checkCounts() {
	e.Helper()
	got, err := e.s.Stats(e.ctx)
	e.must(err)
	var want spool.Stats
	byDest := map[mta.Destination]spool.Stats{}
	var last mta.ID
	e.must(e.s.List(e.ctx, spool.Filter{}, func(d *mta.Delivery) bool {
		if d.Message.ID != last {
			last = d.Message.ID
			want.Messages++
			want.Bytes += d.Message.Size
			if want.Oldest.IsZero() {
				want.Oldest = d.Message.Arrived
			}
		}
		countState(&want, d.State)
		c := byDest[d.Destination]
		countState(&c, d.State)
		c.Messages++
		c.Bytes += d.Message.Size
		byDest[d.Destination] = c
		return true
	}))
	e.equal(got, want)
	for dest, want := range byDest {
		got, err := e.s.CountByDestination(e.ctx, dest)
		e.must(err)
		e.equal(got, want)
	}
}

func countState(s *spool.Stats, st mta.State) {
	switch st {
	case mta.Queued:
		s.Queued++
	case mta.Deferred:
		s.Deferred++
	case mta.Held:
		s.Held++
	}
}
