package queue

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"mailout/internal/mta"
)

// TestSiteOfARoute: what is known of a site is found by a route to it, and
// only from the same sources.
func TestSiteOfARoute(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.limit = 3
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) { return good(d), time.Minute }
		w.up()
		w.send("a@one.example")
		w.wait(time.Second)
		route := &mta.Route{Site: "one.example"}
		s, known, err := w.q.Site(context.Background(), route)
		if err != nil || !known || s.Site != "one.example" || s.Connections != 1 || s.Limit != 3 || s.Reason == "" {
			t.Errorf("%+v %t %v", s, known, err)
		}
		for _, other := range []*mta.Route{
			{Site: "two.example"},
			{Site: "one.example", Sources: []mta.Source{{IP: netip.MustParseAddr("192.0.2.1")}}},
		} {
			if s, known, err := w.q.Site(context.Background(), other); err != nil || known {
				t.Errorf("%+v %t %v", s, known, err)
			}
		}
	})
}
