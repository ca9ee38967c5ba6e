package pebble

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

var benchN atomic.Uint64

func benchSub(b testing.TB, s *Store, body []byte) *spool.Submission {
	d, err := s.Draft()
	if err != nil {
		b.Fatal(err)
	}
	d.Write(body)
	n := benchN.Add(1)
	var e [10]byte
	binary.BigEndian.PutUint64(e[2:], n*0x9E3779B97F4A7C15)
	now := time.Now()
	m := &mta.Message{ID: mta.NewID(now, e), Arrived: now, Size: int64(len(body)), MessageID: fmt.Sprintf("<%d.1234567890@mailout.example.com>", n), Stream: "default",
		Envelope: mta.Envelope{Sender: "sender@example.com"}, Origin: mta.Origin{Door: "smtp", Protocol: "ESMTP", Helo: "client.example.com"}, Deliveries: 1}
	rcpt := fmt.Sprintf("user%d@dest%d.example", n, n%10)
	dest := mta.Destination{Domain: fmt.Sprintf("dest%d.example", n%10), Stream: "default"}
	return &spool.Submission{Message: m, Content: d, Deliveries: []*mta.Delivery{{Message: m, Destination: dest, Recipients: []mta.Recipient{{Address: rcpt}}, Due: now}},
		Records: []*mta.Record{{Time: now, Event: mta.EventAccepted, ID: m.ID, MessageID: m.MessageID, Stream: "default", Sender: "sender@example.com", Recipient: rcpt, Destination: dest.Domain, Size: m.Size}}}
}

func benchSettle(sub *spool.Submission) *spool.Settlement {
	r := *sub.Records[0]
	r.Event = mta.EventDelivered
	r.Time = time.Now()
	r.Site, r.Host, r.Helo = "mx1.dest.example,mx2.dest.example", "mx1.dest.example", "mailout.example.com"
	r.Code, r.Enhanced, r.Reply, r.Class, r.Scope = 250, "2.0.0", "Ok: queued as 4F1kZt0Lz9z1", "delivered", "recipient"
	r.TLS = mta.TLSFacts{Version: "TLS1.3", Cipher: "TLS_AES_128_GCM_SHA256"}
	r.Durations = mta.Durations{Connect: 3, TLS: 9, Mail: 12, Data: 33, Total: 60}
	r.Attempt = 1
	return &spool.Settlement{Delivery: sub.Deliveries[0].Key(), Records: []*mta.Record{&r}}
}

func BenchmarkPutSettle(b *testing.B) {
	for _, w := range []int{1, 20, 100} {
		b.Run(fmt.Sprint(w), func(b *testing.B) { benchRun(b, w, true) })
	}
}
func BenchmarkPut(b *testing.B) {
	for _, w := range []int{1, 20, 100} {
		b.Run(fmt.Sprint(w), func(b *testing.B) { benchRun(b, w, false) })
	}
}

func benchRun(b *testing.B, w int, settle bool) {
	s, err := Open(context.Background(), Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	body := make([]byte, 4096)
	for i := range body {
		body[i] = byte(i * 7919 >> 3)
	}
	b.SetParallelism((w + 1) / 2)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			sub := benchSub(b, s, body)
			if err := s.Put(context.Background(), sub); err != nil {
				b.Error(err)
				return
			}
			if settle {
				if gone, err := s.Settle(context.Background(), benchSettle(sub)); err != nil || len(gone) > 0 {
					b.Error(err, gone)
					return
				}
			}
		}
	})
	b.StopTimer()
	m := s.Metrics()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
	b.ReportMetric(float64(m.LogBytes)/float64(b.N), "wal-B/msg")
	b.ReportMetric(float64(m.TableBytes)/float64(b.N), "sst-B/msg")
}
