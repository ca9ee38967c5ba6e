package doctor

import (
	"strings"
	"testing"

	wire "github.com/miekg/dns"

	"mailout/internal/dns"
)

func TestCheck_records_doubled(t *testing.T) {
	const host = "mailout.ofc.widget.com"
	try(t, "records.doubled", []step{
		{name: "pass", subject: "widget.com", want: Pass},
		{name: "pass for the host", records: []string{host + `. 300 TXT "v=spf1 a -all"`}, subject: host, want: Pass},
		{name: "pass with a wildcard", records: []string{"mailout-wildcard-check.ofc.widget.com.widget.com. 300 A 192.0.2.9", host + ".widget.com. 300 A 192.0.2.9"}, subject: host, want: Pass},
		{name: "warn about a leftover", records: []string{host + ".widget.com. 300 A 192.0.2.10"}, subject: host, want: Warn, seen: host + ".widget.com", text: `enter the name as "mailout.ofc"`},
		{name: "warn about the domain's own", records: []string{widgetSPF("v=spf1 -all"), `widget.com.widget.com. 300 TXT "v=spf1 -all"`}, subject: "widget.com", want: Warn, text: `enter the name as "@"`},
		{name: "fail doubled", records: []string{`_dmarc.widget.com.widget.com. 300 TXT "v=DMARC1; p=none"`}, subject: "widget.com", want: Fail, seen: "_dmarc.widget.com.widget.com", text: `enter the name as "_dmarc"`},
		{name: "fail doubled key", records: []string{`m1._domainkey.widget.com.widget.com. 300 TXT "v=DKIM1; p="`}, change: func(_ *fakeWorld, id *Identity) { id.DKIM = []DKIMKey{{"widget.com", "m1", "k"}} },
			subject: "widget.com", want: Fail, text: `enter the name as "m1._domainkey"`},
		{name: "fail two SPF records", records: []string{widgetSPF("v=spf1 mx -all"), widgetSPF("v=spf1 a -all")}, subject: "widget.com", want: Fail, record: `widget.com. IN TXT "v=spf1 mx a -all"`},
		{name: "fail two SPF records, one broken", records: []string{widgetSPF("v=spf1 mx -all"), widgetSPF("v=spf1 b -all")}, subject: "widget.com", want: Fail},
		{name: "fail two DMARC records", records: []string{widgetDMARC("v=DMARC1; p=none"), widgetDMARC("v=DMARC1; p=reject")}, subject: "widget.com", want: Fail, record: `_dmarc.widget.com. IN TXT "v=DMARC1; p=reject"`},
		{name: "unknown", change: deaf("_dmarc.widget.com.", wire.TypeTXT), subject: "widget.com", want: Unknown},
	})
}

func TestCheck_records_conflict(t *testing.T) {
	alias := "widget.com. 300 CNAME web.example."
	try(t, "records.conflict", []step{
		{name: "pass", subject: "widget.com", want: Pass},
		{name: "pass with an alias alone", records: []string{"_dmarc.widget.com. 300 CNAME _dmarc.host.example.", `_dmarc.host.example. 300 TXT "v=DMARC1; p=none"`}, subject: "widget.com", want: Pass},
		{name: "warn about a wildcard", records: []string{`mailout-wildcard-check.widget.com. 300 TXT "v=spf1 -all"`}, subject: "widget.com", want: Warn, seen: "*.widget.com has TXT records"},
		{name: "warn about a wildcard of keys", records: []string{`mailout-wildcard-check._domainkey.widget.com. 300 TXT "v=DKIM1; p="`}, subject: "widget.com", want: Warn, seen: "*._domainkey.widget.com"},
		{name: "fail", records: []string{alias, widgetSPF("v=spf1 -all"), "widget.com. 300 MX 10 mx.example."}, subject: "widget.com", want: Fail, seen: "SOA, NS, MX, TXT records too"},
		{name: "fail at the host", records: []string{"mailout.ofc.widget.com. 300 CNAME other.example."}, subject: "mailout.ofc.widget.com", want: Fail, seen: "A records too"},
		{name: "unknown", change: deaf("widget.com.", wire.TypeCNAME), subject: "widget.com", want: Unknown},
	})
}

func TestCheck_bounce_domain(t *testing.T) {
	mx := []string{"widget.com. 300 MX 20 mx2.widget.com.", "widget.com. 300 MX 10 mx1.widget.com.", "mx1.widget.com. 300 A 198.51.100.1", "mx2.widget.com. 300 A 198.51.100.2"}
	open := func(addresses ...string) func(*fakeWorld, *Identity) {
		return func(w *fakeWorld, _ *Identity) {
			s := newStreet(w.t, w)
			for _, a := range addresses {
				s.open(a+":25", "220 mx.widget.com ESMTP\r\n", usual, "")
			}
		}
	}
	silent := func(w *fakeWorld, _ *Identity) {
		s := newStreet(w.t, w)
		for _, a := range []string{"198.51.100.1", "198.51.100.2"} {
			s.open(a+":25", "554 no service\r\n", usual, "")
		}
	}
	try(t, "bounce.domain", []step{
		{name: "pass", records: mx, change: open("198.51.100.1", "198.51.100.2"), subject: "widget.com", want: Pass, seen: "mx1.widget.com greets"},
		{name: "pass by the second", records: mx, change: open("198.51.100.2"), want: Pass, seen: "mx2.widget.com greets"},
		{name: "pass without MX", records: []string{"widget.com. 300 A 198.51.100.1"}, change: open("198.51.100.1"), want: Pass, seen: "its own address counts"},
		{name: "warn refused", records: mx, change: open(), want: Warn, seen: "refused"},
		{name: "fail without any", want: Fail, seen: "neither MX nor address", record: "widget.com. IN MX 10 mailout.ofc.widget.com."},
		{name: "fail null MX", records: []string{"widget.com. 300 MX 0 ."}, want: Fail, seen: "RFC 7505", record: "widget.com. IN MX 10 mailout.ofc.widget.com."},
		{name: "fail without addresses", records: mx[:2], want: Fail, seen: "no address", text: "Publish address records"},
		{name: "fail, with the postmaster's server", records: mx, change: func(_ *fakeWorld, id *Identity) { id.Domains = []string{"news.widget.com"} }, subject: "news.widget.com", want: Fail,
			record: "news.widget.com. IN MX 10 mx1.widget.com."},
		{name: "fail, of the return paths", records: mx, change: func(_ *fakeWorld, id *Identity) {
			id.Domains, id.Returns = nil, "bounces.widget.com" // though the postmaster has a server
		}, subject: "bounces.widget.com", want: Fail,
			record: "bounces.widget.com. IN MX 10 mailout.ofc.widget.com."},
		{name: "unknown", change: deaf("widget.com.", wire.TypeMX), want: Unknown},
		{name: "unknown when it does not greet", records: mx, change: silent, want: Unknown, seen: "554"},
	})
}

// TestPostmastersDomainIsABounceDomain: what cannot be returned goes there.
func TestPostmastersDomainIsABounceDomain(t *testing.T) {
	w, id := newWorld(t), goodIdentity()
	id.Postmaster = "ops@elsewhere.example"
	r := Examine(t.Context(), id, w.world(), Options{Only: []string{"bounce"}})
	if c := find(t, r, "bounce.domain", "elsewhere.example"); c.Status != Fail {
		t.Errorf("%+v", c)
	}
	find(t, r, "bounce.domain", "widget.com")
}

// TestRecordChecksEndWhenDNSIsSilent: every check is unknown then, or skipped
// for want of a key, and none is fine.
func TestRecordChecksEndWhenDNSIsSilent(t *testing.T) {
	w, id := newWorld(t), goodIdentity()
	w.ask = func(dns.Probe) (*wire.Msg, error) {
		m := new(wire.Msg)
		m.Rcode = wire.RcodeServerFailure
		return m, nil
	}
	_, path := keyFile(t, "ed25519", 0o600)
	id.DKIM = []DKIMKey{{"widget.com", "m1", path}}
	for _, c := range Examine(t.Context(), id, w.world(), Options{Only: []string{"spf", "dkim", "dmarc", "records", "bounce"}}).Checks {
		if local := c.ID == "dkim.key" || c.ID == "dkim.alignment"; c.Status != Unknown && !local || local && c.Status != Pass {
			t.Errorf("%+v", c)
		}
		if strings.TrimSpace(c.Seen) == "" || c.Why == "" {
			t.Errorf("without words: %+v", c)
		}
	}
}
