package transport

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mailout/internal/mta"
	"mailout/internal/mtatest"
	"mailout/internal/spool"
)

// world is a network of receiving servers in a bubble of fake time, and a
// carrier that delivers to them.
type world struct {
	*testing.T
	net     mtatest.Net
	mx      map[string]*mtatest.MX
	opt     Options
	bodies  store
	carrier *Carrier
	route   *mta.Route
	lenient bool // breaches of the protocol are meant
}

// inWorld runs f in a bubble of its own.
func inWorld(t *testing.T, f func(w *world)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, mx: map[string]*mtatest.MX{}, bodies: store{}}
		w.opt = Options{Content: w.bodies, Dial: w.net.DialFrom, Shuffle: func(int, func(i, j int)) {}}
		w.route = &mta.Route{Domain: "example.net", Site: "mx1", Port: 25, TLS: mta.TLSNone, Helo: "out.example.org", IPv6: true}
		f(w)
		w.net.Close()
		for name, m := range w.mx {
			m.Stop()
			for _, v := range m.Violations() {
				if w.lenient {
					break
				}
				t.Errorf("%s: %s", name, v)
			}
		}
	})
}

// host adds a server with addresses to the route.
func (w *world) host(name string, cfg mtatest.MXConfig, addrs ...string) *mtatest.MX {
	cfg.Hostname = name
	m := mtatest.NewMX(cfg)
	w.mx[name] = m
	w.serve(name, m.ServeConn, addrs...)
	return m
}

func (w *world) serve(name string, h func(net.Conn), addrs ...string) {
	host := mta.Host{Name: name, Preference: uint16(10 * len(w.route.Hosts))}
	for _, a := range addrs {
		ip := netip.MustParseAddr(a)
		host.Addresses = append(host.Addresses, ip)
		w.net.Handle(netip.AddrPortFrom(ip, 25), h)
	}
	w.route.Hosts = append(w.route.Hosts, host)
}

// store is a spool in a map.
type store map[mta.ID]string

func (s store) Open(_ context.Context, id mta.ID) (spool.Content, error) {
	body, ok := s[id]
	if !ok {
		return nil, spool.ErrNotFound
	}
	return stored(body), nil
}

type stored string

func (c stored) ReadAt(p []byte, at int64) (int, error) {
	return strings.NewReader(string(c)).ReadAt(p, at)
}
func (c stored) Size() int64   { return int64(len(c)) }
func (c stored) Bytes() []byte { return []byte(c) }
func (c stored) Close() error  { return nil }

const body = "Subject: x\r\n\r\nhello\r\n"

// mail makes a delivery to addresses.
func (w *world) mail(to ...string) *mta.Delivery {
	id := mta.NewID(time.Now(), [10]byte{byte(len(w.bodies))})
	w.bodies[id] = body
	d := &mta.Delivery{
		Message:     &mta.Message{ID: id, Size: int64(len(body)), Envelope: mta.Envelope{Sender: "a@example.org"}},
		Destination: mta.Destination{Domain: "example.net", Stream: mta.DefaultStream},
	}
	for _, a := range to {
		d.Recipients = append(d.Recipients, mta.Recipient{Address: a})
	}
	return d
}

// job is one delivery that a worker gets, after a wait.
type job struct {
	d     *mta.Delivery
	route *mta.Route // nil: the world's
	after time.Duration
}

// jobs is a Work of prepared deliveries.
type jobs struct {
	w        *world
	list     []job
	taken    int
	attempts []*mta.Attempt
}

func (j *jobs) Next(ctx context.Context, idle time.Duration) (*mta.Delivery, *mta.Route, bool) {
	if j.taken == len(j.list) || ctx.Err() != nil {
		return nil, nil, false
	}
	next := j.list[j.taken]
	if next.after > 0 {
		<-time.After(next.after)
	}
	j.taken++
	if next.route == nil {
		next.route = j.w.route
	}
	return next.d, next.route, true
}

func (j *jobs) Report(d *mta.Delivery, a *mta.Attempt) {
	if d != j.list[j.taken-1].d || len(a.Results) != len(d.Recipients) {
		j.w.Errorf("reported %d results", len(a.Results))
	}
	j.attempts = append(j.attempts, a)
}

// carry has one worker carry deliveries over the world's route.
func (w *world) carry(ctx, abandon context.Context, list ...job) []*mta.Attempt {
	w.Helper()
	if w.carrier == nil {
		w.carrier = New(w.opt)
	}
	work := &jobs{w: w, list: list}
	w.carrier.Carry(ctx, abandon, w.route, work)
	return work.attempts
}

func (w *world) deliver(list ...*mta.Delivery) []*mta.Attempt {
	w.Helper()
	var all []job
	for _, d := range list {
		all = append(all, job{d: d})
	}
	return w.carry(context.Background(), context.Background(), all...)
}

// told is an attempt in one line: results, host, tries.
func told(a *mta.Attempt) string {
	var out []string
	for _, r := range a.Results {
		s := r.Class.String()
		if r.Class != mta.ClassDelivered {
			s += " " + r.Scope.String()
		}
		out = append(out, s+" "+r.Enhanced.String())
	}
	s := strings.Join(out, ", ") + " @" + a.Host
	if a.Reused {
		s += " reused"
	}
	for _, t := range a.Tries {
		s += fmt.Sprintf("; %s %s", t.Host, t.Stage)
	}
	return s
}

func (w *world) want(a *mta.Attempt, want string) {
	w.Helper()
	if got := told(a); got != want {
		w.Errorf("\ngot  %s\nwant %s\n%+v", got, want, a)
	}
}

func (w *world) received(name string, want int) {
	w.Helper()
	if got := len(w.mx[name].Messages()); got != want {
		w.Errorf("%s has %d messages, want %d", name, got, want)
	}
}

func (w *world) sessions(name string, want int64) {
	w.Helper()
	if got := w.mx[name].Stats().Sessions; got != want {
		w.Errorf("%s had %d sessions, want %d", name, got, want)
	}
}

// Short names for scripts.
func on(stage mtatest.Stage, reply string) mtatest.Rule {
	return mtatest.Rule{Stage: stage, Action: mtatest.Action{Reply: reply}}
}

func rules(r ...mtatest.Rule) mtatest.MXConfig { return mtatest.MXConfig{Rules: r} }
