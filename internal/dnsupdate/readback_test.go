package dnsupdate

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	wire "github.com/miekg/dns"

	"mailout/internal/dns"
)

// servers answer in virtual time: each by its address, with the new value from
// some moment on; never when that is 0.
func answering(t *testing.T, since map[string]time.Duration) *Updater {
	t.Helper()
	start := time.Now()
	addrs := map[string]string{"ns1.widget.com": "192.0.2.53", "ns2.widget.com": "198.51.100.53", "ns3.widget.com": "203.0.113.53"}
	return New(Options{
		Server: "ns1.widget.com", Zone: "widget.com", TTL: 5 * time.Minute,
		Resolve: func(_ context.Context, host string) ([]netip.Addr, error) {
			if a, ok := addrs[host]; ok {
				return []netip.Addr{netip.MustParseAddr(a)}, nil
			}
			return nil, errors.New("no such domain")
		},
		Ask: func(_ context.Context, p dns.Probe) (*dns.ProbeReply, error) {
			m := new(wire.Msg).SetQuestion(p.Name, p.Type)
			if p.Type == wire.TypeNS {
				for _, ns := range []string{"ns1", "NS2", "ns3", "gone"} {
					m.Answer = append(m.Answer, &wire.NS{Hdr: wire.RR_Header{Name: p.Name, Rrtype: wire.TypeNS}, Ns: ns + ".widget.com."})
				}
				return &dns.ProbeReply{Msg: m}, nil
			}
			at := since[p.Server.Addr().String()]
			if at < 0 {
				return nil, errors.New("i/o timeout")
			}
			value := "192.0.2.1"
			if at > 0 && time.Since(start) >= at {
				value = "198.51.100.7"
			}
			rr, err := wire.NewRR(p.Name + " 300 IN A " + value)
			m.Answer = []wire.RR{rr}
			return &dns.ProbeReply{Msg: m}, err
		},
	})
}

func newAddress(t *testing.T) []Edit {
	t.Helper()
	rr, err := wire.NewRR(host + ". 300 IN A 198.51.100.7")
	if err != nil {
		t.Fatal(err)
	}
	return []Edit{{Zone: "widget.com.", Name: host + ".", Type: "A", qtype: wire.TypeA, new: []wire.RR{rr}}}
}

func TestReadBackWaitsForEveryServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		u := answering(t, map[string]time.Duration{"192.0.2.53": time.Nanosecond, "198.51.100.53": 7 * time.Second, "203.0.113.53": 0})
		all := u.ReadBack(context.Background(), newAddress(t))
		want := []Seen{
			{"widget.com", "ns1.widget.com", true, ""},
			{"widget.com", "ns2.widget.com", true, ""},
			{"widget.com", "ns3.widget.com", false, "it still has mailout.ofc.widget.com A 192.0.2.1"},
			{"widget.com", "gone.widget.com", false, "its address is not known: no such domain"},
		}
		if len(all) != len(want) {
			t.Fatalf("%+v", all)
		}
		for i := range want {
			if all[i] != want[i] {
				t.Errorf("%+v, want %+v", all[i], want[i])
			}
		}
		if Agree(all) || time.Since(start) != settleTimeout {
			t.Errorf("agree %t after %s", Agree(all), time.Since(start))
		}
	})
}

func TestReadBackEndsWhenAllAgree(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		u := answering(t, map[string]time.Duration{"192.0.2.53": time.Nanosecond, "198.51.100.53": 2 * time.Second, "203.0.113.53": -1})
		all := u.ReadBack(context.Background(), newAddress(t))
		if !all[0].Agrees || !all[1].Agrees || all[2].Said == "" || all[2].Agrees {
			t.Errorf("%+v", all)
		}
		if Agree(nil) {
			t.Error("nobody agrees")
		}
		if !Agree(all[:2]) || time.Since(start) > settleTimeout {
			t.Errorf("after %s", time.Since(start))
		}
	})
}

func TestReadBackEndsWithItsCaller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		start := time.Now()
		if all := answering(t, nil).ReadBack(ctx, newAddress(t)); Agree(all) || time.Since(start) != time.Second {
			t.Errorf("after %s: %+v", time.Since(start), all)
		}
	})
}
