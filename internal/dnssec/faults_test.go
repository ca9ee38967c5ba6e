package dnssec

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"mailout/internal/mtatest"
)

// without leaves records of some types out of a section.
func without(section []dns.RR, types ...uint16) []dns.RR {
	return slices.DeleteFunc(slices.Clone(section), func(rr dns.RR) bool { return slices.Contains(types, rr.Header().Rrtype) })
}

// edit changes copies of the records of a type in a section.
func edit[T dns.RR](section []dns.RR, change func(T)) {
	for i, rr := range section {
		if _, ok := rr.(T); ok {
			c := dns.Copy(rr)
			change(c.(T))
			section[i] = c
		}
	}
}

// about alters the answers about one name and type alone; without a type, about
// all of them.
func about(name, qtype string, change func(*dns.Msg)) func(*dns.Msg) {
	return func(m *dns.Msg) {
		if q := m.Question[0]; q.Name == name && (qtype == "" || dns.TypeToString[q.Qtype] == qtype) {
			change(m)
		}
	}
}

// TestFaults: each way in which an answer or its chain can be wrong.
func TestFaults(t *testing.T) {
	t.Parallel()
	for _, zone := range []string{"ec.test.", "hash.test.", "rsa.test.", "ed.test."} {
		mx, wild, gone := zone, "any.wild."+zone, "gone."+zone
		sig := func(change func(*dns.RRSIG)) func(*dns.Msg) {
			return func(m *dns.Msg) { edit(m.Answer, change); edit(m.Ns, change) }
		}
		for _, c := range []struct {
			fault    string
			question string
			alter    func(*dns.Msg)
			want     Status
			why      string
		}{
			{"no signature", mx + " MX", about(mx, "MX", func(m *dns.Msg) { m.Answer = without(m.Answer, dns.TypeRRSIG) }), Bogus, "no signature"},
			{"another record", mx + " MX", about(mx, "MX", func(m *dns.Msg) { edit(m.Answer, func(r *dns.MX) { r.Mx = "evil.example." }) }), Bogus, "is wrong"},
			{"a record more", mx + " MX", about(mx, "MX", func(m *dns.Msg) {
				c := dns.Copy(m.Answer[0]).(*dns.MX)
				c.Mx = "evil.example."
				m.Answer = append(m.Answer, c)
			}), Bogus, "is wrong"},
			{"the same record twice", mx + " MX", about(mx, "MX", func(m *dns.Msg) { m.Answer = append(m.Answer, m.Answer[0]) }), Secure, ""},
			{"expired", mx + " MX", about(mx, "MX", sig(func(r *dns.RRSIG) { r.Expiration = uint32(testNow.Add(-time.Hour).Unix()) })), Bogus, "expired"},
			{"longer than signed", mx + " MX", about(mx, "MX", sig(func(r *dns.RRSIG) { r.Expiration += 3600 })), Bogus, "is wrong"},
			{"not yet valid", mx + " MX", about(mx, "MX", sig(func(r *dns.RRSIG) { r.Inception = uint32(testNow.Add(time.Hour).Unix()) })), Bogus, "not valid before"},
			{"ends before it begins", mx + " MX", about(mx, "MX", sig(func(r *dns.RRSIG) { r.Inception = r.Expiration + 1 })), Bogus, "ends before"},
			{"another signer", mx + " MX", about(mx, "MX", sig(func(r *dns.RRSIG) { r.SignerName = "test." })), Bogus, "is wrong|no signature"},
			{"a signer that is no zone", mx + " MX", about(mx, "MX", sig(func(r *dns.RRSIG) { r.SignerName = "mx." + zone })), Bogus, "no signature"},
			{"a signer elsewhere", mx + " MX", about(mx, "MX", sig(func(r *dns.RRSIG) { r.SignerName = "free.test." })), Bogus, "no signature"},
			{"another tag", mx + " MX", about(mx, "MX", sig(func(r *dns.RRSIG) { r.KeyTag++ })), Bogus, "no signature"},
			{"another algorithm", mx + " MX", about(mx, "MX", sig(func(r *dns.RRSIG) { r.Algorithm = 12 })), Bogus, "no signature"},
			{"another time to live", mx + " MX", about(mx, "MX", sig(func(r *dns.RRSIG) { r.OrigTtl++ })), Bogus, "is wrong"},
			{"more labels", mx + " MX", about(mx, "MX", sig(func(r *dns.RRSIG) { r.Labels++ })), Bogus, "is wrong"},
			{"fewer labels", "mx." + zone + " A", about("mx."+zone, "A", sig(func(r *dns.RRSIG) { r.Labels-- })), Bogus, "is wrong"},
			{"no labels", "mx." + zone + " A", about("mx."+zone, "A", sig(func(r *dns.RRSIG) { r.Labels = 0 })), Bogus, "no signature"},
			{"another class", mx + " MX", about(mx, "MX", func(m *dns.Msg) {
				edit(m.Answer, func(r *dns.MX) { r.Hdr.Class = dns.ClassCHAOS })
			}), Bogus, "no proof"},
			{"names in capitals", mx + " MX", about(mx, "MX", func(m *dns.Msg) {
				edit(m.Answer, func(r *dns.MX) { r.Hdr.Name, r.Mx = strings.ToUpper(r.Hdr.Name), strings.ToUpper(r.Mx) })
			}), Secure, ""},
			{"a wrong DS", mx + " MX", about(zone, "DS", func(m *dns.Msg) { edit(m.Answer, func(r *dns.DS) { r.KeyTag++ }) }), Bogus, "is wrong"},
			{"no DS signature", mx + " MX", about(zone, "DS", func(m *dns.Msg) { m.Answer = without(m.Answer, dns.TypeRRSIG) }), Bogus, "no signature"},
			{"no DS at all", mx + " MX", about(zone, "DS", func(m *dns.Msg) { m.Answer, m.Ns = nil, nil }), Bogus, "no proof"},
			{"DS of the child", mx + " MX", about(zone, "DS", func(m *dns.Msg) { m.Answer = nil }), Bogus, "no proof"},
			{"no keys", mx + " MX", about(zone, "DNSKEY", func(m *dns.Msg) { m.Answer = nil }), Bogus, "has no keys"},
			{"keys without a signature", mx + " MX", about(zone, "DNSKEY", func(m *dns.Msg) { m.Answer = without(m.Answer, dns.TypeRRSIG) }), Bogus, "no signature"},
			{"keys of others", mx + " MX", about(zone, "DNSKEY", func(m *dns.Msg) {
				edit(m.Answer, func(r *dns.DNSKEY) { r.Protocol = 4 })
			}), Bogus, "no key of"},
			{"revoked keys", mx + " MX", about(zone, "DNSKEY", func(m *dns.Msg) {
				edit(m.Answer, func(r *dns.DNSKEY) { r.Flags |= dns.REVOKE })
			}), Bogus, "no key of"},
			{"keys of no zone", mx + " MX", about(zone, "DNSKEY", func(m *dns.Msg) {
				edit(m.Answer, func(r *dns.DNSKEY) { r.Flags &^= dns.ZONE })
			}), Bogus, "no key of"},
			{"silence about the keys", mx + " MX", about(zone, "DNSKEY", func(m *dns.Msg) { m.Rcode = dns.RcodeServerFailure }), Indeterminate, "silence"},
			{"silence about the DS", mx + " MX", about(zone, "DS", func(m *dns.Msg) { m.Rcode = dns.RcodeServerFailure }), Indeterminate, "silence"},
			{"a wildcard without its proof", wild + " TXT", about(wild, "TXT", func(m *dns.Msg) { m.Ns = nil }), Bogus, "closer"},
			{"a wildcard's proof without a signature", wild + " TXT", about(wild, "TXT", func(m *dns.Msg) { m.Ns = without(m.Ns, dns.TypeRRSIG) }), Bogus, "no signature"},
			{"NXDOMAIN without a proof", gone + " MX", about(gone, "", func(m *dns.Msg) { m.Ns = m.Ns[:2] }), Bogus, "no proof"},
			{"NXDOMAIN without anything", gone + " MX", about(gone, "", func(m *dns.Msg) { m.Ns = nil }), Bogus, "no proof"},
			{"NXDOMAIN without a signature", gone + " MX", about(gone, "", func(m *dns.Msg) { m.Ns = without(m.Ns, dns.TypeRRSIG) }), Bogus, "no signature"},
			{"NXDOMAIN of a name that is there", mx + " MX", about(mx, "MX", func(m *dns.Msg) { m.Rcode, m.Answer = dns.RcodeNameError, nil }), Bogus, "no proof"},
			{"NODATA of data", mx + " MX", about(mx, "MX", func(m *dns.Msg) { m.Answer = nil }), Bogus, "no proof"},
			{"NODATA turned to NXDOMAIN", "mx." + zone + " MX", about("mx."+zone, "MX", func(m *dns.Msg) { m.Rcode = dns.RcodeNameError }), Bogus, "no proof"},
			{"NXDOMAIN turned to NODATA", gone + " MX", about(gone, "MX", func(m *dns.Msg) { m.Rcode = dns.RcodeSuccess }), Insecure, "private"},
			{"an alias to elsewhere", "alias." + zone + " A", about("alias."+zone, "A", func(m *dns.Msg) {
				edit(m.Answer, func(r *dns.CNAME) { r.Target = "gone." + zone })
			}), Bogus, "is wrong"},
			{"an alias without a signature", "alias." + zone + " A", about("alias."+zone, "A", func(m *dns.Msg) {
				m.Answer = slices.DeleteFunc(m.Answer, func(rr dns.RR) bool {
					s, ok := rr.(*dns.RRSIG)
					return ok && s.TypeCovered == dns.TypeCNAME
				})
			}), Bogus, "no signature"},
			{"an alias alone", "alias." + zone + " A", about("alias."+zone, "A", func(m *dns.Msg) { m.Answer = m.Answer[:2] }), Secure, ""},
			{"an alias that no DNAME makes", "x.moved." + zone + " A", about("x.moved."+zone, "A", func(m *dns.Msg) {
				edit(m.Answer, func(r *dns.CNAME) { r.Target = "mx." + zone })
			}), Bogus, "no signature"},
			{"a DNAME to elsewhere", "x.moved." + zone + " A", about("x.moved."+zone, "A", func(m *dns.Msg) {
				edit(m.Answer, func(r *dns.DNAME) { r.Target = "evil." + zone })
				edit(m.Answer, func(r *dns.CNAME) { r.Target = "x.evil." + zone })
			}), Bogus, "is wrong"},
			{"an alias to itself", "alias." + zone + " A", about("alias."+zone, "A", func(m *dns.Msg) {
				edit(m.Answer, func(r *dns.CNAME) { r.Target = "alias." + zone })
			}), Bogus, ""},
		} {
			t.Run(zone+" "+c.fault, func(t *testing.T) {
				t.Parallel()
				w := common(t)
				name, qtype, _ := strings.Cut(c.question, " ")
				if v := w.verdict(name, dns.StringToType[qtype]); v.Status != Secure {
					t.Fatalf("without the fault: %v (%s)", v.Status, v.Why)
				}
				w.Flush()
				w.alter = c.alter
				v := w.verdict(name, dns.StringToType[qtype])
				fits := slices.ContainsFunc(strings.Split(c.why, "|"), func(s string) bool { return strings.Contains(v.Why, s) })
				if v.Status != c.want || !fits {
					t.Errorf("%s (%s), want %s (%s)", v.Status, v.Why, c.want, c.why)
				}
			})
		}
	}
}

// TestForgedProofs: records that are signed, and say something else than they
// are shown for.
func TestForgedProofs(t *testing.T) {
	t.Parallel()
	w := common(t)
	proofs := func(name string, qtype uint16) []dns.RR { return w.Answer(name, qtype, true).Ns }
	forged := func(zone, text string) []dns.RR {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		return []dns.RR{rr, w.SignAs(zone, []dns.RR{rr})}
	}
	answers := func(name string, qtype uint16) []dns.RR { return w.Answer(name, qtype, true).Answer }
	for _, c := range []struct {
		name     string
		question string
		rcode    int
		answer   []dns.RR
		ns       []dns.RR
		want     Status
	}{
		{"no DS, by the child's own record", "ec.test. DS", 0, nil, proofs("ec.test.", dns.TypeTLSA), Bogus},
		{"no DS, by the child's own hashed record", "hash.test. DS", 0, nil, proofs("hash.test.", dns.TypeTLSA), Bogus},
		{"no MX, by the parent's record of a delegation", "free.test. MX", 0, nil, proofs("free.test.", dns.TypeDS), Insecure},
		{"no MX of a signed child, by the parent's record", "ec.test. MX", 0, nil, proofs("free.test.", dns.TypeDS), Bogus},
		{"a name below a delegation, by the delegation's record", "mx.unsigned.ec.test. A", 3, nil, proofs("unsigned.ec.test.", dns.TypeDS), Insecure},
		{"another name's absence", "mx.ec.test. A", 3, nil, proofs("gone.ec.test.", dns.TypeA), Bogus},
		{"another name's absence, hashed", "mx.hash.test. A", 3, nil, proofs("gone.hash.test.", dns.TypeA), Bogus},
		{"another zone's absence", "gone.ec.test. A", 3, nil, proofs("gone.hash.test.", dns.TypeA), Insecure}, // its own zone proves it
		{"a wildcard where a closer name is", "deep.er.wild.ec.test. TXT", 0, renamed(answers("a.wild.ec.test.", dns.TypeTXT), "deep.er.wild.ec.test."), proofs("a.wild.ec.test.", dns.TypeTXT), Bogus},
		{"a wildcard above a name that is there", "x.er.wild.ec.test. TXT", 0, renamed(answers("a.wild.ec.test.", dns.TypeTXT), "x.er.wild.ec.test."), proofs("x.er.wild.ec.test.", dns.TypeTXT), Bogus},
		{"the same, hashed", "x.er.wild.hash.test. TXT", 0, renamed(answers("a.wild.hash.test.", dns.TypeTXT), "x.er.wild.hash.test."), proofs("x.er.wild.hash.test.", dns.TypeTXT), Bogus},
		{"no such name below a DNAME", "x.moved.ec.test. A", 3, nil, proofs("movee.ec.test.", dns.TypeA), Bogus},
		{"a neighbour whose name ends alike", "xec.test. A", 0, forged("ec.test.", "xec.test. 60 IN A 192.0.2.66"), nil, Bogus},
		{"a child that signs for its parent", "test. A", 0, forged("ec.test.", "test. 60 IN A 192.0.2.66"), nil, Bogus},
		{"a child that signs for a sibling", "hash.test. A", 0, forged("ec.test.", "hash.test. 60 IN A 192.0.2.66"), nil, Bogus},
		{"a child that signs its own DS records", "ec.test. DS", 0, forged("ec.test.", "ec.test. 60 IN DS 1 13 2 "+strings.Repeat("ab", 32)), nil, Bogus},
		{"a parent that signs for its child", "ec.test. A", 0, forged("test.", "ec.test. 60 IN A 192.0.2.66"), nil, Secure},
		{"a child that denies a sibling", "hash.test. A", 3, nil, forged("ec.test.", "ec.test. 60 IN NSEC z.test. NS SOA"), Bogus},
		{"a child whose denial leads out of it", "hash.test. A", 0, nil, forged("ec.test.", "hash.test. 60 IN NSEC z.test. NS SOA"), Bogus},
		{"a denial made of a wildcard", "gone.ec.test. A", 3, nil, renamed(forged("ec.test.", "*.ec.test. 60 IN NSEC zz.ec.test. TXT"), "a.ec.test."), Insecure}, // the same
		{"NODATA of an alias", "alias.ec.test. MX", 0, nil, proofs("aliasx.ec.test.", dns.TypeA), Bogus},
		{"NXDOMAIN where a wildcard stands", "any.wild.ec.test. TXT", 3, nil, proofs("any.wild.ec.test.", dns.TypeTXT), Bogus},
		{"NXDOMAIN where a wildcard stands, hashed", "any.wild.hash.test. TXT", 3, nil, proofs("any.wild.hash.test.", dns.TypeA), Bogus},
		{"a name that is there, by a denial made of a wildcard", "mx.ec.test. A", 3, nil,
			append(renamed(forged("ec.test.", "*.ec.test. 60 IN NSEC zz.ec.test. TXT"), "a.ec.test."), proofs("*.ec.test.", dns.TypeA)...), Bogus},
		{"an unsigned delegation of a name that is none", "ec.test. MX", 0, without(answers("ec.test.", dns.TypeMX), dns.TypeRRSIG), proofs("free.test.", dns.TypeDS), Bogus},
	} {
		t.Run(c.name, func(t *testing.T) {
			name, qtype, _ := strings.Cut(c.question, " ")
			m := new(dns.Msg)
			m.SetQuestion(name, dns.StringToType[qtype])
			m.Rcode, m.Answer, m.Ns = c.rcode, c.answer, c.ns
			v := w.Validate(t.Context(), m, name, dns.StringToType[qtype])
			if v.Status != c.want {
				t.Errorf("%s (%s), want %s", v.Status, v.Why, c.want)
			}
		})
	}
}

func renamed(rrs []dns.RR, name string) []dns.RR {
	var out []dns.RR
	for _, rr := range rrs {
		c := dns.Copy(rr)
		c.Header().Name = name
		out = append(out, c)
	}
	return out
}

// TestValidity: both ends, our skew, and serial numbers that wrap.
func TestValidity(t *testing.T) {
	t.Parallel()
	at := func(s string) time.Time {
		when, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return when
	}
	for _, c := range []struct {
		now, from, to string
		want          bool
	}{
		{"2026-11-23T12:00:00Z", "2026-11-23T12:00:00Z", "2026-11-23T12:00:00Z", true},
		{"2026-11-23T12:05:00Z", "2026-11-23T11:00:00Z", "2026-11-23T12:00:00Z", true},
		{"2026-11-23T12:05:01Z", "2026-11-23T11:00:00Z", "2026-11-23T12:00:00Z", false},
		{"2026-11-23T11:55:00Z", "2026-11-23T12:00:00Z", "2026-11-24T12:00:00Z", true},
		{"2026-11-23T11:54:59Z", "2026-11-23T12:00:00Z", "2026-11-24T12:00:00Z", false},
		{"2106-02-07T06:28:20Z", "2106-02-07T00:00:00Z", "2106-02-08T00:00:00Z", true}, // past 2^32
		{"2106-02-07T06:28:10Z", "2106-02-07T00:00:00Z", "2106-02-08T00:00:00Z", true},
		{"2106-02-09T00:00:00Z", "2106-02-07T00:00:00Z", "2106-02-08T00:00:00Z", false},
		{"2026-11-23T12:00:00Z", "2026-11-24T00:00:00Z", "2026-11-22T00:00:00Z", false},
	} {
		w := &work{now: at(c.now)}
		s := &rrset{name: "x.", qtype: dns.TypeA, rrs: []dns.RR{&dns.A{Hdr: dns.RR_Header{Ttl: 60}}}}
		sig := &dns.RRSIG{Inception: uint32(at(c.from).Unix()), Expiration: uint32(at(c.to).Unix()), OrigTtl: 60}
		if got := w.period(s, sig) == nil; got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
		if left := w.until(s, sig).Sub(w.now); left < time.Second || left > time.Minute {
			t.Errorf("%+v: kept for %v", c, left)
		}
	}
}

// TestKept: for the shortest of TTL, what the signer wrote, and the signature.
func TestKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t, mtatest.SignedZone{Name: "."}, mtatest.SignedZone{Name: "test.", Records: "a 300 A 192.0.2.1\nlong 9999999 A 192.0.2.1"},
		mtatest.SignedZone{Name: "soon.test.", Records: "a 300 A 192.0.2.1", Expiration: testNow.Add(40 * time.Second)})
	raise := func(ttl uint32) func(*dns.Msg) {
		return func(m *dns.Msg) {
			for i, rr := range m.Answer {
				m.Answer[i] = dns.Copy(rr)
				m.Answer[i].Header().Ttl = ttl
			}
		}
	}
	for _, c := range []struct {
		name  string
		alter func(*dns.Msg)
		want  time.Duration
	}{
		{"a.test.", nil, 300 * time.Second}, {"a.test.", raise(20), 20 * time.Second}, {"a.test.", raise(1 << 31), 300 * time.Second},
		{"a.test.", raise(0), time.Second}, {"a.soon.test.", nil, 40 * time.Second}, {"long.test.", nil, 24 * time.Hour},
	} {
		w.alter = about(c.name, "A", func(m *dns.Msg) {
			if c.alter != nil {
				c.alter(m)
			}
		})
		if v := w.verdict(c.name, dns.TypeA); v.Status != Secure || v.Until.Sub(testNow) != c.want {
			t.Errorf("%s: %v for %v, want %v (%s)", c.name, v.Status, v.Until.Sub(testNow), c.want, v.Why)
		}
	}
	// The zone itself is kept no longer than its keys are signed.
	if c := w.cuts.known("soon.test.", testNow); c == nil || c.until.Sub(testNow) != 40*time.Second {
		t.Errorf("%+v", c)
	}
	if c := w.cuts.known("soon.test.", testNow.Add(40*time.Second)); c != nil {
		t.Errorf("%+v", c)
	}
	w.now = testNow.Add(46*time.Second + 5*time.Minute)
	w.alter = nil
	w.expect(t, "a.soon.test. A", Bogus, "expired")
}

// TestSilenceIsIndeterminate: what cannot be asked is not known, and not kept.
func TestSilenceIsIndeterminate(t *testing.T) {
	t.Parallel()
	w := common(t)
	m := w.answer("ec.test.", dns.TypeMX)
	w.alter = func(m *dns.Msg) { m.Rcode = dns.RcodeServerFailure }
	if v := w.Validate(t.Context(), m, "ec.test.", dns.TypeMX); v.Status != Indeterminate {
		t.Errorf("%+v", v)
	}
	if err := w.Test(t.Context()); StatusOf(err) != Indeterminate {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w.alter = nil
	if v := w.Validate(ctx, m, "ec.test.", dns.TypeMX); v.Status != Indeterminate {
		t.Errorf("%+v", v)
	}
	w.expect(t, "ec.test. MX", Secure, "")
}

// TestMakeshiftTest: what the self-test must not pass.
func TestMakeshiftTest(t *testing.T) {
	t.Parallel()
	for name, alter := range map[string]func(*dns.Msg){
		"no signatures": func(m *dns.Msg) { m.Answer, m.Ns = without(m.Answer, dns.TypeRRSIG), without(m.Ns, dns.TypeRRSIG) },
		"no proofs":     func(m *dns.Msg) { m.Ns = without(m.Ns, dns.TypeNSEC) },
	} {
		w := common(t)
		w.alter = alter
		if err := w.Test(t.Context()); err == nil || StatusOf(err) != Bogus {
			t.Errorf("%s: %v", name, err)
		}
	}
	w := common(t)
	w.Validator = New(Options{Anchors: BuiltIn(), Source: w.source, Now: w.clock})
	if err := w.Test(t.Context()); err == nil || !strings.Contains(err.Error(), "trust anchors") {
		t.Error(err)
	}
	w.expect(t, "ec.test. MX", Bogus, "no key of .")
}

// TestZonesAreAskedOnce: those who need the same zones at once share the work,
// and nobody waits for one who gave up.
func TestZonesAreAskedOnce(t *testing.T) {
	t.Parallel()
	w := common(t)
	m := w.answer("ec.test.", dns.TypeMX)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			ctx := t.Context()
			if i%5 == 0 {
				c, cancel := context.WithCancel(ctx)
				cancel()
				ctx = c
			}
			if v := w.Validate(ctx, m, "ec.test.", dns.TypeMX); ctx.Err() == nil && v.Status != Secure {
				t.Errorf("%+v", v)
			}
		})
	}
	wg.Wait()
	counts := map[string]int{}
	for _, a := range w.asked {
		counts[a]++
	}
	for _, q := range []string{". DNSKEY", "test. DS", "test. DNSKEY", "ec.test. DS", "ec.test. DNSKEY"} {
		if counts[q] == 0 || counts[q] > 11 { // ten gave up
			t.Errorf("%s: asked %d times", q, counts[q])
		}
	}
	w.asked = nil
	w.expect(t, "mx.ec.test. A", Secure, "")
	if len(w.asked) != 0 {
		t.Errorf("asked %q", w.asked)
	}
}

// TestCutsAreBounded: by number and octets.
func TestCutsAreBounded(t *testing.T) {
	t.Parallel()
	var c cuts
	c.init()
	for i := range maxCuts + 100 {
		c.put(fmt.Sprintf("n%d.", i), &cut{until: testNow})
	}
	if n := len(c.mu.entries); n != maxCuts || c.mu.order.Len() != n {
		t.Errorf("%d entries", n)
	}
	big := &zone{keys: []key{{DNSKEY: &dns.DNSKEY{PublicKey: strings.Repeat("A", 1<<20)}}}}
	for i := range 40 {
		c.put(fmt.Sprintf("big%d.", i), &cut{zone: big, until: testNow})
	}
	if c.mu.cost > maxCutCost {
		t.Errorf("%d octets", c.mu.cost)
	}
	c.put("never.", &cut{err: errors.New("x")})
	if c.mu.entries["never."] != nil {
		t.Error("what is not to be kept is")
	}
}
