package control_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mailout/internal/control"
	"mailout/internal/mta"
	"mailout/internal/queue"
	"mailout/internal/spool"
)

// desk is a spool and a queue that carry out what they are told, each change
// at once.
type desk struct {
	spool.Store
	mu    sync.Mutex
	open  []*mta.Delivery // in the order of arrival
	holds []queue.Hold    // as the queue has them
	rules []queue.Reroute // the same
	batch int             // the largest
	about []*mta.Delivery // in flight, to be held afterwards; as Recall shows them
	// stale makes the first orders about a delivery fail because it has changed.
	stale map[mta.DeliveryKey]int
	fail  error
}

func (d *desk) List(ctx context.Context, f spool.Filter, each func(*mta.Delivery) bool) error {
	d.mu.Lock()
	list := slices.Clone(d.open)
	d.mu.Unlock()
	for _, x := range list {
		if err := ctx.Err(); err != nil {
			return err
		}
		if (f.Destination == "" || f.Destination == x.Destination.Domain) && (f.Stream == "" || f.Stream == x.Destination.Stream) &&
			(f.ID.IsZero() || f.ID == x.Message.ID) && (f.State == nil || *f.State == x.State) && (f.Sender == "" || f.Sender == x.Message.Envelope.Sender) && !each(x) {
			return nil
		}
	}
	return nil
}

func (d *desk) WhyAll(_ context.Context, list []*mta.Delivery) ([]queue.Explanation, error) {
	out := make([]queue.Explanation, len(list))
	for i, x := range list {
		out[i].Site = "mx." + x.Destination.Domain
	}
	return out, nil
}

func (d *desk) SetHolds(holds []queue.Hold) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.holds = holds
}

func (d *desk) Recall(_ context.Context, _ queue.Order, wants func(*mta.Delivery, string) bool) (t queue.Tally, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, x := range d.about {
		if wants(x, "mx."+x.Destination.Domain) {
			t.Changed++
		}
	}
	return t, nil
}

func (d *desk) SetReroutes(rules []queue.Reroute) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rules = rules
}

func (d *desk) Command(_ context.Context, o queue.Order, list []*mta.Delivery) (t queue.Tally, again []mta.DeliveryKey, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail != nil {
		return t, nil, d.fail
	}
	d.batch = max(d.batch, len(list))
	for _, x := range list {
		i := slices.IndexFunc(d.open, func(y *mta.Delivery) bool { return y.Key() == x.Key() })
		switch {
		case i < 0 || d.stale[x.Key()] > 0:
			d.stale[x.Key()]--
			again = append(again, x.Key())
		case o.Verb == queue.VerbCancel:
			d.open = slices.Delete(d.open, i, i+1)
			t.Changed++
		case o.Verb == queue.VerbReroute:
			next := *d.open[i]
			next.Destination.Via = o.Via
			d.open[i] = &next
			t.Changed++
		default:
			next := *d.open[i]
			next.State, next.HeldBy = mta.Held, o.Reason
			if o.Verb != queue.VerbHold {
				next.State, next.HeldBy = mta.Deferred, ""
			}
			d.open[i] = &next
			t.Changed++
		}
	}
	return t, again, nil
}

// with fills the spool: every third delivery is to two.example.
func newDesk(n int) *desk {
	d := &desk{stale: map[mta.DeliveryKey]int{}}
	begin := time.Now().Add(-time.Duration(n) * time.Minute)
	for i := range n {
		at := begin.Add(time.Duration(i) * time.Minute)
		m := &mta.Message{ID: mta.NewID(at, [10]byte{byte(i >> 8), byte(i)}), Arrived: at, Stream: mta.DefaultStream}
		if i%2 == 0 {
			m.Envelope.Sender = "a@out.example"
		}
		domain := "one.example"
		if i%3 == 0 {
			domain = "two.example"
		}
		d.open = append(d.open, &mta.Delivery{Message: m, State: mta.Deferred, Due: time.Now().Add(time.Hour),
			Recipients:  []mta.Recipient{{Address: fmt.Sprintf("u%d@%s", i, domain)}},
			Destination: mta.Destination{Domain: domain, Stream: mta.DefaultStream}})
	}
	return d
}

func (d *desk) controller(t *testing.T, dir string) *control.Controller {
	t.Helper()
	file := filepath.Join(dir, control.HoldsFile)
	holds, err := control.ReadHolds(file)
	if err != nil {
		t.Fatal(err)
	}
	d.SetHolds(control.Active(holds, time.Now()))
	routes := filepath.Join(dir, control.ReroutesFile)
	rules, err := control.ReadReroutes(routes)
	if err != nil {
		t.Fatal(err)
	}
	d.SetReroutes(control.ActiveRoutes(rules, time.Now()))
	return control.New(control.Options{
		Store: d, Queue: d, File: file, Holds: holds, RoutesFile: routes, Reroutes: rules, Logger: slog.New(slog.DiscardHandler),
	})
}

func (d *desk) held() (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, x := range d.open {
		if x.State == mta.Held {
			n++
		}
	}
	return n
}

func TestSelectors(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(60)
		c := d.controller(t, t.TempDir())
		deferred, held := mta.Deferred, mta.Held
		for _, x := range []struct {
			sel  control.Selector
			want int64
		}{
			{control.Selector{All: true}, 60},
			{control.Selector{ID: d.open[7].Message.ID}, 1},
			{control.Selector{Destination: "two.example"}, 20},
			{control.Selector{Sender: "a@out.example"}, 30},
			{control.Selector{NullSender: true}, 30},
			{control.Selector{NullSender: true, Site: "MX.two.example"}, 10},
			{control.Selector{Site: "mx.none.example"}, 0},
			{control.Selector{State: &deferred}, 60},
			{control.Selector{State: &held}, 0},
			{control.Selector{Older: 50 * time.Minute}, 11},
			{control.Selector{Newer: 10 * time.Minute}, 10},
			{control.Selector{Older: 5 * time.Minute, Newer: 10 * time.Minute, Destination: "one.example"}, 4},
		} {
			n, sample, err := c.Preview(t.Context(), control.Request{Verb: queue.VerbCancel, Select: x.sel})
			if err != nil || n != x.want || int64(len(sample)) != min(n, control.SampleSize) {
				t.Errorf("%+v: %d, sample %d, %v; want %d", x.sel, n, len(sample), err, x.want)
			}
		}
		if d.batch != 0 {
			t.Error("a preview gives orders")
		}
		for _, r := range []struct {
			r    control.Request
			want error
		}{
			{control.Request{Verb: queue.VerbCancel}, control.ErrNothing},
			{control.Request{Verb: queue.VerbHold, Select: control.Selector{All: true}, Expires: 1}, control.ErrExpires},
			{control.Request{Verb: queue.VerbRetry, Select: control.Selector{Destination: "x"}, Expires: 1}, control.ErrExpires},
			{control.Request{Verb: queue.VerbHold, Select: control.Selector{Destination: "x"}, Once: true, Expires: 1}, control.ErrExpires},
		} {
			if _, err := c.Run(t.Context(), r.r, nil); !errors.Is(err, r.want) {
				t.Errorf("%+v: %v", r.r, err)
			}
		}
	})
}

// TestRunInBatches: everything once, in bounded batches; what has changed is
// read again, and what is gone is counted.
func TestRunInBatches(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(5000)
		c := d.controller(t, t.TempDir())
		d.stale[d.open[7].Key()] = 2
		d.stale[d.open[8].Key()] = 100
		var last control.Result
		r, err := c.Run(t.Context(), control.Request{Verb: queue.VerbCancel, Select: control.Selector{All: true}}, func(now control.Result) {
			if now.Matched < last.Matched || now.Changed < last.Changed {
				t.Errorf("progress goes back: %+v, %+v", last, now)
			}
			last = now
		})
		if err != nil || !r.Finished || r.Matched != 5000 || r.Changed != 4999 || r.Gone != 1 || len(d.open) != 1 || d.batch > queue.MaxOrder {
			t.Errorf("%+v %v, %d left, batches of %d", r, err, len(d.open), d.batch)
		}
		d.fail = errors.New("broken")
		if r, err := c.Run(t.Context(), control.Request{Verb: queue.VerbCancel, Select: control.Selector{All: true}}, nil); !errors.Is(err, d.fail) || r.Finished {
			t.Errorf("%+v %v", r, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := c.Run(ctx, control.Request{Verb: queue.VerbCancel, Select: control.Selector{All: true}}, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	})
}

// TestHoldsLast: kept in the file, told to the queue, replaced, ended by a
// release, and at their time; also when that passes while nothing runs.
func TestHoldsLast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		d := newDesk(30)
		c := d.controller(t, dir)
		c.Start(t.Context())
		hold := func(domain, stream string, expires time.Duration) {
			t.Helper()
			if _, err := c.Run(t.Context(), control.Request{Verb: queue.VerbHold, By: "ann", Reason: "so", Expires: expires,
				Select: control.Selector{Destination: domain, Stream: stream}}, nil); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := c.Run(t.Context(), control.Request{Verb: queue.VerbHold, Select: control.Selector{ID: d.open[0].Message.ID}}, nil); err != nil {
			t.Fatal(err)
		}
		hold("two.example", "", time.Hour)
		hold("two.example", "", 2*time.Hour) // in its place
		hold("three.example", "codes", 0)
		hold("three.example", "", 0)
		if n := d.held(); n != 10 || len(d.holds) != 3 || len(c.Holds()) != 3 {
			t.Fatalf("%d held by %v", n, d.holds)
		}
		c.Stop()
		c = d.controller(t, dir)
		if len(d.holds) != 3 {
			t.Fatalf("after a restart: %v", d.holds)
		}
		r, err := c.Run(t.Context(), control.Request{Verb: queue.VerbRelease, Select: control.Selector{Destination: "three.example", Stream: "codes"}}, nil)
		if err != nil || r.Ended != 1 || len(d.holds) != 2 {
			t.Errorf("%+v %v %v", r, err, d.holds)
		}
		<-time.After(3 * time.Hour) // nothing runs
		c = d.controller(t, dir)
		if len(d.holds) != 1 || d.held() != 10 {
			t.Errorf("%v, %d held", d.holds, d.held())
		}
		c.Start(t.Context())
		synctest.Wait()
		if n := d.held(); n != 1 || len(c.Holds()) != 1 { // the one held singly stays
			t.Errorf("%d held after the expiry, by %v", n, c.Holds())
		}
		hold("one.example", "", time.Minute)
		d.mu.Lock()
		d.fail = errors.New("broken")
		d.mu.Unlock()
		<-time.After(90 * time.Second)
		synctest.Wait()
		if len(c.Holds()) != 2 || len(d.holds) != 1 {
			t.Errorf("a release that failed is forgotten: %v, %v", c.Holds(), d.holds)
		}
		d.mu.Lock()
		d.fail = nil
		d.mu.Unlock()
		<-time.After(2 * time.Minute)
		synctest.Wait()
		if d.held() != 1 || len(c.Holds()) != 1 {
			t.Errorf("%d held, by %v", d.held(), c.Holds())
		}
		if r, err := c.Run(t.Context(), control.Request{Verb: queue.VerbRelease, Select: control.Selector{All: true}}, nil); err != nil || r.Ended != 1 || d.held() != 0 || len(d.holds) != 0 {
			t.Errorf("%+v %v", r, err)
		}
		c.Stop()
		if holds, err := control.ReadHolds(filepath.Join(dir, control.HoldsFile)); err != nil || len(holds) != 0 {
			t.Errorf("%v %v", holds, err)
		}
	})
}

func TestHoldsFileMustBeRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, control.HoldsFile)
	if holds, err := control.ReadHolds(file); err != nil || holds != nil {
		t.Errorf("%v %v", holds, err)
	}
	if err := os.WriteFile(file, []byte(`[{"destination":"x.exam`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := control.ReadHolds(file); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("%v", err)
	}
	// And a hold that cannot be kept does not count.
	d := newDesk(3)
	c := control.New(control.Options{Store: d, Queue: d, File: filepath.Join(dir, "none", "x"), Logger: slog.New(slog.DiscardHandler)})
	if _, err := c.Run(t.Context(), control.Request{Verb: queue.VerbHold, Select: control.Selector{Destination: "two.example"}}, nil); err == nil || d.held() != 0 || len(d.holds) != 0 {
		t.Errorf("%v, %v", err, d.holds)
	}
}

// TestReleaseRecalls: what is about to be held is released by the same
// conditions as what is held.
func TestReleaseRecalls(t *testing.T) {
	t.Parallel()
	d := newDesk(30)
	c := d.controller(t, t.TempDir())
	for _, x := range d.open[:6] {
		held := *x
		held.State, held.HeldBy = mta.Held, "held by ann"
		d.about = append(d.about, &held)
	}
	first := d.about[0]
	for name, x := range map[string]struct {
		sel  control.Selector
		want int64
	}{
		"all":         {control.Selector{All: true}, 6},
		"id":          {control.Selector{ID: first.Message.ID}, 1},
		"destination": {control.Selector{Destination: "two.example"}, 2},
		"stream":      {control.Selector{Stream: "codes"}, 0},
		"sender":      {control.Selector{Sender: "A@out.example"}, 3},
		"null sender": {control.Selector{NullSender: true}, 3},
		"recipient":   {control.Selector{Recipient: first.Recipients[0].Address}, 1},
		"site":        {control.Selector{Site: "MX.two.example"}, 2},
		"age":         {control.Selector{Newer: time.Minute}, 0},
	} {
		if r, err := c.Run(t.Context(), control.Request{Verb: queue.VerbRelease, Select: x.sel}, nil); err != nil || r.Changed != x.want || r.Matched != x.want {
			t.Errorf("%s: %+v %v", name, r, err)
		}
	}
}
