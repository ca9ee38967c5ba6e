package dnssec

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/miekg/dns"
)

// maxAnchors bounds the records of an anchor file.
const maxAnchors = 100

// rootAnchors are the root's key-signing keys that IANA published in 2017 and
// 2024 (https://www.iana.org/dnssec/files, root-anchors.xml), as DS records.
const rootAnchors = `
. IN DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D
. IN DS 38696 8 2 683D2D0ACB8C9B712A1948B27F741219298D0A450D612C483AF444A4C0FB2B16
`

// Anchors are the keys that chains begin with: DS records by the canonical name
// of their zone. They are immutable.
type Anchors map[string][]*dns.DS

// BuiltIn gives the anchors of the DNS root.
func BuiltIn() Anchors {
	a, err := ParseAnchors(strings.NewReader(rootAnchors))
	if err != nil {
		panic(err) // a constant
	}
	return a
}

// ParseAnchors reads DS and DNSKEY records in the form of zone files, as IANA,
// unbound and BIND write them. A DNSKEY must be a zone key that is not revoked
// (RFC 5011 2.1).
func ParseAnchors(r io.Reader) (Anchors, error) {
	out := make(Anchors)
	p := dns.NewZoneParser(r, ".", "")
	p.SetDefaultTTL(0)
	n := 0
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		if n++; n > maxAnchors {
			return nil, fmt.Errorf("more than %d trust anchors", maxAnchors)
		}
		ds, err := anchor(rr)
		if err != nil {
			return nil, err
		}
		zone := dns.CanonicalName(rr.Header().Name)
		out[zone] = append(out[zone], ds)
	}
	if err := p.Err(); err != nil {
		return nil, fmt.Errorf("trust anchors: %w", err)
	}
	if n == 0 {
		return nil, errors.New("there is no DS or DNSKEY record")
	}
	return out, nil
}

func anchor(rr dns.RR) (*dns.DS, error) {
	switch rr := rr.(type) {
	case *dns.DS:
		if !supported(rr) {
			return nil, fmt.Errorf("the DS record with key tag %d of %s has an algorithm or digest that is not supported", rr.KeyTag, rr.Hdr.Name)
		}
		return rr, nil
	case *dns.DNSKEY:
		if !usable(rr) {
			return nil, fmt.Errorf("the DNSKEY with tag %d of %s is no zone key, is revoked, or has an algorithm that is not supported", rr.KeyTag(), rr.Hdr.Name)
		}
		return rr.ToDS(dns.SHA256), nil
	}
	return nil, fmt.Errorf("%s records are no trust anchors (DS and DNSKEY are)", dns.TypeToString[rr.Header().Rrtype])
}

// above gives the nearest zone at or above a name that has anchors.
func (a Anchors) above(name string) (zone string, ok bool) {
	for {
		if _, ok := a[name]; ok {
			return name, true
		}
		if name == "." {
			return "", false
		}
		name = parent(name)
	}
}

// parent gives the name without its first label; that of a single label is the
// root.
func parent(name string) string {
	i, end := dns.NextLabel(name, 0)
	if end {
		return "."
	}
	return name[i:]
}
