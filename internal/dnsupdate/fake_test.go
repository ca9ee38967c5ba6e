package dnsupdate

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"mailout/internal/mtatest"
)

const testSecret = "bWFpbG91dCB0ZXN0IHNlY3JldCwgMzIgb2N0ZXRzISE="

// newPrimary is a primary server of widget.com on loopback, and an updater for
// it. Both may be changed before use.
func newPrimary(t *testing.T, onUpdate func(w wire.ResponseWriter, reply *wire.Msg), change func(o *Options), records ...string) (*mtatest.DNS, *Updater) {
	t.Helper()
	p := mtatest.NewDNS()
	p.Primary(mtatest.Primary{Zone: "widget.com", Key: "mailout", Secret: testSecret, Alone: true, OnUpdate: onUpdate})
	put(t, p, "widget.com. 3600 SOA ns.widget.com. hostmaster.widget.com. 1 7200 3600 604800 120", "widget.com. 3600 NS ns.widget.com.")
	put(t, p, records...)
	if err := p.Start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return p, newUpdater(p, change)
}

func newUpdater(p *mtatest.DNS, change func(o *Options)) *Updater {
	o := Options{
		Server: p.Addr().String(), Zone: "widget.com", TTL: 300 * time.Second,
		Key:     Key{"mailout", "hmac-sha256", testSecret},
		Resolve: func(context.Context, string) ([]netip.Addr, error) { return []netip.Addr{p.Addr().Addr()}, nil },
	}
	if change != nil {
		change(&o)
	}
	return New(o)
}

func put(t *testing.T, p *mtatest.DNS, records ...string) {
	t.Helper()
	if err := p.Add(strings.Join(records, "\n")); err != nil {
		t.Fatal(err)
	}
}
