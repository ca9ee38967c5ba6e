package dnssec

import (
	"crypto/sha1"
	"encoding/base32"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// hashed is an NSEC3 record: an interval of hashes.
type hashed struct {
	*dns.NSEC3
	owner, next string // base32hex in capitals
	optOut      bool
}

var base32hex = base32.HexEncoding.WithPadding(base32.NoPadding)

const hashLength = 32 // of SHA-1 in base32

// read takes an NSEC3 record in. Those of unknown hashes or flags are passed
// over (RFC 5155 8.1, 8.2), and so are those of other parameters than the first
// one's (8.2).
func (d *denier) read(rr *dns.NSEC3) *hashed {
	label, _, _ := strings.Cut(rr.Hdr.Name, ".")
	h := &hashed{NSEC3: rr, owner: strings.ToUpper(label), next: strings.ToUpper(rr.NextDomain), optOut: rr.Flags&1 != 0}
	if rr.Hash != dns.SHA1 || rr.Flags > 1 || len(h.owner) != hashLength || len(h.next) != hashLength || parent(rr.Hdr.Name) != d.zone {
		return nil
	}
	if len(d.nsec3) > 0 {
		if first := d.nsec3[0]; first.Iterations != rr.Iterations || !strings.EqualFold(first.Salt, rr.Salt) {
			return nil
		}
	}
	return h
}

// sum gives the hash of a name (RFC 5155 5). Work is counted: iterations are
// chosen by strangers.
func (d *denier) sum(name string) (string, error) {
	p := d.nsec3[0]
	if p.Iterations > maxIterations {
		return "", insecure("%s asks for %d iterations of NSEC3 (RFC 9276 allows none)", d.zone, p.Iterations)
	}
	if s, ok := d.sums[name]; ok {
		return s, nil
	}
	if d.w.rounds += int(p.Iterations) + 1; d.w.rounds > maxRounds {
		d.w.rounds -= int(p.Iterations) + 1
		d.w.spent = true
		return "", bogus("checking %s takes more than %d rounds of NSEC3", d.w.name, maxRounds)
	}
	salt, err := hex.DecodeString(p.Salt)
	if err != nil {
		return "", bogus("the NSEC3 salt of %s cannot be read", d.zone)
	}
	var buf [256]byte
	n, err := dns.PackDomainName(dns.CanonicalName(name), buf[:], 0, nil, false)
	if err != nil {
		return "", bogus("%s is not a name", name)
	}
	x := sha1.Sum(append(buf[:n:n], salt...))
	for range p.Iterations {
		x = sha1.Sum(append(x[:], salt...))
	}
	s := base32hex.EncodeToString(x[:])
	if d.sums == nil {
		d.sums = make(map[string]string)
	}
	d.sums[name] = s
	return s, nil
}

// hashMatching finds the record of a name that is there.
func (d *denier) hashMatching(name string) (*hashed, error) {
	sum, err := d.sum(name)
	if err != nil {
		return nil, err
	}
	for _, h := range d.nsec3 {
		if h.owner == sum {
			return h, nil
		}
	}
	return nil, nil
}

// hashCovering finds the record that says that a name is not there. Hashes in
// base32hex have the order of their octets.
func (d *denier) hashCovering(name string) (*hashed, error) {
	sum, err := d.sum(name)
	if err != nil {
		return nil, err
	}
	for _, h := range d.nsec3 {
		after, before := h.owner < sum, sum < h.next
		if h.owner < h.next && after && before || h.owner >= h.next && (after || before) && sum != h.owner {
			return h, nil
		}
	}
	return nil, nil
}

// encloser proves the closest encloser of a name, and that the next closer name
// is not there (RFC 5155 8.3).
func (d *denier) encloser(name string) (encloser string, cover *hashed, err error) {
	next := ""
	for at := name; dns.IsSubDomain(d.zone, at); at = parent(at) {
		h, err := d.hashMatching(at)
		if err != nil {
			return "", nil, err
		}
		if h != nil {
			if next == "" || leadsAway(h.TypeBitMap) {
				break
			}
			cover, err := d.hashCovering(next)
			if err != nil || cover != nil {
				return at, cover, err
			}
			break
		}
		if next = at; at == "." {
			break
		}
	}
	return "", nil, d.unproved("there is no proof that %s does not exist", name)
}

// hashedNoName is noName for NSEC3 (RFC 5155 8.4).
func (d *denier) hashedNoName(name string) (absence, error) {
	encloser, cover, err := d.encloser(name)
	if err != nil {
		return absence{}, err
	}
	wild, err := d.hashCovering(asterisk(encloser))
	if err != nil {
		return absence{}, err
	}
	if wild == nil {
		return absence{}, d.unproved("the proof that no wildcard stands for %s is missing", name)
	}
	return absence{optOut: cover.optOut}, nil
}

// hashedNoType is noType for NSEC3 (RFC 5155 8.5 to 8.7).
func (d *denier) hashedNoType(name string, qtype uint16) (absence, error) {
	h, err := d.hashMatching(name)
	if err != nil {
		return absence{}, err
	}
	if h != nil {
		return d.lacks(h.TypeBitMap, name, qtype)
	}
	encloser, cover, err := d.encloser(name)
	if err != nil {
		return absence{}, err
	}
	wild, err := d.hashMatching(asterisk(encloser))
	if err != nil {
		return absence{}, err
	}
	switch {
	case wild != nil && !slices.Contains(wild.TypeBitMap, dns.TypeNS):
		a, err := d.lacks(wild.TypeBitMap, asterisk(encloser), qtype)
		a.optOut = cover.optOut
		return a, err
	case cover.optOut:
		// 8.6; also an empty non-terminal above unsigned delegations alone.
		return absence{optOut: true}, nil
	}
	return absence{}, d.unproved("there is no proof that %s has no %s records", name, dns.TypeToString[qtype])
}
