package route

import (
	"testing"

	"mailout/internal/mta"
)

// TestReleasedMailPassesHolds: what was released from a rule that holds goes by
// the next rule that it meets, whether rules look at the message or not.
func TestReleasedMailPassesHolds(t *testing.T) {
	t.Parallel()
	s := standard()
	s.Rules = []Rule{
		{Domains: []string{"a.test"}, Action: ActionHold},
		{Senders: []string{"*@held.test"}, Action: ActionHold},
		{Senders: []string{"*@held.test"}, Host: "relay.test"},
		{Senders: []string{"*@waste.test"}, Action: ActionDiscard},
	}
	w := newWorld(t, s, rerouteZone+"b.test MX 10 mx.test\n")
	for _, c := range []struct {
		domain, sender, held, released string
	}{
		{"a.test", "x@y.test", "[[route]] 1", "direct (default)"},
		{"b.test", "x@held.test", "[[route]] 2", "[[route]] 3"},
		{"b.test", "x@waste.test", "[[route]] 4", "[[route]] 4"}, // discarding is no hold
	} {
		m := &mta.Message{Envelope: mta.Envelope{Sender: c.sender}}
		d := mta.Destination{Domain: c.domain, Stream: mta.DefaultStream}
		variant := w.p.Variant(m, d)
		plan, f := w.p.PlanFor(t.Context(), d, variant)
		if f != nil || plan.Stop == nil || plan.Stop.Matched != c.held {
			t.Errorf("%s from %s: %+v %v", c.domain, c.sender, plan, f)
		}
		plan, f = w.p.PlanFor(t.Context(), d, mta.VariantReleased+variant)
		if f != nil || plan.Stop == nil && plan.Routes[0].Matched != c.released || plan.Stop != nil && plan.Stop.Matched != c.released {
			t.Errorf("%s from %s, released: %+v %v", c.domain, c.sender, plan, f)
		}
	}
}
