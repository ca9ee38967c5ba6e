package warmup

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mailout/internal/mta"
)

// fakeNotes keeps notes in memory. A kill loses what SetNotes has not returned
// from, or not: die says.
type fakeNotes struct {
	mu    sync.Mutex
	notes map[string][]byte
	fail  error
	// before is called by SetNotes, without the lock; an error is given back, and
	// nothing was changed.
	before func() error
	writes int
}

func newNotes() *fakeNotes { return &fakeNotes{notes: map[string][]byte{}} }

func (f *fakeNotes) Note(_ context.Context, name string) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.notes[name]), nil
}

func (f *fakeNotes) Notes(_ context.Context, prefix, after string, visit func(string, []byte) bool) error {
	f.mu.Lock()
	all := maps.Clone(f.notes)
	f.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if strings.HasPrefix(name, prefix) && name > after && !visit(name, all[name]) {
			return nil
		}
	}
	return nil
}

func (f *fakeNotes) SetNotes(_ context.Context, changes map[string][]byte) error {
	if f.before != nil {
		if err := f.before(); err != nil {
			return err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return f.fail
	}
	f.writes++
	for name, value := range changes {
		if value == nil {
			delete(f.notes, name)
		} else {
			f.notes[name] = slices.Clone(value)
		}
	}
	return nil
}

// crash gives what the disk has.
func (f *fakeNotes) crash() *fakeNotes {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &fakeNotes{notes: maps.Clone(f.notes)}
}

var errDisk = errors.New("the disk is full")

var (
	newIP  = netip.MustParseAddr("192.0.2.10")
	newIP6 = netip.MustParseAddr("2001:db8::10")
	warmIP = netip.MustParseAddr("192.0.2.20")
)

// midnight is the first day of the tests' warm-up; synctest's clock begins then.
var midnight = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func plan(days ...int) Plan { return Plan{Name: "test", Days: days, StepBack: 2} }

func settings(p Plan) Settings {
	return Settings{Sources: []Source{{IP: newIP, Start: midnight, Plan: p, Origin: "[[source]] 1 (line 5)"}}, Streams: map[string]Priority{}}
}

func route(provider string, ips ...netip.Addr) *mta.Route {
	r := &mta.Route{Provider: provider, Warming: &mta.Warming{Provider: provider}}
	for _, ip := range ips {
		r.Sources = append(r.Sources, mta.Source{IP: ip, Hostname: "new.example"})
	}
	return r
}

var serial atomic.Uint32

// delivery makes one of its own, to n recipients.
func delivery(stream string, n int) *mta.Delivery {
	return &mta.Delivery{Message: &mta.Message{}, N: serial.Add(1), Destination: mta.Destination{Domain: "example.com", Stream: stream}, Recipients: make([]mta.Recipient, n)}
}

// attempt gives every recipient of d one result.
func attempt(d *mta.Delivery, r mta.Result) *mta.Attempt {
	a := &mta.Attempt{}
	for range d.Recipients {
		a.Results = append(a.Results, r)
	}
	return a
}

func replied(code int, class mta.Class, bounce string) mta.Result {
	return mta.Result{Class: class, Reply: mta.Reply{Code: code}, Bounce: bounce}
}

var accepted = mta.Result{Class: mta.ClassDelivered}

func start(t *testing.T, n *fakeNotes, s Settings, stopped ...func(Stop)) *Ledger {
	t.Helper()
	o := Options{Notes: n, Settings: s}
	if len(stopped) > 0 {
		o.Stopped = stopped[0]
	}
	l := New(o)
	if err := l.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return l
}

// kill ends a ledger without a word; what it writes from now on is lost.
func kill(n *fakeNotes, l *Ledger) {
	n.mu.Lock()
	n.fail = errDisk
	n.mu.Unlock()
	l.Stop(context.Background())
}
