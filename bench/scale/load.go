package main

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"time"

	"mailout/internal/mta"
	"mailout/internal/spool"
	"mailout/internal/spool/pebble"
)

// backlog is mail that is put into a spool before the daemon starts.
type backlog struct {
	messages, domains int
	domain            string // the domains are d0.DOMAIN, d1.DOMAIN, …
	stream            string
	state             mta.State
	due               func() time.Time
	large             int // one message in so many is to LARGE.DOMAIN; 0: none
}

// largeName is the first label of the domain that has much of a backlog.
const largeName = "large"

// putBatch is how many messages share one commit.
const putBatch = 500

// fill puts the backlog into the spool in dir.
func (b *backlog) fill(ctx context.Context, dir string) (err error) {
	store, err := pebble.Open(ctx, pebble.Options{Dir: dir, Logger: slog.New(slog.DiscardHandler), FreshBytes: -1})
	if err != nil {
		return err
	}
	defer func() {
		if cerr := store.Close(); err == nil {
			err = cerr
		}
	}()
	random := rand.New(rand.NewPCG(1, 2))
	body := make([]byte, 1000)
	const letters = "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ,. 0123456789"
	for i := range body {
		body[i] = letters[random.IntN(len(letters))]
	}
	// The messages came in over the last day, in order.
	begin := time.Now().Add(-24 * time.Hour)
	gap := 24 * time.Hour / time.Duration(b.messages+1)
	batch := make([]*spool.Submission, 0, putBatch)
	for i := range b.messages {
		sub, err := b.message(store, random, i, begin.Add(time.Duration(i)*gap), body)
		if err != nil {
			return err
		}
		if batch = append(batch, sub); len(batch) == putBatch || i == b.messages-1 {
			if err := store.Put(ctx, batch...); err != nil {
				return err
			}
			batch = batch[:0]
		}
	}
	return nil
}

func (b *backlog) message(store spool.Store, random *rand.Rand, i int, arrived time.Time, body []byte) (*spool.Submission, error) {
	var entropy [10]byte
	for j := range entropy {
		entropy[j] = byte(random.Uint32())
	}
	id := mta.NewID(arrived, entropy)
	domain := fmt.Sprintf("d%d.%s", i%b.domains, b.domain)
	if b.large > 0 && i%b.large == 0 {
		domain = largeName + "." + b.domain
	}
	to := fmt.Sprintf("user%d@%s", i, domain)
	draft, err := store.Draft()
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(draft, "From: <news@sender.example>\r\nTo: <%s>\r\nSubject: number %d\r\nMessage-ID: <%d@sender.example>\r\n\r\n", to, i, i)
	if _, err := draft.Write(append(body[random.IntN(800):len(body):len(body)], "\r\n"...)); err != nil {
		return nil, err
	}
	m := &mta.Message{
		ID: id, Arrived: arrived, Size: draft.Size(), MessageID: fmt.Sprintf("<%d@sender.example>", i),
		Stream: b.stream, Envelope: mta.Envelope{Sender: "news@sender.example"}, Deliveries: 1,
		Origin: mta.Origin{Door: "smtp", Protocol: "ESMTP", Peer: netip.MustParseAddr("127.0.0.1"), Helo: "app.sender.example"},
	}
	d := &mta.Delivery{
		Message: m, Destination: mta.Destination{Domain: domain, Stream: b.stream},
		Recipients: []mta.Recipient{{Address: to}}, State: b.state, Due: b.due(),
	}
	if b.state == mta.Deferred {
		d.Attempts = 3
		d.Last = mta.Last{Time: time.Now().Add(-time.Hour), Site: "mx." + b.domain, Host: "mx." + b.domain,
			Result: mta.Result{Reply: mta.Reply{Code: 451, Enhanced: mta.Enhanced{Class: 4, Subject: 7, Detail: 1}, Text: "come back later"}}}
	}
	record := &mta.Record{
		Time: arrived, Event: mta.EventAccepted, ID: id, MessageID: m.MessageID, Stream: b.stream,
		Sender: m.Envelope.Sender, Recipient: to, Destination: domain, Size: m.Size,
	}
	return &spool.Submission{Message: m, Content: draft, Deliveries: []*mta.Delivery{d}, Records: []*mta.Record{record}}, nil
}
