package dns

import (
	"testing"

	wire "github.com/miekg/dns"
)

func TestCounts(t *testing.T) {
	t.Parallel()
	n := newFakeNet(t)
	n.serve(serverA, zone(true, "a.test. 60 IN A 192.0.2.9"))
	r, ctx := n.newResolver(Options{}), t.Context()
	for range 3 {
		if _, err := r.A(ctx, "a.test"); err != nil {
			t.Fatal(err)
		}
	}
	_, _ = r.MX(ctx, "a.test")
	_, _ = r.MX(ctx, "none.test")
	n.serve(serverA, rcode(wire.RcodeServerFailure))
	n.serve(serverB, rcode(wire.RcodeServerFailure))
	_, _ = r.MX(ctx, "broken.test")
	_, _ = r.MX(ctx, "bad name.test")
	want := Counts{Cached: 2, Asked: 4, Found: 1, NoData: 1, NXDomain: 1, Temporary: 1, Entries: 4}
	if got := r.Counts(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
