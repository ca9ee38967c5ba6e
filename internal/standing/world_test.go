package standing

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mailout/internal/bounce"
	"mailout/internal/mta"
)

// world is a Standing in virtual time, with notes in memory and what was told.
type world struct {
	*testing.T
	*Standing
	notes *fakeNotes
	mu    sync.Mutex
	told  []string
}

// fakeNotes is a spool.Notes in memory.
type fakeNotes struct {
	mu   sync.Mutex
	m    map[string][]byte
	fail error
}

func (n *fakeNotes) Note(_ context.Context, name string) ([]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.m[name], n.fail
}

func (n *fakeNotes) Notes(_ context.Context, prefix, after string, f func(string, []byte) bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var names []string
	for k := range n.m {
		if strings.HasPrefix(k, prefix) && k > after {
			names = append(names, k)
		}
	}
	slices.Sort(names)
	for _, k := range names {
		if !f(k, n.m[k]) {
			break
		}
	}
	return n.fail
}

func (n *fakeNotes) SetNotes(_ context.Context, changes map[string][]byte) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fail != nil {
		return n.fail
	}
	for k, v := range changes {
		if v == nil {
			delete(n.m, k)
		} else {
			n.m[k] = v
		}
	}
	return nil
}

func (n *fakeNotes) len() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.m)
}

var byRouter = Fallback{
	Router: "smart.example", On: Triggers{Blocked: true, PTR: true, Port25: true, Stalled: 4 * time.Hour},
	Probe: 10 * time.Minute, ProbeMax: 24 * time.Hour,
}

func newWorld(t *testing.T, set Settings) *world {
	w := &world{T: t, notes: &fakeNotes{m: map[string][]byte{}}}
	w.again(set)
	return w
}

// again starts a Standing of what was kept.
func (w *world) again(set Settings) {
	w.Standing = New(Options{Notes: w.notes, Settings: set, Changed: func(list []Change) {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, c := range list {
			w.told = append(w.told, c.Words)
		}
	}})
	if err := w.Start(w.Context()); err != nil {
		w.Fatal(err)
	}
}

// heard ends the Standing and gives what was told.
func (w *world) heard() []string {
	w.Stop(w.Context())
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.told
	w.told = nil
	return out
}

func direct(ip string, others ...string) *mta.Route {
	return &mta.Route{
		Domain: "x.example", Site: "mx.example", Port: 25, Helo: "out.example", Fallback: true, Others: others,
		Sources: []mta.Source{{IP: netip.MustParseAddr(ip), Hostname: "out.example"}},
	}
}

func probe(ip string) *mta.Route {
	r := direct(ip)
	r.Probe = true
	return r
}

func delivery(age time.Duration) *mta.Delivery {
	return &mta.Delivery{Message: &mta.Message{Arrived: time.Now().Add(-age)}, Recipients: make([]mta.Recipient, 1)}
}

var (
	took      = mta.Result{Class: mta.ClassDelivered, Reply: mta.Reply{Code: 250}}
	blocked   = mta.Result{Class: mta.ClassPermanent, Scope: mta.ScopeMessage, Bounce: string(bounce.IPBlocked), Reply: mta.Reply{Code: 554, Text: "blocked"}, Reason: "mx.example refused us: 554 blocked"}
	unknown   = mta.Result{Class: mta.ClassPermanent, Scope: mta.ScopeRecipient, Bounce: string(bounce.UserUnknown), Reply: mta.Reply{Code: 550, Text: "no such user"}, Reason: "no such user"}
	busy      = mta.Result{Class: mta.ClassTemporary, Scope: mta.ScopeHost, Bounce: string(bounce.SystemError), Reply: mta.Reply{Code: 451, Text: "busy"}, Reason: "busy"}
	full      = mta.Result{Class: mta.ClassTemporary, Scope: mta.ScopeRecipient, Bounce: string(bounce.MailboxFull), Reply: mta.Reply{Code: 452, Text: "full"}, Reason: "full"}
	uncertain = mta.Result{Class: mta.ClassUncertain, Scope: mta.ScopeHost, Bounce: string(bounce.NetworkError), Reason: "lost"}
	silent    = mta.Result{Class: mta.ClassTemporary, Scope: mta.ScopeHost, Bounce: string(bounce.NetworkError), Reason: "cannot be connected to"}
	ours      = mta.Result{Class: mta.ClassTemporary, Scope: mta.ScopeLocal, Reason: "our disk"}
)

func attempt(results ...mta.Result) *mta.Attempt {
	a := &mta.Attempt{Host: "mx.example", Results: results, Tries: []mta.Try{{Host: "mx.example", Stage: mta.StageRcpt}}}
	if slices.ContainsFunc(results, func(r mta.Result) bool { return r.Reason == silent.Reason }) {
		a.Tries = []mta.Try{{Host: "mx.example", Stage: mta.StageConnect}, {Host: "mx2.example", Stage: mta.StageConnect}}
	}
	return a
}

// learn gives the lesson of an attempt, and which results went elsewhere.
func (w *world) learn(r *mta.Route, age time.Duration, results ...mta.Result) (Lesson, string) {
	a := attempt(results...)
	l := w.Learn(r, delivery(age), a)
	marks := ""
	for _, res := range a.Results {
		marks += map[bool]string{true: "e", false: "-"}[res.Elsewhere]
	}
	return l, marks
}

// sees fails unless the marks and whether the router stands in are these.
func (w *world) sees(what string, marks, want string, router bool) {
	w.Helper()
	on, why, _ := w.Fallback("mx.example")
	if marks != want || on != router {
		w.Errorf("%s: marked %q, want %q; router %t (%s)", what, marks, want, on, why)
	}
}
