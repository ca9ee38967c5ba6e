package tlsrpt

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mailout/internal/mta"
)

// line puts what was counted of a domain today into one text.
func line(r *Reports, domain string) string {
	s, _ := r.counter.place(domain)
	s.Lock()
	defer s.Unlock()
	var out []string
	for _, names := range s.days {
		t := names[domain]
		if t == nil {
			continue
		}
		for _, p := range t.policies {
			n := p.note()
			text := fmt.Sprintf("%s %s %d/%d", p.kind, p.domain, p.success, p.failure)
			for i := range n.Details {
				text += " " + n.Details[i].Result
			}
			out = append(out, text)
		}
	}
	return strings.Join(out, ", ")
}

func TestSessionsCountForTheirPolicy(t *testing.T) {
	t.Parallel()
	const domain = "example.com"
	sts, tlsa := stsPolicy(domain), tlsaPolicy("mx."+domain)
	lost := mta.TLSPolicy{Type: typeSTS, Domain: domain, Trouble: "sts-policy-fetch-error", Reason: "no connection"}
	bogus := mta.TLSPolicy{Type: typeTLSA, Domain: "mx." + domain, Trouble: "dnssec-invalid", Reason: "SERVFAIL"}
	old := stsPolicy(domain)
	old.Trouble, old.Reason = lost.Trouble, lost.Reason
	unusable := tlsaPolicy("mx." + domain)
	unusable.Trouble, unusable.Reason = "tlsa-invalid", "none of the records can be used"
	alias := tlsaPolicy("real.host.example")
	cases := map[string]struct {
		session *Session
		want    string
	}{
		"no policy":                        {session(domain), "no-policy-found example.com 1/0"},
		"no policy and no STARTTLS":        {session(domain).failing("starttls-not-supported", ""), "no-policy-found example.com 0/1 starttls-not-supported"},
		"MTA-STS":                          {session(domain, sts), "sts example.com 1/0"},
		"MTA-STS fails":                    {session(domain, sts).failing("certificate-expired", "x"), "sts example.com 0/1 certificate-expired"},
		"DANE":                             {session(domain, tlsa), "tlsa mx.example.com 1/0"},
		"DANE goes before MTA-STS":         {session(domain, sts, tlsa), "tlsa mx.example.com 1/0"},
		"records of another host":          {session(domain, tlsaPolicy("other.example.com")), "no-policy-found example.com 1/0"},
		"records of another host, MTA-STS": {session(domain, tlsaPolicy("other.example.com"), sts), "sts example.com 1/0"},
		"records under the name of an alias": {func() *Session {
			s := session(domain, alias)
			s.Demand.DANE = &mta.DANE{Names: []string{"real.host.example"}}
			return s
		}(), "tlsa real.host.example 1/0"},
		"a policy that could not be had":     {session(domain, lost), "sts example.com 0/1 sts-policy-fetch-error"},
		"and a session that failed":          {session(domain, lost).failing("starttls-not-supported", ""), "sts example.com 0/1 starttls-not-supported sts-policy-fetch-error"},
		"and another that holds":             {session(domain, lost, tlsa), "sts example.com 0/1 sts-policy-fetch-error, tlsa mx.example.com 1/0"},
		"records that cannot be validated":   {session(domain, bogus).failing("dnssec-invalid", "SERVFAIL"), "tlsa mx.example.com 0/1 dnssec-invalid"},
		"and another policy that would hold": {session(domain, bogus, sts).failing("dnssec-invalid", "SERVFAIL"), "tlsa mx.example.com 0/1 dnssec-invalid"},
		"an old policy that still holds":     {session(domain, old), "sts example.com 0/1 sts-policy-fetch-error, sts example.com 1/0"},
		"and is not kept to":                 {session(domain, old).failing("certificate-expired", ""), "sts example.com 0/1 sts-policy-fetch-error, sts example.com 0/1 certificate-expired"},
		"records that cannot be used":        {session(domain, unusable), "tlsa mx.example.com 0/1 tlsa-invalid"},
		"and stand under an alias's end": {func() *Session {
			s := session(domain, mta.TLSPolicy{Type: typeTLSA, Domain: "real.host.example", Trouble: "tlsa-invalid"})
			s.Demand.Origin = mta.TLSByDANE
			return s
		}(), "tlsa real.host.example 0/1 tlsa-invalid"},
		"a result that nobody knows": {session(domain, sts).failing("moon-phase", ""), "sts example.com 0/1 validation-failure"},
		"a policy that nobody knows": {session(domain, mta.TLSPolicy{Type: "future", Domain: domain}), "no-policy-found example.com 1/0"},
		"nobody looked for policies": {func() *Session { s := session(domain); s.Route.Policies = nil; return s }(), ""},
		"a router":                   {func() *Session { s := session(domain); s.Route.Router = "r"; return s }(), ""},
		"an address literal":         {session("[192.0.2.1]"), ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newWorld(t).reports()
			r.Count(c.session)
			got := line(r, c.session.Route.Domain)
			if c.want != got && strings.Join(sortedWords(c.want), " ") != strings.Join(sortedWords(got), " ") {
				t.Errorf("counted as %q, want %q", got, c.want)
			}
		})
	}
}

func TestFailuresStandApart(t *testing.T) {
	t.Parallel()
	r := newWorld(t).reports()
	base := session("example.com", stsPolicy("example.com"))
	for range 3 {
		r.Count(base)
	}
	r.Count(base.failing("certificate-expired", "old\r\nX: y"))
	r.Count(base.failing("certificate-expired", "older"))
	other := *base
	other.Host = "mx2.example.com"
	r.Count(other.failing("certificate-expired", "old"))
	r.Count(base.failing("starttls-not-supported", ""))
	s, _ := r.counter.place("example.com")
	n := s.days[dayOf(r.now())]["example.com"].policies[0].note()
	value, err := n.encode()
	if err != nil {
		t.Fatal(err)
	}
	want := `{"type":"sts","domain":"example.com","lines":["version: STSv1","mode: enforce","mx: *.example.com","max_age: 86400"],"hosts":["*.example.com"],"success":3,"failure":4,"details":[` +
		`{"result":"certificate-expired","host":"mx.example.com","ip":"198.51.100.25","from":"203.0.113.5","helo":"helo.example.com","reason":"older","count":2},` +
		`{"result":"certificate-expired","host":"mx2.example.com","ip":"198.51.100.25","from":"203.0.113.5","helo":"helo.example.com","reason":"old","count":1},` +
		`{"result":"starttls-not-supported","host":"mx.example.com","ip":"198.51.100.25","from":"203.0.113.5","helo":"helo.example.com","count":1}]}`
	if string(value) != want {
		t.Errorf("noted\n%s\nwant\n%s", value, want)
	}
}

// TestCountsAreBounded: what is over a bound is counted together, and nothing is
// lost from the sums.
func TestCountsAreBounded(t *testing.T) {
	t.Parallel()
	r := newWorld(t).reports()
	const many = 1000
	for i := range many {
		p := stsPolicy("example.com")
		p.Strings = append(p.Strings, fmt.Sprint("x: ", i))
		o := session("example.com", p)
		r.Count(o)
		one := session("example.com", stsPolicy("example.com"))
		one.Host = fmt.Sprintf("mx%d.example.com", i)
		r.Count(one.failing("certificate-expired", strings.Repeat("long ", 1000)))
	}
	s, _ := r.counter.place("example.com")
	tally := s.days[dayOf(r.now())]["example.com"]
	if n := len(tally.policies); n > MaxPolicies+3 {
		t.Errorf("%d policies stand apart", n)
	}
	if success, failure := tally.sessions(); success != many || failure != many {
		t.Errorf("%d and %d sessions are left of %d each", success, failure, many)
	}
	for _, p := range tally.policies {
		if len(p.details) > MaxDetails+len(results) {
			t.Errorf("%d details stand apart", len(p.details))
		}
		sum := uint64(0)
		for _, d := range p.details {
			sum += d.count
			if len(d.reason) > maxReason {
				t.Errorf("a reason of %d octets", len(d.reason))
			}
		}
		if sum != p.failure {
			t.Errorf("%d of %d failures have a detail", sum, p.failure)
		}
		n := p.note()
		if value, err := n.encode(); err != nil || len(value) > 64<<10 {
			t.Errorf("a note of %d octets: %v", len(value), err)
		}
	}
}

// TestMemoryIsBounded: however many domains there are, and whatever they publish,
// the counts keep to their bound, and what they are reckoned at is given back.
func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.reports()
	long := strings.Repeat("x", 4000)
	for i := range MaxUnknown + 500 {
		p := stsPolicy("example.com")
		p.Strings = []string{long, long[:3000] + fmt.Sprint(i)}
		r.Count(session(fmt.Sprintf("d%d.example", i), p))
	}
	c := r.counter
	if n := c.domains.Load(); n > MaxUnknown {
		t.Errorf("%d domains of which nobody knows", n)
	}
	if n := c.counts.uncounted.Load(); n < 500 {
		t.Errorf("%d sessions were not counted", n)
	}
	for i := range MaxDomains {
		name := fmt.Sprintf("d%d.example", i)
		c.learn(name, findTargets, r.now())
		p := stsPolicy("example.com")
		p.Strings = []string{long, long[:3000] + fmt.Sprint(i)}
		r.Count(session(name, p))
	}
	if n := c.cost.Load(); n > MaxCounted+100_000 {
		t.Errorf("the counts are reckoned at %d octets", n)
	}
	for i := range MaxDomains {
		c.learn(fmt.Sprintf("d%d.example", i), findTargets, r.now())
	}
	r.forget(t.Context())
	if c.cost.Load() != 0 || c.domains.Load() != 0 || c.unknown.Load() != 0 {
		t.Errorf("left: %d octets, %d domains, %d unknown", c.cost.Load(), c.domains.Load(), c.unknown.Load())
	}
}

// TestDomainsThatDoNotAsk: one that publishes no record is asked about once, and
// takes no memory of its own.
func TestDomainsThatDoNotAsk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.ask("asks.example", "mailto:tls@asks.example")
		r := w.start()
		defer r.Stop(t.Context())
		const many = 20_000
		for i := range many {
			r.Count(session(fmt.Sprintf("d%d.example", i)))
			if i%1000 == 0 {
				synctest.Wait()
			}
		}
		r.Count(session("asks.example"))
		synctest.Wait()
		if n := r.counter.domains.Load(); n != 1 {
			t.Errorf("%d domains are counted, want the one that asks", n)
		}
		if n := r.Counts().Uncounted; n != 0 {
			t.Errorf("%d sessions were not counted for want of room", n)
		}
		before := w.resolver.asked
		r.Count(session(fmt.Sprintf("d%d.example", many-1)))
		synctest.Wait()
		if w.resolver.asked != before {
			t.Error("a domain that does not ask was asked about again at once")
		}
	})
}

// TestTrap36_UnknownIsNoAnswer: while DNS has trouble, sessions are counted on.
func TestTrap36_UnknownIsNoAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.ask("example.com", "mailto:tls@example.com")
		w.resolver.fail(true)
		r := w.start()
		defer r.Stop(t.Context())
		for range 10 {
			r.Count(session("example.com"))
			time.Sleep(10 * time.Minute)
		}
		w.resolver.fail(false)
		time.Sleep(2 * time.Hour)
		if got := line(r, "example.com"); got != "no-policy-found example.com 10/0" {
			t.Errorf("counted %q", got)
		}
		if n := r.counter.unknown.Load(); n != 0 {
			t.Errorf("%d domains are still unknown", n)
		}
	})
}

// TestManyWorkersCount holds that no session is lost or doubled between workers.
func TestManyWorkersCount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for i := range 5 {
			w.ask(fmt.Sprintf("d%d.example", i), "mailto:tls@example.com")
		}
		r := w.start()
		defer r.Stop(t.Context())
		const workers, each = 20, 500
		for range workers {
			go func() {
				for i := range each {
					o := session(fmt.Sprintf("d%d.example", i%5))
					if i%10 == 0 {
						o = o.failing("certificate-expired", "x")
					}
					r.Count(o)
				}
			}()
		}
		synctest.Wait()
		for i := range 5 {
			name := fmt.Sprintf("d%d.example", i)
			s, _ := r.counter.place(name)
			if got, bad := s.days[dayOf(r.now())][name].sessions(); got+bad != workers*each/5 {
				t.Errorf("%s has %d sessions", name, got+bad)
			}
		}
	})
}

func BenchmarkCount(b *testing.B) {
	r := New(Options{Notes: newNotes(), Resolver: &fakeResolver{}, Intake: newIntake(), Settings: Settings{Send: true, Hostname: "a.example", Contact: "x@a.example"}})
	var list []*Session
	for i := range 64 {
		name := fmt.Sprintf("d%d.example", i)
		o := session(name, stsPolicy(name), tlsaPolicy("mx."+name))
		o.IP, o.From = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
		r.Count(o)
		r.counter.learn(name, findTargets, r.now())
		list = append(list, o)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			r.Count(list[i%len(list)])
		}
	})
}

func sortedWords(s string) []string {
	words := strings.Fields(s)
	for i := range words {
		for j := i; j > 0 && words[j] < words[j-1]; j-- {
			words[j], words[j-1] = words[j-1], words[j]
		}
	}
	return words
}
