package queue

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mailout/internal/mta"
	"mailout/internal/retry"
	"mailout/internal/spool"
)

// world is a queue with a scripted planner, carrier and reporter, in virtual
// time (every test runs in a synctest bubble).
type world struct {
	t     testing.TB
	store *fakeStore
	opts  Options
	q     *Queue
	start time.Time
	seq   atomic.Uint64

	// site gives the MX set of a domain; default: the domain itself.
	site func(domain string) string
	// refuse gives a failed plan's result, or nil.
	refuse func(domain string) *mta.Result
	// lookUp is how long a plan takes; default no time.
	lookUp func(domain string) time.Duration
	// limit is each site's connection limit; 0 means the default.
	limit int
	// routeTTL is how long routes count; default an hour.
	routeTTL time.Duration
	// attempt gives what happens to each recipient, and how long it takes.
	attempt func(d *mta.Delivery) ([]mta.Result, time.Duration)
	// script is held while what follows is called, so that tests may change what
	// it goes by (change).
	script sync.Mutex
	// over is attempt where the route counts.
	over func(r *mta.Route, d *mta.Delivery) ([]mta.Result, time.Duration)
	// variant, plan and learn are the planner's; by default all mail has one way
	// and one route. plan changes the route that was made without it.
	variant func(m *mta.Message) string
	plan    func(variant string, r *mta.Route) (*mta.Plan, *mta.Attempt)
	learn   func(r *mta.Route, d *mta.Delivery, a *mta.Attempt) Lesson
	// report makes the report; default one to the sender.
	report func(r ReportRequest) (*spool.Submission, error)
	idle   time.Duration // of a session; default a minute
	greet  time.Duration // how long it takes to connect

	crashed int // of the test's goroutine

	mu struct {
		sync.Mutex
		flight   map[mta.DeliveryKey]bool
		sessions map[string]int
		most     map[string]int // sessions at once
		opened   map[string]int
		all      int
		mostAll  int
		plans    map[string]int // under way
		planned  int
		order    []string // recipients in the order of their attempts
		reports  []ReportRequest
		times    map[string][]time.Duration // attempts of each recipient, since the start
		via      map[string][]string        // the sources of these attempts, or their routers
	}
}

// run runs f in a bubble with a world that is stopped at the end.
func run(t *testing.T, f func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f(w)
		if w.q != nil {
			if err := w.q.Stop(context.Background()); err != nil {
				t.Error(err)
			}
		}
	})
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, store: newFakeStore(), start: time.Now(), idle: time.Minute, routeTTL: time.Hour}
	w.mu.flight = make(map[mta.DeliveryKey]bool)
	w.mu.sessions = make(map[string]int)
	w.mu.most = make(map[string]int)
	w.mu.opened = make(map[string]int)
	w.mu.plans = make(map[string]int)
	w.mu.times = make(map[string][]time.Duration)
	w.mu.via = make(map[string][]string)
	w.opts = Options{
		Store: w.store, Planner: w, Carrier: w, Reporter: w,
		Rand:      func() float64 { return 0.5 },
		Schedules: retry.Schedules{Default: retry.Default()},
		Logger:    slog.New(slog.NewTextHandler(io.Discard, nil)),
		Hostname:  "out.example",
	}
	return w
}

// up starts a queue on the store.
func (w *world) up() {
	w.t.Helper()
	w.q = New(w.opts)
	if err := w.q.Start(context.Background()); err != nil {
		w.t.Fatal(err)
	}
}

// wait lets virtual time pass and everything settle.
func (w *world) wait(d time.Duration) {
	<-time.After(d) // virtual: the bubble's clock
	synctest.Wait()
}

// make makes a delivery to the recipients, which share a domain.
func (w *world) make(stream string, rcpts ...string) *mta.Delivery {
	seq := w.seq.Add(1)
	var entropy [10]byte
	binary.BigEndian.PutUint64(entropy[2:], seq)
	now := time.Now().UTC()
	m := &mta.Message{
		ID: mta.NewID(now, entropy), Arrived: now, Size: 1000, MessageID: fmt.Sprintf("<%d@out.example>", seq),
		Stream: stream, Envelope: mta.Envelope{Sender: "app@out.example"}, Deliveries: 1,
	}
	d := &mta.Delivery{Message: m, Due: now.Truncate(time.Millisecond)}
	for _, r := range rcpts {
		d.Recipients = append(d.Recipients, mta.Recipient{Address: r})
	}
	d.Destination = mta.Destination{Domain: rcpts[0][strings.IndexByte(rcpts[0], '@')+1:], Stream: stream}
	return d
}

// submit stores deliveries and announces them.
func (w *world) submit(list ...*mta.Delivery) {
	w.store.put(list...)
	w.q.Add(list)
}

func (w *world) send(rcpts ...string) *mta.Delivery {
	d := w.make(mta.DefaultStream, rcpts...)
	w.submit(d)
	return d
}

func (w *world) since() time.Duration { return time.Since(w.start) }

// Variant implements Planner.
func (w *world) Variant(m *mta.Message, _ mta.Destination) string {
	if w.variant == nil {
		return ""
	}
	w.script.Lock()
	defer w.script.Unlock()
	return w.variant(m)
}

// Learn implements Planner.
func (w *world) Learn(r *mta.Route, d *mta.Delivery, a *mta.Attempt) Lesson {
	if w.learn == nil {
		return Lesson{}
	}
	w.script.Lock()
	defer w.script.Unlock()
	return w.learn(r, d, a)
}

// Plan implements Planner.
func (w *world) Plan(ctx context.Context, dest mta.Destination, variant string) (*mta.Plan, *mta.Attempt) {
	r, refusal := w.route(ctx, dest, variant)
	if r != nil && w.plan != nil {
		w.script.Lock()
		defer w.script.Unlock()
		return w.plan(variant, r)
	}
	return onePlan(r, refusal)
}

func onePlan(r *mta.Route, refusal *mta.Attempt) (*mta.Plan, *mta.Attempt) {
	if r == nil {
		return nil, refusal
	}
	return mta.OnePlan(r), nil
}

func (w *world) route(ctx context.Context, dest mta.Destination, variant string) (*mta.Route, *mta.Attempt) {
	key := dest.String() + "\x00" + variant
	w.mu.Lock()
	w.mu.planned++
	if w.mu.plans[key]++; w.mu.plans[key] > 1 {
		w.t.Errorf("two plans at once for %s", key)
	}
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		w.mu.plans[key]--
		w.mu.Unlock()
	}()
	if w.lookUp != nil {
		select {
		case <-time.After(w.lookUp(dest.Domain)):
		case <-ctx.Done():
		}
	}
	if w.refuse != nil {
		if r := w.refuse(dest.Domain); r != nil {
			now := time.Now()
			return nil, &mta.Attempt{Start: now, End: now, Results: []mta.Result{*r}}
		}
	}
	site := dest.Domain
	if w.site != nil {
		site = w.site(dest.Domain)
	}
	if w.q != nil && w.q.via(dest) != "" {
		site = "router:" + w.q.via(dest)
	}
	return &mta.Route{Domain: dest.Domain, Site: site, Limits: mta.Limits{Connections: w.limit}, Expires: time.Now().Add(w.routeTTL)}, nil
}

// Carry implements Carrier: one session.
func (w *world) Carry(ctx, abandon context.Context, route *mta.Route, work Work) {
	w.open(siteKey(route))
	defer w.close(siteKey(route))
	first := true
	for {
		d, r, ok := work.Next(ctx, w.idle)
		if !ok {
			return
		}
		if siteKey(r) != siteKey(route) {
			w.t.Errorf("a worker of %s got mail for %s", siteKey(route), siteKey(r))
		}
		w.take(d, r)
		start := time.Now()
		results, took := w.outcome(r, d)
		if first {
			took += w.greet
			first = false
		}
		if took > 0 {
			pause := time.NewTimer(took)
			select {
			case <-pause.C:
			case <-abandon.Done():
				pause.Stop()
				for i := range results {
					results[i] = mta.Result{Class: mta.ClassUncertain, Scope: mta.ScopeHost, Reason: "abandoned"}
				}
			}
		}
		w.give(d)
		work.Report(d, &mta.Attempt{Start: start, End: time.Now(), Site: r.Site, Host: "mx." + r.Site, Results: results})
	}
}

// outcome asks the script; the session ends when it panics.
func (w *world) outcome(route *mta.Route, d *mta.Delivery) ([]mta.Result, time.Duration) {
	clean := false
	defer func() {
		if !clean {
			w.give(d)
		}
	}()
	r, took := w.results(route, d)
	clean = true
	return r, took
}

func (w *world) results(r *mta.Route, d *mta.Delivery) ([]mta.Result, time.Duration) {
	if w.over != nil {
		w.script.Lock()
		defer w.script.Unlock()
		return w.over(r, d)
	}
	if w.attempt == nil {
		return good(d), 0
	}
	return w.attempt(d)
}

func (w *world) open(site string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.sessions[site]++
	w.mu.opened[site]++
	w.mu.most[site] = max(w.mu.most[site], w.mu.sessions[site])
	w.mu.all++
	w.mu.mostAll = max(w.mu.mostAll, w.mu.all)
}

func (w *world) close(site string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.sessions[site]--
	w.mu.all--
}

func (w *world) take(d *mta.Delivery, route *mta.Route) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.flight[d.Key()] {
		w.t.Errorf("%v is in flight twice", d.Key())
	}
	w.mu.flight[d.Key()] = true
	for _, r := range d.Recipients {
		w.mu.order = append(w.mu.order, r.Address)
		w.mu.via[r.Address] = append(w.mu.via[r.Address], via(route))
		w.mu.times[r.Address] = append(w.mu.times[r.Address], w.since())
	}
}

func (w *world) give(d *mta.Delivery) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.mu.flight, d.Key())
}

// Report implements Reporter.
func (w *world) Report(_ context.Context, r ReportRequest) (*spool.Submission, error) {
	w.mu.Lock()
	w.mu.reports = append(w.mu.reports, r)
	w.mu.Unlock()
	seq := w.seq.Add(1)
	if w.report != nil {
		return w.report(r)
	}
	return bounceTo(r, seq), nil
}

// bounceTo is a report to the sender, which goes out as mail of its own.
func bounceTo(r ReportRequest, seq uint64) *spool.Submission {
	to := r.Delivery.Message.Envelope.Sender
	if to == "" {
		return nil
	}
	var entropy [10]byte
	binary.BigEndian.PutUint64(entropy[2:], seq)
	m := &mta.Message{ID: mta.NewID(r.Now, entropy), Arrived: r.Now, Size: 500, Stream: mta.DefaultStream, Kind: mta.KindBounce, Deliveries: 1}
	d := &mta.Delivery{Message: m, Due: r.Now, Recipients: []mta.Recipient{{Address: to}},
		Destination: mta.Destination{Domain: to[strings.IndexByte(to, '@')+1:], Stream: mta.DefaultStream}}
	return &spool.Submission{Message: m, Deliveries: []*mta.Delivery{d}}
}

func (w *world) reports() []ReportRequest {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]ReportRequest(nil), w.mu.reports...)
}

func (w *world) attempts(rcpt string) []time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]time.Duration(nil), w.mu.times[rcpt]...)
}

// change changes, or reads, what the world's functions go by.
func (w *world) change(f func()) {
	w.script.Lock()
	defer w.script.Unlock()
	f()
}

// via names what tells a plan's routes apart.
func via(r *mta.Route) string {
	if r.Router != "" {
		return r.Router
	}
	return r.SourceKey()
}

// sources are the routes of a recipient's attempts.
func (w *world) sources(rcpt string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.mu.via[rcpt]...)
}

func (w *world) tried() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.mu.order...)
}

// The results that tests use.

func each(d *mta.Delivery, r mta.Result) []mta.Result {
	list := make([]mta.Result, len(d.Recipients))
	for i := range list {
		list[i] = r
	}
	return list
}

func good(d *mta.Delivery) []mta.Result {
	return each(d, mta.Result{Class: mta.ClassDelivered, Reply: mta.Reply{Code: 250, Text: "ok"}})
}

func noSuchUser() mta.Result {
	return mta.Result{Class: mta.ClassPermanent, Scope: mta.ScopeRecipient, Reply: mta.Reply{Code: 550, Text: "no such user"},
		Enhanced: mta.Enhanced{Class: 5, Subject: 1, Detail: 1}, Reason: "refused"}
}

func greylisted() mta.Result {
	return mta.Result{Class: mta.ClassTemporary, Scope: mta.ScopeRecipient, Reply: mta.Reply{Code: 450, Text: "greylisted"},
		Enhanced: mta.Enhanced{Class: 4, Subject: 7, Detail: 1}, Reason: "mx: greylisted"}
}

func unreachable() mta.Result {
	return mta.Result{Class: mta.ClassTemporary, Scope: mta.ScopeSite, Reason: "connection refused"}
}

var errBroken = errors.New("input/output error")
