package tlspolicy

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"mailout/internal/dns"
	"mailout/internal/mtatest"
)

// tlsaZone answers TLSA questions.
type tlsaZone map[string]any // dns.Answer[dns.TLSA] or *dns.Error

func (z tlsaZone) TLSA(_ context.Context, name string) (dns.Answer[dns.TLSA], error) {
	switch a := z[name].(type) {
	case dns.Answer[dns.TLSA]:
		return a, nil
	case *dns.Error:
		return dns.Answer[dns.TLSA]{}, a
	}
	return dns.Answer[dns.TLSA]{}, &dns.Error{Kind: dns.NXDomain, Name: name, Secure: true, Expires: epoch}
}

// Alias gives the CNAME under "alias NAME": dns.Answer[string] or *dns.Error.
func (z tlsaZone) Alias(_ context.Context, name string) (dns.Answer[string], error) {
	switch a := z["alias "+name].(type) {
	case dns.Answer[string]:
		return a, nil
	case *dns.Error:
		return dns.Answer[string]{}, a
	}
	return dns.Answer[string]{}, &dns.Error{Kind: dns.NoData, Name: name, Expires: epoch}
}

var (
	epoch  = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	ee     = dns.TLSA{Usage: 3, Selector: 1, MatchingType: 1, Data: bytes.Repeat([]byte{1}, 32)}
	anchor = dns.TLSA{Usage: 2, Selector: 0, MatchingType: 1, Data: bytes.Repeat([]byte{2}, 32)}
	odd    = dns.TLSA{Usage: 9, Selector: 9, MatchingType: 9, Data: []byte{3}}
)

func signed(records ...dns.TLSA) dns.Answer[dns.TLSA] {
	return dns.Answer[dns.TLSA]{Records: records, Secure: true, Expires: epoch}
}

// TestTrap35_LookDANE: what TLSA answers mean, at which base domain (RFC 7672
// 2.1, 2.2.2).
func TestTrap35_LookDANE(t *testing.T) {
	t.Parallel()
	servfail := &dns.Error{Kind: dns.Temporary, Text: "SERVFAIL", Expires: epoch}
	bogus := &dns.Error{Kind: dns.Bogus, Expires: epoch}
	unsigned := signed(ee)
	unsigned.Secure = false
	const at, end = "_25._tcp.mx.test", "_25._tcp.end.test"
	plain, alias := Question{Host: "mx.test", Canonical: "mx.test"}, Question{Host: "mx.test", Canonical: "end.test"}
	insecure := Question{Host: "mx.test", Canonical: "end.test", Insecure: true}
	for name, c := range map[string]struct {
		zone tlsaZone
		q    Question
		want string
	}{
		"none":                        {tlsaZone{}, plain, "none"},
		"no data":                     {tlsaZone{at: &dns.Error{Kind: dns.NoData, Secure: true}}, plain, "none"},
		"usable":                      {tlsaZone{at: signed(ee)}, plain, "usable at mx.test"},
		"usable beside others":        {tlsaZone{at: signed(odd, ee)}, plain, "usable at mx.test"},
		"unusable":                    {tlsaZone{at: signed(odd)}, plain, "unusable at mx.test"},
		"unsigned":                    {tlsaZone{at: unsigned}, plain, "none"},
		"SERVFAIL":                    {tlsaZone{at: servfail}, plain, "failed at mx.test"},
		"bogus":                       {tlsaZone{at: bogus}, plain, "failed at mx.test"},
		"a name too long":             {tlsaZone{at: &dns.Error{Kind: dns.BadName}}, plain, "none"},
		"alias: end":                  {tlsaZone{at: signed(ee), end: signed(ee)}, alias, "usable at end.test"},
		"alias: own name":             {tlsaZone{at: signed(ee)}, alias, "usable at mx.test"},
		"alias: end is unsigned":      {tlsaZone{at: signed(ee), end: unsigned}, alias, "usable at mx.test"},
		"alias: end is unusable":      {tlsaZone{at: signed(ee), end: signed(odd)}, alias, "unusable at end.test"},
		"alias: nobody knows the end": {tlsaZone{at: signed(ee), end: servfail}, alias, "failed at end.test"},
		"alias: nobody knows":         {tlsaZone{at: servfail}, alias, "failed at mx.test"},
		"unsigned end":                {tlsaZone{at: signed(ee), end: signed(odd)}, insecure, "usable at mx.test"},
		"unsigned end, nobody knows":  {tlsaZone{at: servfail, "alias mx.test": dns.Answer[string]{}}, insecure, "none"},
		"signed alias, nobody knows":  {tlsaZone{at: servfail, "alias mx.test": dns.Answer[string]{Secure: true}}, insecure, "failed at mx.test"},
		"nobody knows anything":       {tlsaZone{at: servfail, "alias mx.test": bogus}, insecure, "failed at mx.test"},
		"unsigned, and no alias":      {tlsaZone{at: servfail}, insecure, "none"},
	} {
		c.q.Port = 25
		f := LookDANE(t.Context(), c.zone, &c.q)
		got := [...]string{"none", "unusable", "usable", "failed"}[f.State]
		if f.Base != "" {
			got += " at " + f.Base
		}
		if got != c.want {
			t.Errorf("%s: %s (%s)", name, got, c.want)
		}
		if (f.State == DANEUsable) != (f.DANE != nil) || (f.State == DANEFailed) != (f.Err != nil) || f.State != DANENone && f.Why == "" {
			t.Errorf("%s: %+v", name, f)
		}
		if r := f.Report(); (r == nil) != (f.State == DANENone) || r != nil && (r.Type != "tlsa" || r.Domain != f.Base || (r.Trouble == "") != (f.State == DANEUsable)) {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// TestNamesOfDANE: the reference identifiers of usage 2 (RFC 7672 3.2.2), and
// what counts in the key.
func TestNamesOfDANE(t *testing.T) {
	t.Parallel()
	find := func(q Question, records ...dns.TLSA) Found {
		q.Port = 26
		return LookDANE(t.Context(), tlsaZone{"_26._tcp.end.test": signed(records...), "_26._tcp.mx.test": signed(records...)}, &q)
	}
	f := find(Question{Host: "mx.test", Canonical: "end.test", NextHop: []string{"a.test", "b.test", "mx.test"}}, anchor)
	if want := []string{"end.test", "mx.test", "a.test", "b.test"}; !reflect.DeepEqual(f.DANE.Names, want) {
		t.Errorf("%v", f.DANE.Names)
	}
	other := find(Question{Host: "mx.test", NextHop: []string{"c.test"}}, anchor)
	if f.DANE.Key == other.DANE.Key {
		t.Error("other names, and the same key")
	}
	one, two := find(Question{Host: "mx.test", NextHop: []string{"a.test"}}, ee), find(Question{Host: "mx.test", NextHop: []string{"c.test"}}, ee)
	if one.DANE.Key != two.DANE.Key {
		t.Error("usage 3 looks at no name, and the keys differ")
	}
	if strings.Join(one.Records, ";") != "3 1 1 "+strings.Repeat("01", 32) {
		t.Errorf("%q", one.Records)
	}
}

// TestUsableRecords: all 256 × 4 × 4 kinds, with data that fit and that do not.
func TestUsableRecords(t *testing.T) {
	t.Parallel()
	ca, err := mtatest.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Certificate(true, "mx.test")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	full := [...][]byte{cert.Raw, cert.RawSubjectPublicKeyInfo}
	for usage := range 256 {
		for selector := range 4 {
			for matching := range 4 {
				good := []byte(nil)
				if (usage == 2 || usage == 3) && selector < 2 {
					good = [...][]byte{full[selector], bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{1}, 64), nil}[matching]
				}
				for _, data := range [][]byte{nil, {1}, bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{1}, 64), bytes.Repeat([]byte{1}, 33), full[0], full[1], append(full[1][:len(full[1]):len(full[1])], 0)} {
					r := dns.TLSA{Usage: uint8(usage), Selector: uint8(selector), MatchingType: uint8(matching), Data: data}
					want := good != nil && bytes.Equal(good, data)
					if got := len(Usable([]dns.TLSA{r})) == 1; got != want {
						t.Fatalf("%d %d %d with %d octets: %t", usage, selector, matching, len(data), got)
					}
				}
			}
		}
	}
}

// TestDigestsOfOneKind: where SHA-512 is published SHA-256 does not count, for the
// same usage and selector alone (RFC 7671 9); doubles are one.
func TestDigestsOfOneKind(t *testing.T) {
	t.Parallel()
	record := func(usage, selector, matching uint8) dns.TLSA {
		return dns.TLSA{Usage: usage, Selector: selector, MatchingType: matching, Data: bytes.Repeat([]byte{matching}, int(matching)*32)}
	}
	short := record(3, 1, 2)
	short.Data = short.Data[:63]
	for want, records := range map[string][]dns.TLSA{
		"3 1 2":               {record(3, 1, 1), record(3, 1, 2)},
		"3 1 1; 2 1 2":        {record(2, 1, 2), record(3, 1, 1)},
		"3 1 2; 3 0 1":        {record(3, 0, 1), record(3, 1, 2)},
		"3 1 1":               {record(3, 1, 1), short, record(3, 1, 1)},
		"3 1 1; 2 1 1":        {record(2, 1, 1), record(3, 1, 1), record(1, 1, 2)},
		"":                    {record(0, 0, 1), record(1, 0, 1)},
		"3 1 2; 2 1 2":        {record(2, 1, 1), record(2, 1, 2), record(3, 1, 1), record(3, 1, 2)},
		"3 1 1; 3 0 1; 2 0 1": {record(2, 0, 1), record(3, 0, 1), record(3, 1, 1)},
	} {
		var got []string
		for _, r := range Usable(records) {
			got = append(got, fmt.Sprintf("%d %d %d", r.Usage, r.Selector, r.Matching))
		}
		if strings.Join(got, "; ") != want {
			t.Errorf("%v (%s)", got, want)
		}
	}
}
