package doctor

import (
	"net/netip"
	"testing"

	"mailout/internal/mta"
)

// TestEveryIDIsThere holds the shape of a report: every id, with or without
// sender domains, sources and a router, and one finding for an id and subject.
func TestEveryIDIsThere(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*fakeWorld, *Identity){
		"as it should be": func(*fakeWorld, *Identity) {},
		"no domains":      func(_ *fakeWorld, id *Identity) { id.Domains, id.Postmaster = nil, "" },
		"no DNS servers":  func(_ *fakeWorld, id *Identity) { id.Servers = nil },
		"no way out":      func(w *fakeWorld, id *Identity) { w.local, id.Sources = nil, nil },
		"all by a router": func(_ *fakeWorld, id *Identity) { id.Router = Router{Host: "192.0.2.1", Port: 25, Use: "always"} },
		"router, no domain": func(_ *fakeWorld, id *Identity) {
			id.Router, id.Domains = Router{Host: "192.0.2.1", Use: "always"}, nil
		},
		"keys, no domain": func(_ *fakeWorld, id *Identity) {
			id.Domains, id.DKIM = nil, []DKIMKey{{"widget.com", "a", "/nowhere"}, {"Widget.com", "A", "/nowhere"}}
		},
		"two names at one address": func(_ *fakeWorld, id *Identity) {
			a := netip.MustParseAddr("192.0.2.10")
			id.Sources = []mta.Source{{IP: a, Hostname: "a.widget.com"}, {IP: a, Hostname: "b.widget.com"}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, id := newWorld(t), goodIdentity()
			change(w, &id)
			r := examineFor(t, w, id)
			got := map[finding]int{}
			ids := map[string]bool{}
			for _, c := range r.Checks {
				got[finding{c.ID, c.Subject}]++
				ids[c.ID] = true
			}
			for f, n := range got {
				if n > 1 {
					t.Errorf("%d findings %s %q", n, f.id, f.subject)
				}
			}
			for _, e := range IDs {
				if !ids[e.ID] {
					t.Errorf("no finding %s", e.ID)
				}
			}
		})
	}
}
