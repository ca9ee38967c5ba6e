package transport

import (
	"slices"
	"strings"
	"testing"

	"mailout/internal/mta"
	"mailout/internal/mtatest"
)

// TestSuppressed: who gets no mail ends before anybody is asked, and the others
// go on; when nobody is left no host is visited.
func TestSuppressed(t *testing.T) {
	inWorld(t, func(w *world) {
		w.opt.Suppressed = func(_ *mta.Delivery, rcpt string) string {
			if strings.HasPrefix(rcpt, "no") {
				return "listed: " + rcpt
			}
			return ""
		}
		w.host("mx1", mtatest.MXConfig{}, "192.0.2.1")
		got := w.deliver(w.mail("no@x.example"), w.mail("b@x.example", "nor@x.example", "c@x.example"), w.mail("d@x.example"))
		w.want(got[1], "delivered 2.0.0, permanent recipient 5.7.1, delivered 2.0.0 @mx1")
		r := got[0].Results[0]
		if !r.Suppressed || r.Class != mta.ClassPermanent || r.Reason != "listed: no@x.example" || r.Reply.Code != 0 || got[0].Host != "" || len(got[0].Tries) > 0 {
			w.Errorf("%+v", got[0])
		}
		w.received("mx1", 2)
		w.sessions("mx1", 1)
	})
}

// TestReturnPath: each transaction asks for its return path, with its own
// recipients.
func TestReturnPath(t *testing.T) {
	inWorld(t, func(w *world) {
		var asked []string
		w.opt.ReturnPath = func(d *mta.Delivery, route *mta.Route, rcpts []mta.Recipient) string {
			for _, r := range rcpts {
				asked = append(asked, r.Address)
			}
			asked = append(asked, "|")
			return "b+tag@bounces.example"
		}
		w.host("mx1", mtatest.MXConfig{}, "192.0.2.1")
		w.deliver(w.mail("a@x.example"), w.mail("b@x.example", "c@x.example"))
		if want := []string{"a@x.example", "|", "b@x.example", "c@x.example", "|"}; !slices.Equal(asked, want) {
			w.Errorf("asked for %v", asked)
		}
		for _, m := range w.mx["mx1"].Messages() {
			if m.From != "b+tag@bounces.example" {
				w.Errorf("from %q", m.From)
			}
		}
	})
}
