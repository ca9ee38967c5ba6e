package queue

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// slowStore takes its time over the settlements that wait names.
type slowStore struct {
	*fakeStore
	wait func(key mta.DeliveryKey) time.Duration
}

func (s slowStore) Settle(ctx context.Context, list ...*spool.Settlement) ([]mta.DeliveryKey, error) {
	for _, x := range list {
		if d := s.wait(x.Delivery); d > 0 {
			<-time.After(d) // virtual: the bubble's clock
		}
	}
	return s.fakeStore.Settle(ctx, list...)
}

// A crash repeats at most one delivery a session: a session takes its next
// delivery only when the outcome of the last one is stored, but waits for one
// record settleMax at most, so that a disk that hangs on it does not hold the
// site.
func TestASessionWaitsUntilItsLastOutcomeIsStored(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		takes time.Duration   // storing the first outcome
		want  []time.Duration // when each delivery is taken
	}{
		{"at once", 0, []time.Duration{0, 0, 0}},
		{"slowly", 3 * time.Second, []time.Duration{0, 3 * time.Second, 3 * time.Second}},
		{"just within the limit", settleMax - time.Millisecond, []time.Duration{0, settleMax - time.Millisecond, settleMax - time.Millisecond}},
		{"for an hour", time.Hour, []time.Duration{0, settleMax, settleMax}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			run(t, func(w *world) {
				w.limit = 1 // one session
				var list []*mta.Delivery
				for i := range 3 {
					list = append(list, w.make(mta.DefaultStream, fmt.Sprintf("u%d@one.example", i)))
				}
				first := list[0].Key()
				w.opts.Store = slowStore{w.store, func(key mta.DeliveryKey) time.Duration {
					if key == first {
						return c.takes
					}
					return 0
				}}
				w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) {
					if d.Key() != first && w.since() < settleMax && w.store.get(first) != nil {
						t.Errorf("%s was taken at %v, before the first outcome was stored", d.Recipients[0].Address, w.since())
					}
					return good(d), 0
				}
				w.up()
				w.submit(list...)
				w.wait(time.Minute)
				var took []time.Duration
				for _, d := range list {
					took = append(took, w.attempts(d.Recipients[0].Address)...)
				}
				if !slices.Equal(took, c.want) {
					t.Errorf("taken at %v, want %v", took, c.want)
				}
				w.wait(time.Hour)
				if got := len(w.store.events(mta.EventDelivered)); got != 3 || w.store.count() != 0 {
					t.Errorf("%d delivered, %d left", got, w.store.count())
				}
			})
		})
	}
}

// An outcome that is stored after its session went on without it is not taken
// for a later one.
func TestALateOutcomeIsNobodyElses(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.limit = 1
		w.opts.Limits.Settlers = 4
		w.opts.Store = slowStore{w.store, func(mta.DeliveryKey) time.Duration { return 13 * time.Second }}
		w.up()
		for i := range 3 {
			w.send(fmt.Sprintf("u%d@one.example", i))
		}
		w.wait(time.Minute)
		for i, want := range []time.Duration{0, settleMax, 2 * settleMax} {
			if took := w.attempts(fmt.Sprintf("u%d@one.example", i)); !slices.Equal(took, []time.Duration{want}) {
				t.Errorf("delivery %d was taken at %v, want %v", i, took, want)
			}
		}
	})
}
