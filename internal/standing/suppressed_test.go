package standing

import (
	"testing"
	"testing/synctest"
	"time"

	"mailout/internal/mta"
)

// spared is the result of a recipient who gets no mail.
var spared = mta.Result{Class: mta.ClassPermanent, Scope: mta.ScopeRecipient, Reason: "complained", Suppressed: true}

// TestSuppressedSayNothing: recipients who get no mail use up no probe, and do
// not hide that a site cannot be reached.
func TestSuppressedSayNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Settings{Fallback: byRouter})
		defer w.Stop(t.Context())
		_, m := w.learn(direct("192.0.2.1"), 0, spared, silent)
		w.sees("unreachable for who was asked", m, "-e", true)
		if _, why, _ := w.Fallback("mx.example"); why != "no host of mx.example can be connected to at port 25: cannot be connected to" {
			t.Error(why)
		}
		time.Sleep(byRouter.Probe)
		p := probe("192.0.2.1")
		for range 3 {
			if again, ok := w.Take(p, time.Now()); !ok {
				t.Fatalf("no probe before %v", time.Until(again))
			}
			_, m = w.learn(p, 0, spared)
			w.sees("nobody was asked", m, "-", true)
		}
		w.Take(p, time.Now())
		_, m = w.learn(p, 0, spared, took)
		w.sees("taken", m, "--", false)
	})
}
