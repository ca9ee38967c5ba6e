package dns

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	wire "github.com/miekg/dns"
)

func TestSilentServerIsLeftAfterTheTimeoutAndAskedLast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNet(t)
		n.serve(serverA, silence)
		n.serve(serverB, zone(false, "x.test. 60 IN MX 1 mx.test."))
		r := n.newResolver(Options{Timeout: 3 * time.Second})
		start := time.Now()
		mx, err := r.MX(t.Context(), "x.test")
		check(t, mx.Records, err, []MX{{1, "mx.test"}})
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("took %v", took)
		}
		n.asked()
		r.MX(t.Context(), "y.test")
		if got := n.asked(); !slices.Equal(got, []string{"udp 192.0.2.2:53 y.test. MX"}) {
			t.Errorf("the silent server was asked again: %q", got)
		}
		time.Sleep(downTime) // virtual
		n.serve(serverA, zone(false))
		r.MX(t.Context(), "z.test")
		r.MX(t.Context(), "w.test")
		if got := n.asked(); !slices.Equal(got, []string{"udp 192.0.2.1:53 z.test. MX", "udp 192.0.2.1:53 w.test. MX"}) {
			t.Errorf("the server that answers again is not first: %q", got)
		}
	})
}

func TestTwoRoundsThenTemporary(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNet(t)
		n.serve(serverA, silence)
		n.serve(serverB, silence)
		r := n.newResolver(Options{})
		start := time.Now()
		_, err := r.MX(t.Context(), "x.test")
		if e := AsError(err); e.Kind != Temporary || e.Text != "no answer within 5s" {
			t.Errorf("got %v", e)
		}
		if took := time.Since(start); took != 4*DefaultTimeout || len(n.asked()) != 4 {
			t.Errorf("took %v", took)
		}
		// Remembered for a second, no longer.
		n.serve(serverA, zone(false, "x.test. 60 IN MX 1 mx.test."))
		if _, err := r.MX(t.Context(), "x.test"); err == nil || len(n.asked()) != 0 {
			t.Error("the failure was not remembered")
		}
		time.Sleep(time.Second) // virtual
		if mx, err := r.MX(t.Context(), "x.test"); err != nil || len(mx.Records) != 1 {
			t.Errorf("the failure was remembered for more than a second: %v", err)
		}
	})
}

func TestTimeToLive(t *testing.T) {
	t.Parallel()
	soa := func(ttl, minimum string, code int) handler {
		return func(_ string, q *wire.Msg) (*wire.Msg, []byte) {
			return withSOA(reply(q, code, false), ttl, minimum), nil
		}
	}
	chain := func(_ string, q *wire.Msg) (*wire.Msg, []byte) {
		return reply(q, 0, false, "x.test. 40 IN CNAME y.test.", "y.test. 50 IN MX 1 a.test.", "y.test. 60 IN MX 2 b.test."), nil
	}
	for _, c := range []struct {
		name string
		h    handler
		want time.Duration
	}{
		{"the record's", zone(false, "x.test. 77 IN MX 1 mx.test."), 77 * time.Second},
		{"0 is a second", zone(false, "x.test. 0 IN MX 1 mx.test."), time.Second},
		{"a week is a day", zone(false, "x.test. 604800 IN MX 1 mx.test."), 24 * time.Hour},
		{"with the top bit 0 (RFC 2181 8)", zone(false, "x.test. 4294967295 IN MX 1 mx.test."), time.Second},
		{"the least of a chain", chain, 40 * time.Second},
		{"a denial: the SOA's TTL", soa("20", "100", wire.RcodeNameError), 20 * time.Second},
		{"a denial: the SOA's minimum", soa("100", "20", wire.RcodeSuccess), 20 * time.Second},
		{"a denial: five minutes at most", soa("86400", "86400", wire.RcodeNameError), 5 * time.Minute},
		{"a denial without SOA is not kept", rcode(wire.RcodeNameError), time.Second},
		{"SERVFAIL: a second", rcode(wire.RcodeServerFailure), time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := newFakeNet(t)
				n.serve(serverA, c.h)
				n.serve(serverB, c.h)
				r := n.newResolver(Options{})
				a, err := r.MX(t.Context(), "x.test")
				expires := a.Expires
				if e := AsError(err); e != nil {
					expires = e.Expires
				}
				if got := time.Until(expires); got != c.want {
					t.Errorf("good for %v, want %v", got, c.want)
				}
				n.asked()
				time.Sleep(c.want - time.Nanosecond) // virtual
				r.MX(t.Context(), "x.test")
				if got := n.asked(); len(got) != 0 {
					t.Errorf("asked before it expired: %q", got)
				}
				time.Sleep(time.Nanosecond)
				r.MX(t.Context(), "x.test")
				if len(n.asked()) == 0 {
					t.Error("not asked again when it had expired")
				}
			})
		})
	}
}

func TestOneFlightForManyCallers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNet(t)
		release := make(chan struct{})
		n.serve(serverA, func(_ string, q *wire.Msg) (*wire.Msg, []byte) {
			<-release
			return reply(q, 0, false, "x.test. 60 IN MX 1 mx.test."), nil
		})
		r := n.newResolver(Options{})
		impatient, giveUp := context.WithCancel(t.Context())
		errs := make(chan error, 11)
		ask := func(ctx context.Context) { _, err := r.MX(ctx, "x.test"); errs <- err }
		go ask(impatient)
		synctest.Wait()
		for range 10 {
			go ask(t.Context())
		}
		synctest.Wait()
		giveUp() // the first caller leaves; the others keep the flight
		if err := <-errs; AsError(err).Kind != Temporary {
			t.Errorf("who gave up got %v", err)
		}
		close(release)
		for range 10 {
			if err := <-errs; err != nil {
				t.Errorf("a patient caller got %v", err)
			}
		}
		if got := n.asked(); len(got) != 1 {
			t.Errorf("asked %q", got)
		}
	})
}

func TestLastCallerLeavingEndsTheFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNet(t)
		n.serve(serverA, silence)
		n.serve(serverB, silence)
		r := n.newResolver(Options{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		start := time.Now()
		r.Addresses(ctx, "x.test")
		synctest.Wait()
		r.mu.Lock()
		left := len(r.mu.flights)
		r.mu.Unlock()
		if left != 0 || r.cache.len() != 0 || time.Since(start) != time.Millisecond {
			t.Errorf("%d flights, %d cached after %v", left, r.cache.len(), time.Since(start))
		}
		time.Sleep(time.Hour) // virtual
		if got := n.asked(); len(got) != 2 {
			t.Errorf("asked on for nobody: %q", got)
		}
	})
}

func TestQueriesUnderWayAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNet(t)
		n.serve(serverA, silence)
		r := n.newResolver(Options{})
		ctx, cancel := context.WithCancel(t.Context())
		for i := range maxUnderWay + 50 {
			go r.MX(ctx, fmt.Sprintf("d%d.test", i))
		}
		synctest.Wait()
		if got := len(n.asked()); got != maxUnderWay {
			t.Errorf("%d queries under way", got)
		}
		cancel()
	})
}

func TestCloseEndsEverything(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNet(t)
		n.serve(serverA, silence)
		r := n.newResolver(Options{})
		errs := make(chan error)
		go func() { _, err := r.MX(t.Context(), "x.test"); errs <- err }()
		synctest.Wait()
		start := time.Now()
		go r.Close()
		if err := <-errs; AsError(err).Kind != Temporary || time.Since(start) != 0 {
			t.Errorf("got %v after %v", err, time.Since(start))
		}
		if _, err := r.MX(t.Context(), "x.test"); AsError(err).Kind != Temporary || !strings.Contains(err.Error(), "closed") {
			t.Errorf("after Close: %v", err)
		}
	})
}

func TestReconfigureForgetsWhatTheOldServersSaid(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNet(t)
		release := make(chan struct{})
		n.serve(serverA, func(_ string, q *wire.Msg) (*wire.Msg, []byte) {
			if q.Question[0].Name == "slow.test." {
				<-release
			}
			return reply(q, 0, false, q.Question[0].Name+" 60 IN MX 1 old.test."), nil
		})
		n.serve(serverB, func(_ string, q *wire.Msg) (*wire.Msg, []byte) {
			return reply(q, 0, false, q.Question[0].Name+" 60 IN MX 1 new.test."), nil
		})
		r := n.newResolver(Options{})
		r.MX(t.Context(), "x.test")
		done := make(chan struct{})
		go func() { r.MX(t.Context(), "slow.test"); close(done) }()
		synctest.Wait()
		r.Reconfigure(Options{Servers: r.Servers()[1:], Dialer: n.dial})
		close(release)
		<-done
		for _, name := range []string{"x.test", "slow.test"} {
			mx, err := r.MX(t.Context(), name)
			check(t, mx.Records, err, []MX{{1, "new.test"}})
		}
	})
}
