package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"mailout/internal/dns"
)

// DefaultTimeout bounds an examination.
const DefaultTimeout = 20 * time.Second

// Options choose what an examination does.
type Options struct {
	Only    []string     // ids, or what stands before a dot ("spf"); empty: all
	Sources []netip.Addr // local addresses to look at; empty: all
	Offline bool         // nothing is asked of the network: checks that need it are skipped
	Timeout time.Duration
}

// probe finds out about one or several ids, which belong together.
type probe struct {
	ids     []string
	offline bool // needs no network
	direct  bool // means nothing when a router takes all mail
	run     func(ctx context.Context, x *exam) []Check
}

// probes are all there are. Each check is made by exactly one.
func probes() []probe {
	return slices.Concat(routerProbes(), resolverProbes(), nameProbes(), addressProbes(), reverseProbes(),
		port25Probes(), spfProbes(), dkimProbes(), dmarcProbes(), recordProbes(), listProbes(), machineProbes())
}

// exam is one examination: what is asked for, and facts found once for all
// probes.
type exam struct {
	id    Identity
	world World
	opts  Options

	looked  memo[question, answer]
	visible memo[struct{}, []face]
	cuts    memo[string, cut]
	dnssec  memo[struct{}, dns.DNSSECState] // dnssec.go

	greetings memo[greetKey, greeting] // greet.go

	records struct { // guard.go
		mu   sync.Mutex
		list []recorded
	}
}

// memo computes a value once for each key, whoever asks first; others wait.
type memo[K comparable, V any] struct {
	mu sync.Mutex
	m  map[K]*fact[V]
}

// fact is one value. Waiting for it is waiting for a channel, so that tests in
// virtual time can.
type fact[V any] struct {
	done   chan struct{}
	value  V
	broken any // what find panicked with
}

func (m *memo[K, V]) get(k K, find func() V) V {
	m.mu.Lock()
	if m.m == nil {
		m.m = make(map[K]*fact[V])
	}
	o, found := m.m[k]
	if !found {
		o = &fact[V]{done: make(chan struct{})}
		m.m[k] = o
	}
	m.mu.Unlock()
	if !found {
		o.find(find)
	}
	<-o.done
	if o.broken != nil {
		panic(o.broken)
	}
	return o.value
}

func (o *fact[V]) find(find func() V) {
	defer close(o.done)
	defer func() { o.broken = recover() }()
	o.value = find()
}

// Examine runs the checks side by side and returns within the time-out: what
// has not ended by then is Unknown. ctx ends it earlier.
func Examine(ctx context.Context, id Identity, world World, opts Options) *Report {
	if ask := id.Router.Ask; ask != nil && !opts.Offline {
		id.Router.Auth, id.Router.AuthTrouble = ask()
	}
	x := &exam{id: id, world: id.throughTLS(world), opts: opts}
	r := x.examine(ctx)
	r.stances = x.stances(r.Checks)
	return r
}

func (x *exam) examine(ctx context.Context) *Report {
	ctx, cancel := x.bounded(ctx)
	defer cancel()
	var mu sync.Mutex
	var checks []Check
	var wg sync.WaitGroup
	for _, p := range probes() {
		if !x.wanted(p) {
			continue
		}
		wg.Go(func() {
			found := x.conduct(ctx, p)
			mu.Lock()
			defer mu.Unlock()
			checks = append(checks, found...)
		})
	}
	wg.Wait() // every probe ends with ctx
	checks = slices.DeleteFunc(checks, func(c Check) bool { return !x.asked(c.ID) })
	slices.SortStableFunc(checks, compareChecks)
	checks = oneEach(checks)
	for i := range checks {
		checks[i].Seen = clipped(checks[i].Seen)
	}
	return &Report{Status: status(checks), Checks: checks}
}

// bounded is ctx within the time-out.
func (x *exam) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if x.opts.Timeout <= 0 {
		return context.WithTimeout(ctx, DefaultTimeout)
	}
	return context.WithTimeout(ctx, x.opts.Timeout)
}

// conduct runs one probe. A defect in it must not hide the other findings.
func (x *exam) conduct(ctx context.Context, p probe) (found []Check) {
	defer func() {
		if r := recover(); r != nil {
			found = x.all(p, Unknown, fmt.Sprintf("the check broke off: %v", r))
		}
	}()
	switch {
	case p.direct && x.routed():
		return x.all(p, Skip, "a router takes all mail: receivers see the router")
	case !p.offline && x.opts.Offline:
		return x.all(p, Skip, "needs the network (--offline)")
	}
	found = p.run(ctx, x)
	for _, id := range p.ids {
		if !slices.ContainsFunc(found, func(c Check) bool { return c.ID == id }) {
			found = append(found, Check{ID: id, Subject: x.id.Hostname, Status: Skip, Seen: "nothing is configured that this could be about (identity.domains, [[dkim]])"})
		}
	}
	return found
}

// oneEach keeps one finding of each id and subject, of several the gravest:
// two sources may be the same to receivers. checks are sorted.
func oneEach(checks []Check) []Check {
	gravity := []Status{Skip, Pass, Unknown, Warn, Fail}
	var out []Check
	for _, c := range checks {
		last := len(out) - 1
		switch {
		case last < 0 || out[last].ID != c.ID || out[last].Subject != c.Subject:
			out = append(out, c)
		case slices.Index(gravity, c.Status) > slices.Index(gravity, out[last].Status):
			out[last] = c
		}
	}
	return out
}

// all gives every id of a probe one status.
func (x *exam) all(p probe, s Status, seen string) []Check {
	var out []Check
	for _, id := range p.ids {
		out = append(out, Check{ID: id, Subject: x.id.Hostname, Status: s, Seen: seen})
	}
	return out
}

// routed reports whether all mail goes to routers: no route delivers directly.
func (x *exam) routed() bool { return x.id.routed() }

func (id Identity) routed() bool {
	direct := func(r Route) bool { return r.Host == "" && (r.Way == "" || r.Directly) }
	return id.Router.Host != "" && id.Router.Use == "always" && !slices.ContainsFunc(id.Routes, direct)
}

func (x *exam) wanted(p probe) bool { return slices.ContainsFunc(p.ids, x.asked) }

// asked reports whether the caller wants to hear about an id.
func (x *exam) asked(id string) bool {
	if len(x.opts.Only) == 0 {
		return true
	}
	return slices.ContainsFunc(x.opts.Only, func(o string) bool { return id == o || strings.HasPrefix(id, o+".") })
}

func compareChecks(a, b Check) int {
	if d := place(a.ID) - place(b.ID); d != 0 {
		return d
	}
	return strings.Compare(a.Subject, b.Subject)
}

func place(id string) int {
	for i, e := range IDs {
		if e.ID == id {
			return i
		}
	}
	return len(IDs)
}
