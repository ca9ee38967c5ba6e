package dnssec

import (
	"bytes"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// absence is what a denial proves.
type absence struct {
	// optOut says that an NSEC3 record with the opt-out flag covers the name: an
	// unsigned delegation may be there (RFC 5155 6).
	optOut bool
	// delegated says that the name has NS records and is not the zone's own.
	delegated bool
	// gone says that there is no such name, in the compact form (RFC 9824 3.1).
	gone bool
}

// denier holds those NSEC and NSEC3 records of a message that a zone signed.
type denier struct {
	w     *work
	zone  string
	nsec  []*dns.NSEC
	nsec3 []*hashed
	until time.Time // of all of them
	why   error     // why one is not used

	sums map[string]string // NSEC3 hashes made so far
}

// denier checks the signatures of a message's NSEC and NSEC3 records.
func (w *work) denier(z *zone, authority []*rrset) *denier {
	d := &denier{w: w, zone: z.name, until: w.now.Add(maxKept * time.Second)}
	n := 0
	for _, s := range authority {
		if s.qtype != dns.TypeNSEC && s.qtype != dns.TypeNSEC3 || !dns.IsSubDomain(z.name, s.name) {
			continue
		}
		if n++; n > maxDenials {
			break
		}
		p, err := w.check(s, z.name, z.keys)
		if err != nil {
			d.why = err
			continue
		}
		// One that a wildcard was expanded to denies nothing here.
		if _, expanded := p.expanded(s); expanded || len(s.rrs) != 1 {
			continue
		}
		if !d.add(s.rrs[0]) {
			continue
		}
		if p.until.Before(d.until) {
			d.until = p.until
		}
	}
	return d
}

func (d *denier) add(rr dns.RR) bool {
	switch rr := rr.(type) {
	case *dns.NSEC:
		n := *rr // its own octets are signed, with their capitals (RFC 6840 5.1)
		n.NextDomain = dns.CanonicalName(rr.NextDomain)
		if !dns.IsSubDomain(d.zone, n.NextDomain) {
			return false
		}
		d.nsec = append(d.nsec, &n)
	case *dns.NSEC3:
		h := d.read(rr)
		if h == nil {
			return false
		}
		d.nsec3 = append(d.nsec3, h)
	}
	return true
}

// unproved is the reason when a proof is missing.
func (d *denier) unproved(format string, args ...any) error {
	if d.why != nil {
		return d.why
	}
	return bogus(format, args...)
}

// noType proves that a name has no records of a type (RFC 4035 5.4, RFC 5155
// 8.5 to 8.7).
func (d *denier) noType(name string, qtype uint16) (absence, error) {
	if len(d.nsec3) > 0 {
		return d.hashedNoType(name, qtype)
	}
	for _, n := range d.nsec {
		if n.Hdr.Name == name {
			return d.lacks(n.TypeBitMap, name, qtype)
		}
	}
	n := d.covering(name)
	if n == nil {
		return absence{}, d.unproved("there is no proof that %s has no %s records", name, dns.TypeToString[qtype])
	}
	if n.NextDomain != name && dns.IsSubDomain(name, n.NextDomain) {
		return absence{}, nil // an empty non-terminal (RFC 4592 2.2.2)
	}
	wild := asterisk(closest(n, name))
	for _, n := range d.nsec {
		if n.Hdr.Name == wild {
			return d.lacks(n.TypeBitMap, wild, qtype)
		}
	}
	return absence{}, d.unproved("the proof that no wildcard stands for %s is missing", name)
}

// noName proves that a name does not exist, nor a wildcard that stands for it.
func (d *denier) noName(name string) (absence, error) {
	if len(d.nsec3) > 0 {
		return d.hashedNoName(name)
	}
	n := d.covering(name)
	if n == nil || dns.IsSubDomain(name, n.NextDomain) {
		return absence{}, d.unproved("there is no proof that %s does not exist", name)
	}
	if d.covering(asterisk(closest(n, name))) == nil {
		return absence{}, d.unproved("the proof that no wildcard stands for %s is missing", name)
	}
	return absence{}, nil
}

// wildcard proves that an answer made from the wildcard below encloser is right
// for a name: nothing closer exists (RFC 4035 5.3.4, RFC 5155 8.8).
func (d *denier) wildcard(name, encloser string) (time.Time, error) {
	if len(d.nsec3) > 0 {
		next := name
		for dns.CountLabel(next) > dns.CountLabel(encloser)+1 {
			next = parent(next)
		}
		h, err := d.hashCovering(next)
		switch {
		case err != nil:
			return d.until, err
		case h == nil:
			return d.until, d.unproved("the proof that nothing is closer to %s than a wildcard is missing", name)
		case h.optOut:
			return d.until, insecure("%s may be in an unsigned delegation of %s (opt-out)", name, d.zone)
		}
		return d.until, nil
	}
	n := d.covering(name)
	if n == nil || dns.IsSubDomain(name, n.NextDomain) || closest(n, name) != encloser {
		return d.until, d.unproved("the proof that nothing is closer to %s than a wildcard is missing", name)
	}
	return d.until, nil
}

// lacks reads the types of a name that is there. One side of a zone cut does not
// speak for the other (RFC 6840 4.1).
func (d *denier) lacks(types []uint16, name string, qtype uint16) (absence, error) {
	has := func(t uint16) bool { return slices.Contains(types, t) }
	cut := has(dns.TypeNS) && !has(dns.TypeSOA)
	switch {
	case has(qtype) || has(dns.TypeCNAME):
		return absence{}, bogus("%s has %s records or an alias, by the very proof that it has none", name, dns.TypeToString[qtype])
	case qtype == dns.TypeDS && has(dns.TypeSOA) && name != ".":
		return absence{}, bogus("the proof that %s has no DS records is the child's, not its parent's", name)
	case qtype != dns.TypeDS && cut:
		return absence{}, bogus("the proof that %s has no %s records is the parent's, not its own", name, dns.TypeToString[qtype])
	}
	return absence{delegated: cut, gone: has(dns.TypeNXNAME)}, nil
}

// covering finds the NSEC record that says that a name is not there.
func (d *denier) covering(name string) *dns.NSEC {
	if !dns.IsSubDomain(d.zone, name) {
		return nil
	}
	for _, n := range d.nsec {
		owner := n.Hdr.Name
		after := compare(owner, name) < 0
		before := compare(name, n.NextDomain) < 0 || n.NextDomain == d.zone // the last one leads back
		if !after || !before {
			continue
		}
		if dns.IsSubDomain(owner, name) && leadsAway(n.TypeBitMap) {
			continue
		}
		return n
	}
	return nil
}

// leadsAway reports a name below which another zone speaks, or a DNAME (RFC 6840
// 4.1, 4.4; RFC 6672 5.3.4).
func leadsAway(types []uint16) bool {
	return slices.Contains(types, dns.TypeDNAME) ||
		slices.Contains(types, dns.TypeNS) && !slices.Contains(types, dns.TypeSOA)
}

// asterisk gives the wildcard below a name.
func asterisk(encloser string) string {
	if encloser == "." {
		return "*."
	}
	return "*." + encloser
}

// closest gives the closest encloser of a name that an NSEC record covers: the
// longest that it shares with either end.
func closest(n *dns.NSEC, name string) string {
	shared := max(dns.CompareDomainName(name, n.Hdr.Name), dns.CompareDomainName(name, n.NextDomain))
	for dns.CountLabel(name) > shared {
		name = parent(name)
	}
	return name
}

// compare puts names in the canonical order (RFC 4034 6.1): by labels from the
// right, as octets.
func compare(a, b string) int {
	la, lb := labels(a), labels(b)
	for i := 1; i <= len(la) && i <= len(lb); i++ {
		if c := bytes.Compare(la[len(la)-i], lb[len(lb)-i]); c != 0 {
			return c
		}
	}
	return len(la) - len(lb)
}

// labels gives the octets of a canonical name's labels.
func labels(name string) [][]byte {
	var wire [256]byte
	n, err := dns.PackDomainName(name, wire[:], 0, nil, false)
	if err != nil {
		return nil // names come from messages: they pack
	}
	var out [][]byte
	for at := 0; at < n && wire[at] != 0; {
		end := at + 1 + int(wire[at])
		out = append(out, bytes.ToLower(wire[at+1:end]))
		at = end
	}
	return out
}
