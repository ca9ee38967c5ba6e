package doctor

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"mailout/internal/dns"

	"mailout/internal/dkim"
)

// keyFile writes a new key and gives its path.
func keyFile(t *testing.T, a dkim.Algorithm, mode os.FileMode) (*dkim.Key, string) {
	t.Helper()
	k, err := dkim.Generate(a, 0)
	if err != nil {
		t.Fatal(err)
	}
	text, err := k.PEM()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(path, text, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // past the umask
		t.Fatal(err)
	}
	return k, path
}

func plan(t *testing.T, w *fakeWorld, id Identity) *Plan {
	t.Helper()
	return PlanRecords(t.Context(), id, w.world(), Options{})
}

// planned gives the record of a name and type, whose text begins in a way.
func planned(t *testing.T, p *Plan, name, kind, value string) Record {
	t.Helper()
	for _, r := range p.All() {
		if r.Name == name && r.Type == kind && strings.HasPrefix(r.Value, value) {
			return r
		}
	}
	t.Fatalf("no %s %s %s in %+v", name, kind, value, p)
	return Record{}
}

func TestPlanOfAnEmptyZone(t *testing.T) {
	w := newWorld(t)
	w.withdraw("mailout.ofc.widget.com", wire.TypeA)
	w.withdraw("10.2.0.192.in-addr.arpa", wire.TypePTR)
	key, path := keyFile(t, dkim.RSA, 0o600)
	id := goodIdentity()
	id.DKIM = []DKIMKey{{Domain: "widget.com", Selector: "m2026", Path: path}}
	p := plan(t, w, id)
	want := [][3]string{
		{"mailout.ofc.widget.com", "A", "192.0.2.10"},
		{"mailout.ofc.widget.com", "TXT", "v=spf1 a -all"},
		{"widget.com", "TXT", "v=spf1 ip4:192.0.2.10 ~all"},
		{"m2026._domainkey.widget.com", "TXT", key.TXT()},
		{"_dmarc.widget.com", "TXT", "v=DMARC1; p=none; rua=mailto:postmaster@widget.com"},
		{"widget.com", "MX", "10 mailout.ofc.widget.com"},
		{"10.2.0.192.in-addr.arpa", "PTR", "mailout.ofc.widget.com"},
	}
	var got [][3]string
	for _, r := range p.All() {
		got = append(got, [3]string{r.Name, r.Type, r.Value})
		if r.Status != RecordMissing || r.For == "" {
			t.Errorf("%+v", r)
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%q", got)
	}
	if len(p.Reverse) != 1 || p.Reverse[0].Who != AddressProvider || !strings.Contains(p.Reverse[0].Words, "Please set the reverse DNS (PTR) record of 192.0.2.10 to mailout.ofc.widget.com") {
		t.Errorf("%+v", p.Reverse)
	}
	// What the plan says, published, makes the plan and the checks content.
	for _, r := range p.All() {
		w.publish(r.Zoned())
	}
	if again := plan(t, w, id); !again.Complete() || len(again.Changes()) != 0 {
		t.Errorf("published as told: %+v", again)
	}
	report := Examine(t.Context(), id, w.world(), Options{Only: []string{"spf", "dkim", "dmarc", "records"}})
	for _, c := range report.Checks {
		if c.Status != Pass {
			t.Errorf("%+v %+v", c, c.Fix)
		}
	}
}

// TestPlanOfReturns: what comes back is read here, and nobody has to guess where.
func TestPlanOfReturns(t *testing.T) {
	w, id := newWorld(t), goodIdentity()
	w.publish("widget.com. 300 MX 10 mx1.widget.com.")
	id.Returns = "bounces.widget.com"
	p := plan(t, w, id)
	planned(t, p, "bounces.widget.com", "MX", "10 mailout.ofc.widget.com")
	if notes := strings.Join(p.Notes, "\n"); strings.Contains(notes, "guess") {
		t.Error(notes)
	}
}

func TestPlanForms(t *testing.T) {
	long := strings.Repeat("x", 300)
	for _, c := range []struct {
		r                        Record
		zoned, relative, entered string
	}{
		{Record{Name: "a.widget.com", Type: "A", Value: "192.0.2.1", Zone: "widget.com"}, "a.widget.com. IN A 192.0.2.1", "a", "192.0.2.1"},
		{Record{Name: "widget.com", Type: "MX", Value: "10 mx.widget.com", Zone: "widget.com"}, "widget.com. IN MX 10 mx.widget.com.", "@", "10 mx.widget.com"},
		{Record{Name: "_dmarc.widget.com", Type: "TXT", Value: "v=DMARC1; p=none"}, `_dmarc.widget.com. IN TXT "v=DMARC1; p=none"`, "_dmarc.widget.com", "v=DMARC1; p=none"},
		{Record{Name: "k.x", Type: "TXT", Value: long, Zone: "x"}, `k.x. IN TXT "` + long[:255] + `" "` + long[255:] + `"`, "k", `"` + long[:255] + `" "` + long[255:] + `"`},
		{Record{Name: "q.x", Type: "TXT", Value: `a"b\c`, Zone: "x"}, `q.x. IN TXT "a\"b\\c"`, "q", `a"b\c`},
	} {
		if c.r.Zoned() != c.zoned || c.r.Relative() != c.relative || c.r.Entered() != c.entered {
			t.Errorf("%s | %s | %s", c.r.Zoned(), c.r.Relative(), c.r.Entered())
		}
		rr, err := RecordChange{Name: c.r.Name, Type: c.r.Type}.RR(c.r.Value, time.Minute)
		if err != nil || rr.Header().Ttl != 60 {
			t.Errorf("%v, %v", rr, err)
		}
		if txt, ok := rr.(*wire.TXT); ok && dns.Texts([]wire.RR{rr})[0] != c.r.Value {
			t.Errorf("%q became %q", c.r.Value, txt.Txt)
		}
	}
	out, err := json.Marshal(Record{Name: "n", Type: "A", Value: "v", For: "f", Status: RecordMissing, Zone: "z", Now: []string{"x"}})
	if err != nil || string(out) != `{"name":"n","type":"A","value":"v","for":"f","status":"missing"}` {
		t.Errorf("%s, %v", out, err)
	}
}

func TestPlanMergesAndReplaces(t *testing.T) {
	w := newWorld(t, "mailout.ofc.widget.com. 300 A 198.51.100.1",
		`widget.com. 300 TXT "v=spf1 mx  include:s.example -all"`, `widget.com. 300 TXT "site-verification=1"`, `s.example. 300 TXT "v=spf1 -all"`,
		"widget.com. 300 MX 10 mx.widget.com.", "mx.widget.com. 300 A 198.51.100.2",
		`_dmarc.widget.com. 300 TXT "v=DMARC1; p=none"`, `_dmarc.widget.com. 300 TXT "v=DMARC1; p=reject"`,
		"10.2.0.192.in-addr.arpa. 300 PTR old.widget.com.")
	p := plan(t, w, goodIdentity())
	want := []RecordChange{
		{Name: "mailout.ofc.widget.com", Type: "A", Zone: "widget.com", Want: []string{"192.0.2.10"}, Gone: []string{"198.51.100.1"}},
		{Name: "mailout.ofc.widget.com", Type: "TXT", Zone: "widget.com", Want: []string{"v=spf1 a -all"}},
		{Name: "widget.com", Type: "TXT", Zone: "widget.com", Want: []string{"v=spf1 ip4:192.0.2.10 mx include:s.example -all"}, Gone: []string{"v=spf1 mx  include:s.example -all"}},
		{Name: "_dmarc.widget.com", Type: "TXT", Zone: "widget.com", Want: []string{"v=DMARC1; p=reject"}, Gone: []string{"v=DMARC1; p=none"}},
	}
	if got := p.Changes(); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	if r := planned(t, p, "10.2.0.192.in-addr.arpa", "PTR", ""); r.Status != RecordDiffers || !reflect.DeepEqual(r.Now, []string{"old.widget.com"}) {
		t.Errorf("%+v", r)
	}
}

func TestPlanKeepsWhatHolds(t *testing.T) {
	w := newWorld(t, `widget.com. 300 TXT "v=spf1  ip4:192.0.2.0/24 -all"`, `_dmarc.widget.com. 300 TXT "v=DMARC1;p=reject"`,
		"news.widget.com. 300 MX 10 mx.widget.com.", "mx.widget.com. 300 A 198.51.100.2", "widget.com. 300 MX 0 .")
	id := goodIdentity()
	id.Domains = []string{"widget.com", "news.widget.com"}
	p := plan(t, w, id)
	if r := planned(t, p, "widget.com", "TXT", "v=spf1"); r.Status != RecordPublished || r.Value != "v=spf1  ip4:192.0.2.0/24 -all" {
		t.Errorf("%+v", r)
	}
	dmarc := 0
	for _, r := range p.Records {
		if strings.HasPrefix(r.Name, "_dmarc.") {
			dmarc++
		}
	}
	if r := planned(t, p, "_dmarc.widget.com", "TXT", ""); r.Status != RecordPublished || dmarc != 1 {
		t.Errorf("%d, %+v", dmarc, r)
	}
	if r := planned(t, p, "widget.com", "MX", ""); r.Status != RecordDiffers || !reflect.DeepEqual(r.Now, []string{"0 "}) {
		t.Errorf("a null MX: %+v", r)
	}
}

// TestZoneFormKeepsToItsLine: a text that others wrote stays one text.
func TestZoneFormKeepsToItsLine(t *testing.T) {
	t.Parallel()
	r := Record{Name: "widget.com", Type: "TXT", Value: "v=spf1 x=\x1b[2J\n\"evil. IN A 192.0.2.66\\ \u00e9"}
	const want = `widget.com. IN TXT "v=spf1 x=\027[2J\010\"evil. IN A 192.0.2.66\\ \195\169"`
	if r.Zoned() != want {
		t.Errorf("%s", r.Zoned())
	}
	rr, err := RecordChange{Name: r.Name, Type: r.Type}.RR(r.Value, 0)
	if err != nil || dns.Texts([]wire.RR{rr})[0] != r.Value {
		t.Errorf("%v, %v", rr, err)
	}
}

func TestPlanSaysWhatItCouldNotFind(t *testing.T) {
	noted := func(p *Plan, part string) {
		t.Helper()
		if !strings.Contains(strings.Join(p.Notes, "\n"), part) {
			t.Errorf("no %q in %q", part, p.Notes)
		}
	}
	w, id := newWorld(t), goodIdentity()
	deaf("mailout.ofc.widget.com.", wire.TypeA)(w, &id)
	if r := planned(t, plan(t, w, id), "mailout.ofc.widget.com", "A", ""); r.Status != RecordUnknown {
		t.Errorf("%+v", r)
	}
	w, id = newWorld(t), goodIdentity()
	deaf("widget.com.", wire.TypeTXT)(w, &id)
	noted(plan(t, w, id), "SPF record of widget.com is left out")
	w, id = newWorld(t, `widget.com. 300 TXT "v=spf1 include:_spf.example.net ~all"`), goodIdentity()
	deaf("_spf.example.net.", wire.TypeTXT)(w, &id)
	noted(plan(t, w, id), "SPF record of widget.com is left out: whether it lets")
	w = newWorld(t, `widget.com. 300 TXT "v=spf1 ipv4:1.2.3.4 -all"`)
	noted(plan(t, w, goodIdentity()), "must be corrected by hand")
	w, id = newWorld(t), goodIdentity()
	id.DKIM = []DKIMKey{{Domain: "widget.com", Selector: "x", Path: "/nonexistent/key.pem"}}
	noted(plan(t, w, id), "the key cannot be used")
	w, id = newWorld(t), goodIdentity()
	routed(w, &id)
	p := plan(t, w, id)
	noted(p, "A router takes all mail")
	if len(p.Reverse) != 0 {
		t.Errorf("%+v", p.Reverse)
	}
	w, id = newWorld(t), goodIdentity()
	id.PublicIP, id.Sources, w.local = nil, nil, nil
	for _, r := range plan(t, w, id).Records {
		if r.Type == "A" || r.Value == "" {
			t.Errorf("an address from nowhere: %+v", r)
		}
	}
}

// TestPlanLeavesOtherAddressesWhenItKnowsOnlySome: with one source chosen, the
// addresses of the others are not out of place.
func TestPlanLeavesOtherAddressesWhenItKnowsOnlySome(t *testing.T) {
	w := newWorld(t, "mailout.ofc.widget.com. 300 A 192.0.2.11")
	p := PlanRecords(t.Context(), goodIdentity(), w.world(), Options{Sources: []netip.Addr{netip.MustParseAddr("192.0.2.10")}})
	if r := planned(t, p, "mailout.ofc.widget.com", "A", "192.0.2.10"); r.Status != RecordPublished || r.Now != nil {
		t.Errorf("%+v", r)
	}
}
