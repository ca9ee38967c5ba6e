package world

import (
	"context"
	"fmt"
	"net"
	"net/netip"
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
	"mailout/internal/submit"
	"mailout/internal/transport"
)

// Receivers with limits that nobody told us, and the whole road from intake to
// their wire: within five minutes at least 90 % of each limit is used, from then
// on under 2 % is refused, and a receiver without a limit is not slowed.

// counted is one receiver: what it takes and what it refuses.
type counted struct {
	name  string
	cfg   mtatest.MXConfig
	way   time.Duration // that a message takes
	mails int
	ideal float64 // messages a second; 0: as many as there are
	allow func(now time.Time) bool

	mu struct {
		sync.Mutex
		taken, refused, crowded []time.Time
	}
}

func (c *counted) over() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if c.allow(now) {
		return false
	}
	c.mu.refused = append(c.mu.refused, now)
	return true
}

func (c *counted) event(e mtatest.Event) {
	if e.Stage == mtatest.StageConnect && strings.HasPrefix(e.Reply, "421") {
		c.mu.Lock()
		c.mu.crowded = append(c.mu.crowded, time.Now())
		c.mu.Unlock()
	}
}

func since(list []time.Time, from time.Time) (n int) {
	for _, at := range list {
		if !at.Before(from) {
			n++
		}
	}
	return n
}

// bucketOf lets so many a second pass, and a burst.
func bucketOf(rate, burst float64) func(time.Time) bool {
	left, last := burst, time.Time{}
	return func(now time.Time) bool {
		if !last.IsZero() {
			left = min(burst, left+rate*now.Sub(last).Seconds())
		}
		if last = now; left < 1 {
			return false
		}
		left--
		return true
	}
}

// anyMinute lets n pass in any stretch of a minute.
func anyMinute(n int) func(time.Time) bool {
	var passed []time.Time
	return func(now time.Time) bool {
		for len(passed) > 0 && now.Sub(passed[0]) >= time.Minute {
			passed = passed[1:]
		}
		if len(passed) >= n {
			return false
		}
		passed = append(passed, now)
		return true
	}
}

func TestHiddenLimits(t *testing.T) {
	t.Parallel()
	const learn, watch = 5 * time.Minute, 8 * time.Minute
	refusal := func(stage mtatest.Stage, reply string, drop bool) func(*counted) {
		return func(c *counted) {
			c.cfg.Rules = append(c.cfg.Rules, mtatest.Rule{Stage: stage, If: c.over, Action: mtatest.Action{Reply: reply, Drop: drop}})
		}
	}
	receivers := []*counted{
		{name: "bucket", way: 200 * time.Millisecond, mails: 5000, ideal: 5, allow: bucketOf(5, 100)},
		{name: "minute", way: 100 * time.Millisecond, mails: 5000, ideal: 5, allow: anyMinute(300)},
		{name: "closes", way: 100 * time.Millisecond, mails: 4000, ideal: 4, allow: bucketOf(4, 10)},
		{name: "connections", way: 500 * time.Millisecond, mails: 9000, ideal: 10, cfg: mtatest.MXConfig{MaxSessions: 5}},
		{name: "healthy", way: 100 * time.Millisecond, mails: 3000},
	}
	refusal(mtatest.StageRcpt, "450 4.7.1 too many messages from your address, slow down", false)(receivers[0])
	refusal(mtatest.StageMail, "451 4.7.0 rate limit exceeded", false)(receivers[1])
	refusal(mtatest.StageMail, "421 4.7.0 too many messages in a short time, closing", true)(receivers[2])
	if testing.Short() || defaultSeeds < 100 { // the race detector
		receivers = receivers[2:4]
	}
	synctest.Test(t, func(t *testing.T) {
		h := newHidden(t, receivers)
		defer h.stop()
		start := time.Now()
		for _, c := range receivers {
			for n := range c.mails {
				h.hand(c, n)
			}
		}
		<-time.After(time.Until(start.Add(learn + watch))) // virtual
		for _, c := range receivers {
			h.judge(c, start, start.Add(learn), watch)
		}
	})
}

// hidden is our side, on a disk in memory.
type hidden struct {
	t        *testing.T
	world    mtatest.Net
	dns      *mtatest.DNS
	mxs      []*mtatest.MX
	store    *pebble.Store
	resolver *dns.Resolver
	queue    *queue.Queue
	intake   *submit.Intake
}

func newHidden(t *testing.T, receivers []*counted) *hidden {
	t.Helper()
	h := &hidden{t: t, dns: mtatest.NewDNS()}
	for n, c := range receivers {
		ip := netip.AddrFrom4([4]byte{203, 0, 113, byte(n + 1)})
		c.cfg.Hostname, c.cfg.Discard, c.cfg.OnEvent = "mx."+c.name+".test", true, c.event
		c.cfg.Rules = append(c.cfg.Rules, mtatest.Rule{Stage: mtatest.StageDot, Action: mtatest.Action{Delay: c.way}})
		c.cfg.OnMessage = func(*mtatest.Message) {
			c.mu.Lock()
			c.mu.taken = append(c.mu.taken, time.Now())
			c.mu.Unlock()
		}
		mx := mtatest.NewMX(c.cfg)
		h.mxs = append(h.mxs, mx)
		h.world.Handle(netip.AddrPortFrom(ip, 25), mx.ServeConn)
		if err := h.dns.Add(fmt.Sprintf("%[1]s.test. 300 IN MX 10 mx.%[1]s.test.\nmx.%[1]s.test. 300 IN A %[2]s", c.name, ip)); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	h.store, err = pebble.Open(context.Background(), pebble.Options{Dir: "spool", FS: vfs.NewMem(), MinFree: -1, Reserve: -1, CacheBytes: 1 << 20, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	h.resolver = dns.New(dns.Options{Servers: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.53:53")}, Dialer: h.dns.DialContext, Logger: quiet})
	planner, err := route.New(route.Options{
		Resolver: h.resolver, Settings: route.Settings{Hostname: hostname}, Logger: quiet,
		Interfaces: func() ([]netip.Addr, error) { return nil, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	dial := func(ctx context.Context, network string, _ netip.Addr, remote string) (c net.Conn, err error) {
		return h.world.DialFrom(ctx, network, netip.MustParseAddr("198.51.100.1"), remote)
	}
	carrier := transport.New(transport.Options{Content: h.store, Dial: dial, Shuffle: func(int, func(int, int)) {}})
	reporter := &lateReporter{}
	h.queue = queue.New(queue.Options{
		Store: h.store, Planner: transport.NewPlanner(planner), Carrier: carrier, Reporter: reporter,
		Schedules: retry.Schedules{Default: retry.Default()}, Logger: quiet, Hostname: hostname, Rand: func() float64 { return 0.5 },
	})
	h.intake = submit.NewIntake(submit.Options{Store: h.store, Queue: h.queue, Settings: submit.Settings{Hostname: hostname, Postmaster: "postmaster@healthy.test"}})
	reporter.Reporter = submit.NewReporter(h.intake)
	if err := h.queue.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *hidden) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := h.queue.Stop(ctx); err != nil {
		h.t.Error(err)
	}
	h.resolver.Close()
	h.store.Close()
	h.world.Close()
	for _, mx := range h.mxs {
		mx.Stop()
	}
	h.dns.Stop()
}

func (h *hidden) hand(c *counted, n int) {
	ctx := context.Background()
	d, err := h.intake.Begin(ctx, &submit.Request{
		Origin: mta.Origin{Door: "smtp", Protocol: "ESMTP", Helo: "app.test"}, Envelope: mta.Envelope{Sender: "app@healthy.test"},
		Recipients: []mta.Recipient{{Address: fmt.Sprintf("u%d@%s.test", n, c.name), Notify: mta.NotifyNever}},
	})
	if err == nil {
		defer d.Abort()
		if _, err = d.Write([]byte("From: app@healthy.test\r\nDate: Sat, 1 Jan 2000 00:00:00 +0000\r\nMessage-ID: <" + fmt.Sprint(n) + "@app.test>\r\n\r\nx\r\n")); err == nil {
			_, err = d.Commit(ctx)
		}
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

// judge says what a receiver saw from a moment on.
func (h *hidden) judge(c *counted, start, from time.Time, watch time.Duration) {
	sites, err := h.queue.Sites(context.Background())
	if err != nil {
		h.t.Error(err)
	}
	reason := "unknown by now"
	for _, s := range sites {
		if strings.Contains(s.Site, c.name) {
			reason = s.Reason
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ideal == 0 {
		last := c.mu.taken[len(c.mu.taken)-1].Sub(start)
		fastest := time.Duration(float64(c.mails) / 20 * float64(c.way))
		h.t.Logf("%s: %d taken in %v, over 20 connections it takes %v", c.name, len(c.mu.taken), last.Round(time.Millisecond), fastest)
		if len(c.mu.taken) != c.mails || last > fastest*11/10 {
			h.t.Errorf("%s was slowed", c.name)
		}
		return
	}
	taken, refused, crowded := since(c.mu.taken, from), since(c.mu.refused, from), since(c.mu.crowded, from)
	used := float64(taken) / (c.ideal * watch.Seconds())
	bad := float64(refused+crowded) / float64(max(taken+refused+crowded, 1))
	line := fmt.Sprintf("%s: at first %d taken, %d refused; then %.1f %% of the limit, %.2f %% refused (%d messages, %d connections); %s", c.name,
		len(c.mu.taken)-taken, len(c.mu.refused)+len(c.mu.crowded)-refused-crowded, 100*used, 100*bad, refused, crowded, reason)
	h.t.Log(line)
	if used < 0.9 || bad >= 0.02 {
		h.t.Error(line)
	}
}
