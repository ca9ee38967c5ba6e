package world

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"mailout/internal/dns"
	"mailout/internal/mta"
	"mailout/internal/mtatest"
	"mailout/internal/queue"
	"mailout/internal/retry"
	"mailout/internal/route"
	"mailout/internal/spool/pebble"
	"mailout/internal/standing"
	"mailout/internal/submit"
	"mailout/internal/transport"
	"mailout/internal/warmup"
)

// The simulated world of a warm-up: a pool of a source that is warm and one that
// is new, one receiver, days of mail, and power cuts. Everything is real but the
// disk, the network and the clock.

var (
	warmSource  = netip.MustParseAddr("192.0.2.10")
	youngSource = netip.MustParseAddr("192.0.2.11")
	warmupDays  = []int{3, 12, 30, 60}
)

// warming is one such world.
type warming struct {
	t      *testing.T
	rng    *rand.Rand
	start  time.Time
	dns    *mtatest.DNS
	at     map[netip.Addr]*mtatest.MX // the receiver, as each source meets it
	mem    *vfs.MemFS
	house  *house // the process now
	handed int
	alone  bool // there is no source that is warm
	// around gives the planner more to heed; nil: nothing.
	around func(h *house, p queue.Planner) queue.Planner
}

// house is one process.
type house struct {
	store    *pebble.Store
	resolver *dns.Resolver
	ledger   *warmup.Ledger
	standing *standing.Standing // nil: nobody learns how we stand
	queue    *queue.Queue
	intake   *submit.Intake
	cut      struct {
		sync.Mutex
		off   bool
		conns []net.Conn
	}
}

func newWarming(t *testing.T, seed uint64, alone bool) *warming {
	w := newSources(t, seed, alone)
	w.boot()
	return w
}

// newSources is the world before its first process.
func newSources(t *testing.T, seed uint64, alone bool) *warming {
	w := &warming{
		t: t, rng: rand.New(rand.NewPCG(seed, 11)), start: time.Now(), dns: mtatest.NewDNS(), mem: vfs.NewCrashableMem(), alone: alone,
		at: map[netip.Addr]*mtatest.MX{warmSource: mtatest.NewMX(mtatest.MXConfig{}), youngSource: mtatest.NewMX(mtatest.MXConfig{})},
	}
	if err := w.dns.Add("far.example. MX 10 mx.far.example.\nmx.far.example. A 203.0.113.9"); err != nil {
		t.Fatal(err)
	}
	return w
}

// boot starts a process on what the disk holds.
func (w *warming) boot() {
	h := &house{}
	ctx := context.Background()
	var err error
	fail := func() {
		if err != nil {
			w.t.Fatal(err)
		}
	}
	h.store, err = pebble.Open(ctx, pebble.Options{Dir: "spool", FS: w.mem, MinFree: -1, Reserve: -1, FreshBytes: 1 << 20, CacheBytes: 1 << 20, Logger: quiet})
	fail()
	h.resolver = dns.New(dns.Options{Servers: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.53:53")}, Dialer: w.dns.DialContext, Logger: quiet})
	h.ledger = warmup.New(warmup.Options{Notes: h.store, Logger: slog.New(slog.DiscardHandler), Settings: warmup.Settings{
		Sources: []warmup.Source{{IP: youngSource, Start: w.start, Plan: warmup.Plan{Name: "test", Days: warmupDays, StepBack: 2}}},
	}})
	sources := []mta.Source{{IP: warmSource, Hostname: hostname}, {IP: youngSource, Hostname: hostname}}
	if w.alone {
		sources = sources[1:]
	}
	planner, err := route.New(route.Options{
		Resolver: h.resolver, Settings: route.Settings{Hostname: hostname, Sources: sources},
		Interfaces: func() ([]netip.Addr, error) { return nil, nil }, Logger: quiet, Warming: h.ledger.Warming,
	})
	fail()
	reporter := &lateReporter{}
	plans := queue.Planner(teaching{transport.NewPlanner(planner), h.ledger})
	if w.around != nil {
		plans = w.around(h, plans)
	}
	h.queue = queue.New(queue.Options{
		Store: h.store, Planner: plans, Quota: h.ledger, Reporter: reporter, Logger: quiet, Hostname: hostname,
		Carrier:   transport.New(transport.Options{Content: h.store, Dial: h.dialer(w)}),
		Schedules: retry.Schedules{Default: retry.Schedule{Intervals: []time.Duration{10 * time.Minute}, Expire: 30 * 24 * time.Hour, DelayNotice: -1}},
	})
	h.intake = submit.NewIntake(submit.Options{Store: h.store, Queue: h.queue, Settings: submit.Settings{Hostname: hostname, Postmaster: postmaster}})
	reporter.Reporter = submit.NewReporter(h.intake)
	err = h.ledger.Start(ctx)
	fail()
	if h.standing != nil {
		err = h.standing.Start(ctx)
		fail()
	}
	err = h.queue.Start(ctx)
	fail()
	w.house = h
}

// teaching has the ledger learn.
type teaching struct {
	queue.Planner
	ledger *warmup.Ledger
}

// Learn implements queue.Planner.
func (t teaching) Learn(r *mta.Route, d *mta.Delivery, a *mta.Attempt) queue.Lesson {
	t.ledger.Learn(r, d, a)
	return queue.Lesson{}
}

// dialer is the process's network.
func (h *house) dialer(w *warming) func(ctx context.Context, network string, source netip.Addr, remote string) (net.Conn, error) {
	return func(ctx context.Context, network string, source netip.Addr, remote string) (net.Conn, error) {
		h.cut.Lock()
		defer h.cut.Unlock()
		if h.cut.off || w.at[source] == nil {
			return nil, errCutOff
		}
		conn, err := w.at[source].Dial(ctx, network, remote)
		if err == nil {
			h.cut.conns = append(h.cut.conns, conn)
		}
		return conn, err
	}
}

var errCutOff = &net.OpError{Op: "dial", Net: "tcp", Err: net.ErrClosed}

// powerCut ends the process at this moment, and begins another.
func (w *warming) powerCut() {
	h, disk := w.house, w.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: w.rng})
	h.cut.Lock()
	h.cut.off = true
	for _, c := range h.cut.conns {
		c.Close()
	}
	h.cut.Unlock()
	w.end(h)
	w.mem = disk
	w.boot()
}

// end stops a process; a dead one writes to a disk that nobody reads.
func (w *warming) end(h *house) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_ = h.queue.Stop(ctx)
	_ = h.ledger.Stop(ctx)
	if h.standing != nil {
		h.standing.Stop(ctx)
	}
	_ = h.resolver.Close()
	if err := h.store.Close(); err != nil {
		w.t.Error(err)
	}
}

// hand takes in n messages.
func (w *warming) hand(n int) {
	for range n {
		ctx := context.Background()
		d, err := w.house.intake.Begin(ctx, &submit.Request{
			Origin: mta.Origin{Door: "smtp"}, Envelope: mta.Envelope{Sender: fmt.Sprintf("s%d@app.example", w.handed)},
			Recipients: []mta.Recipient{{Address: fmt.Sprintf("u%d@far.example", w.handed)}},
		})
		if err == nil {
			_, err = d.Write([]byte("Subject: x\r\n\r\nx\r\n"))
		}
		if err == nil {
			_, err = d.Commit(ctx)
		}
		if err != nil {
			w.t.Fatal(err)
		}
		w.handed++
	}
}

// watch notes the arrivals of a source by the day on which they are seen.
type watch struct {
	mx    *mtatest.MX
	seen  int
	byDay []int
}

// look counts what came since the last look.
func (v *watch) look(day int) {
	for len(v.byDay) <= day {
		v.byDay = append(v.byDay, 0)
	}
	n := len(v.mx.Messages())
	v.byDay[day] += n - v.seen
	v.seen = n
}

// reached are the numbers of the recipients that have their mail.
func (w *warming) reached() map[int]bool {
	out := map[int]bool{}
	for _, mx := range w.at {
		for _, m := range mx.Messages() {
			for _, to := range m.To {
				local, _, _ := strings.Cut(to.Address, "@")
				n, err := strconv.Atoi(strings.TrimPrefix(local, "u"))
				if err != nil {
					w.t.Fatal(err)
				}
				out[n] = true
			}
		}
	}
	return out
}

// TestWarmupInTheWorld: over days with power cuts the new source never passes
// its ceiling, uses most of it, what is beyond goes by the warm one at once, and
// nothing is lost.
func TestWarmupInTheWorld(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2) { // a day costs half a second: the store has tickers
		synctest.Test(t, func(t *testing.T) {
			w := newWarming(t, seed, false)
			young := &watch{mx: w.at[youngSource]}
			for day := range warmupDays {
				for range 24 {
					for range 2 { // at any moment of the hour, within sight of its end
						<-time.After(time.Duration(w.rng.IntN(20)) * time.Minute)
						w.hand(w.rng.IntN(30))
						if w.rng.IntN(8) == 0 {
							w.powerCut()
						}
					}
					elapsed := time.Since(w.start) % time.Hour
					<-time.After(time.Hour - elapsed - time.Nanosecond)
					young.look(day)
					<-time.After(time.Nanosecond)
				}
				if n := young.byDay[day]; n > warmupDays[day] || n < warmupDays[day]/3 {
					t.Errorf("seed %d, day %d: %d of %d by the new source", seed, day+1, n, warmupDays[day])
				}
			}
			<-time.After(time.Hour)
			if n := len(w.reached()); n != w.handed {
				t.Errorf("seed %d: %d of %d have their mail", seed, n, w.handed)
			}
			w.end(w.house)
		})
	}
}

// TestWarmupStepsBackInTheWorld: a receiver that begins to refuse the new source
// gets nothing more from it on that day, the mail goes by the warm one, and the
// next day is as two days before.
func TestWarmupStepsBackInTheWorld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWarming(t, 99, false)
		young := &watch{mx: w.at[youngSource]}
		day := func(n int, during func(hour int)) {
			for hour := range 24 {
				during(hour)
				w.hand(20)
				<-time.After(time.Hour - time.Nanosecond)
				young.look(n)
				<-time.After(time.Nanosecond)
			}
		}
		calm := func(int) {}
		for n := range 2 {
			day(n, calm)
		}
		rcpts := 0
		day(2, func(hour int) {
			if hour == 6 {
				w.at[youngSource].SetRules(mtatest.Rule{Stage: mtatest.StageMail, Action: mtatest.Action{Reply: "451 4.7.1 Client host [192.0.2.11] blocked using zen.spamhaus.org"}})
			}
			if hour == 7 {
				rcpts = w.at[youngSource].Seen()["MAIL"]
				w.powerCut()
			}
			if hour == 12 {
				if n := w.at[youngSource].Seen()["MAIL"]; n != rcpts {
					t.Errorf("%d more transactions at a receiver that refuses", n-rcpts)
				}
				w.at[youngSource].SetRules()
			}
		})
		if s, ok := w.house.ledger.State(youngSource, ""); !ok || s.Day != 1 {
			t.Errorf("after the stop of day 3: %+v", s)
		}
		day(3, calm)
		if n := young.byDay[3]; n == 0 || n > warmupDays[0] {
			t.Errorf("%d on the day after, as on day 1: %d", n, warmupDays[0])
		}
		<-time.After(time.Hour)
		if n := len(w.reached()); n != w.handed {
			t.Errorf("%d of %d have their mail", n, w.handed)
		}
		w.end(w.house)
	})
}

// TestWarmupAloneInTheWorld: without another source mail beyond the ceilings
// waits for the next days, over power cuts, and nothing is returned for it.
func TestWarmupAloneInTheWorld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWarming(t, 5, true)
		young := &watch{mx: w.at[youngSource]}
		w.hand(40)
		for day := range warmupDays[:3] {
			for range 24 {
				<-time.After(time.Hour - time.Nanosecond)
				young.look(day)
				<-time.After(time.Nanosecond)
				if w.rng.IntN(12) == 0 {
					w.powerCut()
				}
			}
			if n := young.byDay[day]; n > warmupDays[day] {
				t.Errorf("day %d: %d of %d", day+1, n, warmupDays[day])
			}
		}
		if n := len(w.reached()); n != 40 {
			t.Errorf("%d of 40 have their mail: %v", n, young.byDay)
		}
		w.end(w.house)
	})
}
