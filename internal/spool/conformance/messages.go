package conformance

import (
	"context"
	"io"
	"net/netip"
	"strings"
	"sync"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// full gives every field of a submission a value that is not the zero value.
func (e *env) full(n uint64) *spool.Submission {
	sub := e.sub(n, "Subject: x\r\n\r\nbody\r\n", "a@one.example", "B.c@one.example", "d@[192.0.2.7]")
	m := sub.Message
	m.Stream, m.Kind, m.EightBit, m.UTF8 = "invoices", mta.KindBounce, true, true
	m.Envelope = mta.Envelope{
		Sender: "o'brien+x@app.example", Ret: mta.RetHeaders, EnvID: "env id é", SMTPUTF8: true, RequireTLS: true, Body8Bit: true,
	}
	m.AnyTLS = true
	m.Tags, m.Metadata = []string{"welcome", "größe 2"}, map[string]string{"order": "17", "a b": ""}
	m.NotBefore, m.Expires = at(600), at(7000)
	m.Origin = mta.Origin{Door: "http", Protocol: "HTTP", Peer: netip.MustParseAddr("2001:db8::1"), Helo: "h", User: "erp"}
	for i, d := range sub.Deliveries {
		d.Destination.Stream = m.Stream
		d.State, d.Due, d.Attempts, d.DelaySent = mta.Deferred, at(500+i), 3, true
		d.HeldBy = "the operator"
		d.Last = mta.Last{
			Time: at(400), Site: "mx1.one.example,mx2.one.example", Host: "mx2.one.example", IP: netip.MustParseAddr("192.0.2.1"),
			Result: mta.Result{
				Class: mta.ClassUncertain, Scope: mta.ScopeSite, Reason: "the final reply was lost", Relayed: true, RetryAfter: 300,
				Reply:    mta.Reply{Code: 450, Enhanced: mta.Enhanced{Class: 4, Subject: 7, Detail: 1}, Text: "later\nplease"},
				Enhanced: mta.Enhanced{Class: 4, Subject: 2, Detail: 0},
			},
		}
		for j := range d.Recipients {
			d.Recipients[j].ORcpt, d.Recipients[j].Notify = "rfc822;orig@x.example", mta.NotifySuccess|mta.NotifyDelay
		}
	}
	for _, r := range sub.Records {
		r.Stream, r.Sender = m.Stream, m.Envelope.Sender
		r.Tags, r.Metadata, r.Next = m.Tags, m.Metadata, m.NotBefore
	}
	return sub
}

func putStoresAll(e *env) {
	sub := e.full(1)
	content := "Subject: x\r\n\r\nbody\r\n"
	e.must(e.s.Put(e.ctx, sub))
	for range 2 {
		got, err := e.s.Get(e.ctx, sub.Message.ID)
		e.must(err)
		if len(got) != 2 || got[0].Message != got[1].Message {
			e.Fatalf("%d deliveries, or two copies of their message", len(got))
		}
		for i := range got {
			want := *sub.Deliveries[i]
			e.equal(*got[i].Message, *want.Message)
			want.Message = got[i].Message
			e.equal(*got[i], want)
		}
		e.equal(e.content(sub.Message.ID), content)
		e.same(e.records(spool.RecordFilter{ID: sub.Message.ID}), sub.Records)
		e.reopen()
	}
}

func putIsAllOrNone(e *env) {
	good, bad := e.sub(1, "x", "a@one.example"), e.sub(2, "y", "a@one.example")
	bad.Deliveries[0].Recipients = nil
	if e.s.Put(e.ctx, good, bad) == nil {
		e.Fatal("a delivery without recipients was taken")
	}
	_, err := e.s.Get(e.ctx, good.Message.ID)
	e.is(err, spool.ErrNotFound)
	e.equal(len(e.records(spool.RecordFilter{})), 0)
	a, b := e.sub(3, "x", "a@one.example"), e.sub(4, "y", "b@two.example")
	e.must(e.s.Put(e.ctx, a, b))
	e.equal(e.content(a.Message.ID)+e.content(b.Message.ID), "xy")
	e.checkCounts()
}

func putTakesDrafts(e *env) {
	bad := e.sub(1, "x", "a@one.example")
	bad.Deliveries[0].Destination.Domain = "with\x00nul"
	if e.s.Put(e.ctx, bad) == nil {
		e.Fatal("a NUL in a destination was taken")
	}
	bad.Content.Discard() // harmless
	if _, err := bad.Content.Write([]byte("x")); err == nil {
		e.Fatal("the draft still takes content")
	}
	good := e.put(2, "x", "a@one.example")
	good.Content.Discard()
	e.equal(e.content(good.Message.ID), "x")
}

func putOnlyRecords(e *env) {
	sub := e.sub(1, "x", "a@one.example")
	sub.Deliveries = nil
	sub.Records[0].Event = mta.EventSuppressed
	e.must(e.s.Put(e.ctx, sub))
	e.equal(e.records(spool.RecordFilter{ID: sub.Message.ID})[0].Event, mta.EventSuppressed)
	_, err := e.s.Open(e.ctx, sub.Message.ID)
	e.is(err, spool.ErrNotFound)
	e.checkCounts()
}

func putTwice(e *env) {
	e.put(1, "x", "a@one.example")
	if e.s.Put(e.ctx, e.sub(1, "y", "a@one.example")) == nil {
		e.Fatal("an ID was taken twice")
	}
	if e.s.Put(e.ctx, e.sub(2, "y", "a@one.example"), e.sub(2, "z", "a@one.example")) == nil {
		e.Fatal("an ID was taken twice in one call")
	}
	e.equal(len(e.list(spool.Filter{})), 1)
	e.checkCounts()
}

func draftDiscard(e *env) {
	for _, size := range []int{0, 10, 300000} {
		d, err := e.s.Draft()
		e.must(err)
		_, err = io.WriteString(d, strings.Repeat("x", size))
		e.must(err)
		e.equal(d.Size(), int64(size))
		d.Discard()
		d.Discard()
	}
	e.checkCounts()
}

// contentOfEverySize crosses the limits between record and file.
func contentOfEverySize(e *env) {
	want := map[mta.ID]string{}
	var subs []*spool.Submission
	for i, size := range []int{0, 1, 8191, 8192, 8193, 65535, 65536, 65537, 131072, 262145, 1 << 20, 1<<20 + 1, 3000001} {
		content := strings.Repeat("0123456789abcdef\r\n", size/18+1)[:size]
		sub := e.sub(uint64(i+1), "", "a@one.example")
		// In pieces of uneven size.
		for rest := content; rest != ""; {
			n := min(len(rest), 1+len(rest)/3)
			_, err := io.WriteString(sub.Content, rest[:n])
			e.must(err)
			rest = rest[n:]
		}
		sub.Message.Size = sub.Content.Size()
		e.equal(sub.Message.Size, int64(size))
		e.must(e.s.Put(e.ctx, sub))
		want[sub.Message.ID] = content
		subs = append(subs, sub)
	}
	for range 2 {
		for id, content := range want {
			if got := e.content(id); got != content {
				e.Fatalf("content of %d octets came back as %d others", len(content), len(got))
			}
		}
		e.reopen()
	}
	for _, sub := range subs {
		e.settle(done(sub.Deliveries[0], at(100)))
		_, err := e.s.Open(e.ctx, sub.Message.ID)
		e.is(err, spool.ErrNotFound)
	}
	e.checkCounts()
}

// contentSurvives: a worker may hold the content while another one's outcome
// removes the message, and while new mail comes.
func contentSurvives(e *env) {
	for i, size := range []int{100, 70000} {
		content := strings.Repeat("y", size)
		sub := e.put(uint64(10*i+1), content, "a@one.example")
		c, err := e.s.Open(e.ctx, sub.Message.ID)
		e.must(err)
		e.settle(done(sub.Deliveries[0], at(100)))
		for j := range 8 {
			e.put(uint64(10*i+2+j), strings.Repeat("z", size), "b@one.example")
		}
		e.equal(e.read(c), content)
		e.must(c.Close())
	}
}

func openUnknown(e *env) {
	_, err := e.s.Open(e.ctx, e.sub(1, "x", "a@one.example").Message.ID)
	e.is(err, spool.ErrNotFound)
}

// concurrent puts and settles from many goroutines; at the end only what was
// deferred is there.
func concurrent(e *env) {
	const workers, each = 16, 24
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				n := uint64(1 + w*each + i)
				sub := makeSub(e.T, e.s, n, strings.Repeat("c", 100+i), "a@one.example", "b@two.example")
				if err := e.s.Put(e.ctx, sub); err != nil {
					e.Error(err)
					return
				}
				sets := []*spool.Settlement{done(sub.Deliveries[0], at(int(n))), deferred(sub.Deliveries[1], at(1000))}
				if gone, err := e.s.Settle(e.ctx, sets...); err != nil || len(gone) > 0 {
					e.Error(gone, err)
				}
				if i%2 == 0 {
					if gone, err := e.s.Settle(e.ctx, done(sets[1].Next, at(1001))); err != nil || len(gone) > 0 {
						e.Error(gone, err)
					}
				}
			}
		})
	}
	wg.Wait()
	e.equal(len(e.list(spool.Filter{})), workers*each/2)
	e.checkCounts()
	e.reopen()
	e.checkCounts()
	e.equal(len(e.page("two.example", spool.Cursor{}, 1000)), workers*each/2)
	e.equal(len(e.page("one.example", spool.Cursor{}, 1000)), 0)
	e.equal(len(e.records(spool.RecordFilter{})), workers*each*4+workers*each/2)
}

// concurrentMulti: the message must go with its last delivery, whoever is last.
func concurrentMulti(e *env) {
	for round := range 8 {
		var rcpts []string
		for i := range 12 {
			rcpts = append(rcpts, "a@d"+string(rune('a'+i))+".example")
		}
		sub := e.put(uint64(1+round), "multi", rcpts...)
		var wg sync.WaitGroup
		var mu sync.Mutex
		lost := 0
		for _, d := range sub.Deliveries {
			for range 2 { // two outcomes for each: one is too late
				wg.Go(func() {
					gone, err := e.s.Settle(e.ctx, done(d, at(100)))
					if err != nil {
						e.Error(err)
					}
					mu.Lock()
					lost += len(gone)
					mu.Unlock()
				})
			}
		}
		wg.Wait()
		e.equal(lost, len(sub.Deliveries))
		_, err := e.s.Open(e.ctx, sub.Message.ID)
		e.is(err, spool.ErrNotFound)
		e.equal(len(e.records(spool.RecordFilter{ID: sub.Message.ID})), 24)
	}
	st, err := e.s.Stats(e.ctx)
	e.must(err)
	e.equal(st, spool.Stats{})
}

func callbacks(e *env) {
	sub := e.put(1, "x", "a@one.example")
	e.must(e.s.List(e.ctx, spool.Filter{}, func(d *mta.Delivery) bool {
		e.settle(done(d, at(9)))
		return true
	}))
	e.must(e.s.Records(e.ctx, spool.RecordFilter{}, func(*mta.Record) bool {
		_, err := e.s.Get(e.ctx, sub.Message.ID)
		e.is(err, spool.ErrNotFound)
		return true
	}))
}

func cancelled(e *env) {
	ctx, cancel := context.WithCancel(e.ctx)
	cancel()
	sub := e.sub(1, "x", "a@one.example")
	e.is(e.s.Put(ctx, sub), context.Canceled)
	_, err := e.s.Settle(ctx, done(sub.Deliveries[0], at(1)))
	e.is(err, context.Canceled)
	e.is(e.s.List(ctx, spool.Filter{}, nil), context.Canceled)
	e.equal(len(e.list(spool.Filter{})), 0)
}

func closedStore(e *env) {
	sub := e.sub(1, "x", "a@one.example")
	e.must(e.s.Close())
	_, err := e.s.Draft()
	e.is(err, spool.ErrClosed)
	e.is(e.s.Put(e.ctx, sub), spool.ErrClosed)
	_, err = e.s.Settle(e.ctx, done(sub.Deliveries[0], at(1)))
	e.is(err, spool.ErrClosed)
	_, err = e.s.Open(e.ctx, sub.Message.ID)
	e.is(err, spool.ErrClosed)
	_, err = e.s.Stats(e.ctx)
	e.is(err, spool.ErrClosed)
	e.is(e.s.Close(), spool.ErrClosed)
	e.s = e.open()
	e.equal(len(e.list(spool.Filter{})), 0)
}
