package mtatest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// SignedZone is one zone of a Tree. Only Name must be set.
type SignedZone struct {
	Name    string
	Records string // zone text; names without a final dot are relative to Name

	Algorithm  uint8 // of all keys; 0: ECDSA P-256
	Bits       int   // of keys; 0: the usual
	TwoKeys    bool  // one signs the keys, another one the rest
	Digest     uint8 // of the DS record at the parent; 0: SHA-256
	Inception  time.Time
	Expiration time.Time // zero: an hour before and a day after the Tree was made

	NSEC3      bool
	Iterations uint16
	Salt       string // hexadecimal
	OptOut     bool

	Unsigned bool // no keys, no signatures
	NoDS     bool // signed, but not delegated so
	WrongDS  bool // delegated with the digest of another key
	Collide  int  // further keys with the tag of the signing one
}

// Tree is a name space of signed zones, answered for as an honest recursive
// server would, with all that a validator wants. The parent of each zone gets
// its NS and DS records by itself; a root zone is made when none is given. Make
// it with NewTree.
type Tree struct {
	mu    sync.Mutex
	zones []*signedZone // the longest names first
}

type signedZone struct {
	SignedZone
	sets  map[string]map[uint16][]dns.RR // by canonical name
	names []string                       // that exist, empty non-terminals included, in canonical order
	cuts  map[string]bool                // delegated names
	ksk   *zoneKey
	zsk   *zoneKey
	sigs  map[string]*dns.RRSIG
	chain []dns.RR // NSEC or NSEC3, in their order
}

type zoneKey struct {
	*dns.DNSKEY
	private crypto.Signer
}

// NewTree makes and signs the zones; now is the time that signatures are made
// for.
func NewTree(now time.Time, zones ...SignedZone) (*Tree, error) {
	t := &Tree{}
	if !slices.ContainsFunc(zones, func(z SignedZone) bool { return z.Name == "." }) {
		zones = append(zones, SignedZone{Name: "."})
	}
	for _, z := range zones {
		made, err := newSignedZone(now, z)
		if err != nil {
			return nil, fmt.Errorf("zone %s: %w", z.Name, err)
		}
		t.zones = append(t.zones, made)
	}
	slices.SortFunc(t.zones, func(a, b *signedZone) int { return dns.CountLabel(b.Name) - dns.CountLabel(a.Name) })
	for _, z := range t.zones {
		if z.Name != "." {
			t.delegate(z)
		}
	}
	for _, z := range t.zones {
		z.finish()
	}
	return t, nil
}

func newSignedZone(now time.Time, of SignedZone) (*signedZone, error) {
	z := &signedZone{SignedZone: of, sets: map[string]map[uint16][]dns.RR{}, cuts: map[string]bool{}, sigs: map[string]*dns.RRSIG{}}
	z.Name = dns.CanonicalName(of.Name)
	if z.Inception.IsZero() {
		z.Inception = now.Add(-time.Hour)
	}
	if z.Expiration.IsZero() {
		z.Expiration = now.Add(24 * time.Hour)
	}
	if z.Algorithm == 0 {
		z.Algorithm = dns.ECDSAP256SHA256
	}
	if z.Digest == 0 {
		z.Digest = dns.SHA256
	}
	text := "$ORIGIN " + z.Name + "\n$TTL 300\n@ SOA ns.invalid. hostmaster.invalid. 1 3600 600 86400 60\n@ NS ns.invalid.\n" + of.Records + "\n"
	p := dns.NewZoneParser(strings.NewReader(text), z.Name, "")
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		z.add(rr)
	}
	if err := p.Err(); err != nil || z.Unsigned {
		return z, err
	}
	return z, z.makeKeys()
}

// makeKeys makes the keys, and those whose tags collide with the signing one's.
func (z *signedZone) makeKeys() (err error) {
	if z.zsk, err = z.newKey(256 + 1); err != nil {
		return err
	}
	z.ksk = z.zsk
	if z.TwoKeys {
		z.zsk, err = z.newKey(256)
		if err != nil {
			return err
		}
		z.add(z.ksk.DNSKEY)
	}
	z.add(z.zsk.DNSKEY)
	for i := range z.Collide {
		k := *z.zsk.DNSKEY
		k.PublicKey = collide(k.PublicKey, i)
		z.add(&k)
	}
	return nil
}

// collide changes a public key without changing its tag, which is a sum of
// 16-bit words: two words change by the same amount up and down.
func collide(public string, i int) string {
	raw := keyOctets(public)
	a, b := 4+4*(i/200), 6+4*(i/200)
	// The whole words at even offsets of the record's data are even offsets of
	// the key as well (four octets stand before it).
	for n := 0; n <= i%200; n++ {
		add16(raw[a:], 1)
		add16(raw[b:], -1)
	}
	return base64Of(raw)
}

func (z *signedZone) newKey(flags uint16) (*zoneKey, error) {
	k := &dns.DNSKEY{
		Hdr:   dns.RR_Header{Name: z.Name, Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: 300},
		Flags: flags, Protocol: 3, Algorithm: z.Algorithm,
	}
	bits := z.Bits
	if bits == 0 {
		switch z.Algorithm {
		case dns.ECDSAP384SHA384:
			bits = 384
		case dns.RSASHA1, dns.RSASHA1NSEC3SHA1, dns.RSASHA256, dns.RSASHA512:
			bits = 2048
		default:
			bits = 256
		}
	}
	private, err := k.Generate(bits)
	if err != nil {
		return nil, err
	}
	switch p := private.(type) {
	case *ecdsa.PrivateKey:
		return &zoneKey{k, p}, nil
	case *rsa.PrivateKey:
		return &zoneKey{k, p}, nil
	case ed25519.PrivateKey:
		return &zoneKey{k, p}, nil
	}
	return nil, fmt.Errorf("a key of the type %T", private)
}

func (z *signedZone) add(rr dns.RR) {
	rr.Header().Name = dns.CanonicalName(rr.Header().Name)
	name, t := rr.Header().Name, rr.Header().Rrtype
	if z.sets[name] == nil {
		z.sets[name] = map[uint16][]dns.RR{}
	}
	z.sets[name][t] = append(z.sets[name][t], rr)
	if t == dns.TypeNS && name != z.Name {
		z.cuts[name] = true
	}
}

// delegate puts a zone's NS and DS records into its parent.
func (t *Tree) delegate(z *signedZone) {
	up := t.zoneFor(above(z.Name))
	up.add(&dns.NS{Hdr: dns.RR_Header{Name: z.Name, Rrtype: dns.TypeNS, Class: dns.ClassINET, Ttl: 300}, Ns: "ns.invalid."})
	if z.Unsigned || z.NoDS {
		return
	}
	ds := z.ksk.ToDS(z.Digest)
	if ds == nil { // a digest that nobody knows
		ds = z.ksk.ToDS(dns.SHA256)
		ds.DigestType = z.Digest
	}
	if z.WrongDS {
		ds.Digest = strings.Repeat("ab", len(ds.Digest)/2)
	}
	up.add(ds)
}

func above(name string) string {
	i, end := dns.NextLabel(name, 0)
	if end {
		return "."
	}
	return name[i:]
}

// zoneFor gives the deepest zone that a name lies in.
func (t *Tree) zoneFor(name string) *signedZone {
	for _, z := range t.zones {
		if dns.IsSubDomain(z.Name, name) {
			return z
		}
	}
	return nil
}

// Anchor gives the DS record of a zone in zone-file form.
func (t *Tree) Anchor(zone string) string {
	for _, z := range t.zones {
		if z.Name == dns.CanonicalName(zone) && z.ksk != nil {
			return z.ksk.ToDS(dns.SHA256).String() + "\n"
		}
	}
	return ""
}

// sign gives the signature of a set of the zone; name is the owner that it is
// signed as (a wildcard's own name).
func (z *signedZone) sign(rrs []dns.RR) *dns.RRSIG {
	h := rrs[0].Header()
	id := h.Name + "/" + dns.TypeToString[h.Rrtype]
	if sig := z.sigs[id]; sig != nil {
		return sig
	}
	k := z.zsk
	if h.Rrtype == dns.TypeDNSKEY {
		k = z.ksk
	}
	sig := &dns.RRSIG{
		Hdr:       dns.RR_Header{Ttl: h.Ttl},
		Inception: uint32(z.Inception.Unix()), Expiration: uint32(z.Expiration.Unix()),
		KeyTag: k.KeyTag(), SignerName: z.Name, Algorithm: k.Algorithm,
	}
	if err := sig.Sign(k.private, rrs); err != nil {
		panic(fmt.Sprintf("signing %s: %v", id, err)) // our own keys and records
	}
	z.sigs[id] = sig
	return sig
}

// Resign makes the zone's signatures anew, with other times.
func (t *Tree) Resign(zone string, inception, expiration time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, z := range t.zones {
		if z.Name == dns.CanonicalName(zone) {
			z.Inception, z.Expiration = inception, expiration
			clear(z.sigs)
		}
	}
}

// SignAs signs any records with a zone's key, as its owner could: for what only
// the chain can show to be wrong.
func (t *Tree) SignAs(zone string, rrs []dns.RR) *dns.RRSIG {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, z := range t.zones {
		if z.Name != dns.CanonicalName(zone) {
			continue
		}
		kept := z.sigs
		z.sigs = map[string]*dns.RRSIG{}
		sig := z.sign(rrs)
		z.sigs = kept
		return sig
	}
	return nil
}
