package shape

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mailout/internal/mta"
)

func direct(domain, provider string, hosts ...string) *mta.Route {
	r := &mta.Route{Domain: domain, Site: strings.Join(hosts, "="), Provider: provider, Helo: "out.example",
		Sources: []mta.Source{{IP: netip.MustParseAddr("192.0.2.1"), Hostname: "out.example"}}}
	for _, h := range hosts {
		r.Hosts = append(r.Hosts, mta.Host{Name: h})
	}
	return r
}

func TestConditionsOfRules(t *testing.T) {
	t.Parallel()
	gmail := direct("gmail.com", "google", "gmail-smtp-in.l.google.com", "alt1.gmail-smtp-in.l.google.com")
	bulk := *gmail
	bulk.Pool = "bulk"
	for _, c := range []struct {
		name string
		rule Rule
		q    Query
		want bool
	}{
		{"no condition", Rule{}, Query{Route: gmail}, true},
		{"domain", Rule{Domains: []string{"x.example", "GMail.com"}}, Query{Route: gmail}, true},
		{"other domain", Rule{Domains: []string{"mail.com"}}, Query{Route: gmail}, false},
		{"not itself under itself", Rule{Domains: []string{"*.gmail.com"}}, Query{Route: gmail}, false},
		{"under", Rule{Domains: []string{"*.com"}}, Query{Route: gmail}, true},
		{"any domain", Rule{Domains: []string{"*"}}, Query{Route: gmail}, true},
		{"mx", Rule{MX: []string{"*.google.com"}}, Query{Route: gmail}, true},
		{"second mx", Rule{MX: []string{"alt1.gmail-smtp-in.l.google.com"}}, Query{Route: gmail}, true},
		{"other mx", Rule{MX: []string{"google.com"}}, Query{Route: gmail}, false},
		{"provider", Rule{Providers: []string{"google"}}, Query{Route: gmail}, true},
		{"provider by pattern", Rule{Providers: []string{"goo*"}}, Query{Route: gmail}, true},
		{"no provider is no match", Rule{Providers: []string{"*"}}, Query{Route: direct("a.example", "", "mx.a.example")}, false},
		{"site", Rule{Sites: []string{"gmail-smtp-in.l.google.com=alt1.gmail-smtp-in.l.google.com"}}, Query{Route: gmail}, true},
		{"site by pattern", Rule{Sites: []string{"gmail-*=*.com"}}, Query{Route: gmail}, true},
		{"other site by pattern", Rule{Sites: []string{"gmail-*.net"}}, Query{Route: gmail}, false},
		{"source", Rule{Sources: []string{"192.0.2.1"}}, Query{Route: gmail}, true},
		{"source by name", Rule{Sources: []string{"Out.example"}}, Query{Route: gmail}, true},
		{"other source", Rule{Sources: []string{"192.0.2.2"}}, Query{Route: gmail}, false},
		{"pool", Rule{Pools: []string{"bulk"}}, Query{Route: &bulk}, true},
		{"default pool", Rule{Pools: []string{"default"}}, Query{Route: gmail}, true},
		{"other pool", Rule{Pools: []string{"default"}}, Query{Route: &bulk}, false},
		{"stream", Rule{Streams: []string{"news"}}, Query{Route: gmail, Stream: "news"}, true},
		{"other stream", Rule{Streams: []string{"news"}}, Query{Route: gmail, Stream: "alerts"}, false},
		{"all of several", Rule{Providers: []string{"google"}, Streams: []string{"news"}}, Query{Route: gmail, Stream: "news"}, true},
		{"one of several", Rule{Providers: []string{"google"}, Streams: []string{"news"}}, Query{Route: gmail, Stream: "alerts"}, false},
		{"literal", Rule{Domains: []string{"[192.0.2.9]"}}, Query{Route: direct("[192.0.2.9]", "", "192.0.2.9")}, true},
		{"nothing under a literal", Rule{Domains: []string{"*.9]"}}, Query{Route: direct("[192.0.2.9]", "", "192.0.2.9")}, false},
	} {
		c.rule.Connections = 7
		rules, err := NewRules([]Rule{c.rule})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var l mta.Limits
		if got := rules.Apply(&l, c.q); got != c.want || (l.Connections == 7) != c.want {
			t.Errorf("%s: %v %+v", c.name, got, l)
		}
	}
}

func TestRulesAreRefusedWhenWrong(t *testing.T) {
	t.Parallel()
	for _, r := range []Rule{{MX: []string{"mx*.example"}}, {Domains: []string{"*."}}, {Rates: []RateLimit{{0, time.Second}}}, {Rates: []RateLimit{{1, 0}}}} {
		if _, err := NewRules([]Rule{{}, r}); err == nil || !strings.Contains(err.Error(), "[[shape]] 2") {
			t.Errorf("%+v: %v", r, err)
		}
	}
	if _, err := NewRules(make([]Rule, MaxRules+1)); err == nil {
		t.Error("too many")
	}
}

func TestRatesAreCountedApart(t *testing.T) {
	t.Parallel()
	rule := Rule{Rates: []RateLimit{{10, time.Second}, {1000, time.Hour}}, Line: 12}
	rates := func(by By, domains []string, q Query) []mta.Rate {
		rule.By, rule.Domains = by, domains
		rules, err := NewRules([]Rule{rule})
		if err != nil {
			t.Fatal(err)
		}
		l := mta.Limits{Rates: []mta.Rate{{Count: 1, Per: time.Second, Bucket: "router x"}}}
		rules.Apply(&l, q)
		if len(l.Rates) != 3 || l.Rates[0].Bucket != "router x" {
			t.Fatalf("%+v", l.Rates)
		}
		return l.Rates[1:]
	}
	a := Query{Route: direct("a.example", "google", "mx.example")}
	b := Query{Route: direct("b.example", "google", "mx2.example")}
	for _, c := range []struct {
		by   By
		same bool
	}{{0, true}, {BySource, true}, {ByProvider, true}, {BySite, false}, {DefaultBy, false}, {ByDomain, false}, {ByStream, true}, {BySender, true}} {
		first, second := rates(c.by, nil, a), rates(c.by, nil, b)
		if (first[0].Bucket == second[0].Bucket) != c.same {
			t.Errorf("by %b: %q and %q", c.by, first[0].Bucket, second[0].Bucket)
		}
		if first[0].Bucket == first[1].Bucket {
			t.Errorf("by %b: the second and the hour share %q", c.by, first[0].Bucket)
		}
		if first[0].ByStream != (c.by == ByStream) || first[0].BySender != (c.by == BySender) || first[0].Apart != (c.by == ByDomain) {
			t.Errorf("by %b: %+v", c.by, first[0])
		}
		if first[0].Origin != "[[shape]] 1 (line 12)" || first[1].Count != 1000 || first[1].Per != time.Hour {
			t.Errorf("%+v", first)
		}
	}
	if r := rates(0, []string{"a.example"}, a); !r[0].Apart {
		t.Error("a rate for one domain must not hold back the others of its site")
	}
}

// What the index finds is what looking at every rule in order would.
func TestIndexFindsTheFirst(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		pick := func(name string, from ...string) []string {
			return rapid.SliceOfN(rapid.SampledFrom(from), 0, 2).Draw(t, name)
		}
		var list []Rule
		for i := range rapid.IntRange(0, 30).Draw(t, "rules") {
			list = append(list, Rule{
				Domains: pick("domains", "a.example", "*.example", "b.test", "*"), MX: pick("mx", "mx.a.example", "*.google.com", "*"),
				Providers: pick("providers", "google", "yahoo", "*oo*"), Sites: pick("sites", "mx.a.example", "*.com", "x"),
				Sources: pick("sources", "192.0.2.1", "out.example", "192.0.2.9"), Pools: pick("pools", "default", "bulk"),
				Streams: pick("streams", "news", "alerts"), Connections: i + 1,
			})
		}
		rules, err := NewRules(list)
		if err != nil {
			t.Fatal(err)
		}
		r := direct(rapid.SampledFrom([]string{"a.example", "b.test", "x.example"}).Draw(t, "domain"),
			rapid.SampledFrom([]string{"", "google", "yahoo"}).Draw(t, "provider"),
			rapid.SliceOfN(rapid.SampledFrom([]string{"mx.a.example", "smtp.google.com", "mx.b.com"}), 1, 2).Draw(t, "hosts")...)
		r.Pool = rapid.SampledFrom([]string{"", "bulk"}).Draw(t, "pool")
		q := Query{Route: r, Stream: rapid.SampledFrom([]string{"news", "alerts", "other"}).Draw(t, "stream")}
		want := 0
		for i := range rules.rules {
			if rules.rules[i].fits(q) {
				want = i + 1
				break
			}
		}
		var l mta.Limits
		rules.Apply(&l, q)
		if l.Connections != want {
			t.Fatalf("rule %d, want %d", l.Connections, want)
		}
	})
}

func TestProviderDefaultsOnlyLower(t *testing.T) {
	t.Parallel()
	var l mta.Limits
	ApplyDefaults(&l, "yahoo")
	if l.Connections != 10 || l.MessagesPerConnection != 20 || l.RecipientsPerMessage != 0 {
		t.Errorf("%+v", l)
	}
	if want := "provider default yahoo (" + ProviderVersion() + ")"; l.From.Connections != want || l.From.RecipientsPerMessage != "" {
		t.Errorf("%+v", l.From)
	}
	l = mta.Limits{Connections: 3, MessagesPerConnection: 500}
	ApplyDefaults(&l, "yahoo")
	if l.Connections != 3 || l.From.Connections != "" || l.MessagesPerConnection != 20 {
		t.Errorf("%+v", l)
	}
	l = mta.Limits{}
	ApplyDefaults(&l, "")
	ApplyDefaults(&l, "comcast") // 25 connections raise nothing
	if l.Connections != 0 || l.RecipientsPerMessage != 0 {
		t.Errorf("%+v", l)
	}
}

func TestSlowLeavesAShare(t *testing.T) {
	t.Parallel()
	rates := []mta.Rate{{Count: 100, Per: time.Second}, {Count: 1, Per: time.Minute}}
	l := mta.Limits{Rates: rates}
	Slow(&l, 0.25, "slowed to 25 %")
	if l.Connections != 5 || l.Rates[0].Count != 25 || l.Rates[1].Count != 1 || l.Rates[1].Per != 4*time.Minute || rates[0].Count != 100 {
		t.Errorf("%+v of %+v", l, rates)
	}
	Slow(&l, 0.01, "more")
	if l.Connections != 1 || l.Rates[0].Count != 1 || l.Rates[0].Per != 4*time.Second {
		t.Errorf("%+v", l)
	}
	was := l.Connections
	Slow(&l, 1, "no")
	if l.Connections != was || l.From.Connections != "more" {
		t.Errorf("%+v", l)
	}
}

// BenchmarkRules: a thousand rules cost what one does.
func BenchmarkRules(b *testing.B) {
	for _, n := range []int{0, 1, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var list []Rule
			for i := range n {
				list = append(list, Rule{MX: []string{fmt.Sprintf("*.mx%d.example", i)}, Connections: 5})
			}
			rules, err := NewRules(list)
			if err != nil {
				b.Fatal(err)
			}
			q := Query{Route: direct("a.example", "", "in.mx0.example", "in.mx1.example")}
			for b.Loop() {
				var l mta.Limits
				rules.Apply(&l, q)
			}
		})
	}
}

// TestRateOfTheRestIsApart: what a rule holds back does not hold up mail that an
// earlier rule takes out of it.
func TestRateOfTheRestIsApart(t *testing.T) {
	t.Parallel()
	rate := []RateLimit{{Count: 1000, Per: time.Hour}}
	google := Rule{MX: []string{"*.google.com"}, Rates: rate, By: DefaultBy}
	for _, c := range []struct {
		before Rule
		apart  bool
	}{
		{Rule{Streams: []string{"codes"}, Connections: 5}, true},
		{Rule{Domains: []string{"a.example"}, Rates: rate}, true},
		{Rule{Pools: []string{"fast"}, Connections: 5}, true},
		{Rule{MX: []string{"*.google.com"}, Sources: []string{"192.0.2.1"}, Connections: 5}, false},
	} {
		r, err := NewRules([]Rule{c.before, google})
		if err != nil {
			t.Fatal(err)
		}
		var l mta.Limits
		route := &mta.Route{Domain: "b.example", Site: "mx.google.com", Hosts: []mta.Host{{Name: "mx.google.com"}}}
		if !r.Apply(&l, Query{Route: route, Stream: "news"}) || l.Rates[0].Apart != c.apart {
			t.Errorf("behind %+v: %+v", c.before, l.Rates)
		}
	}
}
