package tlspolicy

import (
	"errors"
	"strings"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"mailout/internal/mta"
	"mailout/internal/mtatest"
)

// TestTrap36_UnreadableNote: a policy that cannot be read here is never "no
// policy": its mail waits until a new look found one, or found that there is
// none, and four hours at most.
func TestTrap36_UnreadableNote(t *testing.T) {
	t.Parallel()
	const waits = "against: nobody knows the MTA-STS policy of x.test"
	for name, c := range map[string]struct {
		damage, later func(w *world)
		first, second string
	}{
		"a damaged note, a good host":  {func(w *world) { w.notes.set("sts/x.test", "damaged") }, func(*world) {}, waits, "enforce 1"},
		"a note of nobody's":           {func(w *world) { w.notes.set("sts/x.test", "2 what") }, func(*world) {}, waits, "enforce 1"},
		"a damaged note, a bad host":   {func(w *world) { w.notes.set("sts/x.test", "damaged"); w.say("") }, func(*world) {}, waits, waits},
		"a damaged note, no answer":    {func(w *world) { w.notes.set("sts/x.test", "damaged") }, func(w *world) { w.dns.Script("_mta-sts.x.test", 0, mtatest.Script{Rcode: wire.RcodeServerFailure}) }, waits, waits},
		"a damaged note, no record":    {func(w *world) { w.notes.set("sts/x.test", "damaged") }, func(w *world) { w.record("x.test", "") }, waits, "none"},
		"a damaged note, a bad record": {func(w *world) { w.notes.set("sts/x.test", "damaged") }, func(w *world) { _ = w.dns.Add(`_mta-sts.x.test TXT "v=STSv1; id=2;"`) }, waits, waits},
		"a broken disk":                {func(w *world) { w.notes.breakAll(errors.New("input/output error")); w.say("") }, func(*world) {}, waits, waits},
		"a disk that came back":        {func(w *world) { w.notes.breakAll(errors.New("input/output error")); w.say("") }, func(w *world) { w.notes.breakAll(nil) }, waits, "enforce 1"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.expect("x.test", "enforce 1")
				w.start()
				c.damage(w)
				if got := w.find("x.test"); !strings.HasPrefix(got, c.first) {
					t.Errorf("first: %s", got)
				}
				c.later(w)
				pass(5 * time.Minute)
				got := w.find("x.test")
				if !strings.HasPrefix(got, c.second) {
					t.Errorf("second: %s", got)
				}
				pass(lostFor)
				if last := w.find("x.test"); c.second == waits && strings.HasPrefix(last, "against") {
					t.Errorf("for ever: %s", last)
				}
			})
		})
	}
}

// TestTrap36_NoteWithoutRecord: mail to a domain without a record waits once for a
// note that cannot be read, not every other time.
func TestTrap36_NoteWithoutRecord(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.notes.set("sts/other.test", "2 what")
		if got := w.find("other.test"); !strings.HasPrefix(got, "against: ") {
			t.Error(got)
		}
		for range 4 {
			pass(time.Minute)
			w.expect("other.test", "none")
		}
	})
}

// TestTrap36_UnreadableInFlight: a fetch that fails in the very moment in which
// the note cannot be read does not make the domain one without a policy.
func TestTrap36_UnreadableInFlight(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.expect("x.test", "enforce 1")
		w.start()
		w.say("")
		w.notes.breakAll(errors.New("input/output error"))
		<-w.sts.beginFor("x.test", false, false).done // the sweep's
		if got := w.find("x.test"); !strings.HasPrefix(got, "against: ") {
			t.Error(got)
		}
		w.notes.breakAll(nil)
		w.expect("x.test", "enforce 1")
	})
}

// TestUnknownRecord: that a record could not be looked for is told apart from its
// absence, and only where no policy is known.
func TestUnknownRecord(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.expect("x.test", "enforce 1")
		for _, name := range []string{"_mta-sts.x.test", "_mta-sts.other.test"} {
			w.dns.Script(name, 0, mtatest.Script{Rcode: wire.RcodeServerFailure})
		}
		pass(2 * time.Second)
		if d := w.sts.Find(t.Context(), "x.test"); d.Policy == nil || d.Unknown != nil {
			t.Errorf("%+v", d)
		}
		d := w.sts.Find(t.Context(), "other.test")
		if d.Unknown == nil || d.Unknown.Cause != mta.CauseDNS || d.Against != nil || d.Report("other.test") != nil || d.Again.IsZero() {
			t.Errorf("%+v", d)
		}
		if d := w.sts.Find(t.Context(), "third.test"); d.Unknown != nil {
			t.Errorf("%+v", d)
		}
	})
}

// TestNothingIsKeptOnABrokenDisk: a policy that cannot be written holds in memory.
func TestNothingIsKeptOnABrokenDisk(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.sts.Stop()
		w.sts = NewSTS(STSOptions{Resolver: w.sts.opts.Resolver, Dial: w.sts.opts.Dial, Settings: w.settings()})
		defer w.sts.Stop()
		w.expect("x.test", "enforce 1")
		w.net.Handle(policyAddr, nil)
		w.expect("x.test", "enforce 1")
	})
}
