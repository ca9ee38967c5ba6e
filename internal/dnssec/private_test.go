package dnssec

import (
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// inner is an office's server: it speaks for some zones, unsigned, and knows
// nothing of their parents there.
func inner(zones ...string) func(*dns.Msg) {
	return func(m *dns.Msg) {
		q := m.Question[0]
		for _, zone := range zones {
			if !dns.IsSubDomain(zone, q.Name) {
				continue
			}
			m.Rcode, m.Answer, m.Ns = dns.RcodeSuccess, nil, nil
			if strings.HasPrefix(q.Name, "gone.") {
				m.Rcode = dns.RcodeNameError
			}
			text := zone + " 60 IN SOA ns." + zone + " a. 1 2 3 4 5"
			section := &m.Ns
			if q.Qtype == dns.TypeMX && m.Rcode == dns.RcodeSuccess {
				text, section = q.Name+" 60 IN MX 10 mx."+zone, &m.Answer
			}
			rr, err := dns.NewRR(text)
			if err != nil {
				panic(err)
			}
			*section = []dns.RR{rr}
		}
	}
}

// TestPrivateNames: what an inner server says of names that are not there for all
// the world to see, of inner top-level names, and of zones that the operator
// names, is used without signatures; nothing else is.
func TestPrivateNames(t *testing.T) {
	t.Parallel()
	w := common(t)
	// It speaks for the name below alone: the proof that it is not there can be had.
	w.alter = inner("mail.corp.ec.test.", "mail.corp.hash.test.", "mail.nowhere.", "mail.sub.wild.ec.test.")
	for _, zone := range []string{"corp.ec.test.", "corp.hash.test.", "nowhere."} {
		w.expect(t, "mail."+zone+" MX", Insecure, zone+" is not there")
		w.expect(t, "mail."+zone+" AAAA", Insecure, "private")
		w.expect(t, "gone.mail."+zone+" MX", Insecure, "private")
	}
	// Names that are there, or a wildcard's, are not private.
	w.expect(t, "mail.sub.wild.ec.test. MX", Bogus, "")
	w.alter = inner("mx.ec.test.", "ed.test.")
	w.expect(t, "mx.ec.test. MX", Bogus, "")
	w.expect(t, "mx.ed.test. MX", Bogus, "no proof")

	// Of inner top-level names not even the proof can be had.
	w.alter = inner("local.", "lan.", "example.")
	w.expect(t, "corp.local. MX", Insecure, "local. is private")
	w.expect(t, "gone.office.lan. MX", Insecure, "lan. is private")
	w.expect(t, "corp.example. MX", Bogus, "example.")

	w.alter = inner("ec.test.", "ed.test.", "inner.hash.test.")
	w.Validator = New(Options{Anchors: w.anchors, Source: w.source, Now: w.clock, Private: []string{"EC.test", "inner.hash.test."}})
	w.expect(t, "ec.test. MX", Insecure, "ec.test. is private")
	w.expect(t, "gone.ec.test. MX", Insecure, "")
	w.expect(t, "a.inner.hash.test. MX", Insecure, "")
	w.expect(t, "xec.test. MX", Secure, "")
	w.expect(t, "hash.test. MX", Secure, "")
	w.expect(t, "ed.test. MX", Bogus, "")
	// What the world's servers say of a name in it is still signed by its parent.
	w.alter = nil
	w.expect(t, "x.inner.hash.test. MX", Secure, "")

	// An anchor below a private name counts for what is below it.
	deeper, err := ParseAnchors(strings.NewReader(w.Anchor(".") + "\n" + w.Anchor("ec.test.")))
	if err != nil {
		t.Fatal(err)
	}
	w.Validator = New(Options{Anchors: deeper, Source: w.source, Now: w.clock, Private: []string{"test"}})
	w.expect(t, "ec.test. MX", Secure, "")
	w.expect(t, "ed.test. MX", Insecure, "test. is private")
}

// TestCompactDenial: a name that its own record says is not there (RFC 9824).
func TestCompactDenial(t *testing.T) {
	t.Parallel()
	w := common(t)
	rr, err := dns.NewRR(`corp.ec.test. 60 IN NSEC \000.corp.ec.test. RRSIG NSEC NXNAME`)
	if err != nil {
		t.Fatal(err)
	}
	compact := []dns.RR{rr, w.SignAs("ec.test.", []dns.RR{rr})}
	w.alter = func(m *dns.Msg) {
		inner("mail.corp.ec.test.")(m)
		if m.Question[0].Name == "corp.ec.test." {
			m.Rcode, m.Answer, m.Ns = dns.RcodeSuccess, nil, compact
		}
	}
	w.expect(t, "corp.ec.test. MX", Secure, "")
	w.expect(t, "mail.corp.ec.test. MX", Insecure, "private")
}

// TestDenialInCapitals: the next name of a denial is signed as it is written; it
// may be looked at more than once.
func TestDenialInCapitals(t *testing.T) {
	t.Parallel()
	w := common(t)
	rr, err := dns.NewRR("alias.ec.test. 60 IN NSEC MX.EC.test. CNAME RRSIG NSEC")
	if err != nil {
		t.Fatal(err)
	}
	sets := rrsets([]dns.RR{rr, w.SignAs("ec.test.", []dns.RR{rr})})
	work := w.work(t.Context(), "gone.ec.test.")
	z, err := work.zone("ec.test.")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		d := work.denier(z, sets)
		if d.why != nil || d.covering("gone.ec.test.") == nil || d.covering("x.ec.test.") != nil {
			t.Errorf("%+v", d)
		}
	}
}

// TestAliasOfDNAME: a CNAME that is asked for by its type, and that a DNAME makes.
func TestAliasOfDNAME(t *testing.T) {
	t.Parallel()
	w := common(t)
	for _, zone := range []string{"ec", "hash"} {
		w.expect(t, "x.moved."+zone+".test. CNAME", Secure, "")
		w.expect(t, "alias."+zone+".test. CNAME", Secure, "")
	}
}

// TestOddKeys: what is signed by a key of a size that nobody checks here is
// insecure; what no key of the zone signed is bogus all the same.
func TestOddKeys(t *testing.T) {
	t.Parallel()
	w := common(t)
	work := w.work(t.Context(), "ec.test.")
	z, err := work.zone("ec.test.")
	if err != nil {
		t.Fatal(err)
	}
	keys := append([]key(nil), z.keys...)
	for i := range keys {
		keys[i].odd = true
	}
	s := pick(rrsets(w.answer("ec.test.", dns.TypeMX).Answer), "ec.test.", dns.TypeMX)
	if _, err := work.check(s, "ec.test.", keys); StatusOf(err) != Insecure {
		t.Error(err)
	}
	if _, err := work.check(s, "ec.test.", append(keys, z.keys...)); err != nil {
		t.Error(err)
	}
	s.sigs[0].KeyTag++
	if _, err := work.check(s, "ec.test.", keys); StatusOf(err) != Bogus {
		t.Error(err)
	}
}
