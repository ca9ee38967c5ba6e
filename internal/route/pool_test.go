package route

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"mailout/internal/mta"
)

const poolZone = `
both.test AAAA 2001:db8::1
both.test A 198.51.100.1
four.test A 198.51.100.1
six.test AAAA 2001:db8::1
`

func src(text string) PoolSource {
	ip, name, _ := strings.Cut(text, "=")
	if name == "" {
		name = "o.test"
	}
	return PoolSource{Source: mta.Source{IP: netip.MustParseAddr(ip), Hostname: name}}
}

func pooled(name string, sources ...string) Pool {
	p := Pool{Name: name}
	for i, s := range sources {
		p.Sources = append(p.Sources, src(s))
		p.Sources[i].Weight = i + 1
	}
	return p
}

// showPlan gives a plan in one line: "sources*weight; …", then what is left out.
func showPlan(p *mta.Plan, f *mta.Failure) string {
	if f != nil {
		return f.Cause.String() + ": " + f.Text
	}
	var routes []string
	for _, r := range p.Routes {
		var ips []string
		for _, s := range r.Sources {
			ips = append(ips, s.IP.String())
		}
		text := fmt.Sprintf("%s*%d", strings.Join(ips, "+"), r.Weight)
		if r.HeldBy != "" {
			text += " held"
		}
		if r.Pool != "" {
			text += " of " + r.Pool
		}
		routes = append(routes, text)
	}
	var out []string
	for _, l := range p.LeftOut {
		out = append(out, l.Source.IP.String()+" "+l.Why)
	}
	return strings.TrimSuffix(strings.Join(routes, "; ")+" | "+strings.Join(out, ", "), " | ")
}

// TestPoolMembers: how sources are paired, weighted and left out.
func TestPoolMembers(t *testing.T) {
	t.Parallel()
	a, b := "192.0.2.10=a.test", "192.0.2.11=b.test"
	a6, b6 := "2001:db8:1::a=A.test", "2001:db8:1::b=b.test"
	for name, c := range map[string]struct {
		sources []string
		domain  string
		down    []string
		holds   []Hold
		want    string
	}{
		"one source":                    {[]string{a}, "both.test", nil, nil, "192.0.2.10*1"},
		"two of one family":             {[]string{a, b}, "both.test", nil, nil, "192.0.2.10*1; 192.0.2.11*2"},
		"pairs by name, greater weight": {[]string{a, b, b6, a6}, "both.test", nil, nil, "192.0.2.10+2001:db8:1::a*4; 192.0.2.11+2001:db8:1::b*3"},
		"a pair of the only ones":       {[]string{b6, a}, "both.test", nil, nil, "192.0.2.10+2001:db8:1::b*2"},
		"one without a mate":            {[]string{a, a6, b}, "both.test", nil, nil, "192.0.2.10+2001:db8:1::a*2; 192.0.2.11*3"},
		"hosts without IPv6":            {[]string{a, b, a6, "2001:db8:1::c=c.test"}, "four.test", nil, nil, "192.0.2.10+2001:db8:1::a*3; 192.0.2.11*2 | 2001:db8:1::c the hosts have no IPv6 address"},
		"hosts without IPv4":            {[]string{a, b, b6}, "six.test", nil, nil, "192.0.2.11+2001:db8:1::b*3 | 192.0.2.10 the hosts have no IPv4 address"},
		"one is down":                   {[]string{a, b}, "both.test", []string{"192.0.2.10"}, nil, "192.0.2.11*2 | 192.0.2.10 gone"},
		"half a pair is down":           {[]string{a, a6}, "both.test", []string{"192.0.2.10"}, nil, "2001:db8:1::a*2 | 192.0.2.10 gone"},
		"half a pair, the half needed":  {[]string{a, a6, b}, "four.test", []string{"192.0.2.10"}, nil, "192.0.2.11*3 | 192.0.2.10 gone, 2001:db8:1::a the hosts have no IPv6 address"},
		"all are down":                  {[]string{a, b}, "both.test", []string{"192.0.2.10", "192.0.2.11"}, nil, "local: no source of the default pool can send to both.test: 192.0.2.10: gone; 192.0.2.11: gone"},
		"none of the family":            {[]string{b6}, "four.test", nil, nil, "local: no source of the default pool can send to four.test: 2001:db8:1::b: the hosts have no IPv6 address"},
		"one is held":                   {[]string{a, b}, "both.test", nil, []Hold{{Source: netip.MustParseAddr("192.0.2.11"), Reason: "bad name"}}, "192.0.2.10*1 | 192.0.2.11 bad name"},
		"all are held":                  {[]string{a, b}, "both.test", nil, []Hold{{Source: netip.MustParseAddr("192.0.2.11"), Reason: "x"}, {Source: netip.MustParseAddr("192.0.2.10"), Reason: "x"}}, "192.0.2.10*1 held; 192.0.2.11*2 held"},
		"held, and the other is down":   {[]string{a, b}, "both.test", []string{"192.0.2.10"}, []Hold{{Source: netip.MustParseAddr("192.0.2.11"), Reason: "x"}}, "192.0.2.11*2 held | 192.0.2.10 gone"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := standard()
			s.Pools = []Pool{pooled("", c.sources...)}
			for _, p := range s.Pools[0].Sources {
				s.Sources = append(s.Sources, p.Source)
			}
			w := newWorld(t, s, poolZone)
			w.p.Hold(c.holds)
			down := map[netip.Addr]string{}
			for _, ip := range c.down {
				down[netip.MustParseAddr(ip)] = "gone"
			}
			w.p.Down(down)
			if got := showPlan(w.p.PlanFor(t.Context(), mta.Destination{Domain: c.domain}, "")); got != c.want {
				t.Errorf("\n got %s\nwant %s", got, c.want)
			}
		})
	}
}

// TestPoolsByStream: a stream has its pool; the default pool is all sources, or
// the pool of that name.
func TestPoolsByStream(t *testing.T) {
	t.Parallel()
	s := standard()
	s.Sources = []mta.Source{src("192.0.2.10").Source, src("192.0.2.11").Source}
	s.Pools = []Pool{pooled("bulk", "192.0.2.11")}
	s.StreamPools = map[string]string{"news": "bulk", "odd": "nowhere", "plain": DefaultPool}
	w := newWorld(t, s, poolZone)
	for stream, want := range map[string]string{
		"":      "192.0.2.10*1; 192.0.2.11*1",
		"plain": "192.0.2.10*1; 192.0.2.11*1",
		"news":  "192.0.2.11*1 of bulk",
		"odd":   `local: there is no pool "nowhere"`,
	} {
		if got := showPlan(w.p.PlanFor(t.Context(), mta.Destination{Domain: "both.test", Stream: stream}, "")); got != want {
			t.Errorf("%q:\n got %s\nwant %s", stream, got, want)
		}
	}
	if !w.p.HasPool("bulk") || !w.p.HasPool(DefaultPool) || w.p.HasPool("nowhere") {
		t.Error("which pools there are")
	}
}

// Whatever the mix of sources, hosts and what is down or held: every source of
// the pool is in exactly one route or left out with a reason; no route has two
// sources of a family, or none that reaches a host; a host is given up only when
// no source that is up has its family.
func TestSpreadProperties(t *testing.T) {
	t.Parallel()
	addr4, addr6 := netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("2001:db8::1")
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 8).Draw(t, "sources")
		s := Settings{Hostname: "us.test", IPv6: rapid.Bool().Draw(t, "ipv6")}
		down := map[netip.Addr]string{}
		var holds []Hold
		pool := Pool{}
		for i := range n {
			ip := netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)})
			if rapid.Bool().Draw(t, "six") {
				ip = netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: byte(i + 1)})
			}
			source := mta.Source{IP: ip, Hostname: rapid.SampledFrom([]string{"a.test", "b.test", "c.test"}).Draw(t, "name")}
			s.Sources = append(s.Sources, source)
			pool.Sources = append(pool.Sources, PoolSource{source, rapid.IntRange(0, 5).Draw(t, "weight")})
			if rapid.IntRange(0, 3).Draw(t, "down") == 0 {
				down[ip] = "gone"
			} else if rapid.IntRange(0, 3).Draw(t, "held") == 0 {
				holds = append(holds, Hold{Source: ip, V6: ip.Is6(), Reason: "held"})
			}
		}
		s.Pools = []Pool{pool}
		c, err := compile(s, tables{}, 1)
		if err != nil {
			t.Fatal(err)
		}
		p := &Planner{}
		p.settings.Store(c)
		p.Down(down)
		p.Hold(holds)
		host := mta.Host{Name: "h.test"}
		has4, has6 := rapid.Bool().Draw(t, "host4"), rapid.Bool().Draw(t, "host6")
		if has4 {
			host.Addresses = append(host.Addresses, addr4)
		}
		if has6 || !has4 {
			host.Addresses = append(host.Addresses, addr6)
			has6 = true
		}
		plan, failure := p.spread(&mta.Route{Hosts: []mta.Host{host}, IPv6: s.IPv6, Helo: "us.test"}, "")
		able := false
		for _, source := range s.Sources {
			_, gone := down[source.IP]
			able = able || !gone && (source.IP.Is4() && has4 || source.IP.Is6() && has6 && s.IPv6)
		}
		if able != (failure == nil) {
			t.Fatalf("a source can send: %t, and the failure is %v", able, failure)
		}
		if failure != nil {
			if failure.Cause != mta.CauseLocal {
				t.Fatalf("%v", failure)
			}
			return
		}
		checkSpread(t, plan, s.Sources, down)
	})
}

func checkSpread(t *rapid.T, plan *mta.Plan, sources []mta.Source, down map[netip.Addr]string) {
	seen := map[netip.Addr]int{}
	held := 0
	for _, r := range plan.Routes {
		families := map[bool]int{}
		for _, source := range r.Sources {
			seen[source.IP]++
			families[source.IP.Is4()]++
			if _, gone := down[source.IP]; gone {
				t.Fatalf("%s is down and used", source.IP)
			}
		}
		if families[true] > 1 || families[false] > 1 || len(r.Sources) == 0 || len(r.Targets(nil)) == 0 || r.Weight < 1 {
			t.Fatalf("route %+v", r)
		}
		for _, target := range r.Targets(nil) {
			if target.IP.Is4() != target.Source.IP.Is4() {
				t.Fatalf("%s from %s", target.IP, target.Source.IP)
			}
		}
		if r.HeldBy != "" {
			held++
		}
	}
	if held != 0 && held != len(plan.Routes) {
		t.Fatalf("%d of %d routes are held", held, len(plan.Routes))
	}
	for _, l := range plan.LeftOut {
		if seen[l.Source.IP]++; l.Why == "" {
			t.Fatalf("%s is left out without a reason", l.Source.IP)
		}
	}
	for _, source := range sources {
		if seen[source.IP] != 1 {
			t.Fatalf("%s stands %d times", source.IP, seen[source.IP])
		}
	}
}
