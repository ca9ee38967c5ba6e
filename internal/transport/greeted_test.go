package transport

import (
	"net/netip"
	"strings"
	"testing"

	"mailout/internal/mta"
	"mailout/internal/mtatest"
)

// TestGreetedOnceASession: what a receiver says of our address is told once,
// however many messages follow, and nothing that a router says.
func TestGreetedOnceASession(t *testing.T) {
	inWorld(t, func(w *world) {
		w.host("mx1", rules(on(mtatest.StageHelo, "250 mx1 hello [203.0.113.5]")), "192.0.2.1")
		var told []string
		w.opt.Greeted = func(target *mta.Target, _ netip.Addr, hello mta.Reply) {
			told = append(told, target.Host.Name+": "+hello.Text)
		}
		w.deliver(w.mail("a@example.net"), w.mail("b@example.net"), w.mail("c@example.net"))
		w.sessions("mx1", 1)
		if len(told) != 1 || !strings.HasPrefix(told[0], "mx1: mx1 hello [203.0.113.5]") {
			t.Errorf("%q", told)
		}
		routed := *w.route
		routed.Router = "mx1"
		w.route = &routed
		w.deliver(w.mail("a@example.net"))
		w.sessions("mx1", 2)
		if len(told) != 1 {
			t.Errorf("a router is believed: %q", told)
		}
	})
}
