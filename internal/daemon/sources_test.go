package daemon

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mailout/internal/config"
	"mailout/internal/doctor"
	"mailout/internal/mta"
	"mailout/internal/queue"
)

func withSources(t *testing.T, text string) *config.Config {
	t.Helper()
	c, err := config.Parse("f", []byte("hostname = \"out.example.com\"\n"+text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const oneHereOneProxied = `
[[source]]
ip = "192.0.2.10"
[[source]]
ip = "192.0.2.11"
socks5 = "10.0.0.5:1080"
`

// machine is what the watch of sources sees.
type machine struct {
	sync.Mutex
	gone, deaf bool
	down       []map[netip.Addr]string
	replans    int
}

func (m *machine) watched(c *config.Config, log *slog.Logger) *sources {
	s := newSources(c, log)
	s.present = func(netip.Addr) error {
		m.Lock()
		defer m.Unlock()
		if m.gone {
			return errors.New("it is not an address of this machine")
		}
		return nil
	}
	s.proxy = func(context.Context, *mta.Egress) error {
		m.Lock()
		defer m.Unlock()
		if m.deaf {
			return errors.New("connection refused")
		}
		return nil
	}
	s.tell = func(down map[netip.Addr]string) { m.Lock(); m.down = append(m.down, down); m.Unlock() }
	s.replan = func() { m.Lock(); m.replans++; m.Unlock() }
	return s
}

// set changes what is so.
func (m *machine) set(gone, deaf bool) { m.Lock(); m.gone, m.deaf = gone, deaf; m.Unlock() }

// seen gives how often plans were made anew, and what the planner was told last.
func (m *machine) seen() (replans, down int) {
	m.Lock()
	defer m.Unlock()
	return m.replans, len(m.down[len(m.down)-1])
}

// TestSourcesComeAndGo: what cannot be used is left out, told once, and back by
// itself; a connection that failed tells it at once.
func TestSourcesComeAndGo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := withSources(t, oneHereOneProxied)
		var log bytes.Buffer
		m := &machine{}
		s := m.watched(c, slog.New(slog.NewTextHandler(&log, nil)))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); s.watch(ctx) }()
		defer func() { cancel(); <-done }()
		expect := func(when string, here, proxied bool) {
			t.Helper()
			synctest.Wait()
			up := s.up()
			if up["192.0.2.10"] != here || up["192.0.2.11"] != proxied {
				t.Errorf("%s: %v", when, up)
			}
		}
		expect("at first", true, true)
		m.set(true, true)
		<-time.After(sourcesEvery)
		expect("both are gone", false, false)
		<-time.After(10 * sourcesEveryDown)
		replans, _ := m.seen()
		if n := strings.Count(log.String(), "left out"); n != 2 || replans != 1 {
			t.Errorf("told %d times, %d replans:\n%s", n, replans, &log)
		}
		m.set(false, false)
		<-time.After(sourcesEveryDown)
		expect("back", true, true)
		if n := strings.Count(log.String(), "a source can be used again"); n != 2 {
			t.Errorf("told %d times:\n%s", n, &log)
		}

		before, _ := m.seen()
		m.set(true, false)
		s.stuck(mta.Source{IP: netip.MustParseAddr("192.0.2.10"), Hostname: "another.name"}, &mta.Failure{Text: "not here"})
		if now, _ := m.seen(); now == before {
			t.Error("nothing is planned anew at once")
		}
		expect("a connection failed", false, true)
		m.set(false, false)
		<-time.After(sourcesEveryDown)
		expect("back again", true, true)
		s.stuck(mta.Source{IP: netip.MustParseAddr("192.0.2.99")}, &mta.Failure{Text: "whose?"})
		if _, there := s.up()["192.0.2.99"]; there {
			t.Error("a source that is not configured counts")
		}
		if _, down := m.seen(); down != 0 {
			t.Errorf("%d are down", down)
		}

		m.set(true, false)
		s.configure(withSources(t, "[[source]]\nip = \"192.0.2.12\"\n"))
		synctest.Wait()
		if up := s.up(); len(up) != 1 || up["192.0.2.12"] {
			t.Errorf("after a reload: %v", up)
		}
	})
}

// TestSourceChecks: each source has a finding.
func TestSourceChecks(t *testing.T) {
	t.Parallel()
	m := &machine{gone: true, deaf: true}
	s := m.watched(withSources(t, oneHereOneProxied), slog.New(slog.DiscardHandler))
	for _, c := range s.checks() {
		if c.Status != doctor.Pass || c.ID != SourceID || c.Fix != nil {
			t.Errorf("%+v", c)
		}
	}
	s.check(t.Context(), true)
	list := s.checks()
	if len(list) != 2 || list[0].Status != doctor.Fail || list[0].Fix == nil || list[0].Seen != "it is not an address of this machine" ||
		list[1].Seen != "its SOCKS 5 proxy 10.0.0.5:1080 cannot be used: connection refused" {
		t.Errorf("%+v", list)
	}
}

func TestOnThisMachine(t *testing.T) {
	t.Parallel()
	if err := onThisMachine(netip.MustParseAddr("127.0.0.77")); err != nil {
		t.Error(err)
	}
	if err := onThisMachine(netip.MustParseAddr("192.0.2.77")); err == nil || err.Error() != "it is not an address of this machine" {
		t.Error(err)
	}
}

type dull struct{ queue.Planner }

func (dull) Learn(*mta.Route, *mta.Delivery, *mta.Attempt) queue.Lesson { return queue.Lesson{} }

// TestLearnOfSources: what failed for the source's sake goes elsewhere when there
// is another source, and the site is avoided from it.
func TestLearnOfSources(t *testing.T) {
	t.Parallel()
	p := (&sources{}).around(dull{})
	local := mta.Result{Scope: mta.ScopeLocal}
	for name, c := range map[string]struct {
		trouble string
		others  []string
		result  mta.Result
		avoid   bool
		goes    bool
	}{
		"no trouble":             {"", []string{"b"}, local, false, false},
		"another source":         {"gone", []string{"b"}, local, true, true},
		"no other source":        {"gone", nil, local, true, false},
		"the host said no":       {"gone", []string{"b"}, mta.Result{Scope: mta.ScopeHost, Reply: mta.Reply{Code: 421}}, true, false},
		"delivered after all":    {"gone", []string{"b"}, mta.Result{Class: mta.ClassDelivered}, true, false},
		"uncertain stays":        {"gone", []string{"b"}, mta.Result{Class: mta.ClassUncertain, Scope: mta.ScopeLocal}, true, false},
		"refused for good stays": {"gone", []string{"b"}, mta.Result{Class: mta.ClassPermanent, Scope: mta.ScopeLocal}, true, false},
	} {
		a := &mta.Attempt{End: time.Unix(1000, 0), SourceTrouble: c.trouble, Results: []mta.Result{c.result}}
		l := p.Learn(&mta.Route{Others: c.others}, &mta.Delivery{}, a)
		if l.Avoid.IsZero() == c.avoid || l.Replan != c.avoid || a.Results[0].Elsewhere != c.goes {
			t.Errorf("%s: %+v, elsewhere %t", name, l, a.Results[0].Elsewhere)
		}
	}
}

// TestStuckAmidACheck: a source that failed while it was being looked at, and was
// found to be fine, is told to be back, and what was planned without it is planned
// anew.
func TestStuckAmidACheck(t *testing.T) {
	t.Parallel()
	var m machine
	var log bytes.Buffer
	c := withSources(t, oneHereOneProxied)
	s := m.watched(c, slog.New(slog.NewTextHandler(&log, nil)))
	ask := s.proxy
	s.proxy = func(ctx context.Context, e *mta.Egress) error {
		s.stuck(c.LocalSources()[1], &mta.Failure{Cause: mta.CauseSource, Text: "connection refused"})
		return ask(ctx, e)
	}
	if n := s.check(t.Context(), true); n != 0 {
		t.Fatalf("%d are down", n)
	}
	if replans, down := m.seen(); replans != 2 || down != 0 || !strings.Contains(log.String(), "can be used again") {
		t.Errorf("planned anew %d times, %d down\n%s", replans, down, log.String())
	}
}
