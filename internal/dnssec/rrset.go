package dnssec

import (
	"strings"
	"time"

	"github.com/miekg/dns"
)

// rrset is all records of one name and type in a section, with the signatures
// that came with them.
type rrset struct {
	name  string // canonical
	qtype uint16
	rrs   []dns.RR // copies, with the canonical name
	sigs  []*dns.RRSIG
}

// rrsets takes a section apart, in its order. Records of other classes are left
// out: nobody reads them.
func rrsets(section []dns.RR) []*rrset {
	type id struct {
		name  string
		qtype uint16
	}
	var list []*rrset
	known := make(map[id]*rrset)
	at := func(name string, qtype uint16) *rrset {
		k := id{dns.CanonicalName(name), qtype}
		s := known[k]
		if s == nil {
			s = &rrset{name: k.name, qtype: qtype}
			known[k] = s
			list = append(list, s)
		}
		return s
	}
	for _, rr := range section {
		h := rr.Header()
		if h.Class != dns.ClassINET || h.Rrtype == dns.TypeOPT {
			continue
		}
		if sig, ok := rr.(*dns.RRSIG); ok {
			s := at(h.Name, sig.TypeCovered)
			s.sigs = append(s.sigs, sig)
			continue
		}
		s := at(h.Name, h.Rrtype)
		c := dns.Copy(rr)
		c.Header().Name = s.name
		s.rrs = append(s.rrs, c)
	}
	kept := list[:0]
	for _, s := range list {
		if len(s.rrs) > 0 { // a signature of nothing says nothing
			kept = append(kept, s)
		}
	}
	return kept
}

func pick(sets []*rrset, name string, qtype uint16) *rrset {
	for _, s := range sets {
		if s.qtype == qtype && s.name == name {
			return s
		}
	}
	return nil
}

// signer gives the zone that says that it signed the set: the deepest one named
// that the owner lies in; for a DS set one above it.
func (s *rrset) signer() (string, bool) {
	best, found := "", false
	for _, sig := range s.sigs {
		zone := dns.CanonicalName(sig.SignerName)
		if !dns.IsSubDomain(zone, s.name) || s.qtype == dns.TypeDS && zone == s.name {
			continue
		}
		if !found || dns.CountLabel(zone) > dns.CountLabel(best) {
			best, found = zone, true
		}
	}
	return best, found
}

// proof is a signature that holds.
type proof struct {
	sig   *dns.RRSIG
	until time.Time
}

// expanded reports that the set was made from a wildcard (RFC 4035 5.3.4), and
// the name of its closest encloser.
func (p *proof) expanded(s *rrset) (encloser string, is bool) {
	labels := dns.CountLabel(s.name)
	if strings.HasPrefix(s.name, "*.") {
		labels-- // the wildcard itself
	}
	if int(p.sig.Labels) >= labels {
		return "", false
	}
	encloser = s.name
	for range dns.CountLabel(s.name) - int(p.sig.Labels) {
		encloser = parent(encloser)
	}
	return encloser, true
}

// check finds a signature of the zone that holds for the set (RFC 4035 5.3).
func (w *work) check(s *rrset, zone string, keys []key) (*proof, error) {
	why := bogus("the %s records of %s have no signature by %s", dns.TypeToString[s.qtype], s.name, zone)
	tries, byOdd := 0, false
	for i, sig := range s.sigs {
		if i >= maxSignatures {
			break
		}
		if dns.CanonicalName(sig.SignerName) != zone || !algorithm(sig.Algorithm) || !dns.IsSubDomain(zone, s.name) || int(sig.Labels) < dns.CountLabel(zone) {
			continue
		}
		if wrong := w.period(s, sig); wrong != nil {
			why = wrong
			continue
		}
		for _, k := range keys {
			if k.tag != sig.KeyTag || k.Algorithm != sig.Algorithm {
				continue
			}
			if k.odd {
				byOdd = true
				continue
			}
			if tries++; tries > maxTries {
				return nil, bogus("the %s records of %s have more signatures and keys of the same tag than are tried", dns.TypeToString[s.qtype], s.name)
			}
			if w.checks == maxChecks {
				w.spent = true
				return nil, bogus("checking %s takes more than %d signatures", w.name, maxChecks)
			}
			w.checks++
			if sig.Verify(k.DNSKEY, s.rrs) == nil {
				return &proof{sig, w.until(s, sig)}, nil
			}
			why = bogus("the signature of the %s records of %s is wrong", dns.TypeToString[s.qtype], s.name)
		}
	}
	if byOdd {
		return nil, insecure("the %s records of %s are signed by a key of %s of a size that is not supported", dns.TypeToString[s.qtype], s.name, zone)
	}
	return nil, why
}

// period says why a signature is not valid now (RFC 4034 3.1.5, serial numbers as
// in RFC 1982). Clocks may differ by a little.
func (w *work) period(s *rrset, sig *dns.RRSIG) *trouble {
	now := uint32(w.now.Unix())
	switch {
	case int32(sig.Expiration-sig.Inception) < 0:
		return bogus("a signature of the %s records of %s ends before it begins", dns.TypeToString[s.qtype], s.name)
	case int32(sig.Expiration-now) < -skew:
		return bogus("the signature of the %s records of %s expired at %s", dns.TypeToString[s.qtype], s.name, w.at(sig.Expiration))
	case int32(now-sig.Inception) < -skew:
		return bogus("the signature of the %s records of %s is not valid before %s", dns.TypeToString[s.qtype], s.name, w.at(sig.Inception))
	}
	return nil
}

// at gives the time that a serial number means now.
func (w *work) at(serial uint32) string {
	return w.now.Add(time.Duration(int32(serial-uint32(w.now.Unix()))) * time.Second).UTC().Format(time.RFC3339)
}

// until is how long a checked set is good: its TTL, but not longer than the
// signer said, and not longer than the signature (RFC 4035 5.3.3).
func (w *work) until(s *rrset, sig *dns.RRSIG) time.Time {
	ttl := sig.OrigTtl
	for _, rr := range s.rrs {
		ttl = min(ttl, rr.Header().Ttl)
	}
	left := time.Duration(min(ttl, maxKept)) * time.Second
	left = min(left, time.Duration(int32(sig.Expiration-uint32(w.now.Unix())))*time.Second)
	return w.now.Add(max(left, time.Second))
}
