package doctor

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

func TestAgreedAddress(t *testing.T) {
	t.Parallel()
	const old, now, inner = "198.51.100.1", "203.0.113.7", "10.0.0.1"
	say := func(kind wayKind, addr string) way {
		return way{Name: "someone said", kind: kind, Visible: netip.MustParseAddr(addr)}
	}
	by := func(w way, witness string) way { w.witness = witness; return w }
	for _, c := range []struct {
		name string
		ways []way
		why  string // empty: the address is certain
	}{
		{"two reflectors", []way{say(wayReflector, now), say(wayReflector, now)}, ""},
		{"a mail server and a reflector", []way{say(wayGreeting, now), say(wayReflector, now)}, ""},
		{"one reflector and a late delivery", []way{say(wayReflector, now), say(wayLearned, now)}, ""},
		{"one reflector and the configuration", []way{say(wayReflector, now), say(wayConfigured, now)}, ""},
		{"one reflector and the interface", []way{say(wayReflector, now), say(wayInterface, now)}, ""},
		{"two reflectors, and late deliveries from before", []way{say(wayReflector, now), say(wayReflector, now), say(wayLearned, old), say(wayConfigured, old)}, ""},
		{"two reflectors, and one that is silent", []way{say(wayReflector, now), say(wayReflector, now), {Name: "third", kind: wayReflector, Err: errors.New("timeout")}}, ""},
		{"one reflector alone", []way{say(wayReflector, now)}, "only one says"},
		{"one mail server alone", []way{say(wayGreeting, now)}, "only one says"},
		{"one reflector against the configuration", []way{say(wayReflector, now), say(wayConfigured, old)}, "only one says"},
		{"late deliveries alone", []way{say(wayLearned, now), say(wayLearned, now)}, "nobody outside"},
		{"the inside alone", []way{say(wayConfigured, now), say(wayInterface, now)}, "nobody outside"},
		{"two reflectors, and a third that sees another", []way{say(wayReflector, now), say(wayReflector, now), say(wayReflector, old)}, "someone said " + old},
		{"an inner address", []way{say(wayReflector, inner), say(wayReflector, inner)}, "private"},
		{"nobody", nil, "nobody could tell"},
		{"one mail server now and in a late delivery", []way{by(say(wayGreeting, now), "mx.example"), by(say(wayLearned, now), "mx.example")}, "only one says"},
		{"two mail servers, one in a late delivery", []way{by(say(wayGreeting, now), "mx.example"), by(say(wayLearned, now), "mx2.example")}, ""},
		{"two reflectors, and a mail server behind a balancer", []way{say(wayGreeting, inner), say(wayReflector, now), say(wayReflector, now)}, ""},
		{"an address that no machine has", []way{say(wayReflector, "224.0.0.1"), say(wayReflector, "224.0.0.1")}, "multicast"},
		{"a reserved one", []way{say(wayReflector, "255.255.255.255"), say(wayReflector, "255.255.255.255")}, "reserved"},
	} {
		f := face{Hostname: "mailout.ofc.widget.com", Local: netip.MustParseAddr("192.168.1.2"), Ways: c.ways, Visible: decide(c.ways)}
		got := agreed([]stance{{face: f}})
		if len(got) != 1 || (got[0].Why == "") != (c.why == "") || !strings.Contains(got[0].Why, c.why) {
			t.Errorf("%s: %+v", c.name, got)
			continue
		}
		if want := fmt.Sprint([]netip.Addr{netip.MustParseAddr(now)}); c.why == "" && fmt.Sprint(got[0].Addrs) != want || c.why != "" && got[0].Addrs != nil {
			t.Errorf("%s: %v", c.name, got[0].Addrs)
		}
	}
}

// TestAgreedOfSeveralSources: a name that two sources share has both addresses,
// and none to act on while one of them is not certain.
func TestAgreedOfSeveralSources(t *testing.T) {
	t.Parallel()
	seen := func(host, addr string, n int) stance {
		f := face{Hostname: host, Visible: netip.MustParseAddr(addr), V6: strings.Contains(addr, ":")}
		for range n {
			f.Ways = append(f.Ways, way{Name: "r", kind: wayReflector, Visible: f.Visible})
		}
		return stance{face: f}
	}
	got := agreed([]stance{seen("a.example", "203.0.113.9", 2), seen("A.example", "203.0.113.7", 2), seen("a.example", "2001:db8::1", 2),
		seen("b.example", "203.0.113.1", 2), seen("b.example", "203.0.113.2", 1)})
	if len(got) != 3 || fmt.Sprint(got[0].Addrs) != "[203.0.113.7 203.0.113.9]" || !got[1].V6 || got[1].Why != "" || got[2].Why == "" || got[2].Addrs != nil {
		t.Errorf("%+v", got)
	}
}
