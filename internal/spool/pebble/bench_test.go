package pebble

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// bench is a store on the disk, and what to make mail of.
type bench struct {
	*testing.B
	s    *Store
	body []byte
	n    atomic.Uint64
}

func newBench(b *testing.B) *bench {
	s, err := Open(b.Context(), Options{Dir: b.TempDir(), Reserve: -1})
	if err != nil {
		b.Fatal(err)
	}
	// 4 KB that do not compress, as bodies in base64 hardly do.
	body := make([]byte, 4096)
	x := uint32(1)
	for i := range body {
		x = x*1664525 + 1013904223
		body[i] = byte(x >> 24)
	}
	return &bench{B: b, s: s, body: body}
}

// sub makes a message as mail looks: one recipient, one of ten domains.
func (b *bench) sub() *spool.Submission {
	d, err := b.s.Draft()
	if err != nil {
		b.Error(err)
		return nil
	}
	_, _ = d.Write(b.body)
	n := b.n.Add(1)
	var entropy [10]byte
	binary.BigEndian.PutUint64(entropy[2:], n*0x9E3779B97F4A7C15)
	now := time.Now()
	m := &mta.Message{
		ID: mta.NewID(now, entropy), Arrived: now, Size: int64(len(b.body)), MessageID: fmt.Sprintf("<%d.1234567890@mailout.example.com>", n),
		Stream: mta.DefaultStream, Envelope: mta.Envelope{Sender: "sender@example.com"},
		Origin: mta.Origin{Door: "smtp", Protocol: "ESMTP", Helo: "client.example.com"}, Deliveries: 1,
	}
	dest := mta.Destination{Domain: fmt.Sprintf("dest%d.example", n%10), Stream: mta.DefaultStream}
	rcpt := fmt.Sprintf("user%d@%s", n, dest.Domain)
	return &spool.Submission{
		Message: m, Content: d,
		Deliveries: []*mta.Delivery{{Message: m, Destination: dest, Recipients: []mta.Recipient{{Address: rcpt}}, Due: now}},
		Records: []*mta.Record{{
			Time: now, Event: mta.EventAccepted, ID: m.ID, MessageID: m.MessageID, Stream: m.Stream, Sender: m.Envelope.Sender,
			Recipient: rcpt, Destination: dest.Domain, Size: m.Size,
		}},
	}
}

// delivered is the outcome of a first attempt over TLS.
func delivered(sub *spool.Submission) *spool.Settlement {
	r := *sub.Records[0]
	r.Event, r.Time, r.Attempt = mta.EventDelivered, time.Now(), 1
	r.Site, r.Host, r.Helo = "mx1.dest.example,mx2.dest.example", "mx1.dest.example", "mailout.example.com"
	r.Code, r.Enhanced, r.Reply, r.Class, r.Scope = 250, "2.0.0", "Ok: queued as 4F1kZt0Lz9z1", "delivered", "recipient"
	r.TLS = mta.TLSFacts{Version: "TLS1.3", Cipher: "TLS_AES_128_GCM_SHA256"}
	r.Durations = mta.Durations{Connect: 3, TLS: 9, Mail: 12, Data: 33, Total: 60}
	return &spool.Settlement{Delivery: sub.Deliveries[0].Key(), Records: []*mta.Record{&r}}
}

// run lets writers put, and settle when asked to, b.N messages.
func (b *bench) run(writers int, put func(*spool.Submission) error, settle bool) {
	defer b.s.Close()
	b.ReportAllocs()
	b.ResetTimer()
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				sub := b.sub()
				if err := put(sub); err != nil {
					b.Error(err)
					return
				}
				if !settle {
					continue
				}
				if gone, err := b.s.Settle(context.Background(), delivered(sub)); err != nil || len(gone) > 0 {
					b.Error(err, gone)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	m := b.s.Metrics()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
	b.ReportMetric(float64(m.LogBytes)/float64(b.N), "log-B/msg")
	b.ReportMetric(float64(m.TableBytes)/float64(b.N), "table-B/msg")
}

var writers = []int{1, 20, 100}

func BenchmarkPut(b *testing.B) {
	for _, w := range writers {
		b.Run(fmt.Sprint(w), func(b *testing.B) {
			x := newBench(b)
			x.run(w, func(sub *spool.Submission) error { return x.s.Put(context.Background(), sub) }, false)
		})
	}
}

func BenchmarkPutSettle(b *testing.B) {
	for _, w := range writers {
		b.Run(fmt.Sprint(w), func(b *testing.B) {
			x := newBench(b)
			x.run(w, func(sub *spool.Submission) error { return x.s.Put(context.Background(), sub) }, true)
		})
	}
}

// BenchmarkPutMerged is the alternative that docs/spool.md weighs: one
// goroutine merges the callers' submissions into one batch.
func BenchmarkPutMerged(b *testing.B) {
	type request struct {
		sub  *spool.Submission
		done chan error
	}
	for _, w := range writers {
		b.Run(fmt.Sprint(w), func(b *testing.B) {
			x := newBench(b)
			requests := make(chan request, 128)
			var wg sync.WaitGroup
			wg.Go(func() {
				for r := range requests {
					group := []request{r}
					for len(requests) > 0 {
						group = append(group, <-requests)
					}
					subs := make([]*spool.Submission, len(group))
					for i := range group {
						subs[i] = group[i].sub
					}
					err := x.s.Put(context.Background(), subs...)
					for _, g := range group {
						g.done <- err
					}
				}
			})
			x.run(w, func(sub *spool.Submission) error {
				r := request{sub, make(chan error, 1)}
				requests <- r
				return <-r.done
			}, false)
			close(requests)
			wg.Wait()
		})
	}
}
