package queue

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"mailout/internal/mta"
	"mailout/internal/retry"
	"mailout/internal/spool"
)

// nullRoad delivers everything at once and stores nothing.
type nullRoad struct {
	*fakeStore
	left    atomic.Int64
	done    chan struct{}
	settled func()
}

// Plan implements Planner.
func (n *nullRoad) Plan(_ context.Context, dest mta.Destination, _ string) (*mta.Plan, *mta.Attempt) {
	return mta.OnePlan(&mta.Route{Site: dest.Domain, Expires: time.Now().Add(time.Hour)}), nil
}

// Variant implements Planner.
func (n *nullRoad) Variant(*mta.Message, mta.Destination) string { return "" }

// Learn implements Planner.
func (n *nullRoad) Learn(*mta.Route, *mta.Delivery, *mta.Attempt) Lesson { return Lesson{} }

// Carry implements Carrier.
func (n *nullRoad) Carry(ctx, _ context.Context, route *mta.Route, work Work) {
	for {
		d, _, ok := work.Next(ctx, time.Minute)
		if !ok {
			return
		}
		now := time.Now()
		work.Report(d, &mta.Attempt{Start: now, End: now, Site: route.Site, Host: "mx", Results: []mta.Result{{Class: mta.ClassDelivered}}})
	}
}

// Report implements Reporter.
func (n *nullRoad) Report(context.Context, ReportRequest) (*spool.Submission, error) { return nil, nil }

// Settle implements spool.Store.
func (n *nullRoad) Settle(_ context.Context, list ...*spool.Settlement) ([]mta.DeliveryKey, error) {
	for range list {
		n.settled()
	}
	if n.left.Add(-int64(len(list))) == 0 {
		close(n.done)
	}
	return nil, nil
}

// BenchmarkDeliveries is the scheduler's own cost: a carrier that does nothing
// and a store that stores nothing. The goal is under 20 µs a delivery.
func BenchmarkDeliveries(b *testing.B) {
	for _, domains := range []int{1, 1000} {
		b.Run(fmt.Sprintf("domains=%d", domains), func(b *testing.B) {
			n := &nullRoad{fakeStore: newFakeStore(), done: make(chan struct{})}
			n.left.Store(int64(b.N))
			limits := Limits{PerDestination: maxPerDestination}
			room := make(chan struct{}, maxPerDestination/2) // the store keeps nothing: all must stay in memory
			n.settled = func() { <-room }
			q := New(Options{Store: n, Planner: n, Carrier: n, Reporter: n, Limits: limits, Schedules: retry.Schedules{Default: retry.Default()}})
			if err := q.Start(context.Background()); err != nil {
				b.Fatal(err)
			}
			names := make([]string, domains)
			for i := range names {
				names[i] = fmt.Sprintf("d%d.example", i)
			}
			rcpt := []mta.Recipient{{Address: "u@example"}}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				now := time.Now()
				var entropy [10]byte
				binary.BigEndian.PutUint64(entropy[2:], uint64(i))
				m := &mta.Message{ID: mta.NewID(now, entropy), Arrived: now, Stream: mta.DefaultStream}
				d := &mta.Delivery{Message: m, Due: now, Recipients: rcpt,
					Destination: mta.Destination{Domain: names[i%domains], Stream: mta.DefaultStream}}
				room <- struct{}{}
				q.Add([]*mta.Delivery{d})
			}
			<-n.done
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "deliveries/s")
			if err := q.Stop(context.Background()); err != nil {
				b.Fatal(err)
			}
		})
	}
}
