package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	wire "github.com/miekg/dns"

	"mailout/internal/dns"
)

// step is one case of a check: what the world and identity are, and what the
// check must say.
type step struct {
	name    string
	records []string
	change  func(w *fakeWorld, id *Identity)
	subject string
	want    Status
	seen    string // part of what was seen
	record  string // of the fix, whole
	text    string // part of the fix's sentence
}

// try examines each case for one id, the cases of a status as its subtests. It
// names no status, so that those which a test shows are those in its steps.
func try(t *testing.T, id string, steps []step) {
	var statuses []Status
	for _, s := range steps {
		if !slices.Contains(statuses, s.want) {
			statuses = append(statuses, s.want)
		}
	}
	for _, status := range statuses {
		t.Run(string(status), func(t *testing.T) {
			for _, s := range steps {
				if s.want == status {
					t.Run(s.name, func(t *testing.T) { s.try(t, id) })
				}
			}
		})
	}
}

func (s step) try(t *testing.T, id string) {
	w := newWorld(t, s.records...)
	identity := goodIdentity()
	if s.change != nil {
		s.change(w, &identity)
	}
	c := find(t, Examine(t.Context(), identity, w.world(), Options{Only: []string{id}}), id, s.subject)
	fix := Fix{}
	if c.Fix != nil {
		fix = *c.Fix
	}
	if c.Status != s.want || !strings.Contains(c.Seen, s.seen) || !strings.Contains(fix.Text, s.text) || s.record != "-" && fix.Record != s.record {
		t.Errorf("%+v with %+v\nwant %s, seen %q, record %q, text %q", c, fix, s.want, s.seen, s.record, s.text)
	}
	if word := string(c.Status); (word == "warn" || word == "fail") && (c.Fix == nil || c.Fix.Text == "" || c.Who == "" || c.Why == "" || c.Asked == "") {
		t.Errorf("a finding without fix, who, why or asked: %+v", c)
	}
}

// deaf lets every server fail for one question.
func deaf(name string, qtype uint16) func(*fakeWorld, *Identity) {
	return func(w *fakeWorld, _ *Identity) {
		w.ask = func(p dns.Probe) (*wire.Msg, error) {
			if wire.CanonicalName(p.Name) == name && p.Type == qtype {
				m := new(wire.Msg)
				m.Rcode = wire.RcodeServerFailure
				return m, nil
			}
			return nil, nil
		}
	}
}

func routed(_ *fakeWorld, id *Identity) { id.Router = Router{Host: "smart.example", Use: "always"} }

func widgetSPF(text string) string { return fmt.Sprintf("widget.com. 300 TXT %q", text) }

// includes are n records, each including the next.
func includes(n int) []string {
	out := []string{widgetSPF("v=spf1 ip4:192.0.2.10 include:s1.example -all")}
	for i := 1; i <= n; i++ {
		next := fmt.Sprintf(" include:s%d.example", i+1)
		if i == n {
			next = ""
		}
		out = append(out, fmt.Sprintf("s%d.example. 300 TXT \"v=spf1%s -all\"", i, next))
	}
	return out
}

func TestCheck_spf_record(t *testing.T) {
	ours := "v=spf1 ip4:192.0.2.10 -all"
	try(t, "spf.record", []step{
		{name: "pass", records: []string{widgetSPF(ours)}, subject: "widget.com", want: Pass, seen: "0 of 10 look-ups"},
		{name: "pass behind a redirect", records: []string{widgetSPF("v=spf1 redirect=_spf.widget.com"), `_spf.widget.com. 300 TXT "` + ours + `"`}, want: Pass, seen: "1 of 10"},
		{name: "pass with ten look-ups", records: includes(10), want: Pass, seen: "10 of 10"},
		{name: "pass with macros", records: []string{widgetSPF("v=spf1 exists:%{i}._spf.example.net -all")}, want: Pass, seen: "1 of 10"},
		{name: "pass beside other texts", records: []string{widgetSPF(ours), `widget.com. 300 TXT "v=spf10 x"`, `widget.com. 300 TXT "google-site-verification=abc"`}, want: Pass},
		{name: "warn without an end", records: []string{widgetSPF("v=spf1 ip4:192.0.2.10")}, want: Warn, seen: "does not say",
			record: `widget.com. IN TXT "v=spf1 ip4:192.0.2.10 ~all"`},
		{name: "warn neutral", records: []string{widgetSPF("v=spf1 mx ?all"), "widget.com. 300 MX 10 mailout.ofc.widget.com."}, want: Warn,
			record: `widget.com. IN TXT "v=spf1 mx ~all"`},
		{name: "warn about a redirect without an end", records: []string{widgetSPF("v=spf1 redirect=_spf.widget.com"), `_spf.widget.com. 300 TXT "v=spf1 ip4:192.0.2.10 ?all"`},
			want: Warn, text: "_spf.widget.com"},
		{name: "fail behind a redirect", records: []string{widgetSPF("v=spf1 redirect=_spf.widget.com"), `_spf.widget.com. 300 TXT "v=spf1 +all"`},
			want: Fail, seen: "whole world", text: "_spf.widget.com"},
		{name: "warn about ptr", records: []string{widgetSPF("v=spf1 ip4:192.0.2.10 ptr -all")}, want: Warn, seen: "ptr"},
		{name: "warn about an equals sign", records: []string{widgetSPF("v=spf1 ip4=192.0.2.10 -all")}, want: Warn, seen: "write it with a colon"},
		{name: "fail without a record", want: Fail, seen: "no SPF record", record: `widget.com. IN TXT "v=spf1 ip4:192.0.2.10 ~all"`, text: "before \"~all\""},
		{name: "fail without a record and address", change: func(w *fakeWorld, id *Identity) { id.PublicIP, id.Sources, w.local = nil, nil, nil }, want: Fail, text: "nobody could tell"},
		{name: "fail without a record behind a router", change: routed, want: Fail, text: "Ask who runs the router"},
		{name: "fail with two records", records: []string{widgetSPF("v=spf1 mx -all"), widgetSPF("v=spf1 include:_spf.example.net ~all")}, want: Fail, seen: "2 SPF records",
			record: `widget.com. IN TXT "v=spf1 ip4:192.0.2.10 mx include:_spf.example.net ~all"`},
		{name: "fail syntax", records: []string{widgetSPF("v=spf1 ipv4:192.0.2.10 -all")}, want: Fail, seen: "write ip4:ADDRESS", text: `Correct "ipv4:192.0.2.10"`},
		{name: "fail open to the world", records: []string{widgetSPF("v=spf1 +all")}, want: Fail, seen: "whole world", record: `widget.com. IN TXT "v=spf1 ip4:192.0.2.10 ~all"`},
		{name: "fail with eleven look-ups", records: includes(11), want: Fail, seen: "11 of 10", text: "include:s1.example costs 11"},
		{name: "fail with three voids", records: []string{widgetSPF("v=spf1 a:a.gone.example a:b.gone.example mx:c.gone.example ip4:192.0.2.10 -all")}, want: Fail, seen: "a.gone.example, b.gone.example, c.gone.example"},
		{name: "fail with a missing include", records: []string{widgetSPF("v=spf1 include:gone.example -all")}, want: Fail, seen: "gone.example has no SPF record"},
		{name: "fail in a circle", records: []string{widgetSPF("v=spf1 include:s1.example -all"), `s1.example. 300 TXT "v=spf1 include:widget.com -all"`}, want: Fail, seen: "in a circle"},
		{name: "fail with a broken include", records: []string{widgetSPF("v=spf1 include:s1.example -all"), `s1.example. 300 TXT "v=spf1 nonsense -all"`}, want: Fail, seen: "the record there is wrong"},
		{name: "unknown", change: deaf("widget.com.", wire.TypeTXT), want: Unknown, seen: "SERVFAIL"},
		{name: "unknown in part", records: []string{widgetSPF("v=spf1 a:x.example -all")}, change: deaf("x.example.", wire.TypeA), want: Unknown, seen: "SERVFAIL"},
	})
}

func TestCheck_spf_pass(t *testing.T) {
	const from = "widget.com from 192.0.2.10"
	try(t, "spf.pass", []step{
		{name: "pass", records: []string{widgetSPF("v=spf1 ip4:192.0.2.0/24 -all")}, subject: from, want: Pass},
		{name: "pass by an include", records: []string{widgetSPF("v=spf1 include:s.example -all"), `s.example. 300 TXT "v=spf1 a:mailout.ofc.widget.com -all"`}, subject: from, want: Pass},
		{name: "pass by exists", records: []string{widgetSPF("v=spf1 exists:%{ir}.%{v}._spf.widget.com -all"), "10.2.0.192.in-addr._spf.widget.com. 300 A 127.0.0.2"}, subject: from, want: Pass},
		{name: "fail and merged", records: []string{widgetSPF("v=spf1 ip4:198.51.100.0/24 include:s.example -all"), `s.example. 300 TXT "v=spf1 a:other.example -all"`, "other.example. 300 A 198.51.100.7"},
			subject: from, want: Fail, seen: "does not allow", record: `widget.com. IN TXT "v=spf1 ip4:198.51.100.0/24 ip4:192.0.2.10 include:s.example -all"`, text: "2 of 10 look-ups"},
		{name: "fail softly", records: []string{widgetSPF("v=spf1 ~all")}, want: Fail, seen: "softfail", record: `widget.com. IN TXT "v=spf1 ip4:192.0.2.10 ~all"`},
		{name: "fail neutral", records: []string{widgetSPF("v=spf1 ?all")}, want: Fail, seen: "neutral", record: `widget.com. IN TXT "v=spf1 ip4:192.0.2.10 ~all"`},
		{name: "fail with macros left alone", records: []string{widgetSPF("v=spf1 include:%{i}._ip.%{d}._spf.example.net ~all")}, want: Fail,
			record: `widget.com. IN TXT "v=spf1 ip4:192.0.2.10 include:%{i}._ip.%{d}._spf.example.net ~all"`, text: "a service that keeps the record"},
		{name: "fail without a record", want: Fail, seen: "none", record: `widget.com. IN TXT "v=spf1 ip4:192.0.2.10 ~all"`},
		{name: "fail with a broken record", records: []string{widgetSPF("v=spf1 ip4:1.2.3 -all")}, want: Fail, seen: "permerror", text: `Correct "ip4:1.2.3"`},
		{name: "fail over the limit", records: func() []string {
			r := includes(11)
			r[0] = widgetSPF("v=spf1 include:s1.example -all")
			return r
		}(), want: Fail, seen: "permerror", record: `widget.com. IN TXT "v=spf1 ip4:192.0.2.10 include:s1.example -all"`, text: "so the record must be mended as well"},
		{name: "skip", change: routed, want: Skip, seen: "router"},
		{name: "unknown", records: []string{widgetSPF("v=spf1 a:x.example -all")}, change: deaf("x.example.", wire.TypeA), want: Unknown, seen: "temperror"},
		{name: "unknown address", records: []string{widgetSPF("v=spf1 -all")}, change: func(w *fakeWorld, id *Identity) { id.PublicIP, id.Sources, w.local = nil, nil, nil }, want: Unknown, seen: "address.public"},
	})
}

// TestSPFAsksForTheFamilyOfTheAddress holds RFC 7208 5: "a" of an IPv4 sender
// is about A records.
func TestSPFAsksForTheFamilyOfTheAddress(t *testing.T) {
	w := newWorld(t, widgetSPF("v=spf1 a:six.example -all"), "six.example. 300 AAAA 2001:db8::5")
	x := &exam{id: goodIdentity(), world: w.world()}
	for addr, want := range map[string]string{"2001:db8::5": "pass", "192.0.2.10": "fail"} {
		if got, _ := x.evaluate(t.Context(), netip.MustParseAddr(addr), "h.example", "widget.com"); string(got) != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
	if n := slices.IndexFunc(w.asked, func(p dns.Probe) bool { return p.Type == wire.TypeAAAA }); n < 0 {
		t.Error("AAAA was not asked for")
	}
}

func TestCheck_spf_host(t *testing.T) {
	const host = "mailout.ofc.widget.com"
	record := func(text string) []string { return []string{fmt.Sprintf("%s. 300 TXT %q", host, text)} }
	try(t, "spf.host", []step{
		{name: "pass", records: record("v=spf1 a -all"), subject: host, want: Pass, seen: "192.0.2.10: pass"},
		{name: "warn", subject: host, want: Warn, seen: "no SPF record", record: host + `. IN TXT "v=spf1 a -all"`},
		{name: "warn with the record of a sender domain", subject: host, want: Warn, record: host + `. IN TXT "v=spf1 ip4:192.0.2.10 ~all"`,
			change: func(_ *fakeWorld, id *Identity) { id.Domains = []string{host} }}, // two records would count for nothing
		{name: "fail", records: record("v=spf1 -all"), want: Fail, record: host + `. IN TXT "v=spf1 ip4:192.0.2.10 -all"`},
		{name: "skip", change: routed, want: Skip},
		{name: "unknown", change: deaf(host+".", wire.TypeTXT), want: Unknown, seen: "SERVFAIL"},
		{name: "unknown in evaluation", records: record("v=spf1 a:x.example -all"), change: deaf("x.example.", wire.TypeA), want: Unknown},
	})
}
