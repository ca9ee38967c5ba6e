package doctor

import (
	"slices"
	"strings"
	"testing"

	wire "github.com/miekg/dns"

	"mailout/internal/dkim"
)

func widgetDMARC(text string) string { return `_dmarc.widget.com. 300 TXT "` + text + `"` }

func TestCheck_dmarc_record(t *testing.T) {
	const proposal = `IN TXT "v=DMARC1; p=none; rua=mailto:postmaster@widget.com"`
	sub := func(_ *fakeWorld, id *Identity) { id.Domains = []string{"news.widget.com"} }
	try(t, "dmarc.record", []step{
		{name: "pass", records: []string{widgetDMARC("v=DMARC1; p=reject")}, subject: "widget.com", want: Pass, seen: "policy for widget.com is reject"},
		{name: "pass watching", records: []string{widgetDMARC("v=DMARC1;p=none;rua=mailto:a@widget.com,mailto:b@news.widget.com")}, want: Pass, seen: "only watch"},
		{name: "pass from above", records: []string{widgetDMARC("v=DMARC1; p=reject; sp=quarantine")}, change: sub, want: Pass, seen: "policy for news.widget.com is quarantine, by the record of widget.com"},
		{name: "pass with old tags", records: []string{widgetDMARC("v=DMARC1; p=reject; pct=50; ri=3600; other=x")}, want: Pass, seen: "pct=50 is no longer part"},
		{name: "pass with permission", records: []string{widgetDMARC("v=DMARC1; p=none; rua=mailto:r@reports.example"), `widget.com._report._dmarc.reports.example. 300 TXT "v=DMARC1"`}, want: Pass},
		{name: "warn without a record", want: Warn, seen: "no DMARC record", record: "_dmarc.widget.com. " + proposal},
		{name: "warn without a record, reports elsewhere", change: func(_ *fakeWorld, id *Identity) { id.Postmaster = "p@elsewhere.example" }, want: Warn, record: `_dmarc.widget.com. IN TXT "v=DMARC1; p=none"`},
		{name: "warn without permission", records: []string{widgetDMARC("v=DMARC1; p=none; rua=mailto:r@reports.example!10m")}, want: Warn, seen: "has not allowed reports",
			record: `widget.com._report._dmarc.reports.example. IN TXT "v=DMARC1"`},
		{name: "warn about an address", records: []string{widgetDMARC("v=DMARC1; p=reject; rua=r@widget.com")}, want: Warn, seen: "is not mailto:ADDRESS"},
		{name: "warn testing", records: []string{widgetDMARC("v=DMARC1; p=reject; t=y")}, want: Warn, seen: "t=y"},
		{name: "warn about nothing", records: []string{widgetDMARC("v=DMARC1; p=none")}, want: Warn, seen: "nobody is told", record: "_dmarc.widget.com. " + proposal},
		{name: "fail two", records: []string{widgetDMARC("v=DMARC1; p=none"), widgetDMARC("v=DMARC1; p=reject")}, want: Fail, seen: "2 DMARC records", record: `_dmarc.widget.com. IN TXT "v=DMARC1; p=reject"`},
		{name: "fail policy", records: []string{widgetDMARC("v=DMARC1; p=refuse")}, want: Fail, seen: "p=refuse is no policy", record: "_dmarc.widget.com. " + proposal},
		{name: "fail without a policy", records: []string{widgetDMARC("v=DMARC1; adkim=s")}, want: Fail, seen: "no policy", record: "-"},
		{name: "fail syntax", records: []string{widgetDMARC("v=DMARC1; p reject")}, want: Fail, seen: "no TAG=VALUE", record: "-"},
		{name: "unknown", change: deaf("_dmarc.widget.com.", wire.TypeTXT), want: Unknown},
		{name: "unknown permission", records: []string{widgetDMARC("v=DMARC1; p=none; rua=mailto:r@reports.example")}, change: deaf("widget.com._report._dmarc.reports.example.", wire.TypeTXT), want: Unknown},
	})
}

func TestCheck_dmarc_alignment(t *testing.T) {
	_, path := keyFile(t, dkim.Ed25519, 0o600)
	signed := func(_ *fakeWorld, id *Identity) { id.DKIM = []DKIMKey{{"widget.com", "m1", path}} }
	policy, ours := widgetDMARC("v=DMARC1; p=reject"), widgetSPF("v=spf1 ip4:192.0.2.10 -all")
	try(t, "dmarc.alignment", []step{
		{name: "pass", records: []string{policy, ours}, change: signed, subject: "widget.com", want: Pass, seen: "by SPF"},
		{name: "pass behind a router", records: []string{policy}, change: func(w *fakeWorld, id *Identity) { signed(w, id); routed(w, id) }, want: Pass, seen: "by DKIM"},
		{name: "warn by SPF alone", records: []string{policy, ours}, want: Warn, seen: "by SPF alone"},
		{name: "warn by DKIM alone", records: []string{policy}, change: signed, want: Warn, seen: "by DKIM alone"},
		{name: "fail", records: []string{policy}, want: Fail, seen: "neither", text: "sign with d=widget.com"},
		{name: "skip without a record", want: Skip, seen: "dmarc.record"},
		{name: "skip behind a router", records: []string{policy}, change: routed, want: Skip, seen: "router"},
		{name: "unknown", records: []string{ours}, change: deaf("_dmarc.widget.com.", wire.TypeTXT), want: Unknown},
		{name: "unknown SPF", records: []string{policy}, change: deaf("widget.com.", wire.TypeTXT), want: Unknown},
	})
}

// TestTreeWalk holds RFC 9989 4.10: where the organization begins.
func TestTreeWalk(t *testing.T) {
	if got := walk("a.b.c.d.e.f.g.h.i.example"); !slices.Equal(got, []string{"a.b.c.d.e.f.g.h.i.example", "d.e.f.g.h.i.example", "e.f.g.h.i.example", "f.g.h.i.example", "g.h.i.example", "h.i.example", "i.example", "example"}) {
		t.Errorf("%q", got)
	}
	record := func(name, more string) string { return "_dmarc." + name + `. 300 TXT "v=DMARC1; p=none` + more + `"` }
	for _, c := range []struct {
		name    string
		records []string
		domain  string
		org     string
		decided bool
	}{
		{"nothing", nil, "a.b.example", "a.b.example", false},
		{"the fewest labels", []string{record("a.b.example", ""), record("b.example", "")}, "a.b.example", "b.example", true},
		{"psd=n ends it", []string{record("a.b.example", "; psd=n"), record("b.example", "")}, "a.b.example", "a.b.example", true},
		{"below a suffix", []string{record("b.example", "; psd=y")}, "x.a.b.example", "a.b.example", true},
		{"a suffix itself", []string{record("b.example", "; psd=y"), record("example", "")}, "b.example", "b.example", true},
		{"two records are none", []string{record("b.example", ""), record("b.example", "; t=y")}, "a.b.example", "a.b.example", false},
		{"others are skipped", []string{`_dmarc.b.example. 300 TXT "hello"`, record("example", "")}, "a.b.example", "example", true},
	} {
		w := newWorld(t, c.records...)
		x := &exam{id: goodIdentity(), world: w.world()}
		if org, decided, err := x.treeWalk(t.Context(), c.domain); org != c.org || decided != c.decided || err != nil {
			t.Errorf("%s: %s %v %v", c.name, org, decided, err)
		}
	}
}

func FuzzParseDMARC(f *testing.F) {
	for _, s := range []string{"v=DMARC1; p=none; rua=mailto:a@b.example,mailto:c@d.example!10m; adkim=s; aspf=r; t=y; psd=u; np=reject; sp=quarantine", "v=DMARC1; rua=x", "v=DMARC1;;p = reject ;"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := parseDMARC(text)
		if err != nil {
			return
		}
		if r.Policy == "" || r.Subdomains == "" {
			t.Fatalf("%q has no policy: %+v", text, r)
		}
		for _, uri := range r.Reports {
			if d, err := reportDomain(uri); err == nil && strings.Contains(d, "@") {
				t.Fatalf("%q is at %q", uri, d)
			}
		}
	})
}
