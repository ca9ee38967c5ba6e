package tlspolicy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"mailout/internal/dns"
	"mailout/internal/mta"
)

// maxFull bounds the data of a record that is no digest, in octets.
const maxFull = 16 << 10

// TLSAResolver is the part of dns.Resolver that finds TLSA records.
type TLSAResolver interface {
	TLSA(ctx context.Context, name string) (dns.Answer[dns.TLSA], error)
	Alias(ctx context.Context, name string) (dns.Answer[string], error)
}

// Question is what is known of a host that signed DNS vouches for: for the MX
// records that name it, or for their absence (RFC 7672 2.2.1).
type Question struct {
	Host      string // as the MX record has it, or the domain without MX records
	Canonical string // the end of its CNAMEs; empty or Host: it has none
	Port      uint16
	// Insecure says that signed DNS does not vouch for its addresses, because one of
	// its CNAMEs leads out of what is signed. Its own name may have records all the
	// same (RFC 7672 2.2.2).
	Insecure bool
	// NextHop are the recipient domain and, when it is an alias, the end of its
	// CNAMEs: names for usage 2 (RFC 7672 3.2.2).
	NextHop []string
}

// Found is what came of it.
type Found struct {
	HostDANE
	Base    string    // the TLSA base domain; empty with DANENone
	Records []string  // as reports name them: "3 1 1 0123…"
	Expires time.Time // when to ask again
}

// LookDANE finds the TLSA records of a host. The fully expanded name of a host is
// its first TLSA base domain, its own name the second (RFC 7672 2.2.2); without
// signed records at either there is no DANE. A look-up that fails leaves the
// question open, and so it is an answer of its own: attackers can have it fail.
func LookDANE(ctx context.Context, r TLSAResolver, q *Question) Found {
	bases := []string{q.Host}
	if q.Canonical != "" && q.Canonical != q.Host && !q.Insecure {
		bases = []string{q.Canonical, q.Host}
	}
	var f Found
	for _, base := range bases {
		f = lookBase(ctx, r, q, base, f.Expires)
		if f.State != DANENone {
			return f
		}
	}
	return f
}

// lookBase asks at one base domain; before bounds the answer's life, unless it is
// zero.
func lookBase(ctx context.Context, r TLSAResolver, q *Question, base string, before time.Time) Found {
	name := "_" + strconv.Itoa(int(q.Port)) + "._tcp." + base
	a, err := r.TLSA(ctx, name)
	if e := dns.AsError(err); e != nil {
		f := Found{Expires: sooner(e.Expires, before)}
		if e.Kind == dns.BadName { // too long a name has no records
			f.Expires = before
		}
		if e.Temporary() && (!q.Insecure || signedAlias(ctx, r, base)) {
			f.State, f.Base = DANEFailed, base
			f.Why = fmt.Sprintf("nobody knows whether %s has TLSA records (DANE, RFC 7672): %v", q.Host, e)
			f.Err = &mta.TLSFault{Result: mta.ResultDNSSECInvalid, Text: f.Why, Err: e}
		}
		return f
	}
	f := Found{Expires: sooner(a.Expires, before)}
	if !a.Secure {
		return f
	}
	f.Base, f.State, f.Why = base, DANEUnusable, "the TLSA records of "+name
	for i := range a.Records {
		f.Records = append(f.Records, recordText(&a.Records[i]))
	}
	usable := Usable(a.Records)
	if len(usable) == 0 {
		return f
	}
	f.State = DANEUsable
	f.DANE = &mta.DANE{Records: usable, Names: names(q, base)}
	f.DANE.Key = keyOf(f.DANE)
	return f
}

// signedAlias reports whether signed DNS vouches for the first CNAME of a host
// whose addresses it does not vouch for: then the host's name can have records, and
// that they cannot be had counts. Elsewhere name servers fail at odd names.
func signedAlias(ctx context.Context, r TLSAResolver, host string) bool {
	a, err := r.Alias(ctx, host)
	if e := dns.AsError(err); e != nil {
		return e.Temporary()
	}
	return a.Secure
}

// sooner gives the earlier of two times, of which zero is none.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// names are the reference identifiers (RFC 7672 3.2.2), without doubles.
func names(q *Question, base string) []string {
	var out []string
	for _, name := range append([]string{base, q.Host}, q.NextHop...) {
		if name != "" && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// keyOf is the same for what demands the same. Names count where a record looks
// at them.
func keyOf(d *mta.DANE) string {
	h := sha256.New()
	anchors := false
	for i := range d.Records {
		r := &d.Records[i]
		fmt.Fprintf(h, "%d %d %d %d\n", r.Usage, r.Selector, r.Matching, len(r.Data))
		h.Write(r.Data)
		anchors = anchors || r.Usage == usageTA
	}
	if anchors {
		h.Write([]byte(strings.Join(d.Names, " ")))
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// Usable gives the records that a certificate is matched with, sorted: usages 2
// and 3 (RFC 7672 3.1.3 lets no others count), known selectors and matching types,
// and data that can be what they say. Of the digests of one usage and selector
// only the strongest algorithm's count (RFC 7671 9).
func Usable(records []dns.TLSA) []mta.TLSA {
	var out []mta.TLSA
	for i := range records {
		if r := &records[i]; usable(r) {
			out = append(out, mta.TLSA{Usage: r.Usage, Selector: r.Selector, Matching: r.MatchingType, Data: r.Data})
		}
	}
	out = strongest(out)
	slices.SortFunc(out, order)
	out = slices.CompactFunc(out, func(a, b mta.TLSA) bool { return order(a, b) == 0 })
	return out
}

func usable(r *dns.TLSA) bool {
	if r.Usage != usageTA && r.Usage != usageEE || r.Selector > publicKey {
		return false
	}
	switch r.MatchingType {
	case bySHA256:
		return len(r.Data) == 32
	case bySHA512:
		return len(r.Data) == 64
	case exactly:
		return len(r.Data) <= maxFull && parses(r.Selector, r.Data)
	}
	return false
}

// parses reports whether data are a certificate, or a public key, that this
// program can read.
func parses(selector uint8, data []byte) bool {
	var err error
	if selector == wholeCert {
		_, err = x509.ParseCertificate(data)
	} else {
		_, err = x509.ParsePKIXPublicKey(data)
	}
	return err == nil
}

// order puts usage 3 first, which is quickest to match and asks for the least.
func order(a, b mta.TLSA) int {
	for _, d := range [...]int{int(b.Usage) - int(a.Usage), int(b.Selector) - int(a.Selector), int(a.Matching) - int(b.Matching)} {
		if d != 0 {
			return d
		}
	}
	return bytes.Compare(a.Data, b.Data)
}

// recordText is a record in the form of a zone.
func recordText(r *dns.TLSA) string {
	return fmt.Sprintf("%d %d %d %s", r.Usage, r.Selector, r.MatchingType, hex.EncodeToString(r.Data))
}
