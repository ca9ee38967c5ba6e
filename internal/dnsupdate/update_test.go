package dnsupdate

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	wire "github.com/miekg/dns"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const host = "mailout.ofc.widget.com"

func plan(t *testing.T, u *Updater, changes ...Change) Plan {
	t.Helper()
	p, err := u.Plan(context.Background(), changes)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func apply(t *testing.T, u *Updater, p Plan) {
	t.Helper()
	if err := u.Apply(context.Background(), p.Edits); err != nil {
		t.Fatal(err)
	}
}

func TestAddressIsReplaced(t *testing.T) {
	t.Parallel()
	p, u := newPrimary(t, nil, nil, host+". 600 A 192.0.2.1")
	got := plan(t, u, Change{Name: host, Type: "A", Add: []string{"198.51.100.7"}, Only: true})
	if len(got.Edits) != 1 || len(got.ByHand) != 0 {
		t.Fatalf("%+v", got)
	}
	e := got.Edits[0]
	if e.Zone != "widget.com." || !slices.Equal(e.Removed(), []string{"192.0.2.1"}) || !slices.Equal(e.Added(), []string{"198.51.100.7"}) || e.OldTTL.Seconds() != 600 {
		t.Errorf("%+v", e)
	}
	if has := p.Records(host+".", wire.TypeA); !slices.Equal(has, []string{"192.0.2.1"}) {
		t.Errorf("planning changed the zone: %v", has)
	}
	apply(t, u, got)
	if has := p.Records(host+".", wire.TypeA); !slices.Equal(has, []string{"198.51.100.7"}) {
		t.Errorf("%v", has)
	}
	if again := plan(t, u, Change{Name: host, Type: "A", Add: []string{"198.51.100.7"}, Only: true}); len(again.Edits) != 0 {
		t.Errorf("planned again: %+v", again)
	}
}

func TestNewRecordAndItsNegativeTTL(t *testing.T) {
	t.Parallel()
	p, u := newPrimary(t, nil, func(o *Options) { o.Zone = "" })
	got := plan(t, u, Change{Name: host, Type: "AAAA", Add: []string{"2001:db8::1"}})
	if len(got.Edits) != 1 || got.Edits[0].Zone != "widget.com." || got.Edits[0].OldTTL.Seconds() != 120 {
		t.Fatalf("%+v", got)
	}
	apply(t, u, got)
	if has := p.Records(host+".", wire.TypeAAAA); !slices.Equal(has, []string{"2001:db8::1"}) {
		t.Errorf("%v", has)
	}
}

// TestOtherTextsStay: the values of others at the same name are not ours.
func TestOtherTextsStay(t *testing.T) {
	t.Parallel()
	p, u := newPrimary(t, nil, nil, `widget.com. 300 TXT "verification=abc"`, `widget.com. 300 TXT "v=spf1 " "mx -all"`)
	long := "v=spf1 mx ip4:192.0.2.1 -all " + strings.Repeat("x", 300)
	got := plan(t, u,
		Change{Name: "widget.com", Type: "TXT", Remove: []string{"v=spf1 mx -all"}},
		Change{Name: "Widget.com.", Type: "TXT", Add: []string{long}})
	if len(got.Edits) != 1 || len(got.Edits[0].Removed()) != 1 || len(got.Edits[0].Added()) != 1 {
		t.Fatalf("%+v", got)
	}
	apply(t, u, got)
	has := p.Records("widget.com.", wire.TypeTXT)
	if len(has) != 2 || !slices.Contains(has, `"verification=abc"`) || !slices.Contains(has, `"`+long[:255]+`" "`+long[255:]+`"`) {
		t.Errorf("%v", has)
	}
}

func TestTextIsTheSameHoweverItIsWritten(t *testing.T) {
	t.Parallel()
	_, u := newPrimary(t, nil, nil, `k._domainkey.widget.com. 300 TXT "v=DKIM1; " "p=AB\"C\\D\195\188"`)
	for _, v := range []string{`v=DKIM1; p=AB"C\Dü`, `"v=DKIM1; p=AB\"C" "\\Dü"`} {
		if got := plan(t, u, Change{Name: "k._domainkey.widget.com", Type: "TXT", Add: []string{v}, Only: true}); len(got.Edits) != 0 {
			t.Errorf("%s: %+v", v, got)
		}
	}
}

func TestSomebodyElsesChangeIsNotOverwritten(t *testing.T) {
	t.Parallel()
	for name, records := range map[string][]string{"changed": {host + ". 300 A 192.0.2.1"}, "new": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, u := newPrimary(t, nil, nil, records...)
			got := plan(t, u, Change{Name: host, Type: "A", Add: []string{"198.51.100.7"}, Only: true})
			put(t, p, host+". 300 A 203.0.113.99")
			err := u.Apply(context.Background(), got.Edits)
			if !IsChanged(err) || !strings.Contains(err.Error(), "meanwhile") {
				t.Errorf("%v", err)
			}
			if has := p.Records(host+".", wire.TypeA); slices.Contains(has, "198.51.100.7") {
				t.Errorf("%v", has)
			}
		})
	}
}

// TestAliasIsNotIgnoredInSilence: a server leaves a CNAME in place and says
// NOERROR (RFC 2136 3.4.2.2).
func TestAliasIsNotIgnoredInSilence(t *testing.T) {
	t.Parallel()
	p, u := newPrimary(t, nil, nil)
	wanted := Change{Name: host, Type: "A", Add: []string{"198.51.100.7"}}
	got := plan(t, u, wanted)
	put(t, p, host+". 300 CNAME other.widget.com.")
	if err := u.Apply(context.Background(), got.Edits); !IsChanged(err) {
		t.Errorf("an alias that came meanwhile: %v", err)
	}
	got = plan(t, u, wanted)
	if len(got.Edits) != 0 || len(got.ByHand) != 1 || !strings.Contains(got.ByHand[0].Why, "alias") {
		t.Errorf("%+v", got)
	}
}

func TestWildcardIsNoRecordOfTheName(t *testing.T) {
	t.Parallel()
	for name, records := range map[string][]string{
		"wildcard alone": {"*.ofc.widget.com. 300 A 192.0.2.1"},
		"both":           {"*.ofc.widget.com. 300 A 192.0.2.1", host + ". 300 A 192.0.2.1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, u := newPrimary(t, nil, nil, records...)
			apply(t, u, plan(t, u, Change{Name: host, Type: "A", Add: []string{"198.51.100.7"}, Only: true}))
			if has := p.Records(host+".", wire.TypeA); !slices.Equal(has, []string{"198.51.100.7"}) {
				t.Errorf("%v", has)
			}
			if has := p.Records("*.ofc.widget.com.", wire.TypeA); !slices.Equal(has, []string{"192.0.2.1"}) {
				t.Errorf("the wildcard changed: %v", has)
			}
		})
	}
}

func TestOutsideOfTheZoneIsByHand(t *testing.T) {
	t.Parallel()
	p, _ := newPrimary(t, nil, nil)
	for _, zone := range []string{"widget.com", ""} {
		u := newUpdater(p, func(o *Options) { o.Zone = zone })
		got := plan(t, u, Change{Name: "other.example", Type: "TXT", Add: []string{"x"}})
		if len(got.Edits) != 0 || len(got.ByHand) != 1 || got.ByHand[0].Change.Name != "other.example" {
			t.Errorf("zone %q: %+v", zone, got)
		}
	}
	u := newUpdater(p, func(o *Options) { o.Zone = "example" })
	if _, err := u.Plan(context.Background(), []Change{{Name: "other.example", Type: "TXT", Add: []string{"x"}}}); err == nil || !strings.Contains(err.Error(), "REFUSED") {
		t.Errorf("a configured zone that the server does not have: %v", err)
	}
}

func TestRefusalsSayWhatToDo(t *testing.T) {
	t.Parallel()
	type reply = func(w wire.ResponseWriter, m *wire.Msg)
	spoil := func(change func(m *wire.Msg)) reply {
		return func(w wire.ResponseWriter, m *wire.Msg) { change(m); _ = w.WriteMsg(m) }
	}
	code := func(rcode int) reply { return spoil(func(m *wire.Msg) { m.Rcode = rcode }) }
	// TSIG errors: the library's server does not sign the reply then, as RFC
	// 8945 5.2 has it for the first two.
	tsig := func(rcode uint16, other string) reply {
		return spoil(func(m *wire.Msg) {
			m.Rcode = wire.RcodeNotAuth
			t := m.IsTsig()
			t.Error, t.OtherData, t.OtherLen = rcode, other, uint16(len(other)/2)
		})
	}
	for _, c := range []struct {
		name, code, text string
		key              func(o *Options)
		reply            reply
	}{
		{"REFUSED", "REFUSED", "allow", nil, code(wire.RcodeRefused)},
		{"REFUSED without a key", "REFUSED", "give a key", func(o *Options) { o.Key = Key{} }, nil},
		{"NOTAUTH", "NOTAUTH", "secondary", nil, code(wire.RcodeNotAuth)},
		{"NOTZONE", "NOTZONE", "outside", nil, code(wire.RcodeNotZone)},
		{"NOTIMP", "NOTIMP", "no updates", nil, code(wire.RcodeNotImplemented)},
		{"SERVFAIL", "SERVFAIL", "log", nil, code(wire.RcodeServerFailure)},
		{"FORMERR", "FORMERR", "read", nil, code(wire.RcodeFormatError)},
		{"NXRRSET", "NXRRSET", "meanwhile", nil, code(wire.RcodeNXRrset)},
		{"BADSIG", "BADSIG", "another secret for the key mailout", nil, tsig(wire.RcodeBadSig, "")},
		{"BADKEY", "BADKEY", "no key mailout with hmac-sha256", nil, tsig(wire.RcodeBadKey, "")},
		{"BADTIME", "BADTIME", "there 2001-09-09 01:46:40 UTC", nil, tsig(wire.RcodeBadTime, "00003b9aca00")},
		{"BADTRUNC", "BADTRUNC", "longer", nil, tsig(wire.RcodeBadTrunc, "")},
		{"unsigned success", "not signed", "anybody", nil, spoil(func(m *wire.Msg) { m.Extra = nil })},
		{"reply to something else", "no valid reply", "something else", nil, spoil(func(m *wire.Msg) { m.Id++; m.Extra = nil })},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, u := newPrimary(t, c.reply, c.key)
			err := u.Apply(context.Background(), plan(t, u, Change{Name: host, Type: "A", Add: []string{"198.51.100.7"}}).Edits)
			var e *Error
			if !errors.As(err, &e) || e.Code != c.code || !strings.Contains(e.Text, c.text) || e.Zone != "widget.com" {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestForgedSuccessIsNotBelieved: somebody between us and the server.
func TestForgedSuccessIsNotBelieved(t *testing.T) {
	t.Parallel()
	_, u := newPrimary(t, func(w wire.ResponseWriter, m *wire.Msg) {
		raw, _, err := wire.TsigGenerate(m, "d3Jvbmc=", "", false)
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write(raw)
	}, nil)
	edits := plan(t, u, Change{Name: host, Type: "A", Add: []string{"198.51.100.7"}}).Edits
	if err := u.Apply(context.Background(), edits); err == nil || !strings.Contains(err.Error(), "not signed with our key") {
		t.Errorf("%v", err)
	}
}

func TestAlgorithms(t *testing.T) {
	t.Parallel()
	p, _ := newPrimary(t, nil, nil)
	for i, a := range []string{"hmac-sha1", "hmac-sha224", "hmac-sha256", "hmac-sha384", "hmac-sha512"} {
		u := newUpdater(p, func(o *Options) { o.Key.Algorithm = a })
		apply(t, u, plan(t, u, Change{Name: a + ".widget.com", Type: "TXT", Add: []string{a}}))
		if p.Updates() != i+1 || !slices.Equal(p.Records(a+".widget.com", wire.TypeTXT), []string{`"` + a + `"`}) {
			t.Errorf("%s: %d updates", a, p.Updates())
		}
	}
}

func TestImpossibleValues(t *testing.T) {
	t.Parallel()
	_, u := newPrimary(t, nil, nil)
	for _, c := range []Change{
		{Name: host, Type: "A", Add: []string{"not an address"}},
		{Name: host, Type: "A", Add: []string{""}},
		{Name: host, Type: "A", Add: []string{"192.0.2.1\nwidget.com. A 192.0.2.2"}},
		{Name: host, Type: "NOTYPE", Add: []string{"x"}},
		{Name: "$INCLUDE /etc/hostname widget.com", Type: "A", Add: []string{"192.0.2.1"}},
		{Name: host, Type: "TXT", Add: []string{strings.Repeat("x", 70000)}},
	} {
		if got, err := u.Plan(context.Background(), []Change{c}); err == nil && len(got.ByHand) == 0 {
			t.Errorf("%.60v was planned: %+v", c, got)
		}
	}
	if _, err := u.Plan(context.Background(), make([]Change, MaxChanges+1)); err == nil {
		t.Error("more changes than the bound were planned")
	}
}

func TestServerIsDown(t *testing.T) {
	t.Parallel()
	p, u := newPrimary(t, func(w wire.ResponseWriter, _ *wire.Msg) { w.Close() }, nil)
	edits := plan(t, u, Change{Name: host, Type: "A", Add: []string{"198.51.100.7"}}).Edits
	if err := u.Apply(context.Background(), edits); err == nil || !strings.Contains(err.Error(), "may have made all the same") {
		t.Errorf("%v", err)
	}
	down := newUpdater(p, func(o *Options) { o.Server = "127.0.0.1:1" })
	if _, err := down.Plan(context.Background(), []Change{{Name: host, Type: "A", Add: []string{"192.0.2.1"}}}); err == nil {
		t.Error("a server that is not there was asked")
	}
}
